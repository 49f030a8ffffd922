# SPDX-License-Identifier: Apache-2.0
"""Resize along H and W through tables of source positions and weights. The import is in converter/resampling.py."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..resampling import import_resize
from .base import Array, Operator, Quantisation, Scales, Value, code_limits, onnx_op, register, rne

__all__ = ["Resize", "ResizeKind"]


class ResizeKind(IntEnum):
    """See `ResizeKind` in schemas/ops.fbs; `taps` source positions per output position."""

    NEAREST = 0
    LINEAR = 1
    CUBIC = 2

    @property
    def taps(self) -> int:
        """Source positions per output position."""
        return (1, 2, 4)[self]


def _kind(node: Node) -> ResizeKind:
    return ResizeKind(node.params.get("kind", 0))


def _table(node: Node, axis: str, dtype: Any) -> tuple[Array, Array]:
    """Positions [out, taps] and weights of the same shape (int8: the integers rne(weight * 2048))."""
    taps = _kind(node).taps
    index = np.asarray(node.params[f"{axis}_index"], np.int64).reshape(-1, taps)
    if taps == 1:
        return index, np.ones(index.shape, dtype)
    weight = np.asarray(node.params[f"{axis}_weight"], np.float32).reshape(-1, taps)
    return index, weight if dtype == np.float32 else np.rint(weight * np.float32(2048)).astype(dtype)


def _weighted(node: Node, x: Array, dtype: Any) -> Array:
    """sum over ty of wy * (sum over tx of wx * x), in order, every operation rounded on its own."""
    iy, wy = _table(node, "y", dtype)
    ix, wx = _table(node, "x", dtype)
    result: Array | None = None
    for ty in range(iy.shape[1]):
        row: Array | None = None
        line = x[:, iy[:, ty]]
        for tx in range(ix.shape[1]):
            term = line[:, :, ix[:, tx]] * wx[:, tx][None, None, :, None]
            row = term if row is None else row + term
        assert row is not None
        term = row * wy[:, ty][None, :, None, None]
        result = term if result is None else result + term
    assert result is not None
    return result


def _nearest(node: Node, x: Array) -> Array:
    iy, _ = _table(node, "y", np.int32)
    ix, _ = _table(node, "x", np.int32)
    return np.ascontiguousarray(x[:, iy[:, 0]][:, :, ix[:, 0]])


@register
class Resize(Operator):
    """Input x [N,H,W,C]. Positions lie inside the input; the parameters hold 1, 2 or 4 of them per output row and column."""

    table = "Resize"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """``[N,OH,OW,C]``; the tables give OH and OW."""
        x = inputs[0]
        assert x is not None
        if len(x.shape) != 4:
            raise ValueError(f"input {list(x.shape)} must have rank 4")
        if _kind(node) is not ResizeKind.NEAREST and x.dtype not in (DType.FLOAT32, DType.INT8, DType.INT16):
            raise ValueError(f"interpolation of {x.dtype.name.lower()} is not supported")
        sizes = []
        for axis, size in (("y", x.shape[1]), ("x", x.shape[2])):
            index = np.asarray(node.params[f"{axis}_index"])
            if index.size == 0 or index.size % _kind(node).taps or index.min() < 0 or index.max() >= size:
                raise ValueError(f"table {axis}_index does not fit a side of {size}")
            sizes.append(index.size // _kind(node).taps)
        return [((x.shape[0], sizes[0], sizes[1], x.shape[3]), x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Copies, or weighted sums in float32."""
        x = inputs[0]
        assert x is not None
        return [_nearest(node, x) if _kind(node) is ResizeKind.NEAREST else _weighted(node, x, np.float32).astype(np.float32)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Nearest and linear keep the scale; cubic overshoots and stays in float."""
        if _kind(node) is ResizeKind.CUBIC:
            return Quantisation(Scales.FLOAT, reason="cubic interpolation has no int8 form")
        return Quantisation(Scales.SAME)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Linear: ((sum of W * W * (q - z) + 2^21) >> 22) + z, clamped; nearest moves codes."""
        x = inputs[0]
        assert x is not None
        if _kind(node) is ResizeKind.NEAREST:
            return [_nearest(node, x.array)]
        acc = _weighted(node, x.array.astype(np.int32) - np.int32(x.zero_point), np.int32)
        return [np.clip(((acc + (1 << 21)) >> 22) + x.zero_point, -128, 127).astype(np.int8)]

    def int16_quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Nearest, linear and cubic keep the scale."""
        return Quantisation(Scales.SAME)

    def int16_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The codes as floats, resampled, rounded and clamped; nearest moves codes."""
        x = inputs[0]
        assert x is not None
        if _kind(node) is ResizeKind.NEAREST:
            return [_nearest(node, x.array)]
        low, high = code_limits(outputs[0])
        return [rne(np.clip(_weighted(node, x.array.astype(np.float32), np.float32), low, high)).astype(np.int16)]

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Output elements times source positions of each."""
        return outputs[0].elements * _kind(node).taps ** 2


onnx_op("Resize", "Upsample")(import_resize)
