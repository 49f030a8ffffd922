# SPDX-License-Identifier: Apache-2.0
"""max(x, 0) + slope * min(x, 0), in its spellings, becomes PRELU."""

from __future__ import annotations

import math

import numpy as np

from ..graph import DType, Graph, Node
from ..ops.binary import BinaryKind as B
from ..ops.unary import UnaryKind as U
from .base import Pass
from .edit import Editor, marked

__all__ = ["FusePrelu"]


class FusePrelu(Pass):
    """The negative part may be min(x, 0), -relu(-x) or (x - |x|) / 2; the slope is one number or one per channel."""

    name = "fuse_prelu"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if node.op == "Binary" and node.params.get("kind", 0) in (B.ADD, B.SUB) and len(node.params) == 1:
                _fuse(editor, node)
        return editor.close()


def _positive(editor: Editor, name: str) -> str | None:
    """x when ``name`` is max(x, 0)."""
    node = editor.made_by(name, "Unary", kind=int(U.CLIP), alpha=0.0, beta=math.inf)
    return None if node is None or marked(editor.tensor(name)) else node.inputs[0]


def _negative(editor: Editor, name: str, x: str) -> float | None:
    """k when ``name`` is k * min(x, 0)."""
    node = editor.producer.get(name)
    if node is None or marked(editor.tensor(name)):
        return None
    if node.op == "Unary" and node.params.get("kind") == U.NEG:
        inner = _negative(editor, node.inputs[0], x)
        return None if inner is None else -inner
    if node.op == "Unary" and node.params.get("kind") == U.CLIP and node.inputs[0] == x:
        return 1.0 if (node.params.get("alpha"), node.params.get("beta")) == (-math.inf, 0.0) else None
    positive = _positive(editor, name)
    if positive is not None:
        negated = editor.made_by(positive, "Unary", kind=int(U.NEG))
        flipped = editor.made_by(positive, "Binary", kind=int(B.MUL))
        if negated is not None and negated.inputs[0] == x:
            return -1.0
        if flipped is not None and flipped.inputs[0] == x and editor.scalar(flipped.inputs[1]) == -1.0:
            return -1.0
        return None
    if node.op == "Binary" and node.params.get("kind", 0) == B.SUB and node.inputs[0] == x:
        absolute = editor.made_by(node.inputs[1], "Unary", kind=int(U.ABS))
        return 2.0 if absolute is not None and absolute.inputs[0] == x else None
    return None


def _fuse(editor: Editor, node: Node) -> None:
    out = editor.tensor(node.outputs[0])
    subtract = node.params.get("kind", 0) == B.SUB
    if out.dtype != DType.FLOAT32:
        return
    for left, right in (node.inputs,) if subtract else (node.inputs, node.inputs[::-1]):
        x = _positive(editor, left)
        if x is None or editor.shape(x) != out.shape:
            continue
        product = editor.made_by(right, "Binary", kind=int(B.MUL))
        slope, name = np.ones((), np.float32), right
        if product is not None and not marked(editor.tensor(right)):
            constant = editor.data(product.inputs[1])
            if constant is None:
                continue
            slope, name = constant, product.inputs[0]
        k = _negative(editor, name, x)
        if k is None:
            continue
        value = (slope * np.float32(-k if subtract else k)).astype(np.float32)
        constant_name = editor.constant(np.asarray(value), f"{out.name}.slope")
        new = editor.add("Binary", [x, constant_name], {"kind": int(B.PRELU)}, hint=out.name, label=node.name)
        editor.replace(out.name, new)
        return
