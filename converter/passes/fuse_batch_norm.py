# SPDX-License-Identifier: Apache-2.0
"""Factors and sums per channel (BatchNormalization, scales, biases) move into the weights of their neighbours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node
from ..ops.base import Array
from ..ops.binary import BinaryKind as B
from ..ops.pad import PadKind
from .base import Pass
from .edit import Editor
from .fuse_activation import limits

__all__ = ["FuseBatchNorm"]

_OUTPUT_AXIS = {"Conv2D": 0, "DepthwiseConv2D": 2, "ConvTranspose2D": 0, "FullyConnected": 0}
_FREE = (-math.inf, math.inf)
_WINDOWS = ("Conv2D", "DepthwiseConv2D")
_PADS = ("pad_top", "pad_left", "pad_bottom", "pad_right")


class FuseBatchNorm(Pass):
    """conv(x) * s + t into weights and bias; conv(x * s + t) too: zeros that the operator pads with become Pad(-t / s) around x."""

    name = "fuse_batch_norm"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        for node in list(graph.nodes):
            if node.op == "Binary" and node.params.get("kind", 0) in (B.ADD, B.MUL):
                _after(editor, node)
        for node in list(graph.nodes):
            if node.op in _OUTPUT_AXIS:
                _before(editor, node)
        return editor.close()


def _vector(editor: Editor, node: Node, channels: int) -> Array | None:
    """The constant operand as one number per channel of the last axis."""
    data = editor.data(node.inputs[1])
    if data is None or data.dtype != np.float32 or editor.tensor(node.inputs[0]).constant:
        return None
    if editor.shape(node.inputs[0]) != editor.shape(node.outputs[0]) or not np.all(np.isfinite(data)):
        return None
    if data.size == 1:
        return np.full(channels, data.reshape(-1)[0], np.float32)
    if data.ndim and data.shape[-1] == channels == data.size:
        return data.reshape(-1)
    return None


def _bias(editor: Editor, node: Node, channels: int) -> Array | None:
    """The bias as an array, zeros where there is none; None when it is computed at run time."""
    if len(node.inputs) < 3 or not node.inputs[2]:
        return np.zeros(channels, np.float32)
    return editor.data(node.inputs[2])


def _weights(editor: Editor, node: Node, data: Array, hint: str, scale: Array | None = None) -> str:
    """A constant like the node's weights with other content."""
    old = editor.tensor(node.inputs[1])
    name = editor.constant(data, hint)
    tensor = editor.tensor(name)
    tensor.scale, tensor.bits, tensor.group = (old.scale if scale is None else scale), old.bits, old.group
    return name


def _after(editor: Editor, node: Node) -> None:
    """The node is a factor or a sum on the result of an operator with weights."""
    maker = editor.producer.get(node.inputs[0])
    if maker is None or maker.op not in _OUTPUT_AXIS or editor.only_user(node.inputs[0]) is not node or limits(maker) != _FREE:
        return
    channels = editor.shape(node.outputs[0])[-1]
    vector, bias = _vector(editor, node, channels), _bias(editor, maker, channels)
    weights = editor.tensor(maker.inputs[1])
    if vector is None or bias is None or weights.data is None or (len(maker.inputs) > 4 and maker.inputs[4]):
        return
    inputs = [*maker.inputs, ""][:3]
    if node.params.get("kind", 0) == B.MUL:
        scaled = _scaled_rows(editor, maker, vector)
        if scaled is None:
            return
        inputs[1] = scaled
        bias = (bias * vector).astype(np.float32)
    else:
        bias = (bias + vector).astype(np.float32)
    out = editor.tensor(node.outputs[0])
    if not editor.replace(node.outputs[0], maker.outputs[0]):
        return
    if np.any(bias) or inputs[2]:
        inputs[2] = editor.constant(bias, f"{out.name}.bias")
    editor.set_inputs(maker, inputs if inputs[2] else inputs[:2])
    for key in ("act_min", "act_max"):
        if key in node.params:
            maker.params[key] = node.params[key]
    editor.drop(node)


