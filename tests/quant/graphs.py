# SPDX-License-Identifier: Apache-2.0
"""Small graphs for the quantiser's tests, built by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge8.converter.graph import DType, Graph, Node, Tensor
from edge8.converter.ops import operators

Array = np.ndarray[Any, Any]
BINARY = {"add": 0, "sub": 1, "mul": 2}
UNARY = {"identity": 0, "clip": 1, "sigmoid": 4, "exp": 12}


class Builder:
    """A graph in the making: each method adds a node and gives the name of its result."""

    def __init__(self, seed: int = 0) -> None:
        self.graph = Graph()
        self.rng = np.random.default_rng(seed)

    def input(self, name: str, *shape: int) -> str:
        self.graph.inputs.append(name)
        return self.graph.add(Tensor(name, shape))

    def const(self, array: Array, name: str = "c") -> str:
        return self.graph.constant(np.asarray(array, np.float32), self.graph.fresh(name))

    def op(self, table: str, inputs: Sequence[str], name: str = "", **params: Any) -> str:
        node = Node(table, list(inputs), [], params, name or self.graph.fresh(table.lower()))
        (shape, dtype) = operators()[table].infer(node, [self.graph.tensors[i] if i else None for i in inputs])[0]
        node.outputs = [self.graph.add(Tensor(self.graph.fresh(f"{node.name}_out"), shape, dtype))]
        self.graph.nodes.append(node)
        return node.outputs[0]

    def conv(self, x: str, outputs: int, size: int = 3, name: str = "", scale: float = 0.3, residual: str = "", **params: Any) -> str:
        depth = self.graph.tensors[x].shape[-1] // params.get("group", 1)
        w = self.const(self.rng.normal(size=(outputs, size, size, depth)) * scale, "w")
        b = self.const(self.rng.normal(size=outputs), "b")
        pad = size // 2
        params = {"pad_top": pad, "pad_left": pad, "pad_bottom": pad, "pad_right": pad, **params}
        return self.op("Conv2D", [x, w, b, "", residual] if residual else [x, w, b], name, **params)

    def dense(self, x: str, outputs: int, name: str = "", scale: float = 0.3) -> str:
        depth = self.graph.tensors[x].shape[-1]
        w = self.const(self.rng.normal(size=(outputs, depth)) * scale, "w")
        return self.op("FullyConnected", [x, w, self.const(self.rng.normal(size=outputs), "b")], name)

    def binary(self, kind: str, a: str, b: str, name: str = "") -> str:
        return self.op("Binary", [a, b], name, kind=BINARY[kind])

    def unary(self, kind: str, x: str, name: str = "", **params: Any) -> str:
        return self.op("Unary", [x], name, kind=UNARY[kind], **params)

    def reshape(self, x: str, *shape: int, name: str = "") -> str:
        node = Node("Reshape", [x], [], {}, name or self.graph.fresh("reshape"))
        node.outputs = [self.graph.add(Tensor(self.graph.fresh(f"{node.name}_out"), shape))]
        self.graph.nodes.append(node)
        return node.outputs[0]

    def done(self, *outputs: str) -> Graph:
        self.graph.outputs = list(outputs)
        self.graph.check()
        return self.graph


def small_network(seed: int = 0) -> Graph:
    """Convolution, table, product, pooling, concatenation, reshape, matrix product, Softmax."""
    b = Builder(seed)
    x = b.input("x", 1, 8, 8, 4)
    a = b.conv(x, 6, name="conv_a")
    s = b.unary("sigmoid", a, name="sigmoid")
    m = b.binary("mul", a, s, name="swish")
    p = b.op("Pool2D", [m], "pool", kind=0, kernel_h=2, kernel_w=2, stride_h=2, stride_w=2)
    c = b.conv(x, 5, name="conv_c", stride_h=2, stride_w=2, act_min=0.0, act_max=6.0)
    j = b.op("Concat", [p, c], "join", axis=3)
    r = b.reshape(j, 1, 4 * 4 * 11, name="flat")
    d = b.dense(r, 7, "dense", 0.1)
    y = b.op("Softmax", [d], "softmax")
    return b.done(y)


def samples(count: int, *shape: int, seed: int = 1) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(count)]


def dtype_names(graph: Graph) -> dict[str, str]:
    """Type of each activation."""
    return {t.name: DType(t.dtype).name for t in graph.activations()}
