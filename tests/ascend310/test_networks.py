# SPDX-License-Identifier: Apache-2.0
"""Real networks: converted, verified, simulated; the fake-quant model in onnxruntime computes what the simulation computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edge8.converter.targets.ascend310 import convert_ascend310, verify_folder
from edge8.converter.targets.ascend310.evaluate import Executor
from edge8.converter.targets.ascend310.simulate import Simulator, chip_ops
from tests.fetch import require
from tests.samples import samples

# The float operators between the layers of these are the same IEEE operations everywhere, so that the whole network is compared.
# Elsewhere exponentials differ in their last bit between runtimes and may tip a code: there each layer is compared on equal codes.
WHOLE = (
    "mobilenetv2", "efficientnet-lite0", "fmnist-dscnn", "mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet", "fer-mini-xception", "esrgan-slim-x2",
    "mp-face-detection", "blazeface-front",
)  # fmt: skip
BY_LAYER = ("ppocr-direction", "ppocr-recognition", "ppocr-detection", "magika-standard")


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


def _quiet(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def _compare_layers(folder: Path, feeds: dict[str, Any]) -> None:
    deploy, fake = (onnx.load(str(folder / f"{folder.name}_{kind}_model.onnx")) for kind in ("deploy", "fake_quant"))
    layers = list(_layers(deploy))
    wanted = list(dict.fromkeys(name for _, start, end, _ in layers for name in (start, end)))
    del fake.graph.output[:]
    fake.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted)
    values = dict(zip(wanted, _quiet(fake).run(None, feeds), strict=True))
    for name, start, end, model in layers:
        given = Executor(model, chip_ops("fp32")).run({start: values[start].astype(np.int16)})[end]
        assert np.abs(given - values[end]).max() <= 1e-5 * max(np.abs(values[end]).max(), 1e-30), name


@pytest.mark.parametrize("name", [*WHOLE, *BY_LAYER])
def test_network(name: str, tmp_path: Path) -> None:
    path = require(name)
    data = samples(name, 3, seed=4)
    shapes = {key: list(np.asarray(array).shape) for key, array in data[0].items()}
    folder = tmp_path / "net"
    report = convert_ascend310(path, folder, calibration=data[:1], input_shape=shapes, name="net")
    result = verify_folder(folder, run=False)
    assert result.ok, str(result)
    assert report.layers
    assert not [w for w in report.warnings if "overflow" in w and "could" not in w]
    if name in BY_LAYER:
        _compare_layers(folder, data[2])
        return
    deploy, fake = (onnx.load(str(folder / f"net_{kind}_model.onnx")) for kind in ("deploy", "fake_quant"))
    simulated = Simulator(deploy, "fp32").run(data[2])
    for given, wanted in zip(_quiet(fake).run(None, data[2]), simulated.values(), strict=True):
        assert np.abs(given - wanted).max() <= 1e-5 * np.abs(wanted).max()
