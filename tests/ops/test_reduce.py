# SPDX-License-Identifier: Apache-2.0
"""Reduce: C against numpy bit for bit over generated shapes and axes; the ONNX reductions and global pools."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.errors import ConvertError
from edge8.converter.graph import DType, Graph, Node, Tensor
from edge8.converter.onnx_in import load
from edge8.converter.ops import operators
from edge8.converter.ops.base import Scales
from edge8.converter.ops.reduce import ReduceKind as K
from tests.ops.harness import check_node, node_file, tensor, value
from tests.ops.onnx_case import check_onnx, check_onnxruntime, make_model

seeds = st.integers(0, 2**32 - 1)
INT8 = [K.MEAN, K.SUM, K.MAX, K.MIN, K.L1, K.SUM_SQUARE]
WHOLE = [K.MEAN, K.SUM, K.MAX, K.MIN, K.PROD, K.L1, K.SUM_SQUARE]


@st.composite
def cases(draw: st.DrawFn, most: int = 6000) -> tuple[tuple[int, ...], list[int], bool, tuple[int, ...]]:
    """Input shape, axes, keep_dims, output shape."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 5, 7, 16, 33, 70]), min_size=1, max_size=8))
    while int(np.prod(shape)) > most:
        shape[int(np.argmax(shape))] = 1
    axes = sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    keep = draw(st.booleans())
    out = [1 if a in axes else n for a, n in enumerate(shape) if keep or a not in axes]
    return tuple(shape), axes, keep, tuple(out)


def _params(kind: K, axes: list[int], keep: bool) -> dict[str, Any]:
    return {"kind": int(kind), "axes": axes, "keep_dims": keep}


@given(kind=st.sampled_from(K), case=cases(), seed=seeds)
@settings(max_examples=250, deadline=None)
def test_float(kind: K, case: Any, seed: int) -> None:
    shape, axes, keep, out = case
    x = np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)
    check_node("Reduce", _params(kind, axes, keep), [x], [tensor(out)])


@given(kind=st.sampled_from(INT8), case=cases(), seed=seeds, zero=st.integers(-128, 127), spread=st.floats(0.01, 100))
@settings(max_examples=300, deadline=None)
def test_int8(kind: K, case: Any, seed: int, zero: int, spread: float) -> None:
    shape, axes, keep, out = case
    x = value(np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8), 0.125, zero)
    y = tensor(out, DType.INT8, 0.125, zero) if kind in (K.MAX, K.MIN) else tensor(out, DType.INT8, 0.125 * spread, -zero - 1)
    check_node("Reduce", _params(kind, axes, keep), [x], [y])


@given(kind=st.sampled_from(WHOLE), case=cases(600), dtype=st.sampled_from([np.int32, np.int64]), seed=seeds)
@settings(max_examples=100, deadline=None)
def test_whole_numbers(kind: K, case: Any, dtype: Any, seed: int) -> None:
    shape, axes, keep, out = case
    x = np.random.default_rng(seed).integers(-(2**31), 2**31, shape).astype(dtype)
    check_node("Reduce", _params(kind, axes, keep), [x], [tensor(out, DType.INT32 if dtype is np.int32 else DType.INT64)])


