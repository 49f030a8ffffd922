# SPDX-License-Identifier: Apache-2.0
"""Find the order of axes in which regions of elementwise operators need the fewest transposes.

A region is a connected set of operators that do not care about the order of axes (see `layout.flexible`). Its inputs and outputs may
pass through Transposes; for each order of axes that one of them suggests, the bytes that would still have to be moved are counted, and
the cheapest order is taken. Where two are equal, transposes go to the outputs, so that they travel until they meet their inverse, an
operator that absorbs them, or the end of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..graph import Graph, Node, Tensor
from ..ops.base import Array
from .base import Pass
from .edit import Editor, marked
from .layout import Perm, compose, flexible, identity, inverse, permuted, permuted_params, trivial

__all__ = ["SinkTransposes"]


class SinkTransposes(Pass):
    """Choose a layout for every region of flexible operators."""

    name = "sink_transposes"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for nodes in _regions(editor):
            region = _Region(editor, nodes)
            best = min(region.candidates(), key=region.cost)
            if best != identity(region.rank) and region.cost(best) < region.cost(identity(region.rank)):
                region.apply(best)
        return editor.close()


def _regions(editor: Editor) -> list[list[Node]]:
    """Connected sets of flexible nodes, each in execution order."""
    nodes = [node for node in editor.graph.nodes if flexible(editor, node)]
    root = {id(node): id(node) for node in nodes}

    def find(key: int) -> int:
        while root[key] != key:
            root[key] = root[root[key]]
            key = root[key]
        return key

    for node in nodes:
        rank = len(editor.shape(node.outputs[0]))
        for name in node.inputs:
            producer = editor.producer.get(name)
            if producer is not None and id(producer) in root and len(editor.shape(name)) == rank:
                root[find(id(node))] = find(id(producer))
    groups: dict[int, list[Node]] = {}
    for node in nodes:
        groups.setdefault(find(id(node)), []).append(node)
    return list(groups.values())


class _Region:
    """One region and the tensors around it."""

    def __init__(self, editor: Editor, nodes: list[Node]) -> None:
        self.editor = editor
        self.nodes = nodes
        self.members = {id(node) for node in nodes}
        self.rank = len(editor.shape(nodes[0].outputs[0]))
        self.inner = {node.outputs[0] for node in nodes}
        used = dict.fromkeys(name for node in nodes for name in node.inputs if name and name not in self.inner)
        self.sources = [name for name in used if not editor.tensor(name).constant]
        self.results = [node.outputs[0] for node in nodes if self._leaves(node.outputs[0])]

    def _leaves(self, name: str) -> bool:
        return self.editor.is_output(name) or any(id(user) not in self.members for user in self.editor.users[name])

    def candidates(self) -> list[Perm]:
        """The present order first, then those that make a Transpose at the border vanish."""
        found = [identity(self.rank)]
        for name in self.sources:
            if len(self.editor.shape(name)) == self.rank:
                found.append(inverse(self._origin(name)[1]))
        for name in self.results:
            for user in self.editor.users[name]:
                if user.op == "Transpose":
                    found.append(tuple(user.params["perm"]))
        return list(dict.fromkeys(found))

    def cost(self, p: Perm) -> tuple[int, int, bool]:
        """(bytes moved by transposes around the region, those of its inputs, whether it differs from the present order)."""
        moves: dict[tuple[str, Perm], int] = {}
        for name in self.sources:
            self._input_moves(name, p, moves)
        at_inputs = sum(moves.values())
        for name in self.results:
            tensor = self.editor.tensor(name)
            shape = permuted(tensor.shape, p)
            for perm in self._wanted(name, p):
                if not trivial(shape, perm):
                    moves[(f"result {name}", perm)] = tensor.bytes
        return sum(moves.values()), at_inputs, p != identity(self.rank)

    def _input_moves(self, name: str, p: Perm, moves: dict[tuple[str, Perm], int]) -> None:
        tensor = self.editor.tensor(name)
        if len(tensor.shape) < self.rank:
            shape = (1,) * (self.rank - len(tensor.shape)) + tensor.shape
            if not trivial(shape, p):
                moves[(name, p)] = tensor.bytes
            return
        source, before = self._origin(name)
        perm = compose(before, p)
        if not trivial(self.editor.shape(source), perm):
            moves[(source, perm)] = tensor.bytes
        if source != name and (self.editor.is_output(name) or any(id(user) not in self.members for user in self.editor.users[name])):
            moves[(source, before)] = tensor.bytes

    def _origin(self, name: str) -> tuple[str, Perm]:
        """The tensor behind a chain of Transposes, and the permutation that gives ``name``."""
        perm = identity(len(self.editor.shape(name)))
        while (node := self.editor.made_by(name, "Transpose")) is not None and not marked(self.editor.tensor(name)):
            name, perm = node.inputs[0], compose(node.params["perm"], perm)
        return name, perm

    def _wanted(self, name: str, p: Perm) -> Iterable[Perm]:
        """The permutations of the permuted result that its readers outside need."""
        back = inverse(p)
        if self.editor.is_output(name):
            yield back
        for user in self.editor.users[name]:
            if id(user) in self.members or _absorbs(self.editor, user, name, back):
                continue
            yield compose(back, user.params["perm"]) if user.op == "Transpose" else back

    def apply(self, p: Perm) -> None:
        """Compute the region in order ``p``; transposes stand at its border then."""
        new: dict[str, str] = {}
        for node in self.nodes:
            inputs = [self._input(name, p, new) if name else "" for name in node.inputs]
            old = self.editor.tensor(node.outputs[0])
            result = (permuted(old.shape, p), old.dtype)
            name = self.editor.add(
                node.op, inputs, permuted_params(node, p), hint=_hint(old.name, "permuted"), label=node.name, result=result
            )
            _carry(old, self.editor.tensor(name))
            new[old.name] = name
        keep = {}
        for name in self.results:
            keep[name] = self._moved(new[name], inverse(p), self.editor.shape(name))
        for node in reversed(self.nodes):
            name = node.outputs[0]
            if name in keep:
                users = [user for user in self.editor.users[name] if id(user) in self.members]
                assert not users
                mark = self.editor.tensor(name)
                mark.scale, mark.zero_point = None, 0
                self.editor.replace(name, keep[name])
            self.editor.drop(node)

    def _input(self, name: str, p: Perm, new: dict[str, str]) -> str:
        """The tensor to read instead of ``name``."""
        if name in new:
            return new[name]
        tensor = self.editor.tensor(name)
        if tensor.elements == 1 and tensor.constant:
            return name
        full = (1,) * (self.rank - len(tensor.shape)) + tensor.shape
        if tensor.data is not None:
            return self._constant(tensor, tensor.data.reshape(full).transpose(p))
        if len(tensor.shape) == self.rank:
            source, before = self._origin(name)
            return self._moved(source, compose(before, p), None)
        if len(tensor.shape) < self.rank:
            name = self.editor.add("Reshape", [name], hint=_hint(name, "reshaped"), result=(full, tensor.dtype))
            _carry(tensor, self.editor.tensor(name))
        return self._moved(name, p, None)

    def _constant(self, tensor: Tensor, data: Array) -> str:
        return self.editor.constant(data, _hint(tensor.name, "permuted"))

    def _moved(self, name: str, p: Perm, shape: tuple[int, ...] | None) -> str:
        """``name.transpose(p)`` as a Transpose, a Reshape, or the tensor itself."""
        tensor = self.editor.tensor(name)
        target = tuple(permuted(tensor.shape, p))
        if p == identity(self.rank):
            return name
        if shape is not None and shape != target:
            raise AssertionError("the permuted shape does not match")
        for user in self.editor.users[name]:
            if user.op == "Transpose" and tuple(user.params["perm"]) == p and not marked(self.editor.tensor(user.outputs[0])):
                return user.outputs[0]
        if trivial(tensor.shape, p):
            return self.editor.add("Reshape", [name], hint=_hint(name, "reshaped"), result=(target, tensor.dtype))
        result = self.editor.add("Transpose", [name], {"perm": list(p)}, hint=_hint(name, "transposed"))
        _carry(tensor, self.editor.tensor(result))
        return result


def _absorbs(editor: Editor, user: Node, name: str, perm: Perm) -> bool:
    """Whether a reader can take the unpermuted tensor at no cost: it renames its axes, or permutes its weights (see merge_transposes)."""
    if user.op in ("Reduce", "ArgMax"):
        return True
    if user.op == "MatMul":
        rank = len(perm)
        return user.inputs[1] == name and user.inputs[0] != name and list(perm) == [*range(rank - 2), rank - 1, rank - 2]
    if user.op == "Reshape" and perm[0] == 0 and len(editor.shape(user.outputs[0])) == 2:
        after = editor.only_user(user.outputs[0])
        return after is not None and after.op == "FullyConnected" and editor.shape(user.outputs[0])[0] == editor.shape(name)[0]
    return False


def _carry(old: Tensor, new: Tensor) -> None:
    """The scale that the model gives to a tensor goes with it."""
    if marked(old):
        new.scale, new.zero_point = old.scale, old.zero_point


def _hint(name: str, suffix: str) -> str:
    """A name that does not grow each time a tensor moves."""
    stem = name
    for ending in (".permuted", ".reshaped", ".transposed"):
        stem = stem.split(ending)[0]
    return f"{stem}.{suffix}"
