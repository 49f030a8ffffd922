# SPDX-License-Identifier: Apache-2.0
"""What is known about a tensor's values without running the graph."""

from __future__ import annotations

import math

from ..ops.unary import UnaryKind as U
from .edit import Editor

__all__ = ["lower_bound"]

_MOVES = ("Reshape", "Transpose", "Slice", "Expand", "Tile", "Gather", "Concat")
_BOUNDS = {U.SIGMOID: 0.0, U.HARD_SIGMOID: 0.0, U.EXP: 0.0, U.SQRT: 0.0, U.ABS: 0.0, U.TANH: -1.0, U.ERF: -1.0, U.SOFTPLUS: 0.0}
_DEPTH = 20


def lower_bound(editor: Editor, name: str, depth: int = _DEPTH) -> float:
    """A number that no element of a float tensor is below; -inf when nothing is known."""
    data = editor.data(name)
    if data is not None:
        return float(data.min()) if data.size else -math.inf
    node = editor.producer.get(name)
    if node is None or depth == 0:
        return -math.inf
    if node.op == "Unary":
        kind = U(node.params.get("kind", 0))
        return float(node.params.get("alpha", 0.0)) if kind == U.CLIP else _BOUNDS.get(kind, -math.inf)
    if node.op == "Softmax":
        return -math.inf if node.params.get("log") else 0.0
    if node.op in _MOVES:
        return min(lower_bound(editor, source, depth - 1) for source in node.inputs if source and editor.tensor(source).dtype == 0)
    if node.op == "Pool2D":
        low = lower_bound(editor, node.inputs[0], depth - 1)
        return low if node.params.get("kind", 0) == 0 else min(low, 0.0)
    if node.op == "Pad":
        return min(lower_bound(editor, node.inputs[0], depth - 1), float(node.params.get("value", 0.0)))
    return float(node.params.get("act_min", -math.inf))
