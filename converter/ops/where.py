# SPDX-License-Identifier: Apache-2.0
"""Where: y = condition ? a : b, the three broadcast to y's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..shapes import broadcast, emit_node
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register

__all__ = ["Where"]

_LARGE = 1e4
"""A constant beyond this, such as a mask's -1e9, would take the whole int8 range."""


@register
class Where(Operator):
    """Choice by a condition."""

    table = "Where"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """The broadcast shape and the type of both alternatives."""
        condition, a, b = inputs
        assert condition is not None
        assert a is not None
        assert b is not None
        if condition.dtype is not DType.BOOL:
            raise ValueError(f"the condition is {condition.dtype.name.lower()}, not bool")
        if a.dtype is not b.dtype:
            raise ValueError(f"the alternatives are {a.dtype.name.lower()} and {b.dtype.name.lower()}")
        return [(broadcast(condition.shape, a.shape, b.shape), a.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """``numpy.where``."""
        condition, a, b = inputs
        assert condition is not None
        return [np.asarray(np.where(condition, a, b)).reshape(outputs[0].shape)]  # type: ignore[arg-type]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Codes move, unless an alternative is a constant like -1e9 or -inf."""
        for name in node.inputs[1:]:
            data = graph.tensors[name].data
            if data is not None and data.size and not np.abs(data).max() <= _LARGE:
                return Quantisation(Scales.FLOAT, reason=f"constant {name!r} holds numbers beyond {_LARGE:g}, such as a mask")
        return Quantisation(Scales.SAME, data=(1, 2))

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The chosen codes."""
        return self.reference(node, [None if v is None else v.array for v in inputs], outputs)

    int16_reference = int8_reference


@onnx_op("Where")
def import_where(ctx: Any) -> None:
    """Where."""
    emit_node(ctx, "Where", [ctx.input(0), ctx.input(1), ctx.input(2)])
