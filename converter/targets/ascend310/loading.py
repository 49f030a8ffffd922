# SPDX-License-Identifier: Apache-2.0
"""Read an ONNX model for the Ascend target: the trust boundary of this target's model files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...errors import ConvertError
from .onnx_graph import OnnxGraph

__all__ = ["check_interface", "load_model", "to_float32"]

_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def load_model(model: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """A model with its weights in memory.

    External data is read only from inside the model's own folder.

    Raises:
        ConvertError: missing or unreadable file, not ONNX, external data outside the folder, control flow ATC does not have.
    """
    if isinstance(model, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    path = Path(model)
    if not path.is_file():
        raise ConvertError("no such file", rule="model.missing", where=str(path), hint="Give the path of an .onnx file")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise ConvertError(
            "this is not an ONNX model",
            rule="model.parse",
            where=str(path),
            hint="Export the network to ONNX (MindSpore: file_format='ONNX')",
        ) from error
    if not proto.graph.node:
        raise ConvertError("the model has no nodes", rule="model.empty", where=str(path), hint="The file may be truncated; export it again")
    root = path.resolve().parent
    for tensor in _tensors(proto):
        for entry in tensor.external_data:
            if entry.key == "location" and not (root / entry.value).resolve().is_relative_to(root):
                raise ConvertError(
                    f"external data {entry.value!r} lies outside the model's folder",
                    rule="model.external",
                    where=tensor.name,
                    hint="Keep the data beside the model",
                )
    try:
        onnx.load_external_data_for_model(proto, str(root))
    except Exception as error:
        raise ConvertError(
            f"external data cannot be read: {error}", rule="model.external", where=str(path), hint="Keep the data files beside the model"
        ) from error
    return proto


def _tensors(model: onnx.ModelProto) -> list[TensorProto]:
    out = list(model.graph.initializer)
    for node in model.graph.node:
        out += [attribute.t for attribute in node.attribute if attribute.HasField("t")]
    return out


def check_interface(graph: OnnxGraph) -> None:
    """ATC needs at least one input and output (E16001), tensors only, and numbers only."""
    if not graph.inputs or not graph.outputs:
        raise ConvertError(
            "the model has no input or no output", rule="model.interface", hint="ATC stops with E16001; export the model with both"
        )
    for value in [*graph.inputs, *graph.outputs]:
        if not value.type.HasField("tensor_type"):
            raise ConvertError(
                "sequences, maps and optionals have no form on the chip",
                rule="model.interface",
                where=value.name,
                hint="Export plain tensors",
            )


def to_float32(graph: OnnxGraph, notes: list[str]) -> None:
    """Turn float16, bfloat16 and float64 into float32: weights, casts, constants of attributes, inputs and outputs.

    The chip computes in float16 whatever the model says, and a mixed model disables layers in ATC's own quantiser.

    Raises:
        ConvertError: a float64 weight beyond float32's range.
    """
    changed = 0

    def convert(array: np.ndarray, name: str) -> np.ndarray:  # type: ignore[type-arg]
        nonlocal changed
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        if kind not in _HALF:
            return array
        changed += 1
        with np.errstate(over="ignore"):
            out = array.astype(np.float32)
        if np.isinf(out).sum() != np.isinf(array.astype(np.float64)).sum():
            raise ConvertError("a float64 value does not fit float32", rule="model.range", where=name, hint="Rescale the weight")
        return out

    graph.inits = {name: convert(array, name) for name, array in graph.inits.items()}
    for node in graph.nodes:
        for attribute in node.attribute:
            if (
                node.op_type in ("Cast", "RandomNormal", "RandomUniform", "EyeLike")
                and attribute.name in ("to", "dtype")
                and attribute.i in _HALF
            ):
                attribute.i = TensorProto.FLOAT
                changed += 1
            if attribute.HasField("t") and attribute.t.data_type in _HALF:
                attribute.t.CopyFrom(numpy_helper.from_array(convert(numpy_helper.to_array(attribute.t), node.name), attribute.t.name))
    for value in [*graph.inputs, *graph.outputs]:
        if value.type.tensor_type.elem_type in _HALF:
            notes.append(f"{value.name}: {TensorProto.DataType.Name(value.type.tensor_type.elem_type)} became FLOAT")
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            changed += 1
    if changed:
        notes.append(f"{changed} float16, bfloat16 or float64 tensors became float32; the chip computes in float16 by itself")
