# SPDX-License-Identifier: Apache-2.0
"""Equalisation: channels of one activation share one scale, so a channel with small values loses its precision to a large one.

A channel can be divided by a positive number where it is made and multiplied where it is used, and the network computes the same. This
pass finds the *spaces* in which that is possible: sets of activations whose channels are scaled together, made by operators whose
weights can take the division (convolution, matrix product, LayerNorm), passed on by operators that commute with it (addition, pooling,
ReLU, ...), and read by operators whose weights can take the multiplication. Between two convolutions this is cross-layer equalisation;
between LayerNorm and a matrix product it is SmoothQuant's scaling; along a residual stream it covers all its blocks at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..memory import put_aside
from ..ops.binary import BinaryKind
from ..ops.reduce import ReduceKind
from ..ops.unary import UnaryKind

__all__ = ["Space", "equalise", "find_spaces", "space_scales"]

Array = np.ndarray[Any, Any]

_INF = float("inf")
_UNARY_HOMOGENEOUS = frozenset({UnaryKind.IDENTITY, UnaryKind.LEAKY_RELU, UnaryKind.ABS, UnaryKind.NEG})
_REDUCE_LINEAR = frozenset({ReduceKind.MEAN, ReduceKind.SUM, ReduceKind.MAX, ReduceKind.MIN})
# No channel is divided by less than this fraction of the space's largest divisor: near-dead channels stay near dead.
_SMALLEST = 1.0 / 64


@dataclass
class Space:
    """Activations whose last axis is scaled by one vector.

    Attributes:
        tensors: their names.
        channels: length of the last axis.
        makers: nodes whose weights take the division.
        users: nodes whose weights take the multiplication.
    """

    tensors: list[str] = field(default_factory=list)
    channels: int = 0
    makers: list[Node] = field(default_factory=list)
    users: list[Node] = field(default_factory=list)


class _Union:
    """Sets of tensor names; a set that holds the empty name is fixed: it cannot be scaled."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        while self.parent.get(name, name) != name:
            name = self.parent[name]
        return name

    def join(self, *names: str) -> None:
        roots = sorted({self.find(n) for n in names})
        for root in roots[1:]:
            self.parent[root] = roots[0]


def _float_activation(graph: Graph, name: str) -> Tensor | None:
    tensor = graph.tensors.get(name)
    return tensor if tensor is not None and not tensor.constant and tensor.dtype is DType.FLOAT32 and tensor.shape else None


def _clamp_allows(node: Node) -> bool:
    """No clamp, or one at zero: only these commute with a positive factor. (A ReLU6 would need a limit per channel; magnifying only
    the channels that stay below 6 on the samples was tried and lost 3 to 10 dB on other pictures.)
    """
    return node.params.get("act_min", -_INF) in (0.0, -_INF) and node.params.get("act_max", _INF) == _INF


def _float_constant(graph: Graph, name: str) -> bool:
    tensor = graph.tensors.get(name)
    return tensor is not None and tensor.constant and tensor.dtype is DType.FLOAT32


def _can_make(graph: Graph, node: Node) -> bool:
    """The node's own constants can take a division of its output channels."""
    if node.op in ("Conv2D", "ConvTranspose2D", "FullyConnected", "DepthwiseConv2D"):
        return _float_constant(graph, node.inputs[1]) and _clamp_allows(node) and not node.params.get("dynamic", False)
    if node.op == "LayerNorm":
        return _float_constant(graph, node.inputs[1]) and graph.tensors[node.inputs[1]].shape == graph.tensors[node.outputs[0]].shape[-1:]
    return False


def _can_use(graph: Graph, node: Node, position: int) -> bool:
    """The node's weights can take a multiplication of its input channels."""
    if position != 0 or node.op not in ("Conv2D", "ConvTranspose2D", "FullyConnected", "DepthwiseConv2D"):
        return False
    return _float_constant(graph, node.inputs[1]) and not node.params.get("dynamic", False)


def _passed_on(graph: Graph, node: Node) -> tuple[int, ...]:
    """Inputs whose space is the output's; () when the node does not commute with a factor per channel."""
    out = graph.tensors[node.outputs[0]]
    shapes = [graph.tensors[n].shape if n else () for n in node.inputs]
    same = bool(shapes) and shapes[0][-1:] == out.shape[-1:]
    axes = node.params.get("axes", [])
    if node.op == "Binary":
        return _binary_passes(graph, node)
    if node.op == "Unary":
        return (0,) if node.params.get("kind", 0) in _UNARY_HOMOGENEOUS else ()
    if node.op == "Reduce":
        return (0,) if node.params.get("kind", 0) in _REDUCE_LINEAR and len(shapes[0]) - 1 not in axes and same else ()
    if node.op == "Pad":
        zero = node.params.get("kind", 0) != 0 or node.params.get("value", 0.0) == 0.0
        return (0,) if zero and node.params.get("before", [0])[-1] == 0 and same else ()
    if node.op == "Slice":
        return (0,) if same and node.params.get("step", [1])[-1] == 1 else ()
    if node.op == "Reshape":
        return (0,) if same and out.shape else ()
    if node.op == "Transpose":
        perm = list(node.params.get("perm", []))
        return (0,) if perm and perm[-1] == len(perm) - 1 else ()
    return (0,) if node.op in ("Pool2D", "Resize") and same else ()


