# SPDX-License-Identifier: Apache-2.0
"""DepthwiseConv2D: C against numpy, int8 bit for bit and float within rounding, over generated shapes. Import: test_conv2d.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.graph import DType, Node
from edge8.converter.window import window_of
from tests.ops.geometry import activation, coded, weights_float, weights_int8, windows
from tests.ops.harness import check_node, node_file, reference_node, run_node, tensor, value

seeds = st.integers(0, 2**32 - 1)
channels = st.sampled_from([1, 3, 8, 15, 16, 17, 33, 64, 70])
bounds = st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0), (-1.0, 1.0)])


def _case(geometry: Any, inputs: int, multiplier: int, act: tuple[float, float]) -> tuple[Any, Any, dict[str, Any], Any]:
    (h, w), kernel, window = geometry
    params = {**window, "multiplier": multiplier, "act_min": act[0], "act_max": act[1]}
    oh, ow = window_of(Node("DepthwiseConv2D", [], [], params), kernel).output((h, w))
    return (2, h, w, inputs), (*kernel, inputs * multiplier), params, (2, oh, ow, inputs * multiplier)


@given(geometry=windows(7), inputs=channels, multiplier=st.integers(1, 3), act=bounds, seed=seeds, bias=st.booleans())
@settings(max_examples=120, deadline=None)
def test_float(geometry: Any, inputs: int, multiplier: int, act: Any, seed: int, bias: bool) -> None:
    x_shape, w_shape, params, y_shape = _case(geometry, inputs, multiplier, act)
    rng = np.random.default_rng(seed)
    b = rng.normal(0, 2, w_shape[2]).astype(np.float32) if bias else None
    given_inputs = [rng.normal(0, 1, x_shape).astype(np.float32), weights_float(rng.normal(0, 1, w_shape)), b]
    (wanted,) = reference_node("DepthwiseConv2D", params, given_inputs, [tensor(y_shape)], int8=False)
    results = [run_node("DepthwiseConv2D", params, given_inputs, [tensor(y_shape)], constants=(2,), threads=t)[0] for t in (1, 2)]
    np.testing.assert_allclose(results[0], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(results[0], results[1])


@given(
    geometry=windows(7),
    inputs=channels,
    multiplier=st.integers(1, 3),
    act=bounds,
    seed=seeds,
    options=st.tuples(st.booleans(), st.booleans()),
    zeros=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
)
@settings(max_examples=200, deadline=None)
def test_int8(geometry: Any, inputs: int, multiplier: int, act: Any, seed: int, options: Any, zeros: Any) -> None:
    x_shape, w_shape, params, y_shape = _case(geometry, inputs, multiplier, act)
    rng = np.random.default_rng(seed)
    w = weights_int8(rng, w_shape, w_shape[2], options[1])
    assert w.data is not None
    sums = w.data.astype(np.int32).sum(axis=(0, 1), dtype=np.int32)
    b = rng.normal(0, 5, w_shape[2]).astype(np.float32) if options[0] else None
    x, y = value(activation(rng, x_shape), 0.04, zeros[0]), tensor(y_shape, DType.INT8, 0.2, zeros[1])
    check_node("DepthwiseConv2D", params, [x, w, b, sums], [y], constants=(2, 3))


@given(bits=st.integers(1, 16), per_channel=st.booleans(), seed=seeds)
@settings(max_examples=50, deadline=None)
def test_coded(bits: int, per_channel: bool, seed: int) -> None:
    """Weights of any width, float32 activations."""
    rng = np.random.default_rng(seed)
    limit = max(1, 2 ** (bits - 1) - 1)
    shape = (3, 2, 19)
    codes = rng.choice([-1, 1], shape) if bits == 1 else rng.integers(-limit, limit + 1, shape)
    codes = codes.astype(np.int8 if bits <= 8 else np.int16)
    scale = rng.uniform(0.01, 0.1, 19 if per_channel else 1).astype(np.float32)
    w = coded(codes, scale, bits=0 if bits in (8, 16) else bits)
    x = rng.normal(0, 1, (1, 6, 5, 19)).astype(np.float32)
    out = [tensor((1, 4, 4, 19))]
    (wanted,) = reference_node("DepthwiseConv2D", {}, [x, (codes * scale).astype(np.float32)], out, int8=False)
    (found,) = run_node("DepthwiseConv2D", {}, [x, w], out)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6 * float(np.abs(wanted).max()) + 1e-5)


@pytest.mark.parametrize(
    ("params", "w_shape", "y_shape", "rule"),
    [
        ({"multiplier": 2}, (1, 1, 6), (1, 4, 4, 6), "channels"),
        ({"multiplier": 0}, (1, 1, 6), (1, 4, 4, 6), "multiplier"),
        ({"multiplier": 4}, (1, 1, 6), (1, 4, 4, 6), "multiplier"),
        ({}, (1, 1, 6), (1, 4, 4, 7), "channels"),
    ],
)
def test_check_refuses(params: dict[str, Any], w_shape: tuple[int, ...], y_shape: tuple[int, ...], rule: str) -> None:
    data = node_file("DepthwiseConv2D", params, [np.zeros((1, 4, 4, 6), np.float32), weights_float(np.zeros(w_shape))], [tensor(y_shape)])
    with pytest.raises(edge8.Edge8Error, match=rf"depthwise_conv2d\.{rule}"):
        edge8.Model(data)
