# SPDX-License-Identifier: Apache-2.0
"""Transpose: axis i of y is axis perm[i] of x. With it DepthToSpace and SpaceToDepth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..shapes import axes_of, emit
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register

__all__ = ["Transpose"]


@register
class Transpose(Operator):
    """Axes in another order."""

    table = "Transpose"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """The permuted shape."""
        (x,) = inputs
        assert x is not None
        perm = node.params["perm"]
        if sorted(perm) != list(range(len(x.shape))):
            raise ValueError(f"perm {list(perm)} does not permute the axes of {list(x.shape)}")
        return [(tuple(x.shape[p] for p in perm), x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """``numpy.transpose``."""
        (x,) = inputs
        assert x is not None
        return [np.ascontiguousarray(np.transpose(x, node.params["perm"])).reshape(outputs[0].shape)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Codes move."""
        return Quantisation(Scales.SAME)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The codes, transposed."""
        (x,) = inputs
        assert x is not None
        return self.reference(node, [x.array], outputs)

    int16_reference = int8_reference


@onnx_op("Transpose")
def import_transpose(ctx: Any) -> None:
    """Transpose; without perm the axes are reversed."""
    rank = ctx.rank(0)
    perm = ctx.attr("perm")
    perm = list(range(rank))[::-1] if perm is None else axes_of(ctx, perm, rank, "perm")
    if len(perm) != rank:
        ctx.fail(f"perm {perm} does not fit rank {rank}", rule="onnx.axis")
    if perm == list(range(rank)):
        ctx.finish(ctx.input(0))
        return
    ctx.finish(emit(ctx, "Transpose", [ctx.input(0)], {"perm": perm}))


def _block(ctx: Any) -> int:
    size = int(ctx.attr("blocksize", 0))
    if ctx.rank(0) != 4 or size < 1:
        ctx.fail(f"needs rank 4 and a positive blocksize; it has rank {ctx.rank(0)} and blocksize {size}", rule="onnx.shape")
    return size


@onnx_op("DepthToSpace")
def import_depth_to_space(ctx: Any) -> None:
    """In NHWC the channels split into (block row, block column, channel), or in mode CRD (channel, block row, block column)."""
    size, (n, c, h, w) = _block(ctx), ctx.shape(0)
    mode = ctx.attr("mode", "DCR")
    if c % (size * size) or mode not in ("DCR", "CRD"):
        ctx.fail(f"{c} channels do not split into blocks of {size} (mode {mode})", rule="onnx.shape")
    depth = c // (size * size)
    split = (n, h, w, size, size, depth) if mode == "DCR" else (n, h, w, depth, size, size)
    perm = [0, 1, 3, 2, 4, 5] if mode == "DCR" else [0, 1, 4, 2, 5, 3]
    x = ctx.reshape(ctx.to_nhwc(ctx.input(0)), split)
    x = ctx.reshape(ctx.emit("Transpose", [x], {"perm": perm}), (n, h * size, w * size, depth))
    ctx.finish(ctx.from_nhwc(x, 4))


@onnx_op("SpaceToDepth")
def import_space_to_depth(ctx: Any) -> None:
    """In NHWC the block's row and column go in front of the channel, or in mode CRD behind it."""
    size, (n, c, h, w) = _block(ctx), ctx.shape(0)
    mode = ctx.attr("mode", "DCR")
    if h % size or w % size or mode not in ("DCR", "CRD"):
        ctx.fail(f"{h} x {w} does not split into blocks of {size} (mode {mode})", rule="onnx.shape")
    x = ctx.reshape(ctx.to_nhwc(ctx.input(0)), (n, h // size, size, w // size, size, c))
    x = ctx.emit("Transpose", [x], {"perm": [0, 1, 3, 2, 4, 5] if mode == "DCR" else [0, 1, 3, 5, 2, 4]})
    x = ctx.reshape(x, (n, h // size, w // size, size * size * c))
    ctx.finish(ctx.from_nhwc(x, 4))
