# SPDX-License-Identifier: Apache-2.0
"""fold_constants, remove_identity, common_subexpressions, normalise_arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge8.converter.graph import DType
from edge8.converter.ops.binary import BinaryKind as B
from edge8.converter.ops.unary import UnaryKind as U

from .graphs import Builder, apply, counts, mark, only


def test_constant_expression_becomes_its_value() -> None:
    b = Builder()
    x = b.input(2, 3)
    c = b.op("Unary", b.op("Binary", b.random(2, 3), b.random(3), kind=int(B.ADD)), kind=int(U.EXP))
    graph = apply(b.finish(b.op("Binary", x, c, kind=int(B.MUL))), "fold_constants")
    assert counts(graph) == {"Binary": 1}


def test_copy_of_a_constant_to_an_output_stays() -> None:
    b = Builder()
    b.input(2, 3)
    apply(b.finish(b.reshape(b.random(6), 2, 3)), "fold_constants", changes=False)


@pytest.mark.parametrize(
    ("table", "params"),
    [
        ("Reshape", {}),
        ("Transpose", {"perm": [0, 1, 2, 3]}),
        ("Slice", {"start": [0, 0, 0, 0], "step": [1, 1, 1, 1]}),
        ("Pad", {"before": [0, 0, 0, 0], "after": [0, 0, 0, 0]}),
        ("Cast", {}),
        ("Expand", {}),
        ("Tile", {}),
        ("Concat", {"axis": 1}),
        ("Unary", {"kind": int(U.IDENTITY)}),
        ("Unary", {"kind": int(U.CLIP), "alpha": -math.inf, "beta": math.inf}),
        ("Pool2D", {}),
    ],
)
def test_node_that_changes_nothing_goes(table: str, params: dict[str, object]) -> None:
    b = Builder()
    x = b.input(1, 4, 4, 2)
    y = b.op(table, b.op("Unary", x, kind=int(U.EXP)), result=(1, 4, 4, 2), **params)
    graph = apply(b.finish(b.op("Unary", y, kind=int(U.NEG))), "remove_identity")
    assert counts(graph) == {"Unary": 2}


@pytest.mark.parametrize(
    ("table", "result", "params"),
    [
        ("Reshape", (1, 16, 2), {}),
        ("Slice", (1, 4, 4, 2), {"start": [0, 3, 0, 0], "step": [1, -1, 1, 1]}),
        ("Expand", (3, 4, 4, 2), {}),
        ("Unary", (1, 4, 4, 2), {"kind": int(U.CLIP), "alpha": 0.0, "beta": math.inf}),
        ("Pool2D", (1, 2, 2, 2), {"stride_h": 2, "stride_w": 2}),
    ],
)
def test_node_that_changes_something_stays(table: str, result: tuple[int, ...], params: dict[str, object]) -> None:
    b = Builder()
    y = b.op(table, b.input(1, 4, 4, 2), result=result, **params)
    apply(b.finish(b.op("Unary", y, kind=int(U.NEG))), "remove_identity", changes=False)


@pytest.mark.parametrize(("kind", "value"), [(B.ADD, 0.0), (B.SUB, 0.0), (B.MUL, 1.0), (B.DIV, 1.0), (B.POW, 1.0)])
def test_neutral_operand(kind: B, value: float) -> None:
    b = Builder()
    x = b.input(2, 3)
    y = b.op("Binary", b.op("Unary", x, kind=int(U.ABS)), b.const(np.full((1, 3), value)), kind=int(kind))
    graph = apply(b.finish(b.op("Unary", y, kind=int(U.NEG))), "remove_identity")
    assert counts(graph) == {"Unary": 2}


def test_neutral_operand_that_broadcasts_stays() -> None:
    b = Builder()
    y = b.op("Binary", b.input(1, 3), b.const(np.zeros((4, 3))), kind=int(B.ADD))
    apply(b.finish(b.op("Unary", y, kind=int(U.NEG))), "remove_identity", changes=False)


def test_zero_minus_x_is_not_x() -> None:
    b = Builder()
    y = b.op("Binary", b.const(np.zeros((2, 3))), b.input(2, 3), kind=int(B.SUB))
    apply(b.finish(b.op("Unary", y, kind=int(U.EXP))), "remove_identity", changes=False)


def test_reshapes_join_and_reduction_of_one_is_a_reshape() -> None:
    b = Builder()
    y = b.op("Reduce", b.reshape(b.reshape(b.input(2, 6), 3, 4), 1, 12), kind=0, axes=[0], keep_dims=False)
    graph = apply(b.finish(b.op("Unary", y, kind=int(U.NEG))), "remove_identity")
    assert counts(graph) == {"Reshape": 1, "Unary": 1}


def test_identity_between_two_scales_stays() -> None:
    b = Builder()
    x = b.op("Unary", b.input(2, 3), kind=int(U.EXP))
    y = b.op("Unary", x, kind=int(U.IDENTITY))
    mark(b.graph, x, 0.1)
    mark(b.graph, y, 0.2)
    apply(b.finish(b.op("Unary", y, kind=int(U.NEG))), "remove_identity", changes=False)


def test_scale_moves_to_the_tensor_that_stays() -> None:
    b = Builder()
    x = b.op("Unary", b.input(2, 3), kind=int(U.EXP))
    y = b.op("Unary", x, kind=int(U.IDENTITY))
    mark(b.graph, y, 0.2, 3)
    graph = apply(b.finish(b.op("Unary", y, kind=int(U.NEG))), "remove_identity")
    kept = graph.tensors[graph.nodes[1].inputs[0]]
    assert kept.scale is not None
    assert (float(kept.scale[0]), kept.zero_point) == (np.float32(0.2), 3)


def test_equal_nodes_and_constants_exist_once() -> None:
    b = Builder()
    x, c = b.input(2, 3), b.random(3)
    d = b.const(np.array(b.graph.tensors[c].data))
    y = [b.op("Unary", b.op("Binary", x, name, kind=int(B.ADD)), kind=int(U.EXP)) for name in (c, d)]
    graph = apply(b.finish(b.op("Binary", *y, kind=int(B.MUL))), "common_subexpressions")
    assert counts(graph) == {"Binary": 2, "Unary": 1}
    assert sum(t.constant for t in graph.tensors.values()) == 1


def test_two_equal_outputs_keep_their_names() -> None:
    b = Builder()
    x = b.input(2, 3)
    apply(b.finish(*(b.op("Unary", x, kind=int(U.EXP)) for _ in range(2))), "common_subexpressions", changes=False)


def test_constants_of_one_content_and_two_types_differ() -> None:
    b = Builder()
    x = b.input(2, dtype=DType.INT32)
    y = b.op("Binary", x, b.const(np.zeros(2, np.int32)), kind=int(B.ADD))
    z = b.op("Cast", y, result=(2,), dtype=DType.FLOAT32)
    apply(b.finish(b.op("Binary", z, b.const(np.zeros(2, np.float32)), kind=int(B.ADD))), "common_subexpressions", changes=False)


@pytest.mark.parametrize(("kind", "wanted"), [(B.DIV, B.MUL), (B.SUB, B.ADD)])
def test_constant_operand_is_turned_over(kind: B, wanted: B) -> None:
    b = Builder()
    graph = apply(b.finish(b.op("Binary", b.input(2, 3), b.random(3, low=0.5, high=2), kind=int(kind))), "normalise_arithmetic")
    assert only(graph, "Binary").params["kind"] == wanted


def test_division_by_zero_stays() -> None:
    b = Builder()
    graph = b.finish(b.op("Binary", b.input(2, 3), b.const([1.0, 0.0, 2.0]), kind=int(B.DIV)))
    from edge8.converter.passes.base import passes

    assert not passes(("normalise_arithmetic",))[0].run(graph)


def test_integers_are_left_alone() -> None:
    b = Builder()
    y = b.op("Binary", b.input(2, 3, dtype=DType.INT64), b.const(np.array([2, 3, 4])), kind=int(B.DIV))
    apply(b.finish(y), "normalise_arithmetic", changes=False)


@pytest.mark.parametrize(("kind", "bounds"), [(B.MAX, (0.5, math.inf)), (B.MIN, (-math.inf, 0.5))])
def test_limit_is_a_clip(kind: B, bounds: tuple[float, float]) -> None:
    b = Builder()
    graph = apply(b.finish(b.op("Binary", b.const(0.5), b.input(2, 3), kind=int(kind))), "normalise_arithmetic")
    node = only(graph, "Unary")
    assert (node.params["kind"], node.params["alpha"], node.params["beta"]) == (U.CLIP, *bounds)


def test_square_and_factors_join() -> None:
    b = Builder()
    x = b.input(2, 3)
    y = b.op("Binary", b.op("Binary", x, b.random(3), kind=int(B.MUL)), b.const(2.0), kind=int(B.MUL))
    graph = apply(b.finish(b.op("Binary", y, y, kind=int(B.MUL))), "normalise_arithmetic")
    assert counts(graph) == {"Binary": 1, "Unary": 1}
    assert only(graph, "Unary").params == {"kind": int(U.POW), "alpha": 2.0}
