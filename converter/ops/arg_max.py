# SPDX-License-Identifier: Apache-2.0
"""ArgMax, and the import of ONNX ArgMax and ArgMin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor, numpy_dtype
from ..shapes import axis_of, emit
from .base import Array, Operator, Quantisation, Scales, onnx_op, register

__all__ = ["ArgMax"]


@register
class ArgMax(Operator):
    """Index of the largest (``smallest``: smallest) value along ``axis``; of equal ones the first, or the last with ``select_last``."""

    table = "ArgMax"

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """INT64 without the axis, or with 1 in its place."""
        x = inputs[0]
        assert x is not None
        axis = node.params.get("axis", 0)
        if not 0 <= axis < len(x.shape):
            raise ValueError(f"axis {axis} does not fit an input of rank {len(x.shape)}")
        if x.dtype not in (DType.FLOAT32, DType.INT8, DType.INT32, DType.UINT8):
            raise ValueError(f"the index of the largest {x.dtype.name.lower()} is not supported")
        keep = (1,) if node.params.get("keep_dims", True) else ()
        return [((*x.shape[:axis], *keep, *x.shape[axis + 1 :]), DType.INT64)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """By numpy's argmax, from the other end with ``select_last``; NaN is chosen only when it comes first."""
        x = inputs[0]
        assert x is not None
        axis = node.params.get("axis", 0)
        rows = np.moveaxis(x, axis, -1).astype(np.float64)
        rows = -rows if node.params.get("smallest", False) else rows
        length = rows.shape[-1]
        ranked = np.where(np.isnan(rows), -np.inf, rows)
        index = length - 1 - ranked[..., ::-1].argmax(axis=-1) if node.params.get("select_last", False) else ranked.argmax(axis=-1)
        index = np.where(np.isnan(rows[..., 0]), 0, index)
        return [index.astype(numpy_dtype(outputs[0].dtype)).reshape(outputs[0].shape)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """The result is a whole number, not a quantised one; the input may be int8 or float."""
        return Quantisation(Scales.FLOAT, reason="its result is an index")

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Input elements."""
        assert inputs[0] is not None
        return inputs[0].elements


@onnx_op("ArgMax", "ArgMin")
def _arg_max(ctx: Any) -> None:
    axis = axis_of(ctx, ctx.attr("axis", 0), ctx.rank(0))
    params = {
        "axis": axis,
        "keep_dims": bool(ctx.attr("keepdims", 1)),
        "select_last": bool(ctx.attr("select_last_index", 0)),
        "smallest": ctx.op_type == "ArgMin",
    }
    ctx.finish(emit(ctx, "ArgMax", [ctx.input(0)], params))
