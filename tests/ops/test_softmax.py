# SPDX-License-Identifier: Apache-2.0
"""Softmax and LogSoftmax: C against numpy bit for bit; accuracy; ONNX semantics before and after opset 13."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.crc32c import crc32c
from edge8.converter.graph import DType, Graph, Node, Tensor
from edge8.converter.ops import operators
from edge8.converter.ops.base import Scales
from edge8.converter.ops.softmax import softmax_table
from edge8.converter.targets.cpu_lite import write
from tests.ops.harness import check_node, node_file, run_file, run_node, tensor, value
from tests.ops.onnx_case import check_onnx, check_onnxruntime

seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(1,), (7,), (5, 1), (3, 8), (2, 3, 17), (1, 300), (2, 1, 2, 1000)])


@given(shape=shapes, log=st.booleans(), seed=seeds, spread=st.sampled_from([0.01, 1.0, 10.0, 100.0]))
@settings(max_examples=150, deadline=None)
def test_float(shape: tuple[int, ...], log: bool, seed: int, spread: float) -> None:
    x = np.random.default_rng(seed).normal(0, spread, shape).astype(np.float32)
    (y,) = check_node("Softmax", {"log": log}, [x], [tensor(shape)])
    wide = x.astype(np.float64) - x.max(axis=-1, keepdims=True)
    exact = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(y, exact if log else np.exp(exact), rtol=3e-6, atol=1e-6 if log else 1e-12)


@given(shape=shapes, log=st.booleans(), seed=seeds, scale=st.floats(2.0**-12, 4.0), zero=st.integers(-128, 127), out=st.integers(-128, 127))
@settings(max_examples=250, deadline=None)
def test_int8(shape: tuple[int, ...], log: bool, seed: int, scale: float, zero: int, out: int) -> None:
    rng = np.random.default_rng(seed)
    x = value(rng.integers(-128, 128, shape, dtype=np.int8), scale, zero)
    y = tensor(shape, DType.INT8, 0.07, out) if log else tensor(shape, DType.INT8, 1 / 256, -128)
    (codes,) = check_node("Softmax", {"log": log}, [x], [y])
    wide = (x.array.astype(np.float64) - zero) * np.float64(np.float32(scale))
    wide = wide - wide.max(axis=-1, keepdims=True)
    exact = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    ideal = np.clip(np.rint(exact / np.float32(0.07)) + out if log else np.rint(np.exp(exact) * 256) - 128, -128, 127)
    assert np.abs(codes - ideal).max() <= 1


def test_special_floats() -> None:
    x = np.array([[np.inf, 0], [-np.inf, -np.inf], [-np.inf, 3], [np.nan, 1], [1, np.nan], [-3.4e38, 3.4e38]], np.float32)
    for log in (False, True):
        check_node("Softmax", {"log": log}, [x], [tensor(x.shape)])


def test_threads_share_many_rows() -> None:
    x = value(np.random.default_rng(0).integers(-128, 128, (700, 301), dtype=np.int8), 0.05, 3)
    check_node("Softmax", {}, [x], [tensor((700, 301), DType.INT8, 1 / 256, -128)], threads=(1, 2, 3, 4))


def test_table_falls_from_one() -> None:
    table = softmax_table(0.1)
    assert table[0] == 32768
    assert (np.diff(table.astype(int)) <= 0).all()
    np.testing.assert_allclose(table, 32768 * np.exp(-0.1 * np.arange(256)), atol=0.51)


def test_check_refuses() -> None:
    x = value(np.zeros((2, 3), np.int8), 0.5)
    with pytest.raises(edge8.Edge8Error, match=r"softmax\.scale"):
        edge8.Model(node_file("Softmax", {}, [x], [tensor((2, 3), DType.INT8, 0.5)]))
    with pytest.raises(edge8.Edge8Error, match=r"softmax\.shape"):
        edge8.Model(node_file("Softmax", {}, [np.zeros((2, 3), np.float32)], [tensor((3, 2))]))
    data = node_file("Softmax", {}, [x], [tensor((2, 3), DType.INT8, 1 / 256, -128)])
    table = softmax_table(0.5).tobytes()
    at = data.index(table)
    damaged = bytearray(data)
    damaged[at : at + 2] = b"\0\0"
    damaged[8:12] = crc32c(bytes(damaged[12:])).to_bytes(4, "little")
    with pytest.raises(edge8.Edge8Error, match=r"softmax\.table"):
        edge8.Model(bytes(damaged))


def test_uncalibrated_runs_in_float() -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 5)).astype(np.float32)
    (plain,) = run_node("Softmax", {}, [x], [tensor((2, 5))])
    graph = Graph(
        {"x": Tensor("x", (2, 5), DType.INT8), "y": Tensor("y", (2, 5), DType.INT8)}, [Node("Softmax", ["x"], ["y"])], ["x"], ["y"]
    )
    np.testing.assert_array_equal(run_file(write(graph), {"x": x})[0], plain)


def test_quantisation() -> None:
    graph = Graph({"x": Tensor("x", (2, 70000)), "s": Tensor("s", (2, 10))})
    softmax = operators()["Softmax"]
    assert softmax.quantisation(Node("Softmax", ["x"], ["y"]), graph).scales is Scales.FLOAT
    assert softmax.quantisation(Node("Softmax", ["s"], ["y"]), graph).fixed == (1 / 256, -128)
    assert softmax.quantisation(Node("Softmax", ["s"], ["y"], {"log": True}), graph).scales is Scales.FREE


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -2])
@pytest.mark.parametrize("opset", [11, 13, 17])
def test_import(op: str, axis: int | None, opset: int) -> None:
    x = np.random.default_rng(0).normal(0, 2, (2, 3, 4)).astype(np.float32)
    node = onnx.helper.make_node(op, ["x"], ["y"], **({} if axis is None else {"axis": axis}))
    check_onnxruntime(node, {"x": x}, opset=opset)
    if opset >= 13:
        check_onnx(node, {"x": x}, opset=opset)


def test_import_of_a_vector() -> None:
    check_onnx(onnx.helper.make_node("Softmax", ["x"], ["y"], axis=0), {"x": np.array([1, 2, 3], np.float32)})
