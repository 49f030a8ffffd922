# SPDX-License-Identifier: Apache-2.0
"""Where operators of different types meet: Quantize and Dequantize nodes, and the types of the graph's inputs and outputs."""

from __future__ import annotations

from ..graph import DType, Graph, Node, Tensor
from ..ops.base import Quantisation

__all__ = ["CODE_TYPES", "insert_borders"]

CODE_TYPES = {"int8": DType.INT8, "int16": DType.INT16}
"""Types of activations that are codes."""


class _Borders:
    """Quantize and Dequantize nodes between int8, int16 and float operators, one per tensor and type."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.coded: dict[tuple[str, DType], str] = {}
        self.real: dict[str, str] = {}

    def to_codes(self, name: str, dtype: DType) -> str:
        """The INT8 or INT16 form of a tensor; adds a Quantize node to the output when there is none yet."""
        tensor = self.graph.tensors[name]
        if tensor.dtype is dtype:
            return name
        if (name, dtype) not in self.coded:
            kind = dtype.name.lower()
            scale, zero_point = (tensor.scale, tensor.zero_point) if dtype is DType.INT8 else (None, 0)
            coded = Tensor(self.graph.fresh(f"{name}_{kind}"), tensor.shape, dtype, scale=scale, zero_point=zero_point)
            self.coded[name, dtype] = self.graph.add(coded)
            suffix = "quantize" if dtype is DType.INT8 else f"quantize_{kind}"
            self.nodes.append(Node("Quantize", [name], [coded.name], name=f"{name}_{suffix}"))
        return self.coded[name, dtype]

    def to_float(self, name: str) -> str:
        """The float form of a tensor; adds a Dequantize node when there is none yet."""
        tensor = self.graph.tensors[name]
        if tensor.dtype not in CODE_TYPES.values() or tensor.constant:
            return name
        if name not in self.real:
            self.real[name] = self.graph.add(Tensor(self.graph.fresh(f"{name}_float32"), tensor.shape, DType.FLOAT32))
            self.nodes.append(Node("Dequantize", [name], [self.real[name]], name=f"{name}_dequantize"))
        return self.real[name]


def insert_borders(graph: Graph, types: list[DType | None], forms: list[Quantisation], io: str) -> None:
    """Give the outputs of coded operators their type, and put Quantize and Dequantize where types meet.

    Args:
        graph: changed in place.
        types: of each node's codes, None for a float node.
        forms: of each node.
        io: ``"float32"``, or the type whose inputs and outputs stay codes.
    """
    borders = _Borders(graph)
    if io != "float32":
        _code_inputs(graph, types, forms, CODE_TYPES[io])
    for i, node in enumerate(graph.nodes):
        dtype = types[i]
        for position, name in enumerate(node.inputs):
            if not name:
                continue
            if dtype is not None and position in forms[i].data:
                node.inputs[position] = borders.to_codes(name, dtype)
            elif dtype is None and node.op != "Dequantize":
                node.inputs[position] = borders.to_float(name)
        if dtype is not None:
            for name in node.outputs:
                graph.tensors[name].dtype = dtype
        borders.nodes.append(node)
    graph.nodes = borders.nodes
    _real_outputs(graph, CODE_TYPES.get(io))


def _code_inputs(graph: Graph, types: list[DType | None], forms: list[Quantisation], dtype: DType) -> None:
    """A graph input that operators of type ``dtype`` alone read is handed over as codes."""
    for name in graph.inputs:
        uses = [
            types[i] is dtype and p in forms[i].data for i, node in enumerate(graph.nodes) for p, n in enumerate(node.inputs) if n == name
        ]
        if uses and all(uses) and name not in graph.outputs:
            graph.tensors[name].dtype = dtype


def _real_outputs(graph: Graph, coded_type: DType | None) -> None:
    """Let the graph's outputs be float32 under their own names, but those of ``coded_type``."""
    for name in dict.fromkeys(graph.outputs):
        tensor = graph.tensors[name]
        if tensor.dtype not in CODE_TYPES.values() or tensor.dtype is coded_type or name in graph.inputs:
            continue
        coded = graph.fresh(f"{name}_{tensor.dtype.name.lower()}")
        del graph.tensors[name]
        tensor.name = coded
        graph.add(tensor)
        for node in graph.nodes:
            node.inputs = [coded if n == name else n for n in node.inputs]
            node.outputs = [coded if n == name else n for n in node.outputs]
        graph.add(Tensor(name, tensor.shape, DType.FLOAT32))
        graph.nodes.append(Node("Dequantize", [coded], [name], name=f"{name}_dequantize"))
