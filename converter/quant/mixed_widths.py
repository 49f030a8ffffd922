# SPDX-License-Identifier: Apache-2.0
"""A width for each layer's weights, found from a size, an SQNR, or an allowed drop.

1. Each layer alone is quantised at each width in the float model, on a few samples: its noise at the outputs (sensitivity.py).
2. A layer's useful widths are those on the lower convex hull of noise over bytes. Steps from one to the next, of all layers, ordered by
   the noise that they add per byte that they save, make a path from the widest to the narrowest file. This is the Lagrangian
   solution: each point of the path is the least noise for its bytes, if noises add up.
3. For a size the first point that is small enough is taken; for an accuracy target the last one whose file reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import ConvertError
from ..graph import Node
from ..linear import pack_codes
from ..targets.cpu_lite.entropy import stored_size
from .evaluation import Goal
from .layer_widths import LayerCodes, coded_nodes, weights_file
from .scheme import Decision
from .sensitivity import Probe, decibels_of
from .weights import WEIGHTS_INPUT

__all__ = ["Mixed", "Step", "find_widths", "lower_hull", "path_of", "stored_bytes", "target_bytes"]

Array = np.ndarray[Any, Any]

PROBE_SAMPLES = 16
PROBE_WORK = 4e12
"""Multiply-accumulates that measuring the widths may cost; large networks are measured on fewer samples, at least one."""


@dataclass(frozen=True)
class Step:
    """One layer goes from one width to a narrower one: ``added`` noise for ``saved`` bytes."""

    layer: int
    bits: int
    added: float
    saved: int


@dataclass
class Mixed:
    """What was found.

    Attributes:
        data: the file.
        decisions: per node.
        score: what the target's metric gives, None without an accuracy target.
        average: bits per weight, over all weights that are codes.
        tried: files made.
        layers: ``node``, ``op``, ``bits``, ``weights``, ``sqnr`` of the outputs when only this layer is quantised.
    """

    data: bytes
    decisions: list[Decision]
    score: float | None
    average: float
    tried: int
    layers: list[dict[str, Any]] = field(default_factory=list)


def stored_bytes(elements: int, bits: int) -> int:
    """Bytes of a layer's codes in the file."""
    return -(-elements * bits // 8)


def lower_hull(points: Sequence[tuple[int, float]]) -> list[int]:
    """Positions of the points (bytes, noise) on the lower convex hull, from the largest to the smallest.

    Noise falls along the hull as bytes grow: a narrower width that is no noisier than a wider one takes its place.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], points[i][1]))
    kept: list[int] = []
    for i in order:
        if kept and points[i][1] >= min(points[k][1] for k in kept):
            continue  # more bytes for no less noise
        while len(kept) >= 2 and _slope(points[kept[-2]], points[kept[-1]]) >= _slope(points[kept[-1]], points[i]):
            kept.pop()
        kept.append(i)
    return kept[::-1]


def _slope(a: tuple[int, float], b: tuple[int, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def path_of(noises: Sequence[Mapping[int, float]], sizes: Sequence[Mapping[int, int]]) -> tuple[list[int], list[Step]]:
    """The widest widths that pay, and the steps to the narrowest.

    Args:
        noises: of each layer by width.
        sizes: bytes of each layer by width.
    """
    start: list[int] = []
    steps: list[Step] = []
    for layer, (noise, size) in enumerate(zip(noises, sizes, strict=True)):
        widths = list(noise)
        points = [(size[bits], noise[bits]) for bits in widths]
        hull = lower_hull(points)
        start.append(widths[hull[0]])
        for wide, narrow in pairwise(hull):
            saved = points[wide][0] - points[narrow][0]
            steps.append(Step(layer, widths[narrow], points[narrow][1] - points[wide][1], saved))
    # A stable sort keeps each layer's steps in order: on a hull they grow dearer.
    return start, sorted(steps, key=lambda s: s.added / s.saved)


def target_bytes(text: str, float_bytes: int) -> int:
    """Bytes from ``--target-size``: ``200000``, ``200k``, ``1.5M``, or a part of the float file, ``0.25`` or ``25%``.

    Raises:
        ConvertError: it is none of these.
    """
    where, units = f"--target-size {text}", {"k": 1e3, "m": 1e6, "%": float_bytes / 100}
    word = text.strip().lower().removesuffix("b")
    unit = units.get(word[-1:], 0.0)
    try:
        number = float(word[:-1] if unit else word)
    except ValueError:
        number = float("nan")
    value = number * unit if unit else number * float_bytes if 0 < number <= 1 else number
    if not (np.isfinite(value) and value >= 1):
        raise ConvertError(
            "is not a size",
            rule="search.size",
            where=where,
            hint="Write bytes (200000, 200k, 1.5M) or a part of the float file (0.25, 25%)",
        )
    return int(value)


class _Search:
    def __init__(self, codes: LayerCodes, samples: Sequence[Mapping[str, Array]], low: int, high: int, threads: int) -> None:
        self.codes = codes
        self.nodes = coded_nodes(codes.graph, codes.scheme)
        self.elements = [codes.graph.tensors[n.inputs[WEIGHTS_INPUT[n.op]]].elements for n in self.nodes]
        self.noises = self._measure(samples, low, high, threads)
        self.start, self.steps = path_of(
            self.noises, [{bits: self._size(node, bits) for bits in range(low, high + 1)} for node in self.nodes]
        )
        self.tried = 0
        self._known: dict[int, tuple[bytes, list[Decision]]] = {}

    def _measure(self, samples: Sequence[Mapping[str, Array]], low: int, high: int, threads: int) -> list[dict[int, float]]:
        probe = Probe(self.codes.graph, samples[:1], threads)
        work = sum(probe.macs) * len(self.nodes) * (high - low + 1)
        most = int(np.clip(PROBE_WORK / max(1, work), 1, PROBE_SAMPLES))
        probe = Probe(self.codes.graph, samples[:most], threads)
        return [{bits: self._noise(probe, node, bits) for bits in range(low, high + 1)} for node in self.nodes]

    def _noise(self, probe: Probe, node: Node, bits: int) -> float:
        """Of codes that are merely near: optimised ones are made for the widths that are tried. Their shift counts as taken back."""
        codes = self.codes.plain(node, bits)
        return probe.weights(node, self.codes.numbers(node, codes), self.codes.shift(node, codes))

    def _size(self, node: Node, bits: int) -> int:
        """Bytes of a layer's codes, less what entropy coding saves."""
        elements = self.codes.graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].elements
        if self.codes.scheme.entropy == "off" or bits > 8:
            return stored_bytes(elements, bits)
        codes = np.zeros(-(-elements // 8) * 8, np.int16)
        codes[:elements] = self.codes.plain(node, bits).codes.reshape(-1)
        return stored_size(pack_codes(codes, bits), bits, self.codes.scheme.entropy)

    def widths(self, count: int) -> list[int]:
        """Width of each layer after so many steps."""
        widths = list(self.start)
        for step in self.steps[:count]:
            widths[step.layer] = step.bits
        return widths

    def by_name(self, count: int) -> dict[str, int]:
        """`widths` as a scheme takes them."""
        return {node.outputs[0]: bits for node, bits in zip(self.nodes, self.widths(count), strict=True)}

    def file(self, count: int) -> tuple[bytes, list[Decision]]:
        """The file after so many steps."""
        if count not in self._known:
            self.tried += 1
            self._known[count] = weights_file(self.codes, self.by_name(count))
        return self._known[count]

    def average(self, count: int) -> float:
        """Bits per weight."""
        return sum(b * n for b, n in zip(self.widths(count), self.elements, strict=True)) / max(1, sum(self.elements))

    def saved(self, count: int) -> int:
        """Bytes of codes that so many steps save."""
        return sum(step.saved for step in self.steps[:count])


def _last_reached(count: int, reached: Callable[[int], bool]) -> int | None:
    """The most steps found that still reach the target (0 up to ``count``), or None when not even 0 do."""
    if not reached(0):
        return None
    low, high = 0, count + 1
    while high - low > 1:
        middle = (low + high) // 2
        if reached(middle):
            low = middle
        else:
            high = middle
    return low


def _for_size(search: _Search, size: int, best_effort: bool) -> int:
    """The fewest steps whose file is small enough."""
    low, high = -1, len(search.steps)
    smallest = len(search.file(high)[0])
    if smallest > size:
        if not best_effort:
            raise ConvertError(
                f"the target is {size:,} bytes, the smallest file has {smallest:,}; nothing is written",
                rule="search.size",
                where="--target-size",
                hint="Ask for more, allow narrower weights (--bit-range), or take the smallest with --best-effort",
            )
        return high
    # What the steps save is known but for alignment; start where that says, and look around.
    guess = next((n for n in range(high + 1) if smallest + search.saved(high) - search.saved(n) <= size), high)
    for n in (guess - 2, guess + 2):
        if low < n < high:
            if len(search.file(n)[0]) <= size:
                high = n
            else:
                low = n
    while high - low > 1:
        middle = (low + high) // 2
        if len(search.file(middle)[0]) <= size:
            high = middle
        else:
            low = middle
    return high


def find_widths(
    codes: LayerCodes,
    samples: Sequence[Mapping[str, Array]],
    *,
    goal: Goal | None = None,
    size: int | None = None,
    low: int = 2,
    high: int = 8,
    best_effort: bool = False,
    threads: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> Mixed:
    """A width for each layer.

    Args:
        codes: of the layers.
        samples: to measure sensitivity on.
        goal: an accuracy target; with ``size`` too it is checked on the file of that size.
        size: bytes that the file may have.
        low, high: narrowest and widest width.
        best_effort: give the best there is where a target cannot be met.
        threads: of the runs.
        say: called with a line for each file scored.

    Raises:
        ConvertError: the target cannot be met, or no layer has weights to quantise.
    """
    search = _Search(codes, samples, low, high, threads)
    if not search.nodes:
        raise ConvertError("no layer has weights to quantise", rule="search.layers", where="--quant weight")
    scores: dict[int, float] = {}

    def reached(count: int) -> bool:
        assert goal is not None
        if count not in scores:
            scores[count] = goal.score(search.file(count)[0])
            say(f"{search.average(count):.2f} bits per weight, {len(search.file(count)[0]):,} bytes: {goal.say(scores[count])}")
        return goal.reached(scores[count])

    if size is not None:
        count = _for_size(search, size, best_effort)
        good = goal is None or reached(count)
    else:
        assert goal is not None
        found = _last_reached(len(search.steps), reached)
        count, good = found or 0, found is not None
    if goal is not None and not good and not best_effort:
        raise ConvertError(
            f"the target is {goal}, {'a file of this size' if size is not None else f'{high} bits per weight'} gives "
            f"{goal.say(scores[count])}; nothing is written",
            rule="goal.reached",
            where=goal.flag,
            hint="Ask for less, allow wider weights (--bit-range), give more calibration data, or take the best with --best-effort",
        )
    data, decisions = search.file(count)
    mixed = Mixed(data, decisions, scores.get(count), search.average(count), search.tried)
    for node, bits, noise, elements in zip(search.nodes, search.widths(count), search.noises, search.elements, strict=True):
        sqnr = round(decibels_of(noise[bits]), 2)
        mixed.layers.append({"node": node.name, "op": node.op, "bits": bits, "weights": elements, "sqnr": sqnr})
    return mixed
