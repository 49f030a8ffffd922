# SPDX-License-Identifier: Apache-2.0
"""Gather: y = x[..., indices, ...] along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..shapes import axis_of, emit
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register

__all__ = ["Gather"]


@register
class Gather(Operator):
    """Picking by index."""

    table = "Gather"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """The axis is replaced by the shape of the indices."""
        x, indices = inputs
        assert x is not None
        assert indices is not None
        axis = node.params.get("axis", 0)
        if not 0 <= axis < len(x.shape):
            raise ValueError(f"axis {axis} does not exist in {list(x.shape)}")
        if indices.dtype not in (DType.INT32, DType.INT64):
            raise ValueError(f"indices are {indices.dtype.name.lower()}, not int32 or int64")
        if (
            indices.data is not None
            and indices.data.size
            and not -x.shape[axis] <= indices.data.min() <= indices.data.max() < x.shape[axis]
        ):
            raise ValueError(f"indices {indices.data.min()} to {indices.data.max()} are outside dimension {x.shape[axis]}")
        return [((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """``numpy.take``; ValueError for an index out of range."""
        x, indices = inputs
        assert x is not None
        assert indices is not None
        try:
            return [np.asarray(np.take(x, indices, axis=node.params.get("axis", 0))).reshape(outputs[0].shape)]
        except IndexError as error:
            raise ValueError(f"Gather {node.name}: {error}") from error

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Codes move."""
        return Quantisation(Scales.SAME)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The codes that the indices name; of a coded table with float32 output ``code * scale[row]``."""
        x, indices = inputs
        assert x is not None
        assert indices is not None
        table = x.array
        if outputs[0].dtype is DType.FLOAT32 and x.scale is not None:
            table = table.astype(np.float32) * x.scale.astype(np.float32).reshape(-1, *[1] * (table.ndim - 1))
        return self.reference(node, [table, indices.array], outputs)

    int16_reference = int8_reference


@onnx_op("Gather")
def import_gather(ctx: Any) -> None:
    """Gather by constant or computed indices."""
    axis = axis_of(ctx, int(ctx.attr("axis", 0)), max(ctx.rank(0), 1))
    ctx.finish(emit(ctx, "Gather", [ctx.input(0), ctx.input(1)], {"axis": axis}))
