# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators, Concat, Pad, Slice and Reduce work before a Reshape instead of after it.

The Reshapes then meet and merge (1-D convolutions stand between two), and the operators stand next to those that can take them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Graph, Node
from .base import Pass
from .edit import Editor, marked
from .views import axes_map

__all__ = ["SinkReshapes"]


class SinkReshapes(Pass):
    """f(Reshape(x)) becomes Reshape(f(x))."""

    name = "sink_reshapes"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if node.op in ("Unary", "Cast", "Binary", "Concat", "Pad", "Slice", "Reduce") and node.inputs:
                _sink(editor, node)
        return editor.close()


def _reshape(editor: Editor, name: str) -> Node | None:
    node = editor.made_by(name, "Reshape")
    return None if node is None or marked(editor.tensor(name)) or editor.is_output(name) else node


def _sink(editor: Editor, node: Node) -> None:
    out = editor.tensor(node.outputs[0])
    moved = _moved(editor, node)
    if moved is None:
        return
    inputs, params, shape = moved
    name = editor.add(node.op, inputs, params, hint=f"{out.name}.inner", label=node.name, result=(shape, out.dtype))
    if marked(out):
        editor.tensor(name).scale, editor.tensor(name).zero_point = out.scale, out.zero_point
    name = editor.add("Reshape", [name], hint=out.name, label=node.name, result=(out.shape, out.dtype))
    editor.replace(out.name, name)


def _moved(editor: Editor, node: Node) -> tuple[list[str], dict[str, Any], Sequence[int]] | None:
    """Inputs, parameters and output shape of the operator in front of the Reshape; None if it cannot go there."""
    first = _reshape(editor, node.inputs[0])
    if first is None:
        return None
    source, shape = first.inputs[0], editor.shape(node.inputs[0])
    inner = editor.shape(source)
    if not inner or editor.tensor(source).constant:
        return None
    if node.op in ("Unary", "Cast"):
        return [source], dict(node.params), inner
    axes = axes_map(shape, inner)
    if node.op == "Binary":
        return _binary(editor, node, source, axes)
    if node.op == "Concat":
        return _concat(editor, node, axes)
    return _window(editor, node, source, axes)


def _binary(editor: Editor, node: Node, source: str, axes: dict[int, int]) -> tuple[list[str], dict[str, Any], Sequence[int]] | None:
    shape, inner = editor.shape(node.inputs[0]), editor.shape(source)
    if editor.shape(node.outputs[0]) != shape:
        return None
    other = node.inputs[1]
    second = _reshape(editor, other)
    if second is not None and editor.shape(other) == shape and editor.shape(second.inputs[0]) == inner:
        return [source, second.inputs[0]], dict(node.params), inner
    data = editor.data(other)
    if data is None:
        return None
    full = data.reshape((1,) * (len(shape) - data.ndim) + data.shape)
    big = [axis for axis, size in enumerate(full.shape) if size != 1]
    if any(axis not in axes for axis in big):
        return None
    target = [1] * len(inner)
    for axis in big:
        target[axes[axis]] = full.shape[axis]
    while len(target) > 1 and target[0] == 1:
        del target[0]
    return [source, editor.constant(full.reshape(target if big else ()), f"{other}.reshaped")], dict(node.params), inner


def _concat(editor: Editor, node: Node, axes: dict[int, int]) -> tuple[list[str], dict[str, Any], Sequence[int]] | None:
    axis = int(node.params.get("axis", 0))
    sources = []
    for name in node.inputs:
        reshape = _reshape(editor, name)
        if reshape is None or axes_map(editor.shape(name), editor.shape(reshape.inputs[0])).get(axis) != axes.get(axis, -1):
            return None
        sources.append(reshape.inputs[0])
    target = axes[axis]
    shapes = [list(editor.shape(name)) for name in sources]
    if any(s[:target] + s[target + 1 :] != shapes[0][:target] + shapes[0][target + 1 :] for s in shapes):
        return None
    shape = [*shapes[0][:target], sum(s[target] for s in shapes), *shapes[0][target + 1 :]]
    return sources, dict(node.params, axis=target), shape


def _window(editor: Editor, node: Node, source: str, axes: dict[int, int]) -> tuple[list[str], dict[str, Any], Sequence[int]] | None:
    """Pad, Slice and Reduce: every axis that they touch must exist before the Reshape."""
    shape, inner = editor.shape(node.inputs[0]), editor.shape(source)
    p = node.params
    if node.op == "Reduce":
        if any(axis not in axes for axis in p["axes"]):
            return None
        touched = sorted(axes[axis] for axis in p["axes"])
        return [source], dict(p, axes=touched, keep_dims=True), [1 if i in touched else d for i, d in enumerate(inner)]
    out = editor.shape(node.outputs[0])
    keys, defaults = (("before", "after"), (0, 0)) if node.op == "Pad" else (("start", "step"), (0, 1))
    changed = [i for i in range(len(shape)) if out[i] != shape[i] or any(p[k][i] != d for k, d in zip(keys, defaults, strict=True))]
    if any(axis not in axes for axis in changed):
        return None
    result = list(inner)
    params = dict(p)
    for key, default in zip(keys, defaults, strict=True):
        values = [default] * len(inner)
        for axis in changed:
            values[axes[axis]] = p[key][axis]
        params[key] = values
    for axis in changed:
        result[axes[axis]] = out[axis]
    return [source], params, np.array(result).tolist()
