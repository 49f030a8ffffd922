# SPDX-License-Identifier: Apache-2.0
"""fuse_pad, fuse_batch_norm, fuse_activation, fuse_residual: neighbours move into operators with weights."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge8.converter.graph import DType
from edge8.converter.ops.binary import BinaryKind as B
from edge8.converter.ops.unary import UnaryKind as U

from .graphs import Builder, apply, apply_all, counts, mark, only

RELU = {"kind": int(U.CLIP), "alpha": 0.0, "beta": math.inf}


def pad(b: Builder, x: str, value: float = 0.0, kind: int = 0) -> str:
    return b.op("Pad", x, before=[0, 1, 0, 0], after=[0, 1, 2, 0], value=value, kind=kind)


def test_padding_goes_into_the_convolution() -> None:
    b = Builder()
    graph = apply(b.finish(b.conv(pad(b, b.input(1, 6, 6, 2)), 3, size=3, pad=0)), "fuse_pad")
    assert counts(graph) == {"Conv2D": 1}
    params = only(graph, "Conv2D").params
    assert [params[f"pad_{side}"] for side in ("top", "left", "bottom", "right")] == [1, 0, 1, 2]


@pytest.mark.parametrize(("value", "kind", "size"), [(1.0, 0, 3), (0.0, 1, 3), (0.0, 2, 3), (0.0, 0, 2)])
def test_padding_that_is_not_the_convolutions_stays(value: float, kind: int, size: int) -> None:
    b = Builder()
    apply(b.finish(b.conv(pad(b, b.input(1, 6, 6, 2), value, kind), 3, size=size, pad=0)), "fuse_pad", changes=False)


@pytest.mark.parametrize(("value", "positive", "fuses"), [(-math.inf, False, True), (0.0, True, True), (0.0, False, False)])
def test_padding_before_max_pooling(value: float, positive: bool, fuses: bool) -> None:
    b = Builder()
    x = b.op("Unary", b.input(1, 6, 6, 2), **(RELU if positive else {"kind": int(U.NEG)}))
    y = b.op("Pool2D", pad(b, x, value), kind=0, kernel_h=3, kernel_w=3)
    assert ("Pad" in counts(apply(b.finish(y), "fuse_pad", changes=fuses))) != fuses


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("own", [0, 1])
def test_padding_before_average_pooling(own: int, counted: bool) -> None:
    b = Builder()
    x = pad(b, b.input(1, 6, 6, 2))
    y = b.op("Pool2D", x, kind=1, kernel_h=4, kernel_w=4, pad_top=own, pad_right=own, count_include_pad=counted)
    apply(b.finish(y), "fuse_pad", changes=not own or counted)


def test_concat_with_zeros_is_padding() -> None:
    b = Builder()
    x = b.op("Unary", b.input(1, 4, 4, 2), kind=int(U.EXP))
    graph = apply(b.finish(b.op("Concat", b.const(np.zeros((1, 4, 4, 1))), x, b.const(np.zeros((1, 4, 4, 3))), axis=3)), "fuse_pad")
    assert (only(graph, "Pad").params["before"], only(graph, "Pad").params["after"]) == ([0, 0, 0, 1], [0, 0, 0, 3])


def operator(b: Builder, table: str, x: str) -> str:
    """An operator with weights on x [1,6,6,4] that gives 8 channels."""
    if table == "Conv2D":
        return b.conv(x, 8, pad=1, bias=False, group=2)
    if table == "DepthwiseConv2D":
        return b.op(table, x, b.random(3, 3, 8), b.random(8), multiplier=2, pad_top=1, pad_bottom=1, pad_left=1, pad_right=1)
    if table == "ConvTranspose2D":
        return b.op(table, x, b.random(8, 2, 2, 2), b.random(8), stride_h=2, stride_w=2, group=2)
    return b.dense(x, 8)


TABLES = ["Conv2D", "DepthwiseConv2D", "ConvTranspose2D", "FullyConnected"]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("scalar", [True, False])
def test_batch_norm_after(table: str, scalar: bool) -> None:
    b = Builder()
    y = b.op("Binary", operator(b, table, b.input(1, 6, 6, 4)), b.const(2.0) if scalar else b.random(8), kind=int(B.MUL))
    y = b.op("Binary", y, b.const(0.5) if scalar else b.random(1, 1, 1, 8), kind=int(B.ADD))
    graph = apply_all(b.finish(b.op("Unary", y, **RELU)))
    assert counts(graph) == {table: 1}
    assert only(graph, table).params["act_min"] == 0.0


@pytest.mark.parametrize("table", TABLES)
def test_factor_before(table: str) -> None:
    b = Builder()
    x = b.op("Binary", b.op("Unary", b.input(1, 6, 6, 4), kind=int(U.TANH)), b.random(4), kind=int(B.MUL))
    graph = apply(b.finish(operator(b, table, x)), "fuse_batch_norm")
    assert counts(graph) == {"Unary": 1, table: 1}


@pytest.mark.parametrize("padding", [0, 1])
def test_sums_per_channel_before_need_a_window_without_padding(padding: int) -> None:
    b = Builder()
    x = b.op("Binary", b.op("Unary", b.input(1, 6, 6, 4), kind=int(U.TANH)), b.random(4), kind=int(B.ADD))
    apply(b.finish(b.conv(x, 8, pad=padding, group=2)), "fuse_batch_norm", changes=padding == 0)


@pytest.mark.parametrize("table", ["Conv2D", "DepthwiseConv2D"])
def test_number_before_goes_into_the_window_and_its_padding(table: str) -> None:
    """conv(0.5 * f(x) - 2), padded with zeros: those are 4 before the factor and the sum."""
    b = Builder()
    x = b.op("Unary", b.input(1, 6, 6, 4), kind=int(U.HARD_SWISH))
    x = b.op("Binary", b.op("Binary", x, b.const([0.5]), kind=int(B.MUL)), b.const([-2.0]), kind=int(B.ADD))
    graph = apply_all(b.finish(operator(b, table, x)))
    assert counts(graph) == {"Unary": 1, "Pad": 1, table: 1}
    params = only(graph, "Pad").params
    assert (params["before"], params["after"], params["value"]) == ([0, 1, 1, 0], [0, 1, 1, 0], 4.0)
    assert not any(only(graph, table).params.get(f"pad_{side}", 0) for side in ("top", "left", "bottom", "right"))


def test_number_before_padding_with_another_value() -> None:
    b = Builder()
    x = b.op("Binary", b.op("Unary", b.input(1, 6, 6, 2), kind=int(U.TANH)), b.const([0.5]), kind=int(B.MUL))
    graph = apply(b.finish(b.conv(pad(b, x, 3.0), 3, pad=0)), "fuse_batch_norm")
    assert counts(graph) == {"Unary": 1, "Pad": 1, "Conv2D": 1}
    assert only(graph, "Pad").params["value"] == 6.0


@pytest.mark.parametrize("what", ["second reader of the padding", "factor 0", "window that pads too"])
def test_number_before_padding_that_stays(what: str) -> None:
    b = Builder()
    x = b.op("Unary", b.input(1, 6, 6, 2), kind=int(U.TANH))
    padded = pad(b, b.op("Binary", x, b.const([0.0 if what == "factor 0" else 0.5]), kind=int(B.MUL)), 3.0)
    outputs = [b.conv(padded, 3, pad=int(what == "window that pads too"))]
    if what == "second reader of the padding":
        outputs.append(b.op("Unary", padded, kind=int(U.EXP)))
    apply(b.finish(*outputs), "fuse_batch_norm", changes=False)


def test_factor_along_another_axis_stays() -> None:
    b = Builder()
    y = b.op("Binary", b.conv(b.input(1, 6, 6, 4), 6), b.random(6, 1), kind=int(B.MUL))
    apply(b.finish(y), "fuse_batch_norm", changes=False)


def test_result_with_two_readers_keeps_its_value() -> None:
    b = Builder()
    y = b.conv(b.input(1, 6, 6, 4), 6)
    apply(b.finish(b.op("Binary", y, b.random(6), kind=int(B.MUL)), b.op("Unary", y, kind=int(U.EXP))), "fuse_batch_norm", changes=False)


def test_codes_keep_their_value_and_scales_are_multiplied() -> None:
    b = Builder()
    y = b.conv(b.input(1, 6, 6, 4), 6)
    weights = b.graph.tensors[b.graph.nodes[0].inputs[1]]
    assert weights.data is not None
    weights.data, weights.dtype = np.rint(weights.data * 127).astype(np.int8), DType.INT8
    weights.scale = np.linspace(0.01, 0.02, 6).astype(np.float32)
    codes = weights.data
    y = b.op("Binary", y, b.const([1.0, -2.0, 3.0, 0.5, 1.5, -1.0]), kind=int(B.MUL))
    graph = apply(b.finish(y), "fuse_batch_norm")
    new = graph.tensors[only(graph, "Conv2D").inputs[1]]
    assert new.data is not None
    assert np.array_equal(np.abs(new.data), np.abs(codes))


@pytest.mark.parametrize("table", [*TABLES, "MatMul", "Binary"])
def test_activation_becomes_limits(table: str) -> None:
    b = Builder()
    x = b.input(1, 6, 6, 4)
    if table == "MatMul":
        y = b.op("MatMul", x, b.input(4, 5, name="w"))
    elif table == "Binary":
        y = b.op("Binary", x, b.input(4, name="w"), kind=int(B.SUB))
    else:
        y = operator(b, table, x)
    y = b.op("Unary", b.op("Unary", y, **RELU), kind=int(U.CLIP), alpha=-1.0, beta=6.0)
    graph = apply(b.finish(y), "fuse_activation")
    assert counts(graph) == {table: 1}
    assert (graph.nodes[0].params["act_min"], graph.nodes[0].params["act_max"]) == (0.0, 6.0)


def test_activation_of_a_marked_or_shared_tensor_stays() -> None:
    b = Builder()
    y = b.conv(b.input(1, 6, 6, 4), 6)
    z = b.conv(b.input(1, 6, 6, 4), 6)
    mark(b.graph, z, 0.1)
    graph = b.finish(b.op("Unary", y, **RELU), b.op("Unary", y, kind=int(U.EXP)), b.op("Unary", z, **RELU))
    apply(graph, "fuse_activation", changes=False)


@pytest.mark.parametrize("table", ["Conv2D", "FullyConnected"])
def test_residual_and_the_activation_behind_it(table: str) -> None:
    b = Builder()
    x = b.op("Unary", b.input(1, 6, 6, 8), kind=int(U.TANH))
    y = b.conv(x, 8) if table == "Conv2D" else b.dense(x, 8)
    y = b.op("Unary", b.op("Binary", x, y, kind=int(B.ADD)), **RELU)
    graph = apply_all(b.finish(y))
    assert counts(graph) == {"Unary": 1, table: 1}
    assert only(graph, table).inputs[4] == graph.nodes[0].outputs[0]
    assert only(graph, table).params["act_min"] == 0.0


def test_of_two_branches_the_later_one_takes_the_sum() -> None:
    b = Builder()
    x = b.input(1, 6, 6, 8)
    graph = apply(b.finish(b.op("Binary", b.conv(x, 8), b.conv(b.conv(x, 8), 8), kind=int(B.ADD))), "fuse_residual")
    assert counts(graph) == {"Conv2D": 3}
    assert len(graph.nodes[-1].inputs) == 5


@pytest.mark.parametrize("what", ["broadcast", "constant", "activation", "itself"])
def test_sum_that_is_no_residual_stays(what: str) -> None:
    b = Builder()
    x = b.input(1, 6, 6, 8)
    y = b.conv(x, 8, **({"act_min": 0.0} if what == "activation" else {}))
    other = {"broadcast": lambda: b.input(1, 1, 1, 8), "constant": lambda: b.random(1, 6, 6, 8), "activation": lambda: x}
    apply(b.finish(b.op("Binary", y, y if what == "itself" else other[what](), kind=int(B.ADD))), "fuse_residual", changes=False)
