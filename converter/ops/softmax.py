# SPDX-License-Identifier: Apache-2.0
"""Softmax and LogSoftmax over the last axis; the rules stand in runtime_c/src/ops/softmax.c."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..elementary import exp, log
from ..graph import DType, Graph, Node, Tensor
from ..shapes import axis_of
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register, requantise

__all__ = ["Softmax", "lane_sum", "softmax_table"]

F = np.float32
_LANES = 8
_LENGTH_LIMIT = 65536
_TABLE_BYTES = 512


def lane_sum(x: Array) -> Array:
    """Sum over the last axis as the runtime takes it: element i goes to lane i mod 8, each lane from left to right, then the lanes
    pairwise. Float32 ``[...,n]`` to ``[...,1]``."""
    rows = -(-x.shape[-1] // _LANES)
    padded = np.zeros((*x.shape[:-1], rows * _LANES), F)
    padded[..., : x.shape[-1]] = x
    s = np.cumsum(padded.reshape(*x.shape[:-1], rows, _LANES), axis=-2, dtype=F)[..., -1, :]
    four = s[..., :4] + s[..., 4:]
    return ((four[..., 0] + four[..., 2]) + (four[..., 1] + four[..., 3]))[..., None]


def softmax_table(scale: float) -> Array:
    """256 times rne(32768 * exp(-(scale * d))), uint16."""
    d = np.arange(256, dtype=F)
    return np.rint(exp(-(F(scale) * d)) * F(32768)).astype("<u2")


@register
class Softmax(Operator):
    """Input x of rank 1 or more; ``log`` gives the logarithm of the softmax."""

    table = "Softmax"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """The input's shape."""
        x = inputs[0]
        assert x is not None
        if not x.shape:
            raise ValueError("a scalar has no last axis")
        if x.dtype not in (DType.FLOAT32, DType.INT8, DType.INT16):
            raise ValueError(f"softmax of {x.dtype.name.lower()} is not supported")
        return [(x.shape, x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """e = exp(x - max); e * (1 / sum), or (x - max) - log(sum)."""
        x = inputs[0]
        assert x is not None
        with np.errstate(all="ignore"):
            below = x - x.max(axis=-1, keepdims=True)
            e = exp(below)
            total = lane_sum(e)
            y = below - log(total) if node.params.get("log", False) else e * (F(1) / total)
        return [y.astype(F)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Probabilities have the scale 1/256 and the zero point -128; logarithms have a scale of their own."""
        length = graph.tensors[node.inputs[0]].shape[-1]
        if length > _LENGTH_LIMIT:
            return Quantisation(Scales.FLOAT, reason=f"a row of {length} values could overflow the sum (limit {_LENGTH_LIMIT})")
        if node.params.get("log", False):
            return Quantisation(Scales.FREE)
        return Quantisation(Scales.FIXED, fixed=(1 / 256, -128))

    def int16_quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Probabilities have the scale 2^-15; logarithms have a scale of their own."""
        return Quantisation(Scales.FREE) if node.params.get("log", False) else Quantisation(Scales.FIXED, fixed=(2.0**-15, 0))

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Sums of the table's integers; see runtime_c/src/ops/softmax.c."""
        x, out = inputs[0], outputs[0]
        assert x is not None
        assert x.scale is not None
        assert out.scale is not None
        codes = x.array.astype(np.int32)
        distance = codes.max(axis=-1, keepdims=True) - codes
        weights = softmax_table(float(x.scale[0])).astype(np.int64)[distance]
        total = weights.sum(axis=-1, keepdims=True).astype(F)
        if not node.params.get("log", False):
            return [requantise(weights.astype(np.int32), F(256) / total, -128)]
        real = (-distance).astype(F) * F(x.scale[0]) - log(total * F(2.0**-15))
        value = np.clip(real * (F(1) / F(out.scale[0])), F(-128 - out.zero_point), F(127 - out.zero_point))
        return [(np.rint(value).astype(np.int32) + out.zero_point).astype(np.int8)]

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Four operations per element."""
        return 4 * outputs[0].elements

    def finish(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> dict[str, Any]:
        """The int8 table; zeros while the input's scale is not known, so that calibration can fill it in."""
        x = inputs[0]
        assert x is not None
        if x.dtype is not DType.INT8:
            return {}
        return {"table": bytes(_TABLE_BYTES) if x.scale is None else softmax_table(float(x.scale[0])).tobytes()}


def over_last_axis(ctx: Any, name: str, axis: int, op: str, extra: Sequence[str], params: dict[str, Any]) -> str:
    """An operator that works on the last axis, along ``axis``."""
    rank = len(ctx.tensor(name).shape)
    if axis == rank - 1:
        return str(ctx.emit(op, [name, *extra], params))
    order = [*(a for a in range(rank) if a != axis), axis]
    moved = ctx.emit("Transpose", [name], {"perm": order})
    result = ctx.emit(op, [moved, *extra], params)
    return str(ctx.emit("Transpose", [result], {"perm": [order.index(a) for a in range(rank)]}))


@onnx_op("Softmax", "LogSoftmax")
def _softmax(ctx: Any) -> None:
    x, shape = ctx.input(0), ctx.shape(0)
    params = {"log": ctx.op_type == "LogSoftmax"}
    if not shape:
        ctx.finish(ctx.reshape(ctx.emit("Softmax", [ctx.reshape(x, (1,))], params), ()))
        return
    if ctx.opset >= 13:
        axis = axis_of(ctx, ctx.attr("axis", -1), len(shape))
        ctx.finish(over_last_axis(ctx, x, axis, "Softmax", [], params))
        return
    # Before opset 13 all axes from `axis` on are one.
    axis = axis_of(ctx, ctx.attr("axis", 1), len(shape)) if len(shape) > 1 or ctx.attr("axis", 1) != 1 else 0
    if axis == len(shape) - 1:
        ctx.finish(ctx.emit("Softmax", [x], params))
        return
    if all(n == 1 for n in shape[axis + 1 :]):
        ctx.finish(over_last_axis(ctx, x, axis, "Softmax", [], params))
        return
    flat = ctx.reshape(x, (*shape[:axis], int(np.prod(shape[axis:]))))
    ctx.finish(ctx.reshape(ctx.emit("Softmax", [flat], params), shape))
