# SPDX-License-Identifier: Apache-2.0
"""An .e8 file back to a Graph: what `write` wrote, with weights unpacked. For exports and tools; the runtime never needs it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from edge8 import Model

from ... import schema_generated
from ...graph import DType, Graph, Node, Tensor, numpy_dtype
from ...ops import operators
from .entropy import decode
from .file import ABSENT, HEADER_BYTES

__all__ = ["read"]

schema: Any = schema_generated


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda m: "_" + m.group(1).lower(), name)


def _tensor(table: Any, name: str) -> tuple[Tensor, bytes | None]:
    """A tensor without its data, and the stored bytes of a constant."""
    shape = tuple(int(n) for n in table.ShapeAsNumpy()) if not table.ShapeIsNone() else ()
    scale = np.array(table.ScaleAsNumpy(), np.float32) if not table.ScaleIsNone() else None
    stored = None if table.DataIsNone() else np.asarray(table.DataAsNumpy()).tobytes()
    if stored is not None and table.Decoded():
        stored = decode(stored, table.Bits() or 8, table.Decoded())
    if stored is None and scale is not None and not scale.any():
        scale = None  # waits for calibration
    tensor = Tensor(name, shape, DType(table.Type()), scale=scale, zero_point=table.ZeroPoint(), bits=table.Bits(), group=table.Group())
    if table.PresetScale():
        tensor.preset = (float(table.PresetScale()), int(table.PresetZeroPoint()))
    return tensor, stored


def _params(op: Any) -> tuple[str, dict[str, Any]]:
    """Operator and its parameters, all of them."""
    kind = {number: name for name, number in vars(schema.Params).items() if not name.startswith("_")}[op.ParamsType()]
    table = getattr(schema, kind)()
    source = op.Params()
    table.Init(source.Bytes, source.Pos)
    values = vars(getattr(schema, f"{kind}T").InitFromObj(table))
    return kind, {_snake(key): _plain(value) for key, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.astype(np.uint8).tobytes() if value.dtype.itemsize == 1 else value.tolist()
    return value


def _names(model: Any) -> list[str]:
    """Tensor names, made unique where a file repeats one."""
    seen: dict[str, int] = {}
    names = []
    for i in range(model.TensorsLength()):
        name = model.Tensors(i).Name().decode("utf-8", "replace")
        count = seen[name] = seen.get(name, -1) + 1
        names.append(f"{name}#{i}" if count else name)
    return names


def read(data: bytes) -> Graph:
    """The graph of an .e8 file.

    Args:
        data: the whole file; it is verified first.

    Returns:
        The graph; ``write`` of it gives the same file, but for entropy-coded weights. Constants are logical arrays, scales are as
        calibration left them.

    Raises:
        FormatError: the bytes are not a model that this version can run.
    """
    Model(data)
    model = schema.Model.GetRootAs(bytearray(data), HEADER_BYTES)
    names = _names(model)
    graph = Graph()
    stored: dict[str, bytes] = {}
    for i, name in enumerate(names):
        tensor, content = _tensor(model.Tensors(i), name)
        graph.add(tensor)
        if content is not None:
            stored[name] = content
        share = model.Tensors(i).Share()
        tensor.share = names[share - 1] if share else ""
    for i in range(model.OpsLength()):
        op = model.Ops(i)
        kind, params = _params(op)
        inputs = ["" if n == ABSENT else names[n] for n in op.InputsAsNumpy().tolist()]
        outputs = [names[n] for n in op.OutputsAsNumpy().tolist()]
        node = Node(kind, inputs, outputs, params, (op.Name() or b"").decode("utf-8", "replace"))
        for position, name in enumerate(inputs):
            if name in stored and graph.tensors[name].data is None:
                _fill(node, position, graph.tensors[name], stored[name])
        graph.nodes.append(node)
    graph.inputs = [names[n] for n in model.InputsAsNumpy().tolist()]
    graph.outputs = [names[n] for n in model.OutputsAsNumpy().tolist()]
    graph.dynamic_batch = bool(model.DynamicBatch())
    graph.metadata = json.loads(model.Metadata() or b"{}")
    return graph


def _fill(node: Node, position: int, tensor: Tensor, content: bytes) -> None:
    """Give a constant its logical array, as the operator that reads it packs it."""
    operator = operators()[node.op]
    unpack = getattr(operator, "unpack", None)
    if unpack is not None and position == 1:
        codes = unpack(node, tensor, content)
        tensor.data = np.ascontiguousarray(codes, numpy_dtype(tensor.dtype))
    else:
        tensor.data = np.frombuffer(content, numpy_dtype(tensor.dtype)).reshape(tensor.shape)
