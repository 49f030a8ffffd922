# SPDX-License-Identifier: Apache-2.0
"""DepthwiseConv2D: every output channel reads one input channel. ONNX Conv with group = channels becomes it (conv2d.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..linear import ROWS, check_bias, clamp_float, code_bits, finish_int8, finish_int16, pack_codes, unpack_codes
from ..window import taps, window_of
from .base import Array, Operator, Quantisation, Scales, Value, register

__all__ = ["DepthwiseConv2D"]


def _sums(x: Array, weights: Array, node: Node) -> Array:
    """Sums of products ``[N,OH,OW,O]`` in float64; ``weights`` [KH,KW,O]."""
    kh, kw, outputs = weights.shape
    flat = weights.astype(np.float64).reshape(kh * kw, outputs)
    repeated = np.repeat(x.astype(np.float64), node.params.get("multiplier", 1), axis=3)
    views = taps(repeated, window_of(node, (kh, kw)), 0.0)
    acc = next(views) * flat[0]
    for tap, view in enumerate(views, 1):
        acc += view * flat[tap]
    return np.asarray(acc)


def _padded(channels: int) -> int:
    return -(-channels // ROWS) * ROWS


@register
class DepthwiseConv2D(Operator):
    """Inputs: x [N,H,W,C], weights [KH,KW,C*multiplier], bias [C*multiplier] or absent, weight_sum int32 or absent."""

    int16 = True
    table = "DepthwiseConv2D"

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """``[N,OH,OW,C*multiplier]``."""
        x, w = inputs[0], inputs[1]
        assert x is not None
        assert w is not None
        if len(x.shape) != 4 or len(w.shape) != 3:
            raise ValueError(f"input {list(x.shape)} must have rank 4 and weights {list(w.shape)} rank 3")
        multiplier = node.params.get("multiplier", 1)
        if multiplier < 1 or w.shape[2] != x.shape[3] * multiplier:
            raise ValueError(f"{x.shape[3]} input channels, {w.shape[2]} output channels and multiplier {multiplier} do not fit together")
        check_bias(inputs, w.shape[2])
        oh, ow = window_of(node, (w.shape[0], w.shape[1])).output((x.shape[1], x.shape[2]))
        return [((x.shape[0], oh, ow, w.shape[2]), x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """clamp(sum over taps of x * w + bias)."""
        x, w, bias = [*inputs, None][:3]
        assert x is not None
        assert w is not None
        y = _sums(x, w, node)
        return [clamp_float(y if bias is None else y + bias, node)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Int8 with a free output scale."""
        return Quantisation(Scales.FREE)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The rules of runtime_c/src/ops/linear.h with K = KH * KW."""
        x, w, bias = [*inputs, None][:3]
        assert x is not None
        assert w is not None
        sums = _sums(x.array.astype(np.int32) - x.zero_point, w.array, node)
        depth = w.array.shape[0] * w.array.shape[1]
        return [finish_int8(node, sums, x, w, None if bias is None else bias.array, None, outputs[0], depth)]

    def int16_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The rules of runtime_c/src/ops/linear.h."""
        x, w, bias = [*inputs, None][:3]
        assert x is not None
        assert w is not None
        return [finish_int16(node, _sums(x.array, w.array, node), x, w, None if bias is None else bias.array, None, outputs[0])]

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Output elements times kernel positions."""
        assert inputs[1] is not None
        return outputs[0].elements * inputs[1].shape[0] * inputs[1].shape[1]

    def pack(self, node: Node, position: int, tensor: Tensor) -> bytes:
        """Weights: [KH*KW][channels rounded up to 16], float32 or a bit string of codes."""
        if position != 1:
            return super().pack(node, position, tensor)
        assert tensor.data is not None
        kh, kw, channels = tensor.shape
        bits = code_bits(tensor)
        padded = np.zeros((kh * kw, _padded(channels)), "<f4" if bits == 0 else np.int16)
        padded[:, :channels] = tensor.data.reshape(kh * kw, channels)
        return padded.tobytes() if bits == 0 else pack_codes(padded, bits)

    def unpack(self, node: Node, tensor: Tensor, data: bytes) -> Array:
        """The logical weights (float32, or codes as int16) from their stored bytes."""
        kh, kw, channels = tensor.shape
        bits, width = code_bits(tensor), _padded(tensor.shape[2])
        flat = np.frombuffer(data, "<f4") if bits == 0 else unpack_codes(data, bits, kh * kw * width)
        return flat.reshape(kh, kw, width)[:, :, :channels].copy()
