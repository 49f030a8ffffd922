# SPDX-License-Identifier: Apache-2.0
"""Models that onnxruntime's quantiser made convert with their own scales: no calibration, and codes as onnxruntime computes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge8 import Model
from edge8.converter.api import convert_graph, load_graph
from edge8.converter.quant.scheme import Scheme, apply
from edge8.converter.targets.cpu_lite import write
from tests.passes.test_blocks import Net

Array = np.ndarray[Any, Any]
SHAPE = (1, 3, 16, 16)


def network() -> onnx.ModelProto:
    """Convolutions, a residual, two branches of different ranges joined, pooling, a classifier."""
    n = Net()
    x = n.op("Relu", n.conv(n.input(*SHAPE), 3, 8))
    x = n.op("Add", x, n.conv(n.op("Relu", n.conv(x, 8, 8, group=8)), 8, 8))
    y = n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    z = n.op("Mul", n.op("Sigmoid", n.conv(x, 8, 8, stride=2)), n.number(4.0))
    y = n.op("Clip", n.conv(n.op("Concat", y, z, axis=1), 16, 8, size=1), n.number(0.0), n.number(6.0))
    y = n.op("Flatten", n.op("GlobalAveragePool", y))
    return n.model(n.op("Gemm", y, n.random(5, 8), n.random(5), transB=1))


def pictures(count: int) -> Iterator[Array]:
    rng = np.random.default_rng(11)
    for _ in range(count):
        yield rng.normal(size=SHAPE).astype(np.float32)


def quantised(folder: Path, **settings: Any) -> Path:
    """The network, quantised by onnxruntime."""
    quantization: Any = pytest.importorskip("onnxruntime.quantization")
    source, target = folder / "float.onnx", folder / "quantised.onnx"
    proto = onnx.shape_inference.infer_shapes(network())
    onnx.save(proto, str(source))
    name = proto.graph.input[0].name

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = pictures(20)

        def get_next(self) -> dict[str, Array] | None:
            picture = next(self.left, None)
            return None if picture is None else {name: picture}

    quantization.quantize_static(str(source), str(target), Reader(), **settings)
    return target


def reference(path: Path) -> Any:
    """onnxruntime without its own fusions, whose uint8 x int8 kernels saturate on some CPUs."""
    ort: Any = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def noise(wanted: Array, found: Array) -> float:
    """Signal to noise ratio in decibels."""
    return float(10 * np.log10(np.square(wanted).sum() / max(float(np.square(wanted - found).sum()), 1e-30)))


def activation_scales(path: Path) -> set[float]:
    """Every scale in the model that is a single number."""
    weights = [numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    return {round(float(array.reshape(-1)[0]), 7) for array in weights if array.size == 1}


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("activation", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("layout", ["QDQ", "QOperator"])
def test_scales_are_taken_over(tmp_path: Path, layout: str, activation: str, per_channel: bool) -> None:
    quantization: Any = pytest.importorskip("onnxruntime.quantization")
    path = quantised(
        tmp_path,
        quant_format=quantization.QuantFormat[layout],
        activation_type=quantization.QuantType[activation],
        weight_type=quantization.QuantType.QInt8,
        per_channel=per_channel,
        op_types_to_quantize=["Conv", "MaxPool"] if layout == "QOperator" else None,
    )
    # QDQ gives every scale; of the operators in a QOperator model only some have one, the others are calibrated.
    name = onnx.load(str(path)).graph.input[0].name
    samples = None if layout == "QDQ" else ({name: x} for x in pictures(20))
    data, decisions, _, _ = convert_graph(load_graph(path), Scheme(mode="full"), samples)
    model = Model(data)
    assert sum(d.domain == "int8" for d in decisions if d.op in ("Conv2D", "DepthwiseConv2D")) == 5
    found_scales = {
        round(float(t.scale), 7) for t in model.tensors if t.scale and "Conv2D" in t.name and len(t.shape) == 4 and not t.constant
    }
    assert len(found_scales) >= 4
    assert found_scales <= activation_scales(path)
    session, other = model.session(), reference(path)
    wanted = np.concatenate([other.run(None, {other.get_inputs()[0].name: x})[0] for x in pictures(20)])
    found = np.concatenate([np.asarray(session(x)) for x in pictures(20)])
    assert noise(wanted, found) > 30


def test_float_and_weight_modes_compute_with_the_real_numbers(tmp_path: Path) -> None:
    quantization: Any = pytest.importorskip("onnxruntime.quantization")
    path = quantised(tmp_path, quant_format=quantization.QuantFormat.QDQ, per_channel=True)
    other = reference(tmp_path / "float.onnx")
    wanted = np.concatenate([other.run(None, {other.get_inputs()[0].name: x})[0] for x in pictures(20)])
    results = {}
    for mode in ("float", "weight"):
        graph = load_graph(path)
        apply(graph, Scheme(mode=mode))
        session = Model(write(graph)).session()
        results[mode] = np.concatenate([np.asarray(session(x)) for x in pictures(20)])
        assert noise(wanted, results[mode]) > 20
    np.testing.assert_allclose(results["float"], results["weight"], rtol=1e-4, atol=1e-5)
