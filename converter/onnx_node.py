# SPDX-License-Identifier: Apache-2.0
"""What an import handler sees of one ONNX node, and how it adds nodes to the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import onnx

from .errors import ConvertError
from .graph import DType, Graph, Node, Tensor, numpy_dtype
from .ops.base import Array, operators

__all__ = ["Import", "NodeImport", "file_array"]

_LINEAR = {"Conv2D": 0, "DepthwiseConv2D": -1, "ConvTranspose2D": 0, "FullyConnected": 0}
"""Operators with weights in input 1, and the axis of the output channels."""

_WIDER = {
    "float16": "<f4",
    "float64": "<f4",
    "bfloat16": "<f4",
    "uint16": "<i4",
    "uint32": "<i8",
    "uint64": "<i8",
    "int4": "i1",
    "uint4": "u1",
}


def file_array(array: Array, what: str) -> Array:
    """``array`` in a type that the file has: float16, float64 and bfloat16 become float32, unsigned integers the next wider signed one.

    Raises:
        ConvertError: strings, complex numbers, 8-bit floats, or numbers that do not fit.
    """
    kind = array.dtype.name
    if kind in _WIDER:
        with np.errstate(over="ignore"):
            result = array.astype(_WIDER[kind])
        if kind == "uint64" and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise ConvertError("uint64 value above 2^63 - 1", rule="onnx.type", where=what)
        return np.ascontiguousarray(result)
    if kind in ("float32", "int8", "int16", "int32", "int64", "bool", "uint8"):
        return np.ascontiguousarray(array).reshape(array.shape)
    raise ConvertError(f"element type {kind} is not supported", rule="onnx.type", where=what)


@dataclass
class WeightGrid:
    """Scale of a constant that the model stores in int8: its numbers are codes * scale along the output channels."""

    scale: Array


@dataclass
class Import:
    """State of one import.

    Attributes:
        graph: what is imported so far.
        names: ONNX value to graph tensor.
        reserved: every ONNX value name.
        warnings: remarks for the user.
        grids: ONNX values that are constants with a scale.
        codes: ONNX values that are integer codes, to `onnx_qdq.Codes`; ``names`` has the float tensor behind them.
        raw_types: numpy type name of each initialiser in the model.
    """

    graph: Graph
    names: dict[str, str] = field(default_factory=dict)
    reserved: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    grids: dict[str, WeightGrid] = field(default_factory=dict)
    codes: dict[str, Any] = field(default_factory=dict)
    raw_types: dict[str, str] = field(default_factory=dict)

    def producer(self, name: str) -> Node | None:
        """The node that writes a graph tensor."""
        return next((node for node in reversed(self.graph.nodes) if name in node.outputs), None)

    def fresh(self, hint: str) -> str:
        """A tensor name that neither the graph nor the ONNX model uses."""
        name, number = hint, 1
        while not name or name in self.graph.tensors or name in self.reserved:
            name = f"{hint}_{number}"
            number += 1
        return name


class NodeImport:
    """One ONNX node on its way into the graph; the argument of every handler."""

    def __init__(self, state: Import, node: onnx.NodeProto, opset: int, name: str) -> None:
        self.state = state
        self.graph = state.graph
        self.node = node
        self.op_type: str = node.op_type
        self.opset = opset
        self.name = name
        self._attributes = {a.name: a for a in node.attribute}
        self._emitted: list[Node] = []
        self.finished = False

    # ---- the ONNX node -------------------------------------------------------------------------------------------------------------

    @property
    def where(self) -> str:
        """The node as messages name it."""
        return f"{self.op_type} node '{self.name}'"

    def attr(self, name: str, default: Any = None) -> Any:
        """Attribute as int, float, str, list or array (tensors); ``default`` when the node does not carry it."""
        attribute = self._attributes.get(name)
        if attribute is None:
            return default
        kind = attribute.type
        if kind == onnx.AttributeProto.TENSOR:
            return file_array(onnx.numpy_helper.to_array(attribute.t), f"{self.where}, attribute {name}")
        value = onnx.helper.get_attribute_value(attribute)
        if kind == onnx.AttributeProto.STRING:
            return value.decode("utf-8", "replace")
        if kind == onnx.AttributeProto.STRINGS:
            return [item.decode("utf-8", "replace") for item in value]
        if kind in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
            return list(value)
        if kind in (onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT):
            return value
        return self.fail(f"attribute {name} has a type that is not supported")

    @property
    def inputs(self) -> int:
        """Number of inputs, absent optional ones included."""
        return len(self.node.input)

    @property
    def outputs(self) -> int:
        """Number of outputs, absent optional ones included."""
        return len(self.node.output)

    def has_input(self, i: int) -> bool:
        """Whether input ``i`` is there."""
        return i < len(self.node.input) and self.node.input[i] != ""

    def input(self, i: int) -> str:
        """Graph tensor of input ``i``; ConvertError if it is absent."""
        if not self.has_input(i):
            self.fail(f"input {i} is missing")
        return self.state.names[self.node.input[i]]

    def raw_type(self, i: int) -> str:
        """numpy name of input ``i``'s element type in the model, before it was widened."""
        name = self.node.input[i]
        return self.state.raw_types.get(name) or str(numpy_dtype(self.dtype(i)).name)

    def tensor(self, name: str) -> Tensor:
        """A tensor of the graph."""
        return self.graph.tensors[name]

    def shape(self, i: int) -> tuple[int, ...]:
        """Shape of input ``i``."""
        return self.tensor(self.input(i)).shape

    def rank(self, i: int) -> int:
        """Number of dimensions of input ``i``."""
        return len(self.shape(i))

    def dtype(self, i: int) -> DType:
        """Element type of input ``i``."""
        return self.tensor(self.input(i)).dtype

    def constant(self, i: int) -> Array | None:
        """Content of input ``i`` if it is there and constant."""
        return self.tensor(self.input(i)).data if self.has_input(i) else None

    def require_constant(self, i: int, what: str) -> Array:
        """Content of input ``i``; ConvertError that names ``what`` if it is computed at run time."""
        data = self.constant(i)
        if data is None:
            if not self.has_input(i):
                self.fail(f"{what} is missing (input {i})")
            self.fail(
                f"{what} is computed at run time (input {i}, tensor '{self.node.input[i]}'); it must be a constant",
                "Fix the input shapes (--input-shape) so that it folds to a constant, or export the model with a constant here",
            )
        return data

    def fail(self, message: str, hint: str = "", rule: str = "onnx.node") -> NoReturn:
        """Raise the ConvertError of this node."""
        raise ConvertError(message, rule=rule, where=self.where, hint=hint)

    def warn(self, message: str) -> None:
        """Leave a remark for the user."""
        self.state.warnings.append(f"{self.where}: {message}")

    # ---- the graph -----------------------------------------------------------------------------------------------------------------

    def const(self, array: Array | float | Sequence[Any], hint: str = "constant") -> str:
        """Name of a constant with this content; float64 and float16 become float32."""
        data = file_array(np.asarray(array), self.where)
        return self.graph.constant(data, self.state.fresh(hint))

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        params: Mapping[str, Any] | None = None,
        outputs: int = 1,
        name: str | None = None,
        result: tuple[Sequence[int], DType] | None = None,
    ) -> Any:
        """Add a node; its outputs' shapes and types come from the operator.

        Args:
            op: table of schemas/ops.fbs.
            inputs: graph tensors, ``""`` for absent ones.
            params: the table's fields.
            outputs: how many.
            name: wanted name of the output tensor.
            result: shape and type of the one output, for operators that cannot tell them from their inputs (Reshape, Expand, Cast ...).

        Returns:
            The output's name (str), or a list of names when there are several.
        """
        node = Node(op, list(inputs), [], dict(params or {}), self.name)
        if result is not None:
            results = [(tuple(result[0]), result[1])]
        else:
            try:
                results = operators()[op].infer(node, [self.tensor(n) if n else None for n in inputs])
            except ValueError as error:
                self.fail(f"cannot become {op}: {error}")
        if len(results) != outputs:
            raise AssertionError(f"{op} has {len(results)} outputs, not {outputs}")
        base = name or f"{self.node.output[0] or self.name}.{op}"
        for shape, dtype in results:
            if any(d < 1 for d in shape):
                self.fail(f"the result has shape {list(shape)}; tensors without elements are not supported")
            node.outputs.append(self.graph.add(Tensor(self.state.fresh(base), tuple(int(d) for d in shape), dtype)))
        self.graph.nodes.append(node)
        self._emitted.append(node)
        if op in _LINEAR and self.has_input(1):
            self._keep_codes(node)
        return node.outputs[0] if outputs == 1 else list(node.outputs)

    def finish(self, *names: str) -> None:
        """Bind the node's ONNX outputs, in order, to graph tensors. Every handler ends with it."""
        self.finished = True
        for output, name in zip(self.node.output, names, strict=False):
            if not output:
                continue
            self.state.names[output] = self._rename(name, output)
        for output in self.node.output[len(names) :]:
            if output:
                self.fail(f"output '{output}' (number {list(self.node.output).index(output)}) is not supported")

    def to_nhwc(self, name: str) -> str:
        """``[N,C,H,W]`` to ``[N,H,W,C]``, ``[N,C,W]`` to ``[N,1,W,C]``."""
        shape = self.tensor(name).shape
        if len(shape) == 4:
            return str(self.emit("Transpose", [name], {"perm": [0, 2, 3, 1]}))
        if len(shape) == 3:
            moved = self.emit("Transpose", [name], {"perm": [0, 2, 1]})
            return self.reshape(moved, (shape[0], 1, shape[2], shape[1]))
        return self.fail(f"input of shape {list(shape)}: only 1-D and 2-D spatial data (rank 3 and 4) is supported")

    def from_nhwc(self, name: str, rank: int) -> str:
        """Inverse of `to_nhwc` for an ONNX tensor of ``rank`` 3 or 4."""
        if rank == 4:
            return str(self.emit("Transpose", [name], {"perm": [0, 3, 1, 2]}))
        n, h, w, c = self.tensor(name).shape
        return str(self.emit("Transpose", [self.reshape(name, (n, h * w, c))], {"perm": [0, 2, 1]}))

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """The same elements under another shape; the Reshape operator takes its shape from its output tensor."""
        tensor = self.tensor(name)
        if int(np.prod(shape, dtype=np.int64)) != tensor.elements:
            self.fail(f"cannot reshape {list(tensor.shape)} to {list(shape)}")
        return str(self.emit("Reshape", [name], result=(shape, tensor.dtype)))

    # ---- inner parts ---------------------------------------------------------------------------------------------------------------

    def _rename(self, name: str, wanted: str) -> str:
        """Let the tensor that this handler made carry the ONNX name; other tensors keep theirs."""
        mine = any(name in node.outputs for node in self._emitted)
        if not mine or wanted in self.graph.tensors or name in self.state.names.values():
            return name
        tensor = self.graph.tensors.pop(name)
        tensor.name = wanted
        self.graph.add(tensor)
        for node in self._emitted:
            node.inputs = [wanted if n == name else n for n in node.inputs]
            node.outputs = [wanted if n == name else n for n in node.outputs]
        return wanted

    def _keep_codes(self, node: Node) -> None:
        """Store the weights as the int8 codes of the model when they came through DequantizeLinear."""
        grid = self.state.grids.get(self.node.input[1])
        weights = self.tensor(node.inputs[1])
        if grid is None or weights.data is None or weights.dtype != DType.FLOAT32:
            return
        axis = _LINEAR[node.op] % weights.data.ndim
        channels = weights.shape[axis]
        if grid.scale.size not in (1, channels):
            self.warn(f"the scales of '{self.node.input[1]}' do not run along the output channels; its weights are taken as float")
            return
        scale = np.broadcast_to(grid.scale.reshape(-1), (channels,)).astype(np.float32)
        along = scale.reshape([-1 if a == axis else 1 for a in range(weights.data.ndim)])
        codes = np.rint(weights.data / along)
        if np.abs(codes).max(initial=0) > 127 or not np.array_equal((codes * along).astype(np.float32), weights.data):
            self.warn(f"the weights of '{self.node.input[1]}' are not symmetric int8 codes here; they are taken as float")
            return
        weights.data, weights.dtype, weights.scale = codes.astype(np.int8), DType.INT8, scale
