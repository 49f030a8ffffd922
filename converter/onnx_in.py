# SPDX-License-Identifier: Apache-2.0
"""ONNX to Graph: the host's trust boundary. What comes out of `load` is checked, has static shapes and only known operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from .errors import ConvertError
from .graph import DType, Graph, Node, Tensor
from .onnx_clean import clean, expand_functions
from .onnx_node import Import, NodeImport, file_array
from .onnx_qdq import HANDLERS as QDQ_HANDLERS
from .onnx_qdq import codes_output, expand_qlinear, follow
from .onnx_read import OPSETS, array_of, check, check_weights, fix_shapes, opset_of, read
from .ops.base import Handler, import_handlers

__all__ = ["NodeImport", "load"]

_INPUT_TYPES: dict[int, DType] = {
    onnx.TensorProto.FLOAT: DType.FLOAT32,
    onnx.TensorProto.FLOAT16: DType.FLOAT32,
    onnx.TensorProto.BFLOAT16: DType.FLOAT32,
    onnx.TensorProto.DOUBLE: DType.FLOAT32,
    onnx.TensorProto.INT32: DType.INT32,
    onnx.TensorProto.INT64: DType.INT64,
    onnx.TensorProto.BOOL: DType.BOOL,
    onnx.TensorProto.UINT8: DType.UINT8,
    onnx.TensorProto.INT8: DType.INT8,
}
_NARROWED = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
_BY_NAME = {dtype.name.lower(): dtype for dtype in DType}
_LARGEST = 2**31 - 1
_SUBGRAPHS = ("If", "Loop", "Scan", "SequenceMap")
_DYNAMIC_QUANTISATION = ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


def load(model: str | Path | onnx.ModelProto, *, input_shape: Mapping[str, tuple[int, ...]] | None = None) -> Graph:
    """Read an ONNX model into a Graph.

    Args:
        model: file, or a model in memory that holds its weights.
        input_shape: shapes of inputs by name, where the model leaves dimensions free. A free batch dimension becomes 1 by itself.

    Returns:
        The graph, before any pass; ``metadata["warnings"]`` lists the remarks for the user.

    Raises:
        ConvertError: the file cannot be read or the model cannot be converted; the message lists every node concerned.
    """
    remarks: list[str] = []
    proto, where = read(model)
    dynamic = fix_shapes(proto, input_shape)
    opset = opset_of(proto)
    if opset > OPSETS[1]:
        remarks.append(
            f"opset {opset} is newer than {OPSETS[1]}, the newest that this version knows; compare the result with the float model"
        )
    proto = check(proto, where, remarks)
    check_weights(proto)
    proto = clean(proto, remarks)
    proto = expand_functions(proto, lambda op_type: _handler(op_type) is not None, remarks)
    expand_qlinear(proto)
    _check_operators(proto)
    graph = _import(proto, opset_of(proto), remarks)
    graph.dynamic_batch = dynamic
    graph.metadata["warnings"] = remarks
    return graph


def _handler(op_type: str) -> Handler | None:
    return QDQ_HANDLERS.get(op_type) or import_handlers().get(op_type)


def _check_operators(proto: onnx.ModelProto) -> None:
    """ConvertError that lists every node whose operator is not supported, each with what to do."""
    versions = {o.domain: o.version for o in proto.opset_import}
    errors = []
    for number, node in enumerate(proto.graph.node):
        if node.domain in ("", "ai.onnx") and _handler(node.op_type) is not None:
            continue
        name = node.name or f"{node.op_type}_{number}"
        domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
        version = versions.get(node.domain, versions.get("ai.onnx" if node.domain == "" else "", 0))
        errors.append(
            ConvertError(
                f"operator {domain}{node.op_type} (opset {version}) is not supported",
                rule="onnx.unsupported",
                where=f"{node.op_type} node '{name}'",
                hint=_advice(node, domain),
            )
        )
    if errors:
        raise _together(errors)


def _advice(node: onnx.NodeProto, domain: str) -> str:
    """What a user can do about an unsupported node."""
    if domain == "com.microsoft.":
        return "This is an operator of onnxruntime; convert the model from before onnxruntime optimised or quantised it"
    if domain:
        return "Export the model with operators of the standard ONNX domain only"
    if node.op_type in _SUBGRAPHS:
        return "Control flow is not supported: export the model with a fixed path (tracing, constant conditions)"
    if node.op_type in _DYNAMIC_QUANTISATION:
        return "This model is quantised dynamically; convert the float model it was made from"
    return "Replace it by supported operators before the export, or cut the model before this node"


def _import(proto: onnx.ModelProto, opset: int, remarks: list[str]) -> Graph:
    """Turn a clean model with static shapes into a Graph, node by node."""
    state = Import(Graph(), warnings=remarks)
    errors: list[ConvertError] = []
    lost = _add_values(state, proto.graph, errors)
    for number, node in enumerate(proto.graph.node):
        if lost.intersection(node.input):
            lost.update(node.output)
            continue
        try:
            follow(state, node)
            _import_node(state, node, opset, node.name or f"{node.op_type}_{number}")
        except ConvertError as error:
            errors.append(error)
            lost.update(node.output)
    if errors:
        raise _together(errors)
    for value in proto.graph.output:
        _bind_output(state, value.name, opset)
    _name_outputs(state, [value.name for value in proto.graph.output])
    state.graph.prune()
    state.graph.check()
    _check_tensors(state.graph)
    return state.graph


def _check_tensors(graph: Graph) -> None:
    """ConvertError for tensors that the file format cannot hold."""
    used = {name for node in graph.nodes for name in (*node.inputs, *node.outputs) if name} | set(graph.inputs)
    for name in sorted(used):
        tensor = graph.tensors[name]
        if any(d < 1 for d in tensor.shape):
            raise ConvertError(
                f"it has shape {list(tensor.shape)}; tensors without elements are not supported",
                rule="onnx.shape",
                where=f"tensor '{name}'",
                hint="Remove it from the model",
            )
        if tensor.bytes > _LARGEST:
            raise ConvertError(
                f"shape {list(tensor.shape)} takes {tensor.bytes} bytes; the limit is {_LARGEST}",
                rule="onnx.size",
                where=f"tensor '{name}'",
                hint="Choose a smaller --input-shape",
            )
        if tensor.dtype is DType.INT8 and not tensor.constant:
            raise ConvertError(
                "computing with plain int8 numbers is not supported",
                rule="onnx.type",
                where=f"tensor '{name}'",
                hint="Use int32, or int8 codes between QuantizeLinear and DequantizeLinear",
            )


def _import_node(state: Import, node: onnx.NodeProto, opset: int, name: str) -> None:
    ctx = NodeImport(state, node, opset, name)
    handler = _handler(node.op_type)
    assert handler is not None
    try:
        handler(ctx)
    except (ValueError, IndexError, KeyError, TypeError, ArithmeticError) as error:
        raise ConvertError(
            f"its attributes or inputs do not fit together ({type(error).__name__}: {error})",
            rule="onnx.node",
            where=ctx.where,
            hint="Check the node, or export the model again",
        ) from error
    if not ctx.finished:
        raise AssertionError(f"the handler of {node.op_type} did not finish")


def _add_values(state: Import, graph: onnx.GraphProto, errors: list[ConvertError]) -> set[str]:
    """Initialisers and inputs; gives back the names of those that cannot be read."""
    lost: set[str] = set()
    for node in graph.node:
        state.reserved.update(name for name in (*node.input, *node.output) if name)
    for initialiser in graph.initializer:
        try:
            raw = array_of(initialiser, f"constant '{initialiser.name}'")
            data = file_array(raw, f"constant '{initialiser.name}'")
        except ConvertError as error:
            lost.add(initialiser.name)
            errors.append(error)
            continue
        state.raw_types[initialiser.name] = raw.dtype.name
        state.graph.add(Tensor(initialiser.name, data.shape, _BY_NAME[data.dtype.name], data))
        state.names[initialiser.name] = initialiser.name
    for value in graph.input:
        if value.name not in state.names and value.name not in lost:
            _add_input(state, value)
    return lost


def _add_input(state: Import, value: onnx.ValueInfoProto) -> None:
    kind = value.type.tensor_type.elem_type
    dtype = _INPUT_TYPES.get(kind)
    if dtype is None:
        name = onnx.TensorProto.DataType.Name(kind).lower()
        raise ConvertError(
            f"its type {name} is not supported",
            rule="onnx.input",
            where=f"input '{value.name}'",
            hint="Export the model with float32, int32, int64, uint8, int8 or bool inputs",
        )
    if kind in _NARROWED:
        state.warnings.append(f"input '{value.name}' is {onnx.TensorProto.DataType.Name(kind).lower()} in the model and float32 here")
    shape = tuple(int(d.dim_value) for d in value.type.tensor_type.shape.dim)
    state.graph.add(Tensor(value.name, shape, dtype))
    state.graph.inputs.append(value.name)
    state.names[value.name] = value.name


def _bind_output(state: Import, output: str, opset: int) -> None:
    """Make sure that a node writes the output: codes are computed, inputs and constants copied, shared values duplicated."""
    name = state.names[output]
    if output in state.codes:
        ctx = NodeImport(state, onnx.NodeProto(op_type="QuantizeLinear", output=[output]), opset, output)
        name = codes_output(state, name, state.codes[output], ctx.emit)
    tensor = state.graph.tensors[name]
    if tensor.constant or name in state.graph.inputs or name in state.graph.outputs:
        copy = state.fresh(f"{output}.copy")
        state.graph.add(
            Tensor(copy, tensor.shape, tensor.dtype, scale=None if tensor.constant else tensor.scale, zero_point=tensor.zero_point)
        )
        state.graph.nodes.append(Node("Reshape", [name], [copy], {}, output))
        name = copy
    state.graph.outputs.append(name)


def _name_outputs(state: Import, wanted: list[str]) -> None:
    """Give the graph's outputs the names of the model."""
    for position, name in enumerate(wanted):
        current = state.graph.outputs[position]
        if current == name:
            continue
        if name in state.graph.tensors:
            state.graph.rename(name, state.fresh(f"{name}.inner"))
        state.graph.rename(current, name)


def _together(errors: list[ConvertError]) -> ConvertError:
    """One error that lists all."""
    if len(errors) == 1:
        return errors[0]
    lines = "\n".join(f"  - {error}" for error in errors)
    rules = {error.rule for error in errors}
    return ConvertError(f"{len(errors)} problems:\n{lines}", rule=rules.pop() if len(rules) == 1 else "onnx.nodes")
