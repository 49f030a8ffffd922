# SPDX-License-Identifier: Apache-2.0
"""The corrections in their order, each kept only where it helps on samples that it has not seen.

Equalisation changes the float graph; bias correction and output-aware rounding choose the codes of the weights. A step is judged by the
SQNR of the outputs in full int8 on every fourth sample, the mean of the samples' dB; the others calibrate meanwhile.

The float model runs once over the samples: it shows what all files need to know, ranges for any types (observations.py) and the inputs
of the layers. The first samples are run again where equalisation is tried, for its activations are the same ones, scaled, and where
rounding is, for their second moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from edge8 import Model

from ..graph import DType, Graph, Node
from ..memory import give_back
from ..targets.cpu_lite import write
from .bias_correction import correct_bias, mean_shift
from .bounded_weights import MOST_LOSS, bounded_codes
from .equalisation import equalise, find_spaces
from .float_model import FloatModel, Watcher
from .observations import Observations, completed
from .rounding import layer_codes
from .scheme import CODED, Scheme, apply, bounds, decide
from .statistics import ChannelWatcher, InputStatistics, InputWatcher, gather, linear_nodes
from .weights import BIAS_INPUT, WEIGHTS_INPUT, channel_axis, channel_scales, quantise_node, quantise_weights

__all__ = ["BOUNDED_STEP", "CORRECTIONS", "CORRECTION_SAMPLES", "REPORT_SAMPLES", "Answers", "Improved", "Step", "improve"]

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]
Answers = list[tuple[Sample, list[Array]]]

CORRECTIONS = ("equalisation", "bias", "rounding")
CORRECTION_SAMPLES = 48
"""Corrections look at so many samples at most, and keep every fourth of them to judge by."""
REPORT_SAMPLES = 8
"""First samples, on which outputs, and a report's layers, are compared with the float model."""
_GATHER_SAMPLES, _ROWS, _CHANNEL_SAMPLES = 32, 8192, 16
_FEWEST, _WORK = 12, 5e10
"""Equalisation is judged on all `CORRECTION_SAMPLES`, on fewer where they cost more multiply-accumulates than this; where they do, half
the rows are watched for means."""
BOUNDED_STEP = "bounded weights"
ROUNDING_WORTH = 0.5
"""Rounding is tried where weights without any error would raise the outputs' SQNR by so many dB: it is the dearest correction."""


@dataclass(frozen=True)
class Step:
    """What one correction did: mean SQNR in dB of held-out samples before and after, whether it was kept, and why it was not tried."""

    name: str
    before: float
    after: float
    kept: bool
    untried: str = ""

    @property
    def state(self) -> str:
        """For people."""
        return "kept" if self.kept else "not tried" if self.untried else "not kept"


@dataclass(frozen=True)
class Improved:
    """What the corrections made of a graph.

    Attributes:
        graph: the graph to quantise; its weights may be codes already.
        base: the same network with float weights: equalised where that helped.
        steps: what each correction did.
        seen: what the activations of ``base`` held on all samples; None where nothing was run.
        samples: how many these were.
        first: the first few of them with the float model's outputs.
        rejected: by correction that was tried and not kept, ``base`` with its codes, which may suit a file better in which fewer
            activations have int8.
        bounded: whether ``bounded_weights="auto"`` came out as ``"on"``.
    """

    graph: Graph
    base: Graph
    steps: list[Step]
    seen: Observations | None = None
    samples: int = 0
    first: Answers = field(default_factory=list)
    rejected: dict[str, Graph] = field(default_factory=dict)
    bounded: bool = False

    def settle(self, scheme: Scheme) -> Scheme:
        """The scheme with ``bounded_weights="auto"`` decided."""
        return replace(scheme, bounded_weights="on" if self.bounded else "off") if scheme.bounded_weights == "auto" else scheme


def _held_out(number: int) -> bool:
    return number < CORRECTION_SAMPLES and number % 4 == 3


class _Pass:
    """A float graph on its way through the samples.

    Attributes:
        graph: the graph.
        seen: activations on the samples that calibrate while corrections are judged; ``rest``: on all others.
        inputs: of the layers; ``channels``: extremes of what equalisation may scale.
        held: held-out samples with their outputs; ``first``: the first samples with theirs.
        count: samples so far.
    """

    def __init__(self, model: FloatModel, channels: Iterable[str]) -> None:
        graph = model.graph
        self.graph, self.model = graph, model
        self.seen, self.rest = Observations(graph), Observations(graph)
        rows = _ROWS if model.macs * CORRECTION_SAMPLES < _WORK else _ROWS // 2
        self.inputs = InputWatcher(graph, most=_GATHER_SAMPLES, rows=rows, moments=False)
        self.channels = ChannelWatcher(graph, channels)
        self.held: Answers = []
        self.first: Answers = []
        self.count = 0

    def take(self, samples: Iterable[Sample]) -> None:
        """Run on samples, those that follow the ones before."""
        for sample in samples:
            held = _held_out(self.count)
            watchers: list[Watcher] = [self.rest if held or self.count >= CORRECTION_SAMPLES else self.seen]
            if self.seen in watchers and self.inputs.samples < _GATHER_SAMPLES:
                watchers.append(self.inputs)
            if self.seen in watchers and self.seen.runs < _CHANNEL_SAMPLES:
                watchers.append(self.channels)
            outputs = self.model.run(sample, watchers)
            if held or len(self.first) < REPORT_SAMPLES:
                kept = {name: np.array(x) for name, x in sample.items()}, outputs
                self.held += [kept] * held
                self.first += [kept] * (len(self.first) < REPORT_SAMPLES)
            self.count += 1


