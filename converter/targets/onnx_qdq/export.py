# SPDX-License-Identifier: Apache-2.0
"""From the graph of an .e8 file to an ONNX model."""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import helper

from ... import __name__ as package
from ...errors import ConvertError
from ...graph import DType, Graph, Tensor
from ...ops.pad import PadKind
from ...ops.pool2d import PoolKind
from ..cpu_lite.read import read
from . import elementwise, linear, movement, reduction
from .builder import LAST, ONNX_TYPES, Builder, emitters

__all__ = ["export", "export_graph"]

_FAMILIES = (linear, elementwise, movement, reduction)  # importing them registers their emitters
# IR version that an opset needs.
_IR = {17: 8, 19: 9, 21: 10}


def _opset(graph: Graph) -> int:
    """The lowest opset that has everything: 17, 19 for wrapping Pads and dilated averages, 21 for int16 codes and groups of weights."""
    if any(t.scale is not None and (t.dtype is DType.INT16 or t.group) for t in graph.tensors.values()):
        return 21
    for node in graph.nodes:
        get = node.params.get
        if node.op == "Pad" and get("kind", 0) == PadKind.WRAP:
            return 19
        if node.op == "Pool2D" and get("kind", 0) == PoolKind.AVERAGE and (get("dilation_h", 1), get("dilation_w", 1)) != (1, 1):
            return 19
    return 17


def export(data: bytes, *, unsigned: bool = True) -> onnx.ModelProto:
    """A QDQ ONNX model of an .e8 file.

    Args:
        data: the file: full int8, weights-quantised (weights are dequantised, activations stay float32) or float.
        unsigned: write codes as uint8, shifted by 128. onnxruntime turns int8 activations into uint8 on x86 anyway, and its kernels
            for uint8 with int8 saturate on CPUs without VNNI; with uint8 on both sides every CPU gives the exact sums.

    Returns:
        A checked model: weights as int8 codes with a scale per output channel, biases as int32, a QuantizeLinear and a
        DequantizeLinear with the file's scale and zero point after every int8 operator. Inputs and outputs are the file's.

    Raises:
        ConvertError: an operator has no form in ONNX; names it.
    """
    return export_graph(read(data), unsigned=unsigned)


def export_graph(graph: Graph, *, unsigned: bool = True) -> onnx.ModelProto:
    """`export` of a graph whose activations have their scales."""
    builder = Builder(graph, _opset(graph), unsigned=unsigned)
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if builder.quantised(tensor):
            builder.bind(name, _signed_dequantise(builder, name, name))
        else:
            builder.alias(name, name, LAST)
    table = emitters()
    for node in graph.nodes:
        if node.op not in table:
            raise ConvertError("has no form in ONNX", rule="onnx_qdq.node", where=f"{node.op} node '{node.name}'")
        table[node.op](builder, node)
    outputs = [_output(builder, name) for name in dict.fromkeys(graph.outputs)]
    return _model(builder, outputs)


def _int8(b: Builder, tensor: Tensor) -> list[str]:
    """Scale and zero point of a graph input or output, whose codes keep the file's own type."""
    assert tensor.scale is not None
    zero = np.asarray(tensor.zero_point, np.int8 if tensor.dtype is DType.INT8 else np.int16)
    return [b.constant(np.asarray(tensor.scale[0], np.float32), "scale"), b.constant(zero, "zero_point")]


def _signed_dequantise(b: Builder, name: str, codes: str) -> str:
    return b.op("DequantizeLinear", [codes, *_int8(b, b.tensor(name))], f"{name}.input")


def _output(b: Builder, name: str) -> str:
    """Give a graph output its own name."""
    tensor = b.tensor(name)
    value = b.value(name)
    if b.quantised(tensor):
        value = b.op("QuantizeLinear", [value, *_int8(b, tensor)], f"{name}.output")
    if value == name:
        return name
    producer = [n for n in b.nodes if value in n.output]
    if not producer or name in b.graph.inputs or value in {o for n in b.nodes for o in n.output if o in b.graph.outputs}:
        b.nodes.append(helper.make_node("Identity", [value], [name], name=f"{name}:Identity"))
        return name
    for node in b.nodes:
        for names in (node.input, node.output):
            for i, used in enumerate(names):
                if used == value:
                    names[i] = name
    for layouts in b.every_value():
        for layout, used in layouts.items():
            if used == value:
                layouts[layout] = name
    return name


def _value_info(tensor: Tensor, quantised: bool) -> onnx.ValueInfoProto:
    waits = tensor.dtype in (DType.INT8, DType.INT16) and not quantised and not tensor.constant and tensor.scale is None and tensor.preset
    dtype = DType.FLOAT32 if waits else tensor.dtype
    return helper.make_tensor_value_info(tensor.name, ONNX_TYPES[dtype], list(tensor.shape))


def _model(b: Builder, outputs: list[str]) -> onnx.ModelProto:
    graph = helper.make_graph(
        b.nodes,
        "edge8",
        [_value_info(b.tensor(n), b.quantised(b.tensor(n))) for n in b.graph.inputs],
        [_value_info(b.tensor(n), b.quantised(b.tensor(n))) for n in outputs],
        b.initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", b.opset)], producer_name=package.split(".")[0])
    model.ir_version = _IR[b.opset]
    if b.graph.metadata:
        helper.set_model_props(model, {"edge8": json.dumps(b.graph.metadata, sort_keys=True)})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConvertError(f"the exported model is not valid: {error}", rule="onnx_qdq.check", where="--target onnx-qdq") from error
    return model
