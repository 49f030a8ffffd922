# SPDX-License-Identifier: Apache-2.0
"""ONNX to Graph: the host's trust boundary. What comes out of `load` is checked, has static shapes and only known operators."""

from __future__ import annotations

from pathlib import Path

import onnx

from .errors import ConvertError
from .graph import DType, Graph, Node, Tensor
from .onnx_node import Import, NodeImport, file_array
from .ops.base import import_handlers

__all__ = ["NodeImport", "load"]

_TYPES = {
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


def load(model: str | Path | onnx.ModelProto, *, input_shape: dict[str, tuple[int, ...]] | None = None) -> Graph:
    """Read an ONNX model into a Graph.

    Args:
        model: file, or a model in memory.
        input_shape: shapes of inputs by name, where the model leaves dimensions free.

    Returns:
        The graph; ``metadata["warnings"]`` lists the remarks for the user.

    Raises:
        ConvertError: the file cannot be read or the model cannot be converted; the message lists every node concerned.
    """
    proto = model if isinstance(model, onnx.ModelProto) else onnx.load(str(model))
    opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)
    return import_model(proto, opset)


def import_model(proto: onnx.ModelProto, opset: int) -> Graph:
    """Turn a clean model with static shapes into a Graph, node by node."""
    state = Import(Graph())
    _add_values(state, proto.graph)
    errors: list[ConvertError] = []
    lost: set[str] = set()
    for number, node in enumerate(proto.graph.node):
        if lost.intersection(node.input):
            lost.update(node.output)
            continue
        try:
            _import_node(state, node, opset, node.name or f"{node.op_type}_{number}")
        except ConvertError as error:
            errors.append(error)
            lost.update(node.output)
    if errors:
        raise _together(errors)
    _bind_outputs(state, proto.graph)
    state.graph.prune()
    state.graph.check()
    state.graph.metadata["warnings"] = state.warnings
    return state.graph


def _import_node(state: Import, node: onnx.NodeProto, opset: int, name: str) -> None:
    ctx = NodeImport(state, node, opset, name)
    handler = import_handlers().get(node.op_type)
    if handler is None:
        ctx.fail(f"ONNX operator {node.op_type} (opset {opset}) is not supported", rule="onnx.unsupported")
    handler(ctx)
    if not ctx.finished:
        raise AssertionError(f"the handler of {node.op_type} did not finish")


def _add_values(state: Import, graph: onnx.GraphProto) -> None:
    """Initialisers and inputs."""
    for node in graph.node:
        state.reserved.update(name for name in (*node.input, *node.output) if name)
    for initialiser in graph.initializer:
        data = file_array(onnx.numpy_helper.to_array(initialiser), f"initialiser '{initialiser.name}'")
        state.graph.add(Tensor(initialiser.name, data.shape, DType[_TYPE_NAMES[data.dtype.name]], data))
        state.names[initialiser.name] = initialiser.name
    for value in graph.input:
        if value.name in state.names:
            continue
        kind = value.type.tensor_type
        shape = tuple(d.dim_value for d in kind.shape.dim)
        state.graph.add(Tensor(value.name, shape, _TYPES[kind.elem_type]))
        state.graph.inputs.append(value.name)
        state.names[value.name] = value.name


_TYPE_NAMES = {t.name.lower(): t.name for t in DType}


def _bind_outputs(state: Import, graph: onnx.GraphProto) -> None:
    """Give the graph's outputs the model's names; a copy where the value is an input, a constant or another output."""
    for value in graph.output:
        name = state.names[value.name]
        tensor = state.graph.tensors[name]
        if name != value.name or tensor.constant or name in state.graph.inputs:
            out = value.name if value.name not in state.graph.tensors else state.fresh(value.name)
            state.graph.add(Tensor(out, tensor.shape, tensor.dtype))
            state.graph.nodes.append(Node("Reshape", [name], [out], {}, value.name))
            name = out
        state.graph.outputs.append(name)


def _together(errors: list[ConvertError]) -> ConvertError:
    """One error that lists all."""
    if len(errors) == 1:
        return errors[0]
    lines = "\n".join(f"  - {error}" for error in errors)
    return ConvertError(f"{len(errors)} nodes cannot be converted:\n{lines}", rule="onnx.nodes")
