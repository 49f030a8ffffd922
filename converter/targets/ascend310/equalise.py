# SPDX-License-Identifier: Apache-2.0
"""`--method equalise`: the channels of one activation, which share one scale and offset, get like ranges before anything is quantised.

A channel can be divided by a number and shifted where it is made, and multiplied and shifted back where it is used: the network computes
the same up to float rounding. Activations whose channels are scaled together form a space: made by layers whose weights take the
division, passed on by operators that commute with a positive factor (a whole residual stream is one space), read by layers whose weights
take the multiplication. A shift brings the middle of each channel's range to zero; it moves from bias to bias, where no zero padding
lies between. It is the changed float model that is written, recorded and calibrated, so every file of the folder fits the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from .onnx_graph import OnnxGraph, attributes

__all__ = ["Extremes", "Space", "equalise", "find_spaces"]

Array = npt.NDArray[Any]

_LAYERS = ("Conv", "ConvTranspose", "Gemm")
# A ReLU would let a factor pass, too, but behind it a channel's range is that of rare peaks, of which calibration data know too little:
# scaling by it was measured to cost small networks 2 to 6 dB.
_PASSING = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
# No channel is divided by less than this fraction of the space's largest divisor: near-dead channels stay near dead.
_SMALLEST = 1.0 / 64
# How far ranges are brought together: not at all, half way in the logarithm, fully.
_STRENGTHS = (0.0, 0.5, 1.0)


@dataclass
class Space:
    """Values whose channels (axis 1) are scaled by one vector.

    Attributes:
        values: their names.
        channels: length of axis 1.
        makers, users: layers whose weights take the division and the multiplication.
    """

    values: list[str] = field(default_factory=list)
    channels: int = 0
    makers: list[onnx.NodeProto] = field(default_factory=list)
    users: list[onnx.NodeProto] = field(default_factory=list)


class _Union:
    """Sets of value names; the set that holds the empty name cannot be scaled."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        while self._parent.get(name, name) != name:
            name = self._parent[name]
        return name

    def join(self, *names: str) -> None:
        roots = sorted({self.find(name) for name in names})
        for root in roots[1:]:
            self._parent[root] = roots[0]


def _layer_weights(graph: OnnxGraph, node: onnx.NodeProto, readers: Mapping[str, int]) -> bool:
    """Weights and bias are constants of this node alone."""
    constants = [name for name in node.input[1:] if name]
    plain = node.op_type in _LAYERS and not any(attributes(node).get(flag, 0) for flag in ("transA", "transB"))
    unscaled = attributes(node).get("alpha", 1.0) == 1.0 and attributes(node).get("beta", 1.0) == 1.0
    vector = len(constants) < 2 or graph.inits.get(constants[1], np.zeros((0, 0))).ndim == 1
    return plain and unscaled and vector and all(name in graph.inits and readers.get(name) == 1 for name in constants)


def _passed(graph: OnnxGraph, node: onnx.NodeProto) -> list[str]:
    """Inputs that share the output's factors; empty when the node does not commute with a factor per channel."""
    shapes = [graph.shape(name) if name else None for name in [*node.input, node.output[0]]]
    if shapes[-1] is None or len(node.output) != 1:
        return []
    if node.op_type in _PASSING:
        return [node.input[0]]
    if node.op_type == "Add" and shapes[0] == shapes[1] and not any(name in graph.inits for name in node.input):
        return list(node.input)
    return []


def find_spaces(graph: OnnxGraph) -> list[Space]:
    """Spaces in graph order; types must be inferred."""
    readers = {name: len(users) for name, users in graph.consumers().items()}
    union = _Union()
    for value in [*graph.inputs, *graph.outputs]:
        union.join("", value.name)
    made: dict[str, onnx.NodeProto] = {}
    used: list[tuple[str, onnx.NodeProto]] = []
    for node in graph.nodes:
        layer, passed = _layer_weights(graph, node, readers), _passed(graph, node)
        if layer:
            made[node.output[0]] = node
            used.append((node.input[0], node))
        elif passed:
            union.join(node.output[0], *passed)
        else:
            union.join("", *node.output, *node.input)
    spaces: dict[str, Space] = {}
    for node in graph.nodes:
        for name in node.output:
            shape, root = graph.shape(name), union.find(name)
            if root == union.find(""):
                continue
            if shape is None or len(shape) < 2:
                union.join("", name)
                continue
            space = spaces.setdefault(root, Space(channels=shape[1]))
            space.values.append(name)
            if name in made:
                space.makers.append(made[name])
    for name, node in used:
        if (root := union.find(name)) in spaces:
            spaces[root].users.append(node)
    free = union.find("")
    return [s for root, s in spaces.items() if s.makers and s.users and s.channels > 1 and union.find(root) != free]


