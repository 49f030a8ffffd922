# SPDX-License-Identifier: Apache-2.0
"""The int16 form of every operator that computes: C against numpy bit for bit, over generated shapes.

Operators that only move codes are tested with all types in their own files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.graph import DType, Node, Tensor
from edge8.converter.ops import Value, operators
from edge8.converter.ops.binary import BinaryKind
from edge8.converter.ops.pool2d import PoolKind
from edge8.converter.ops.reduce import ReduceKind
from edge8.converter.ops.unary import UnaryKind
from edge8.converter.window import Window, window_of
from tests.ops.geometry import coded, weights_int8, windows
from tests.ops.harness import check_node, node_file, tensor, value
from tests.ops.shapes import shapes

Array = np.ndarray[Any, Any]
seeds = st.integers(0, 2**32 - 1)
channels = st.sampled_from([1, 2, 3, 4, 5, 8, 15, 16, 17, 33, 70])
bounds = st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0), (-1.0, 1.0)])


def codes(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Value:
    """int16 codes, the extremes among them."""
    x = rng.integers(-32768, 32768, shape).astype(np.int16)
    return value(np.where(rng.random(shape) < 0.1, rng.choice([-32768, -32767, 32767], shape), x).astype(np.int16), scale)


def result(shape: tuple[int, ...], scale: float) -> Tensor:
    return tensor(shape, DType.INT16, scale)


def _bias(rng: np.random.Generator, count: int, wanted: bool) -> Array | None:
    return (rng.normal(0, 1, count) * 10.0 ** rng.integers(-6, 12, count)).astype(np.float32) if wanted else None


@given(
    geometry=windows(6), group=st.integers(1, 3), inputs=channels, outputs=channels, act=bounds, seed=seeds,
    options=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_conv2d(geometry: Any, group: int, inputs: int, outputs: int, act: Any, seed: int, options: Any) -> None:
    (h, w_in), kernel, window = geometry
    rng = np.random.default_rng(seed)
    params = {**window, "group": group, "act_min": act[0], "act_max": act[1]}
    oh, ow = window_of(Node("Conv2D", [], [], params), kernel).output((h, w_in))
    y_shape = (2, oh, ow, outputs * group)
    w = weights_int8(rng, (outputs * group, *kernel, inputs), outputs * group, options[0])
    r = codes(rng, y_shape, 2e-3) if options[1] else None
    x = codes(rng, (2, h, w_in, inputs * group), 1e-3)
    check_node("Conv2D", params, [x, w, _bias(rng, outputs * group, options[2]), None, r], [result(y_shape, 3e-3)], constants=(2,))


@given(geometry=windows(7), inputs=channels, multiplier=st.integers(1, 3), act=bounds, seed=seeds, bias=st.booleans())
@settings(max_examples=120, deadline=None)
def test_depthwise(geometry: Any, inputs: int, multiplier: int, act: Any, seed: int, bias: bool) -> None:
    (h, w_in), kernel, window = geometry
    rng = np.random.default_rng(seed)
    params = {**window, "multiplier": multiplier, "act_min": act[0], "act_max": act[1]}
    oh, ow = window_of(Node("DepthwiseConv2D", [], [], params), kernel).output((h, w_in))
    outputs = inputs * multiplier
    w = weights_int8(rng, (*kernel, outputs), outputs, True)
    x = codes(rng, (2, h, w_in, inputs), 1e-3)
    check_node("DepthwiseConv2D", params, [x, w, _bias(rng, outputs, bias)], [result((2, oh, ow, outputs), 2e-3)], constants=(2,))


@given(
    lead=st.lists(st.integers(1, 9), max_size=3), depth=st.integers(1, 1400), outputs=channels, seed=seeds,
    options=st.tuples(st.booleans(), st.booleans()),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_fully_connected(lead: list[int], depth: int, outputs: int, seed: int, options: Any) -> None:
    rng = np.random.default_rng(seed)
    w = weights_int8(rng, (outputs, depth), outputs, True)
    x, y = codes(rng, (*lead, depth), 1e-3), result((*lead, outputs), 0.05)
    r = codes(rng, (*lead, outputs), 0.02) if options[0] else None
    check_node("FullyConnected", {}, [x, w, _bias(rng, outputs, options[1]), None, r], [y], constants=(2,))


@pytest.mark.parametrize("depth", [256, 257, 1024, 65536])
def test_the_largest_sums_are_exact(depth: int) -> None:
    """All products of one sign: far beyond 32 bits."""
    x = value(np.full((3, depth), 32767, np.int16), 1.0)
    x.array[1] = -32768
    w = coded(np.full((5, depth), 127, np.int8), np.ones(1))
    w.data[2:] = -127  # type: ignore[index]
    (y,) = check_node("FullyConnected", {}, [x, w], [result((3, 5), 127.0 * depth)])
    assert y[0].tolist() == [32767, 32767, -32767, -32767, -32767]


def test_a_residual_or_bias_of_any_size_saturates() -> None:
    w = coded(np.array([[1]], np.int8), np.array([2.0**-40]))
    x, r = value(np.array([[1]], np.int16), 2.0**-40), value(np.array([[-32767]], np.int16), 2.0**40)
    (y,) = check_node("FullyConnected", {}, [x, w, np.array([3e38], np.float32), None, r], [result((1, 1), 1.0)], constants=(2,))
    assert abs(int(y[0, 0])) <= 1


@given(
    a_lead=shapes(0, 2, 12), shared=st.sampled_from([0, 1, 2]), m=st.integers(1, 40), k=st.integers(1, 90), n=st.integers(1, 90),
    transpose=st.booleans(), act=bounds, seed=seeds,
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_mat_mul(a_lead: tuple[int, ...], shared: int, m: int, k: int, n: int, transpose: bool, act: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    b_lead = () if shared == 0 else a_lead if shared == 1 else (1,) * len(a_lead)
    a, b = codes(rng, (*a_lead, m, k), 1e-4), codes(rng, (*b_lead, *((n, k) if transpose else (k, n))), 2e-4)
    params = {"transpose_b": transpose, "act_min": act[0], "act_max": act[1]}
    check_node("MatMul", params, [a, b], [result((*a_lead, m, n), 3e-3)])


_KINDS = [k for k in BinaryKind if k <= BinaryKind.PRELU or k is BinaryKind.MOD]


@given(
    kind=st.sampled_from(_KINDS), shape=shapes(0, 4, 3000), ones=st.lists(st.integers(0, 2), min_size=4, max_size=4), act=bounds, seed=seeds
)
@settings(max_examples=200, deadline=None)
def test_binary(kind: BinaryKind, shape: tuple[int, ...], ones: list[int], act: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sides = [tuple(1 if ones[i % 4] == side else d for i, d in enumerate(shape)) for side in (1, 2)]
    a, b = codes(rng, sides[0], 2e-4), codes(rng, sides[1], 1e-4)
    out = tuple(np.broadcast_shapes(*sides))
    params = {"kind": int(kind), "act_min": act[0], "act_max": act[1], "fmod": True}
    check_node("Binary", params, [a, b], [result(out, 3e-4)])


@given(
    kind=st.sampled_from([k for k in UnaryKind if k is not UnaryKind.NOT]), shape=shapes(0, 3, 2000), seed=seeds, alpha=st.floats(0.1, 2)
)
@settings(max_examples=200, deadline=None)
def test_unary(kind: UnaryKind, shape: tuple[int, ...], seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    check_node("Unary", {"kind": int(kind), "alpha": alpha, "beta": 0.9}, [codes(rng, shape, 3e-4)], [result(shape, 2e-4)])


@given(shape=shapes(1, 3, 3000), logarithm=st.booleans(), seed=seeds)
@settings(max_examples=100, deadline=None)
def test_softmax(shape: tuple[int, ...], logarithm: bool, seed: int) -> None:
    x = codes(np.random.default_rng(seed), shape, 2e-4)
    check_node("Softmax", {"log": logarithm}, [x], [result(shape, 1e-3 if logarithm else 2.0**-15)])


@given(shape=shapes(1, 3, 3000), scaled=st.booleans(), shifted=st.booleans(), seed=seeds)
@settings(max_examples=100, deadline=None)
def test_layer_norm(shape: tuple[int, ...], scaled: bool, shifted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gamma, beta = (rng.normal(1, 1, shape[-1]).astype(np.float32) if wanted else None for wanted in (scaled, shifted))
    check_node("LayerNorm", {"epsilon": 1e-5}, [codes(rng, shape, 1e-3), gamma, beta], [result(shape, 2e-4)], constants=(1, 2))


@given(geometry=windows(), kind=st.sampled_from(PoolKind), include=st.booleans(), seed=seeds, count=st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_pool2d(geometry: Any, kind: PoolKind, include: bool, seed: int, count: int) -> None:
    (h, w), kernel, p = geometry
    pads = (p["pad_top"], p["pad_left"], p["pad_bottom"], p["pad_right"])
    out = (2, *Window(kernel, (p["stride_h"], p["stride_w"]), (p["dilation_h"], p["dilation_w"]), pads).output((h, w)), count)
    params = {"kind": int(kind), "kernel_h": kernel[0], "kernel_w": kernel[1], **p, "count_include_pad": include}
    y = result(out, 0.25 if kind is PoolKind.MAX else 0.2)
    check_node("Pool2D", params, [codes(np.random.default_rng(seed), (2, h, w, count), 0.25)], [y])


_REDUCTIONS = ["MEAN", "SUM", "MAX", "MIN", "L1", "SUM_SQUARE"]


@given(kind=st.sampled_from(_REDUCTIONS), shape=shapes(1, 4, 4000), keep=st.booleans(), seed=seeds, data=st.data())
@settings(max_examples=150, deadline=None)
def test_reduce(kind: str, shape: tuple[int, ...], keep: bool, seed: int, data: Any) -> None:
    axes = sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    out = tuple(1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes)
    scale = 1e-3 if kind in ("MAX", "MIN") else 2e-3 if kind == "MEAN" else 0.05
    params = {"kind": int(ReduceKind[kind]), "axes": axes, "keep_dims": keep}
    check_node("Reduce", params, [codes(np.random.default_rng(seed), shape, 1e-3)], [result(out, scale)])


@given(
    taps=st.sampled_from([1, 2, 4]), sides=st.tuples(*[st.integers(1, 12)] * 4), count=st.integers(1, 20), seed=seeds
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_resize(taps: int, sides: tuple[int, int, int, int], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    h, w, oh, ow = sides
    params: dict[str, Any] = {"kind": {1: 0, 2: 1, 4: 2}[taps]}
    for axis, size, out in (("y", h, oh), ("x", w, ow)):
        params[f"{axis}_index"] = rng.integers(0, size, out * taps).tolist()
        if taps > 1:
            params[f"{axis}_weight"] = rng.normal(0.3, 0.4, out * taps).astype(np.float32).tolist()
    x = codes(rng, (2, h, w, count), 0.01)
    check_node("Resize", params, [x], [result((2, oh, ow, count), 0.01)])


def test_large_tensors_in_parts_of_threads() -> None:
    rng = np.random.default_rng(5)
    x = codes(rng, (1, 40, 52, 64), 1e-3)
    w, d = weights_int8(rng, (96, 3, 3, 64), 96, True), weights_int8(rng, (3, 3, 64), 64, True)
    same = {"pad_top": 1, "pad_left": 1, "pad_bottom": 1, "pad_right": 1}
    check_node("Conv2D", same, [x, w], [result((1, 40, 52, 96), 4e-3)], threads=(1, 2, 3))
    check_node("DepthwiseConv2D", same, [x, d], [result(x.array.shape, 4e-3)], threads=(1, 2, 3))
    check_node("Unary", {"kind": int(UnaryKind.GELU)}, [x], [result(x.array.shape, 1e-3)], threads=(1, 2, 3))


@pytest.mark.parametrize(
    ("op", "inputs", "out", "rule"),
    [
        ("FullyConnected", [("int16", 4), "weights"], ("INT8", (3, 2)), "linear.type"),
        ("FullyConnected", [("int8", 4), "weights"], ("INT16", (3, 2)), "linear.type"),
        ("Softmax", [("int16", 4)], ("INT8", (3, 4)), "softmax.type"),
        ("LayerNorm", [("int16", 4)], ("FLOAT32", (3, 4)), "layer_norm.type"),
        ("MatMul", [("int16", 4), ("int8", 4)], ("INT16", (3, 3)), "mat_mul.type"),
        ("Binary", [("int16", 4), ("int8", 4)], ("INT16", (3, 4)), "binary.type"),
        ("Unary", [("int16", 4)], ("INT8", (3, 4)), "unary.type"),
        ("Pool2D", [("int16", 4)], ("INT16", (3, 4)), "pool2d.rank"),
    ],
)
def test_check_refuses(op: str, inputs: list[Any], out: tuple[str, tuple[int, ...]], rule: str) -> None:
    made: list[Any] = []
    for kind in inputs:
        if kind == "weights":
            made.append(coded(np.ones((2, 4), np.int8), np.ones(1)))
        else:
            made.append(value(np.zeros((3, kind[1]), kind[0]), 0.5))
    if op == "FullyConnected":
        made += [None, np.full(2, 4, np.int32)]
    params = {"transpose_b": True} if op == "MatMul" else {}
    constants = (3,) if op == "FullyConnected" else ()
    y = tensor(out[1], DType[out[0]], None if out[0] == "FLOAT32" else 0.5)
    with pytest.raises(edge8.Edge8Error, match=rule.replace(".", r"\.")):
        edge8.Model(node_file(op, params, made, [y], constants))


def test_a_zero_point_is_refused() -> None:
    data = node_file("Reshape", {}, [value(np.zeros(4, np.int16), 0.5, 1)], [tensor((4,), DType.INT16, 0.5, 1)])
    with pytest.raises(edge8.Edge8Error, match=r"tensor\.scale"):
        edge8.Model(data)


def test_every_operator_with_an_int16_form_is_tested_here_or_moves_codes() -> None:
    moves = {"Concat", "Slice", "Pad", "Reshape", "Transpose", "Expand", "Tile", "Gather", "Where"}
    computes = {
        "Conv2D", "DepthwiseConv2D", "FullyConnected", "MatMul", "Binary", "Unary", "Softmax", "LayerNorm", "Pool2D", "Reduce", "Resize",
    }  # fmt: skip
    assert {name for name, operator in operators().items() if operator.int16} == moves | computes
