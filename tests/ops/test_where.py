# SPDX-License-Identifier: Apache-2.0
"""Where over generated shapes and types."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.graph import DType, Graph, Node, Tensor
from edge8.converter.ops import Scales, operators
from tests.ops.harness import check_node, run_node, tensor
from tests.ops.onnx_case import check_onnx
from tests.ops.shapes import MOVED, content, result, shapes


@given(kind=st.sampled_from(MOVED), shape=shapes(elements=3000), data=st.data())
@settings(max_examples=200, deadline=None)
def test_choice(kind: Any, shape: tuple[int, ...], data: st.DataObject) -> None:
    parts = []
    for _ in range(3):
        cut = data.draw(st.integers(0, len(shape)))
        parts.append(tuple(1 if data.draw(st.booleans()) else d for d in shape[cut:]))
    condition = content(DType.BOOL, parts[0], 15)
    inputs = [condition, content(kind, parts[1], 16), content(kind, parts[2], 17)]
    check_node("Where", {}, inputs, [result(kind, np.broadcast_shapes(*parts))], constants=data.draw(st.sampled_from([(), (0,), (2,)])))


def test_in_parts_of_threads() -> None:
    for kind in MOVED:
        for last in ((500, 800), (1,), (500, 1)):
            inputs = [content(DType.BOOL, (500, 800), 1), content(kind, (500, 800), 2), content(kind, last, 3)]
            check_node("Where", {}, inputs, [result(kind, (500, 800))], threads=(1, 3))


def test_other_types_are_refused() -> None:
    x = np.zeros(3, np.float32)
    with pytest.raises(edge8.FormatError, match=r"where\.condition"):
        run_node("Where", {}, [np.zeros(3, np.int32), x, x], [tensor((3,))])
    with pytest.raises(edge8.FormatError, match=r"op\.type"):
        run_node("Where", {}, [np.zeros(3, np.bool_), x, np.zeros(3, np.int32)], [tensor((3,))])


def test_masks_keep_where_in_float() -> None:
    graph = Graph(inputs=["c", "x"], outputs=["y"])
    graph.add(Tensor("c", (3,), DType.BOOL))
    graph.add(Tensor("x", (3,)))
    graph.add(Tensor("y", (3,)))
    for number, form in ((-1e9, Scales.FLOAT), (-np.inf, Scales.FLOAT), (1.0, Scales.SAME)):
        name = graph.constant(np.array([number], np.float32), "m")
        node = Node("Where", ["c", "x", name], ["y"])
        assert operators()["Where"].quantisation(node, graph).scales is form


def test_import_where() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    node = onnx.helper.make_node("Where", ["c", "x", "z"], ["y"])
    check_onnx(node, {"c": x > 2, "x": x, "z": -x[:1]})
    check_onnx(node, {"c": x > 2, "x": x}, {"z": np.float32(-1e9)})
