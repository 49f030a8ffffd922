# SPDX-License-Identifier: Apache-2.0
"""The arena plan: where each activation lies, so that the memory need is known before deployment.

The C side proves the plan again when it opens a file (runtime_c/src/plan.c).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...graph import Graph, Node

__all__ = ["IN_PLACE", "Place", "Plan", "plan_arena"]

ALIGNMENT = 64

# Operator to the inputs whose place its output may take, as `in_place` in runtime_c/src/ops/<operator>.c: same bytes, last use.
IN_PLACE: dict[str, tuple[int, ...]] = {
    "Binary": (0, 1),
    "Conv2D": (4,),
    "FullyConnected": (4,),
    "LayerNorm": (0,),
    "Reshape": (0,),
    "Softmax": (0,),
    "Unary": (0,),
    "Where": (0, 1, 2),
}


@dataclass(frozen=True)
class Place:
    """Arena offset in bytes, and life: index of the writing operator and of the last reading one."""

    offset: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Places by tensor name, the arena's bytes, and the bytes alive at once at worst (no plan can need less)."""

    places: dict[str, Place]
    arena: int
    lower_bound: int


@dataclass
class _Buffer:
    """Tensors that share one place: an in-place chain."""

    names: list[str]
    bytes: int
    first: int
    last: int
    offset: int = 0


def _lives(graph: Graph) -> dict[str, tuple[int, int]]:
    lives = dict.fromkeys(graph.inputs, (0, 0))
    for index, node in enumerate(graph.nodes):
        for name in node.inputs:
            if name and not graph.tensors[name].constant:
                lives[name] = (lives[name][0], index)
        for name in node.outputs:
            lives[name] = (index, index)
    for name in graph.outputs:
        lives[name] = (lives[name][0], len(graph.nodes))
    return lives


def _donor(graph: Graph, node: Node, index: int, lives: dict[str, tuple[int, int]]) -> str | None:
    """The input whose place the node's only output takes, if one may give it."""
    if len(node.outputs) != 1:
        return None
    allowed = IN_PLACE.get(node.op, ())
    result = graph.tensors[node.outputs[0]]
    for position in allowed:
        name = node.inputs[position] if position < len(node.inputs) else ""
        if not name or graph.tensors[name].constant or lives[name][1] != index:
            continue
        positions = {i for i, other in enumerate(node.inputs) if other == name}
        source = graph.tensors[name]
        # Equal bytes are not enough: a broadcast operand may have as many bytes as a BOOL result has elements.
        if (source.bytes, source.elements) == (result.bytes, result.elements) and positions <= set(allowed):
            return name
    return None


def _buffers(graph: Graph) -> list[_Buffer]:
    lives = _lives(graph)
    owner: dict[str, _Buffer] = {}
    buffers: list[_Buffer] = []

    def place(name: str) -> None:
        first, last = lives[name]
        owner[name] = _Buffer([name], graph.tensors[name].bytes, first, last)
        buffers.append(owner[name])

    for name in graph.inputs:
        place(name)
    for index, node in enumerate(graph.nodes):
        donor = _donor(graph, node, index, lives)
        for name in node.outputs:
            if donor is None:
                place(name)
                continue
            buffer = owner[name] = owner[donor]
            buffer.names.append(name)
            buffer.last = max(buffer.last, lives[name][1])
    return buffers


def _align(value: int) -> int:
    return (value + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def _lower_bound(buffers: list[_Buffer], steps: int) -> int:
    change = [0] * (steps + 2)
    for b in buffers:
        change[b.first] += _align(b.bytes)
        change[b.last + 1] -= _align(b.bytes)
    alive = worst = 0
    for step in change:
        alive += step
        worst = max(worst, alive)
    return worst


def _assign(order: list[_Buffer]) -> int:
    """First fit in the given order: each buffer goes to the lowest gap among those alive with it. Gives the arena's bytes."""
    placed: list[_Buffer] = []
    arena = 0
    for b in order:
        offset = 0
        for other in sorted((p for p in placed if p.first <= b.last and b.first <= p.last), key=lambda p: p.offset):
            if other.offset - offset >= _align(b.bytes):
                break
            offset = max(offset, other.offset + _align(other.bytes))
        b.offset = offset
        placed.append(b)
        arena = max(arena, offset + _align(b.bytes))
    return arena


def plan_arena(graph: Graph) -> Plan:
    """Place every activation of ``graph`` at its own width.

    Several first-fit orders are tried and the smallest arena is kept; the result depends on the graph only.
    """
    buffers = _buffers(graph)
    orders: list[Callable[[_Buffer], tuple[int, ...]]] = [
        lambda b: (-b.bytes, b.first),
        lambda b: (-b.bytes * (b.last - b.first + 1), b.first),
        lambda b: (b.first, -b.bytes),
        lambda b: (-(b.last - b.first), -b.bytes, b.first),
    ]
    best: tuple[int, list[int]] | None = None
    for key in orders:
        arena = _assign(sorted(buffers, key=key))
        if best is None or arena < best[0]:
            best = (arena, [b.offset for b in buffers])
    assert best is not None
    lives = _lives(graph)
    places = {name: Place(offset, *lives[name]) for b, offset in zip(buffers, best[1], strict=True) for name in b.names}
    return Plan(places, best[0], _lower_bound(buffers, len(graph.nodes)))
