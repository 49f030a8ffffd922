# SPDX-License-Identifier: Apache-2.0
"""Change a graph while its index of producers and readers stays right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..ops.base import Array, operators

__all__ = ["Editor", "marked", "same_mark", "sort_nodes"]


def marked(tensor: Tensor) -> bool:
    """Whether the model itself gives this activation a scale: such a tensor must survive, and so must its values."""
    return tensor.scale is not None and not tensor.constant


def sort_nodes(graph: Graph) -> None:
    """Put the nodes into an order in which they can run, as close to the present one as possible."""
    producer = graph.producers()
    done: set[int] = set()
    order: list[Node] = []
    for root in graph.nodes:
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) in done:
                stack.pop()
                continue
            waiting = [producer[n] for n in node.inputs if n in producer and id(producer[n]) not in done]
            if waiting:
                stack.extend(reversed(waiting))
            else:
                done.add(id(node))
                order.append(node)
                stack.pop()
    graph.nodes = order


class Editor:
    """A graph under change: use its methods, then `close`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.changed = False
        self.producer: dict[str, Node] = graph.producers()
        self.users: dict[str, list[Node]] = graph.consumers()

    def close(self) -> bool:
        """Sort and prune the graph when it changed; gives back whether it did."""
        if self.changed:
            sort_nodes(self.graph)
            self.graph.prune()
        return self.changed

    # ---- questions -----------------------------------------------------------------------------------------------------------------

    def tensor(self, name: str) -> Tensor:
        """A tensor of the graph."""
        return self.graph.tensors[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self.graph.tensors[name].shape

    def data(self, name: str) -> Array | None:
        """Content of a plain constant (not of quantised weights), or None."""
        tensor = self.graph.tensors.get(name) if name else None
        return tensor.data if tensor is not None and tensor.scale is None else None

    def scalar(self, name: str) -> float | None:
        """The one value of a constant all of whose elements are equal, or None."""
        data = self.data(name)
        if data is None or data.size == 0 or data.dtype == np.bool_:
            return None
        first = data.reshape(-1)[0]
        return float(first) if data.size == 1 or bool(np.all(data == first)) else None

    def made_by(self, name: str, op: str, **params: Any) -> Node | None:
        """The node that writes ``name`` if it is an ``op`` whose parameters have these values."""
        node = self.producer.get(name)
        if node is None or node.op != op or any(node.params.get(k, 0) != v for k, v in params.items()):
            return None
        return node

    def is_output(self, name: str) -> bool:
        """Whether the value leaves the graph."""
        return name in self.graph.outputs

    def only_user(self, name: str) -> Node | None:
        """The only node that reads ``name`` (once), if the value is needed nowhere else and carries no scale of its own."""
        users = self.users.get(name, [])
        if len(users) != 1 or self.is_output(name) or marked(self.tensor(name)):
            return None
        return users[0]

    # ---- changes -------------------------------------------------------------------------------------------------------------------

    def constant(self, array: Array, hint: str) -> str:
        """Add a constant; gives its name back."""
        name = self.graph.constant(np.ascontiguousarray(array), hint)
        self.users[name] = []
        return name

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        params: Mapping[str, Any] | None = None,
        *,
        hint: str,
        label: str = "",
        result: tuple[Sequence[int], DType] | None = None,
    ) -> str:
        """Add a node with one output; gives the output's name back.

        Args:
            op: table name.
            inputs: tensor names.
            params: the table's fields.
            hint: wanted name of the output.
            label: name of the ONNX node it stands for.
            result: shape and type, where the operator cannot tell them.
        """
        node = Node(op, list(inputs), [], dict(params or {}), label)
        if result is None:
            [(shape, dtype)] = operators()[op].infer(node, [self.tensor(n) if n else None for n in inputs])
        else:
            shape, dtype = tuple(int(d) for d in result[0]), result[1]
        name = self.graph.add(Tensor(self.graph.fresh(hint), tuple(int(d) for d in shape), dtype))
        node.outputs.append(name)
        self.graph.nodes.append(node)
        self.users[name] = []
        self.producer[name] = node
        for used in node.inputs:
            if used:
                self.users[used].append(node)
        self.changed = True
        return name

    def set_inputs(self, node: Node, inputs: Sequence[str]) -> None:
        """Let a node read other tensors."""
        for name in node.inputs:
            if name:
                users = self.users[name]
                del users[next(i for i, user in enumerate(users) if user is node)]
        node.inputs = list(inputs)
        for name in node.inputs:
            if name:
                self.users[name].append(node)
        self.changed = True

    def replace(self, old: str, new: str) -> bool:
        """Let every reader of ``old`` read ``new``, which has the same value; a graph output keeps its name.

        Returns:
            Whether it could be done: an output cannot become an input, a constant or another output of the graph, and two different
            scales given by the model do not mix.
        """
        kept, gone = self.tensor(new), self.tensor(old)
        if marked(gone):
            if kept.constant or (marked(kept) and not same_mark(kept, gone)):
                return False
            if not marked(kept) and new in self.graph.inputs:
                return False
        if self.is_output(old):
            if kept.constant or new in self.graph.inputs or self.is_output(new):
                return False
            self._exchange(old, new)
            old, new, kept, gone = new, old, gone, kept
            kept, gone = self.tensor(new), self.tensor(old)
        if marked(gone) and not marked(kept):
            kept.scale, kept.zero_point = gone.scale, gone.zero_point
        for user in list(self.users[old]):
            user.inputs = [new if name == old else name for name in user.inputs]
        self.users[new].extend(self.users[old])
        self.users[old] = []
        self.changed = True
        return True

    def drop(self, node: Node) -> None:
        """Take a node away whose outputs nobody reads."""
        for name in node.inputs:
            if name:
                users = self.users[name]
                del users[next(i for i, user in enumerate(users) if user is node)]
        node.inputs = []
        for name in node.outputs:
            del self.producer[name]
        self.graph.nodes = [n for n in self.graph.nodes if n is not node]
        self.changed = True

    def _exchange(self, a: str, b: str) -> None:
        """Swap the names of two activations; the graph's list of outputs keeps the name."""
        first, second = self.graph.tensors[a], self.graph.tensors[b]
        first.name, second.name = b, a
        self.graph.tensors[a], self.graph.tensors[b] = second, first
        swap = {a: b, b: a}
        touched = {id(n): n for n in (*self.users[a], *self.users[b], self.producer.get(a), self.producer.get(b)) if n is not None}
        for node in touched.values():
            node.inputs = [swap.get(n, n) for n in node.inputs]
            node.outputs = [swap.get(n, n) for n in node.outputs]
        self.users[a], self.users[b] = self.users[b], self.users[a]
        producers = {name: self.producer.pop(name, None) for name in (a, b)}
        for name, maker in producers.items():
            if maker is not None:
                self.producer[swap[name]] = maker


def same_mark(a: Tensor, b: Tensor) -> bool:
    """Whether two activations have the same scale from the model."""
    assert a.scale is not None
    assert b.scale is not None
    return bool(np.array_equal(a.scale, b.scale)) and a.zero_point == b.zero_point
