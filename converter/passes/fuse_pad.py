# SPDX-License-Identifier: Apache-2.0
"""Padding moves into the window operator behind it; a Concat with zeros is a Pad."""

from __future__ import annotations

import numpy as np

from ..graph import DType, Graph, Node
from ..ops.pad import PadKind
from .base import Pass
from .edit import Editor, marked
from .values import lower_bound

__all__ = ["FusePad"]

_WINDOWS = ("Conv2D", "DepthwiseConv2D", "Pool2D")
_SIDES = ("pad_top", "pad_left", "pad_bottom", "pad_right")


class FusePad(Pass):
    """Pad(0) before Conv2D, DepthwiseConv2D and averaging; any Pad that loses every comparison before max pooling."""

    name = "fuse_pad"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if node.op == "Concat":
                _concat(editor, node)
            elif node.op in _WINDOWS:
                _window(editor, node)
        return editor.close()


def _concat(editor: Editor, node: Node) -> None:
    """One tensor with constant zeros before or behind it."""
    out = editor.tensor(node.outputs[0])
    data = [i for i, name in enumerate(node.inputs) if editor.data(name) is None]
    if len(data) != 1 or out.dtype != DType.FLOAT32 or len(node.inputs) < 2:
        return
    values = {editor.scalar(name) for i, name in enumerate(node.inputs) if i != data[0]}
    if len(values) != 1 or None in values:
        return
    axis = int(node.params.get("axis", 0))
    sizes = [editor.shape(name)[axis] for name in node.inputs]
    before, after = [0] * len(out.shape), [0] * len(out.shape)
    before[axis], after[axis] = sum(sizes[: data[0]]), sum(sizes[data[0] + 1 :])
    params = {"kind": int(PadKind.CONSTANT), "before": before, "after": after, "value": float(values.pop() or 0.0)}
    editor.replace(out.name, editor.add("Pad", [node.inputs[data[0]]], params, hint=out.name, label=node.name))


def _window(editor: Editor, node: Node) -> None:
    pad = editor.made_by(node.inputs[0], "Pad")
    if pad is None or marked(editor.tensor(node.inputs[0])) or pad.params.get("kind", 0) != PadKind.CONSTANT:
        return
    before, after = pad.params["before"], pad.params["after"]
    if len(before) != 4 or before[0] or before[3] or after[0] or after[3] or min(*before, *after) < 0:
        return
    pads = dict(zip(_SIDES, (before[1], before[2], after[1], after[2]), strict=True))
    total = {side: int(node.params.get(side, 0)) + extra for side, extra in pads.items()}
    if not _fits(editor, node, total):
        return
    value = float(pad.params.get("value", 0.0))
    params = dict(node.params, **total)
    if node.op != "Pool2D":
        if value != 0.0:
            return
    elif node.params.get("kind", 0) == 0:
        if (
            not value <= lower_bound(editor, pad.inputs[0])
            or node.params.get("dilation_h", 1) != 1
            or node.params.get("dilation_w", 1) != 1
        ):
            return
    else:
        if value != 0.0 or (any(node.params.get(side, 0) for side in _SIDES) and not node.params.get("count_include_pad", False)):
            return
        params["count_include_pad"] = True
    node.params = params
    editor.set_inputs(node, [pad.inputs[0], *node.inputs[1:]])


def _fits(editor: Editor, node: Node, pads: dict[str, int]) -> bool:
    """Whether every window still meets the input: less padding than the window reaches."""
    if node.op == "Pool2D":
        kernel = (int(node.params.get("kernel_h", 1)), int(node.params.get("kernel_w", 1)))
    else:
        shape = editor.shape(node.inputs[1])
        kernel = (shape[0], shape[1]) if node.op == "DepthwiseConv2D" else (shape[1], shape[2])
    reach = [(k - 1) * int(node.params.get(f"dilation_{axis}", 1)) + 1 for k, axis in zip(kernel, "hw", strict=True)]
    sides = np.array([[pads["pad_top"], pads["pad_bottom"]], [pads["pad_left"], pads["pad_right"]]])
    return bool(np.all(sides < np.array(reach)[:, None]))