class Extremes:
    """Range of each channel, averaged over batches (a mean of extremes heeds no single outlier), and its largest extent and moments."""

    def __init__(self) -> None:
        self._sums: dict[str, Array] = {}
        self._ends: dict[str, Array] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, x: Array) -> None:
        """Take in one batch of one value."""
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        low, high = x.min(axis=axes).astype(np.float64), x.max(axis=axes).astype(np.float64)
        mean, square = x.mean(axis=axes, dtype=np.float64), np.square(x).mean(axis=axes, dtype=np.float64)
        here, old = np.stack([low, high, mean, square]), self._ends.get(name)
        self._sums[name] = self._sums[name] + here if name in self._sums else here
        self._ends[name] = np.stack([low, high]) if old is None else np.stack([np.minimum(old[0], low), np.maximum(old[1], high)])
        self._counts[name] = self._counts.get(name, 0) + 1

    def middle(self, name: str) -> Array:
        """Centre of each channel's range."""
        return np.asarray(self._sums[name][:2].mean(axis=0) / self._counts[name])

    def reach(self, name: str, shift: Array) -> Array:
        """Largest magnitude of each channel once ``shift`` is taken off."""
        return np.asarray(np.abs(self._sums[name][:2] / self._counts[name] - shift).max(axis=0))

    def span(self, name: str, shift: Array, factors: Array) -> float:
        """Range of the whole value, zero included, once ``shift`` is taken off and ``factors`` divide it."""
        ends = (self._ends[name] - shift) / factors
        return float(max(ends[1].max(), 0.0) - min(ends[0].min(), 0.0))

    def moment(self, name: str, shift: Array) -> Array:
        """Mean square of each channel once ``shift`` is taken off."""
        mean, square = self._sums[name][2:] / self._counts[name]
        return np.asarray(square - 2 * shift * mean + shift**2)


def _has_bias(node: onnx.NodeProto) -> bool:
    return len(node.input) > 2 and bool(node.input[2])


def _takes_shift(node: onnx.NodeProto) -> bool:
    """A layer whose bias can undo a shift of its input: every output sees every tap, so no padding."""
    return node.op_type in ("Conv", "Gemm") and _has_bias(node) and not any(attributes(node).get("pads", []))


def _shiftable(graph: OnnxGraph, spaces: Sequence[Space]) -> set[str]:
    """Values that a shift of their channels leaves repairable: by every reader, or by every reader of what it passes the shift on to."""
    inside = {name for space in spaces for name in space.values}
    users = {id(node) for space in spaces for node in space.users}
    readers, good = graph.consumers(), set()
    for node in reversed(graph.nodes):
        for name in node.output:
            if name in inside and all(
                (id(user) in users and _takes_shift(user))
                or (user.op_type in ("Add", *_PASSING) and user.output[0] in good and not any(attributes(user).get("pads", [])))
                for user, _ in readers.get(name, [])
            ):
                good.add(name)
    return good


def _shifts(graph: OnnxGraph, spaces: Sequence[Space], seen: Extremes) -> dict[str, Array]:
    """What is taken off each channel, by value name. A residual branch takes what brings the sum to its own middle."""
    makers = {node.output[0] for space in spaces for node in space.makers if _has_bias(node)}
    good, readers = _shiftable(graph, spaces), graph.consumers()
    channels = {name: space.channels for space in spaces for name in space.values}
    shifts: dict[str, Array] = {}
    for node in graph.nodes:
        name = node.output[0]
        if name not in channels:
            continue
        shifts[name] = np.zeros(channels[name])
        if name in makers:
            user = readers[name][0][0]
            others = [other for other in user.input if other != name] if user.op_type == "Add" else []
            if name in good and len(readers[name]) == 1 and others and others[0] in shifts:
                shifts[name] = seen.middle(user.output[0]) - shifts[others[0]]
            elif name in good:
                shifts[name] = seen.middle(name)
        elif any(other in shifts for other in node.input):
            shifts[name] = sum((shifts[other] for other in node.input if other in shifts), shifts[name])
    return shifts


def _move(graph: OnnxGraph, node: onnx.NodeProto, step: Array) -> None:
    bias = graph.inits[node.input[2]]
    graph.inits[node.input[2]] = (bias.astype(np.float64) + step).astype(bias.dtype)


