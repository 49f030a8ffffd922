# SPDX-License-Identifier: Apache-2.0
"""MatMul: C against numpy, int8 bit for bit and float within rounding; import of ONNX MatMul."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.graph import DType, Graph, Node, Tensor
from edge8.converter.ops import operators
from edge8.converter.ops.base import Scales
from tests.ops.geometry import activation
from tests.ops.harness import check_node, node_file, reference_node, run_node, tensor, value
from tests.ops.onnx_case import check_onnxruntime

seeds = st.integers(0, 2**32 - 1)
bounds = st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (-1.0, 1.0)])
leads = st.sampled_from([((), ()), ((3,), ()), ((), (2,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((1, 2, 1, 2), (2, 2, 3, 1))])
sizes = st.tuples(st.integers(1, 20), st.integers(1, 70), st.integers(1, 40))


def _shapes(lead: Any, size: tuple[int, int, int], transpose: bool) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    m, k, n = size
    b = (n, k) if transpose else (k, n)
    return (*lead[0], m, k), (*lead[1], *b), (*np.broadcast_shapes(*lead), m, n)


@given(lead=leads, size=sizes, transpose=st.booleans(), act=bounds, seed=seeds)
@settings(max_examples=100, deadline=None)
def test_float(lead: Any, size: Any, transpose: bool, act: Any, seed: int) -> None:
    a_shape, b_shape, y_shape = _shapes(lead, size, transpose)
    rng = np.random.default_rng(seed)
    params = {"transpose_b": transpose, "act_min": act[0], "act_max": act[1]}
    inputs = [rng.normal(0, 1, a_shape).astype(np.float32), rng.normal(0, 1, b_shape).astype(np.float32)]
    (wanted,) = reference_node("MatMul", params, inputs, [tensor(y_shape)], int8=False)
    results = [run_node("MatMul", params, inputs, [tensor(y_shape)], threads=t)[0] for t in (1, 2)]
    np.testing.assert_allclose(results[0], wanted, rtol=1e-5, atol=2e-5)
    np.testing.assert_array_equal(results[0], results[1])


@given(
    lead=leads,
    size=sizes,
    transpose=st.booleans(),
    act=bounds,
    seed=seeds,
    zeros=st.tuples(*[st.integers(-128, 127)] * 3),
    fixed=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_int8(lead: Any, size: Any, transpose: bool, act: Any, seed: int, zeros: Any, fixed: bool) -> None:
    a_shape, b_shape, y_shape = _shapes(lead, size, transpose)
    rng = np.random.default_rng(seed)
    params = {"transpose_b": transpose, "act_min": act[0], "act_max": act[1]}
    inputs = [value(activation(rng, a_shape), 0.04, zeros[0]), value(activation(rng, b_shape), 0.03, zeros[1])]
    check_node("MatMul", params, inputs, [tensor(y_shape, DType.INT8, 0.3, zeros[2])], constants=(1,) if fixed else ())


def test_quantisation_refuses_sums_that_could_overflow() -> None:
    graph = Graph({"a": Tensor("a", (2, 40000)), "b": Tensor("b", (40000, 2))})
    assert operators()["MatMul"].quantisation(Node("MatMul", ["a", "b"], ["y"]), graph).scales is Scales.FLOAT


@pytest.mark.parametrize(
    ("a", "b", "y"),
    [
        ((2, 3), (4, 2), (2, 2)),
        ((2, 3), (3, 4), (2, 5)),
        ((2, 2, 3), (3, 3, 4), (3, 2, 4)),
        ((2, 2, 3), (3, 4), (2, 4)),
        ((3,), (3, 4), (4,)),
    ],
)
def test_check_refuses(a: Any, b: Any, y: Any) -> None:
    with pytest.raises(edge8.Edge8Error, match=r"mat_mul\."):
        edge8.Model(node_file("MatMul", {}, [np.zeros(a, np.float32), np.zeros(b, np.float32)], [tensor(y)]))


@pytest.mark.parametrize("fixed", ["", "a", "b"])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((3,), (3,)),
        ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (1, 3, 4)),
        ((2, 3), (1, 1, 3, 4)),
        ((3,), (1, 3, 4)),
        ((3,), (5, 3, 4)),
        ((5, 2, 3), (3,)),
        ((5, 1, 2, 3), (6, 3, 4)),
    ],
)
def test_import(a: tuple[int, ...], b: tuple[int, ...], fixed: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(0, 1, a).astype(np.float32), "b": rng.normal(0, 1, b).astype(np.float32)}
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["y"])
    graph = check_onnxruntime(
        node, {n: x for n, x in arrays.items() if n != fixed}, {n: x for n, x in arrays.items() if n == fixed}, atol=1e-5
    )
    connected = fixed == "b" and len(b) >= 2 and int(np.prod(b[:-2])) == 1
    assert any(n.op == ("FullyConnected" if connected else "MatMul") for n in graph.nodes)
