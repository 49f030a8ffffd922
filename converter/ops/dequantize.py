# SPDX-License-Identifier: Apache-2.0
"""Dequantize: (x - zero_point) * scale, INT8 or INT16 to float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import DType, Node, Tensor
from .base import Array, Operator, Value, register

__all__ = ["Dequantize"]


@register
class Dequantize(Operator):
    """Codes to real numbers; scale and zero point are those of the input tensor."""

    table = "Dequantize"

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """FLOAT32 of the same shape."""
        (x,) = inputs
        assert x is not None
        if x.dtype not in (DType.INT8, DType.INT16):
            raise ValueError(f"needs int8 or int16, got {x.dtype.name.lower()}")
        return [(x.shape, DType.FLOAT32)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Real numbers pass; codes alone cannot be read without their scale: ValueError."""
        (x,) = inputs
        assert x is not None
        if x.dtype != np.float32:
            raise ValueError("Dequantize of bare codes needs int8_reference, which knows their scale")
        return [x]

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The real numbers, float32."""
        (x,) = inputs
        assert x is not None
        return [x.real()]

    int16_reference = int8_reference
