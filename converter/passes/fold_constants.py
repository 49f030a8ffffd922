# SPDX-License-Identifier: Apache-2.0
"""A node whose inputs are all constants becomes its result."""

from __future__ import annotations

from ..evaluate import run_node
from ..graph import Graph
from .base import Pass
from .edit import Editor

__all__ = ["FoldConstants"]

LIMIT = 1 << 26
"""Most elements of a folded result."""


class FoldConstants(Pass):
    """Evaluate constant nodes with the operators' references. Copies of constants to graph outputs stay."""

    name = "fold_constants"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if any(editor.data(name) is None for name in node.inputs if name) or any(editor.is_output(n) for n in node.outputs):
                continue
            if any(editor.tensor(name).elements > LIMIT for name in node.outputs):
                continue
            results = run_node(graph, node, {})
            outputs = list(node.outputs)
            editor.drop(node)
            for name, result in zip(outputs, results, strict=True):
                editor.tensor(name).data = result
                editor.tensor(name).scale = None
                editor.tensor(name).zero_point = 0
        return editor.close()
