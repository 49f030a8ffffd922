# SPDX-License-Identifier: Apache-2.0
"""Reduce, and the import of the ONNX Reduce* operators and global pools."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from ..elementary import exp, log
from ..graph import DType, Graph, Node, Tensor
from ..shapes import emit
from .base import Array, Operator, Quantisation, Scales, Value, code_limits, onnx_op, register, requantise
from .unary import UnaryKind

__all__ = ["Reduce"]


class ReduceKind(IntEnum):
    """See `ReduceKind` in schemas/ops.fbs."""

    MEAN = 0
    SUM = 1
    MAX = 2
    MIN = 3
    PROD = 4
    L1 = 5
    L2 = 6
    SUM_SQUARE = 7
    LOG_SUM_EXP = 8


_KIND = ReduceKind
_ORDER = (_KIND.MAX, _KIND.MIN)
_NO_INT8 = {_KIND.PROD: "a product", _KIND.L2: "a square root of a sum", _KIND.LOG_SUM_EXP: "a sum of exponentials"}


def _kind(node: Node) -> ReduceKind:
    return ReduceKind(node.params.get("kind", _KIND.MEAN))


def _axes(node: Node) -> tuple[int, ...]:
    return tuple(node.params["axes"])


def _rows(x: Array, axes: tuple[int, ...]) -> Array:
    """``x`` with the reduced elements, in row-major order, on axis 0: [count, ...kept]."""
    kept = [a for a in range(x.ndim) if a not in axes]
    moved = x.transpose([*axes, *kept])
    return moved.reshape(-1, *[x.shape[a] for a in kept])


def _count(node: Node, shape: tuple[int, ...]) -> int:
    return int(np.prod([shape[a] for a in _axes(node)]))


def _float(kind: ReduceKind, rows: Array) -> Array:
    """Double accumulators in order, one rounding to float32 at the end."""
    wide = rows.astype(np.float64)
    if kind == _KIND.MAX:
        return np.asarray(rows.max(axis=0))
    if kind == _KIND.MIN:
        return np.asarray(rows.min(axis=0))
    if kind == _KIND.PROD:
        return np.asarray(np.cumprod(wide, axis=0)[-1].astype(np.float32))
    if kind == _KIND.LOG_SUM_EXP:
        largest = rows.max(axis=0)
        finite = np.where(np.isfinite(largest), largest, np.float32(0))
        total = np.cumsum(exp((rows - finite).astype(np.float32)).astype(np.float64), axis=0)[-1].astype(np.float32)
        return np.asarray(np.where(np.isfinite(largest), largest + log(total), largest), np.float32)
    terms = np.abs(wide) if kind == _KIND.L1 else wide * wide if kind in (_KIND.L2, _KIND.SUM_SQUARE) else wide
    total = np.cumsum(terms, axis=0)[-1]
    if kind == _KIND.MEAN:
        total = total / len(rows)
    result = total.astype(np.float32)
    return np.sqrt(result) if kind == _KIND.L2 else np.asarray(result)


def _integer(kind: ReduceKind, rows: Array) -> Array:
    """Whole numbers modulo 2^64; the mean is cut toward zero. int8 rows never overflow."""
    wide = rows.astype(np.int64)
    if kind == _KIND.MAX:
        return np.asarray(wide.max(axis=0))
    if kind == _KIND.MIN:
        return np.asarray(wide.min(axis=0))
    if kind == _KIND.PROD:
        return np.asarray(wide.prod(axis=0))
    terms = np.abs(wide) if kind == _KIND.L1 else wide * wide if kind == _KIND.SUM_SQUARE else wide
    total = terms.sum(axis=0)
    if kind == _KIND.MEAN:
        return np.asarray(np.sign(total) * (np.abs(total) // len(rows)))
    return np.asarray(total)


@register
class Reduce(Operator):
    """Input x of any rank; reduces over ascending ``axes``."""

    table = "Reduce"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """The input's shape without the axes, or with 1 in their places."""
        x = inputs[0]
        assert x is not None
        axes = _axes(node)
        if not axes or list(axes) != sorted(set(axes)) or axes[0] < 0 or axes[-1] >= len(x.shape):
            raise ValueError(f"axes {list(axes)} do not fit an input of rank {len(x.shape)}")
        kind = _kind(node)
        whole = x.dtype in (DType.INT32, DType.INT64) and kind not in (_KIND.L2, _KIND.LOG_SUM_EXP)
        if not (x.dtype == DType.FLOAT32 or whole or kind in _ORDER or x.dtype in (DType.INT8, DType.INT16)):
            raise ValueError(f"this reduction of {x.dtype.name.lower()} is not supported")
        if node.params.get("keep_dims", True):
            return [(tuple(1 if a in axes else n for a, n in enumerate(x.shape)), x.dtype)]
        return [(tuple(n for a, n in enumerate(x.shape) if a not in axes), x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Float32: see `_float`; integers: see `_integer`."""
        x = inputs[0]
        assert x is not None
        rows = _rows(x, _axes(node))
        with np.errstate(all="ignore"):
            y = _float(_kind(node), rows) if x.dtype == np.float32 else _integer(_kind(node), rows)
        return [np.ascontiguousarray(y.astype(x.dtype)).reshape(outputs[0].shape)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Extremes move codes; sums and means have an output scale of their own; the others stay in float."""
        kind = _kind(node)
        if kind in _ORDER:
            return Quantisation(Scales.SAME)
        if kind in _NO_INT8:
            return Quantisation(Scales.FLOAT, reason=f"{_NO_INT8[kind]} loses too much in int8")
        count = _count(node, graph.tensors[node.inputs[0]].shape)
        limit = 1 << 15 if kind == _KIND.SUM_SQUARE else 1 << 23
        if count > limit:
            return Quantisation(Scales.FLOAT, reason=f"a sum of {count} values could overflow int32 (limit {limit})")
        return Quantisation(Scales.FREE)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """requantise(integer sum * multiplier), multipliers as in runtime_c/src/ops/reduce.c."""
        x, out, kind = inputs[0], outputs[0], _kind(node)
        assert x is not None
        rows = _rows(x.array, _axes(node))
        if kind in _ORDER:
            return [_integer(kind, rows).astype(x.array.dtype).reshape(out.shape)]
        assert x.scale is not None
        assert out.scale is not None
        s_in, s_out = np.float32(x.scale[0]), np.float32(out.scale[0])
        total = _integer(_KIND.SUM if kind == _KIND.MEAN else kind, rows.astype(np.int64) - x.zero_point)
        divisor = s_out * np.float32(len(rows)) if kind == _KIND.MEAN else s_out
        multiplier = (s_in * s_in if kind == _KIND.SUM_SQUARE else s_in) / divisor
        return [requantise(total, multiplier, out.zero_point, *code_limits(out), out.dtype).reshape(out.shape)]

    def int16_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """As `int8_reference`."""
        return self.int8_reference(node, inputs, outputs)

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Input elements."""
        assert inputs[0] is not None
        return inputs[0].elements


_ONNX = {
    "ReduceMean": _KIND.MEAN,
    "ReduceSum": _KIND.SUM,
    "ReduceMax": _KIND.MAX,
    "ReduceMin": _KIND.MIN,
    "ReduceProd": _KIND.PROD,
    "ReduceL1": _KIND.L1,
    "ReduceL2": _KIND.L2,
    "ReduceSumSquare": _KIND.SUM_SQUARE,
    "ReduceLogSum": _KIND.SUM,
    "ReduceLogSumExp": _KIND.LOG_SUM_EXP,
}


def _import_axes(ctx: Any) -> list[int] | None:
    """Ascending axes; None when the node reduces nothing (noop_with_empty_axes)."""
    axes = ctx.attr("axes")
    if axes is None and ctx.has_input(1):
        axes = [int(a) for a in ctx.require_constant(1, "the list of axes").reshape(-1)]
    rank = ctx.rank(0)
    if not axes:
        return None if ctx.attr("noop_with_empty_axes", 0) else list(range(rank))
    if any(not -rank <= a < rank for a in axes):
        ctx.fail(f"axes {list(axes)} do not fit an input of rank {rank}")
    return sorted({a % rank for a in axes})


@onnx_op(*_ONNX)
def _reduce(ctx: Any) -> None:
    axes, y = _import_axes(ctx), ctx.input(0)
    keep = bool(ctx.attr("keepdims", 1))
    if axes is None:
        ctx.finish(ctx.reshape(y, ctx.shape(0)))
        return
    if ctx.rank(0) == 0:
        y, axes = ctx.reshape(y, (1,)), [0]
    y = emit(ctx, "Reduce", [y], {"kind": int(_ONNX[ctx.op_type]), "axes": axes, "keep_dims": keep and ctx.rank(0) > 0})
    if ctx.op_type == "ReduceLogSum":
        y = emit(ctx, "Unary", [y], {"kind": int(UnaryKind.LOG)})
    ctx.finish(y)


@onnx_op("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(ctx: Any) -> None:
    kind = _KIND.MEAN if ctx.op_type == "GlobalAveragePool" else _KIND.MAX
    rank = ctx.rank(0)
    if rank < 3:
        ctx.fail(f"input of shape {list(ctx.shape(0))} has no spatial axes")
    if rank > 4:
        ctx.finish(ctx.emit("Reduce", [ctx.input(0)], {"kind": int(kind), "axes": list(range(2, rank)), "keep_dims": True}))
        return
    x = ctx.to_nhwc(ctx.input(0))
    ctx.finish(ctx.from_nhwc(ctx.emit("Reduce", [x], {"kind": int(kind), "axes": [1, 2], "keep_dims": True}), rank))
