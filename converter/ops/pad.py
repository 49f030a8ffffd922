# SPDX-License-Identifier: Apache-2.0
"""Pad: elements in front and behind along every axis; negative counts crop."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..shapes import axes_of, emit, integers
from .base import Array, Operator, Quantisation, Scales, Value, code_limits, onnx_op, register

__all__ = ["Pad", "PadKind"]

F = np.float32


class PadKind(IntEnum):
    """What the padding holds; see `PadKind` in schemas/ops.fbs."""

    CONSTANT = 0
    REFLECT = 1
    EDGE = 2
    WRAP = 3


def _source(kind: PadKind, i: Array, n: int) -> Array:
    """Position in 0..n-1 that padding position ``i`` copies."""
    if kind is PadKind.EDGE or n == 1:
        return np.clip(i, 0, n - 1)
    if kind is PadKind.WRAP:
        return i % n
    rest = i % (2 * (n - 1))
    return np.where(rest < n, rest, 2 * (n - 1) - rest)


def _pad(node: Node, x: Array, value: Any) -> Array:
    """The padded array; ``value`` is the constant in the array's type."""
    kind = PadKind(node.params.get("kind", 0))
    for axis, (before, after) in enumerate(zip(node.params["before"], node.params["after"], strict=True)):
        kept = x.shape[axis] + min(before, 0) + min(after, 0)
        x = np.take(x, np.arange(kept) + max(-before, 0), axis=axis)
        position = np.arange(-max(before, 0), kept + max(after, 0))
        if kind is not PadKind.CONSTANT:
            x = np.take(x, _source(kind, position, kept), axis=axis)
            continue
        widths = [(max(before, 0), max(after, 0)) if i == axis else (0, 0) for i in range(x.ndim)]
        x = np.pad(x, widths, constant_values=value)
    return x


@register
class Pad(Operator):
    """Padding or cropping."""

    table = "Pad"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """Each dimension plus what comes before and after."""
        (x,) = inputs
        assert x is not None
        before, after = node.params["before"], node.params["after"]
        if not len(before) == len(after) == len(x.shape):
            raise ValueError(f"pads {list(before)} and {list(after)} do not fit rank {len(x.shape)}")
        if any(d + min(b, 0) + min(a, 0) < 1 for d, b, a in zip(x.shape, before, after, strict=True)):
            raise ValueError(f"pads {list(before)} and {list(after)} leave nothing of {list(x.shape)}")
        return [(tuple(d + b + a for d, b, a in zip(x.shape, before, after, strict=True)), x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Padding with the real value; integers truncate it."""
        (x,) = inputs
        assert x is not None
        value = F(node.params.get("value", 0.0))
        return [_pad(node, x, value if x.dtype == F else int(value))]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Codes move; a constant is quantised to the tensor's scale."""
        return Quantisation(Scales.SAME)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The codes; the constant is clamp(rne(value * (1 / scale)) + zero_point)."""
        (x,) = inputs
        assert x is not None
        assert x.scale is not None
        with np.errstate(all="ignore"):
            code = F(node.params.get("value", 0.0)) * (F(1) / F(x.scale[0]))
        low, high = code_limits(outputs[0])
        code = min(max(code, F(low - x.zero_point)), F(high - x.zero_point))
        return [_pad(node, x.array, int(np.rint(code)) + x.zero_point)]

    int16_reference = int8_reference


@onnx_op("Pad")
def import_pad(ctx: Any) -> None:
    """Pad with attributes (before opset 11) or inputs pads, value and axes."""
    rank, mode = ctx.rank(0), ctx.attr("mode", "constant")
    kinds = {kind.name.lower(): kind for kind in PadKind}
    if mode not in kinds:
        ctx.fail(f"mode {mode!r} is not one of {', '.join(kinds)}")
    if ctx.opset < 11:
        pads, value = [int(p) for p in ctx.attr("pads", [])], float(ctx.attr("value", 0.0))
        axes = list(range(rank))
    else:
        pads = integers(ctx, 1, "pads")
        data = ctx.require_constant(2, "the padding value") if ctx.has_input(2) else np.zeros(1, F)
        axes = axes_of(ctx, integers(ctx, 3, "axes"), rank) if ctx.has_input(3) else list(range(rank))
        value = float(data.reshape(-1)[0])
        if ctx.dtype(0) is not DType.FLOAT32 and int(F(value)) != int(data.reshape(-1)[0]):
            ctx.fail(f"padding value {data.reshape(-1)[0]} is beyond the integers that float32 holds", rule="onnx.value")
    if len(pads) != 2 * len(axes):
        ctx.fail(f"pads {pads} do not fit {len(axes)} axes: two numbers per axis", rule="onnx.shape")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[len(axes) + i]
    if not any(before) and not any(after):
        ctx.finish(ctx.input(0))
        return
    params = {"kind": int(kinds[mode]), "before": before, "after": after, "value": value}
    ctx.finish(emit(ctx, "Pad", [ctx.input(0)], params))
