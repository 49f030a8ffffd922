# SPDX-License-Identifier: Apache-2.0
"""Scales that a quantised model gives to moved data belong to the data before the move.

Exporters put QuantizeLinear and DequantizeLinear around every operator, and the importer puts transposes around spatial ones. Moving
data does not change its values, so one mark, as far up as it goes, says the same, and transposes can meet.
"""

from __future__ import annotations

from ..graph import Graph, Node
from .base import Pass
from .edit import Editor, marked, same_mark

__all__ = ["HoistScales"]

_MOVES = ("Transpose", "Reshape", "Slice", "Expand", "Tile", "Gather", "Concat")


class HoistScales(Pass):
    """A mark behind a move goes in front of it when nobody else reads the data there; one that repeats the mark in front goes."""

    name = "hoist_scales"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in reversed(graph.nodes):
            if _moves(node) and marked(editor.tensor(node.outputs[0])):
                _hoist(editor, node)
        return editor.close()


def _moves(node: Node) -> bool:
    return node.op in _MOVES or (node.op == "Pool2D" and node.params.get("kind", 0) == 0)


def _hoist(editor: Editor, node: Node) -> None:
    out = editor.tensor(node.outputs[0])
    sources = [editor.tensor(name) for name in (node.inputs if node.op == "Concat" else node.inputs[:1])]
    if all(marked(source) and same_mark(source, out) for source in sources):
        out.scale, out.zero_point = None, 0
        editor.changed = True
        return
    source = sources[0]
    if len(sources) > 1 or node.op == "Pool2D" or source.constant or marked(source) or editor.only_user(source.name) is not node:
        return
    source.scale, source.zero_point = out.scale, out.zero_point
    out.scale, out.zero_point = None, 0
    editor.changed = True
