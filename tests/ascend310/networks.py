# SPDX-License-Identifier: Apache-2.0
"""Every real network: converted, verified, simulated, fake quant beside the simulation: `python -m tests.ascend310.networks [NETWORK...]`.

One line a network: quantised layers, rules that hold, largest relative difference between the fake-quant model in onnxruntime and the
simulation without float16, SQNR of the first output on the simulated 310 (one calibration sample: not an accuracy figure).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from edge8.converter.targets.ascend310 import convert_ascend310, verify_folder
from edge8.converter.targets.ascend310.evaluate import Executor
from edge8.converter.targets.ascend310.simulate import Simulator, chip_ops
from edge8.converter.targets.ascend310.verify import VerifyReport
from tests.fetch import FetchError, Unavailable, network
from tests.samples import samples

__all__ = ["BY_LAYER", "WHOLE", "Row", "check_network"]

# The float operators between the layers of these are the same IEEE operations everywhere, so that the whole network is compared.
# Elsewhere exponentials differ in their last bit between runtimes and may tip a code: there each layer is compared on equal codes.
WHOLE = (
    "mobilenetv2", "efficientnet-lite0", "fmnist-dscnn", "mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet", "fer-mini-xception", "esrgan-slim-x2",
    "mp-face-detection", "blazeface-front",
)  # fmt: skip
BY_LAYER = ("ppocr-direction", "ppocr-recognition", "ppocr-detection", "magika-standard")


@dataclass(frozen=True)
class Row:
    """One network's result.

    Attributes:
        layers: how many were quantised.
        verified: of the folder's rules, without running it.
        difference: largest |fake quant - simulation| relative to the largest value of that output or layer.
        sqnr: dB of the first output on the simulated 310.
        warnings: of the conversion.
    """

    name: str
    layers: int
    verified: VerifyReport
    difference: float
    sqnr: float
    warnings: list[str]

    def __str__(self) -> str:
        how = "layer by layer" if self.name in BY_LAYER else "outputs"
        rules = f"{sum(check.ok for check in self.verified.checks)} of {len(self.verified.checks)} rules"
        return (
            f"{self.name:20} {self.layers:4} layers  {rules}  fake quant - simulation {self.difference:8.1e} ({how})  {self.sqnr:6.2f} dB"
        )


def _layers(deploy: onnx.ModelProto) -> Iterator[tuple[str, str, str, onnx.ModelProto]]:
    """(layer, code value, dequantised value, the layer and its AscendDequant alone) of a deploy model."""
    makers = {output: node for node in deploy.graph.node for output in node.output}
    inits = {tensor.name: tensor for tensor in deploy.graph.initializer}
    for last in deploy.graph.node:
        if last.op_type != "AscendDequant":
            continue
        chain = [last]
        while makers[chain[0].input[0]].op_type != "AscendQuant":
            chain.insert(0, makers[chain[0].input[0]])
        constants = [inits[name] for node in chain for name in node.input if name in inits]
        start, end = chain[0].input[0], last.output[0]
        graph = helper.make_graph(
            chain, "layer", [helper.make_empty_tensor_value_info(start)], [helper.make_empty_tensor_value_info(end)], constants
        )
        yield last.name, start, end, helper.make_model(graph, opset_imports=deploy.opset_import)


def _session(made: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(made.SerializeToString(), options)


def _relative(given: Any, wanted: Any) -> float:
    return float(np.abs(given - wanted).max() / max(np.abs(wanted).max(), 1e-30))


def _layer_difference(deploy: onnx.ModelProto, fake: onnx.ModelProto, feeds: dict[str, Any]) -> float:
    layers = list(_layers(deploy))
    wanted = list(dict.fromkeys(name for _, start, end, _ in layers for name in (start, end)))
    del fake.graph.output[:]
    fake.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted)
    values = dict(zip(wanted, _session(fake).run(None, feeds), strict=True))
    worst = 0.0
    for _, start, end, made in layers:
        given = Executor(made, chip_ops("fp32")).run({start: values[start].astype(np.int16)})[end]
        worst = max(worst, _relative(given, values[end]))
    return worst


def check_network(name: str, path: Path, folder: Path, method: str = "auto") -> Row:
    """Convert a network with one sample and compare what it computes on another one."""
    data = samples(name, 3, seed=4)
    shapes = {key: list(np.asarray(array).shape) for key, array in data[0].items()}
    report = convert_ascend310(path, folder, calibration=data[:1], input_shape=shapes, name="net", method=method)
    deploy, fake = (onnx.load(str(folder / f"net_{kind}_model.onnx")) for kind in ("deploy", "fake_quant"))
    floating = Executor(onnx.load(str(folder / "net_float_model.onnx")))
    chip = next(iter(Simulator(deploy, "fp16").run(data[2]).values())).astype(np.float64)
    real = floating.run(data[2])[floating.output_names[0]].astype(np.float64)
    sqnr = 10 * np.log10(max(float((real**2).sum()), 1e-30) / max(float(((real - chip) ** 2).sum()), 1e-30))
    if name in BY_LAYER:
        difference = _layer_difference(deploy, fake, data[2])
    else:
        simulated = Simulator(deploy, "fp32").run(data[2])
        difference = max(_relative(a, b) for a, b in zip(_session(fake).run(None, data[2]), simulated.values(), strict=True))
    return Row(name, len(report.layers), verify_folder(folder, run=False), difference, sqnr, report.warnings)


def main() -> None:
    """Print the table; exit code 1 when a rule or a comparison fails."""
    parser = argparse.ArgumentParser(description="Every real network: converted, verified, simulated, compared.")
    parser.add_argument("networks", nargs="*", default=[*WHOLE, *BY_LAYER])
    parser.add_argument("--method", default="auto")
    arguments = parser.parse_args()
    good = True
    for name in arguments.networks:
        try:
            path = network(name)
        except (Unavailable, FetchError) as error:
            print(f"{name:20} not here: {error}", flush=True)
            continue
        with tempfile.TemporaryDirectory() as place:
            row = check_network(name, path, Path(place) / "net", arguments.method)
        print(row, flush=True)
        good = good and row.verified.ok and row.difference <= 1e-5
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
