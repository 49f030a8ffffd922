# SPDX-License-Identifier: Apache-2.0
"""MatMul with a constant matrix becomes FullyConnected."""

from __future__ import annotations

import numpy as np

from ..graph import DType, Graph, Node
from .base import Pass
from .edit import Editor

__all__ = ["FuseMatmul"]


class FuseMatmul(Pass):
    """x @ W with constant W of rank 2 (or one matrix under leading ones) is FullyConnected with W transposed."""

    name = "fuse_matmul"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if node.op == "MatMul":
                _matmul(editor, node)
        return editor.close()


def _matmul(editor: Editor, node: Node) -> None:
    matrix = editor.data(node.inputs[1])
    out = editor.tensor(node.outputs[0])
    rank = len(editor.shape(node.inputs[0]))
    if matrix is None or matrix.dtype != np.float32 or matrix.ndim < 2 or matrix.size != matrix.shape[-1] * matrix.shape[-2]:
        return
    if rank < 2 or len(out.shape) != rank or editor.tensor(node.inputs[0]).constant or out.dtype != DType.FLOAT32:
        return
    matrix = matrix.reshape(matrix.shape[-2:])
    weights = editor.constant(matrix if node.params.get("transpose_b") else matrix.T, f"{node.inputs[1]}.weights")
    params = {key: value for key, value in node.params.items() if key != "transpose_b"}
    new = editor.add("FullyConnected", [node.inputs[0], weights], params, hint=out.name, label=node.name)
    editor.replace(out.name, new)
