# SPDX-License-Identifier: Apache-2.0
"""merge_transposes, sink_reshapes, sink_transposes: transposes meet and vanish, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge8.converter.ops.binary import BinaryKind as B
from edge8.converter.ops.unary import UnaryKind as U
from edge8.converter.passes.layout import compose, inverse, trivial
from edge8.converter.passes.merge_transposes import push_down

from .graphs import Builder, apply, apply_all, counts, mark, only

NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_permutations_compose_like_numpy(p: list[int], q: list[int]) -> None:
    x = np.arange(120).reshape(2, 3, 4, 5)
    assert np.array_equal(x.transpose(p).transpose(q), x.transpose(compose(p, q)))
    assert np.array_equal(x.transpose(p).transpose(inverse(p)), x)


@given(
    st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=4).flatmap(lambda s: st.tuples(st.just(s), st.permutations(range(len(s)))))
)
def test_trivial_means_that_no_element_moves(case: tuple[list[int], list[int]]) -> None:
    shape, p = case
    x = np.arange(np.prod(shape)).reshape(shape)
    assert trivial(shape, p) == np.array_equal(x.transpose(p).reshape(-1), x.reshape(-1))


@settings(max_examples=300)
@given(st.data())
def test_reshape_before_transpose_gives_the_same(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4))
    perm = data.draw(st.permutations(range(len(shape))))
    factors = [f for d in (shape[a] for a in perm) for f in ((2, 2) if d == 4 else (d,))]
    target: list[int] = []
    for factor in factors:  # join some neighbours
        if target and data.draw(st.booleans()):
            target[-1] *= factor
        else:
            target.append(factor)
    x = np.arange(np.prod(shape)).reshape(shape)
    result = push_down(shape, perm, target)
    if result is not None:
        middle, moved = result
        assert np.array_equal(x.transpose(perm).reshape(target), x.reshape(middle).transpose(moved))


def test_two_transposes_are_one_or_none() -> None:
    b = Builder()
    x = b.transpose(b.transpose(b.transpose(b.input(2, 3, 4, 5), *NHWC), *NCHW), *NHWC)
    graph = apply(b.finish(b.op("Unary", x, kind=int(U.NEG))), "merge_transposes")
    assert only(graph, "Transpose").params["perm"] == list(NHWC)


def test_transpose_of_ones_is_a_reshape() -> None:
    b = Builder()
    x = b.transpose(b.input(1, 5, 1, 1), *NHWC)
    assert counts(apply(b.finish(b.op("Unary", x, kind=int(U.NEG))), "merge_transposes")) == {"Reshape": 1, "Unary": 1}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("axes", [[2, 3], [1], [0, 2]])
def test_reduction_renames_its_axes(axes: list[int], keep: bool) -> None:
    b = Builder()
    x = b.transpose(b.input(2, 3, 4, 5), *NCHW)
    y = b.op("Reduce", x, kind=0, axes=axes, keep_dims=keep)
    graph = apply(b.finish(b.op("Unary", y, kind=int(U.NEG))), "merge_transposes")
    assert graph.nodes[0].op == "Reduce"


def test_arg_max_renames_its_axis() -> None:
    b = Builder()
    y = b.op("ArgMax", b.transpose(b.input(2, 3, 4, 5), *NCHW), axis=1, keep_dims=False)
    assert counts(apply(b.finish(y), "merge_transposes")) == {"ArgMax": 1}


def test_reshape_between_transposes_leaves_one() -> None:
    b = Builder()
    x = b.transpose(b.input(2, 4, 5, 12), *NCHW)  # a depth-to-space in the middle of an NHWC network
    y = b.transpose(b.reshape(x, 2, 2, 2, 3, 4, 5), 0, 3, 4, 1, 5, 2)
    z = b.transpose(b.reshape(y, 2, 3, 8, 10), *NHWC)
    graph = apply_all(b.finish(b.op("Unary", z, kind=int(U.NEG))))
    assert counts(graph)["Transpose"] == 1


def test_flattened_transpose_goes_into_the_weights() -> None:
    b = Builder()
    x = b.op("Unary", b.input(2, 3, 4, 5), kind=int(U.EXP))
    flat = b.reshape(b.transpose(x, *NCHW), 2, 60)
    graph = apply(b.finish(b.dense(b.op("Unary", flat, kind=int(U.NEG)), 7)), "merge_transposes")
    assert "Transpose" not in counts(graph)


def test_flattened_transpose_with_other_readers_stays() -> None:
    b = Builder()
    flat = b.reshape(b.transpose(b.input(2, 3, 4, 5), *NCHW), 2, 60)
    apply(b.finish(b.dense(flat, 7), b.op("Unary", flat, kind=int(U.NEG))), "merge_transposes", changes=False)


def test_matmul_reads_a_transposed_operand() -> None:
    b = Builder()
    y = b.op("MatMul", b.input(2, 3, 4), b.transpose(b.input(2, 5, 4, name="y"), 0, 2, 1))
    graph = apply(b.finish(y), "merge_transposes")
    assert only(graph, "MatMul").params["transpose_b"]
    assert "Transpose" not in counts(graph)


def region(b: Builder, x: str) -> str:
    """Elementwise nodes on NCHW with constants of each kind."""
    y = b.op("Binary", x, b.random(1, 6, 1, 1), kind=int(B.MUL))
    y = b.op("Binary", y, b.random(6, 1, 1), kind=int(B.ADD))
    y = b.op("Unary", y, kind=int(U.TANH))
    z = b.op("Pad", y, before=[0, 1, 0, 2], after=[0, 0, 3, 0], value=1.0)
    z = b.op("Slice", z, result=(1, 6, 5, 5), start=[0, 1, 2, 2], step=[1, 1, 1, 1])
    z = b.op("Binary", z, b.const(0.5), kind=int(B.MAX))
    return b.op("Concat", y, z, axis=1)


def test_elementwise_region_takes_the_layout_around_it() -> None:
    b = Builder()
    x = b.transpose(b.conv(b.input(1, 5, 5, 3), 6), *NCHW)
    y = b.transpose(region(b, x), *NHWC)
    graph = apply_all(b.finish(b.conv(y, 4)))
    assert "Transpose" not in counts(graph)


def test_layout_at_the_edges_is_the_users() -> None:
    b = Builder()
    x = b.transpose(b.input(1, 3, 8, 8), *NHWC)
    y = b.transpose(b.conv(x, 4), *NCHW)
    y = b.op("Unary", y, kind=int(U.TANH))
    y = b.transpose(b.conv(b.transpose(y, *NHWC), 4), *NCHW)
    graph = apply_all(b.finish(b.op("Unary", y, kind=int(U.EXP))))
    assert [n.op for n in graph.nodes] == ["Transpose", "Conv2D", "Unary", "Conv2D", "Unary", "Transpose"]
    assert graph.tensors[graph.inputs[0]].shape == (1, 3, 8, 8)
    assert graph.tensors[graph.outputs[0]].shape == (1, 4, 8, 8)


def test_two_layouts_meet_where_it_costs_least() -> None:
    b = Builder()
    x = b.transpose(b.conv(b.input(1, 8, 8, 3), 4), *NCHW)
    small = b.input(1, 4, 1, 1, name="s")
    y = b.op("Binary", b.op("Binary", x, small, kind=int(B.MUL)), b.input(4, 8, 1, name="t"), kind=int(B.ADD))
    graph = apply_all(b.finish(b.conv(b.transpose(y, *NHWC), 2)))
    moved = [graph.tensors[n.inputs[0]].elements for n in graph.nodes if n.op == "Transpose"]
    assert moved == [32]


def test_slope_and_condition_follow() -> None:
    b = Builder()
    x = b.transpose(b.input(1, 4, 5, 6), *NCHW)
    y = b.op("Binary", x, b.random(6, 1, 1), kind=int(B.PRELU))
    c = b.op("Binary", y, b.const(0.0), kind=int(B.GREATER))
    z = b.op("Where", c, y, b.random(1, 6, 1, 1))
    graph = apply_all(b.finish(b.transpose(z, *NHWC)))
    assert "Transpose" not in counts(graph)


def test_scale_of_a_moved_tensor_goes_with_it() -> None:
    b = Builder()
    x = b.transpose(b.input(1, 4, 5, 6), *NCHW)
    y = b.op("Unary", x, kind=int(U.EXP))
    mark(b.graph, y, 0.25, -128)
    z = b.op("Unary", y, kind=int(U.SQRT))
    graph = apply_all(b.finish(b.transpose(z, *NHWC)))
    middle = graph.tensors[graph.nodes[0].outputs[0]]
    assert "Transpose" not in counts(graph)
    assert middle.scale is not None
    assert (float(middle.scale[0]), middle.zero_point) == (0.25, -128)


def test_reshape_sinks_through_elementwise_nodes() -> None:
    b = Builder()
    x = b.reshape(b.conv(b.input(1, 1, 9, 3), 4, size=1, pad=0), 1, 9, 4)
    y = b.op("Binary", x, b.random(4), kind=int(B.MUL))
    y = b.op("Binary", y, b.reshape(b.input(1, 1, 9, 4, name="r"), 1, 9, 4), kind=int(B.ADD))
    y = b.op("Pad", b.op("Unary", y, kind=int(U.TANH)), before=[0, 2, 0], after=[0, 1, 0])
    y = b.op("Slice", b.op("Concat", y, y, axis=2), result=(1, 6, 8), start=[0, 11, 0], step=[1, -2, 1])
    graph = apply_all(b.finish(b.conv(b.reshape(y, 1, 1, 6, 8), 2, size=1, pad=0)))
    assert "Reshape" not in counts(graph)


def test_reshape_that_mixes_axes_stays() -> None:
    b = Builder()
    x = b.reshape(b.input(2, 6), 3, 4)
    apply(b.finish(b.op("Binary", x, b.random(4), kind=int(B.MUL))), "sink_reshapes", changes=False)


def test_scale_behind_a_move_goes_in_front_of_it() -> None:
    b = Builder()
    x = b.op("Unary", b.input(1, 4, 5, 6), kind=int(U.EXP))
    y = b.transpose(x, *NCHW)
    mark(b.graph, y, 0.25, -128)
    z = b.transpose(b.op("Unary", b.transpose(y, *NHWC), kind=int(U.SQRT)), *NCHW)
    graph = apply(b.finish(z), "hoist_scales")
    assert graph.tensors[x].scale is not None
    assert graph.tensors[y].scale is None
    assert counts(apply_all(graph)) == {"Unary": 2, "Transpose": 1}


@pytest.mark.parametrize("obstacle", ["other reader", "other scale", "concat"])
def test_scale_that_says_something_else_stays(obstacle: str) -> None:
    b = Builder()
    x = b.op("Unary", b.input(1, 4, 5, 6), kind=int(U.EXP))
    y = b.op("Concat", x, b.input(1, 4, 5, 6), axis=1) if obstacle == "concat" else b.transpose(x, *NCHW)
    mark(b.graph, y, 0.25, -128)
    if obstacle == "other scale":
        mark(b.graph, x, 0.5, -128)
    z = b.op("Unary", y, kind=int(U.SQRT))
    apply(b.finish(z, b.op("Unary", x, kind=int(U.NEG))) if obstacle == "other reader" else b.finish(z), "hoist_scales", changes=False)
