# SPDX-License-Identifier: Apache-2.0
"""Weights quantisation: symmetric codes of 1 to 16 bits with one scale per output channel, or per group of inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConvertError
from ..graph import DType, Graph, Node, Tensor

__all__ = [
    "LARGEST_SCALE",
    "NO_GROUPS",
    "TABLE_INPUT",
    "WEIGHTS_INPUT",
    "Codes",
    "channel_axis",
    "channel_scales",
    "code_limit",
    "dequantise_weights",
    "group_size",
    "quantise_node",
    "quantise_table",
    "quantise_weights",
    "weight_sums",
]

Array = np.ndarray[Any, Any]

# Operators whose input 1 is a matrix of weights; input 2 is the bias, input 3 the sums of int8 codes where the operator has one.
WEIGHTS_INPUT: dict[str, int] = {"Conv2D": 1, "DepthwiseConv2D": 1, "ConvTranspose2D": 1, "FullyConnected": 1}
_WEIGHT_SUM_INPUT: dict[str, int] = {"Conv2D": 3, "FullyConnected": 3, "DepthwiseConv2D": 3}
BIAS_INPUT = 2
TABLE_INPUT = 0
"""Of Gather: a constant table whose rows are picked along axis 0 (an embedding) is stored in int8 codes, a scale per row."""

NO_GROUPS = {
    "DepthwiseConv2D": "a channel has only the few weights of one kernel",
    "ConvTranspose2D": "each kernel position is a matrix of its own",
}
"""Operators whose weights have a scale per channel even where groups are asked for, and why."""

# The runtime refuses scales outside 2^-40 .. 2^40 (tensor.c). A channel's scale is also kept above |bias| * 2^-18: its bias
# is an int32 in units of input scale * weight scale, and input scales of 2^-12 and more then leave it below 2^30.
_SMALLEST_SCALE = 2.0**-39
LARGEST_SCALE = 2.0**39
_BIAS_FLOOR = 2.0**-18
_BLOCK = 1 << 15


@dataclass(frozen=True)
class Codes:
    """Quantised weights: ``codes`` (int8 up to 8 bits, else int16) in the layout of the weights, ``scale`` float32."""

    codes: Array
    scale: Array


def channel_axis(op: str) -> int:
    """The axis of output channels in an operator's weights: the last of depthwise ``[KH, KW, C]``, the first of all others."""
    return -1 if op == "DepthwiseConv2D" else 0


def code_limit(bits: int) -> int:
    """The largest code: 127 for 8 bits. One bit has the codes -1 and +1."""
    if not 1 <= bits <= 16:
        raise ConvertError(
            f"{bits} bits per weight are outside 1 to 16", rule="quant.bits", where="--bits", hint="Choose a width from 1 to 16"
        )
    return max(1, (1 << (bits - 1)) - 1)


def group_size(op: str, weights: Array, group: int) -> int:
    """The group that an operator's weights take: ``group``, or 0 (a scale per channel) where one group would hold a whole channel, or
    where the operator takes none (`NO_GROUPS`)."""
    if not group or op in NO_GROUPS:
        return 0
    return group if group < weights.size // weights.shape[channel_axis(op)] else 0


def _as_matrix(weights: Array, axis: int, group: int) -> Array:
    """Weights as float64 ``[channels * groups, values per scale]``; a channel's last group is filled up with zeros."""
    matrix: Array = np.moveaxis(np.asarray(weights, np.float64), axis, 0)
    matrix = matrix.reshape(matrix.shape[0], -1)
    if group:
        matrix = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % group))).reshape(-1, group)
    return matrix


def _mse_scales(matrix: Array, limit: int) -> Array:
    """Per row the scale of least squared error among 32 fractions of the largest magnitude, from the whole of it downwards."""
    largest: Array = np.abs(matrix).max(axis=1)
    best: Array = np.full(len(matrix), np.inf)
    scales: Array = largest / limit
    lowest = 0.8 if limit >= 127 else 0.4 if limit >= 7 else 0.15
    for fraction in np.linspace(1.0, lowest, 32):
        candidate = np.maximum(largest * fraction / limit, _SMALLEST_SCALE)
        error = np.clip(np.rint(matrix / candidate[:, None]), -limit, limit) * candidate[:, None] - matrix
        loss = np.einsum("ij,ij->i", error, error)
        better = loss < best
        best[better], scales[better] = loss[better], candidate[better]
    return scales


def channel_scales(weights: Array, *, axis: int, bits: int = 8, group: int = 0, method: str = "max", bias: Array | None = None) -> Array:
    """Scales of symmetric codes, float32 ``[channels]`` or ``[channels * groups]``.

    Args:
        weights: float array with its output channels on ``axis``.
        axis: 0 or -1.
        bits: 1 to 16.
        group: input values that share a scale, 0 = all of a channel; the last group may be smaller.
        method: ``"max"`` covers the largest weight, ``"mse"`` takes the scale of least squared error.
        bias: float ``[channels]``; keeps scales of near-dead channels large enough for their bias.

    Raises:
        ConvertError: bits, group or method out of range.
    """
    limit = code_limit(bits)
    if method not in ("max", "mse"):
        raise ConvertError(f"unknown weights method {method!r}", rule="quant.weights", hint="Known: max, mse")
    if bits > 1 and method == "max" and not group:
        rows: Array = np.moveaxis(np.asarray(weights), axis, 0).reshape(np.shape(weights)[axis], -1)
        scales = np.maximum(rows.max(axis=1), -rows.min(axis=1)).astype(np.float64) / limit
        return _sound(scales, bias)
    matrix = _as_matrix(weights, axis, group)
    if bits == 1:  # the least squared error of codes -1 and +1: the mean magnitude, of the values that are there
        values = np.asarray(_as_matrix(np.ones_like(weights), axis, group).sum(axis=1))
        scales = np.abs(matrix).sum(axis=1) / values
    else:
        scales = np.abs(matrix).max(axis=1) / limit if method == "max" else _mse_scales(matrix, limit)
    return _sound(scales, None if group else bias)


