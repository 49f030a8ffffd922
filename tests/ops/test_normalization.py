# SPDX-License-Identifier: Apache-2.0
"""BatchNormalization, InstanceNormalization, GroupNormalization and LRN against onnxruntime and ONNX's evaluator."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edge8.converter.errors import ConvertError
from edge8.converter.evaluate import evaluate
from edge8.converter.onnx_in import load
from edge8.converter.targets.cpu_lite import write
from tests.ops.harness import run_file
from tests.ops.onnx_case import check_onnxruntime, make_model


def _per_channel(*names: str, channels: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {n: rng.uniform(0.2, 2, channels).astype(np.float32) for n in names}


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (2, 6, 4, 5), (1, 6, 2, 3, 4)])
@pytest.mark.parametrize("opset", [9, 15])
def test_batch_normalization(shape: tuple[int, ...], opset: int) -> None:
    x = np.random.default_rng(0).normal(1, 2, shape).astype(np.float32)
    fixed = _per_channel("s", "b", "m", "v")
    node = onnx.helper.make_node("BatchNormalization", ["x", *fixed], ["y"], epsilon=1e-3)
    check_onnxruntime(node, {"x": x}, fixed, opset=opset, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 6, 4, 5), (1, 6, 2, 3, 4)])
def test_instance_normalization(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(1, 2, shape).astype(np.float32)
    fixed = _per_channel("s", "b")
    check_onnxruntime(onnx.helper.make_node("InstanceNormalization", ["x", *fixed], ["y"]), {"x": x}, fixed, atol=1e-5)


def _model(node: onnx.NodeProto, x: np.ndarray, fixed: dict[str, np.ndarray], opset: int) -> onnx.ModelProto:
    """With the output's shape stated: ONNX infers none for some of these operators."""
    model = make_model(node, {"x": x}, fixed, opset)
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, x.shape))
    return model


def _run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    graph = load(model)
    (found,) = run_file(write(graph), {"x": x})
    (mirror,) = evaluate(graph, {"x": x}).values()
    np.testing.assert_array_equal(found, mirror)
    return found


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_normalization(groups: int) -> None:
    x = np.random.default_rng(0).normal(1, 2, (2, 6, 4, 5)).astype(np.float32)
    fixed = _per_channel("s", "b")
    node = onnx.helper.make_node("GroupNormalization", ["x", *fixed], ["y"], num_groups=groups)
    flat = x.astype(np.float64).reshape(2, groups, -1)
    unit = ((flat - flat.mean(-1, keepdims=True)) / np.sqrt(flat.var(-1, keepdims=True) + 1e-5)).reshape(x.shape)
    scale, bias = (fixed[n].reshape(6, 1, 1) for n in ("s", "b"))
    np.testing.assert_allclose(_run(_model(node, x, fixed, 21), x), unit * scale + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("shape", [(2, 6, 4, 5), (1, 7, 9)])
def test_lrn(size: int, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(1, 2, shape).astype(np.float32)
    node = onnx.helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.02, beta=0.6, bias=1.5)
    if len(shape) == 4:
        check_onnxruntime(node, {"x": x}, atol=1e-5)
        return
    found = _run(_model(node, x, {}, 17), x)
    padded = np.pad(x.astype(np.float64) ** 2, ((0, 0), (size // 2, size // 2), (0, 0)))
    total = sum(padded[:, i : i + shape[1]] for i in range(size))
    np.testing.assert_allclose(found, x / (1.5 + 0.02 / size * total) ** 0.6, rtol=1e-4, atol=1e-5)


def test_refuses() -> None:
    x, fixed = np.zeros((1, 6, 4, 4), np.float32), _per_channel("s", "b", "m", "v")
    node = onnx.helper.make_node("BatchNormalization", ["x", *fixed], ["y"], name="norm")
    model = make_model(node, {"x": x, "m": fixed["m"]}, {n: v for n, v in fixed.items() if n != "m"})
    with pytest.raises(ConvertError, match="BatchNormalization node 'norm': the mean is computed at run time"):
        load(model)
    fixed["v"] = np.full(6, -1, np.float32)
    with pytest.raises(ConvertError, match="variance"):
        load(make_model(node, {"x": x}, fixed))
    training = onnx.helper.make_node("BatchNormalization", ["x", *fixed], ["y"], name="norm", training_mode=1)
    with pytest.raises(ConvertError, match="training"):
        load(_model(training, x, fixed, 15))
    node = onnx.helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=4, name="groups")
    with pytest.raises(ConvertError, match="4 groups"):
        load(_model(node, x, _per_channel("s", "b"), 21))
