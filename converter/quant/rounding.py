# SPDX-License-Identifier: Apache-2.0
"""Rounding of weights that looks at the layer's output instead of at each weight alone.

The error of a row of codes is ``d' C d`` with d = code * scale - weight and C the covariance of the layer's inputs (the mean error goes
into the bias, see bias_correction.py). The search starts at the nearest codes and moves one column after the other to the code of
least error given all others; each step lowers the error or leaves it, so the result is never worse than nearest rounding on the data
that C was gathered from. C is pulled toward its diagonal so that directions that the samples do not show keep their weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Graph, Node
from .bounded_weights import bounded_scales, keep_bound
from .matrices import from_matrix, per_channel, to_matrix
from .statistics import InputStatistics
from .weights import WEIGHTS_INPUT, Codes, channel_axis, channel_scales, code_limit

__all__ = ["best_codes", "layer_codes", "quadratic_error"]

Array = np.ndarray[Any, Any]

_PANEL = 64
_DAMPING = 0.01


def quadratic_error(difference: Array, covariance: Array) -> Array:
    """``d' C d`` per row: ``difference`` [groups, rows, k], ``covariance`` [groups, k, k] -> [groups, rows]."""
    return np.asarray(np.einsum("grk,grk->gr", np.matmul(difference, covariance), difference))


def _damped(covariance: Array) -> Array:
    diagonal = np.einsum("gkk->gk", covariance)
    floor = np.maximum(diagonal.mean(axis=1, keepdims=True) * _DAMPING, 1e-12)
    result = covariance.astype(np.float32).copy()
    index = np.arange(covariance.shape[1])
    result[:, index, index] = diagonal + floor
    return result


def best_codes(matrix: Array, scale: Array, covariance: Array, limit: int, rounds: int = 4) -> Array:
    """Codes of least output error found by coordinate descent.

    Args:
        matrix: weights ``[groups, rows, k]``.
        scale: ``[groups, rows]``.
        covariance: of the inputs, ``[groups, k, k]``.
        limit: largest code.
        rounds: times to go through all columns at most.

    Returns:
        float32 codes ``[groups, rows, k]``.
    """
    c = _damped(covariance)
    s = scale.astype(np.float32)[:, :, None]
    target = matrix.astype(np.float32) / s
    codes: Array = np.clip(np.rint(target), -limit, limit)
    gradient = np.matmul(codes - target, c)
    k = codes.shape[2]
    for _ in range(rounds):
        moved = False
        for begin in range(0, k, _PANEL):
            end = min(begin + _PANEL, k)
            old = codes[:, :, begin:end].copy()
            local = gradient[:, :, begin:end].copy()
            block = c[:, begin:end, begin:end]
            for j in range(end - begin):
                best = np.clip(np.rint(codes[:, :, begin + j] - local[:, :, j] / block[:, None, j, j]), -limit, limit)
                step = best - codes[:, :, begin + j]
                if step.any():
                    codes[:, :, begin + j] = best
                    local += step[:, :, None] * block[:, None, j, :]
            change = codes[:, :, begin:end] - old
            if change.any():
                moved = True
                gradient += np.matmul(change, c[:, begin:end, :])
        if not moved:
            break
    return codes


def _search_scale(node: Node, weights: Array, scale: Array, statistics: InputStatistics, limit: int) -> Array:
    """Per channel the fraction of the full scale whose nearest codes have the least output error."""
    matrix = to_matrix(node, weights)
    full = per_channel(node, scale, weights.shape)
    best = np.full(full.shape, np.inf)
    chosen = full.copy()
    lowest = 0.8 if limit >= 127 else 0.5 if limit >= 7 else 0.3
    for fraction in np.linspace(1.0, lowest, 9):
        s = full * np.float32(fraction)
        difference = np.clip(np.rint(matrix / s[:, :, None]), -limit, limit) * s[:, :, None] - matrix
        error = np.zeros(full.shape)
        for block, (begin, products) in enumerate(statistics.moments):
            error += quadratic_error(difference[:, :, begin : begin + products.shape[1]], statistics.covariance(block))
        better = error < best * 0.999
        best[better], chosen[better] = error[better], s[better]
    if node.op == "ConvTranspose2D":
        taps = weights.shape[1] * weights.shape[2]
        return np.asarray(chosen.reshape(-1, taps).max(axis=1))
    return np.asarray(chosen.reshape(-1))


def layer_codes(
    graph: Graph, node: Node, statistics: InputStatistics, *, bits: int = 8, search_scale: bool = True, bounded: bool = False
) -> Codes:
    """Optimised codes of a node's float weights, for `weights.quantise_node`.

    Args:
        graph: float graph.
        node: an operator with constant weights.
        statistics: of its inputs, with moments.
        bits: 2 to 16.
        search_scale: try clipped scales too.
        bounded: keep the bound of bounded_weights.py, with 8 bits.
    """
    tensor = graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]]
    assert tensor.data is not None
    weights = tensor.data.astype(np.float32)
    limit = code_limit(bits)
    bias_name = node.inputs[2] if len(node.inputs) > 2 else ""
    bias = graph.tensors[bias_name].data if bias_name else None
    scale = channel_scales(weights, axis=channel_axis(node.op), bits=bits, bias=bias)
    if search_scale:
        floor = channel_scales(np.zeros_like(weights), axis=channel_axis(node.op), bits=bits, bias=bias)
        searched = _search_scale(node, weights, scale, statistics, limit).astype(np.float32)
        scale = np.where(floor < 1, np.maximum(searched, floor), searched).astype(np.float32)
    if bounded:
        scale = bounded_scales(weights, scale)
    matrix = to_matrix(node, weights)
    rows = per_channel(node, scale, weights.shape)
    codes = np.clip(np.rint(matrix / rows[:, :, None]), -limit, limit)
    for block, (begin, products) in enumerate(statistics.moments):
        part = slice(begin, begin + products.shape[1])
        codes[:, :, part] = best_codes(matrix[:, :, part], rows, statistics.covariance(block), limit)
    dtype = np.int8 if bits <= 8 else np.int16
    chosen = Codes(from_matrix(node, codes, weights.shape).astype(dtype), scale)
    return keep_bound(chosen, weights) if bounded else chosen
