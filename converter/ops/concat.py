# SPDX-License-Identifier: Apache-2.0
"""Concat: the inputs one after the other along an axis, all on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..shapes import axis_of, emit
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register

__all__ = ["Concat"]


@register
class Concat(Operator):
    """Joining along an axis."""

    table = "Concat"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """The first input's shape with the axis summed."""
        parts = [t for t in inputs if t is not None]
        axis, first = node.params.get("axis", 0), parts[0]
        if not 0 <= axis < len(first.shape):
            raise ValueError(f"axis {axis} does not exist in {list(first.shape)}")
        for t in parts:
            same = len(t.shape) == len(first.shape) and all(
                d == f for i, (d, f) in enumerate(zip(t.shape, first.shape, strict=False)) if i != axis
            )
            if not same or t.dtype is not first.dtype:
                raise ValueError(
                    f"{t.dtype.name.lower()}{list(t.shape)} does not continue {first.dtype.name.lower()}{list(first.shape)} on axis {axis}"
                )
        total = sum(t.shape[axis] for t in parts)
        return [((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """``numpy.concatenate``."""
        return [np.concatenate([x for x in inputs if x is not None], axis=node.params.get("axis", 0))]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Codes move; every input is data."""
        return Quantisation(Scales.SAME, data=tuple(range(len(node.inputs))))

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The codes, joined."""
        return self.reference(node, [None if x is None else x.array for x in inputs], outputs)

    int16_reference = int8_reference


@onnx_op("Concat")
def import_concat(ctx: Any) -> None:
    """Concat; one input alone is itself."""
    axis = axis_of(ctx, int(ctx.attr("axis", 0)), max(ctx.rank(0), 1))
    names = [ctx.input(i) for i in range(ctx.inputs)]
    ctx.finish(names[0] if len(names) == 1 else emit(ctx, "Concat", names, {"axis": axis}))
