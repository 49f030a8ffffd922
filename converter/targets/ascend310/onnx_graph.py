# SPDX-License-Identifier: Apache-2.0
"""An editable view of an ONNX graph: nodes in a list, initialisers as numpy arrays, producers and consumers by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...errors import ConvertError

__all__ = ["Array", "OnnxGraph", "attributes", "dim_of", "make_node", "shape_of"]

Array = npt.NDArray[Any]

# Initialisers beyond this many elements are described, not embedded, when shapes are inferred: inference needs small shape-like
# constants only, and a copy of the weights would double the memory.
_EMBED_LIMIT = 4096


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attribute values by name (strings as str)."""
    out: dict[str, Any] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
            value = list(value)
        out[attribute.name] = value
    return out


def make_node(op: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attrs: Any) -> onnx.NodeProto:
    """A node of the default domain; attributes that are None are left out, the rest are sorted by name."""
    node = helper.make_node(op, list(inputs), list(outputs), name=name)
    for key in sorted(attrs):
        if attrs[key] is not None:
            node.attribute.append(helper.make_attribute(key, attrs[key]))
    return node


def shape_of(value: onnx.ValueInfoProto) -> list[int | str | None] | None:
    """Dimensions of a value: a number, a symbol, or None where nothing is known; None for an unknown rank."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [dim_of(dim) for dim in tensor.shape.dim]


def dim_of(dim: Any) -> int | str | None:
    """One dimension: its number, its symbol, or None."""
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) or None


class OnnxGraph:
    """The main graph of a model.

    Attributes:
        nodes: in topological order (kept by the editing passes, restored by ``sort``).
        inits: initialiser arrays by name.
        inputs, outputs: value infos of the graph's interface.
        opset: version of the default domain.
        types: element type and shape of every value, after ``infer``.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.name = graph.name or "graph"
        self.ir_version = model.ir_version
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
        self.inits: dict[str, Array] = {}
        for tensor in graph.initializer:
            self.inits[tensor.name] = _array(tensor)
        if graph.sparse_initializer:
            raise ConvertError("sparse initialisers are not supported", rule="onnx.sparse", hint="Export the model with dense weights")
        self.inputs = [value for value in graph.input if value.name not in self.inits]
        self.outputs = list(graph.output)
        self.nodes = list(graph.node)
        self.types: dict[str, tuple[int, list[int | str | None] | None]] = {}
        self._taken: set[str] | None = None
        self._counters: dict[str, int] = {}

    # -- names ---------------------------------------------------------------------------------------------------------------

    def fresh(self, base: str) -> str:
        """A value or node name that nothing else has: ``base`` itself, or with a number."""
        if self._taken is None:
            self._taken = set(self.inits) | {value.name for value in self.inputs}
            for node in self.nodes:
                self._taken.update(node.output)
                self._taken.add(node.name)
        name = base
        while name in self._taken:
            self._counters[base] = self._counters.get(base, 0) + 1
            name = f"{base}_{self._counters[base]}"
        self._taken.add(name)
        return name

    def constant(self, base: str, array: Any, dtype: Any = None) -> str:
        """Add an initialiser and return its name."""
        name = self.fresh(base)
        self.inits[name] = np.asarray(array, dtype=dtype)
        return name

    # -- structure -----------------------------------------------------------------------------------------------------------

    def producers(self) -> dict[str, onnx.NodeProto]:
        """Node that makes each value."""
        return {output: node for node in self.nodes for output in node.output if output}

    def consumers(self) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
        """(node, input index) pairs that read each value."""
        out: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self.nodes:
            for index, name in enumerate(node.input):
                if name:
                    out.setdefault(name, []).append((node, index))
        return out

    def output_names(self) -> set[str]:
        """Names of the graph's outputs."""
        return {value.name for value in self.outputs}

    def rename_uses(self, old: str, new: str) -> None:
        """Let every reader of ``old`` read ``new``."""
        for node in self.nodes:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new

    def drop_unused(self) -> None:
        """Remove nodes and initialisers that reach no output."""
        needed = self.output_names()
        keep = []
        for node in reversed(self.nodes):
            if any(output in needed for output in node.output):
                keep.append(node)
                needed.update(name for name in node.input if name)
        self.nodes = keep[::-1]
        self.inits = {name: array for name, array in self.inits.items() if name in needed}

    def sort(self) -> None:
        """Stable topological order.

        Raises:
            ConvertError: the graph has a cycle or reads a value that nothing makes.
        """
        known = set(self.inits) | {value.name for value in self.inputs}
        pending, ordered = list(self.nodes), []
        while pending:
            rest = []
            for node in pending:
                if all(not name or name in known for name in node.input):
                    ordered.append(node)
                    known.update(node.output)
                else:
                    rest.append(node)
            if len(rest) == len(pending):
                missing = sorted({name for node in rest for name in node.input if name and name not in known})
                raise ConvertError(
                    f"no node makes {', '.join(missing[:5])}",
                    rule="onnx.order",
                    where=rest[0].name,
                    hint="Check the model with onnx.checker",
                )
            pending = rest
        self.nodes = ordered

    # -- types ---------------------------------------------------------------------------------------------------------------

    def infer(self) -> None:
        """Fill ``types`` by ONNX shape inference over a skeleton without the large weights."""
        graph = helper.make_graph(self.nodes, "shapes", [], [], [])
        graph.input.extend(self.inputs)
        for name, array in self.inits.items():
            if array.size <= _EMBED_LIMIT:
                graph.initializer.append(numpy_helper.from_array(array, name))
            else:
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                graph.input.append(helper.make_tensor_value_info(name, kind, list(array.shape)))
        for value in self.outputs:
            graph.output.append(helper.make_empty_tensor_value_info(value.name))
        foreign = sorted({node.domain for node in self.nodes} - {"", "ai.onnx"})
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in foreign)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=self.ir_version)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        self.types = {}
        for value in [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]:
            self.types[value.name] = (value.type.tensor_type.elem_type, shape_of(value))
        for name, array in self.inits.items():
            self.types[name] = (helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape))

    def shape(self, name: str) -> list[int] | None:
        """The static shape of a value, or None when its rank or any dimension is unknown."""
        shape = self.types.get(name, (0, None))[1]
        if shape is None or any(not isinstance(dim, int) for dim in shape):
            return None
        return [dim for dim in shape if isinstance(dim, int)]

    def rank(self, name: str) -> int | None:
        """The number of dimensions of a value, or None."""
        shape = self.types.get(name, (0, None))[1]
        return None if shape is None else len(shape)

    def elem_type(self, name: str) -> int:
        """ONNX element type of a value, 0 when unknown."""
        return self.types.get(name, (0, None))[0]

    # -- output --------------------------------------------------------------------------------------------------------------

    def copy(self) -> OnnxGraph:
        """An independent copy; the arrays are shared and must not be changed in place."""
        other = OnnxGraph.__new__(OnnxGraph)
        other.name, other.ir_version, other.opset = self.name, self.ir_version, self.opset
        other.inits = dict(self.inits)
        other.inputs = [_clone(value) for value in self.inputs]
        other.outputs = [_clone(value) for value in self.outputs]
        other.nodes = [_clone(node) for node in self.nodes]
        other.types = dict(self.types)
        other._taken = None
        other._counters = {}
        return other

    def to_model(self, values: Iterable[onnx.ValueInfoProto] = ()) -> onnx.ModelProto:
        """A model with one opset import. Nothing in it depends on time, place or machine."""
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs)
        for name, array in self.inits.items():
            graph.initializer.append(_tensor(name, array))
        graph.value_info.extend(values)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=self.ir_version,
            producer_name="edge8",
        )


def _array(tensor: TensorProto) -> Array:
    if tensor.data_type == TensorProto.STRING:
        raise ConvertError(
            "string tensors are not supported", rule="onnx.string", where=tensor.name, hint="Remove the string part of the model"
        )
    return numpy_helper.to_array(tensor)


def _tensor(name: str, array: Array) -> TensorProto:
    """UINT64 in uint64_data and INT32 in int32_data, as ATC's and AMCT's readers expect; everything else as raw data."""
    if array.dtype == np.uint64:
        return helper.make_tensor(name, TensorProto.UINT64, array.shape, array.ravel().tolist())
    if array.dtype == np.int32:
        return helper.make_tensor(name, TensorProto.INT32, array.shape, array.ravel().tolist())
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def _clone(message: Any) -> Any:
    other = type(message)()
    other.CopyFrom(message)
    return other
