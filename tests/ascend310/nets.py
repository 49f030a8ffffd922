# SPDX-License-Identifier: Apache-2.0
"""Small networks and data for the Ascend tests, made from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["cnn", "feeds", "graph_of", "mlp"]


def graph_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    inits: dict[str, Any],
    opset: int = 13,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """A model from its parts; inputs and outputs map names to shapes (float32) or to (shape, element type)."""

    def info(name: str, what: Any) -> onnx.ValueInfoProto:
        shape, kind = what if isinstance(what, tuple) else (what, TensorProto.FLOAT)
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        nodes,
        "net",
        [info(*item) for item in inputs.items()],
        [info(*item) for item in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in inits.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def cnn(batch: Any = "N", seed: int = 0, side: Any = 16) -> onnx.ModelProto:
    """Conv+BN+Relu, depthwise Conv, AveragePool, ConvTranspose, a residual Add, MaxPool, GlobalAveragePool, Gemm, Softmax."""
    rng = np.random.default_rng(seed)
    w = lambda *shape: (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)  # noqa: E731
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "g", "b", "m", "v"], ["n1"], "bn1"),
        helper.make_node("Relu", ["n1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "depthwise", group=8, pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("AveragePool", ["c2"], ["p1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["p1", "w3", "b3"], ["t1"], "up", strides=[2, 2], group=2),
        helper.make_node("Add", ["t1", "c2"], ["a1"], "sum1"),
        helper.make_node("MaxPool", ["a1"], ["p2"], "pool2", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p2"], ["g1"], "gap"),
        helper.make_node("Flatten", ["g1"], ["f1"], "flat"),
        helper.make_node("Gemm", ["f1", "w4", "b4"], ["logits"], "fc", transB=1),
    ]
    inits = {
        "w1": w(8, 3, 3, 3), "g": 1 + 0.1 * w(8), "b": w(8), "m": w(8), "v": np.abs(1 + w(8)),
        "w2": w(8, 1, 3, 3), "b2": w(8), "w3": w(8, 4, 2, 2), "b3": w(8), "w4": w(10, 8), "b4": w(10),
    }  # fmt: skip
    return graph_of(nodes, {"x": [batch, 3, side, side]}, {"logits": [batch, 10]}, inits)


def mlp(rows: Any = 5, seed: int = 0) -> onnx.ModelProto:
    """MatMul + bias Add over stacked rows, erf-GELU, MatMul without bias that is an output, and a variable MatMul."""
    rng = np.random.default_rng(seed)
    w = lambda *shape: (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)  # noqa: E731
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m1"], "mat1"),
        helper.make_node("Add", ["m1", "b1"], ["h"], "add1"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w2"], ["y"], "mat2"),
        helper.make_node("Transpose", ["r"], ["t"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["r", "t"], ["s"], "attention"),
    ]
    inits = {"w1": w(12, 16), "b1": w(16), "w2": w(16, 6)}
    return graph_of(nodes, {"x": [1, rows, 12]}, {"y": [1, rows, 6], "s": [1, rows, rows]}, inits)


def feeds(count: int, shape: tuple[int, ...] = (1, 3, 16, 16), name: str = "x", seed: int = 5) -> list[dict[str, Any]]:
    """``count`` random samples."""
    rng = np.random.default_rng(seed)
    return [{name: rng.normal(size=shape).astype(np.float32)} for _ in range(count)]
