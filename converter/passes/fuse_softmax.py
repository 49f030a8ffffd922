# SPDX-License-Identifier: Apache-2.0
"""exp(x - max) / sum(exp(x - max)), and its logarithm, become Softmax."""

from __future__ import annotations

from ..graph import DType, Graph, Node
from ..ops.binary import BinaryKind as B
from ..ops.reduce import ReduceKind as R
from ..ops.unary import UnaryKind as U
from .base import Pass
from .edit import Editor
from .views import along_last, axes_map, strip

__all__ = ["FuseSoftmax"]


class FuseSoftmax(Pass):
    """Softmax with or without the subtraction of the maximum; LogSoftmax with it."""

    name = "fuse_softmax"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if node.op != "Binary" or {"act_min", "act_max"}.intersection(node.params):
                continue
            found = _quotient(editor, node) or _logarithm(editor, node)
            if found is None:
                continue
            x, axes, log = found
            label, out = node.name, editor.tensor(node.outputs[0])
            params = {"log": True} if log else {}
            along_last(editor, node, x, axes, lambda view, p=params, o=out, n=label: _softmax(editor, view, p, o.name, n))  # type: ignore[misc]
        return editor.close()


def _softmax(editor: Editor, view: str, params: dict[str, bool], hint: str, label: str) -> str:
    return editor.add("Softmax", [view], params, hint=hint, label=label)


def _unary(editor: Editor, name: str, kind: U) -> str | None:
    """The argument of a function."""
    node = editor.made_by(strip(editor, name), "Unary", kind=int(kind))
    return None if node is None else strip(editor, node.inputs[0])


def _reduced(editor: Editor, name: str, kind: R, source: str, shape: tuple[int, ...]) -> list[int] | None:
    """The axes of ``shape`` over which ``name`` reduces ``source``."""
    node = editor.made_by(strip(editor, name), "Reduce", kind=int(kind))
    if node is None or strip(editor, node.inputs[0]) != source:
        return None
    inner = editor.shape(node.inputs[0])
    known = axes_map(inner, shape)
    wanted = [a for a in node.params["axes"] if inner[a] != 1]
    return sorted(known[a] for a in wanted) if wanted and all(a in known for a in wanted) else None


def _shifted(editor: Editor, name: str, axes: list[int], shape: tuple[int, ...]) -> str | None:
    """x when ``name`` is x - max(x) over ``axes``."""
    node = editor.made_by(name, "Binary", kind=int(B.SUB))
    if node is None:
        return None
    x = strip(editor, node.inputs[0])
    return x if _reduced(editor, node.inputs[1], R.MAX, x, shape) == axes else None


def _quotient(editor: Editor, node: Node) -> tuple[str, list[int], bool] | None:
    out = editor.tensor(node.outputs[0])
    if out.dtype != DType.FLOAT32:
        return None
    kind = node.params.get("kind", 0)
    pairs = [(node.inputs[0], node.inputs[1])] if kind == B.DIV else []
    if kind == B.MUL:
        for a, b in (node.inputs, node.inputs[::-1]):
            inverse = _unary(editor, b, U.RECIPROCAL)
            if inverse is not None:
                pairs.append((a, inverse))
    for a, b in pairs:
        top = strip(editor, a)
        argument = _unary(editor, top, U.EXP)
        axes = None if argument is None else _reduced(editor, b, R.SUM, top, out.shape)
        if argument is None or axes is None or editor.tensor(argument).elements != out.elements:
            continue
        return _shifted(editor, argument, axes, out.shape) or argument, axes, False
    return None


def _logarithm(editor: Editor, node: Node) -> tuple[str, list[int], bool] | None:
    """(x - max) - log(sum(exp(x - max)))."""
    out = editor.tensor(node.outputs[0])
    if node.params.get("kind", 0) != B.SUB or out.dtype != DType.FLOAT32:
        return None
    shifted, total = strip(editor, node.inputs[0]), _unary(editor, node.inputs[1], U.LOG)
    if total is None:
        return None
    reduce = editor.made_by(total, "Reduce", kind=int(R.SUM))
    exponential = None if reduce is None else strip(editor, reduce.inputs[0])
    if exponential is None or _unary(editor, exponential, U.EXP) != shifted:
        return None
    axes = _reduced(editor, total, R.SUM, exponential, out.shape)
    x = None if axes is None else _shifted(editor, shifted, axes, out.shape)
    return None if x is None or axes is None else (x, axes, True)
