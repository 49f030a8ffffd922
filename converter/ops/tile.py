# SPDX-License-Identifier: Apache-2.0
"""Tile: along axis i, y repeats x y.shape[i] / x.shape[i] times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..shapes import emit, integers
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register

__all__ = ["Tile"]


@register
class Tile(Operator):
    """Repetition; the shape is that of the output tensor."""

    table = "Tile"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """Not known from the inputs: ValueError."""
        raise ValueError("its shape is that of its output tensor")

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """``numpy.tile``."""
        (x,) = inputs
        assert x is not None
        return [np.tile(x, [o // d for o, d in zip(outputs[0].shape, x.shape, strict=True)]).reshape(outputs[0].shape)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Codes move."""
        return Quantisation(Scales.SAME)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The codes, repeated."""
        (x,) = inputs
        assert x is not None
        return self.reference(node, [x.array], outputs)

    int16_reference = int8_reference


@onnx_op("Tile")
def import_tile(ctx: Any) -> None:
    """Tile by constant repeats, one per axis."""
    repeats, shape = integers(ctx, 1, "repeats"), ctx.shape(0)
    if len(repeats) != len(shape) or any(r < 1 for r in repeats):
        ctx.fail(f"repeats {repeats} do not fit shape {list(shape)}: one positive number per axis", rule="onnx.shape")
    if all(r == 1 for r in repeats):
        ctx.finish(ctx.input(0))
        return
    wanted = tuple(d * r for d, r in zip(shape, repeats, strict=True))
    ctx.finish(emit(ctx, "Tile", [ctx.input(0)], result=(wanted, ctx.dtype(0))))
