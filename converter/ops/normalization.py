# SPDX-License-Identifier: Apache-2.0
"""ONNX normalisations that are made of other operators: BatchNormalization, InstanceNormalization, GroupNormalization, LRN."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import DType
from .base import Array, onnx_op
from .binary import BinaryKind
from .pool2d import PoolKind
from .unary import UnaryKind

_MUL, _ADD = {"kind": int(BinaryKind.MUL)}, {"kind": int(BinaryKind.ADD)}


def _per_channel(ctx: Any, i: int, what: str, channels: int) -> Array:
    data = ctx.require_constant(i, what)
    if data.shape != (channels,):
        ctx.fail(f"{what} has shape {list(data.shape)}, not [{channels}]")
    return np.asarray(data, np.float64)


def _affine(ctx: Any, x: str, scale: Array, bias: Array, trailing: int, hint: str) -> str:
    """x * scale + bias along the axis before ``trailing`` last ones."""
    shape = (-1, *([1] * trailing))
    y = ctx.emit("Binary", [x, ctx.const(scale.astype(np.float32).reshape(shape), f"{hint}_scale")], _MUL)
    return str(ctx.emit("Binary", [y, ctx.const(bias.astype(np.float32).reshape(shape), f"{hint}_bias")], _ADD))


@onnx_op("BatchNormalization")
def _batch_normalization(ctx: Any) -> None:
    """y = x * a + (bias - mean * a) with a = scale / sqrt(variance + epsilon), per channel."""
    if ctx.attr("training_mode", 0) or (ctx.outputs > 1 and any(ctx.node.output[1:])):
        ctx.fail("training mode is not supported", "Export the model in inference mode")
    rank = ctx.rank(0)
    channels = ctx.shape(0)[1] if rank > 1 else 1
    scale, bias = _per_channel(ctx, 1, "the scale", channels), _per_channel(ctx, 2, "the bias", channels)
    mean, variance = _per_channel(ctx, 3, "the mean", channels), _per_channel(ctx, 4, "the variance", channels)
    epsilon = float(ctx.attr("epsilon", 1e-5))
    if (variance + epsilon <= 0).any():
        ctx.fail(f"variance + epsilon must be positive, the smallest is {float((variance + epsilon).min()):g}")
    a = scale / np.sqrt(variance + epsilon)
    b = bias - mean * a
    if rank in (3, 4):
        ctx.finish(ctx.from_nhwc(_affine(ctx, ctx.to_nhwc(ctx.input(0)), a, b, 0, ctx.name), rank))
        return
    ctx.finish(_affine(ctx, ctx.input(0), a, b, max(rank - 2, 0), ctx.name))


def _normalise_groups(ctx: Any, groups: int) -> str:
    """x [N,C,...] with mean 0 and variance 1 within each of ``groups`` groups of channels."""
    shape = ctx.shape(0)
    flat = ctx.reshape(ctx.input(0), (shape[0], groups, int(np.prod(shape[1:])) // groups))
    y = ctx.emit("LayerNorm", [flat], {"epsilon": float(ctx.attr("epsilon", 1e-5))})
    return str(ctx.reshape(y, shape))


@onnx_op("InstanceNormalization")
def _instance_normalization(ctx: Any) -> None:
    """Over the spatial axes of each channel, then scale and bias per channel."""
    shape = ctx.shape(0)
    if len(shape) < 3:
        ctx.fail(f"input of shape {list(shape)} has no spatial axes")
    scale, bias = _per_channel(ctx, 1, "the scale", shape[1]), _per_channel(ctx, 2, "the bias", shape[1])
    ctx.finish(_affine(ctx, _normalise_groups(ctx, shape[1]), scale, bias, len(shape) - 2, ctx.name))


@onnx_op("GroupNormalization")
def _group_normalization(ctx: Any) -> None:
    """Over groups of channels; scale and bias per channel. (The form before opset 21 is deprecated in ONNX and refused there.)"""
    shape, groups = ctx.shape(0), ctx.attr("num_groups", 0)
    if len(shape) < 2 or groups < 1 or shape[1] % groups:
        ctx.fail(f"{groups} groups do not fit an input of shape {list(shape)}")
    scale, bias = _per_channel(ctx, 1, "the scale", shape[1]), _per_channel(ctx, 2, "the bias", shape[1])
    ctx.finish(_affine(ctx, _normalise_groups(ctx, groups), scale, bias, len(shape) - 2, ctx.name))


@onnx_op("LRN")
def _lrn(ctx: Any) -> None:
    """y = x * (bias + alpha / size * sum of squares over `size` neighbouring channels) ^ -beta."""
    shape, size = ctx.shape(0), int(ctx.attr("size", 0))
    if size < 1 or len(shape) < 3 or ctx.dtype(0) is not DType.FLOAT32:
        ctx.fail(f"size {size} does not fit an input of shape {list(shape)}")
    x = ctx.input(0)
    square = ctx.emit("Binary", [x, x], _MUL)
    # Channels become the height of a picture that is padded with zeros; the average over `size` rows is what alpha multiplies.
    flat = ctx.reshape(square, (shape[0], shape[1], 1, int(np.prod(shape[2:]))))
    window = {"kernel_h": size, "pad_top": (size - 1) // 2, "pad_bottom": size // 2}
    mean = ctx.emit("Pool2D", [flat], {"kind": int(PoolKind.AVERAGE), **window, "count_include_pad": True})
    scaled = ctx.emit("Binary", [ctx.reshape(mean, shape), ctx.const(np.float32(ctx.attr("alpha", 1e-4)), "alpha")], _MUL)
    total = ctx.emit("Binary", [scaled, ctx.const(np.float32(ctx.attr("bias", 1.0)), "bias")], _ADD)
    factor = ctx.emit("Unary", [total], {"kind": int(UnaryKind.POW), "alpha": -float(ctx.attr("beta", 0.75))})
    ctx.finish(ctx.emit("Binary", [x, factor], _MUL))