def _binary_passes(graph: Graph, node: Node) -> tuple[int, ...]:
    kind, out = node.params.get("kind", 0), graph.tensors[node.outputs[0]]
    if not _clamp_allows(node):
        return ()
    scaled = [i for i, n in enumerate(node.inputs) if not graph.tensors[n].constant and graph.tensors[n].shape[-1:] == out.shape[-1:]]
    if kind in (BinaryKind.ADD, BinaryKind.SUB, BinaryKind.MIN, BinaryKind.MAX):
        # Both sides carry the factor; a constant or broadcast side cannot.
        return (0, 1) if len(scaled) == 2 else ()
    if kind == BinaryKind.MUL:
        # One side carries the factor: the one with the output's shape. The other stays as it is.
        full = [i for i, n in enumerate(node.inputs) if graph.tensors[n].shape == out.shape and not graph.tensors[n].constant]
        return (full[0],) if len(full) == 1 else ()
    return (0,) if kind == BinaryKind.PRELU and 0 in scaled else ()


def _join_node(graph: Graph, node: Node, union: _Union) -> None:
    fixed = ""
    passed = _passed_on(graph, node)
    makes = _can_make(graph, node)
    for name in node.outputs:
        if not passed and not makes:
            union.join(fixed, name)
    if passed:
        union.join(node.outputs[0], *(node.inputs[i] for i in passed))
    for i, name in enumerate(node.inputs):
        if not name or i in passed or _can_use(graph, node, i):
            continue
        if i == 4 and makes and node.op in ("Conv2D", "FullyConnected"):
            union.join(node.outputs[0], name)  # the residual is added to the output
        else:
            union.join(fixed, name)


def find_spaces(graph: Graph) -> list[Space]:
    """Spaces of a float graph that can be scaled, in graph order."""
    union = _Union()
    for name in [*graph.inputs, *graph.outputs]:
        union.join("", name)
    for node in graph.nodes:
        _join_node(graph, node, union)
    spaces: dict[str, Space] = {}
    for node in graph.nodes:
        for name in node.outputs:
            tensor = _float_activation(graph, name)
            root = union.find(name)
            if tensor is None or root == union.find(""):
                continue
            space = spaces.setdefault(root, Space(channels=tensor.shape[-1]))
            space.tensors.append(name)
            if _can_make(graph, node):
                space.makers.append(node)
    for node in graph.nodes:
        for i, name in enumerate(node.inputs):
            root = union.find(name) if name else ""
            if root in spaces and _can_use(graph, node, i) and name in spaces[root].tensors:
                spaces[root].users.append(node)
    return [s for s in spaces.values() if s.makers and s.users and s.channels > 1]


def space_scales(space: Space, extremes: Mapping[str, Array], strength: float) -> Array:
    """Divisors ``[channels]``, positive: ``(relative range of the channel) ** strength``, with geometric mean 1.

    Args:
        space: activations that are scaled together.
        extremes: smallest and largest value per channel ``[2, C]`` by tensor name.
        strength: 0 changes nothing, 1 gives every channel the same range.
    """
    relative = np.zeros(space.channels)
    for name in space.tensors:
        low, high = np.minimum(extremes[name][0], 0), np.maximum(extremes[name][1], 0)
        reach = np.maximum(-low, high)
        if reach.max() > 0:
            relative = np.maximum(relative, reach / reach.max())
    if not relative.any():
        return np.ones(space.channels)
    scales = np.maximum(relative, _SMALLEST) ** strength
    return np.asarray(scales / np.exp(np.log(scales).mean()))


def _replace(graph: Graph, node: Node, position: int, array: Array) -> None:
    old = graph.tensors[node.inputs[position]]
    node.inputs[position] = graph.constant(array.astype(np.float32), f"{old.name}_scaled")


def _divide_outputs(graph: Graph, node: Node, scales: Array) -> None:
    data = graph.tensors[node.inputs[1]].data
    assert data is not None
    weights = data.astype(np.float64)
    channels_last = node.op in ("DepthwiseConv2D", "LayerNorm")
    _replace(graph, node, 1, weights / scales if channels_last else weights / scales.reshape(-1, *[1] * (weights.ndim - 1)))
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = graph.tensors[node.inputs[2]].data
        assert bias is not None
        _replace(graph, node, 2, bias.astype(np.float64) / scales)


def _multiply_inputs(graph: Graph, node: Node, scales: Array) -> None:
    data = graph.tensors[node.inputs[1]].data
    assert data is not None
    weights = data.astype(np.float64)
    if node.op == "DepthwiseConv2D":
        factor = np.repeat(scales, node.params.get("multiplier", 1))
    elif node.params.get("group", 1) > 1:
        group, depth = node.params["group"], weights.shape[3]
        factor = np.repeat(scales.reshape(group, depth), weights.shape[0] // group, axis=0)[:, None, None, :]
    else:
        factor = scales
    _replace(graph, node, 1, weights * factor)


def equalise(graph: Graph, extremes: Mapping[str, Array], strength: float = 0.5) -> dict[str, Array]:
    """Scale every space of a float graph in place.

    Args:
        graph: float; computes the same afterwards, up to float rounding.
        extremes: per-channel extremes of the activations of `find_spaces`, on calibration data.
        strength: see `space_scales`.

    Returns:
        Divisors ``[channels]``, float32, of the activations that were scaled, by name.
    """
    scaled: dict[str, Array] = {}
    for space in find_spaces(graph):
        scales = space_scales(space, extremes, strength)
        if np.allclose(scales, 1):
            continue
        scaled.update(dict.fromkeys(space.tensors, scales.astype(np.float32)))
        for node in space.makers:
            _divide_outputs(graph, node, scales)
        for node in space.users:
            _multiply_inputs(graph, node, scales)
        put_aside(graph.tensors.values())
    graph.prune()
    return scaled
