# SPDX-License-Identifier: Apache-2.0
"""Which nodes to move to a finer type, in which order.

A rounding makes noise until every node of a certain set has moved: a tensor's codes vanish when its writer and all its readers have
moved, the codes of weights when their own node has. Moves are chosen one after the other by noise removed per cost, the cost being
the share of multiply-accumulates that leave int8 and a little for each node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Move", "Rounding", "plan_moves"]

_NODE_COST = 0.1
"""Cost of moving all nodes beside the cost of moving all multiply-accumulates, which is 1."""


@dataclass(frozen=True)
class Rounding:
    """One thing that is rounded: a tensor, or a node's weights.

    Attributes:
        what: for the report, such as ``tensor 'a'``.
        noise: relative noise that it makes at the outputs.
        nodes: indices of the nodes that must all move before it vanishes.
        weights: it is of weights, which int16 activations do not change.
    """

    what: str
    noise: float
    nodes: frozenset[int]
    weights: bool = False


@dataclass(frozen=True)
class Move:
    """Nodes that move together.

    Attributes:
        nodes: indices, none of them in an earlier move.
        removed: noise that vanishes.
        macs: of the nodes.
        why: the largest rounding that vanishes.
    """

    nodes: tuple[int, ...]
    removed: float
    macs: int
    why: Rounding


class _Planner:
    def __init__(self, roundings: Sequence[Rounding], macs: Sequence[int]) -> None:
        self.roundings = roundings
        self.macs = macs
        self.total = max(1, sum(macs))
        self.moved: set[int] = set()
        self.of_node: dict[int, list[int]] = {}
        for i, r in enumerate(roundings):
            for node in r.nodes:
                self.of_node.setdefault(node, []).append(i)
        self.left = {i: set(r.nodes) for i, r in enumerate(roundings) if r.nodes}
        self.offers = {i: self._offer(i) for i in self.left}

    def _vanishing(self, nodes: set[int]) -> list[int]:
        """Roundings that are gone once ``nodes`` have moved too."""
        touched = {j for node in nodes for j in self.of_node[node]} & self.left.keys()
        return [j for j in sorted(touched) if self.left[j] <= nodes]

    def _offer(self, i: int) -> float:
        """Noise removed per cost if rounding ``i`` is to vanish next."""
        nodes = self.left[i]
        cost = sum(self.macs[n] for n in nodes) / self.total + _NODE_COST * len(nodes) / len(self.macs)
        return sum(self.roundings[j].noise for j in self._vanishing(nodes)) / cost

    def next(self) -> Move:
        """Take the best offer."""
        best = max(self.offers, key=lambda i: (self.offers[i], -i))
        nodes = set(self.left[best])
        gone = self._vanishing(nodes)
        near = {j for node in nodes for j in self.of_node[node]} & self.left.keys()
        beside = {node for j in near for node in self.left[j]} - nodes
        for j in gone:
            del self.left[j], self.offers[j]
        for j in near & self.left.keys():
            self.left[j] -= nodes
        for j in {j for node in beside for j in self.of_node[node]} & self.left.keys():
            self.offers[j] = self._offer(j)
        largest = max((self.roundings[j] for j in gone), key=lambda r: r.noise)
        return Move(tuple(sorted(nodes)), sum(self.roundings[j].noise for j in gone), sum(self.macs[n] for n in nodes), largest)


def plan_moves(roundings: Iterable[Rounding], macs: Sequence[int]) -> list[Move]:
    """All moves in their order; after the last one nothing is rounded any more.

    Args:
        roundings: what is rounded, with its noise.
        macs: multiply-accumulates of each node, by index.
    """
    planner = _Planner(list(roundings), macs)
    moves = []
    while planner.left:
        moves.append(planner.next())
    return moves
