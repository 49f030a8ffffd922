# SPDX-License-Identifier: Apache-2.0
"""LayerNormalization (and instance normalisation) spelled out in means, differences and roots becomes LayerNorm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph import DType, Graph, Node
from ..ops.base import Array
from ..ops.binary import BinaryKind as B
from ..ops.reduce import ReduceKind as R
from ..ops.unary import UnaryKind as U
from .base import Pass
from .edit import Editor
from .views import along_last, axes_map, strip

__all__ = ["FuseLayerNorm"]


@dataclass(frozen=True)
class _Mean:
    """mean of ``source`` over the axes of the Reduce node."""

    node: Node
    source: str


@dataclass(frozen=True)
class _Scale:
    """1 / sqrt(variance + epsilon), perhaps times a constant."""

    variance: str
    epsilon: float
    gamma: str


class FuseLayerNorm(Pass):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, in the spellings of PyTorch, Paddle, TensorFlow and JAX exports."""

    name = "fuse_layer_norm"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if node.op == "Binary" and not {"act_min", "act_max"}.intersection(node.params) and node.outputs[0] in editor.producer:
                _ = _centred(editor, node) or _folded(editor, node)
        for node in list(graph.nodes):
            if node.op == "Binary" and node.outputs[0] in editor.producer:
                _parameters(editor, node)
        return editor.close()


def _binary(editor: Editor, name: str, kind: B) -> Node | None:
    node = editor.made_by(strip(editor, name), "Binary", kind=int(kind))
    return None if node is None or {"act_min", "act_max"}.intersection(node.params) else node


def _mean(editor: Editor, name: str) -> _Mean | None:
    """name = mean(source): Reduce MEAN, or Reduce SUM times 1/n."""
    name = strip(editor, name)
    node = editor.made_by(name, "Reduce", kind=int(R.MEAN))
    if node is not None:
        return _Mean(node, strip(editor, node.inputs[0]))
    product = _binary(editor, name, B.MUL)
    if product is None:
        return None
    node = editor.made_by(strip(editor, product.inputs[0]), "Reduce", kind=int(R.SUM))
    factor = editor.scalar(product.inputs[1])
    if node is None or factor is None:
        return None
    count = np.prod([editor.shape(node.inputs[0])[a] for a in node.params["axes"]])
    return _Mean(node, strip(editor, node.inputs[0])) if abs(factor * count - 1) < 1e-5 else None


def _square(editor: Editor, name: str) -> str | None:
    """The tensor whose square ``name`` is."""
    name = strip(editor, name)
    node = editor.producer.get(name)
    if node is None:
        return None
    if node.op == "Unary" and node.params.get("kind") == U.POW and node.params.get("alpha") == 2.0:
        return strip(editor, node.inputs[0])
    if node.op == "Binary" and node.params.get("kind", 0) == B.MUL and strip(editor, node.inputs[0]) == strip(editor, node.inputs[1]):
        return strip(editor, node.inputs[0])
    return None


def _root(editor: Editor, name: str) -> tuple[str, float] | None:
    """(variance, epsilon) of sqrt(variance + epsilon)."""
    node = editor.made_by(strip(editor, name), "Unary", kind=int(U.SQRT))
    return None if node is None else _sum(editor, node.inputs[0])


def _sum(editor: Editor, name: str) -> tuple[str, float] | None:
    node = _binary(editor, name, B.ADD)
    epsilon = None if node is None else editor.scalar(node.inputs[1])
    if node is None or epsilon is None or not 0 <= epsilon < 1:
        return None
    return strip(editor, node.inputs[0]), epsilon


