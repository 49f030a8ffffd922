# SPDX-License-Identifier: Apache-2.0
"""Cast between all plain types, and the operators that give shapes and constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import edge8
from edge8.converter.errors import ConvertError
from edge8.converter.graph import DType, numpy_dtype
from tests.ops.harness import check_node, run_node, tensor, value
from tests.ops.onnx_case import check_onnx, import_onnx

PLAIN = [DType.FLOAT32, DType.INT32, DType.INT64, DType.BOOL, DType.UINT8]


def numbers(dtype: DType) -> np.ndarray[Any, Any]:
    if dtype is DType.FLOAT32:
        far = [2.0**31, -(2.0**31), 2.0**63, -(2.0**63), 3e38, 2147483520.0, 9.2233715e18, np.inf, -np.inf, np.nan]
        return np.array([0, -0.0, 0.5, -0.5, 0.99, 1.5, -1.5, 255, 256, 255.9, -128.5, 1e-40, *far], np.float32)
    if dtype is DType.BOOL:
        return np.array([True, False])
    info = np.iinfo(numpy_dtype(dtype))
    return np.array([info.min, info.max, 0, 1, 2, 127, 128, 200, info.max - 1], info.dtype)


@pytest.mark.parametrize("target", PLAIN)
@pytest.mark.parametrize("source", PLAIN)
def test_every_pair_of_types(source: DType, target: DType) -> None:
    x = numbers(source)
    check_node("Cast", {}, [x], [tensor(x.shape, target)])
    big = np.resize(x, (401, 1001))
    check_node("Cast", {}, [big], [tensor(big.shape, target)], threads=(1, 3))


def test_float_to_integer_truncates_and_saturates() -> None:
    x = np.array([1.9, -1.9, 300.0, -5.0, np.nan, np.inf], np.float32)
    (y,) = run_node("Cast", {}, [x], [tensor(x.shape, DType.UINT8)])
    assert y.tolist() == [1, 0, 255, 0, 0, 255]
    (y,) = run_node("Cast", {}, [x], [tensor(x.shape, DType.INT32)])
    assert y.tolist() == [1, -1, 300, -5, 0, 2**31 - 1]


def test_codes_are_refused() -> None:
    with pytest.raises(edge8.FormatError, match=r"cast\.quantised"):
        run_node("Cast", {}, [value(np.zeros(3, np.int8), 0.5)], [tensor((3,))])


@pytest.mark.parametrize("target", ["FLOAT", "INT32", "INT64", "BOOL", "UINT8"])
def test_import_cast(target: str) -> None:
    x = np.array([[0, 1.5, 2.5], [3, 100, 0]], np.float32)
    number = getattr(onnx.TensorProto, target)
    check_onnx(onnx.helper.make_node("Cast", ["x"], ["y"], to=number), {"x": x})
    like = np.zeros(1, onnx.helper.tensor_dtype_to_np_dtype(number))
    check_onnx(onnx.helper.make_node("CastLike", ["x", "l"], ["y"]), {"x": x, "l": like})


def test_cast_to_text_is_an_error() -> None:
    with pytest.raises(ConvertError, match="cannot convert"):
        import_onnx(onnx.helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.STRING, name="c"), {"x": np.ones(2, np.float32)})


def test_import_shapes_and_constants() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    check_onnx(onnx.helper.make_node("Shape", ["x"], ["y"]), {"x": x})
    check_onnx(onnx.helper.make_node("Shape", ["x"], ["y"], start=1, end=-1), {"x": x})
    check_onnx(onnx.helper.make_node("Size", ["x"], ["y"]), {"x": x})
    node = onnx.helper.make_node("ConstantOfShape", ["s"], ["y"], value=onnx.numpy_helper.from_array(np.array([7], np.int64)))
    check_onnx(node, {}, {"s": np.array([2, 3], np.int64)})
    for attribute in ({"value_floats": [1.0, 2.0]}, {"value_int": 3}, {"value_ints": [1, 2]}, {"value_float": 0.5}):
        check_onnx(onnx.helper.make_node("Constant", [], ["y"], **attribute), {})
