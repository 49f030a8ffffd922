# SPDX-License-Identifier: Apache-2.0
"""Weights quantisation with a width for each layer, and with codes that look at data where there are some.

`LayerCodes` gives a layer's codes at any width, corrected as far as data allow, and remembers them; `weights_file` puts a choice of
widths into a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node
from ..targets.cpu_lite import write
from .bias_correction import correct_bias, mean_shift
from .rounding import layer_codes
from .scheme import Decision, Scheme, apply, decide
from .statistics import InputStatistics, gather, linear_nodes
from .weights import (
    BIAS_INPUT,
    WEIGHTS_INPUT,
    Codes,
    channel_axis,
    channel_scales,
    dequantise_weights,
    group_size,
    quantise_weights,
    weight_sums,
)

__all__ = ["LayerCodes", "coded_nodes", "weights_file"]

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]

_GATHER_SAMPLES, _ROWS = 48, 16384
_ROWS_PER_INPUT = 2
"""Rows of inputs seen for each input, below which rounding for the layer's output would fit what is not there."""


def coded_nodes(graph: Graph, scheme: Scheme) -> list[Node]:
    """Nodes whose weights become codes."""
    return [node for node, d in zip(graph.nodes, decide(graph, scheme), strict=True) if d.domain == "weight"]


class LayerCodes:
    """Codes of the layers of a float graph at any width.

    Attributes:
        graph: the float graph.
        scheme: of weights quantisation.
    """

    def __init__(self, graph: Graph, scheme: Scheme, samples: Iterable[Sample] | None, corrections: Sequence[str], threads: int) -> None:
        """Look at the inputs of the layers.

        Args:
            graph: float.
            scheme: of weights quantisation.
            samples: calibration samples; None leaves the codes uncorrected.
            corrections: of `corrections.CORRECTIONS`; ``"bias"`` and ``"rounding"`` concern weights, of layers without groups.
            threads: of the runs.
        """
        self.graph, self.scheme = graph, scheme
        self._rounding, self._bias = "rounding" in corrections, "bias" in corrections
        self._seen: dict[str, InputStatistics] = {}
        self._known: dict[tuple[str, int], tuple[Codes, Array | None]] = {}
        if samples is not None and (self._rounding or self._bias):
            statistics = gather(graph, samples, most=_GATHER_SAMPLES, rows=_ROWS, moments=self._rounding, threads=threads)
            self._seen = {node.outputs[0]: seen for node, seen in zip(linear_nodes(graph), statistics.inputs, strict=True)}

    def plain(self, node: Node, bits: int) -> Codes:
        """Codes of the nearest numbers, the scale of least squared error below 8 bits."""
        weights = self._weights(node)
        axis, group = channel_axis(node.op), self._group(node)
        method = "mse" if bits < 8 else "max"
        scale = channel_scales(weights, axis=axis, bits=bits, group=group, method=method)
        return quantise_weights(weights, scale, axis=axis, bits=bits, group=group)

    def __call__(self, node: Node, bits: int) -> tuple[Codes, Array | None]:
        """Codes, and the shift of the layer's mean output per channel that its bias has to take back."""
        key = node.outputs[0], bits
        if key not in self._known:
            seen = None if self._group(node) else self._seen.get(node.outputs[0])
            if seen is None:
                self._known[key] = self.plain(node, bits), None
            else:
                known = self._rounding and bits > 1 and seen.rows >= _ROWS_PER_INPUT * max(p.shape[1] for _, p in seen.moments)
                codes = layer_codes(self.graph, node, seen, bits=bits) if known else self.plain(node, bits)
                self._known[key] = codes, self.shift(node, codes)
        return self._known[key]

    def shift(self, node: Node, codes: Codes) -> Array | None:
        """The shift of the layer's mean output that codes make; None where data or the correction are missing."""
        seen = None if self._group(node) else self._seen.get(node.outputs[0])
        return None if seen is None else mean_shift(node, self._weights(node), codes, seen)

    def numbers(self, node: Node, codes: Codes) -> Array:
        """What codes stand for, in the layout of the weights."""
        return dequantise_weights(codes, axis=channel_axis(node.op), group=self._group(node))

    def _group(self, node: Node) -> int:
        return group_size(node.op, self._weights(node), self.scheme.group)

    def _weights(self, node: Node) -> Array:
        data = self.graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].data
        assert data is not None
        return data


def weights_file(codes: LayerCodes, widths: Mapping[str, int]) -> tuple[bytes, list[Decision]]:
    """The weights-quantised file of a graph.

    Args:
        codes: of its layers.
        widths: bits by the first output of a node; the scheme's ``bits`` for all others.

    Returns:
        The file, and a decision per node.
    """
    graph = codes.graph.copy()
    decisions = apply(graph, replace(codes.scheme, node_bits=dict(widths), calibratable=False))
    originals = {node.outputs[0]: node for node in codes.graph.nodes}
    coded = {d for d, decision in enumerate(decisions) if decision.domain == "weight"}
    outputs = {codes.graph.nodes[i].outputs[0] for i in coded}
    for node in graph.nodes:
        if node.outputs[0] in outputs:
            original = originals[node.outputs[0]]
            chosen, shift = codes(original, widths.get(node.outputs[0], codes.scheme.bits))
            _take(graph, node, chosen, shift)
    graph.prune()
    return write(graph, codes.scheme.entropy), decisions


def _take(graph: Graph, node: Node, codes: Codes, shift: Array | None) -> None:
    """Put codes in place of those that a node has, and take a shift back by its bias."""
    tensor = graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]]
    tensor.data, tensor.scale = codes.codes, codes.scale
    tensor.dtype = DType.INT8 if codes.codes.dtype == np.int8 else DType.INT16
    if shift is not None:
        correct_bias(graph, node, shift)
    position = BIAS_INPUT + 1
    if len(node.inputs) > position and node.inputs[position]:
        sums = weight_sums(codes.codes, channel_axis(node.op))
        node.inputs[position] = graph.constant(sums, f"{node.inputs[WEIGHTS_INPUT[node.op]]}_sum")