def _scale(editor: Editor, name: str) -> _Scale | None:
    """1 / sqrt(variance + epsilon), or its product with a constant."""
    name = strip(editor, name)
    node = editor.producer.get(name)
    if node is None:
        return None
    if node.op == "Unary" and node.params.get("kind") == U.RECIPROCAL:
        found = _root(editor, node.inputs[0])
        return None if found is None else _Scale(*found, gamma="")
    if node.op == "Unary" and node.params.get("kind") == U.POW and node.params.get("alpha") == -0.5:
        found = _sum(editor, node.inputs[0])
        return None if found is None else _Scale(*found, gamma="")
    if node.op == "Binary" and node.params.get("kind", 0) == B.MUL and editor.data(node.inputs[1]) is not None:
        inner = _scale(editor, node.inputs[0])
        return None if inner is None or inner.gamma else _Scale(inner.variance, inner.epsilon, node.inputs[1])
    if node.op == "Binary" and node.params.get("kind", 0) == B.DIV and editor.scalar(node.inputs[0]) == 1.0:
        found = _root(editor, node.inputs[1])
        return None if found is None else _Scale(*found, gamma="")
    return None


def _is_variance(editor: Editor, name: str, x: str, mean: _Mean, centred: str) -> bool:
    """mean((x - mean)^2), or mean(x^2) - mean^2 (perhaps kept from going below zero), over the same axes."""
    name = strip(editor, name)
    clip = editor.made_by(name, "Unary", kind=int(U.CLIP))
    if clip is not None and clip.params.get("alpha") == 0.0:
        name = strip(editor, clip.inputs[0])
    direct = _mean(editor, name)
    if direct is not None:
        source = _square(editor, direct.source)
        return source is not None and source == centred and _same_axes(editor, direct.node, mean.node)
    difference = _binary(editor, name, B.SUB)
    if difference is None:
        return False
    squares, square = _mean(editor, difference.inputs[0]), _square(editor, difference.inputs[1])
    if squares is None or square is None or not _same_axes(editor, squares.node, mean.node):
        return False
    other = _mean(editor, square)
    return other is not None and other.source == x and other.node is mean.node and _square(editor, squares.source) == x


def _same_axes(editor: Editor, a: Node, b: Node) -> bool:
    target = editor.shape(a.inputs[0])
    return _axes(editor, a, target) == _axes(editor, b, target) is not None


def _axes(editor: Editor, node: Node, shape: tuple[int, ...]) -> list[int] | None:
    """The reduced axes in a tensor of ``shape`` with the same elements; axes of size 1 do not count."""
    inner = editor.shape(node.inputs[0])
    known = axes_map(inner, shape)
    wanted = [a for a in node.params["axes"] if inner[a] != 1]
    return sorted(known[a] for a in wanted) if wanted and all(a in known for a in wanted) else None


def _centred(editor: Editor, node: Node) -> bool:
    """(x - mean) / sqrt(...), or (x - mean) * (1 / sqrt(...) [* gamma])."""
    kind = node.params.get("kind", 0)
    if kind == B.DIV:
        found = _root(editor, node.inputs[1])
        scale = None if found is None else _Scale(*found, gamma="")
        left = node.inputs[0]
    elif kind == B.MUL:
        scale, left = _scale(editor, node.inputs[1]), node.inputs[0]
        if scale is None:
            scale, left = _scale(editor, node.inputs[0]), node.inputs[1]
    else:
        return False
    difference = None if scale is None else _binary(editor, left, B.SUB)
    if scale is None or difference is None:
        return False
    x, mean = strip(editor, difference.inputs[0]), _mean(editor, difference.inputs[1])
    if mean is None or mean.source != x or not _is_variance(editor, scale.variance, x, mean, difference.outputs[0]):
        return False
    return _emit(editor, node, x, mean.node, scale, "")


