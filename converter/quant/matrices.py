# SPDX-License-Identifier: Apache-2.0
"""Operators with weights seen as matrix products: every output is the sum over K inputs of weight * input.

Weights become ``[groups, rows, K]``; the inputs of an output position become ``[groups, K]``. K runs over kernel positions and, inside
one, over the channels of a group.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Node
from ..window import Window, window_of

__all__ = ["depth_of", "from_matrix", "input_rows", "per_channel", "positions_of", "to_matrix"]

Array = np.ndarray[Any, Any]


def to_matrix(node: Node, weights: Array) -> Array:
    """Weights in the graph's layout as ``[groups, rows, K]``; output channel = group * rows + row.

    The kernel positions of a transposed convolution are rows: each multiplies an input position by itself.
    """
    if node.op == "FullyConnected":
        return weights[None]
    if node.op == "DepthwiseConv2D":
        kh, kw, channels = weights.shape
        multiplier = node.params.get("multiplier", 1)
        return weights.reshape(kh * kw, channels // multiplier, multiplier).transpose(1, 2, 0)
    outputs, kh, kw, depth = weights.shape
    group = node.params.get("group", 1)
    if node.op == "ConvTranspose2D":
        return weights.reshape(group, outputs // group * kh * kw, depth)
    return weights.reshape(group, outputs // group, kh * kw * depth)


def from_matrix(node: Node, matrix: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `to_matrix`: an array of the weights' ``shape``."""
    if node.op == "DepthwiseConv2D":
        return np.ascontiguousarray(matrix.transpose(2, 0, 1).reshape(shape))
    return np.ascontiguousarray(matrix.reshape(shape))


def per_channel(node: Node, values: Array, weights_shape: tuple[int, ...]) -> Array:
    """One value per output channel as ``[groups, rows]`` of the matrix."""
    if node.op == "FullyConnected":
        return values[None]
    if node.op == "DepthwiseConv2D":
        return values.reshape(-1, node.params.get("multiplier", 1))
    group = node.params.get("group", 1)
    rows = values.reshape(group, -1)
    return np.repeat(rows, weights_shape[1] * weights_shape[2], axis=1) if node.op == "ConvTranspose2D" else rows


def depth_of(node: Node, weights_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Groups, kernel positions and channels per group of the matrix: K is the product of the last two."""
    if node.op == "FullyConnected":
        return 1, 1, weights_shape[1]
    if node.op == "DepthwiseConv2D":
        return weights_shape[2] // node.params.get("multiplier", 1), weights_shape[0] * weights_shape[1], 1
    group = node.params.get("group", 1)
    if node.op == "ConvTranspose2D":
        return group, 1, weights_shape[3]
    return group, weights_shape[1] * weights_shape[2], weights_shape[3]


def input_rows(node: Node, x: Array, weights_shape: tuple[int, ...], chosen: Array) -> Array:
    """Inputs of some output positions.

    Args:
        node: an operator with weights.
        x: its input ``[N,H,W,C]`` or ``[..., K]``, real numbers.
        weights_shape: of its weights in the graph's layout.
        chosen: numbers of output positions (row-major); those of a transposed convolution are input positions. Taken modulo
            their count.

    Returns:
        float32 ``[groups, positions, K]``.
    """
    groups, kernel, depth = depth_of(node, weights_shape)
    if node.op in ("FullyConnected", "ConvTranspose2D"):
        rows = x.reshape(-1, groups, kernel * depth)
        return np.ascontiguousarray(rows[chosen % len(rows)].transpose(1, 0, 2), np.float32)
    size = (weights_shape[0], weights_shape[1]) if node.op == "DepthwiseConv2D" else (weights_shape[1], weights_shape[2])
    patches = _patches(x, window_of(node, size), chosen)
    return np.ascontiguousarray(patches.reshape(len(chosen), kernel, groups, depth).transpose(2, 0, 1, 3), np.float32).reshape(
        groups, len(chosen), kernel * depth
    )


def _patches(x: Array, window: Window, chosen: Array) -> Array:
    """The inputs ``[positions, KH, KW, C]`` of some output positions, zeros where the window leaves ``x`` [N,H,W,C]."""
    n, height, width, _ = x.shape
    oh, ow = window.output((height, width))
    image, place = np.divmod(chosen % (n * oh * ow), oh * ow)
    row, column = np.divmod(place, ow)
    steps = [np.arange(k) * d - p for k, d, p in zip(window.kernel, window.dilation, window.pads[:2], strict=True)]
    y, across = row[:, None] * window.stride[0] + steps[0], column[:, None] * window.stride[1] + steps[1]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((across >= 0) & (across < width))[:, None, :]
    patches: Array = x[image[:, None, None], y.clip(0, height - 1)[:, :, None], across.clip(0, width - 1)[:, None, :]]
    if not inside.all():
        patches[~inside] = 0
    return patches


def positions_of(node: Node, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
    """How many output positions a run has, as `input_rows` counts them."""
    shape = input_shape if node.op == "ConvTranspose2D" else output_shape
    return int(np.prod(shape[:-1], dtype=np.int64))