@given(kind=st.sampled_from([K.MAX, K.MIN]), case=cases(600), dtype=st.sampled_from([np.bool_, np.uint8]), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_extremes_of_bytes(kind: K, case: Any, dtype: Any, seed: int) -> None:
    shape, axes, keep, out = case
    x = np.random.default_rng(seed).integers(0, 2 if dtype is np.bool_ else 256, shape).astype(dtype)
    check_node("Reduce", _params(kind, axes, keep), [x], [tensor(out, DType.BOOL if dtype is np.bool_ else DType.UINT8)])


def test_special_floats() -> None:
    x = np.array([[np.inf, 1, 2], [-np.inf, -np.inf, -np.inf], [-3e38, 3e38, 1], [88, 89, 90], [1e-40, 0, 0]], np.float32)
    for kind in K:
        check_node("Reduce", _params(kind, [1], True), [x], [tensor((5, 1))])


def test_threads_share_a_large_input() -> None:
    x = value(np.random.default_rng(0).integers(-128, 128, (1, 63, 64, 300), dtype=np.int8), 0.1, 7)
    check_node("Reduce", _params(K.MEAN, [1, 2], True), [x], [tensor((1, 1, 1, 300), DType.INT8, 0.01, -5)], threads=(1, 2, 3, 4))


@pytest.mark.parametrize(
    ("params", "out", "rule"),
    [
        ({"axes": []}, (2, 3), "reduce.axes"),
        ({"axes": [2]}, (2, 3), "reduce.axes"),
        ({"axes": [-1]}, (2, 3), "reduce.axes"),
        ({"axes": [1, 0]}, (1, 1), "reduce.axes"),
        ({"axes": [1, 1]}, (2, 1), "reduce.axes"),
        ({"axes": [1]}, (2, 3), "reduce.shape"),
        ({"axes": [1]}, (2,), "reduce.shape"),
        ({"axes": [1], "keep_dims": False}, (2, 1), "reduce.shape"),
        ({"axes": [1], "kind": 9}, (2, 1), "reduce.kind"),
    ],
)
def test_check_refuses(params: dict[str, Any], out: tuple[int, ...], rule: str) -> None:
    data = node_file("Reduce", params, [np.zeros((2, 3), np.float32)], [tensor(out)])
    with pytest.raises(edge8.Edge8Error, match=rule):
        edge8.Model(data)


def test_check_refuses_sums_that_could_overflow() -> None:
    x = value(np.zeros((40000, 1), np.int8), 0.1)
    data = node_file("Reduce", _params(K.SUM_SQUARE, [0], True), [x], [tensor((1, 1), DType.INT8, 1.0)])
    with pytest.raises(edge8.Edge8Error, match=r"reduce\.count"):
        edge8.Model(data)


def test_quantisation_says_why_not() -> None:
    graph = Graph({"x": Tensor("x", (40000, 2))})
    for kind in (K.PROD, K.L2, K.LOG_SUM_EXP, K.SUM_SQUARE):
        form = operators()["Reduce"].quantisation(Node("Reduce", ["x"], ["y"], _params(kind, [0], True)), graph)
        assert form.scales is Scales.FLOAT
        assert form.reason


# ---- ONNX ------------------------------------------------------------------------------------------------------------------------------

NAMES = [
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
]


@pytest.mark.parametrize("op", NAMES)
@pytest.mark.parametrize("axes", [None, [1], [-1, 0]])
@pytest.mark.parametrize("keep", [0, 1])
def test_import(op: str, axes: list[int] | None, keep: int) -> None:
    x = np.random.default_rng(2).uniform(0.5, 3, (3, 4, 5)).astype(np.float32)
    old = onnx.helper.make_node(op, ["x"], ["y"], keepdims=keep, **({"axes": axes} if axes else {}))
    check_onnx(old, {"x": x}, opset=11)
    inputs = ["x", "axes"] if axes else ["x"]
    fixed = {"axes": np.array(axes)} if axes else {}
    check_onnx(onnx.helper.make_node(op, inputs, ["y"], keepdims=keep), {"x": x}, fixed, opset=18)


@pytest.mark.parametrize("op", NAMES)
def test_import_reduces_nothing(op: str) -> None:
    x = np.random.default_rng(2).uniform(0.5, 3, (3, 4)).astype(np.float32)
    node = onnx.helper.make_node(op, ["x", "axes"], ["y"], noop_with_empty_axes=1)
    graph = load(make_model(node, {"x": x}, {"axes": np.zeros(0, np.int64)}, opset=18))
    assert [n.op for n in graph.nodes] == ["Reshape"]


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 5, 7), (1, 2, 3, 4, 5)])
def test_import_global_pools(op: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(2).normal(0, 1, shape).astype(np.float32)
    check_onnxruntime(onnx.helper.make_node(op, ["x"], ["y"]), {"x": x})


def test_import_refuses_axes_of_run_time() -> None:
    node = onnx.helper.make_node("ReduceSum", ["x", "axes"], ["y"], name="sum")
    model = make_model(node, {"x": np.zeros((2, 3), np.float32), "axes": np.array([1])}, opset=13)
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 1]))
    with pytest.raises(ConvertError, match="ReduceSum node 'sum': the list of axes is computed at run time"):
        load(model)
