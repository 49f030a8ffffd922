# SPDX-License-Identifier: Apache-2.0
"""Expand over generated shapes and types."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.errors import ConvertError
from tests.ops.harness import check_node, run_node, tensor
from tests.ops.onnx_case import check_onnx, import_onnx
from tests.ops.shapes import MOVED, content, result, shapes


@given(kind=st.sampled_from(MOVED), shape=shapes(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_broadcasting(kind: Any, shape: tuple[int, ...], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(shape)))
    source = tuple(1 if data.draw(st.booleans()) else d for d in shape[cut:])
    check_node("Expand", {}, [content(kind, source, 4)], [result(kind, shape)])


@pytest.mark.parametrize("source", [(1,), (64, 1, 1), (1, 1, 96), (1, 90, 1)])
def test_in_parts_of_threads(source: tuple[int, ...]) -> None:
    for kind in MOVED:
        check_node("Expand", {}, [content(kind, source, 5)], [result(kind, (64, 90, 96))], threads=(1, 3))


def test_shapes_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(edge8.FormatError, match=r"op\.broadcast"):
        run_node("Expand", {}, [np.zeros((2, 3), np.float32)], [tensor((2, 4))])


def test_import_expand() -> None:
    x = np.arange(3, dtype=np.float32).reshape(3, 1)
    for shape in ([2, 3, 4], [1], [3, 4], [3, 1], [2, 1, 6]):
        check_onnx(onnx.helper.make_node("Expand", ["x", "s"], ["y"]), {"x": x}, {"s": np.array(shape, np.int64)})
    with pytest.raises(ConvertError):
        import_onnx(onnx.helper.make_node("Expand", ["x", "s"], ["y"]), {"x": x}, {"s": np.array([2, 4], np.int64)})
