# SPDX-License-Identifier: Apache-2.0
"""Equal constants and equal nodes exist once."""

from __future__ import annotations

import hashlib

from ..graph import Graph, Node, Tensor
from .base import Pass
from .edit import Editor, marked

__all__ = ["CommonSubexpressions"]

_HEAD = 256


class CommonSubexpressions(Pass):
    """The later of two equal constants or nodes is replaced by the earlier one."""

    name = "common_subexpressions"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        _constants(editor)
        first: dict[str, Node] = {}
        for node in list(graph.nodes):
            if len(node.outputs) != 1:
                continue
            out = editor.tensor(node.outputs[0])
            scale = (out.scale.tobytes().hex(), out.zero_point) if marked(out) and out.scale is not None else ()
            key = repr((node.op, node.inputs, sorted(node.params.items(), key=lambda item: item[0]), out.shape, out.dtype, scale))
            other = first.setdefault(key, node)
            if other is not node and editor.replace(out.name, other.outputs[0]):
                editor.drop(node)
                if editor.is_output(out.name):  # the names were exchanged
                    first[key] = editor.producer[out.name]
        return editor.close()


def _constants(editor: Editor) -> None:
    # Large constants that differ mostly do so in their first numbers: only those that do not are compared as a whole.
    alike: dict[tuple[str, ...], list[Tensor]] = {}
    for name, tensor in list(editor.graph.tensors.items()):
        if tensor.data is None or not editor.users.get(name) or editor.is_output(name):
            continue
        scale = tensor.scale.tobytes() if tensor.scale is not None else b""
        digest = hashlib.sha256(tensor.data.reshape(-1)[:_HEAD].tobytes() + scale).hexdigest()
        key = (digest, str(tensor.shape), tensor.dtype.name, f"{tensor.zero_point} {tensor.bits} {tensor.group}")
        earlier = alike.setdefault(key, [])
        other = next(
            (t for t in earlier if t.data is not None and (t.data.size <= _HEAD or t.data.tobytes() == tensor.data.tobytes())), None
        )
        if other is None:
            earlier.append(tensor)
        else:
            editor.replace(name, other.name)
