# SPDX-License-Identifier: Apache-2.0
"""Cast: plain numbers to another type. With it the operators that only tell shapes and constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor, numpy_dtype
from ..shapes import ONNX_TYPES, emit, integers
from .base import Array, Operator, Quantisation, Scales, onnx_op, register

__all__ = ["Cast"]

_LIMIT = 1 << 28
"""Most elements of a ConstantOfShape."""


def _saturated(x: Array, dtype: np.dtype[Any]) -> Array:
    """Float to integer: toward zero, saturating, NaN to 0."""
    info = np.iinfo(dtype)
    wide = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = np.where((wide > info.min) & (wide < info.max), wide, 0).astype(np.int64)
    result = np.where(wide >= info.max, info.max, np.where(wide <= info.min, info.min, inside))
    return result.astype(dtype)


@register
class Cast(Operator):
    """Conversion between plain types; the type is that of the output tensor."""

    table = "Cast"

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """Not known from the inputs: ValueError."""
        raise ValueError("its type is that of its output tensor")

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Floats saturate, integers wrap, BOOL is whether the number is not 0."""
        (x,) = inputs
        assert x is not None
        dtype = numpy_dtype(outputs[0].dtype)
        if outputs[0].dtype is DType.BOOL:
            return [np.asarray(x != 0)]
        if x.dtype == np.float32 and dtype != np.float32:
            return [_saturated(x, dtype)]
        return [x.astype(dtype)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Plain numbers only."""
        return Quantisation(Scales.FLOAT, reason="a conversion of plain numbers has no scale")


def _cast(ctx: Any, dtype: DType) -> None:
    if ctx.dtype(0) is dtype:
        ctx.finish(ctx.input(0))
        return
    if dtype in (DType.INT8, DType.INT16) and ctx.constant(0) is None:
        ctx.fail(f"computed {dtype.name.lower()} tensors without a scale are not supported", "Use int32 here, or QuantizeLinear")
    ctx.finish(emit(ctx, "Cast", [ctx.input(0)], result=(ctx.shape(0), dtype)))


@onnx_op("Cast")
def import_cast(ctx: Any) -> None:
    """Cast; float16, bfloat16 and double are float32 here."""
    number = int(ctx.attr("to", 0))
    if number not in ONNX_TYPES:
        ctx.fail(f"cannot convert to ONNX type {number}", "Supported are floats, integers of 8 to 64 bits, and bool")
    _cast(ctx, ONNX_TYPES[number])


@onnx_op("CastLike")
def import_cast_like(ctx: Any) -> None:
    """Cast to the type of input 1."""
    _cast(ctx, ctx.dtype(1))


@onnx_op("Constant")
def import_constant(ctx: Any) -> None:
    """A constant in one of its notations."""
    for key, dtype in (("value", None), ("value_float", "f4"), ("value_floats", "f4"), ("value_int", "i8"), ("value_ints", "i8")):
        value = ctx.attr(key)
        if value is not None:
            ctx.finish(ctx.const(value if dtype is None else np.asarray(value, dtype), ctx.node.output[0]))
            return
    ctx.fail("holds text or a sparse tensor", "Only dense numbers are supported")


@onnx_op("ConstantOfShape")
def import_constant_of_shape(ctx: Any) -> None:
    """One value repeated in a constant shape."""
    shape = integers(ctx, 0, "the shape")
    value = np.asarray(ctx.attr("value", np.zeros(1, np.float32))).reshape(-1)
    elements = int(np.prod([max(d, 0) for d in shape], dtype=np.float64))
    if any(d < 1 for d in shape) or elements > _LIMIT:
        ctx.fail(f"shape {shape} is empty or has more than {_LIMIT} elements", rule="onnx.shape")
    ctx.finish(ctx.const(np.full(shape, value[0], value.dtype)))


@onnx_op("Shape")
def import_shape(ctx: Any) -> None:
    """The static shape, or the part from ``start`` to ``end``."""
    shape = ctx.shape(0)
    end = ctx.attr("end")
    ctx.finish(ctx.const(np.asarray(shape[int(ctx.attr("start", 0)) : None if end is None else int(end)], np.int64)))


@onnx_op("Size")
def import_size(ctx: Any) -> None:
    """The static number of elements."""
    ctx.finish(ctx.const(np.asarray(ctx.tensor(ctx.input(0)).elements, np.int64)))
