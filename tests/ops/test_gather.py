# SPDX-License-Identifier: Apache-2.0
"""Gather over generated shapes, types and indices."""

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
from tests.ops.harness import check_node, run_node, tensor
from tests.ops.onnx_case import check_onnx, import_onnx
from tests.ops.shapes import MOVED, content, result, shapes


@given(
    kind=st.sampled_from(MOVED),
    shape=shapes(low=1, high=5, elements=1000),
    where=shapes(high=3, elements=40),
    wide=st.booleans(),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_picking(kind: Any, shape: tuple[int, ...], where: tuple[int, ...], wide: bool, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    indices = np.random.default_rng(12).integers(-shape[axis], shape[axis], where).astype(np.int64 if wide else np.int32)
    out = result(kind, (*shape[:axis], *where, *shape[axis + 1 :]))
    fixed = data.draw(st.sampled_from([(), (0,), (1,)]))
    check_node("Gather", {"axis": axis}, [content(kind, shape, 13), indices], [out], constants=fixed)


def test_rows_of_a_table_in_parts_of_threads() -> None:
    indices = np.random.default_rng(1).integers(0, 5000, (4, 128)).astype(np.int64)
    for kind in MOVED:
        check_node("Gather", {"axis": 0}, [content(kind, (5000, 96), 14), indices], [result(kind, (4, 128, 96))], threads=(1, 3))


@pytest.mark.parametrize("index", [4, -5, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 2**32])
def test_an_index_out_of_range_stops_the_run(index: int) -> None:
    x, indices = np.zeros((4, 2), np.float32), np.array([0, index], np.int64)
    with pytest.raises(edge8.Edge8Error):
        run_node("Gather", {"axis": 0}, [x, indices], [tensor((2, 2))])


def test_wrong_shapes_and_types_are_refused() -> None:
    x, indices = np.zeros((4, 2), np.float32), np.zeros(3, np.int64)
    for params, given_, shape, rule in (
        ({"axis": 2}, indices, (4, 3), "gather.axis"),
        ({"axis": 0}, indices, (3, 3), "gather.shape"),
        ({"axis": 0}, indices, (3, 2, 1), "gather.shape"),
        ({"axis": 0}, np.zeros(3, np.float32), (3, 2), "gather.indices"),
    ):
        with pytest.raises(edge8.FormatError, match=rule):
            run_node("Gather", params, [x, given_], [tensor(shape, DType.FLOAT32)])


def test_import_gather() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    node = onnx.helper.make_node("Gather", ["x", "i"], ["y"], axis=-1)
    check_onnx(node, {"x": x}, {"i": np.array([[0, -1], [2, 1]], np.int64)})
    check_onnx(node, {"x": x}, {"i": np.int64(2)})
    check_onnx(node, {"x": x, "i": np.array([3, 0], np.int32)})
    check_onnx(onnx.helper.make_node("Gather", ["x", "i"], ["y"]), {"i": np.array([[2, 0]], np.int64)}, {"x": x})
    with pytest.raises(ConvertError, match="outside"):
        import_onnx(onnx.helper.make_node("Gather", ["x", "i"], ["y"], axis=0, name="g"), {"x": x}, {"i": np.array([3], np.int64)})
