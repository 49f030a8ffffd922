# SPDX-License-Identifier: Apache-2.0
"""The converter's graph: the same operators, with the same meaning, as the runtime executes.

A node's ``op`` is the name of a table in schemas/ops.fbs and ``params`` holds that table's fields; an absent field has the schema's
default. Rank-4 activations of spatial operators are NHWC. So a graph means something at every stage: after import (full of
transposes), after each pass, and when it is written.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np

__all__ = ["DType", "Graph", "Node", "Tensor", "numpy_dtype"]


class DType(IntEnum):
    """Element types of the file format (`Type` in schemas/model.fbs)."""

    FLOAT32 = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    BOOL = 5
    UINT8 = 6


_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.FLOAT32: np.dtype("<f4"),
    DType.INT8: np.dtype("i1"),
    DType.INT16: np.dtype("<i2"),
    DType.INT32: np.dtype("<i4"),
    DType.INT64: np.dtype("<i8"),
    DType.BOOL: np.dtype("?"),
    DType.UINT8: np.dtype("u1"),
}


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """The little-endian numpy dtype of a tensor's elements."""
    return _NUMPY[dtype]


@dataclass
class Tensor:
    """A value of the graph.

    Attributes:
        name: unique in the graph.
        shape: outermost first; every dimension is at least 1. ``()`` is a scalar.
        dtype: element type. A quantised activation is INT8 or INT16 and has a ``scale`` (shape ``(1,)``).
        data: the constant's logical array of ``shape`` (weights are unpacked: ``[O, KH, KW, I]``, ``[O, K]``, ``[KH, KW, C]``), or
            None for an activation. For weights of fewer than 8 bits the codes are held as int8, up to 16 bits as int16.
        scale: float32, one per tensor (activations), per output channel, or ``[channels, groups]`` (group-wise weights).
        zero_point: code of real zero; 0 for weights.
        bits: weights: width of a stored code, 0 = the dtype's.
        group: weights: inputs that share one scale, 0 = all of a channel.
        range: (low, high) in real numbers that calibration found, before a scale was chosen.
        share: quantised activations: name of the tensor whose scale this one takes at calibration, "" = from its own values.
        preset: quantised activations: (scale, zero_point) that calibration gives whatever the values are, None = from the values.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType = DType.FLOAT32
    data: np.ndarray[Any, Any] | None = None
    scale: np.ndarray[Any, Any] | None = None
    zero_point: int = 0
    bits: int = 0
    group: int = 0
    range: tuple[float, float] | None = None
    share: str = ""
    preset: tuple[float, int] | None = None

    @property
    def constant(self) -> bool:
        """Whether the value is stored in the file."""
        return self.data is not None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Bytes of the elements at the dtype's width."""
        return self.elements * numpy_dtype(self.dtype).itemsize


@dataclass
class Node:
    """One operator.

    Attributes:
        op: table name in schemas/ops.fbs, such as ``"Conv2D"``.
        inputs: tensor names; ``""`` where an optional input is absent.
        outputs: tensor names.
        params: fields of the table; missing ones have the schema's default.
        name: name of the ONNX node it came from, for messages and reports.
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    params: dict[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass
class Graph:
    """Tensors by name, nodes in execution order, and the names of the graph's inputs and outputs."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    dynamic_batch: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    def add(self, tensor: Tensor) -> str:
        """Add a tensor under its name, which must be free; gives the name back."""
        if tensor.name in self.tensors:
            raise ValueError(f"tensor {tensor.name!r} exists already")
        self.tensors[tensor.name] = tensor
        return tensor.name

    def fresh(self, hint: str) -> str:
        """A tensor name that is not in use, made from ``hint``."""
        if hint and hint not in self.tensors:
            return hint
        number = 1
        while f"{hint}_{number}" in self.tensors:
            number += 1
        return f"{hint}_{number}"

    def constant(self, array: np.ndarray[Any, Any], hint: str) -> str:
        """Add a plain constant of one of the file's types; gives its name back."""
        dtype = next(d for d, n in _NUMPY.items() if n == array.dtype.newbyteorder("<") or n == array.dtype)
        return self.add(Tensor(self.fresh(hint), tuple(array.shape), dtype, np.ascontiguousarray(array)))

    def copy(self) -> Graph:
        """A graph that can be changed without changing this one. Arrays are shared: a change puts another array in place of one."""
        shared: dict[int, Any] = {id(t.data): t.data for t in self.tensors.values() if t.data is not None}
        return copy.deepcopy(self, shared)

    def producers(self) -> dict[str, Node]:
        """Tensor name to the node that writes it."""
        return {name: node for node in self.nodes for name in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """Tensor name to the nodes that read it, in order; a node that reads it twice appears twice."""
        users: dict[str, list[Node]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in node.inputs:
                if name:
                    users[name].append(node)
        return users

    def rename(self, old: str, new: str) -> None:
        """Give a tensor another name, which must be free, everywhere."""
        if new in self.tensors:
            raise ValueError(f"tensor {new!r} exists already")
        tensor = self.tensors.pop(old)
        tensor.name = new
        self.tensors[new] = tensor
        for node in self.nodes:
            node.inputs = [new if name == old else name for name in node.inputs]
            node.outputs = [new if name == old else name for name in node.outputs]
        self.inputs = [new if name == old else name for name in self.inputs]
        self.outputs = [new if name == old else name for name in self.outputs]

    def activations(self) -> Iterator[Tensor]:
        """Tensors that are not constants."""
        return (t for t in self.tensors.values() if not t.constant)

    def prune(self) -> None:
        """Drop nodes whose results nobody needs, and tensors that nobody mentions."""
        needed = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(name for name in node.inputs if name)
        self.nodes = kept[::-1]
        mentioned = needed | set(self.inputs) | {name for node in self.nodes for name in node.outputs}
        self.tensors = {name: t for name, t in self.tensors.items() if name in mentioned}

    def check(self) -> None:
        """Raise ValueError when the graph breaks an invariant: unknown tensors, order, two producers, constant outputs."""
        written = set(self.inputs) | {name for name, t in self.tensors.items() if t.constant}
        for node in self.nodes:
            for name in node.inputs:
                if name and name not in self.tensors:
                    raise ValueError(f"{node.op} {node.name}: input {name!r} does not exist")
                if name and name not in written:
                    raise ValueError(f"{node.op} {node.name}: {name!r} is read before it is written")
            for name in node.outputs:
                if name in written or self.tensors[name].constant:
                    raise ValueError(f"{node.op} {node.name}: {name!r} is written twice")
                written.add(name)
        for name in self.outputs:
            if name not in written:
                raise ValueError(f"graph output {name!r} is never written")

    def dump(self) -> str:
        """The graph as text, a line a node."""
        lines = []
        for node in self.nodes:
            outs = ", ".join(f"{name}:{self.tensors[name].dtype.name.lower()}{list(self.tensors[name].shape)}" for name in node.outputs)
            params = ", ".join(f"{key}={value}" for key, value in node.params.items() if key != "table")
            lines.append(f"{outs} = {node.op}({', '.join(name or '-' for name in node.inputs)}; {params})")
        return "\n".join(lines)
