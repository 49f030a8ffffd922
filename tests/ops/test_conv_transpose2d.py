# SPDX-License-Identifier: Apache-2.0
"""ConvTranspose2D: C against numpy, int8 bit for bit and float within rounding, over generated shapes; import of ONNX ConvTranspose."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.errors import ConvertError
from edge8.converter.graph import DType, Node, Tensor
from edge8.converter.onnx_in import load
from edge8.converter.ops import operators
from tests.ops.geometry import activation, coded, weights_float, weights_int8
from tests.ops.harness import check_node, node_file, reference_node, run_node, tensor, value
from tests.ops.onnx_case import check_onnxruntime, make_model

seeds = st.integers(0, 2**32 - 1)
channels = st.sampled_from([1, 2, 3, 4, 5, 8, 15, 16, 17, 33])
bounds = st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (-1.0, 1.0)])


@st.composite
def geometries(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int], dict[str, int]]:
    """Input (H, W), kernel, and parameters of a transposed window."""
    params: dict[str, int] = {}
    for axis, sides in (("h", ("top", "bottom")), ("w", ("left", "right"))):
        params[f"stride_{axis}"] = draw(st.integers(1, 4))
        params[f"dilation_{axis}"] = draw(st.integers(1, 3))
        params[f"output_pad_{axis}"] = draw(st.integers(0, 3))
        for side in sides:
            params[f"pad_{side}"] = draw(st.integers(0, 3))
    size, kernel = [(draw(st.integers(1, 6)), draw(st.integers(1, 6))) for _ in range(2)]
    return size, (min(kernel[0], 4), min(kernel[1], 4)), params


def _case(geometry: Any, group: int, inputs: int, outputs: int, act: tuple[float, float]) -> tuple[Any, Any, dict[str, Any], Any]:
    (h, w), kernel, window = geometry
    params = {**window, "group": group, "act_min": act[0], "act_max": act[1]}
    x, weights = Tensor("x", (2, h, w, inputs * group)), Tensor("w", (outputs * group, *kernel, inputs))
    try:
        ((y, _),) = operators()["ConvTranspose2D"].infer(Node("ConvTranspose2D", [], [], params), [x, weights])
    except ValueError:
        assume(False)
    return x.shape, weights.shape, params, y


@given(geometry=geometries(), group=st.integers(1, 3), inputs=channels, outputs=channels, act=bounds, seed=seeds, bias=st.booleans())
@settings(max_examples=120, deadline=None)
def test_float(geometry: Any, group: int, inputs: int, outputs: int, act: Any, seed: int, bias: bool) -> None:
    x_shape, w_shape, params, y_shape = _case(geometry, group, inputs, outputs, act)
    rng = np.random.default_rng(seed)
    b = rng.normal(0, 2, w_shape[0]).astype(np.float32) if bias else None
    given_inputs = [rng.normal(0, 1, x_shape).astype(np.float32), weights_float(rng.normal(0, 1, w_shape)), b]
    (wanted,) = reference_node("ConvTranspose2D", params, given_inputs, [tensor(y_shape)], int8=False)
    results = [run_node("ConvTranspose2D", params, given_inputs, [tensor(y_shape)], constants=(2,), threads=t)[0] for t in (1, 2)]
    np.testing.assert_allclose(results[0], wanted, rtol=1e-5, atol=2e-5)
    np.testing.assert_array_equal(results[0], results[1])


@given(
    geometry=geometries(),
    group=st.integers(1, 3),
    inputs=channels,
    outputs=channels,
    act=bounds,
    seed=seeds,
    options=st.tuples(st.booleans(), st.booleans()),
    zeros=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
)
@settings(max_examples=200, deadline=None)
def test_int8(geometry: Any, group: int, inputs: int, outputs: int, act: Any, seed: int, options: Any, zeros: Any) -> None:
    x_shape, w_shape, params, y_shape = _case(geometry, group, inputs, outputs, act)
    rng = np.random.default_rng(seed)
    w = weights_int8(rng, w_shape, w_shape[0], options[1])
    b = rng.normal(0, 20, w_shape[0]).astype(np.float32) if options[0] else None
    x, y = value(activation(rng, x_shape), 0.04, zeros[0]), tensor(y_shape, DType.INT8, 0.5, zeros[1])
    check_node("ConvTranspose2D", params, [x, w, b], [y], constants=(2,))


@given(bits=st.integers(1, 16), per_channel=st.booleans(), group=st.integers(1, 2), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_coded(bits: int, per_channel: bool, group: int, seed: int) -> None:
    """Weights of any width, float32 activations."""
    rng = np.random.default_rng(seed)
    limit = max(1, 2 ** (bits - 1) - 1)
    shape = (19 * group, 3, 2, 5)
    codes = rng.choice([-1, 1], shape) if bits == 1 else rng.integers(-limit, limit + 1, shape)
    codes = codes.astype(np.int8 if bits <= 8 else np.int16)
    scale = rng.uniform(0.01, 0.1, shape[0] if per_channel else 1).astype(np.float32)
    w = coded(codes, scale, bits=0 if bits in (8, 16) else bits)
    x, b = rng.normal(0, 1, (1, 6, 5, 5 * group)).astype(np.float32), rng.normal(0, 1, shape[0]).astype(np.float32)
    real = (codes * (scale.reshape(-1, 1, 1, 1) if per_channel else scale[0])).astype(np.float32)
    params, out = {"group": group, "stride_h": 2, "stride_w": 2}, [tensor((1, 13, 10, shape[0]))]
    (wanted,) = reference_node("ConvTranspose2D", params, [x, real, b], out, int8=False)
    results = [run_node("ConvTranspose2D", params, [x, w, b], out, constants=(2,), threads=t)[0] for t in (1, 2)]
    np.testing.assert_allclose(results[0], wanted, rtol=2e-5, atol=1e-6 * float(np.abs(wanted).max()) + 1e-5)
    np.testing.assert_array_equal(results[0], results[1])


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    more=st.integers(0, 2),
    extra=st.integers(0, 2),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    inputs=channels,
    outputs=channels,
    act=bounds,
    seed=seeds,
    zeros=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
)
@settings(max_examples=100, deadline=None)
def test_int8_windows_apart(
    kernel: Any, more: int, extra: int, pads: Any, inputs: int, outputs: int, act: Any, seed: int, zeros: Any
) -> None:
    """Strides that are as long as the kernel, or longer along H: the form that writes output rows directly."""
    window = {"stride_h": kernel[0] + more, "stride_w": kernel[1], "output_pad_h": extra, "pad_top": pads[0], "pad_bottom": pads[1]}
    x_shape, w_shape, params, y_shape = _case(((4, 5), kernel, window), 1, inputs, outputs, act)
    rng = np.random.default_rng(seed)
    w = weights_int8(rng, w_shape, w_shape[0], True)
    b = rng.normal(0, 20, w_shape[0]).astype(np.float32)
    x, y = value(activation(rng, x_shape), 0.04, zeros[0]), tensor(y_shape, DType.INT8, 0.5, zeros[1])
    check_node("ConvTranspose2D", params, [x, w, b], [y], constants=(2,))


def test_threads_share_a_large_input() -> None:
    rng = np.random.default_rng(0)
    w = weights_int8(rng, (24, 4, 4, 32), 24, True)
    x = value(activation(rng, (1, 37, 41, 32)), 0.04, 3)
    params = {"stride_h": 2, "stride_w": 2, "pad_top": 1, "pad_left": 1, "pad_bottom": 1, "pad_right": 1}
    check_node("ConvTranspose2D", params, [x, w], [tensor((1, 74, 82, 24), DType.INT8, 0.5, -9)], threads=(1, 2, 3, 4))


def test_biases_saturate_instead_of_overflowing() -> None:
    w = coded(np.full((2, 1, 1, 8), 127, np.int8), np.array([1e-9]))
    x = value(np.full((1, 2, 2, 8), 127, np.int8), 1e-3, -128)
    (y,) = check_node(
        "ConvTranspose2D", {}, [x, w, np.array([3e38, -3e38], np.float32)], [tensor((1, 2, 2, 2), DType.INT8, 1e-6)], constants=(2,)
    )
    assert set(y[..., 0].ravel()) == {127}
    assert set(y[..., 1].ravel()) == {-128}


@pytest.mark.parametrize(
    ("params", "w_shape", "y_shape", "rule"),
    [
        ({"group": 4}, (8, 1, 1, 2), (1, 4, 4, 8), "group"),
        ({"group": 2}, (8, 1, 1, 2), (1, 4, 4, 8), "shape"),
        ({}, (8, 1, 1, 6), (1, 4, 4, 7), "shape"),
        ({}, (8, 1, 1, 6), (1, 4, 5, 8), "shape"),
        ({"stride_h": 0}, (8, 1, 1, 6), (1, 4, 4, 8), "shape"),
        ({"output_pad_w": -1, "pad_left": -1}, (8, 1, 1, 6), (1, 4, 4, 8), "shape"),
        ({"act_min": 1.0, "act_max": 0.0}, (8, 1, 1, 6), (1, 4, 4, 8), "activation"),
        ({"act_max": float("nan")}, (8, 1, 1, 6), (1, 4, 4, 8), "activation"),
    ],
)
def test_check_refuses(params: dict[str, Any], w_shape: tuple[int, ...], y_shape: tuple[int, ...], rule: str) -> None:
    data = node_file("ConvTranspose2D", params, [np.zeros((1, 4, 4, 6), np.float32), weights_float(np.zeros(w_shape))], [tensor(y_shape)])
    with pytest.raises(edge8.Edge8Error, match=rf"conv_transpose2d\.{rule}"):
        edge8.Model(data)


# ---- ONNX ------------------------------------------------------------------------------------------------------------------------------


@given(
    rank=st.integers(1, 2),
    group=st.sampled_from([1, 2, 4]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    extra=st.integers(0, 2),
    mode=st.sampled_from(["pads", "VALID", "SAME_UPPER", "SAME_LOWER", "shape"]),
    bias=st.booleans(),
    seed=seeds,
)
@settings(max_examples=100, deadline=None)
def test_import(
    rank: int, group: int, kernel: int, stride: int, dilation: int, pads: list[int], extra: int, mode: str, bias: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (2, 4, *[6] * rank)).astype(np.float32)
    fixed = {"w": rng.normal(0, 1, (4, 3, *[kernel] * rank)).astype(np.float32)}
    if bias:
        fixed["b"] = rng.normal(0, 1, 3 * group).astype(np.float32)
    attributes: dict[str, Any] = {"output_padding": [min(extra, stride - 1)] * rank}
    full = 5 * stride + dilation * (kernel - 1) + 1 + attributes["output_padding"][0]
    if mode == "pads":
        attributes["pads"] = pads[:rank] + pads[2 : 2 + rank]
    elif mode == "shape":
        attributes["output_shape"] = [max(1, full - pads[0] - pads[1])] * rank
    else:
        # onnxruntime grows no output: SAME needs a kernel at least as long as the stride.
        assume(mode == "VALID" or full >= 6 * stride)
        attributes["auto_pad"] = mode
    node = onnx.helper.make_node(
        "ConvTranspose", ["x", *fixed], ["y"], group=group, strides=[stride] * rank, dilations=[dilation] * rank, **attributes
    )
    graph = check_onnxruntime(node, {"x": x}, fixed, atol=1e-5)
    assert any(n.op == "ConvTranspose2D" for n in graph.nodes)


def test_import_refuses_weights_of_run_time_and_volumes() -> None:
    node = onnx.helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up")
    model = make_model(node, {"x": np.zeros((1, 2, 4, 4), np.float32), "w": np.zeros((2, 3, 1, 1), np.float32)})
    with pytest.raises(ConvertError, match="ConvTranspose node 'up': the weight tensor is computed at run time"):
        load(model)
    model = make_model(node, {"x": np.zeros((1, 2, 4, 4, 4), np.float32)}, {"w": np.zeros((2, 3, 1, 1, 1), np.float32)})
    with pytest.raises(ConvertError, match="only 1-D and 2-D"):
        load(model)
