# SPDX-License-Identifier: Apache-2.0
"""Quantize: clamp(rne(x * (1 / scale)) + zero_point), float32 to INT8 or INT16. NaN gives the lowest code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import DType, Node, Tensor, numpy_dtype
from .base import Array, Operator, Value, register

__all__ = ["Quantize"]

F = np.float32


@register
class Quantize(Operator):
    """Real numbers to codes; scale and zero point are those of the output tensor."""

    table = "Quantize"

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """INT8 of the same shape."""
        (x,) = inputs
        assert x is not None
        if x.dtype is not DType.FLOAT32:
            raise ValueError(f"needs float32, got {x.dtype.name.lower()}")
        return [(x.shape, DType.INT8)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The codes."""
        (x,) = inputs
        y = outputs[0]
        assert x is not None
        assert y.scale is not None
        info = np.iinfo(numpy_dtype(y.dtype))
        low, high = F(info.min - y.zero_point), F(info.max - y.zero_point)
        with np.errstate(all="ignore"):
            value = np.array(x, F, ndmin=1) * (F(1) / F(y.scale[0]))
        value = np.where(value > low, value, low)
        value = np.where(value < high, value, high)
        return [(np.rint(value).astype(np.int32) + y.zero_point).astype(info.dtype).reshape(y.shape)]

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The same."""
        (x,) = inputs
        assert x is not None
        return self.reference(node, [x.array], outputs)
