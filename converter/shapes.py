# SPDX-License-Identifier: Apache-2.0
"""Axes, shapes and constant expressions, as import handlers need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .graph import DType, Node, Tensor, numpy_dtype
from .ops.base import operators

__all__ = ["ONNX_TYPES", "axes_of", "axis_of", "broadcast", "emit", "emit_node", "integers"]

FOLD_ELEMENTS = 1 << 20
"""A constant expression with more elements than this, and than its inputs, is left to the runtime."""

# ONNX element type number to the type that stands for it: narrower floats and doubles are float32, unsigned integers the next wider
# signed one.
ONNX_TYPES = {
    1: DType.FLOAT32,
    2: DType.UINT8,
    3: DType.INT8,
    4: DType.INT32,
    5: DType.INT16,
    6: DType.INT32,
    7: DType.INT64,
    9: DType.BOOL,
    10: DType.FLOAT32,
    11: DType.FLOAT32,
    12: DType.INT64,
    13: DType.INT64,
    16: DType.FLOAT32,
}


def axis_of(ctx: Any, value: int, rank: int, name: str = "axis") -> int:
    """``value`` in [0, rank), negative ones counted from the end; ConvertError of the node otherwise."""
    if not -rank <= value < rank:
        ctx.fail(f"{name} {value} is outside [-{rank}, {rank - 1}]", rule="onnx.axis")
    return int(value) % rank


def axes_of(ctx: Any, values: Sequence[int], rank: int, name: str = "axes") -> list[int]:
    """`axis_of` for several distinct axes, in the given order."""
    axes = [axis_of(ctx, int(v), rank, name) for v in values]
    if len(set(axes)) != len(axes):
        ctx.fail(f"{name} {list(values)} name an axis twice", rule="onnx.axis")
    return axes


def integers(ctx: Any, i: int, what: str) -> list[int]:
    """Constant input ``i``, integers of rank 0 or 1, as a list."""
    data = ctx.require_constant(i, what)
    if data.ndim > 1 or data.dtype.kind not in "iu":
        ctx.fail(f"{what} must be a vector of integers, it is {data.dtype}{list(data.shape)}", rule="onnx.input")
    return [int(v) for v in data.reshape(-1)]


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that NumPy broadcasting gives; ValueError when the shapes do not fit."""
    try:
        return tuple(np.broadcast_shapes(*(tuple(s) for s in shapes)))
    except ValueError:
        raise ValueError(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast") from None


def emit(
    ctx: Any, op: str, inputs: Sequence[str], params: Mapping[str, Any] | None = None, result: tuple[Sequence[int], DType] | None = None
) -> str:
    """``ctx.emit``, but an operator whose inputs are all plain constants becomes a constant by its reference."""
    tensors: list[Tensor | None] = [ctx.tensor(name) if name else None for name in inputs]
    if not all(t is None or (t.constant and t.scale is None) for t in tensors):
        return str(ctx.emit(op, inputs, params, result=result))
    node = Node(op, list(inputs), ["y"], dict(params or {}), ctx.name)
    try:
        shape, dtype = result if result is not None else operators()[op].infer(node, tensors)[0]
    except ValueError as error:
        ctx.fail(f"cannot become {op}: {error}")
    output = Tensor("y", tuple(int(d) for d in shape), dtype)
    if output.elements > max(FOLD_ELEMENTS, sum(t.elements for t in tensors if t)) or output.elements == 0:
        return str(ctx.emit(op, inputs, params, result=result))
    (value,) = operators()[op].reference(node, [None if t is None else t.data for t in tensors], [output])
    return str(ctx.const(np.asarray(value, numpy_dtype(dtype)).reshape(output.shape)))


def emit_node(ctx: Any, op: str, inputs: Sequence[str], params: Mapping[str, Any] | None = None) -> None:
    """`emit`, and its result is the node's output."""
    ctx.finish(emit(ctx, op, inputs, params))
