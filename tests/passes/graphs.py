# SPDX-License-Identifier: Apache-2.0
"""Small graphs for the passes' tests, and the question that all of them ask: same results, and at rest afterwards?"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge8.converter.evaluate import evaluate
from edge8.converter.graph import DType, Graph, Node, Tensor
from edge8.converter.ops import operators
from edge8.converter.passes.base import Pass, optimise, passes

Array = np.ndarray[Any, Any]


class Builder:
    """A graph in the making: each method adds something and gives its name back."""

    def __init__(self, seed: int = 0) -> None:
        self.graph = Graph()
        self.rng = np.random.default_rng(seed)

    def input(self, *shape: int, name: str = "x", dtype: DType = DType.FLOAT32) -> str:
        name = self.graph.fresh(name)
        self.graph.inputs.append(name)
        return self.graph.add(Tensor(name, shape, dtype))

    def const(self, value: Any, name: str = "c") -> str:
        array = np.asarray(value)
        return self.graph.constant(array.astype(np.float32) if array.dtype.kind == "f" else array, self.graph.fresh(name))

    def random(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        return self.const(self.rng.uniform(low, high, shape).astype(np.float32))

    def op(self, table: str, *inputs: str, result: Sequence[int] | None = None, dtype: DType = DType.FLOAT32, **params: Any) -> str:
        node = Node(table, list(inputs), [], params, self.graph.fresh(table.lower()))
        if result is None:
            [(shape, dtype)] = operators()[table].infer(node, [self.graph.tensors[i] if i else None for i in inputs])
        else:
            shape = tuple(result)
        node.outputs = [self.graph.add(Tensor(self.graph.fresh(f"{node.name}_out"), shape, dtype))]
        self.graph.nodes.append(node)
        return node.outputs[0]

    def transpose(self, x: str, *perm: int) -> str:
        return self.op("Transpose", x, perm=list(perm))

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, result=shape, dtype=self.graph.tensors[x].dtype)

    def conv(self, x: str, outputs: int, size: int = 3, pad: int = 1, bias: bool = True, **params: Any) -> str:
        """Conv2D on NHWC with random weights."""
        channels = self.graph.tensors[x].shape[3] // int(params.get("group", 1))
        pads = {f"pad_{side}": pad for side in ("top", "left", "bottom", "right")} if pad else {}
        inputs = [x, self.random(outputs, size, size, channels), *([self.random(outputs)] if bias else [])]
        return self.op("Conv2D", *inputs, **pads, **params)

    def dense(self, x: str, outputs: int, bias: bool = True) -> str:
        """FullyConnected with random weights."""
        inputs = [x, self.random(outputs, self.graph.tensors[x].shape[-1]), *([self.random(outputs)] if bias else [])]
        return self.op("FullyConnected", *inputs)

    def finish(self, *outputs: str) -> Graph:
        self.graph.outputs = list(outputs)
        self.graph.check()
        return self.graph


def mark(graph: Graph, name: str, scale: float, zero_point: int = 0) -> None:
    """Give an activation a scale, as the importer of Q/DQ models does."""
    graph.tensors[name].scale = np.array([scale], np.float32)
    graph.tensors[name].zero_point = zero_point


def samples(graph: Graph, seed: int = 1) -> dict[str, Array]:
    """Random inputs; floats reach across the bends of the usual functions."""
    rng = np.random.default_rng(seed)
    values: dict[str, Array] = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if tensor.dtype == DType.FLOAT32:
            values[name] = rng.normal(0, 3, tensor.shape).astype(np.float32)
        else:
            values[name] = rng.integers(0, 2, tensor.shape).astype({DType.BOOL: np.bool_, DType.INT32: "<i4"}.get(tensor.dtype, "<i8"))
    return values


def counts(graph: Graph) -> dict[str, int]:
    """How many nodes of each operator."""
    return dict(Counter(node.op for node in graph.nodes))


def only(graph: Graph, table: str) -> Node:
    """The one node of this operator."""
    [node] = [node for node in graph.nodes if node.op == table]
    return node


def _same(graph: Graph, before: dict[str, Array], values: dict[str, Array], rtol: float) -> None:
    after = evaluate(graph, values)
    assert list(after) == list(before)
    for name, wanted in before.items():
        assert after[name].dtype == wanted.dtype
        np.testing.assert_allclose(after[name], wanted, rtol=rtol, atol=rtol * max(1.0, float(np.abs(wanted).max(initial=0))))


def apply(graph: Graph, name: str, *, changes: bool = True, rtol: float = 1e-5) -> Graph:
    """Run one pass until it rests: results, names and the graph's invariants stay; whether it changed something is as expected."""
    values = samples(graph)
    before = evaluate(graph, values)
    [step] = passes((name,))
    assert isinstance(step, Pass)
    text = graph.dump()
    step.requires(graph)
    assert step.run(graph) == changes
    step.ensures(graph)
    if not changes:
        assert graph.dump() == text
    for _ in range(20):
        if not step.run(graph):
            break
        step.ensures(graph)
    else:
        raise AssertionError(f"{name} does not come to rest")
    text = graph.dump()
    assert not step.run(graph)
    assert graph.dump() == text
    _same(graph, before, values, rtol)
    return graph


def apply_all(graph: Graph, rtol: float = 1e-5) -> Graph:
    """Run the whole pipeline; the same questions."""
    values = samples(graph)
    before = evaluate(graph, values)
    optimise(graph)
    assert graph.metadata.get("warnings", []) == []
    _same(graph, before, values, rtol)
    again = copy.deepcopy(graph)
    optimise(again)
    assert again.dump() == graph.dump()
    return graph
