# SPDX-License-Identifier: Apache-2.0
"""Conv2D: C against numpy, int8 bit for bit and float within rounding, over generated shapes; import of ONNX Conv."""

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
from edge8.converter.window import window_of
from tests.ops.geometry import activation, coded, weights_float, weights_int8, windows
from tests.ops.harness import check_node, node_file, reference_node, run_node, tensor, value
from tests.ops.onnx_case import check_onnxruntime, make_model

seeds = st.integers(0, 2**32 - 1)
channels = st.sampled_from([1, 2, 3, 4, 5, 8, 15, 16, 17, 33])
bounds = st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0), (-1.0, 1.0)])


def _case(geometry: Any, group: int, inputs: int, outputs: int, act: tuple[float, float]) -> tuple[Any, Any, dict[str, Any], Any]:
    """Shapes of x and weights, parameters, shape of y."""
    (h, w), kernel, window = geometry
    params = {**window, "group": group, "act_min": act[0], "act_max": act[1]}
    oh, ow = window_of(Node("Conv2D", [], [], params), kernel).output((h, w))
    return (2, h, w, inputs * group), (outputs * group, *kernel, inputs), params, (2, oh, ow, outputs * group)


@given(
    geometry=windows(7),
    group=st.integers(1, 3),
    inputs=channels,
    outputs=channels,
    act=bounds,
    seed=seeds,
    bias=st.booleans(),
    residual=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_float(geometry: Any, group: int, inputs: int, outputs: int, act: Any, seed: int, bias: bool, residual: bool) -> None:
    x_shape, w_shape, params, y_shape = _case(geometry, group, inputs, outputs, act)
    rng = np.random.default_rng(seed)
    w = weights_float(rng.normal(0, 1, w_shape))
    b = rng.normal(0, 2, w_shape[0]).astype(np.float32) if bias else None
    r = rng.normal(0, 2, y_shape).astype(np.float32) if residual else None
    inputs_all = [rng.normal(0, 1, x_shape).astype(np.float32), w, b, None, r]
    (wanted,) = reference_node("Conv2D", params, inputs_all, [tensor(y_shape)], int8=False)
    first = None
    for threads in (1, 2):
        (found,) = run_node("Conv2D", params, inputs_all, [tensor(y_shape)], constants=(2,), threads=threads)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-5)
        first = found if first is None else first
        np.testing.assert_array_equal(found, first)


@given(
    geometry=windows(7),
    group=st.integers(1, 3),
    inputs=channels,
    outputs=channels,
    act=bounds,
    seed=seeds,
    options=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    zeros=st.tuples(*[st.integers(-128, 127)] * 3),
)
@settings(max_examples=200, deadline=None)
def test_int8(geometry: Any, group: int, inputs: int, outputs: int, act: Any, seed: int, options: Any, zeros: Any) -> None:
    x_shape, w_shape, params, y_shape = _case(geometry, group, inputs, outputs, act)
    bias, residual, per_channel = options
    rng = np.random.default_rng(seed)
    w = weights_int8(rng, w_shape, w_shape[0], per_channel)
    assert w.data is not None
    sums = w.data.astype(np.int32).reshape(w_shape[0], -1).sum(axis=1, dtype=np.int32)
    b = rng.normal(0, 20, w_shape[0]).astype(np.float32) if bias else None
    r = value(activation(rng, y_shape), 0.3, zeros[2]) if residual else None
    x, y = value(activation(rng, x_shape), 0.04, zeros[0]), tensor(y_shape, DType.INT8, 0.5, zeros[1])
    check_node("Conv2D", params, [x, w, b, sums, r], [y], constants=(2, 3))


@given(bits=st.integers(1, 16), per_channel=st.booleans(), group=st.integers(1, 2), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_coded(bits: int, per_channel: bool, group: int, seed: int) -> None:
    """Weights of any width, float32 activations."""
    rng = np.random.default_rng(seed)
    limit = max(1, 2 ** (bits - 1) - 1)
    shape = (19 * group, 3, 2, 5)
    codes = rng.choice([-1, 1], shape) if bits == 1 else rng.integers(-limit, limit + 1, shape)
    codes = codes.astype(np.int8 if bits <= 8 else np.int16)
    w = coded(codes, rng.uniform(0.01, 0.1, shape[0] if per_channel else 1), bits=0 if bits in (8, 16) else bits)
    x, b = rng.normal(0, 1, (1, 6, 5, 5 * group)).astype(np.float32), rng.normal(0, 1, shape[0]).astype(np.float32)
    assert w.scale is not None
    real = codes * (w.scale.reshape(-1, 1, 1, 1) if per_channel else w.scale[0])
    params, out = {"group": group, "pad_top": 1, "stride_w": 2}, [tensor((1, 5, 2, shape[0]))]
    (wanted,) = reference_node("Conv2D", params, [x, real.astype(np.float32), b], out, int8=False)
    (found,) = run_node("Conv2D", params, [x, w, b], out, constants=(2,))
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6 * float(np.abs(wanted).max()) + 1e-5)


