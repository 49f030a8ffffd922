# SPDX-License-Identifier: Apache-2.0
"""int64 -> int32 where ONNX allows it: ATC's kernels hold indices as int32, and mixing both stops ATC (E89999).

A value is narrowed when its producer can give int32 and every reader can take it. Slots that share a type variable of the
operator's schema are narrowed together or not at all; the largest consistent set is found by striking out what conflicts.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, defs, helper

from .onnx_graph import OnnxGraph, make_node

__all__ = ["narrow_int64"]

_INT32 = np.iinfo(np.int32)
# Operators whose result ONNX types as int64 although the chip's kernel gives int32: a Cast behind them brings them into line.
_CAST_BEHIND = {"TopK": 1, "ArgMax": 0, "ArgMin": 0, "NonMaxSuppression": 0}


def _slots(graph: OnnxGraph, node: onnx.NodeProto) -> list[tuple[str, str, bool]]:
    """(value, type variable, int32 allowed) for each input and output of a node."""
    schema = defs.get_schema(node.op_type, graph.opset, "")
    allowed = {entry.type_param_str: set(entry.allowed_type_strs) for entry in schema.type_constraints}
    out = []
    for names, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for index, name in enumerate(names):
            if name:
                kind = formals[min(index, len(formals) - 1)].type_str
                out.append((name, kind, "tensor(int32)" in allowed.get(kind, {kind})))
    return out


def narrow_int64(graph: OnnxGraph) -> int:
    """Narrow in place; returns the number of values changed. Needs ``graph.infer()`` before."""
    _cast_behind(graph)
    candidates = {name for name, (kind, _) in graph.types.items() if kind == TensorProto.INT64}
    candidates |= {output for node in graph.nodes for output in node.output if graph.elem_type(output) == TensorProto.INT64}
    candidates -= graph.output_names() | {value.name for value in graph.inputs}
    for name, array in graph.inits.items():
        beyond = name in candidates and array.size and (array.max() > _INT32.max or array.min() < _INT32.min)
        # Open ends of slices are written as the largest int64; int32's largest means the same.
        if beyond and not _only_slice_ends(graph, name):
            candidates.discard(name)
    slots = [(node, _slots(graph, node)) for node in graph.nodes]
    changed = True
    while changed:
        changed = False
        for node, entries in slots:
            for group in {kind for _, kind, _ in entries}:
                members = [(name, fits) for name, kind, fits in entries if kind == group and graph.elem_type(name) == TensorProto.INT64]
                if node.op_type == "Cast":
                    continue
                if any(not fits or name not in candidates for name, fits in members):
                    struck = {name for name, _ in members} & candidates
                    candidates -= struck
                    changed = changed or bool(struck)
    return _apply(graph, candidates)


def _only_slice_ends(graph: OnnxGraph, name: str) -> bool:
    return all(node.op_type == "Slice" and index in (1, 2) for node, index in graph.consumers().get(name, []))


def _cast_behind(graph: OnnxGraph) -> None:
    nodes, outputs = [], graph.output_names()
    for node in graph.nodes:
        nodes.append(node)
        index = _CAST_BEHIND.get(node.op_type)
        if index is None or len(node.output) <= index or not node.output[index] or node.output[index] in outputs:
            continue
        old = node.output[index]
        wide = graph.fresh(f"{old}_int64")
        node.output[index] = wide
        nodes.append(make_node("Cast", [wide], [old], graph.fresh(f"{node.name}_to_int32"), to=TensorProto.INT64))
        graph.types[wide] = graph.types.get(old, (TensorProto.INT64, None))
    graph.nodes = nodes


def _apply(graph: OnnxGraph, chosen: set[str]) -> int:
    for name in chosen & set(graph.inits):
        graph.inits[name] = np.clip(graph.inits[name], _INT32.min, _INT32.max).astype(np.int32)
    for node in graph.nodes:
        if node.op_type == "Cast" and node.output[0] in chosen:
            for attribute in node.attribute:
                if attribute.name == "to":
                    attribute.i = TensorProto.INT32
        if node.op_type == "ConstantOfShape" and node.output[0] in chosen:
            for attribute in node.attribute:
                if attribute.name == "value":
                    value = onnx.numpy_helper.to_array(attribute.t).astype(np.int32)
                    attribute.CopyFrom(helper.make_attribute("value", onnx.numpy_helper.from_array(value)))
    for name in chosen:
        if name in graph.types:
            graph.types[name] = (TensorProto.INT32, graph.types[name][1])
    return len(chosen)
