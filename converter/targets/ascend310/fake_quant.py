# SPDX-License-Identifier: Apache-2.0
"""The fake-quant form: the deploy model in plain ONNX operators that any runtime executes, with the same integers inside.

  quantise:   Mul(f32(1/scale_d)) -> Round -> Add(offset) -> Clip(-128,127) -> Sub(offset)
  layer:      weights and bias are the integers, as float32
  dequantise: Mul(f32(scale_d*scale_w))

The scale is the first factor of each Mul: onnxruntime folds a constant second factor into the weights of the convolution before it,
and the products would no longer be exact integers.
"""

from __future__ import annotations

import numpy as np
import onnx

from .deploy import unpack_deq_scales
from .onnx_graph import OnnxGraph, attributes, make_node

__all__ = ["fake_quant_graph"]


def _quantise(graph: OnnxGraph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    attrs, base = attributes(node), f"{node.name}.fakequant"

    def constant(what: str, value: float) -> str:
        graph.inits[f"{base}.{what}"] = np.array(value, dtype=np.float32)
        return f"{base}.{what}"

    scale, offset = constant("scale", attrs["scale"]), constant("offset", attrs["offset"])
    low, high = constant("min_val", -128.0), constant("max_val", 127.0)
    value = lambda what: f"{base}.{what}.output0"  # noqa: E731
    return [
        make_node("Mul", [scale, node.input[0]], [value("mul")], f"{base}.mul"),
        make_node("Round", [value("mul")], [value("round")], f"{base}.round"),
        make_node("Add", [value("round"), offset], [value("add")], f"{base}.add"),
        make_node("Clip", [value("add"), low, high], [value("clip")], f"{base}.clip"),
        make_node("Sub", [value("clip"), offset], list(node.output), f"{base}.sub"),
    ]


def _dequantise(graph: OnnxGraph, node: onnx.NodeProto, layer: onnx.NodeProto) -> onnx.NodeProto:
    """Mul by the scales: [1,C,1,1] for images, [1,C] for matrices (a single scale is repeated: a scalar would be folded)."""
    base = node.name.removesuffix(".dequant")
    scales = unpack_deq_scales(graph.inits[node.input[1]])
    if layer.op_type in ("Gemm", "MatMul", "Add"):
        shaped = np.ascontiguousarray(np.broadcast_to(scales, (1, graph.inits[layer.input[1]].shape[-1])))
    else:
        rank = graph.inits[layer.input[1]].ndim if len(layer.input) > 1 else 4
        shaped = scales.reshape((1, -1, *(1,) * (rank - 2)))
    graph.inits[f"{base}.fakedequant.dqscale"] = shaped
    return make_node("Mul", [f"{base}.fakedequant.dqscale", node.input[0]], list(node.output), f"{base}.fakedequant.mul")


def fake_quant_graph(deploy: OnnxGraph) -> OnnxGraph:
    """Plain ONNX of a deploy graph."""
    graph = deploy.copy()
    producers = graph.producers()
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        if node.op_type == "AscendQuant":
            nodes += _quantise(graph, node)
        elif node.op_type == "AscendDequant":
            nodes.append(_dequantise(graph, node, producers[node.input[0]]))
        elif node.op_type == "AscendAntiQuant":
            name = f"{node.name}.fakequant.scale"
            graph.inits[name] = np.array(attributes(node)["scale"], dtype=np.float32)
            nodes.append(make_node("Mul", [name, node.input[0]], list(node.output), f"{node.name}.fakequant.mul"))
        else:
            nodes.append(node)
    # Integer constants of quantised layers; other operators keep their int32 and int8 constants.
    for node in graph.nodes:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Pad"):
            for index in range(1, len(node.input)):
                array = graph.inits.get(node.input[index])
                if array is not None and (array.dtype == np.int8 or (array.dtype == np.int32 and _is_bias(deploy, node, index))):
                    graph.inits[node.input[index]] = array.astype(np.float32)
    graph.nodes = nodes
    graph.drop_unused()
    graph.sort()
    return graph


def _is_bias(deploy: OnnxGraph, node: onnx.NodeProto, index: int) -> bool:
    """int32 beside an int8 weight, or the Add between a quantised MatMul and its AscendDequant."""
    if node.op_type == "Add":
        return any(n.op_type == "AscendDequant" and n.input[0] == node.output[0] for n in deploy.nodes)
    weights = deploy.inits.get(node.input[1])
    return node.op_type != "Pad" and index == 2 and weights is not None and weights.dtype == np.int8
