# SPDX-License-Identifier: Apache-2.0
"""The corrections in their order, each kept only where it helps on samples that it has not seen.

Equalisation changes the float graph; bias correction and output-aware rounding choose the codes of the weights. A step is judged by the
SQNR of the outputs in full int8 on every fourth sample; the others calibrate meanwhile.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge8 import Model
from edge8.calibrate import Calibration

from ..graph import DType, Graph, Node
from ..targets.cpu_lite import write
from .bias_correction import correct_bias, mean_shift
from .equalisation import equalise, find_spaces
from .rounding import layer_codes
from .scheme import CODED, Scheme, apply, decide
from .statistics import InputStatistics, gather, linear_nodes
from .weights import BIAS_INPUT, WEIGHTS_INPUT, channel_axis, channel_scales, quantise_node, quantise_weights

__all__ = ["CORRECTIONS", "Improved", "Step", "improve"]

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]

CORRECTIONS = ("equalisation", "bias", "rounding")
_GATHER_SAMPLES, _ROWS, _CHANNEL_SAMPLES = 32, 8192, 16


@dataclass(frozen=True)
class Step:
    """What one correction did: output SQNR in dB on held-out samples before and after, and whether it was kept."""

    name: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True)
class Improved:
    """What the corrections made of a graph.

    Attributes:
        graph: the graph to quantise; its weights may be codes already.
        base: the same network with float weights: equalised where that helped.
        steps: what each correction did.
    """

    graph: Graph
    base: Graph
    steps: list[Step]


class _Judge:
    """Output SQNR of graphs in full int8 on held-out samples."""

    def __init__(self, graph: Graph, scheme: Scheme, samples: Sequence[Sample], method: str, percentile: float, threads: int) -> None:
        self.scheme = replace(scheme, io="float32")
        self.method, self.percentile, self.threads = method, percentile, threads
        self.held = samples[3::4] or samples
        self.calibration = [s for i, s in enumerate(samples) if i % 4 != 3] or samples
        self.reference = self._outputs(Model(write(graph)))

    def _outputs(self, model: Model) -> list[list[Array]]:
        session = model.session(self.threads)
        results = [session(s) for s in self.held]
        return [[np.asarray(y, np.float64) for y in (list(r.values()) if isinstance(r, dict) else [r])] for r in results]

    def __call__(self, graph: Graph) -> float:
        quantised = copy.deepcopy(graph)
        apply(quantised, self.scheme)
        calibration = Calibration(Model(write(quantised)))
        calibration.run(self.calibration, self.threads)
        outputs = self._outputs(Model(calibration.fill(self.method, self.percentile)))
        decibels = []
        for number in range(len(self.reference[0])):
            signal = sum(float(np.sum(r[number] ** 2)) for r in self.reference)
            noise = sum(float(np.sum((r[number] - y[number]) ** 2)) for r, y in zip(self.reference, outputs, strict=True))
            decibels.append(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-12 * max(signal, 1e-18))))
        return float(np.mean(decibels))


def _equalised(graph: Graph, samples: Sequence[Sample], threads: int) -> Graph:
    result = copy.deepcopy(graph)
    channels = [t for space in find_spaces(result) for t in space.tensors]
    if channels:
        seen = gather(result, samples, most=_CHANNEL_SAMPLES, rows=0, channels=channels, threads=threads)
        equalise(result, seen.extremes, 1.0)
        result.metadata["equalised"] = sorted(channels)  # reports bring the float model's channels to the same scale
    return result


def _coded_nodes(graph: Graph, scheme: Scheme) -> set[int]:
    decisions = decide(graph, scheme)
    return {id(node) for node, d in zip(graph.nodes, decisions, strict=True) if d.domain in CODED and node.op in WEIGHTS_INPUT}


def _quantise(graph: Graph, node: Node, statistics: InputStatistics, *, rounding: bool) -> None:
    weights = graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].data
    assert weights is not None
    if rounding:
        codes = layer_codes(graph, node, statistics, search_scale=False)
    else:
        name = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else ""
        axis = channel_axis(node.op)
        scale = channel_scales(weights, axis=axis, bits=8, bias=graph.tensors[name].data if name else None)
        codes = quantise_weights(weights, scale, axis=axis, bits=8)
    correct_bias(graph, node, mean_shift(node, weights, codes, statistics))
    quantise_node(graph, node, codes=codes)


def _with_codes(graph: Graph, scheme: Scheme, samples: Sequence[Sample], threads: int, *, rounding: bool) -> Graph:
    """Weights as codes, the shift of each layer's mean output taken back by its bias."""
    result = copy.deepcopy(graph)
    chosen = _coded_nodes(result, scheme)
    statistics = gather(result, samples, most=_GATHER_SAMPLES, rows=_ROWS, moments=rounding, threads=threads)
    for node, seen in zip(linear_nodes(result), statistics.inputs, strict=True):
        if id(node) in chosen and result.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].dtype is DType.FLOAT32:
            _quantise(result, node, seen, rounding=rounding)
    result.prune()
    return result


def improve(
    graph: Graph,
    scheme: Scheme,
    samples: Sequence[Sample],
    *,
    corrections: Sequence[str] = CORRECTIONS,
    method: str = "auto",
    percentile: float = 99.99,
    threads: int = 1,
) -> Improved:
    """Correct a float graph for full quantisation.

    Args:
        graph: float; it is left as it is.
        scheme: of full quantisation.
        samples: calibration samples, all of them in memory; a quarter is held out.
        corrections: which to try, of `CORRECTIONS`.
        method, percentile: how activation ranges are chosen.
        threads: of the runs.
    """
    judge = _Judge(graph, scheme, samples, method, percentile, threads)
    steps: list[Step] = []
    base, best = graph, graph
    score = judge(graph)

    def attempt(name: str, candidate: Graph) -> bool:
        nonlocal best, score
        after = judge(candidate)
        kept = after > score
        steps.append(Step(name, score, after, kept))
        if kept:
            best, score = candidate, after
        return kept

    if "equalisation" in corrections and attempt("equalisation", _equalised(graph, judge.calibration, threads)):
        base = best
    for name in ("bias", "rounding"):
        if name in corrections:
            attempt(name, _with_codes(base, scheme, judge.calibration, threads, rounding=name == "rounding"))
    return Improved(best, base, steps)
