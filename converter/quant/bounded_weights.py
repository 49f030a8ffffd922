# SPDX-License-Identifier: Apache-2.0
"""Weights whose codes let AVX2 without VNNI multiply bytes at full speed.

VPMADDUBSW multiplies unsigned bytes x with codes w, two products to an int16 sum. The kernels add the sums of two neighbouring steps of 4
inputs before they are widened: int16 sums over the inputs 0, 1, 4 and 5 of 8 neighbouring ones, and over 2, 3, 6 and 7. Where the
positive codes of each such set add up to 128 at most, and the negative ones to -128 at least, no sum overflows, whatever the inputs are:
255 * 128 < 2^15. Elsewhere the kernels look at the inputs, and take a slower way where these prove nothing; the result is the same.

A channel's scale is raised until its codes keep the bound, never lowered. Inputs count in the packed order of the weights: kernel rows,
columns, channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import DType, Graph, Node
from .weights import BIAS_INPUT, LARGEST_SCALE, WEIGHTS_INPUT, Codes, channel_scales, quantise_weights

__all__ = ["BOUND", "CHOICES", "MOST_LOSS", "bounded_codes", "bounded_layers", "bounded_scales", "keep_bound", "largest_sums", "profits"]

Array = np.ndarray[Any, Any]

CHOICES = ("off", "auto", "on")
BOUND = 128
MOST_LOSS = 0.3
"""``auto`` keeps bounded weights where the outputs lose no more dB than this on the held-out samples."""
_SET = 8
_ROUNDS = 32
_LEAST_RAISE = 1.001


def profits(graph: Graph, node: Node) -> bool:
    """Whether the AVX2 kernels use the bound in this node, should it run in int8.

    As runtime_c decides: `wants_limits` of ops/linear.c for matrices, `by_picture` of ops/conv2d.c and `e8_conv_picture_is_narrow` for
    windows. Those count each 8 inputs from the start of a kernel row: rows of whole eights only, where that is the packed order.
    """
    if node.op not in ("Conv2D", "FullyConnected"):
        return False
    shape = graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].shape
    out, group = graph.tensors[node.outputs[0]].shape, node.params.get("group", 1)
    channels, depth = shape[0] // group, int(np.prod(shape[1:]))
    if node.op == "Conv2D" and not (channels >= 128 and depth >= 512):
        _, kh, kw, inputs = shape
        if kh * kw > 1 and group == 1 and (kw == 1 or node.params.get("dilation_w", 1) == 1):
            return kw * inputs > 24 and kw * inputs % _SET == 0 and out[2] >= 12 and channels >= 48
        if kh * kw > 1:
            return False
    return int(np.prod(out[:-1])) >= 32 and depth >= 32 and channels >= 24


def largest_sums(codes: Array) -> Array:
    """The largest magnitude ``[channels, sets]`` of the positive or the negative sums in each 8 inputs of codes ``[channels, ...]``."""
    rows = codes.reshape(len(codes), -1)
    sets = np.pad(rows, ((0, 0), (0, -rows.shape[1] % _SET))).astype(np.int32).reshape(len(codes), -1, 2, 2, 2)
    sums = [np.maximum(sign * sets, 0).sum(axis=(2, 4)).max(axis=2) for sign in (1, -1)]
    return np.asarray(np.maximum(*sums))


def bounded_scales(weights: Array, scale: Array) -> Array:
    """Scales ``[channels]``, float32, raised where the nearest codes of weights ``[channels, ...]`` break the bound."""
    result: Array = np.asarray(scale, np.float32).copy()
    left = np.arange(len(result))
    for _ in range(_ROUNDS):
        worst = largest_sums(quantise_weights(weights[left], result[left], axis=0).codes).max(axis=1)
        left, worst = left[worst > BOUND], worst[worst > BOUND]
        if not left.size:
            break
        raised = result[left] * np.maximum(worst / BOUND, _LEAST_RAISE)
        result[left] = np.maximum(np.minimum(raised, LARGEST_SCALE), result[left])
    return result


def bounded_codes(graph: Graph, node: Node) -> Codes:
    """The nearest codes that keep the bound, of a node's float weights."""
    weights = graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].data
    name = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else ""
    assert weights is not None
    scale = bounded_scales(weights, channel_scales(weights, axis=0, bias=graph.tensors[name].data if name else None))
    return quantise_weights(weights, scale, axis=0)


def keep_bound(codes: Codes, weights: Array) -> Codes:
    """Codes in which each 8 inputs that break the bound have the nearest codes instead."""
    broken = np.repeat(largest_sums(codes.codes) > BOUND, _SET, axis=1)[:, : codes.codes[0].size].reshape(codes.codes.shape)
    if not broken.any():
        return codes
    return Codes(np.where(broken, quantise_weights(weights, codes.scale, axis=0).codes, codes.codes), codes.scale)


def bounded_layers(graph: Graph) -> tuple[int, int]:
    """Of a quantised graph: in how many layers the weights keep the bound, and how many there are whose kernels use it."""
    kept = []
    for node in graph.nodes:
        if profits(graph, node) and graph.tensors[node.outputs[0]].dtype is DType.INT8:
            weights = graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]]
            if weights.data is not None and weights.dtype is DType.INT8:
                kept.append(bool(largest_sums(weights.data).max() <= BOUND))
    return sum(kept), len(kept)
