# SPDX-License-Identifier: Apache-2.0
"""ArgMax: C against numpy over generated shapes with many ties; ONNX ArgMax and ArgMin."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.graph import DType
from tests.ops.harness import check_node, node_file, tensor
from tests.ops.onnx_case import check_onnx


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any], tuple[int, ...]]:
    """Input shape, parameters, output shape."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=5)))
    axis, keep = draw(st.integers(0, len(shape) - 1)), draw(st.booleans())
    params = {"axis": axis, "keep_dims": keep, "select_last": draw(st.booleans()), "smallest": draw(st.booleans())}
    return shape, params, (*shape[:axis], *((1,) if keep else ()), *shape[axis + 1 :])


@given(
    case=cases(),
    dtype=st.sampled_from([np.float32, np.int8, np.int32, np.uint8]),
    out=st.sampled_from([DType.INT64, DType.INT32]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=250, deadline=None)
def test_any_type(case: Any, dtype: Any, out: DType, seed: int) -> None:
    shape, params, result = case
    x = np.random.default_rng(seed).integers(0, 4, shape).astype(dtype)
    check_node("ArgMax", params, [x - 2 if dtype is not np.uint8 else x], [tensor(result, out)])


def test_special_floats() -> None:
    x = np.array([[np.nan, 1, 2], [1, np.nan, 0], [-np.inf, -np.inf, -3], [np.inf, np.inf, 1], [0.0, -0.0, 0.0]], np.float32)
    for smallest in (False, True):
        for last in (False, True):
            check_node("ArgMax", {"axis": 1, "smallest": smallest, "select_last": last}, [x], [tensor((5, 1), DType.INT64)])


def test_threads_share_a_large_input() -> None:
    x = np.random.default_rng(0).integers(-128, 128, (300, 40, 50), dtype=np.int8)
    check_node("ArgMax", {"axis": 1}, [x], [tensor((300, 1, 50), DType.INT64)], threads=(1, 2, 3, 4))


@pytest.mark.parametrize(
    ("params", "out", "rule"),
    [
        ({"axis": 2}, tensor((2, 1), DType.INT64), "arg_max.axis"),
        ({"axis": -1}, tensor((2, 1), DType.INT64), "arg_max.axis"),
        ({"axis": 1}, tensor((2, 3), DType.INT64), "arg_max.shape"),
        ({"axis": 1, "keep_dims": False}, tensor((2, 1), DType.INT64), "arg_max.shape"),
        ({"axis": 1}, tensor((2, 1)), "arg_max.output"),
    ],
)
def test_check_refuses(params: dict[str, Any], out: Any, rule: str) -> None:
    with pytest.raises(edge8.Edge8Error, match=rule):
        edge8.Model(node_file("ArgMax", params, [np.zeros((2, 3), np.float32)], [out]))


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("attributes", [{}, {"axis": -1}, {"axis": 1, "keepdims": 0}, {"axis": 2, "select_last_index": 1}])
def test_import(op: str, attributes: dict[str, int]) -> None:
    x = np.random.default_rng(0).integers(0, 3, (3, 4, 5)).astype(np.float32)
    check_onnx(onnx.helper.make_node(op, ["x"], ["y"], **attributes), {"x": x}, opset=13)