def test_biases_saturate_instead_of_overflowing() -> None:
    w = coded(np.full((2, 1, 1, 8), 127, np.int8), np.array([1e-9]))
    x = value(np.full((1, 2, 2, 8), 127, np.int8), 1e-3, -128)
    b, sums = np.array([3e38, -3e38], np.float32), np.full(2, 127 * 8, np.int32)
    (y,) = check_node("Conv2D", {}, [x, w, b, sums], [tensor((1, 2, 2, 2), DType.INT8, 1e-6)], constants=(2, 3))
    assert set(y[..., 0].ravel()) == {127}
    assert set(y[..., 1].ravel()) == {-128}


def test_quantisation_refuses_sums_that_could_overflow() -> None:
    graph = Graph({"w": Tensor("w", (1, 1, 1, 70000)), "x": Tensor("x", (1, 1, 1, 70000))})
    form = operators()["Conv2D"].quantisation(Node("Conv2D", ["x", "w"], ["y"]), graph)
    assert form.scales is Scales.FLOAT
    assert "70000" in form.reason


@pytest.mark.parametrize(
    ("params", "w_shape", "y_shape", "rule"),
    [
        ({"group": 4}, (8, 1, 1, 2), (1, 4, 4, 8), r"conv2d\.group"),
        ({"group": 2}, (8, 1, 1, 2), (1, 4, 4, 8), r"conv2d\.channels"),
        ({}, (8, 1, 1, 6), (1, 4, 4, 7), r"conv2d\.channels"),
        ({"stride_h": 0}, (8, 1, 1, 6), (1, 4, 4, 8), "stride|window|dilation"),
        ({"act_min": 1.0, "act_max": 0.0}, (8, 1, 1, 6), (1, 4, 4, 8), r"linear\.activation"),
    ],
)
def test_check_refuses(params: dict[str, Any], w_shape: tuple[int, ...], y_shape: tuple[int, ...], rule: str) -> None:
    data = node_file("Conv2D", params, [np.zeros((1, 4, 4, 6), np.float32), weights_float(np.zeros(w_shape))], [tensor(y_shape)])
    with pytest.raises(edge8.Edge8Error, match=rule):
        edge8.Model(data)


# ---- ONNX ------------------------------------------------------------------------------------------------------------------------------


@given(
    rank=st.integers(1, 2),
    group=st.sampled_from([1, 2, 4]),
    width=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    auto=st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]),
    bias=st.booleans(),
    seed=seeds,
)
@settings(max_examples=100, deadline=None)
def test_import(
    rank: int, group: int, width: int, kernel: int, stride: int, dilation: int, pads: list[int], auto: str, bias: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (2, 4, *[9] * rank)).astype(np.float32)
    fixed = {"w": rng.normal(0, 1, (4 * width, 4 // group, *[kernel] * rank)).astype(np.float32)}
    if bias:
        fixed["b"] = rng.normal(0, 1, 4 * width).astype(np.float32)
    attributes: dict[str, Any] = {"pads": pads[:rank] + pads[2 : 2 + rank]} if auto == "NOTSET" else {"auto_pad": auto}
    if auto.startswith("SAME"):
        dilation = 1  # onnxruntime takes no dilation with SAME
    node = onnx.helper.make_node(
        "Conv", ["x", *fixed], ["y"], group=group, strides=[stride] * rank, dilations=[dilation] * rank, **attributes
    )
    graph = check_onnxruntime(node, {"x": x}, fixed, atol=1e-5)
    assert any(n.op == ("DepthwiseConv2D" if group == 4 else "Conv2D") for n in graph.nodes)


def test_import_bias_of_run_time_is_added() -> None:
    rng = np.random.default_rng(0)
    node = onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"])
    inputs = {"x": rng.normal(0, 1, (1, 2, 4, 4)).astype(np.float32), "b": rng.normal(0, 1, 3).astype(np.float32)}
    check_onnxruntime(node, inputs, {"w": rng.normal(0, 1, (3, 2, 1, 1)).astype(np.float32)}, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "w", "attributes", "message"),
    [
        ((1, 2, 4, 4), (3, 2, 1, 1), {"pads": [-1, 0, 0, 0]}, "negative padding"),
        ((1, 2, 4, 4, 4), (3, 2, 1, 1, 1), {}, "only 1-D and 2-D"),
        ((1, 2, 2, 2), (3, 2, 3, 3), {}, "larger than the padded input|Inferred"),
    ],
)
def test_import_refuses(x: Any, w: Any, attributes: dict[str, Any], message: str) -> None:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="conv", **attributes)
    model = make_model(node, {"x": np.zeros(x, np.float32)}, {"w": np.zeros(w, np.float32)})
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * len(x)))
    with pytest.raises(ConvertError, match=message):
        load(model)


def test_import_refuses_weights_of_run_time() -> None:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    model = make_model(node, {"x": np.zeros((1, 2, 4, 4), np.float32), "w": np.zeros((3, 2, 1, 1), np.float32)})
    with pytest.raises(ConvertError, match=r"Conv node 'conv': the weight tensor is computed at run time \(input 1, tensor 'w'\)"):
        load(model)