class _Judge:
    """Noise of the outputs of full int8 files on held-out samples."""

    def __init__(self, scheme: Scheme, method: str, percentile: float, threads: int) -> None:
        self.scheme = replace(scheme, io="float32")
        self.method, self.percentile, self.threads = method, percentile, threads

    def file(self, graph: Graph) -> bytes:
        """The graph's file, which waits for ranges."""
        give_back()
        quantised = graph.copy()
        apply(quantised, self.scheme)
        return write(quantised)

    def noise(self, data: bytes, seen: Observations | None, held: Answers) -> Array:
        """Squared error ``[samples, outputs]`` of a file with ranges from ``seen``; without, of its int8 weights alone."""
        model = Model(data if seen is None else completed(data, seen, method=self.method, percentile=self.percentile))
        session = model.session(self.threads)
        give_back()
        rows = []
        for sample, expected in held:
            result = session(dict(sample))
            outputs = list(result.values()) if isinstance(result, dict) else [result]
            rows.append([float(np.sum((r.astype(np.float64) - y) ** 2)) for r, y in zip(expected, outputs, strict=True)])
        return np.array(rows)


def _decibels(noise: Array, held: Answers) -> float:
    """SQNR in dB, the mean over samples and outputs.

    Not of all samples' noise together: where an answer flips, one sample makes more noise than all others, and a better file could lose
    by that one flip.
    """
    signal = np.array([[float(np.sum(r.astype(np.float64) ** 2)) for r in expected] for _, expected in held])
    usual = np.maximum(signal, 1e-3 * signal.mean(axis=0) + 1e-30)
    return float(np.mean(10 * np.log10(usual / np.maximum(noise, 1e-12 * usual))))


def _equalised(graph: Graph, extremes: Mapping[str, Array]) -> tuple[Graph, dict[str, Array]]:
    """The graph with its channels scaled, and by what its activations were divided."""
    result = graph.copy()
    divisors = equalise(result, extremes, 1.0)
    result.metadata["equalised"] = sorted(extremes)  # reports bring the float model's channels to the same scale
    return result, divisors


def _coded_nodes(graph: Graph, scheme: Scheme) -> dict[int, bool]:
    """Nodes whose weights become codes, and whether these have to keep the bound."""
    pairs = [(n, d) for n, d in zip(graph.nodes, decide(graph, scheme), strict=True) if d.domain in CODED and n.op in WEIGHTS_INPUT]
    return {id(node): bounds(graph, node, scheme, decision) for node, decision in pairs}


def _quantise(graph: Graph, node: Node, statistics: InputStatistics, *, rounding: bool, bounded: bool) -> None:
    weights = graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].data
    assert weights is not None
    if rounding:
        codes = layer_codes(graph, node, statistics, search_scale=False, bounded=bounded)
    elif bounded:
        codes = bounded_codes(graph, node)
    else:
        name = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else ""
        axis = channel_axis(node.op)
        scale = channel_scales(weights, axis=axis, bits=8, bias=graph.tensors[name].data if name else None)
        codes = quantise_weights(weights, scale, axis=axis, bits=8)
    correct_bias(graph, node, mean_shift(node, weights, codes, statistics))
    quantise_node(graph, node, codes=codes)


def _with_codes(graph: Graph, scheme: Scheme, inputs: Sequence[InputStatistics], *, rounding: bool) -> Graph:
    """Weights as codes, the shift of each layer's mean output taken back by its bias."""
    result = graph.copy()
    chosen = _coded_nodes(result, scheme)
    for node, seen in zip(linear_nodes(result), inputs, strict=True):
        if id(node) in chosen and result.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].dtype is DType.FLOAT32:
            _quantise(result, node, seen, rounding=rounding, bounded=chosen[id(node)])
    result.prune()
    return result


@dataclass
class _Candidate:
    """A graph that may be the result, its file, and what its int8 form does on the held-out samples."""

    graph: Graph
    data: bytes
    noise: Array
    score: float


def _judged(judge: _Judge, graph: Graph, current: _Pass, data: bytes = b"") -> _Candidate:
    data = data or judge.file(graph)
    noise = judge.noise(data, current.seen, current.held)
    return _Candidate(graph, data, noise, _decibels(noise, current.held))


