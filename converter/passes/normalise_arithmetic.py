# SPDX-License-Identifier: Apache-2.0
"""One spelling for each arithmetic step: products and sums with constants, limits, squares."""

from __future__ import annotations

import numpy as np

from ..graph import DType, Graph, Node
from ..ops.base import Array
from ..ops.binary import BinaryKind as B
from ..ops.unary import UnaryKind as U
from .base import Pass
from .edit import Editor

__all__ = ["NormaliseArithmetic"]


class NormaliseArithmetic(Pass):
    """x / c is x * (1/c); x - c is x + (-c); c + x is x + c; max(x, c) is a clip; x * x is a square; constant factors are joined."""

    name = "normalise_arithmetic"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if node.op == "Binary" and editor.tensor(node.outputs[0]).dtype == DType.FLOAT32:
                _binary(editor, node)
            elif node.op == "Unary" and node.params.get("kind") == U.POW and node.params.get("alpha") == 0.5:
                node.params = {"kind": int(U.SQRT)}
                editor.changed = True
        return editor.close()


def _binary(editor: Editor, node: Node) -> None:
    a, b = node.inputs
    kind = B(node.params.get("kind", 0))
    if editor.data(a) is not None and editor.data(b) is None and kind in (B.ADD, B.MUL, B.MIN, B.MAX):
        editor.set_inputs(node, [b, a])
        a, b = b, a
    constant = editor.data(b)
    plain = not {"act_min", "act_max"}.intersection(node.params)
    if constant is None:
        if a == b and kind == B.MUL and plain:
            _become(editor, node, U.POW, alpha=2.0)
        return
    if kind in (B.DIV, B.SUB):
        _opposite(editor, node, constant)
    elif kind in (B.MIN, B.MAX) and plain and editor.shape(a) == editor.shape(node.outputs[0]):
        limit = editor.scalar(b)
        if limit is not None and not np.isnan(limit):
            low, high = (limit, np.inf) if kind == B.MAX else (-np.inf, limit)
            _become(editor, node, U.CLIP, alpha=float(low), beta=float(high))
    elif kind in (B.ADD, B.MUL) and plain:
        _join(editor, node, kind, constant)


def _become(editor: Editor, node: Node, kind: U, **params: float) -> None:
    """Turn a Binary into a Unary of its first input."""
    editor.set_inputs(node, [node.inputs[0]])
    node.op, node.params = "Unary", {"kind": int(kind), **params}


def _opposite(editor: Editor, node: Node, constant: Array) -> None:
    """Division and subtraction by a constant become multiplication and addition."""
    kind = B(node.params.get("kind", 0))
    with np.errstate(divide="ignore", over="ignore"):
        other = (-constant if kind == B.SUB else np.float32(1) / constant).astype(np.float32)
    if not np.all(np.isfinite(other)) and kind == B.DIV:
        return
    name = editor.constant(other, f"{node.inputs[1]}.{'negative' if kind == B.SUB else 'inverse'}")
    editor.set_inputs(node, [node.inputs[0], name])
    node.params["kind"] = int(B.ADD if kind == B.SUB else B.MUL)


def _join(editor: Editor, node: Node, kind: B, constant: Array) -> None:
    """(x * c) * d is x * (c * d), and the same for sums, when nobody else reads x * c."""
    before = editor.made_by(node.inputs[0], "Binary", kind=int(kind))
    if before is None or editor.only_user(node.inputs[0]) is not node or {"act_min", "act_max"}.intersection(before.params):
        return
    first = editor.data(before.inputs[1])
    if first is None or editor.shape(before.inputs[0]) != editor.shape(node.outputs[0]):
        return
    joined = (first * constant if kind == B.MUL else first + constant).astype(np.float32)
    if np.all(np.isfinite(joined)):
        editor.set_inputs(node, [before.inputs[0], editor.constant(joined, f"{node.inputs[1]}.joined")])