def _sound(scales: Array, bias: Array | None) -> Array:
    """Scales that the runtime takes, and that leave room for the biases."""
    if bias is not None:
        scales = np.maximum(scales, np.abs(np.asarray(bias, np.float64)) * _BIAS_FLOOR)
    scales[scales == 0] = 1.0
    return np.asarray(np.clip(scales, _SMALLEST_SCALE, LARGEST_SCALE), np.float32)


def quantise_weights(weights: Array, scale: Array, *, axis: int, bits: int = 8, group: int = 0) -> Codes:
    """Round weights to codes of ``bits`` bits under given scales; same shape as the weights.

    ``code = clamp(rne(weight / scale))`` in float64; one-bit codes are the sign.
    """
    limit = code_limit(bits)
    moved = np.moveaxis(np.asarray(weights), axis, 0)
    matrix = _as_matrix(weights, axis, group) if group else moved.reshape(moved.shape[0], -1)
    each = np.asarray(scale, np.float64)[:, None]
    rounded = np.empty(matrix.shape, np.int8 if bits <= 8 else np.int16)
    step = max(1, _BLOCK // matrix.shape[1])
    for i in range(0, len(matrix), step):  # in parts that stay in the cache
        part = matrix[i : i + step].astype(np.float64)
        part /= each[i : i + step]
        rounded[i : i + step] = np.where(part < 0, -1.0, 1.0) if bits == 1 else np.clip(np.rint(part, out=part), -limit, limit, out=part)
    values = moved.size // moved.shape[0]
    codes = np.moveaxis(rounded.reshape(moved.shape[0], -1)[:, :values].reshape(moved.shape), 0, axis)
    return Codes(np.ascontiguousarray(codes), np.asarray(scale, np.float32))


def dequantise_weights(codes: Codes, *, axis: int, group: int = 0) -> Array:
    """The numbers that codes stand for, float32 in the layout of the weights; scales as `channel_scales` gives them, or one for all."""
    moved: Array = np.moveaxis(codes.codes, axis, 0).astype(np.float32)
    matrix = moved.reshape(moved.shape[0], -1)
    parts = np.asarray(codes.scale, np.float32).reshape(1 if codes.scale.size == 1 else matrix.shape[0], -1)
    each = np.repeat(parts, group, axis=1)[:, : matrix.shape[1]] if group else parts
    return np.ascontiguousarray(np.moveaxis((matrix * each).reshape(moved.shape), 0, axis))


def quantise_node(graph: Graph, node: Node, *, bits: int = 8, group: int = 0, method: str = "max", codes: Codes | None = None) -> None:
    """Replace a node's float weights by codes; adds the sums of int8 codes that the int8 kernels need.

    Weights that other nodes read are quantised into a tensor of this node's own.

    Args:
        group: see `group_size`.
        codes: use these instead of rounding (rounding optimisation).
    """
    position = WEIGHTS_INPUT[node.op]
    old = graph.tensors[node.inputs[position]]
    assert old.data is not None
    axis = channel_axis(node.op)
    group = group_size(node.op, old.data, group)
    if codes is None:
        bias_name = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else ""
        bias = graph.tensors[bias_name].data if bias_name else None
        scale = channel_scales(old.data, axis=axis, bits=bits, group=group, method=method, bias=bias)
        codes = quantise_weights(old.data, scale, axis=axis, bits=bits, group=group)
    dtype = DType.INT8 if bits <= 8 else DType.INT16
    name = graph.fresh(f"{old.name}_int{bits}")
    stored_bits = 0 if bits in (8, 16) else bits
    graph.add(Tensor(name, old.shape, dtype, codes.codes, codes.scale, bits=stored_bits, group=group))
    node.inputs[position] = name
    if bits == 8 and not group and node.op in _WEIGHT_SUM_INPUT:
        _add_weight_sum(graph, node, codes.codes)


def weight_sums(codes: Array, axis: int) -> Array:
    """Sum of each output channel's codes, int32."""
    return np.asarray(np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1).sum(axis=1, dtype=np.int64).astype(np.int32))


def quantise_table(graph: Graph, node: Node) -> None:
    """Replace a Gather's float table by int8 codes with a scale per row; nodes with the same table share the codes."""
    old = graph.tensors[node.inputs[TABLE_INPUT]]
    assert old.data is not None
    name = f"{old.name}_rows_int8"
    if name not in graph.tensors:
        codes = quantise_weights(old.data, channel_scales(old.data, axis=0), axis=0)
        graph.add(Tensor(name, old.shape, DType.INT8, codes.codes, codes.scale))
    node.inputs[TABLE_INPUT] = name


def _add_weight_sum(graph: Graph, node: Node, codes: Array) -> None:
    position = _WEIGHT_SUM_INPUT[node.op]
    sums = weight_sums(codes, channel_axis(node.op))
    node.inputs += [""] * (position + 1 - len(node.inputs))
    node.inputs[position] = graph.constant(sums, f"{node.inputs[WEIGHTS_INPUT[node.op]]}_sum")
