# SPDX-License-Identifier: Apache-2.0
"""Bias correction: rounded weights shift a layer's mean output; the bias takes the shift back.

The shift of output channel o is ``sum over k of (code * scale - weight)[o, k] * mean(input k)``, from the float model's mean inputs.
Any number of network inputs, every operator with weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Graph, Node
from .matrices import per_channel, to_matrix
from .statistics import InputStatistics
from .weights import BIAS_INPUT, Codes

__all__ = ["correct_bias", "mean_shift"]

Array = np.ndarray[Any, Any]


def mean_shift(node: Node, weights: Array, codes: Codes, statistics: InputStatistics) -> Array:
    """Mean change of each output channel, ``[channels]``, that quantised weights make."""
    scale = per_channel(node, codes.scale, weights.shape)
    difference = to_matrix(node, codes.codes).astype(np.float64) * scale[:, :, None] - to_matrix(node, weights)
    shift = np.einsum("grk,gk->gr", difference, statistics.mean)
    if node.op == "ConvTranspose2D":
        # A kernel position reaches an output position about once in stride_h * stride_w.
        taps = weights.shape[1] * weights.shape[2]
        reach = node.params.get("stride_h", 1) * node.params.get("stride_w", 1)
        return np.asarray(shift.reshape(-1, taps).sum(axis=1) / reach)
    return np.asarray(shift.reshape(-1))


def correct_bias(graph: Graph, node: Node, shift: Array) -> None:
    """Subtract a shift ``[channels]`` from a node's bias; adds one where there is none."""
    node.inputs += [""] * (BIAS_INPUT + 1 - len(node.inputs))
    name = node.inputs[BIAS_INPUT]
    old = graph.tensors[name].data if name else None
    bias = (0.0 if old is None else old.astype(np.float64)) - shift
    node.inputs[BIAS_INPUT] = graph.constant(bias.astype(np.float32), f"{name or node.name}_corrected")
