# SPDX-License-Identifier: Apache-2.0
"""Pool2D, and the import of ONNX MaxPool and AveragePool (1-D and 2-D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..window import Window, import_window, taps, window_of
from .base import Array, Operator, Quantisation, Scales, Value, code_limits, onnx_op, register, requantise

__all__ = ["Pool2D"]


class PoolKind(IntEnum):
    """See `PoolKind` in schemas/ops.fbs."""

    MAX = 0
    AVERAGE = 1


_MAX, _AVERAGE = PoolKind.MAX, PoolKind.AVERAGE
_TAPS_LIMIT = 1 << 22
_INT16_LIMIT = (1 << 16) - 1


def _window(node: Node) -> Window:
    return window_of(node, (node.params.get("kernel_h", 1), node.params.get("kernel_w", 1)))


def _count(node: Node, x: Array, window: Window) -> Array:
    """Divisor of an average per output pixel, float32 [1,OH,OW,1]."""
    if node.params.get("count_include_pad", False):
        oh, ow = window.output((x.shape[1], x.shape[2]))
        return np.full((1, oh, ow, 1), window.kernel[0] * window.kernel[1], np.float32)
    inside = np.ones((1, x.shape[1], x.shape[2], 1), np.int32)
    return np.asarray(sum(taps(inside, window, 0)), np.float32)


@register
class Pool2D(Operator):
    """Input x [N,H,W,C]; the largest or average value of each window."""

    table = "Pool2D"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """``[N,OH,OW,C]``."""
        x = inputs[0]
        assert x is not None
        if len(x.shape) != 4:
            raise ValueError(f"input {list(x.shape)} must have rank 4")
        if x.dtype not in (DType.FLOAT32, DType.INT8):
            raise ValueError(f"pooling of {x.dtype.name.lower()} is not supported")
        window = _window(node)
        if window.kernel[0] * window.kernel[1] > _TAPS_LIMIT:
            raise ValueError(f"kernel {window.kernel} is too large")
        oh, ow = window.output((x.shape[1], x.shape[2]))
        return [((x.shape[0], oh, ow, x.shape[3]), x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Maximum, or sum in order of the window's positions divided by their number."""
        x = inputs[0]
        assert x is not None
        window = _window(node)
        if node.params.get("kind", _MAX) == _MAX:
            low = -np.inf if x.dtype == np.float32 else np.iinfo(x.dtype).min
            return [_largest(x, window, low)]
        total = np.zeros(outputs[0].shape, np.float32)
        for view in taps(x, window, np.float32(0)):
            total = total + view
        count = _count(node, x, window)
        return [np.where(count > 0, total / np.maximum(count, 1), np.float32(0)).astype(np.float32)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Maxima move codes; averages have an output scale of their own."""
        return Quantisation(Scales.SAME if node.params.get("kind", _MAX) == _MAX else Scales.FREE)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Averages: requantise(sum(q - z) * (s_in / (s_out * float(count))))."""
        x, out = inputs[0], outputs[0]
        assert x is not None
        window = _window(node)
        if node.params.get("kind", _MAX) == _MAX:
            return [_largest(x.array, window, np.iinfo(x.array.dtype).min)]
        assert x.scale is not None
        assert out.scale is not None
        sums = np.asarray(sum(taps(x.array.astype(np.int32) - np.int32(x.zero_point), window, np.int32(0))), np.int32)
        # A window without any position inside the input has the sum 0, whatever the multiplier.
        count = np.maximum(_count(node, x.array, window), np.float32(1))
        multiplier = np.float32(x.scale[0]) / (np.float32(out.scale[0]) * count)
        return [requantise(sums, multiplier, out.zero_point, *code_limits(out), out.dtype)]

    def int16_quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """As int8, for windows whose sums fit in int32."""
        positions = _window(node).kernel[0] * _window(node).kernel[1]
        if positions > _INT16_LIMIT:
            return Quantisation(Scales.FLOAT, reason=f"a window of {positions} positions could overflow int32 (limit {_INT16_LIMIT})")
        return self.quantisation(node, graph)

    def int16_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """As `int8_reference`."""
        return self.int8_reference(node, inputs, outputs)

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Output elements times window positions."""
        window = _window(node)
        return outputs[0].elements * window.kernel[0] * window.kernel[1]


def _largest(x: Array, window: Window, low: float) -> Array:
    views = taps(x, window, low)
    result = next(views)
    for view in views:
        result = np.maximum(result, view)
    return np.ascontiguousarray(result)


def _reach(window: Window, shape: tuple[int, int]) -> Window:
    """For ceil_mode: pad the end so that the last, partly covered window becomes a whole one. A window that would start in the
    padding behind the input is left out."""
    pads = list(window.pads)
    for axis in (0, 1):
        span = shape[axis] + pads[axis] + pads[axis + 2] - window.extent(axis)
        last = max(-(-span // window.stride[axis]), 0)
        if last * window.stride[axis] >= shape[axis] + pads[axis]:
            last -= 1
        missing = last * window.stride[axis] + window.extent(axis) - (shape[axis] + pads[axis] + pads[axis + 2])
        pads[axis + 2] += max(missing, 0)
    return replace(window, pads=(pads[0], pads[1], pads[2], pads[3]))


@onnx_op("MaxPool", "AveragePool")
def _pool(ctx: Any) -> None:
    average = ctx.op_type == "AveragePool"
    kernel = ctx.attr("kernel_shape")
    if not kernel:
        ctx.fail("attribute kernel_shape is missing")
    if ctx.attr("storage_order", 0) and len([o for o in ctx.node.output if o]) > 1:
        ctx.fail("storage_order 1 is not supported")
    window = import_window(ctx, list(kernel))
    x = ctx.to_nhwc(ctx.input(0))
    _, h, w, _ = ctx.tensor(x).shape
    include = average and bool(ctx.attr("count_include_pad", 0))
    if ctx.attr("ceil_mode", 0) and (ctx.attr("auto_pad", "NOTSET") or "NOTSET") == "NOTSET":
        reached = _reach(window, (h, w))
        if include and reached != window:
            # The divisor counts the model's own padding, not what ceil_mode adds: pad by an operator of its own.
            top, left, bottom, right = window.pads
            x = ctx.emit("Pad", [x], {"kind": 0, "before": [0, top, left, 0], "after": [0, bottom, right, 0], "value": 0.0})
            extra = (0, 0, reached.pads[2] - bottom, reached.pads[3] - right)
            reached, include = replace(window, pads=extra), False
        window = reached
    params = {
        "kind": int(_AVERAGE if average else _MAX),
        "kernel_h": window.kernel[0],
        "kernel_w": window.kernel[1],
        **window.params(),
        "count_include_pad": include,
    }
    ctx.finish(ctx.from_nhwc(ctx.emit("Pool2D", [x], params), ctx.rank(0)))
