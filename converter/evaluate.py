# SPDX-License-Identifier: Apache-2.0
"""Run a Graph in numpy, node by node, with the operators' float references."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .graph import DType, Graph, Node, numpy_dtype
from .ops.base import Array, operators
from .quant.weights import Codes, dequantise_weights

__all__ = ["evaluate", "run_node", "weights"]

_CHANNEL_AXIS = {"Conv2D": 0, "DepthwiseConv2D": -1, "ConvTranspose2D": 0, "FullyConnected": 0}


def weights(graph: Graph, node: Node, name: str) -> Array:
    """Content of a constant as ``node`` computes with it in float: int8 weights are multiplied with their scales."""
    tensor = graph.tensors[name]
    assert tensor.data is not None
    if tensor.scale is None or tensor.dtype not in (DType.INT8, DType.INT16):
        return tensor.data
    if tensor.group:
        return dequantise_weights(Codes(tensor.data, tensor.scale), axis=_CHANNEL_AXIS[node.op], group=tensor.group)
    axis = _CHANNEL_AXIS.get(node.op, 0) % max(tensor.data.ndim, 1)
    scale = tensor.scale if tensor.scale.size > 1 else tensor.scale.reshape(-1)[:1]
    along = scale.reshape([-1 if a == axis else 1 for a in range(tensor.data.ndim)])
    return ((tensor.data.astype(np.float32) - np.float32(tensor.zero_point)) * along.astype(np.float32)).astype(np.float32)


def run_node(graph: Graph, node: Node, values: Mapping[str, Array]) -> list[Array]:
    """Outputs of one node; ``values`` holds the activations that it reads."""
    inputs = [(values[n] if n in values else weights(graph, node, n)) if n else None for n in node.inputs]
    outputs = [graph.tensors[n] for n in node.outputs]
    results = operators()[node.op].reference(node, inputs, outputs)
    for tensor, result in zip(outputs, results, strict=True):
        if tuple(result.shape) != tensor.shape or result.dtype != numpy_dtype(tensor.dtype):
            raise ValueError(
                f"{node.op} {node.name}: reference gives {result.dtype}{list(result.shape)}, "
                f"the graph says {tensor.dtype.name.lower()}{list(tensor.shape)}"
            )
    return results


def evaluate(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name of a float graph.

    Args:
        graph: before quantisation (float, integer and bool tensors; int8 weights are computed with in float).
        inputs: an array for every graph input, of its shape and type.

    Raises:
        ValueError: an input is missing or does not fit, or a reference breaks its shape rule.
    """
    values: dict[str, Array] = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if name not in inputs:
            raise ValueError(f"input {name!r} is missing")
        array = np.asarray(inputs[name])
        if tuple(array.shape) != tensor.shape or array.dtype != numpy_dtype(tensor.dtype):
            raise ValueError(f"input {name!r} must be {tensor.dtype.name.lower()}{list(tensor.shape)}")
        values[name] = array
    left = {name: len(nodes) for name, nodes in graph.consumers().items()}
    for node in graph.nodes:
        for name, result in zip(node.outputs, run_node(graph, node, values), strict=True):
            values[name] = result
        for name in node.inputs:
            if name:
                left[name] -= 1
                if left[name] == 0 and name not in graph.outputs:
                    values.pop(name, None)
    for name in graph.outputs:
        if name not in values:
            data = graph.tensors[name].data
            assert data is not None
            values[name] = data
    return {name: values[name] for name in graph.outputs}
