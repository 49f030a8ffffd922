# SPDX-License-Identifier: Apache-2.0
"""From any ONNX model to the float model ATC takes: the order of the steps, and what each one did."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from ...errors import ConvertError
from . import folding, fuse, loading, narrow, opset, qdq, readiness, rewrite
from .onnx_graph import OnnxGraph
from .profiles import Profile, apply_shapes

__all__ = ["Prepared", "prepare"]

OPSETS = (11, 12, 13)


@dataclass
class Prepared:
    """The ATC-ready float model.

    Attributes:
        graph: opset 11-13, inferred, fused, uniquely named.
        shapes: shape of each input, -1 where a profile decides.
        factors: quantisation factors found in a QDQ model by layer name (empty for a float model).
        is_qdq: the model came with QuantizeLinear/DequantizeLinear.
        notes: what was changed.
        warnings: what may go wrong on the board.
    """

    graph: OnnxGraph
    shapes: dict[str, list[int]]
    factors: dict[str, qdq.QdqFactors] = field(default_factory=dict)
    is_qdq: bool = False
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def prepare(
    model: str | Path | onnx.ModelProto,
    *,
    target_opset: int = 11,
    input_shape: Mapping[str, list[int]] | None = None,
    batch: int | None = None,
    profile: Profile | None = None,
    do_fusion: bool = True,
    skip_fusion: Collection[str] = (),
) -> Prepared:
    """Make a model ready for ATC.

    Raises:
        ConvertError: with every node that has no form ATC takes, or what is wrong with the shapes.
    """
    if target_opset not in OPSETS:
        raise ConvertError(f"opset {target_opset} is not offered", rule="opset.range", where="--opset", hint="Choose 11, 12 or 13")
    notes: list[str] = []
    proto = loading.load_model(model)
    if next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 1) < 11:
        proto = folding.raise_opset(proto, 11)
    graph = OnnxGraph(proto)
    functions = list(proto.functions)
    imports = [entry for entry in proto.opset_import if entry.domain not in ("", "ai.onnx")]
    loading.check_interface(graph)
    loading.to_float32(graph, notes)
    readiness.unique_names(graph)
    shapes = apply_shapes(graph, input_shape or {}, batch, profile, notes)
    found = qdq.extract(graph, notes)
    graph = _simplify(graph, functions, imports)
    readiness.raise_problems(opset.lower_opset(graph, target_opset) if _infer(graph) else [])
    graph = _simplify(graph, [], [])
    rewrite.rewrite(graph, notes)
    if do_fusion:
        graph.infer()
        readiness.unique_names(graph)
        _check_skip(graph, skip_fusion)
        notes += fuse.fuse(graph, skip_fusion)
    graph.infer()
    narrowed = narrow.narrow_int64(graph)
    if narrowed:
        notes.append(f"int64 values narrowed to int32: {narrowed}")
    graph = _simplify(graph, [], [])
    renamed = readiness.unique_names(graph)
    if renamed:
        notes.append(f"nodes named or renamed: {renamed}")
    _clear_output_shapes(graph)
    graph.infer()
    readiness.raise_problems(readiness.check_ready(graph, allow_dynamic=profile is not None))
    _set_output_shapes(graph)
    return Prepared(graph, shapes, qdq.by_layer(graph, found), bool(found), notes, readiness.engine_warnings(graph))


def _infer(graph: OnnxGraph) -> bool:
    graph.infer()
    return True


def _simplify(graph: OnnxGraph, functions: list[onnx.FunctionProto], imports: list[onnx.OperatorSetIdProto]) -> OnnxGraph:
    """Fold constants; the interface keeps its names and order."""
    _clear_output_shapes(graph)
    model = graph.to_model()
    model.functions.extend(functions)
    model.opset_import.extend(imports)
    simple = OnnxGraph(folding.fold(model))
    if [v.name for v in simple.inputs] != [v.name for v in graph.inputs] or [v.name for v in simple.outputs] != [
        v.name for v in graph.outputs
    ]:
        raise ConvertError("simplifying changed the model's inputs or outputs", rule="onnx.fold", hint="Please report this model")
    simple.ir_version = min(simple.ir_version, 8)
    return simple


def _clear_output_shapes(graph: OnnxGraph) -> None:
    """Declared output shapes may hold symbols of the old input shapes: let inference find them again."""
    for value in graph.outputs:
        value.type.tensor_type.ClearField("shape")


def _set_output_shapes(graph: OnnxGraph) -> None:
    for value in graph.outputs:
        kind, shape = graph.types.get(value.name, (0, None))
        if kind:
            value.type.tensor_type.elem_type = kind
        if shape is not None:
            del value.type.tensor_type.shape.dim[:]
            for index, size in enumerate(shape):
                dim = value.type.tensor_type.shape.dim.add()
                if isinstance(size, int):
                    dim.dim_value = size
                else:
                    dim.dim_param = size or f"{value.name}_d{index}"


def _check_skip(graph: OnnxGraph, skip: Collection[str]) -> None:
    names = {node.name for node in graph.nodes}
    for name in skip:
        if name not in names:
            raise ConvertError(
                f"the model has no layer {name!r}",
                rule="config.layer",
                where="skip_fusion_layers",
                hint="Layer names are ONNX node names; see report.json",
            )
