# SPDX-License-Identifier: Apache-2.0
"""Transposes next to each other become one, and those that move nothing become a Reshape; others are moved past operators for free.

- Transpose of Transpose: one Transpose.
- Transpose that moves only axes of size 1: Reshape.
- Reduce, ArgMax of a Transpose: the axes are renamed, a Transpose of the smaller result follows.
- Reshape of a Transpose that splits or joins axes without mixing them: Reshape first.
- Transpose of a Reshape of a Transpose: both transposes on one side.
- FullyConnected of a flattened Transpose: the weights are permuted instead.
- MatMul of a Transpose of the last two axes: transpose_b.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..graph import Graph, Node
from .base import Pass
from .edit import Editor, marked
from .layout import Perm, compose, identity, inverse, permuted, trivial

__all__ = ["MergeTransposes", "groups", "push_down"]


class MergeTransposes(Pass):
    """Local rules of transposes."""

    name = "merge_transposes"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if node.op == "Transpose":
                _transpose(editor, node)
            elif node.op in ("Reduce", "ArgMax"):
                _reduction(editor, node)
            elif node.op == "Reshape":
                _reshape(editor, node)
            elif node.op == "FullyConnected":
                _fully_connected(editor, node)
            elif node.op == "MatMul":
                _matmul(editor, node)
        return editor.close()


def _transpose(editor: Editor, node: Node) -> None:
    perm: Perm = tuple(node.params["perm"])
    name = node.inputs[0]
    before = editor.made_by(name, "Transpose")
    if before is not None and not marked(editor.tensor(name)):
        node.params["perm"] = list(compose(before.params["perm"], perm))
        editor.set_inputs(node, [before.inputs[0]])
        return
    out = editor.tensor(node.outputs[0])
    if trivial(editor.shape(name), perm):
        if perm != identity(len(perm)):
            new = editor.add("Reshape", [name], hint=out.name, label=node.name, result=(out.shape, out.dtype))
            editor.replace(out.name, new)
        return
    _transposed_reshape(editor, node, perm)


def _transposed_reshape(editor: Editor, node: Node, perm: Perm) -> None:
    """T2(Reshape(T1(x))): try Reshape(T(x)); the way down, T(Reshape(x)), is `_reshape`'s."""
    reshape = editor.made_by(node.inputs[0], "Reshape")
    if reshape is None or marked(editor.tensor(node.inputs[0])):
        return
    first = editor.made_by(reshape.inputs[0], "Transpose")
    if first is None or marked(editor.tensor(reshape.inputs[0])):
        return
    # y = Reshape(x), z = y.transpose(perm). Seen backwards, y = z.transpose(inverse) and x = Reshape'(y): the same rule as downwards.
    x, y = editor.shape(reshape.inputs[0]), editor.shape(node.inputs[0])
    back = push_down(tuple(permuted(y, perm)), inverse(perm), x)
    if back is None:
        return
    middle, back_perm = back  # x = (z.reshape(middle)).transpose(back_perm)
    out = editor.tensor(node.outputs[0])
    both = compose(first.params["perm"], inverse(back_perm))
    moved = editor.add("Transpose", [first.inputs[0]], {"perm": list(both)}, hint=out.name, label=node.name)
    if editor.shape(moved) != tuple(middle):
        raise AssertionError("the permuted shape does not match")
    new = editor.add("Reshape", [moved], hint=out.name, label=node.name, result=(out.shape, out.dtype))
    editor.replace(out.name, new)


def push_down(shape: Sequence[int], perm: Sequence[int], target: Sequence[int]) -> tuple[list[int], Perm] | None:
    """``x.transpose(perm).reshape(target)`` as ``x.reshape(middle).transpose(result)``.

    Args:
        shape: of x.
        perm: of the transpose.
        target: shape of the result.

    Returns:
        (middle, result), or None when the reshape joins axes that do not lie next to each other, in this order, in x.
    """
    inner = permuted(shape, perm)
    runs = groups(inner, target)
    if runs is None:
        return None
    pieces: list[tuple[int, list[int]]] = []  # (position of the group in x, its axes in target)
    for left, right in runs:
        axes = [perm[i] for i in left if inner[i] != 1] or [perm[i] for i in left[:1]]
        for a, b in itertools.pairwise(axes):
            if b <= a or any(shape[k] != 1 for k in range(a + 1, b)):
                return None
        pieces.append((axes[0] if axes else len(shape), right))
    order = [axis for _, right in sorted(pieces, key=lambda piece: piece[0]) for axis in right]
    return [target[axis] for axis in order], inverse(order)


