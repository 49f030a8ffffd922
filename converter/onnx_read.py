# SPDX-License-Identifier: Apache-2.0
"""Read an ONNX file and check it: size, syntax, opset, external data, weights, input shapes. Nothing here knows operators."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from google.protobuf.message import DecodeError

from .errors import ConvertError

__all__ = ["OPSETS", "array_of", "check", "check_weights", "fix_shapes", "opset_of", "read"]

OPSETS = (9, 21)
"""Oldest and newest opset that the import handlers were written for."""

_LIMIT = 2**31 - 1
_LARGE = 1 << 14
"""Elements of initialisers whose data the checker does not get."""
_DOMAINS = ("", "ai.onnx")
_MASKED = ("Add", "Where", "Clip", "Pad", "Max", "Min", "Expand", "Concat", "Slice", "Gather", "Unsqueeze", "Reshape", "Cast", "Identity")
"""Operators that may read a constant with infinities in it: masks."""
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Mul", "PRelu", "LayerNormalization")
"""Operators that may not even read one infinite number."""


def read(model: str | Path | onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The model with all its weights inside, and how messages name it.

    Raises:
        ConvertError: the file is missing, unreadable or not ONNX, or its external data lies elsewhere.
    """
    if isinstance(model, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(model)
        where = "model"
        folder: Path | None = None
    else:
        path = Path(model)
        where = str(path)
        proto = _parse(path)
        folder = path.parent
    if not proto.HasField("graph") or not proto.graph.node:
        raise ConvertError("this is not an ONNX model: it has no graph", rule="onnx.parse", where=where, hint="Check the file")
    if not any(o.domain in _DOMAINS for o in proto.opset_import):
        raise ConvertError("the model does not say which ONNX operator set it uses", rule="onnx.opset", where=where, hint="Export it again")
    if proto.graph.sparse_initializer:
        raise ConvertError("sparse initialisers are not supported", rule="onnx.sparse", where=where, hint="Export dense weights")
    _load_external(proto, folder, where)
    return proto, where


def check(proto: onnx.ModelProto, where: str, remarks: list[str]) -> onnx.ModelProto:
    """The model, correct by ONNX's own checker and of a supported opset; ``remarks`` gets what the user should know.

    Raises:
        ConvertError: the checker rejects the model, or it is too old.
    """
    # The checker wants a shape of every output, runtimes do not: give it one for this moment.
    types = [v.type.tensor_type for v in proto.graph.output if v.type.HasField("tensor_type")]
    shapeless = [kind for kind in types if not kind.HasField("shape")]
    for kind in shapeless:
        kind.shape.SetInParent()
    try:
        onnx.checker.check_model(_light(proto))
    except (onnx.checker.ValidationError, ValueError, RuntimeError, TypeError) as error:
        first = str(error).strip().splitlines()
        raise ConvertError(
            f"the ONNX checker rejects the model: {first[0].rstrip('.') if first else type(error).__name__}",
            rule="onnx.checker",
            where=where,
            hint="Export the model again, or run onnx.checker.check_model on it for the whole report",
        ) from error
    for kind in shapeless:
        kind.ClearField("shape")
    return _raise_opset(proto, where, remarks)


def _light(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model for the checker, which would make two more copies of it: raw data of large initialisers, into which it does not
    look, is left out (`check_weights` reads all of them)."""
    result = onnx.ModelProto()
    _copy_fields(proto, result, "graph")
    _copy_fields(proto.graph, result.graph, "initializer")
    for tensor in proto.graph.initializer:
        fields = {field.name for field, _ in tensor.ListFields()}
        raw = fields <= {"dims", "data_type", "name", "raw_data", "doc_string"} and "raw_data" in fields
        if raw and tensor.data_type != onnx.TensorProto.STRING and math.prod(tensor.dims) > _LARGE:
            result.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=[0])
        else:
            result.graph.initializer.append(tensor)
    return result


def _copy_fields(source: Any, target: Any, but: str) -> None:
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if hasattr(value, "extend"):  # repeated
            getattr(target, field.name).extend(value)
        elif field.type == field.TYPE_MESSAGE:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def array_of(tensor: onnx.TensorProto, label: str) -> np.ndarray[Any, Any]:
    """Content of a tensor; ConvertError when its type is unknown or its bytes do not fit its shape."""
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise ConvertError(
            f"its content cannot be read ({type(error).__name__}: {error})", rule="onnx.tensor", where=label, hint="Export the model again"
        ) from error


def _raise_opset(proto: onnx.ModelProto, where: str, remarks: list[str]) -> onnx.ModelProto:
    """A model older than the oldest supported opset, converted by ONNX's own version converter."""
    opset = opset_of(proto)
    if opset >= OPSETS[0]:
        return proto
    try:
        result = onnx.version_converter.convert_version(proto, OPSETS[0])
        onnx.checker.check_model(result)
    except (onnx.checker.ValidationError, RuntimeError, ValueError, TypeError) as error:
        raise ConvertError(
            f"opset {opset} is too old; {OPSETS[0]} to {OPSETS[1]} are supported, and onnx.version_converter cannot raise this model",
            rule="onnx.opset",
            where=where,
            hint="Export the model with opset 17",
        ) from error
    remarks.append(f"opset {opset} is older than {OPSETS[0]}; the model was raised to it by onnx.version_converter")
    return result


def opset_of(proto: onnx.ModelProto) -> int:
    """Version of the default operator set."""
    return max((int(o.version) for o in proto.opset_import if o.domain in _DOMAINS), default=1)


def fix_shapes(proto: onnx.ModelProto, input_shape: Mapping[str, tuple[int, ...]] | None) -> bool:
    """Give every graph input a static shape, in place: the batch dimension becomes 1, others come from ``input_shape``.

    Returns:
        Whether the model's batch dimension was free.

    Raises:
        ConvertError: an unknown input name, a shape that contradicts the model, or free dimensions without a value.
    """
    wanted = dict(input_shape or {})
    constants = {i.name for i in proto.graph.initializer}
    inputs = [v for v in proto.graph.input if v.name not in constants]
    names = [v.name for v in inputs]
    for name in wanted:
        if name not in names:
            raise ConvertError(
                f"the model has no input '{name}'",
                rule="input_shape.name",
                where="--input-shape",
                hint=f"Its inputs are {', '.join(names)}",
            )
    symbols: dict[str, int] = {}
    dynamic = any(_batch(value) for value in inputs)
    for value in inputs:
        _apply(value, wanted.get(value.name), symbols)
    for value in inputs:
        if _batch(value) and (symbol := _symbol(_dims(value)[0])) not in symbols:
            _dims(value)[0].dim_value = 1
            if symbol:
                symbols[symbol] = 1
    free = [text for value in inputs if (text := _free(value, symbols))]
    if free:
        raise ConvertError(
            f"these inputs have free dimensions: {'; '.join(free)}",
            rule="input_shape.missing",
            where="--input-shape",
            hint="Give each a shape, such as " + " ".join(f"--input-shape {_example(v)}" for v in inputs if _free(v, symbols)),
        )
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        if value.type.HasField("tensor_type"):
            for dim in value.type.tensor_type.shape.dim:
                dim.Clear()
    return dynamic


def check_weights(proto: onnx.ModelProto) -> None:
    """ConvertError that names the first constant with NaN, or with an infinity where it cannot be meant."""
    readers: dict[str, set[str]] = {}
    constants: dict[str, onnx.TensorProto] = {t.name: t for t in proto.graph.initializer}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    constants[node.output[0]] = attribute.t
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
    for name, tensor in constants.items():
        if tensor.data_type not in floats:
            continue
        with np.errstate(invalid="ignore"):
            array = array_of(tensor, f"constant '{name}'").astype(np.float64)
        hint = "The trained weights are damaged; export the model again from a good checkpoint"
        if np.isnan(array).any():
            where = np.argwhere(np.isnan(array))[0].tolist()
            raise ConvertError(f"NaN at index {where}", rule="weights.nan", where=f"constant '{name}'", hint=hint)
        if np.isinf(array).any() and not _infinity_is_meant(array, readers.get(name, set())):
            where = np.argwhere(np.isinf(array))[0].tolist()
            raise ConvertError(f"infinity at index {where}", rule="weights.inf", where=f"constant '{name}'", hint=hint)


def _infinity_is_meant(array: np.ndarray[Any, Any], readers: set[str]) -> bool:
    """A limit (one number) or a mask (nothing but one infinity and finite numbers of one value) of an operator that can use it."""
    if array.size == 1:
        return not readers.intersection(_WEIGHTED)
    return readers.issubset(_MASKED) and np.unique(array).size <= 2


def _parse(path: Path) -> onnx.ModelProto:
    where = str(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ConvertError("this is not a file", rule="onnx.file", where=where, hint="Give the .onnx file itself")
        if size > _LIMIT:
            raise ConvertError(
                f"the file has {size} bytes; protobuf ends at 2 GiB", rule="onnx.size", where=where, hint="Save it with external data"
            )
        content = path.read_bytes()
    except OSError as error:
        raise ConvertError(f"cannot be read: {error.strerror or error}", rule="onnx.file", where=where, hint="Check the path") from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        raise ConvertError(
            "this is not an ONNX model, or it is damaged (protobuf cannot parse it)",
            rule="onnx.parse",
            where=where,
            hint="Check the file, or export it again",
        ) from error
    return proto


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the graph, in nodes' attributes and their subgraphs too."""
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        yield from current.initializer
        for node in current.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _load_external(proto: onnx.ModelProto, folder: Path | None, where: str) -> None:
    """Copy external data into the model; it may lie only inside the model's own folder, symbolic links resolved."""
    for tensor in _tensors(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        label = f"external data of '{tensor.name}'"
        if folder is None:
            raise ConvertError(
                "a model in memory must hold its weights", rule="onnx.external", where=label, hint="Load them, or give the path"
            )
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        data = _external_bytes(folder, location, entries, label)
        need = _bytes_of(tensor)
        if need is not None and len(data) != need:
            raise ConvertError(
                f"'{location}' gives {len(data)} bytes, the tensor needs {need}",
                rule="onnx.external",
                where=label,
                hint=f"The data file does not belong to {where}",
            )
        tensor.raw_data = data
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _external_bytes(folder: Path, location: str, entries: Mapping[str, str], label: str) -> bytes:
    root = folder.resolve()
    target = (root / location).resolve()
    if not location or os.path.isabs(location) or not target.is_relative_to(root) or target == root:
        raise ConvertError(
            f"location '{location}' lies outside the model's folder",
            rule="onnx.external",
            where=label,
            hint="Keep the data beside the model",
        )
    try:
        offset = int(entries.get("offset", "0") or 0)
        length = int(entries["length"]) if entries.get("length") else None
        if offset < 0 or (length is not None and length < 0):
            raise ValueError
    except ValueError as error:
        raise ConvertError("offset or length is not a number", rule="onnx.external", where=label, hint="Export the model again") from error
    try:
        with target.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if offset > size or (length is not None and offset + length > size):
                raise ConvertError(
                    f"'{location}' has {size} bytes, the model wants up to {offset + (length or 0)}",
                    rule="onnx.external",
                    where=label,
                    hint="The data file is cut short or belongs to another model",
                )
            file.seek(offset)
            return file.read() if length is None else file.read(length)
    except OSError as error:
        raise ConvertError(
            f"'{location}' cannot be read: {error.strerror or error}", rule="onnx.external", where=label, hint="Copy it beside the model"
        ) from error


def _bytes_of(tensor: onnx.TensorProto) -> int | None:
    """Bytes of the raw data, None for types narrower than a byte."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if kind.name in ("int4", "uint4", "int2", "uint2", "float4_e2m1fn"):
        return None
    return int(np.prod(tensor.dims, dtype=np.int64)) * int(kind.itemsize)


def _dims(value: onnx.ValueInfoProto) -> list[onnx.TensorShapeProto.Dimension]:
    return list(value.type.tensor_type.shape.dim)


def _symbol(dim: onnx.TensorShapeProto.Dimension) -> str:
    """Name of a free dimension; ``""`` when the model only says that it is unknown."""
    name = str(dim.dim_param)
    return name if re.search(r"\w", name) and name.lower() not in ("none", "unknown", "dynamic", "-1") else ""


def _apply(value: onnx.ValueInfoProto, shape: tuple[int, ...] | None, symbols: dict[str, int]) -> None:
    """Write the user's shape into the input and remember what its symbols stand for."""
    label = f"input '{value.name}'"
    if not value.type.HasField("tensor_type"):
        raise ConvertError("only tensor inputs are supported", rule="onnx.input", where=label, hint="Export the model without sequences")
    if not value.type.tensor_type.HasField("shape"):
        if shape is None:
            raise ConvertError(
                "the model does not say its shape", rule="input_shape.missing", where=label, hint=f"Give --input-shape {value.name}:..."
            )
        for _ in shape:
            value.type.tensor_type.shape.dim.add()
    if shape is None:
        return
    dims = _dims(value)
    if len(shape) != len(dims) or any(int(s) < 1 for s in shape):
        raise ConvertError(
            f"the shape {list(shape)} does not fit {_text(value)}",
            rule="input_shape.rank",
            where=f"--input-shape for {label}",
            hint="Give one positive number per dimension",
        )
    for dim, size in zip(dims, shape, strict=True):
        if dim.dim_value > 0 and dim.dim_value != size:
            raise ConvertError(
                f"the model fixes its shape to {_text(value)}, not {list(shape)}",
                rule="input_shape.fixed",
                where=f"--input-shape for {label}",
                hint="Only free dimensions can be chosen",
            )
        if (symbol := _symbol(dim)) and symbols.setdefault(symbol, int(size)) != size:
            raise ConvertError(
                f"dimension '{symbol}' is given as {symbols[symbol]} and as {size}",
                rule="input_shape.conflict",
                where="--input-shape",
                hint="The model uses one size for both",
            )
        dim.dim_value = int(size)


def _batch(value: onnx.ValueInfoProto) -> bool:
    """Whether the first dimension is free and means the batch."""
    dims = _dims(value)
    if not dims or dims[0].dim_value > 0:
        return False
    symbol = _symbol(dims[0])
    if re.search(r"batch|^n$|^b$", symbol, re.IGNORECASE):
        return True
    return len(dims) > 1 and not re.search(r"seq|time|len|height|width|frame|token|sample", symbol, re.IGNORECASE)


def _free(value: onnx.ValueInfoProto, symbols: Mapping[str, int]) -> str:
    """The input with its free dimensions as text, ``""`` when there is none; known symbols are filled in."""
    free = False
    for dim in _dims(value):
        if dim.dim_value < 1 and _symbol(dim) in symbols:
            dim.dim_value = symbols[_symbol(dim)]
        free = free or dim.dim_value < 1
    return f"'{value.name}' {_text(value)}" if free else ""


def _text(value: onnx.ValueInfoProto) -> str:
    return "[" + ", ".join(str(d.dim_value) if d.dim_value > 0 else d.dim_param or "?" for d in _dims(value)) + "]"


def _example(value: onnx.ValueInfoProto) -> str:
    return f"{value.name}:" + ",".join(str(d.dim_value) if d.dim_value > 0 else "<size>" for d in _dims(value))
