# SPDX-License-Identifier: Apache-2.0
"""ARQ: weight quantisation of AMCT. Symmetric, per output channel or per tensor, float32 throughout.

s = max|w|/127, or max|w|/128 when |max| < |min|;   s < 2^-23 -> 1;   q = clip(rint(w/s), -128, 127)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .ifmr import EPSILON

__all__ = ["BiasOverflowError", "arq_scales", "channels_first", "deq_scales", "quantise_bias", "quantise_weights", "spread"]

Array = npt.NDArray[Any]


class BiasOverflowError(Exception):
    """The int32 bias of at least one channel does not fit. Attribute ``channel`` is the first such channel."""

    def __init__(self, channel: int, value: float) -> None:
        self.channel, self.value = channel, value
        super().__init__(f"channel {channel}: {value:.4g}")


def channels_first(op: str, weights: Array, group: int) -> Array:
    """View the weights as [output channels, everything else].

    Conv: axis 0. ConvTranspose [Cin, Cout/g, k...]: channel g*(Cout/g)+j is column j of group g. Gemm and MatMul [K, N]: axis 1.
    """
    if op == "Conv":
        return weights.reshape(weights.shape[0], -1)
    if op == "ConvTranspose":
        split = weights.reshape(group, weights.shape[0] // group, weights.shape[1], -1)
        return split.transpose(0, 2, 1, 3).reshape(group * weights.shape[1], -1)
    return weights.T.reshape(weights.shape[1], -1)


def spread(op: str, per_channel: Array, weights: Array, group: int) -> Array:
    """One value per output channel (or a single one) in a shape that broadcasts over the weights."""
    if per_channel.size == 1:
        return per_channel.reshape(())
    if op == "Conv":
        return per_channel.reshape(-1, *(1,) * (weights.ndim - 1))
    if op == "ConvTranspose":
        by_group = per_channel.reshape(group, 1, weights.shape[1], *(1,) * (weights.ndim - 2))
        shape = (group, weights.shape[0] // group, *by_group.shape[2:])
        return np.broadcast_to(by_group, shape).reshape(weights.shape[0], *by_group.shape[2:])
    return per_channel.reshape(1, -1)


def arq_scales(op: str, weights: Array, group: int, channel_wise: bool) -> Array:
    """scale_w: float32 [Cout], or [1] without ``channel_wise``."""
    rows = channels_first(op, np.asarray(weights, dtype=np.float32), group)
    high = rows.max(axis=1) if channel_wise else rows.max(keepdims=True).ravel()
    low = rows.min(axis=1) if channel_wise else rows.min(keepdims=True).ravel()
    limit = np.where(np.abs(high) >= np.abs(low), np.float32(127.0), np.float32(128.0)).astype(np.float32)
    scale = np.maximum(np.abs(high), np.abs(low)) / limit
    return np.where(scale < EPSILON, np.float32(1.0), scale).astype(np.float32)


def quantise_weights(op: str, weights: Array, scales: Array, group: int) -> Array:
    """int8 codes in the weights' own shape: clip(rint(w / s))."""
    ratio = np.asarray(weights, dtype=np.float32) / spread(op, scales, weights, group)
    return np.clip(np.rint(ratio), -128, 127).astype(np.int8)


def deq_scales(scale_d: np.float32, scale_w: Array) -> Array:
    """f32(scale_d * scale_w), one per weight scale."""
    return (np.float32(scale_d) * scale_w.astype(np.float32)).astype(np.float32)


def quantise_bias(bias: Array, scale_d: np.float32, scale_w: Array) -> Array:
    """int32 bias: rint(f32(bias) / f32(scale_w * scale_d)), float32.

    Raises:
        BiasOverflowError: a value lies outside int32.
    """
    with np.errstate(over="ignore"):
        ratio = np.rint(np.asarray(bias, dtype=np.float32) / deq_scales(scale_d, scale_w))
    wrong = ~((ratio >= -2147483648.0) & (ratio < 2147483648.0))
    if wrong.any():
        channel = int(np.argmax(wrong))
        raise BiasOverflowError(channel, float(ratio[channel]))
    return ratio.astype(np.int64).astype(np.int32)