def groups(a: Sequence[int], b: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Split two shapes of equal size into the shortest runs of axes with equal products; ones go with a run or form one alone."""
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(a) or j < len(b):
        left, right = ([i], [j]) if i < len(a) and j < len(b) else ([], [])
        if not left:  # only ones are left
            left, right = list(range(i, len(a))), list(range(j, len(b)))
            if runs:
                runs[-1][0].extend(left)
                runs[-1][1].extend(right)
                return runs
            return [(left, right)]
        pa, pb = a[i], b[j]
        i, j = i + 1, j + 1
        while pa != pb:
            if pa < pb:
                if i == len(a):
                    return None
                pa *= a[i]
                left.append(i)
                i += 1
            else:
                if j == len(b):
                    return None
                pb *= b[j]
                right.append(j)
                j += 1
        runs.append((left, right))
    return runs


def _reshape(editor: Editor, node: Node) -> None:
    """Reshape(T(x)) becomes T'(Reshape'(x)) where no axes mix."""
    before = editor.made_by(node.inputs[0], "Transpose")
    if before is None or editor.only_user(node.inputs[0]) is not node:
        return
    x, out = editor.tensor(before.inputs[0]), editor.tensor(node.outputs[0])
    result = push_down(x.shape, before.params["perm"], out.shape)
    if result is None:
        return
    middle, perm = result
    name = editor.add("Reshape", [x.name], hint=f"{out.name}.reshaped", label=node.name, result=(middle, x.dtype))
    if marked(editor.tensor(x.name)):
        editor.tensor(name).scale, editor.tensor(name).zero_point = x.scale, x.zero_point
    if perm != identity(len(perm)):
        name = editor.add("Transpose", [name], {"perm": list(perm)}, hint=out.name, label=node.name)
    editor.replace(out.name, name)


def _reduction(editor: Editor, node: Node) -> None:
    """Reduce and ArgMax of a Transpose work on the untransposed tensor."""
    before = editor.made_by(node.inputs[0], "Transpose")
    if before is None or marked(editor.tensor(node.inputs[0])):
        return
    perm = before.params["perm"]
    old = [int(a) for a in node.params["axes"]] if node.op == "Reduce" else [int(node.params.get("axis", 0))]
    axes = sorted(perm[a] for a in old)
    params = dict(node.params, axes=axes) if node.op == "Reduce" else dict(node.params, axis=axes[0])
    out = editor.tensor(node.outputs[0])
    name = editor.add(node.op, [before.inputs[0]], params, hint=f"{out.name}.reduced", label=node.name)
    if node.params.get("keep_dims", True):
        rest = tuple(perm)
    else:
        left = [a for a in range(len(perm)) if a not in axes]
        rest = tuple(left.index(a) for a in perm if a not in axes)
    if rest != identity(len(rest)):
        name = editor.add("Transpose", [name], {"perm": list(rest)}, hint=out.name, label=node.name)
    editor.replace(out.name, name)


def _fully_connected(editor: Editor, node: Node) -> None:
    """FullyConnected(Reshape(T(x))): permute the columns of the weights. Elementwise functions may stand between."""
    chain: list[Node] = []
    name = node.inputs[0]
    while (unary := editor.made_by(name, "Unary")) is not None and editor.only_user(name) is not None:
        chain.append(unary)
        name = unary.inputs[0]
    reshape = editor.made_by(name, "Reshape")
    if reshape is None or editor.only_user(name) is None:
        return
    before = editor.made_by(reshape.inputs[0], "Transpose")
    weights = editor.tensor(node.inputs[1])
    if before is None or editor.only_user(reshape.inputs[0]) is not reshape or weights.data is None or weights.group:
        return
    shape, perm = editor.shape(reshape.inputs[0]), tuple(before.params["perm"])
    inputs = weights.shape[1]
    first = next((i for i in range(len(shape) + 1) if int(np.prod(shape[i:], dtype=np.int64)) == inputs), None)
    rows = int(np.prod(editor.shape(name)[:-1], dtype=np.int64))
    if first is None or rows != int(np.prod(shape[:first], dtype=np.int64)) or perm[:first] != identity(first):
        return
    tail = [axis - first for axis in perm[first:]]
    grid = np.arange(inputs).reshape([editor.shape(before.inputs[0])[first + i] for i in range(len(tail))])
    columns = np.empty(inputs, np.int64)  # column of the untransposed input -> column of the weights
    columns[grid.transpose(tail).reshape(-1)] = np.arange(inputs)
    permuted_weights = editor.constant(weights.data[:, columns], f"{weights.name}.permuted")
    target = editor.tensor(permuted_weights)
    target.scale, target.zero_point, target.bits = weights.scale, weights.zero_point, weights.bits
    out = editor.tensor(name)
    flat = editor.add("Reshape", [before.inputs[0]], hint=f"{out.name}.flat", label=reshape.name, result=(out.shape, out.dtype))
    editor.replace(name, flat)
    editor.set_inputs(node, [node.inputs[0], permuted_weights, *node.inputs[2:]])


def _matmul(editor: Editor, node: Node) -> None:
    """A transposed second operand is read in place."""
    before = editor.made_by(node.inputs[1], "Transpose")
    if before is None or marked(editor.tensor(node.inputs[1])):
        return
    perm = list(before.params["perm"])
    rank = len(perm)
    swap = [*range(rank - 2), rank - 1, rank - 2]
    rest = compose(perm, swap)
    if perm == swap or (perm[-2:] != [rank - 2, rank - 1] and trivial(editor.shape(before.inputs[0]), rest)):
        other = before.inputs[0]
        if perm != swap:
            shape = permuted(editor.shape(other), rest)
            other = editor.add("Reshape", [other], hint=f"{other}.reshaped", label=node.name, result=(shape, editor.tensor(other).dtype))
        node.params["transpose_b"] = not node.params.get("transpose_b", False)
        editor.set_inputs(node, [node.inputs[0], other])
