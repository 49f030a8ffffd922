# SPDX-License-Identifier: Apache-2.0
"""Which nodes of a prepared graph AMCT quantises, and why the others stay in float."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto

from .onnx_graph import OnnxGraph, attributes

__all__ = ["QUANTISABLE", "Layer", "find_layers"]

QUANTISABLE = ("Conv", "ConvTranspose", "Gemm", "MatMul", "AveragePool")


@dataclass(frozen=True)
class Layer:
    """One quantisable layer.

    Attributes:
        name, op: of the ONNX node.
        x: value that is quantised: the node's input, or that of its own Pad (AveragePool).
        weight, bias: initialiser names, empty when there is none.
        bias_add: name of the Add that carries a MatMul's bias, empty when there is none.
        pad: name of AveragePool's own Pad, empty when there is none.
        group: groups of a convolution.
        channels: output channels; 1 for AveragePool.
        symmetric_only: the activation offset must be 0.
    """

    name: str
    op: str
    x: str
    weight: str = ""
    bias: str = ""
    bias_add: str = ""
    pad: str = ""
    group: int = 1
    channels: int = 1
    symmetric_only: bool = False

    @property
    def channel_wise(self) -> bool:
        """Whether weight scales per output channel have a form on the chip."""
        return self.op in ("Conv", "ConvTranspose")


def find_layers(graph: OnnxGraph) -> tuple[list[Layer], dict[str, str]]:
    """(quantisable layers in graph order, reason by name of each node of a quantisable type that is none)."""
    consumers, outputs = graph.consumers(), graph.output_names()
    producers = graph.producers()
    layers, reasons = [], {}
    for node in graph.nodes:
        if node.op_type not in QUANTISABLE:
            continue
        result = _REASONS[node.op_type](graph, node, consumers, outputs, producers)
        if isinstance(result, Layer):
            layers.append(result)
        else:
            reasons[node.name] = result
    return layers, reasons


_Consumers = dict[str, list[tuple[onnx.NodeProto, int]]]
_Producers = dict[str, onnx.NodeProto]


def _common(graph: OnnxGraph, node: onnx.NodeProto) -> str:
    if graph.elem_type(node.input[0]) not in (TensorProto.FLOAT, 0):
        return "its input is not float"
    if node.input[0] in graph.inits:
        return "its input is constant"
    return ""


def _conv(graph: OnnxGraph, node: onnx.NodeProto, consumers: _Consumers, outputs: set[str], producers: _Producers) -> Layer | str:
    attrs = attributes(node)
    weights = graph.inits.get(node.input[1])
    reason = _common(graph, node)
    if reason:
        return reason
    if weights is None:
        return "its weights are computed at run time"
    if weights.ndim not in (4, 5) or (weights.ndim == 5 and node.op_type == "ConvTranspose"):
        return f"its filter has {weights.ndim} dimensions, not 4"
    dilations = attrs.get("dilations", [1] * (weights.ndim - 2))
    if weights.ndim == 5 and dilations[0] != 1:
        return "a 3-D convolution with dilation in depth"
    if node.op_type == "ConvTranspose" and any(d != 1 for d in dilations):
        return "a dilated ConvTranspose"
    bias = node.input[2] if len(node.input) > 2 else ""
    if bias and bias not in graph.inits:
        return "its bias is computed at run time"
    group = attrs.get("group", 1)
    channels = weights.shape[0] if node.op_type == "Conv" else weights.shape[1] * group
    return Layer(
        node.name, node.op_type, node.input[0], node.input[1], bias, group=group, channels=channels, symmetric_only=weights.ndim == 5
    )


def _gemm(graph: OnnxGraph, node: onnx.NodeProto, consumers: _Consumers, outputs: set[str], producers: _Producers) -> Layer | str:
    attrs = attributes(node)
    reason = _common(graph, node)
    if reason:
        return reason
    weights = graph.inits.get(node.input[1])
    if weights is None:
        return "its weights are computed at run time"
    if attrs.get("transA", 0):
        return "transA is set"
    if attrs.get("transB", 0) or attrs.get("alpha", 1.0) != 1.0 or attrs.get("beta", 1.0) != 1.0:
        return "alpha, beta or transB could not be folded"
    bias = node.input[2] if len(node.input) > 2 else ""
    if bias and (bias not in graph.inits or graph.inits[bias].shape != (weights.shape[1],)):
        return "its C is not a constant vector"
    return Layer(node.name, "Gemm", node.input[0], node.input[1], bias, channels=weights.shape[1])


def _matmul(graph: OnnxGraph, node: onnx.NodeProto, consumers: _Consumers, outputs: set[str], producers: _Producers) -> Layer | str:
    """The bias counts only if the sole reader is an Add whose input 1 is a constant vector of the output channels."""
    reason = _common(graph, node)
    if reason:
        return reason
    weights = graph.inits.get(node.input[1])
    if weights is None:
        return "both inputs are computed at run time"
    if weights.ndim != 2:
        return f"its weights have {weights.ndim} dimensions, not 2"
    readers = consumers.get(node.output[0], [])
    bias = add = ""
    if len(readers) == 1 and node.output[0] not in outputs and readers[0][0].op_type == "Add" and readers[0][1] == 0:
        constant = graph.inits.get(readers[0][0].input[1])
        if constant is not None and constant.shape == (weights.shape[1],) and len(consumers.get(readers[0][0].input[1], [])) == 1:
            bias, add = readers[0][0].input[1], readers[0][0].name
    return Layer(node.name, "MatMul", node.input[0], node.input[1], bias, bias_add=add, channels=weights.shape[1])


def _average_pool(graph: OnnxGraph, node: onnx.NodeProto, consumers: _Consumers, outputs: set[str], producers: _Producers) -> Layer | str:
    """Symmetric only: whether the chip's pooling takes the zero point off its padding and its mean is not published."""
    reason = _common(graph, node)
    if reason:
        return reason
    attrs, shape = attributes(node), graph.shape(node.input[0])
    if shape is None or len(shape) != 4:
        return "its input is not a static image"
    if list(attrs["kernel_shape"]) == shape[2:]:
        return "it averages the whole image"
    if attrs.get("ceil_mode", 0):
        return "ceil_mode"
    pad = producers.get(node.input[0])
    own = (
        pad is not None
        and pad.op_type == "Pad"
        and pad.name == f"{node.name}_pad"
        and len(consumers[node.input[0]]) == 1
        and _zero_pad(graph, pad)
    )
    x = pad.input[0] if own and pad is not None else node.input[0]
    return Layer(node.name, "AveragePool", x, pad=pad.name if own and pad is not None else "", symmetric_only=True)


def _zero_pad(graph: OnnxGraph, pad: onnx.NodeProto) -> bool:
    if attributes(pad).get("mode", "constant") != "constant" or pad.output[0] in graph.output_names():
        return False
    if len(pad.input) < 3 or not pad.input[2]:
        return True
    value = graph.inits.get(pad.input[2])
    return value is not None and float(value.ravel()[0]) == 0.0


_REASONS = {"Conv": _conv, "ConvTranspose": _conv, "Gemm": _gemm, "MatMul": _matmul, "AveragePool": _average_pool}
