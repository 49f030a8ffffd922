# SPDX-License-Identifier: Apache-2.0
"""A sum behind Conv2D or FullyConnected becomes the operator's residual input."""

from __future__ import annotations

import math

from ..graph import DType, Graph, Node
from ..ops.binary import BinaryKind as B
from .base import Pass
from .edit import Editor
from .fuse_activation import limits

__all__ = ["FuseResidual"]

_RESIDUAL = 4
_FREE = (-math.inf, math.inf)


class FuseResidual(Pass):
    """add(conv(x), y), y of the same shape and not a constant; the limits of the sum become those of the operator."""

    name = "fuse_residual"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        order = {id(node): i for i, node in enumerate(graph.nodes)}
        for node in list(graph.nodes):
            if node.op == "Binary" and node.params.get("kind", 0) == B.ADD and editor.tensor(node.outputs[0]).dtype == DType.FLOAT32:
                _add(editor, node, order)
        return editor.close()


def _add(editor: Editor, node: Node, order: dict[int, int]) -> None:
    shape = editor.shape(node.outputs[0])
    if node.inputs[0] == node.inputs[1] or any(editor.shape(name) != shape or editor.tensor(name).constant for name in node.inputs):
        return
    makers = [(order.get(id(maker), -1), maker, other) for maker, other in _makers(editor, node)]
    if not makers:
        return
    _, maker, other = max(makers, key=lambda item: item[0])
    result = maker.outputs[0]
    if not editor.replace(node.outputs[0], result):
        return
    for key in ("act_min", "act_max"):
        if key in node.params:
            maker.params[key] = node.params[key]
    editor.drop(node)
    padded = [*maker.inputs, *[""] * _RESIDUAL][:_RESIDUAL]
    editor.set_inputs(maker, [*padded, other])


def _makers(editor: Editor, node: Node) -> list[tuple[Node, str]]:
    """Operators that can take the sum in, each with the tensor that would be its residual."""
    found = []
    for name, other in (node.inputs, node.inputs[::-1]):
        maker = editor.producer.get(name)
        if maker is None or maker.op not in ("Conv2D", "FullyConnected") or editor.only_user(name) is not node:
            continue
        if limits(maker) == _FREE and (len(maker.inputs) <= _RESIDUAL or not maker.inputs[_RESIDUAL]):
            found.append((maker, other))
    return found
