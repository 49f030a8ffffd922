# SPDX-License-Identifier: Apache-2.0
"""How much of the outputs' error each rounding makes: one tensor or one layer's weights rounded, all else in float.

    noise = sum over outputs of |y - y'|^2 / |y|^2

with y the float model's and y' the probed model's values on the same samples. A network that ends in a Softmax is judged by the
divergence of its probabilities p instead,

    noise = sum over rows of (sum of p log(p / p')) / sum of |p|^2

which grows smoothly with the error, where |p - p'|^2 is next to nothing until another class wins: a few samples then say enough.
Noises of single roundings nearly add up (they are small and independent), which is what rankings and predictions rest on.

Each rounding is made at an eighth of its size and the noise multiplied by 64, and samples are joined by their geometric mean: decisions
that hang by a thread (which of two steps reads a character) tip at full size for some roundings and samples and not for others, and one
of them makes more noise than all the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge8 import Model

from ..graph import Graph, Node
from ..ops import operators
from ..targets.cpu_lite import write
from .weights import BIAS_INPUT, WEIGHTS_INPUT

__all__ = ["Codebook", "Probe", "decibels_of"]

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]

# Operators that may stand between a last Softmax and the network's output.
_PASSED = frozenset({"Reshape", "Transpose"})
_BROKEN = 1e6
"""Noise of a run that gives infinities or NaN."""
_PART = 1 / 8
"""How much of a rounding a probe makes."""
_FLOOR = 1e-3
"""Of the mean noise: no sample counts for less, so that one without any does not hide the others."""


def decibels_of(noise: float) -> float:
    """A relative noise as SQNR in dB, at most 300."""
    return 300.0 if noise <= 1e-30 else float(-10 * math.log10(noise))


def _point(graph: Graph, name: str, producers: Mapping[str, Node]) -> tuple[str, bool]:
    """The tensor at which the error of a graph output is measured, and whether it goes into a last Softmax."""
    end = name
    while end in producers and producers[end].op in _PASSED:
        end = producers[end].inputs[0]
    if end in producers and producers[end].op == "Softmax" and producers[end].inputs[0] in producers:
        return producers[end].inputs[0], True
    return name, False


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


@dataclass(frozen=True)
class Codebook:
    """The numbers that codes stand for: ``scale * (code - zero_point)`` with codes from ``low`` to ``high``."""

    scale: float
    zero_point: int
    low: int
    high: int

    def rounded(self, x: Array) -> Array:
        """The nearest of these numbers, float32."""
        steps = np.rint(x / np.float32(self.scale))
        return np.asarray(np.clip(steps, self.low - self.zero_point, self.high - self.zero_point) * np.float32(self.scale), np.float32)


def _partly(x: Array, rounded: Array) -> Array:
    """``x`` with a part of what rounding changes."""
    return np.asarray(x + np.float32(_PART) * (rounded - x), np.float32)


def _joined(noise: Array) -> float:
    """The geometric mean over samples, for the whole of a rounding."""
    mean = float(noise.mean())
    return float(np.exp(np.log(np.maximum(noise, _FLOOR * mean)).mean())) / _PART**2 if mean > 0 else 0.0


@dataclass(frozen=True)
class _Point:
    """Where an error is measured: the tensor's number, and the float model's values, log probabilities before a Softmax, per sample."""

    tensor: int
    softmax: bool
    reference: list[Array]

    @property
    def power(self) -> float:
        """The sum of squares that errors are relative to."""
        squares = (np.exp(2 * r).sum() if self.softmax else np.vdot(r, r) for r in self.reference)
        return float(sum(squares)) or 1.0

    def error(self, sample: int, y: Array) -> float:
        """Squared error, or divergence."""
        r = self.reference[sample]
        if self.softmax:
            return float((np.exp(r) * (r - _log_softmax(y.astype(np.float64)))).sum())
        difference = y - r
        return float(np.vdot(difference, difference))


class Probe:
    """A float model in which one thing at a time is rounded.

    Attributes:
        macs: multiply-accumulates of each node of the graph.
    """

    def __init__(self, graph: Graph, samples: Sequence[Sample], threads: int = 1) -> None:
        """Run the float model on the samples and keep its answers.

        Args:
            graph: float; node ``i`` is operator ``i`` of its file.
            samples: a few.
            threads: of the runs.
        """
        self.graph, self.samples = graph, samples
        self._model = Model(write(graph))
        self._session = self._model.session(threads)
        self._tensors = self._model.tensors
        self._numbers = {t.name: t.index for t in self._tensors}
        self.macs = [op.macs for op in self._model.ops]
        producers = graph.producers()
        order = {id(node): i for i, node in enumerate(graph.nodes)}
        real = [n for n in graph.outputs if self._tensors[self._numbers[n]].dtype.kind == "f"]
        ends = dict(_point(graph, n, producers) for n in real)
        self._at: dict[int, list[int]] = {}
        for name in ends:
            if name in producers:
                self._at.setdefault(order[id(producers[name])], []).append(self._numbers[name])
        self._points = [_Point(self._numbers[name], softmax, []) for name, softmax in ends.items() if name in producers]
        for sample in samples:
            values = self._run(sample)
            for point in self._points:
                y = values[point.tensor].astype(np.float64)
                point.reference.append(_log_softmax(y) if point.softmax else y)
        self._power = [point.power for point in self._points]

    def _run(self, sample: Sample, change: Callable[[int], None] | None = None) -> dict[int, Array]:
        found: dict[int, Array] = {}

        def after(op: int) -> None:
            if change is not None:
                change(op)
            for t in self._at.get(op, ()):
                found[t] = self._session.tensor(t).copy()

        with self._session.hook(after=after):
            self._session(sample)
        return found

    def _noise(self, change: Callable[[int], None] | None = None, entry: Callable[[Sample], Sample] = lambda s: s) -> float:
        noise = np.zeros(len(self.samples))
        for number, sample in enumerate(self.samples):
            values = self._run(entry(sample), change)
            for point, power in zip(self._points, self._power, strict=True):
                share = point.error(number, values[point.tensor]) / power
                noise[number] += share * len(self.samples) if math.isfinite(share) else _BROKEN
        return _joined(np.maximum(noise, 0))

    def activations(self, codes: Mapping[str, Codebook]) -> float:
        """Noise when activations, or inputs of the model, hold codes."""
        order = {name: i for i, node in enumerate(self.graph.nodes) for name in node.outputs}
        at: dict[int, list[tuple[int, Codebook]]] = {}
        for name, book in codes.items():
            if name not in self.graph.inputs:
                at.setdefault(order[name], []).append((self._numbers[name], book))
        entries = {name: book for name, book in codes.items() if name in self.graph.inputs}

        def change(op: int) -> None:
            for number, book in at.get(op, ()):
                view = self._session.tensor(number)
                view[...] = _partly(view, book.rounded(view))

        def entry(sample: Sample) -> Sample:
            return {**sample, **{name: _partly(x, book.rounded(x)) for name, book in entries.items() for x in [np.asarray(sample[name])]}}

        return self._noise(change, entry)

    def weights(self, node: Node, values: Array, shift: Array | None = None) -> float:
        """Noise when a node's weights are others.

        Args:
            node: of the graph, with constant float weights.
            values: float32 of the weights' shape.
            shift: of the layer's mean output per channel; its bias, where it has one, takes it back.
        """
        weights = self.graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].data
        assert weights is not None
        changed = [(WEIGHTS_INPUT[node.op], _partly(weights, np.asarray(values, np.float32)))]
        bias = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else ""
        if shift is not None and bias:
            data = self.graph.tensors[bias].data
            assert data is not None
            changed.append((BIAS_INPUT, _partly(data, data - shift)))
        with self._replaced(node, changed):
            return self._noise()

    @contextmanager
    def _replaced(self, node: Node, changed: Sequence[tuple[int, Array]]) -> Iterator[None]:
        """Put other constants (number of the input, values) into the model's file for the time of the context."""
        keep: list[tuple[Array, Array]] = []
        try:
            for position, values in changed:
                tensor = self.graph.tensors[node.inputs[position]]
                stored = self._session.tensor(self._numbers[tensor.name])
                keep.append((stored, stored.copy()))
                other = replace(tensor, data=values.reshape(tensor.shape))
                stored[:] = np.frombuffer(operators()[node.op].pack(node, position, other), np.uint8)
            yield
        finally:
            for stored, bytes_before in keep:
                stored[:] = bytes_before
