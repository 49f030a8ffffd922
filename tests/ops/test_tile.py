# SPDX-License-Identifier: Apache-2.0
"""Tile over generated shapes and types."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from tests.ops.harness import check_node, run_node, tensor
from tests.ops.onnx_case import check_onnx
from tests.ops.shapes import MOVED, content, result, shapes


@given(kind=st.sampled_from(MOVED), shape=shapes(elements=500), data=st.data())
@settings(max_examples=150, deadline=None)
def test_repetition(kind: Any, shape: tuple[int, ...], data: st.DataObject) -> None:
    repeats = [data.draw(st.sampled_from([1, 1, 2, 3])) for _ in shape]
    check_node("Tile", {}, [content(kind, shape, 6)], [result(kind, tuple(d * r for d, r in zip(shape, repeats, strict=True)))])


def test_in_parts_of_threads() -> None:
    for kind in MOVED:
        check_node("Tile", {}, [content(kind, (5, 7, 11), 7)], [result(kind, (50, 70, 110))], threads=(1, 3))


def test_shapes_that_do_not_divide_are_refused() -> None:
    for shape in ((3, 3), (2, 2), (2, 3, 3)):
        with pytest.raises(edge8.FormatError, match=r"tile\.shape"):
            run_node("Tile", {}, [np.zeros((2, 3), np.float32)], [tensor(shape)])


def test_import_tile() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for repeats in ([2, 3], [1, 1], [1, 4]):
        check_onnx(onnx.helper.make_node("Tile", ["x", "r"], ["y"]), {"x": x}, {"r": np.array(repeats, np.int64)})