def _undo_shift(graph: OnnxGraph, node: onnx.NodeProto, shift: Array) -> None:
    """Add to a layer's bias what its input lost."""
    weights = graph.inits[node.input[1]].astype(np.float64)
    if node.op_type == "Gemm":
        _move(graph, node, shift @ weights)
        return
    group = int(attributes(node).get("group", 1))
    sums = weights.reshape(*weights.shape[:2], -1).sum(axis=2)
    _move(graph, node, (sums * np.repeat(shift.reshape(group, -1), sums.shape[0] // group, axis=0)).sum(axis=1))


def _factors(space: Space, seen: Extremes, shifts: Mapping[str, Array], strength: float) -> Array:
    """Divisors [channels]: each channel's relative range, as powers of two (weights keep their bits) of geometric mean about 1."""
    relative = np.zeros(space.channels)
    for name in space.values:
        reach = seen.reach(name, shifts[name])
        if reach.max() > 0:
            relative = np.maximum(relative, reach / reach.max())
    logs = np.log2(np.maximum(relative, _SMALLEST)) * strength
    return np.asarray(np.exp2(np.rint(logs - logs.mean())))


def _noise(graph: OnnxGraph, node: onnx.NodeProto, seen: Extremes, shift: Array, factors: Array) -> float:
    """Expected noise of a layer's output, up to a constant: its input's rounding through its weights, and its weights' rounding."""
    weights = graph.inits[node.input[1]].astype(np.float64) * _spread(node, graph.inits[node.input[1]], factors, outputs=False)
    moments = np.broadcast_to(_spread(node, weights, seen.moment(node.input[0], shift) / factors**2, outputs=False), weights.shape)
    axes = tuple(range(1, weights.ndim)) if node.op_type == "Conv" else (0, *range(2, weights.ndim))
    largest = np.abs(weights).max(axis=axes if node.op_type != "Gemm" else None)
    by_input = (seen.span(node.input[0], shift, factors) / 255) ** 2 * float((weights**2).sum())
    return by_input + float(((largest / 127) ** 2 * moments.sum(axis=axes)).sum())


def _choose(graph: OnnxGraph, space: Space, seen: Extremes, shifts: Mapping[str, Array]) -> tuple[Mapping[str, Array], Array]:
    """The shifts and factors of a space that promise the least noise in its readers; perhaps none."""
    still = {name: np.zeros(space.channels) for name in space.values}
    best, chosen = math.inf, (still, np.ones(space.channels))
    for moved in (still, {name: shifts[name] for name in space.values}):
        for strength in _STRENGTHS:
            factors = _factors(space, seen, moved, strength)
            noise = sum(math.log(max(_noise(graph, user, seen, moved[user.input[0]], factors), 1e-300)) for user in space.users)
            if noise < best:
                best, chosen = noise, (moved, factors)
    return chosen


def _spread(node: onnx.NodeProto, weights: Array, factors: Array, outputs: bool) -> Array:
    """A number for each output (``outputs``) or input channel, in a shape that broadcasts to the layer's weights."""
    group, ones = int(attributes(node).get("group", 1)), (1,) * (weights.ndim - 2)
    if (node.op_type, outputs) in (("Conv", False), ("ConvTranspose", True)):
        # Axis 1 holds the channels of one group only: its rows belong to the groups in turn.
        return np.repeat(factors.reshape(group, -1), weights.shape[0] // group, axis=0).reshape(*weights.shape[:2], *ones)
    first = (node.op_type == "Conv") == outputs
    return factors.reshape(-1, 1, *ones) if first else factors.reshape(1, -1, *ones)


def _scale(graph: OnnxGraph, node: onnx.NodeProto, factors: Array, outputs: bool) -> None:
    """Divide the output channels of a layer's weights (``outputs``) or multiply the input channels."""
    weights = graph.inits[node.input[1]]
    factor = _spread(node, weights, factors, outputs)
    scaled = weights.astype(np.float64) / factor if outputs else weights.astype(np.float64) * factor
    graph.inits[node.input[1]] = scaled.astype(weights.dtype)
    if outputs and _has_bias(node):
        _move(graph, node, graph.inits[node.input[2]].astype(np.float64) * (1 / factors - 1))


def equalise(graph: OnnxGraph, gather: Callable[[Callable[[str, Array], None], set[str]], None]) -> int:
    """Scale and shift the spaces of a prepared graph in place, each where that promises less noise.

    Args:
        gather: runs the float model and calls its first argument with (name, array) for the values named in its second.

    Returns:
        How many spaces were changed.
    """
    spaces = find_spaces(graph)
    if not spaces:
        return 0
    seen = Extremes()
    gather(seen.add, {name for space in spaces for name in space.values})
    shifts = _shifts(graph, spaces, seen)
    changed = 0
    for space in spaces:
        moved, factors = _choose(graph, space, seen, shifts)
        changed += bool((factors != 1).any() or any(shift.any() for shift in moved.values()))
        for node in space.makers:
            if _has_bias(node):
                _move(graph, node, -moved[node.output[0]])
        for node in space.users:
            if _takes_shift(node):
                _undo_shift(graph, node, moved[node.input[0]])
        for node in space.makers:
            _scale(graph, node, factors, outputs=True)
        for node in space.users:
            _scale(graph, node, factors, outputs=False)
    return changed
