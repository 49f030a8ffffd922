# SPDX-License-Identifier: Apache-2.0
"""Dynamic quantisation of whole networks: accuracy, beside onnxruntime's, and next to mask constants in attention."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge8 import Model
from edge8.converter import convert

Array = np.ndarray[Any, Any]
TOKENS, WIDTH, HEADS = 16, 48, 4


def encoder(mask: float = -3.4028235e38) -> onnx.ModelProto:
    """One layer of a transformer: attention of TOKENS with a mask that is added (``hidden`` is 1 where a token is absent), GELU, norms."""
    random = np.random.default_rng(7)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def const(array: Array) -> str:
        constants.append(numpy_helper.from_array(array, f"c{len(constants)}"))
        return constants[-1].name

    def op(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [f"t{len(nodes)}"], name=f"{kind.lower()}{len(nodes)}", **attributes))
        return str(nodes[-1].output[0])

    def linear(x: str, i: int, o: int) -> str:
        w = const(random.normal(0, i**-0.5, (i, o)).astype(np.float32))
        return op("Add", op("MatMul", x, w), const(random.normal(0, 0.1, o).astype(np.float32)))

    def norm(x: str) -> str:
        gamma = const(random.uniform(0.5, 1.5, WIDTH).astype(np.float32))
        return op("LayerNormalization", x, gamma, const(np.zeros(WIDTH, np.float32)), axis=-1)

    split = const(np.array([1, TOKENS, HEADS, WIDTH // HEADS], np.int64))
    q, k, v = (op("Reshape", linear("x", WIDTH, WIDTH), split) for _ in range(3))
    q, v = op("Transpose", q, perm=[0, 2, 1, 3]), op("Transpose", v, perm=[0, 2, 1, 3])
    scores = op("Mul", op("MatMul", q, op("Transpose", k, perm=[0, 2, 3, 1])), const(np.float32((WIDTH // HEADS) ** -0.5)))
    masked = op("Add", scores, op("Mul", "hidden", const(np.float32(mask))))
    y = op("MatMul", op("Softmax", masked, axis=-1), v)
    y = op("Reshape", op("Transpose", y, perm=[0, 2, 1, 3]), const(np.array([1, TOKENS, WIDTH], np.int64)))
    y = norm(op("Add", "x", linear(y, WIDTH, WIDTH)))
    h = linear(y, WIDTH, 4 * WIDTH)
    cdf = op("Mul", op("Add", op("Erf", op("Mul", h, const(np.float32(math.sqrt(0.5))))), const(np.float32(1))), const(np.float32(0.5)))
    norm(op("Add", y, linear(op("Mul", h, cdf), 4 * WIDTH, WIDTH)))
    nodes[-1].output[0] = "y"
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, TOKENS, WIDTH]), ("hidden", [1, 1, 1, TOKENS]))
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, TOKENS, WIDTH])]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def samples(count: int, seed: int) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        hidden = np.zeros((1, 1, 1, TOKENS), np.float32)
        hidden[..., int(rng.integers(6, TOKENS)) :] = 1
        result.append({"x": rng.normal(size=(1, TOKENS, WIDTH)).astype(np.float32), "hidden": hidden})
    return result


def outputs(data: bytes, inputs: list[dict[str, Array]]) -> Array:
    session = Model(data).session()
    return np.stack([session(x) for x in inputs])  # type: ignore[arg-type]


def sqnr(y: Array, reference: Array) -> float:
    return float(10 * np.log10(np.sum(reference.astype(np.float64) ** 2) / np.sum((y.astype(np.float64) - reference) ** 2)))


def test_accuracy_is_at_least_onnxruntimes(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    quantization = pytest.importorskip("onnxruntime.quantization")
    onnx.save(encoder(), tmp_path / "net.onnx")
    inputs = samples(16, 1)
    reference = outputs(convert(tmp_path / "net.onnx", quant="float").data, inputs)
    report = convert(tmp_path / "net.onnx", quant="dynamic")
    ours = sqnr(outputs(report.data, inputs), reference)
    assert sum(d.domain == "dynamic" for d in report.decisions) == 6
    assert report.int8_macs > 0.9 * report.macs
    rivals = []
    for per_channel in (False, True):
        for kind in (quantization.QuantType.QInt8, quantization.QuantType.QUInt8):
            quantization.quantize_dynamic(tmp_path / "net.onnx", tmp_path / "q.onnx", per_channel=per_channel, weight_type=kind)
            session = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"), providers=["CPUExecutionProvider"])
            rivals.append(sqnr(np.stack([session.run(None, x)[0] for x in inputs]), reference))
    assert ours > 36
    assert ours > max(rivals), f"ours {ours}, onnxruntime {rivals}"


@pytest.mark.parametrize("mask", [-3.4028235e38, -1e9])
def test_masks_ruin_no_range(mask: float) -> None:
    """Full and dynamic quantisation lose no more with a huge mask constant than with none that reaches beyond the scores."""
    inputs = samples(16, 1)
    for quant, least in (("dynamic", 36.0), ("full", 20.0)):
        options: dict[str, Any] = {"calibration": samples(32, 2), "corrections": ()} if quant == "full" else {}
        reference = outputs(convert(encoder(mask), quant="float").data, inputs)
        huge = sqnr(outputs(convert(encoder(mask), quant=quant, **options).data, inputs), reference)
        mild = sqnr(
            outputs(convert(encoder(-10.0), quant=quant, **options).data, inputs),
            outputs(convert(encoder(-10.0), quant="float").data, inputs),
        )
        assert huge > least
        assert huge > mild - 1.5, f"{quant}: {huge} dB with {mask}, {mild} dB with -10"


def test_report_says_what_is_dynamic(tmp_path: Path) -> None:
    import json

    report = convert(encoder(), tmp_path / "net.e8", quant="dynamic", calibration=samples(3, 2), report=tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["summary"]["operators_by_type"]["dynamic"] == 6
    assert content["summary"]["macs_by_type"]["dynamic"] == report.int8_macs
    assert report.accuracy["y"]["sqnr"] > 36
    assert {o["type"] for o in content["operators"] if o["kind"] == "FullyConnected"} == {"dynamic"}
