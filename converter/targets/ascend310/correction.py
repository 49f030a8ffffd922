# SPDX-License-Identifier: Apache-2.0
"""`--method bias`: each layer's int32 bias takes up the mean shift that quantisation has caused up to there.

The int8 network runs over the calibration batches in lockstep, one node at a time for all of them. Behind each layer the mean of every
channel is compared with the float network's, the bias is moved by the nearest number of integer steps, and the run goes on with the
corrected values: later layers see what they will see on the chip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...progress import track
from .arq import deq_scales
from .calibrate import Batches
from .compare import float_outputs, layer_outputs
from .deploy import deploy_graph
from .evaluate import Executor
from .factors import Quantised, TensorFactors
from .onnx_graph import OnnxGraph
from .simulate import chip_ops

__all__ = ["correct_biases"]

Array = npt.NDArray[Any]
# Batches that are held at once, and the bytes that their largest values may take together.
_BATCHES, _BYTES = 24, 512 << 20
_INT32_MAX = (1 << 31) - 1


def _channel_sum(op: str, x: Array) -> tuple[Array, int]:
    """Sum over everything but the output channel, and how many values each sum has."""
    channel = 1 if op in ("Conv", "ConvTranspose") else x.ndim - 1
    total = x.sum(axis=tuple(i for i in range(x.ndim) if i != channel), dtype=np.float64)
    return total, x.size // max(x.shape[channel], 1)


def correct_biases(
    graph: OnnxGraph, layers: Sequence[Quantised], tensors: Sequence[TensorFactors], batches: Batches, largest: int, *, quiet: bool
) -> list[Quantised]:
    """The same layers with corrected biases; layers without a bias stay as they are.

    Args:
        largest: elements of the largest value of one batch.
    """
    by_name = {entry.layer.name: entry for entry in layers if entry.bias is not None}
    model, deploy = graph.to_model(), deploy_graph(graph, layers, tensors).to_model()
    count = max(1, min(len(batches), _BATCHES, _BYTES // max(4 * largest, 1)))
    feeds = [batches.load(index) for index in range(count)]
    wanted: dict[str, list[str]] = {}
    for name, value in float_outputs(model, deploy).items():
        if name in by_name:
            wanted.setdefault(value, []).append(name)
    sums: dict[str, Array] = {}
    counts: dict[str, int] = {}

    def observe(value: str, x: Array) -> None:
        for name in wanted.get(value, ()):
            total, size = _channel_sum(by_name[name].layer.op, x)
            sums[name] = sums[name] + total if name in sums else total
            counts[name] = counts.get(name, 0) + size

    floating = Executor(model)
    for batch in track(feeds, "float means", count, quiet=quiet):
        floating.run(batch, (), observe)
    of_value = {value: name for name, value in layer_outputs(deploy).items() if name in by_name}
    steps: dict[str, Array] = {}

    def correct(value: str, arrays: list[Array]) -> list[Array]:
        name = of_value.get(value)
        if name is None:
            return arrays
        entry = by_name[name]
        parts = [_channel_sum(entry.layer.op, x) for x in arrays]
        mean = sum(total for total, _ in parts) / max(sum(size for _, size in parts), 1)
        scale = deq_scales(entry.factors.scale_d, entry.factors.scale_w).astype(np.float64)
        step = np.rint((sums[name] / counts[name] - mean) / scale)
        assert entry.bias is not None
        step = np.where(np.abs(entry.bias.astype(np.float64) + step) <= _INT32_MAX, step, 0.0)
        steps[name] = step.astype(np.int64)
        shift = (step * scale).astype(np.float32)
        if entry.layer.op in ("Conv", "ConvTranspose"):
            shift = shift.reshape(-1, *(1,) * (arrays[0].ndim - 2))
        return [x + shift for x in arrays]

    chip = Executor(deploy, chip_ops("fp32"))
    chip.run_together(feeds, correct, quiet=quiet)
    out = []
    for entry in layers:
        if entry.layer.name in steps and entry.bias is not None:
            entry = replace(entry, bias=(entry.bias.astype(np.int64) + steps[entry.layer.name]).astype(np.int32))
        out.append(entry)
    return out