def _rounding_gain(judge: _Judge, best: _Candidate, current: _Pass) -> float:
    """By how many dB the outputs' SQNR would rise at most if the codes of the weights made no error."""
    few = current.held[: max(4, int(_WORK / 4 // max(1, current.model.macs)))]
    both, weights = best.noise[: len(few)].sum(axis=0), judge.noise(best.data, None, few).sum(axis=0)
    share = np.clip(weights / np.maximum(both, 1e-300), 0, 0.9999)
    return float(np.mean(-10 * np.log10(1 - share)))


def improve(
    graph: Graph,
    scheme: Scheme,
    samples: Iterable[Sample],
    *,
    corrections: Sequence[str] = CORRECTIONS,
    method: str = "auto",
    percentile: float = 99.99,
    threads: int = 1,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]] = lambda samples: samples,
) -> Improved:
    """Correct a float graph for full quantisation.

    Args:
        graph: float; it is left as it is.
        scheme: of full quantisation. ``bounded_weights="auto"`` is decided before rounding is optimised.
        samples: calibration samples, at least four; gone through more than once. A quarter of the first of them is held out.
        corrections: which to try, of `CORRECTIONS`.
        method, percentile: how activation ranges are chosen.
        threads: of the runs.
        progress: wraps the samples of the one pass over all of them.
    """
    judge = _Judge(scheme, method, percentile, threads)
    stream = iter(progress(samples))
    steps: list[Step] = []
    spaces = find_spaces(graph) if "equalisation" in corrections else []
    current, data = _Pass(FloatModel(graph, threads), [t for space in spaces for t in space.tensors]), b""
    if "equalisation" in corrections:
        current, data = _try_equalisation(judge, current, stream, samples, steps)
    current.take(stream)
    base = current.graph
    rejected: dict[str, Graph] = {}
    asked = [BOUNDED_STEP] if scheme.bounded_weights == "auto" else []
    best = _judged(judge, base, current, data) if asked or "bias" in corrections or "rounding" in corrections else None
    for name in ("bias", BOUNDED_STEP, "rounding"):
        if name not in [*corrections, *asked] or best is None:
            continue
        if name == BOUNDED_STEP:
            best = _try_bounded(judge, best, current, steps, bias="bias" in corrections)
            if judge.scheme.bounded_weights == "on":
                rejected.clear()
            continue
        inputs = current.inputs.inputs
        if name == "rounding":
            gain = _rounding_gain(judge, best, current)
            if gain < ROUNDING_WORTH:
                steps.append(Step(name, best.score, best.score, False, f"weights without error would gain {gain:.1f} dB"))
                continue
            calibrating = (s for i, s in enumerate(islice(iter(samples), CORRECTION_SAMPLES)) if not _held_out(i))
            inputs = gather(base, calibrating, most=_GATHER_SAMPLES, rows=_ROWS, model=current.model).inputs
        other = _judged(judge, _with_codes(base, judge.scheme, inputs, rounding=name == "rounding"), current)
        steps.append(Step(name, best.score, other.score, other.score > best.score))
        if other.score > best.score:
            best = other
        else:
            rejected[name] = other.graph
    current.seen.merge(current.rest)
    bounded = judge.scheme.bounded_weights == "on"
    return Improved(best.graph if best else base, base, steps, current.seen, current.count, current.first, rejected, bounded)


def _try_bounded(judge: _Judge, plain: _Candidate, current: _Pass, steps: list[Step], *, bias: bool) -> _Candidate:
    """Settle ``bounded_weights="auto"`` of the judge's scheme: on where that costs little, with biases corrected if ``bias``."""
    base = current.graph
    free, bounded = (replace(judge.scheme, bounded_weights=choice) for choice in ("off", "on"))
    judge.scheme = bounded
    if not any(_coded_nodes(base, bounded).values()):
        judge.scheme = free
        steps.append(Step(BOUNDED_STEP, plain.score, plain.score, False, "no layer would run faster"))
        return plain
    other = _judged(judge, base, current)
    if bias:
        corrected = _judged(judge, _with_codes(base, bounded, current.inputs.inputs, rounding=False), current)
        other = max(other, corrected, key=lambda candidate: candidate.score)
    kept = other.score >= plain.score - MOST_LOSS
    steps.append(Step(BOUNDED_STEP, plain.score, other.score, kept))
    if kept:
        return other
    judge.scheme = free
    return plain


def _try_equalisation(
    judge: _Judge, plain: _Pass, stream: Iterable[Sample], samples: Iterable[Sample], steps: list[Step]
) -> tuple[_Pass, bytes]:
    """The pass of the float graph, or of the equalised one where that is better on the first samples, and the graph's file."""
    count = int(np.clip(_WORK // max(1, plain.model.macs), _FEWEST, CORRECTION_SAMPLES))
    plain.take(islice(stream, count))
    before = _judged(judge, plain.graph, plain)
    if not plain.channels.extremes:
        steps.append(Step("equalisation", before.score, before.score, False, "no channels that can be scaled"))
        return plain, before.data
    other = _Pass(plain.model.scaled(*_equalised(plain.graph, plain.channels.extremes)), ())
    other.take(islice(iter(samples), count))
    other.held, other.first = plain.held, plain.first
    after = _judged(judge, other.graph, other)
    better = after.score > before.score
    steps.append(Step("equalisation", before.score, after.score, better))
    return (other, after.data) if better else (plain, before.data)