def _folded(editor: Editor, node: Node) -> bool:
    """x * s + (beta - mean * s) with s = gamma / sqrt(variance + epsilon)."""
    if node.params.get("kind", 0) != B.ADD:
        return False
    for left, right in (node.inputs, node.inputs[::-1]):
        product, shift = _binary(editor, left, B.MUL), _binary(editor, right, B.SUB)
        if product is None or shift is None or editor.data(shift.inputs[0]) is None:
            continue
        for x_name, s_name in (product.inputs, product.inputs[::-1]):
            scale, x = _scale(editor, s_name), strip(editor, x_name)
            other = _binary(editor, shift.inputs[1], B.MUL)
            if scale is None or other is None:
                continue
            means = [n for n in other.inputs if strip(editor, n) != strip(editor, s_name)]
            mean = _mean(editor, means[0]) if len(means) == 1 else None
            if mean is None or mean.source != x:
                continue
            centred = _difference(editor, x, mean)
            if _is_variance(editor, scale.variance, x, mean, centred):
                return _emit(editor, node, x, mean.node, scale, shift.inputs[0])
    return False


def _difference(editor: Editor, x: str, mean: _Mean) -> str:
    """The tensor x - mean, if the graph has it."""
    for user in editor.graph.nodes:
        if user.op == "Binary" and user.params.get("kind", 0) == B.SUB and strip(editor, user.inputs[0]) == x:
            found = _mean(editor, user.inputs[1])
            if found is not None and found.node is mean.node:
                return user.outputs[0]
    return ""


def _emit(editor: Editor, node: Node, x: str, mean: Node, scale: _Scale, beta: str) -> bool:
    out = editor.tensor(node.outputs[0])
    axes = _axes(editor, mean, out.shape)
    if axes is None or out.dtype != DType.FLOAT32 or editor.tensor(x).elements != out.elements:
        return False
    params = {"epsilon": float(np.float32(scale.epsilon))}
    label, name = node.name, out.name
    holder = node
    if scale.gamma or beta:  # normalise first, factors and sums follow as nodes of their own
        holder = editor.producer[editor.add("Reshape", [x], hint=f"{name}.normal", label=label, result=(out.shape, out.dtype))]
        result = holder.outputs[0]
        for constant, kind in ((scale.gamma, B.MUL), (beta, B.ADD)):
            if constant:
                result = editor.add("Binary", [result, constant], {"kind": int(kind)}, hint=name, label=label)
        if editor.shape(result) != out.shape:
            return False
        editor.replace(name, result)
    along_last(editor, holder, x, axes, lambda view: editor.add("LayerNorm", [view], params, hint=f"{name}.normal", label=label))
    return True


def _parameters(editor: Editor, node: Node) -> None:
    """A factor or a sum along the last axis of LayerNorm becomes its gamma or beta."""
    norm = editor.made_by(node.inputs[0], "LayerNorm") if node.inputs else None
    kind = node.params.get("kind", 0)
    if norm is None or kind not in (B.ADD, B.MUL) or editor.only_user(node.inputs[0]) is not node or len(node.params) > 1:
        return
    vector = _vector(editor, node)
    if vector is None:
        return
    x, gamma, beta = [*norm.inputs, "", ""][:3]
    old_gamma = editor.data(gamma) if gamma else np.ones_like(vector)
    old_beta = editor.data(beta) if beta else np.zeros_like(vector)
    if old_gamma is None or old_beta is None or not editor.replace(node.outputs[0], norm.outputs[0]):
        return
    new_gamma = old_gamma * vector if kind == B.MUL else old_gamma
    new_beta = old_beta * vector if kind == B.MUL else old_beta + vector
    names = [x, editor.constant(new_gamma.astype(np.float32), f"{node.outputs[0]}.gamma")]
    if np.any(new_beta):
        names.append(editor.constant(new_beta.astype(np.float32), f"{node.outputs[0]}.beta"))
    editor.set_inputs(norm, names)
    editor.drop(node)


def _vector(editor: Editor, node: Node) -> Array | None:
    data, shape = editor.data(node.inputs[1]), editor.shape(node.outputs[0])
    if data is None or data.dtype != np.float32 or editor.shape(node.inputs[0]) != shape:
        return None
    if data.size == 1:
        return np.full(shape[-1], data.reshape(-1)[0], np.float32)
    return data.reshape(-1) if data.shape[-1] == data.size == shape[-1] else None
