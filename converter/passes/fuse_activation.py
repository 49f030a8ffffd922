# SPDX-License-Identifier: Apache-2.0
"""Relu, Relu6 and Clip become the limits of the operator before them."""

from __future__ import annotations

import math

from ..graph import DType, Graph, Node
from ..ops.unary import UnaryKind as U
from .base import Pass
from .edit import Editor

__all__ = ["LIMITED", "FuseActivation", "limits"]

LIMITED = ("Conv2D", "DepthwiseConv2D", "ConvTranspose2D", "FullyConnected", "MatMul", "Binary")
"""Operators with act_min and act_max."""


class FuseActivation(Pass):
    """clip(f(x)) becomes f with limits; clip(clip(x)) becomes one clip."""

    name = "fuse_activation"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if node.op == "Unary" and node.params.get("kind") == U.CLIP and editor.tensor(node.outputs[0]).dtype == DType.FLOAT32:
                _clip(editor, node)
        return editor.close()


def limits(node: Node) -> tuple[float, float]:
    """The limits of a node's result."""
    return float(node.params.get("act_min", -math.inf)), float(node.params.get("act_max", math.inf))


def _clip(editor: Editor, node: Node) -> None:
    before = editor.producer.get(node.inputs[0])
    if before is None or editor.only_user(node.inputs[0]) is not node or len(before.outputs) != 1:
        return
    low, high = float(node.params.get("alpha", 0.0)), float(node.params.get("beta", 0.0))
    if before.op == "Unary" and before.params.get("kind") == U.CLIP:
        a, b = float(before.params.get("alpha", 0.0)), float(before.params.get("beta", 0.0))
        node.params["alpha"], node.params["beta"] = _clamp(a, low, high), _clamp(b, low, high)
        editor.set_inputs(node, [before.inputs[0]])
        return
    if before.op not in LIMITED or editor.tensor(before.outputs[0]).dtype != DType.FLOAT32 or not low <= high:
        return
    a, b = limits(before)
    if not editor.replace(node.outputs[0], before.outputs[0]):
        return
    for key, value, default in (("act_min", _clamp(a, low, high), -math.inf), ("act_max", _clamp(b, low, high), math.inf)):
        before.params.pop(key, None)
        if value != default:
            before.params[key] = value
    editor.drop(node)


def _clamp(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)
