# SPDX-License-Identifier: Apache-2.0
"""NormalizePicture: UINT8 pictures, channels last, to ``(x - mean[c]) / std[c]``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from .base import Array, Operator, Quantisation, Scales, Value, register, requantise

__all__ = ["NormalizePicture"]

F = np.float32


@register
class NormalizePicture(Operator):
    """Mean and standard deviation of each channel, on bytes as a camera gives them."""

    table = "NormalizePicture"

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """FLOAT32 of the same shape."""
        (x,) = inputs
        assert x is not None
        if x.dtype is not DType.UINT8 or not x.shape:
            raise ValueError(f"needs uint8 pictures, got {x.dtype.name.lower()} {list(x.shape)}")
        for name in ("mean", "std"):
            if len(node.params[name]) != x.shape[-1]:
                raise ValueError(f"{len(node.params[name])} values of {name} for {x.shape[-1]} channels")
        return [(x.shape, DType.FLOAT32)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """One subtraction and one division, each rounded to float32."""
        (x,) = inputs
        assert x is not None
        with np.errstate(over="ignore"):
            return [(x.astype(F) - np.asarray(node.params["mean"], F)) / np.asarray(node.params["std"], F)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """The result has its own range; the bytes are no codes."""
        return Quantisation(Scales.FREE, data=())

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The float result, quantised."""
        (x,) = inputs
        y = outputs[0]
        assert x is not None
        assert y.scale is not None
        (real,) = self.reference(node, [x.array], outputs)
        with np.errstate(all="ignore"):
            return [requantise(real, F(1) / F(y.scale[0]), y.zero_point)]
