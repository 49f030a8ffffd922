# SPDX-License-Identifier: Apache-2.0
"""Concat over generated shapes and types."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.errors import ConvertError
from edge8.converter.graph import DType
from tests.ops.harness import check_node, run_node, tensor, value
from tests.ops.onnx_case import check_onnx, import_onnx
from tests.ops.shapes import MOVED, content, result, shapes


@given(kind=st.sampled_from(MOVED), shape=shapes(low=1, elements=1500), data=st.data())
@settings(max_examples=150, deadline=None)
def test_joining(kind: Any, shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    parts = [content(kind, (*shape[:axis], s, *shape[axis + 1 :]), i) for i, s in enumerate(sizes)]
    check_node(
        "Concat",
        {"axis": axis},
        parts,
        [result(kind, (*shape[:axis], sum(sizes), *shape[axis + 1 :]))],
        constants=(0,) if len(sizes) > 1 else (),
    )


def test_in_parts_of_threads() -> None:
    for kind in MOVED:
        parts = [content(kind, (1, 56, 56, c), c) for c in (24, 72, 3, 64)]
        check_node("Concat", {"axis": 3}, parts, [result(kind, (1, 56, 56, 163))], threads=(1, 3))


def test_other_shapes_and_scales_are_refused() -> None:
    a, b = np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)
    with pytest.raises(edge8.FormatError, match=r"concat\.shape"):
        run_node("Concat", {"axis": 0}, [a, b], [tensor((4, 3))])
    with pytest.raises(edge8.FormatError, match=r"concat\.shape"):
        run_node("Concat", {"axis": 1}, [a, b], [tensor((2, 8))])
    with pytest.raises(edge8.FormatError, match=r"concat\.axis"):
        run_node("Concat", {"axis": 2}, [a, b], [tensor((2, 7))])
    codes = [value(np.zeros((2, 2), np.int8), s) for s in (0.5, 0.25)]
    with pytest.raises(edge8.FormatError, match=r"op\.scale"):
        run_node("Concat", {"axis": 0}, codes, [tensor((4, 2), DType.INT8, 0.5)])


def test_import_concat() -> None:
    x = {n: np.full((2, i + 1), i, np.float32) for i, n in enumerate("abc")}
    check_onnx(onnx.helper.make_node("Concat", list(x), ["y"], axis=-1), x)
    check_onnx(onnx.helper.make_node("Concat", ["a", "a"], ["y"], axis=0), {"a": x["a"]})
    check_onnx(onnx.helper.make_node("Concat", ["a"], ["y"], axis=0), {"a": x["a"]})
    with pytest.raises(ConvertError):
        import_onnx(onnx.helper.make_node("Concat", ["a", "a"], ["y"], axis=2, name="c"), {"a": x["a"]})
