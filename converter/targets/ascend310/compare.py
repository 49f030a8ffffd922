# SPDX-License-Identifier: Apache-2.0
"""Accuracy: the simulated chip and the fake-quant model beside the float model, per layer and at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from .evaluate import Executor
from .simulate import Ranges, Simulator

__all__ = ["Accuracy", "Comparison", "compare_models"]

Array = npt.NDArray[Any]


@dataclass
class Accuracy:
    """Running comparison of one value with its float counterpart."""

    signal: float = 0.0
    noise: float = 0.0
    other: float = 0.0
    dot: float = 0.0
    agree: int = 0
    rows: int = 0

    def add(self, reference: Array, value: Array) -> None:
        """Take in one batch of equal shapes."""
        a, b = reference.astype(np.float64).ravel(), value.astype(np.float64).ravel()
        self.signal += float(a @ a)
        self.other += float(b @ b)
        self.dot += float(a @ b)
        self.noise += float(((a - b) ** 2).sum())
        if reference.ndim == 2 and reference.shape[1] > 1:
            self.agree += int((reference.argmax(1) == value.argmax(1)).sum())
            self.rows += reference.shape[0]

    @property
    def sqnr(self) -> float:
        """Signal to quantisation noise, dB; inf without noise."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal > 0 else -math.inf

    @property
    def cosine(self) -> float:
        """Cosine of the two values; 1 when both are zero."""
        length = math.sqrt(self.signal * self.other)
        return self.dot / length if length > 0 else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Rounded figures for a report."""
        out: dict[str, Any] = {"sqnr_db": _rounded(self.sqnr), "cosine": round(self.cosine, 6)}
        if self.rows:
            out["top1_agreement"] = round(self.agree / self.rows, 4)
        return out


def _rounded(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None


@dataclass
class Comparison:
    """What ``compare_models`` found.

    Attributes:
        batches: how many were run.
        outputs: by graph output, for each of ``"chip"`` and ``"fake_quant"``.
        layers: SQNR of each quantised layer's output on the simulated chip.
        fake_difference: largest |fake quant - simulator in fp32 mode| relative to the largest output.
        ranges: largest sums and float16 saturation on the chip.
    """

    batches: int = 0
    outputs: dict[str, dict[str, Accuracy]] = field(default_factory=dict)
    layers: dict[str, Accuracy] = field(default_factory=dict)
    fake_difference: float = 0.0
    ranges: Ranges = field(default_factory=Ranges)

    def to_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "batches": self.batches,
            "outputs": {name: {kind: a.to_dict() for kind, a in kinds.items()} for name, kinds in self.outputs.items()},
            "layers": {name: a.to_dict() for name, a in self.layers.items()},
            "fake_quant_vs_fp32_simulation": float(f"{self.fake_difference:.3g}"),
            "largest_sum": max(self.ranges.sums.values(), default=0),
            "float16_saturated_values": len(self.ranges.saturated),
        }

    def warnings(self) -> list[str]:
        """Overflow and saturation met on the data."""
        out = []
        beyond = [name for name, largest in self.ranges.sums.items() if largest > 2**31 - 1]
        if beyond:
            out.append(f"int32 overflow in {len(beyond)} layer(s): {', '.join(beyond[:3])}; leave them in float with --skip")
        if self.ranges.saturated:
            names = list(self.ranges.saturated)
            out.append(f"{len(names)} value(s) left float16's range (65504) on the data: {', '.join(names[:3])}")
        return out


def layer_outputs(model: onnx.ModelProto) -> dict[str, str]:
    """Output value of each AscendDequant by layer name."""
    return {node.name.removesuffix(".dequant"): node.output[0] for node in model.graph.node if node.op_type == "AscendDequant"}


def float_outputs(model: onnx.ModelProto, deploy: onnx.ModelProto) -> dict[str, str]:
    """The float model's value that each layer's AscendDequant stands for: the layer's own output, or that of its bias Add."""
    floats = {node.name: node for node in model.graph.node}
    makers = {output: node for node in deploy.graph.node for output in node.output}
    out = {}
    for node in deploy.graph.node:
        if node.op_type == "AscendDequant":
            layer = node.name.removesuffix(".dequant")
            last = makers[node.input[0]].name
            out[layer] = floats[last if last in floats else layer].output[0]
    return out


def compare_models(
    model: onnx.ModelProto, deploy: onnx.ModelProto, fake: onnx.ModelProto | None, feeds: Iterable[Mapping[str, Array]], mode: str
) -> Comparison:
    """Run every batch through float, chip (``mode``), and fake quant beside the fp32 simulation when ``fake`` is given."""
    result = Comparison()
    floating, chip = Executor(model), Simulator(deploy, mode)
    plain = Executor(fake) if fake is not None else None
    exact = (chip if mode == "fp32" else Simulator(deploy, "fp32")) if fake is not None else None
    of_layer = float_outputs(model, deploy)
    by_value: dict[str, list[str]] = {}
    for layer, value in layer_outputs(deploy).items():
        by_value.setdefault(value, []).append(layer)
    result.ranges = chip.ranges
    for batch in feeds:
        result.batches += 1
        inputs = dict(batch)
        seen = floating.run(inputs, set(of_layer.values()) | set(floating.output_names))

        def visit(name: str, array: Array, reference: dict[str, Array] = seen) -> None:
            for layer in by_value.get(name, ()):
                result.layers.setdefault(layer, Accuracy()).add(reference[of_layer[layer]], array)

        outputs = chip.run(inputs, visit)
        for name, array in outputs.items():
            kinds = result.outputs.setdefault(name, {})
            kinds.setdefault("chip", Accuracy()).add(seen[name], array)
        if plain is not None and exact is not None:
            simulated = outputs if exact is chip else exact.run(inputs)
            for name, array in plain.run(inputs).items():
                result.outputs[name].setdefault("fake_quant", Accuracy()).add(seen[name], array)
                scale = float(np.abs(array).max(initial=0.0)) or 1.0
                gap = float(np.abs(array.astype(np.float64) - simulated[name]).max(initial=0.0))
                result.fake_difference = max(result.fake_difference, gap / scale)
    return result
