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
from edge8.converter.graph import DType, Tensor
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


@pytest.mark.parametrize("rows", [1, 700])
def test_coded_rows_are_read_as_float(rows: int) -> None:
    rng = np.random.default_rng(6)
    scale = rng.uniform(0.001, 0.1, rows).astype(np.float32)
    table = Tensor("", (700, 16, 3), DType.INT8, rng.integers(-127, 128, (700, 16, 3), dtype=np.int8), scale)
    indices = rng.integers(-700, 700, (5, 90)).astype(np.int32)
    (y,) = check_node("Gather", {"axis": 0}, [table, indices], [tensor((5, 90, 16, 3))], threads=(1, 3), int8=True)
    assert table.data is not None
    np.testing.assert_array_equal(y[0, 0], table.data[indices[0, 0]] * scale[indices[0, 0] % rows])


def test_other_scales_of_a_coded_table_are_refused() -> None:
    codes, indices = np.zeros((4, 4), np.int8), np.zeros(3, np.int64)
    for axis, scale, zero in ((1, np.ones(4), 0), (0, np.ones(3), 0), (0, np.ones(1), 1)):
        table = Tensor("", (4, 4), DType.INT8, codes, scale.astype(np.float32), zero)
        with pytest.raises(edge8.FormatError, match=r"gather\.scale"):
            run_node("Gather", {"axis": axis}, [table, indices], [tensor((3, 4) if axis == 0 else (4, 3))])


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