def _scaled_rows(editor: Editor, maker: Node, vector: Array) -> str | None:
    """The weights with every output channel multiplied; codes keep their value and their scale is multiplied instead."""
    weights = editor.tensor(maker.inputs[1])
    assert weights.data is not None
    axis = _OUTPUT_AXIS[maker.op]
    along = [-1 if i == axis else 1 for i in range(weights.data.ndim)]
    if weights.scale is None:
        if weights.dtype != DType.FLOAT32:
            return None
        return _weights(editor, maker, (weights.data * vector.reshape(along)).astype(np.float32), f"{weights.name}.scaled")
    if not np.all(vector) or weights.group or weights.scale.size != vector.size:
        return None
    codes = weights.data * np.sign(vector).astype(weights.data.dtype).reshape(along)
    return _weights(editor, maker, codes, f"{weights.name}.scaled", (weights.scale * np.abs(vector)).astype(np.float32))


def _before(editor: Editor, node: Node) -> None:
    """The node's input is x * s or x + t, or padding around such a thing."""
    pad = editor.made_by(node.inputs[0], "Pad", kind=int(PadKind.CONSTANT))
    if pad is not None and editor.only_user(node.inputs[0]) is not node:
        return
    data = pad.inputs[0] if pad is not None else node.inputs[0]
    source = editor.producer.get(data)
    if source is None or source.op != "Binary" or editor.only_user(data) is not (pad or node) or limits(source) != _FREE:
        return
    kind = source.params.get("kind", 0)
    weights = editor.tensor(node.inputs[1])
    if kind not in (B.ADD, B.MUL) or weights.data is None or weights.dtype != DType.FLOAT32:
        return
    channels = editor.shape(node.inputs[0])[-1]
    vector, bias = _vector(editor, source, channels), _bias(editor, node, editor.shape(node.outputs[0])[-1])
    if vector is None or bias is None:
        return
    around = _around(editor, node, pad, kind, vector)
    if around is None:
        return
    grid = _by_input(node, vector, weights.data)
    inputs = [source.inputs[0], node.inputs[1], *node.inputs[2:]]
    if kind == B.MUL:
        inputs[1] = _weights(editor, node, (weights.data * grid).astype(np.float32), f"{weights.name}.scaled")
    else:
        axes = tuple(i for i in range(weights.data.ndim) if i != _OUTPUT_AXIS[node.op])
        total = (weights.data.astype(np.float64) * grid).sum(axis=axes)
        inputs[2:3] = [editor.constant((bias + total).astype(np.float32), f"{node.outputs[0]}.bias")]
    if around:
        inputs[0] = editor.add("Pad", inputs[:1], around, hint=f"{source.inputs[0]}.padded", label=source.name)
        node.params = {key: value for key, value in node.params.items() if key not in _PADS}
    editor.set_inputs(node, inputs)


def _around(editor: Editor, node: Node, pad: Node | None, kind: int, vector: Array) -> dict[str, Any] | None:
    """What must lie around x once s or t has left it, as parameters of a Pad: empty for nothing that the node does not do itself,
    None where it cannot be said.

    The node pads with zeros, which t does not reach: around x they are -t. Padding with v around x * s is v / s around x.
    """
    sides = [int(node.params.get(side, 0)) for side in _PADS]
    if pad is None and (kind == B.MUL or not any(sides)):
        return {} if kind == B.MUL or node.op != "ConvTranspose2D" else None
    number = float(vector[0])
    if node.op not in _WINDOWS or np.any(vector != vector[0]) or (kind == B.MUL and number == 0.0):
        return None
    if pad is None:
        around = {"before": [0, sides[0], sides[1], 0], "after": [0, sides[2], sides[3], 0]}
        return {"kind": int(PadKind.CONSTANT), **around, "value": -number}
    value = float(pad.params.get("value", 0.0))
    if any(sides) or value == 0.0 or not np.isfinite(np.float32(value / number if kind == B.MUL else value - number)):
        return None
    return {**pad.params, "value": value / number if kind == B.MUL else value - number}


def _by_input(node: Node, vector: Array, weights: Array) -> Array:
    """The input channel's number for every weight."""
    if node.op == "FullyConnected":
        return vector.reshape(1, -1)
    if node.op == "DepthwiseConv2D":
        return np.repeat(vector, int(node.params.get("multiplier", 1))).reshape(1, 1, -1)
    group = int(node.params.get("group", 1))
    rows = vector.reshape(group, -1)  # input channels of each group
    return np.repeat(rows, weights.shape[0] // group, axis=0)[:, None, None, :]
