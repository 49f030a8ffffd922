# SPDX-License-Identifier: Apache-2.0
"""Pad over generated shapes, types and modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.graph import DType
from edge8.converter.ops.pad import PadKind
from tests.ops.harness import check_node, run_node, tensor
from tests.ops.onnx_case import check_onnx
from tests.ops.shapes import MOVED, content, result, shapes

X = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)


@given(kind=st.sampled_from(MOVED), mode=st.sampled_from(PadKind), shape=shapes(elements=400), data=st.data())
@settings(max_examples=300, deadline=None)
def test_padding_and_cropping(kind: Any, mode: PadKind, shape: tuple[int, ...], data: st.DataObject) -> None:
    before, after, padded = [], [], list(shape)
    for axis, d in enumerate(shape):
        b = data.draw(st.sampled_from([0, 0, 1, 2, -1, 13]))
        a = data.draw(st.sampled_from([0, 0, 1, 3, -1]))
        if d + min(b, 0) + min(a, 0) < 1 or int(np.prod(padded)) // d * (d + b + a) > 20000:
            b = a = 0
        before.append(b)
        after.append(a)
        padded[axis] = d + b + a
    value = data.draw(st.sampled_from([0.0, 1.0, -2.5, 1e9, -1e9]))
    if kind not in ("int8", "int16", DType.FLOAT32):
        value = abs(value) % 2 // 1  # 0 or 1, which every plain type holds
    params = {"kind": int(mode), "before": before, "after": after, "value": value}
    check_node("Pad", params, [content(kind, shape, 10)], [result(kind, tuple(padded))])


@pytest.mark.parametrize("mode", list(PadKind))
def test_in_parts_of_threads(mode: PadKind) -> None:
    for kind in ("int8", MOVED[2], MOVED[4]):
        params = {"kind": int(mode), "before": [0, 1, 1, 0], "after": [0, 2, 1, 0], "value": 0.0}
        check_node("Pad", params, [content(kind, (1, 80, 80, 24), 11)], [result(kind, (1, 83, 82, 24))], threads=(1, 3))


def test_numpy_agrees() -> None:
    for mode, name in ((PadKind.REFLECT, "reflect"), (PadKind.EDGE, "edge"), (PadKind.WRAP, "wrap")):
        for pads in (((1, 1), (2, 0), (3, 3)), ((0, 0), (2, 2), (9, 7))):
            wanted = np.pad(X, pads, mode=name)  # type: ignore[call-overload]
            params = {"kind": int(mode), "before": [p[0] for p in pads], "after": [p[1] for p in pads]}
            (found,) = run_node("Pad", params, [X], [tensor(wanted.shape)])
            np.testing.assert_array_equal(found, wanted)


def test_wrong_numbers_are_refused() -> None:
    for params in (
        {"before": [0, 0, 0], "after": [0, 0, 1]},
        {"before": [0, 0], "after": [0, 0, 0]},
        {"before": [0, 0, 0], "after": [0]},
        {"before": [-2, 0, 0], "after": [2, 0, 0]},
        {"before": [2**31 - 1, 0, 0], "after": [-(2**31), 0, 0]},
    ):
        with pytest.raises(edge8.FormatError, match="pad"):
            run_node("Pad", params, [X], [tensor(X.shape)])
    with pytest.raises(edge8.FormatError, match=r"pad\.kind"):
        run_node("Pad", {"kind": 4, "before": [0, 0, 0], "after": [0, 0, 0]}, [X], [tensor(X.shape)])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_import_pad(mode: str) -> None:
    pads = np.array([0, 1, 2, 1, 0, 3], np.int64)
    names, constants = ["x", "p"], {"p": pads}
    if mode == "constant":
        names, constants = ["x", "p", "v"], {"p": pads, "v": np.float32(1.5)}
    check_onnx(onnx.helper.make_node("Pad", names, ["y"], mode=mode), {"x": X}, constants, opset=19)
    if mode != "wrap":
        check_onnx(onnx.helper.make_node("Pad", names, ["y"], mode=mode), {"x": X}, constants, opset=13)
        attributes = {"value": 1.5} if mode == "constant" else {}
        check_onnx(onnx.helper.make_node("Pad", ["x"], ["y"], mode=mode, pads=pads.tolist(), **attributes), {"x": X}, opset=9)


def test_import_pad_along_axes() -> None:
    constants = {"p": np.array([1, 0, 2, 1], np.int64), "v": np.float32(-1), "a": np.array([-1, 0], np.int64)}
    check_onnx(onnx.helper.make_node("Pad", ["x", "p", "v", "a"], ["y"]), {"x": X}, constants, opset=18)
    constants = {"p": np.array([1, 0], np.int64), "v": np.int64(7), "a": np.array([1], np.int64)}
    check_onnx(onnx.helper.make_node("Pad", ["x", "p", "v", "a"], ["y"]), {"x": X.astype(np.int64)}, constants, opset=18)
