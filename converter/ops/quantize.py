# SPDX-License-Identifier: Apache-2.0
"""Quantize: clamp(rne(x * (1 / scale)) + zero_point), float32 to INT8 or INT16, or codes to another type or scale: clamp(rne((x -
zero_x) * (scale_x / scale_y)) + zero_y). NaN gives the lowest code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import DType, Node, Tensor, numpy_dtype
from .base import Array, Operator, Value, code_limits, register

__all__ = ["Quantize"]

F = np.float32


def _codes(value: Array, y: Tensor) -> Array:
    """clamp(rne(value) + zero_point) for float32 numbers in units of y's scale."""
    low, high = (F(limit - y.zero_point) for limit in code_limits(y))
    value = np.where(value > low, value, low)
    value = np.where(value < high, value, high)
    return (np.rint(value).astype(np.int32) + y.zero_point).astype(numpy_dtype(y.dtype)).reshape(y.shape)


@register
class Quantize(Operator):
    """Real numbers to codes; scale and zero point are those of the output tensor."""

    table = "Quantize"

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """INT8 of the same shape."""
        (x,) = inputs
        assert x is not None
        if x.dtype not in (DType.FLOAT32, DType.INT8, DType.INT16):
            raise ValueError(f"needs float32 or codes, got {x.dtype.name.lower()}")
        return [(x.shape, DType.INT8)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The codes."""
        (x,) = inputs
        y = outputs[0]
        assert x is not None
        assert y.scale is not None
        with np.errstate(all="ignore"):
            return [_codes(np.array(x, F, ndmin=1) * (F(1) / F(y.scale[0])), y)]

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The same, or codes from codes."""
        (x,) = inputs
        y = outputs[0]
        assert x is not None
        assert y.scale is not None
        if x.scale is None:
            return self.reference(node, [x.array], outputs)
        steps = (np.array(x.array, np.int32, ndmin=1) - x.zero_point).astype(F)
        return [_codes(steps * (F(x.scale[0]) / F(y.scale[0])), y)]

    int16_reference = int8_reference
