# SPDX-License-Identifier: Apache-2.0
"""LayerNorm: C against numpy bit for bit; accuracy; ONNX LayerNormalization."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.errors import ConvertError
from edge8.converter.graph import DType
from edge8.converter.onnx_in import load
from tests.ops.harness import check_node, node_file, tensor, value
from tests.ops.onnx_case import check_onnx, make_model

seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(1,), (7,), (5, 1), (3, 8), (2, 3, 17), (4, 384), (1, 2, 1000)])


def _exact(x: np.ndarray, gamma: np.ndarray | None, beta: np.ndarray | None, epsilon: float) -> np.ndarray:
    wide = x.astype(np.float64)
    y = (wide - wide.mean(axis=-1, keepdims=True)) / np.sqrt(wide.var(axis=-1, keepdims=True) + epsilon)
    return y * (1 if gamma is None else gamma) + (0 if beta is None else beta)


@given(shape=shapes, seed=seeds, affine=st.integers(0, 2), offset=st.sampled_from([0.0, 3.0, -50.0]))
@settings(max_examples=150, deadline=None)
def test_float(shape: tuple[int, ...], seed: int, affine: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(offset, 2, shape).astype(np.float32)
    gamma, beta = (rng.normal(1, 1, shape[-1]).astype(np.float32) if affine > i else None for i in range(2))
    (y,) = check_node("LayerNorm", {"epsilon": 1e-3}, [x, gamma, beta], [tensor(shape)], constants=(1, 2))
    np.testing.assert_allclose(y, _exact(x, gamma, beta, 1e-3), rtol=1e-4, atol=3e-5 * (1 + abs(offset)))


@given(
    shape=shapes,
    seed=seeds,
    affine=st.integers(0, 2),
    scale=st.floats(2.0**-10, 4.0),
    zeros=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    constant=st.booleans(),
)
@settings(max_examples=250, deadline=None)
def test_int8(shape: tuple[int, ...], seed: int, affine: int, scale: float, zeros: tuple[int, int], constant: bool) -> None:
    rng = np.random.default_rng(seed)
    codes = np.full(shape, 5, np.int8) if constant else rng.integers(-128, 128, shape, dtype=np.int8)
    gamma, beta = (rng.normal(1, 1, shape[-1]).astype(np.float32) if affine > i else None for i in range(2))
    x, y = value(codes, scale, zeros[0]), tensor(shape, DType.INT8, 0.04, zeros[1])
    (found,) = check_node("LayerNorm", {}, [x, gamma, beta], [y], constants=(1, 2))
    exact = _exact((codes.astype(np.float64) - zeros[0]) * np.float64(np.float32(scale)), gamma, beta, 1e-5)
    assert np.abs(found - np.clip(np.rint(exact / np.float64(np.float32(0.04))) + zeros[1], -128, 127)).max() <= 1


def test_zero_epsilon_and_constant_row() -> None:
    x = np.full((2, 9), 4, np.int8)
    check_node("LayerNorm", {"epsilon": 0.0}, [value(x, 0.5, 1)], [tensor((2, 9), DType.INT8, 0.1, 3)])


def test_threads_share_many_rows() -> None:
    x = value(np.random.default_rng(0).integers(-128, 128, (701, 384), dtype=np.int8), 0.05, 3)
    check_node("LayerNorm", {}, [x], [tensor((701, 384), DType.INT8, 0.03, -1)], threads=(1, 2, 3, 4))


def test_check_refuses() -> None:
    x = np.zeros((2, 3), np.float32)
    cases = [
        ([x, np.ones(2, np.float32)], (2, 3), {}, "layer_norm.gamma"),
        ([x, np.ones(3, np.int32)], (2, 3), {}, "layer_norm.gamma"),
        ([x, np.ones(3, np.float32), np.ones(4, np.float32)], (2, 3), {}, "layer_norm.beta"),
        ([x], (3, 2), {}, "layer_norm.shape"),
        ([x], (2, 3), {"epsilon": -1.0}, "layer_norm.epsilon"),
        ([x], (2, 3), {"epsilon": float("nan")}, "layer_norm.epsilon"),
    ]
    for inputs, out, params, rule in cases:
        with pytest.raises(edge8.Edge8Error, match=rule):
            edge8.Model(node_file("LayerNorm", params, inputs, [tensor(out)], constants=(1, 2)))


@pytest.mark.parametrize("axis", [None, -1, 1, 0, -2])
@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("statistics", [False, True])
def test_import(axis: int | None, beta: bool, statistics: bool) -> None:
    rng = np.random.default_rng(0)
    shape = (3, 4, 5)
    inner = shape[-1 if axis is None else axis :]
    x = rng.normal(2, 3, shape).astype(np.float32)
    fixed = {"g": rng.normal(1, 1, inner).astype(np.float32), "b": rng.normal(0, 1, inner).astype(np.float32)}
    outputs = ["y", "mean", "inverse"] if statistics else ["y"]
    names = ["x", "g", "b"] if beta else ["x", "g"]
    node = onnx.helper.make_node("LayerNormalization", names, outputs, **({} if axis is None else {"axis": axis}))
    check_onnx(node, {"x": x}, fixed if beta else {"g": fixed["g"]}, atol=1e-5)


def test_import_refuses_a_scale_that_does_not_fit() -> None:
    node = onnx.helper.make_node("LayerNormalization", ["x", "g"], ["y"], name="norm")
    with pytest.raises(ConvertError, match="LayerNormalization node 'norm'"):
        load(make_model(node, {"x": np.zeros((2, 3), np.float32)}, {"g": np.ones(4, np.float32)}))
