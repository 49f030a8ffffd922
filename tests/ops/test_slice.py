# SPDX-License-Identifier: Apache-2.0
"""Slice over generated shapes and types, its import in every form, and Split."""

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

X = np.arange(2 * 5 * 7, dtype=np.float32).reshape(2, 5, 7)


@given(kind=st.sampled_from(MOVED), shape=shapes(), data=st.data())
@settings(max_examples=250, deadline=None)
def test_parts(kind: Any, shape: tuple[int, ...], data: st.DataObject) -> None:
    start, step, count = [], [], []
    for d in shape:
        start.append(data.draw(st.integers(0, d - 1)))
        step.append(data.draw(st.sampled_from([1, 1, 2, 3, -1, -2])))
        room = (d - 1 - start[-1]) // step[-1] if step[-1] > 0 else start[-1] // -step[-1]
        count.append(data.draw(st.integers(1, room + 1)))
    check_node("Slice", {"start": start, "step": step}, [content(kind, shape, 8)], [result(kind, tuple(count))])


def test_in_parts_of_threads() -> None:
    for kind in MOVED:
        x = content(kind, (1, 120, 120, 48), 9)
        check_node("Slice", {"start": [0, 1, 119, 3], "step": [1, 1, -1, 1]}, [x], [result(kind, (1, 119, 120, 40))], threads=(1, 3))
        check_node("Slice", {"start": [0, 0, 0, 0], "step": [1, 2, 2, 1]}, [x], [result(kind, (1, 60, 60, 48))], threads=(1, 3))


@pytest.mark.parametrize(
    ("start", "step", "count"),
    [(-1, 1, 2), (0, 1, 6), (4, 1, 2), (1, -1, 3), (5, 1, 1), (0, 2**31 - 1, 5), (0, -(2**31), 2), (0, 2**30, 5)],
)
def test_parts_outside_the_input_are_refused(start: int, step: int, count: int) -> None:
    with pytest.raises(edge8.FormatError, match=r"slice\.range"):
        run_node("Slice", {"start": [start], "step": [step]}, [np.zeros(5, np.float32)], [tensor((count,))])


def test_vectors_of_another_length_are_refused() -> None:
    with pytest.raises(edge8.FormatError, match=r"slice\.rank"):
        run_node("Slice", {"start": [0], "step": [1]}, [X], [tensor((1, 5, 7))])


LAST, FIRST = np.iinfo(np.int64).max, np.iinfo(np.int64).min


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([0, 1], [2, 3], None, None),
        ([1], [LAST], [1], None),
        ([-3], [-1], [-1], [1]),
        ([-1], [FIRST], [2], [-1]),
        ([LAST], [FIRST], [1], [-2]),
        ([20], [0], [0], [-1]),
        ([3], [-8], [2], [-1]),
        ([-100], [100], [1], [3]),
        ([1, 0, 6], [2, 5, 0], [0, 1, 2], [1, 2, -3]),
        ([0, 0, 0], [2, 5, 7], [0, 1, 2], None),
    ],
)
def test_import_slice(starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None) -> None:
    given_ = {"starts": starts, "ends": ends, **({"axes": axes} if axes else {}), **({"steps": steps} if steps else {})}
    names = ["starts", "ends", "axes" if axes else "", "steps" if steps else ""]
    check_onnx(onnx.helper.make_node("Slice", ["x", *names], ["y"]), {"x": X}, {k: np.array(v, np.int64) for k, v in given_.items()})
    if steps is None:
        check_onnx(onnx.helper.make_node("Slice", ["x"], ["y"], **given_), {"x": X}, opset=9)


def test_an_empty_part_is_an_error() -> None:
    node = onnx.helper.make_node("Slice", ["x", "s", "e"], ["y"], name="empty")
    with pytest.raises(ConvertError, match="empty"):
        import_onnx(node, {"x": X}, {"s": np.array([1], np.int64), "e": np.array([1], np.int64)})


def test_import_split() -> None:
    check_onnx(onnx.helper.make_node("Split", ["x"], ["a"], axis=0), {"x": X}, opset=13)
    check_onnx(onnx.helper.make_node("Split", ["x"], ["a", "b"], axis=0), {"x": X}, opset=13)
    check_onnx(onnx.helper.make_node("Split", ["x"], ["a", "b"], axis=1, split=[2, 3]), {"x": X}, opset=11)
    check_onnx(onnx.helper.make_node("Split", ["x", "s"], ["a", "b"], axis=-1), {"x": X}, {"s": np.array([3, 4], np.int64)}, opset=13)
    check_onnx(onnx.helper.make_node("Split", ["x"], ["a", "b", "c"], axis=2, num_outputs=3), {"x": X}, opset=18)
    check_onnx(onnx.helper.make_node("Split", ["x", "s"], ["a", "b"], axis=1), {"x": X}, {"s": np.array([2, 3], np.int64)}, opset=18)
