# SPDX-License-Identifier: Apache-2.0
"""Nodes that give their input back disappear; chains of Reshape become one."""

from __future__ import annotations

import math

from ..graph import DType, Graph, Node
from .base import Pass
from .edit import Editor, marked

__all__ = ["RemoveIdentity"]

_REDUCTIONS_OF_ONE = (0, 1, 2, 3, 4)  # MEAN, SUM, MAX, MIN, PROD of one element are the element
_ADD, _SUB, _MUL, _DIV, _POW = 0, 1, 2, 3, 4


class RemoveIdentity(Pass):
    """No-op Reshape, Transpose, Slice, Pad, Cast, Expand, Tile, Concat, Pool2D, Unary, Binary are skipped."""

    name = "remove_identity"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if len(node.outputs) != 1 or not node.inputs:
                continue
            source = _source(editor, node)
            if source is not None:
                editor.replace(node.outputs[0], source)
            elif node.op == "Reshape":
                _merge_reshape(editor, node)
            elif node.op == "Reduce":
                _reduce_of_one(editor, node)
        return editor.close()


def _source(editor: Editor, node: Node) -> str | None:
    """The input whose value the node gives back unchanged."""
    name = node.inputs[0]
    if not name:
        return None
    tensor, out = editor.tensor(name), editor.tensor(node.outputs[0])
    p = node.params
    if node.op == "Binary":
        return _neutral(editor, node)
    if tensor.shape != out.shape or tensor.dtype != out.dtype:
        return None
    same = False
    match node.op:
        case "Reshape" | "Cast" | "Expand" | "Tile":
            same = True
        case "Concat":
            same = len(node.inputs) == 1
        case "Transpose":
            same = list(p["perm"]) == list(range(len(out.shape)))
        case "Slice":
            same = all(step == 1 or size == 1 for step, size in zip(p["step"], out.shape, strict=True))
        case "Pad":
            same = not any(p["before"]) and not any(p["after"])
        case "Unary":
            same = p.get("kind", 0) == 0 or (p.get("kind") == 1 and _unbounded(p))
        case "Pool2D":
            window = (p.get("kernel_h", 1), p.get("kernel_w", 1), p.get("stride_h", 1), p.get("stride_w", 1))
            pads = (p.get("pad_top", 0), p.get("pad_left", 0), p.get("pad_bottom", 0), p.get("pad_right", 0))
            same = window == (1, 1, 1, 1) and not any(pads)
    return name if same else None


def _unbounded(params: dict[str, float]) -> bool:
    return params.get("alpha", 0.0) == -math.inf and params.get("beta", 0.0) == math.inf


def _neutral(editor: Editor, node: Node) -> str | None:
    """x + 0, x - 0, x * 1, x / 1, x ** 1 and, where the operator commutes, the other way round."""
    kind, p = node.params.get("kind", 0), node.params
    if p.get("act_min", -math.inf) != -math.inf or p.get("act_max", math.inf) != math.inf:
        return None
    neutral = {_ADD: 0.0, _SUB: 0.0, _MUL: 1.0, _DIV: 1.0, _POW: 1.0}.get(kind)
    if neutral is None:
        return None
    a, b = node.inputs
    out = editor.tensor(node.outputs[0])
    for name, other in ((a, b), (b, a)) if kind in (_ADD, _MUL) else ((a, b),):
        tensor = editor.tensor(name)
        if editor.scalar(other) == neutral and (tensor.shape, tensor.dtype) == (out.shape, out.dtype):
            return name
    return None


def _merge_reshape(editor: Editor, node: Node) -> None:
    """Reshape of Reshape reads the first one's input."""
    before = editor.made_by(node.inputs[0], "Reshape")
    if before is not None and not marked(editor.tensor(node.inputs[0])):
        editor.set_inputs(node, [before.inputs[0]])


def _reduce_of_one(editor: Editor, node: Node) -> None:
    """Reducing axes of size 1 only changes the shape."""
    tensor = editor.tensor(node.inputs[0])
    if node.params.get("kind", 0) not in _REDUCTIONS_OF_ONE or tensor.dtype == DType.BOOL:
        return
    out = editor.tensor(node.outputs[0])
    if out.dtype == tensor.dtype and all(tensor.shape[axis] == 1 for axis in node.params["axes"]):
        new = editor.add("Reshape", [tensor.name], hint=out.name, label=node.name, result=(out.shape, out.dtype))
        editor.replace(out.name, new)
