# SPDX-License-Identifier: Apache-2.0
"""The Winograd form of Conv2D: C against numpy bit for bit, and against the convolution's definition within rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge8.converter.linear import fused_multiply_add
from edge8.cpu import restrict
from tests.ops.geometry import coded, weights_float
from tests.ops.harness import Array, node_file, reference_node, run_file, run_node, tensor


def _lines(transform: Any, x: Array) -> Array:
    """``transform`` along the first two axes, the first one first."""
    return np.stack(transform(np.stack(transform(x)).swapaxes(0, 1))).swapaxes(0, 1)


def _input(d: Array) -> list[Array]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _weights(g: Array) -> list[Array]:
    half = np.float32(0.5)
    return [g[0], half * ((g[0] + g[2]) + g[1]), half * ((g[0] + g[2]) - g[1]), g[2]]


def _output(m: Array) -> list[Array]:
    return [(m[0] + m[1]) + m[2], (m[1] - m[2]) - m[3]]


def _winograd(x: Array, w: Array, bias: Array, residual: Array, params: dict[str, int], act: tuple[float, float]) -> Array:
    """x [N,H,W,C], w [O,3,3,C], residual and result [N,OH,OW,O], float32; every operation rounded on its own."""
    n, oh, ow, outputs = residual.shape
    spaces = ((0, 0), (params["pad_top"], params["pad_bottom"] + 1), (params["pad_left"], params["pad_right"] + 1), (0, 0))
    padded = np.pad(x, spaces)
    u = _lines(_weights, w.transpose(1, 2, 0, 3))  # [4,4,O,C]
    y = np.zeros((n, oh + 1, ow + 1, outputs), np.float32)
    for top in range(0, oh, 2):
        for left in range(0, ow, 2):
            v = _lines(_input, padded[:, top : top + 4, left : left + 4].transpose(1, 2, 0, 3))  # [4,4,N,C]
            m = np.zeros((4, 4, n, outputs), np.float32)
            m[1, 1] = bias
            for c in range(x.shape[3]):
                m = fused_multiply_add(v[..., c, None], u[:, :, None, :, c], m)
            y[:, top : top + 2, left : left + 2] = _lines(_output, m).transpose(2, 0, 1, 3)
    return np.minimum(np.float32(act[1]), np.maximum(np.float32(act[0]), y[:, :oh, :ow] + residual))


def _run_everywhere(data: bytes, feeds: dict[str, Array]) -> Array:
    """The result, which is the same for every number of threads and without vector instructions."""
    found = run_file(data, feeds)[0].copy()
    for threads in (2, 3):
        np.testing.assert_array_equal(run_file(data, feeds, threads)[0], found)
    restrict([])
    try:
        np.testing.assert_array_equal(run_file(data, feeds)[0], found)
    finally:
        restrict(None)
    return found


sizes = st.tuples(st.integers(6, 15), st.integers(6, 15))
pads = st.tuples(*[st.integers(0, 3)] * 4)
SIDES = ("pad_top", "pad_bottom", "pad_left", "pad_right")


@given(
    size=sizes,
    pad=pads,
    channels=st.sampled_from([32, 40, 48]),
    outputs=st.sampled_from([32, 40, 72]),
    act=st.sampled_from([(-np.inf, np.inf), (0.0, 6.0)]),
    options=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=12, deadline=None)
def test_bit_for_bit(size: Any, pad: Any, channels: int, outputs: int, act: Any, options: tuple[bool, bool], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.normal(0, 1, (2, *size, channels)).astype(np.float32), rng.normal(0, 1, (outputs, 3, 3, channels)).astype(np.float32)
    shape = (2, size[0] + pad[0] + pad[1] - 2, size[1] + pad[2] + pad[3] - 2, outputs)
    bias = rng.normal(0, 1, outputs).astype(np.float32) if options[0] else None
    residual = rng.normal(0, 1, shape).astype(np.float32) if options[1] else None
    window = dict(zip(SIDES, pad, strict=True))
    params = {**window, "act_min": act[0], "act_max": act[1]}
    inputs = [x, weights_float(w), bias, None, residual]
    data = node_file("Conv2D", params, inputs, [tensor(shape)], constants=(1, 2))
    feeds = {"input0": x} | ({} if residual is None else {"input4": residual})
    found = _run_everywhere(data, feeds)
    zeros = np.zeros(shape, np.float32)
    wanted = _winograd(x, w, np.zeros(outputs, np.float32) if bias is None else bias, zeros if residual is None else residual, window, act)
    np.testing.assert_array_equal(found, wanted)
    (direct,) = reference_node("Conv2D", params, inputs, [tensor(shape)], int8=False)
    np.testing.assert_allclose(found, direct, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "channels", "outputs"), [(30, 64, 64), (14, 248, 136), (7, 520, 24)], ids=["kept weights", "two blocks", "one block"]
)
def test_every_way_through_the_weights(size: int, channels: int, outputs: int) -> None:
    """Sizes that keep the transformed weights, or make them anew for two blocks or one at a time."""
    rng = np.random.default_rng(size)
    x, w = rng.normal(0, 1, (2, size, size, channels)).astype(np.float32), rng.normal(0, 1, (outputs, 3, 3, channels)).astype(np.float32)
    window, shape = dict.fromkeys(SIDES, 1), (2, size, size, outputs)
    data = node_file("Conv2D", window, [x, weights_float(w)], [tensor(shape)], constants=(1,))
    found = _run_everywhere(data, {"input0": x})
    some = [0, 15, 16, outputs - 1]
    wanted = _winograd(x, w[some], np.zeros(4, np.float32), np.zeros((*shape[:3], 4), np.float32), window, (-np.inf, np.inf))
    np.testing.assert_array_equal(found[..., some], wanted)


@pytest.mark.parametrize("bits", [4, 8])
def test_coded_weights_are_decoded_first(bits: int) -> None:
    """Codes times their scale, rounded to float32, are the weights."""
    rng = np.random.default_rng(bits)
    codes = rng.integers(-7, 8, (40, 3, 3, 32)).astype(np.int8)
    scale = rng.uniform(0.01, 0.1, 40).astype(np.float32)
    x, window, shape = rng.normal(0, 1, (1, 9, 9, 32)).astype(np.float32), dict.fromkeys(SIDES, 1), (1, 9, 9, 40)
    w = coded(codes, scale, bits=0 if bits == 8 else bits)
    found = _run_everywhere(node_file("Conv2D", window, [x, w], [tensor(shape)], constants=(1,)), {"input0": x})
    real = codes.astype(np.float32) * scale.reshape(-1, 1, 1, 1)
    wanted = _winograd(x, real, np.zeros(40, np.float32), np.zeros(shape, np.float32), window, (-np.inf, np.inf))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("w_shape", "params", "taken"),
    [
        ((32, 3, 3, 32), {}, True),
        ((32, 3, 3, 28), {}, False),
        ((36, 3, 3, 32), {}, False),
        ((8, 3, 3, 8), {}, False),
        ((32, 3, 2, 32), {}, False),
        ((32, 3, 3, 32), {"stride_w": 2}, False),
        ((32, 3, 3, 32), {"dilation_h": 2}, False),
        ((32, 3, 3, 16), {"group": 2}, False),
    ],
)
def test_shapes_that_take_the_form(w_shape: tuple[int, ...], params: dict[str, int], taken: bool) -> None:
    """An infinite input makes NaN of outputs in its tile that do not read it, in this form only."""
    x = np.zeros((1, 12, 12, w_shape[3] * params.get("group", 1)), np.float32)
    x[0, 3, 3, 0] = np.inf
    oh, ow = 10 - 2 * (params.get("dilation_h", 1) - 1), (13 - w_shape[2] - 1) // params.get("stride_w", 1) + 1
    outputs = [tensor((1, oh, ow, w_shape[0]))]
    (found,) = run_node("Conv2D", params, [x, weights_float(np.ones(w_shape)), None, None, None], outputs)
    assert bool(np.isnan(found).any()) == taken
