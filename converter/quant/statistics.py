# SPDX-License-Identifier: Apache-2.0
"""What the corrections need to know about the inputs of operators with weights: means, second moments, channel extremes.

Gathered from runs of the float model through the runtime's hook, in memory that does not depend on the number of samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from ..graph import Graph, Node
from .float_model import FloatModel
from .matrices import depth_of, input_rows, positions_of
from .weights import WEIGHTS_INPUT

__all__ = ["ChannelWatcher", "InputStatistics", "InputWatcher", "Statistics", "gather", "linear_nodes"]

Array = np.ndarray[Any, Any]

# A second moment of K inputs is K * K numbers. Beyond this many inputs it is kept per kernel position, and beyond this many
# channels per block of so many: correlations between blocks are then taken as zero.
MOMENT_LIMIT = 1280
BLOCK = 512


@dataclass
class InputStatistics:
    """Inputs of one operator with weights, over output positions of all samples.

    Attributes:
        rows: positions seen.
        total: sum ``[groups, K]``, float64.
        moments: sums of products per block of inputs: ``(begin, [groups, k, k])`` for inputs ``begin .. begin + k``, float64.
    """

    rows: int
    total: Array
    moments: list[tuple[int, Array]]

    @property
    def mean(self) -> Array:
        """Mean input ``[groups, K]``."""
        return self.total / max(1, self.rows)

    def covariance(self, block: int) -> Array:
        """Covariance ``[groups, k, k]`` of a block."""
        begin, products = self.moments[block]
        mean = self.mean[:, begin : begin + products.shape[1]]
        return np.asarray(products / max(1, self.rows) - mean[:, :, None] * mean[:, None, :])


@dataclass
class Statistics:
    """What a few runs of the float model showed.

    Attributes:
        inputs: one per node of `linear_nodes`, in order.
        extremes: smallest and largest value per channel (last axis) ``[2, C]`` of the activations asked for, by tensor name.
        samples: how many runs.
    """

    inputs: list[InputStatistics] = field(default_factory=list)
    extremes: dict[str, Array] = field(default_factory=dict)
    samples: int = 0


def _blocks(kernel: int, depth: int, moments: bool) -> list[tuple[int, int]]:
    """Ranges of inputs that get a second moment."""
    if not moments:
        return []
    total = kernel * depth
    if total <= MOMENT_LIMIT:
        return [(0, total)]
    step = depth if depth <= MOMENT_LIMIT else BLOCK
    if depth < 16:
        step = MOMENT_LIMIT // depth * depth
    return [(begin, min(begin + step, total)) for begin in range(0, total, step)]


def linear_nodes(graph: Graph) -> list[Node]:
    """Nodes with constant weights, in order. Quantisation keeps their number and order."""
    return [n for n in graph.nodes if n.op in WEIGHTS_INPUT and graph.tensors[n.inputs[WEIGHTS_INPUT[n.op]]].constant]


def _chosen_positions(number: int, sample: int, positions: int, take: int) -> Array:
    """Output positions of a node (its number in `linear_nodes`) that a sample contributes: all, or ``take`` scattered ones."""
    if take >= positions:
        return np.arange(positions)
    return np.random.default_rng((number, sample)).choice(positions, take, replace=False)


class _Watch:
    """Adds up one operator's inputs."""

    def __init__(self, node: Node, graph: Graph, rows_per_sample: int, moments: bool, number: int) -> None:
        self.node, self.number = node, number
        self.shape = graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].shape
        groups, kernel, depth = depth_of(node, self.shape)
        self.positions = positions_of(node, graph.tensors[node.inputs[0]].shape, graph.tensors[node.outputs[0]].shape)
        self.take = rows_per_sample
        ranges = _blocks(kernel, depth, moments)
        self.sums = InputStatistics(0, np.zeros((groups, kernel * depth)), [(b, np.zeros((groups, e - b, e - b))) for b, e in ranges])

    def add(self, x: Array, sample: int) -> None:
        """Take the chosen positions of a run."""
        rows = input_rows(self.node, x, self.shape, _chosen_positions(self.number, sample, self.positions, self.take))
        self.sums.rows += rows.shape[1]
        self.sums.total += rows.sum(axis=1, dtype=np.float64)
        for begin, products in self.sums.moments:
            part = rows[:, :, begin : begin + products.shape[1]]
            products += np.matmul(part.transpose(0, 2, 1), part)


class InputWatcher:
    """Watches the inputs of the operators with weights; a `float_model.Watcher`.

    Attributes:
        samples: runs that were watched.
    """

    def __init__(self, graph: Graph, *, most: int, rows: int, moments: bool) -> None:
        """Prepare to watch.

        Args:
            graph: float, as the passes left it.
            most: runs to watch.
            rows: output positions per operator to use, over ``most`` runs.
            moments: gather second moments.
        """
        numbers = {id(node): i for i, node in enumerate(graph.nodes)}
        self._watches = [_Watch(n, graph, max(1, rows // most), moments, i) for i, n in enumerate(linear_nodes(graph))]
        self._at = {numbers[id(w.node)]: w for w in self._watches}
        self._last = len(graph.nodes) - 1
        self.samples = 0

    @property
    def inputs(self) -> list[InputStatistics]:
        """What was seen, per node of `linear_nodes`, in order."""
        return [w.sums for w in self._watches]

    def before(self, op: int, model: FloatModel) -> None:
        """Look at an operator's input."""
        if op in self._at:
            self._at[op].add(model.value(self._at[op].node.inputs[0]), self.samples)

    def after(self, op: int, model: FloatModel) -> None:
        """Count the runs."""
        self.samples += op == self._last


class ChannelWatcher:
    """Smallest and largest value per channel (last axis) of some activations; a `float_model.Watcher`.

    Attributes:
        extremes: ``[2, C]`` by tensor name.
    """

    def __init__(self, graph: Graph, names: Iterable[str]) -> None:
        self.extremes = {name: np.full((2, graph.tensors[name].shape[-1]), [[np.inf], [-np.inf]]) for name in names}
        self._made = [[name for name in node.outputs if name in self.extremes] for node in graph.nodes]

    def before(self, op: int, model: FloatModel) -> None:
        """Nothing to see."""

    def after(self, op: int, model: FloatModel) -> None:
        """Look at what an operator made."""
        for name in self._made[op]:
            seen = self.extremes[name]
            x = model.value(name).reshape(-1, seen.shape[1])
            seen[0] = np.minimum(seen[0], x.min(axis=0))
            seen[1] = np.maximum(seen[1], x.max(axis=0))


def gather(
    graph: Graph,
    samples: Iterable[Mapping[str, Array]],
    *,
    most: int,
    rows: int = 4096,
    moments: bool = True,
    channels: Iterable[str] = (),
    threads: int = 1,
    model: FloatModel | None = None,
) -> Statistics:
    """Run a float graph on up to ``most`` samples and watch the inputs of its operators with weights.

    Args:
        graph: float, as the passes left it.
        samples: inputs by name.
        most: samples to use.
        rows: output positions per operator to use, over ``most`` samples; 0 watches no inputs.
        moments: gather second moments.
        channels: activations whose channel extremes are wanted.
        threads: of the runs.
        model: of the graph, where there is one already.
    """
    model = FloatModel(graph, threads) if model is None else model
    inputs = InputWatcher(graph, most=most, rows=rows, moments=moments) if rows else None
    extremes = ChannelWatcher(graph, channels)
    count = 0
    for sample in islice(samples, most):
        model.run(sample, [extremes] if inputs is None else [inputs, extremes])
        count += 1
    return Statistics([] if inputs is None else inputs.inputs, extremes.extremes, count)
