# SPDX-License-Identifier: Apache-2.0
"""Expand: x broadcast to the shape of y by NumPy's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..shapes import broadcast, emit, integers
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register

__all__ = ["Expand"]


@register
class Expand(Operator):
    """Broadcasting; the shape is that of the output tensor."""

    table = "Expand"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """Not known from the inputs: ValueError."""
        raise ValueError("its shape is that of its output tensor")

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """``numpy.broadcast_to``."""
        (x,) = inputs
        assert x is not None
        return [np.array(np.broadcast_to(x, outputs[0].shape))]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Codes move."""
        return Quantisation(Scales.SAME)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The codes, broadcast."""
        (x,) = inputs
        assert x is not None
        return self.reference(node, [x.array], outputs)

    int16_reference = int8_reference


@onnx_op("Expand")
def import_expand(ctx: Any) -> None:
    """Expand: the shape broadcasts with the input's, so it may be the smaller one."""
    wanted = integers(ctx, 1, "the shape")
    try:
        shape = broadcast(ctx.shape(0), wanted)
    except ValueError as error:
        ctx.fail(str(error), rule="onnx.shape")
    if shape == ctx.shape(0):
        ctx.finish(ctx.input(0))
        return
    ctx.finish(emit(ctx, "Expand", [ctx.input(0)], result=(shape, ctx.dtype(0))))
