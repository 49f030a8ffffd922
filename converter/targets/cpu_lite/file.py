# SPDX-License-Identifier: Apache-2.0
"""Graph to .e8 bytes: the 64-byte header and the FlatBuffer of schemas/model.fbs.

The same graph gives the same bytes: nothing here depends on time, hash order or paths.
"""

from __future__ import annotations

import json
import mmap
import re
import struct
from dataclasses import dataclass
from typing import IO, Any

import flatbuffers
import numpy as np

from ... import schema_generated
from ...crc32c import crc32c
from ...graph import DType, Graph, Node, Tensor
from ...linear import code_bits
from ...ops import operators
from .entropy import encode, worth_coding
from .plan import Plan, plan_arena

__all__ = ["HEADER_BYTES", "MAGIC", "write", "write_into"]

schema: Any = schema_generated
MAGIC = b"\x89EDGE8\r\n"
HEADER_BYTES = 64
FORMAT_MAJOR, FORMAT_MINOR = 1, 0
ABSENT = 0xFFFFFFFF
PRODUCER = "edge8 0.1.0"
_WEIGHT_ALIGNMENT = 64


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda m: m.group(1).upper(), name)


def _data_vector(builder: Any, data: bytes) -> int:
    """A [ubyte] vector whose bytes start at a multiple of 64 from the file's start; flatc's Python code ignores force_align."""
    builder.StartVector(1, len(data), _WEIGHT_ALIGNMENT)
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    builder.vectorNumElems = len(data)
    return int(builder.EndVector())


def _vector(builder: Any, values: Any, dtype: str) -> int:
    return int(builder.CreateNumpyVector(np.asarray(values, dtype=dtype)))


@dataclass(frozen=True)
class _Stored:
    """A constant's bytes as they are stored; entropy-coded ones have a size and a place once they are decoded."""

    data: bytes
    decoded: int = 0
    offset: int = 0


def _write_tensor(builder: Any, tensor: Tensor, stored: _Stored | None, plan: Plan, index_of: dict[str, int]) -> int:
    data = _data_vector(builder, stored.data) if stored is not None else None
    waits = tensor.scale is None and tensor.dtype in (DType.INT8, DType.INT16) and stored is None
    scale = np.zeros(1, "<f4") if waits else tensor.scale
    scale_at = None if scale is None else _vector(builder, np.ravel(scale), "<f4")
    shape = _vector(builder, tensor.shape, "<i4") if tensor.shape else None
    name = builder.CreateString(tensor.name)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    if shape is not None:
        schema.TensorAddShape(builder, shape)
    schema.TensorAddType(builder, int(tensor.dtype))
    if scale_at is not None:
        schema.TensorAddScale(builder, scale_at)
    if stored is None and scale_at is not None:
        # Calibration writes over it in place, so it must be there even when it is 0.
        builder.ForceDefaults(True)
        schema.TensorAddZeroPoint(builder, tensor.zero_point)
        builder.ForceDefaults(False)
        if tensor.share:
            schema.TensorAddShare(builder, 1 + index_of[tensor.share])
        if tensor.preset is not None:
            schema.TensorAddPresetScale(builder, tensor.preset[0])
            schema.TensorAddPresetZeroPoint(builder, tensor.preset[1])
    if data is not None:
        if scale_at is not None:
            schema.TensorAddZeroPoint(builder, tensor.zero_point)
        schema.TensorAddBits(builder, tensor.bits)
        schema.TensorAddGroup(builder, tensor.group)
        schema.TensorAddData(builder, data)
        if stored is not None and stored.decoded:
            schema.TensorAddOffset(builder, stored.offset)
            schema.TensorAddDecoded(builder, stored.decoded)
    else:
        place = plan.places[tensor.name]
        schema.TensorAddOffset(builder, place.offset)
        schema.TensorAddFirst(builder, place.first)
        schema.TensorAddLast(builder, place.last)
        if tensor.share:
            schema.TensorAddShare(builder, 1 + index_of[tensor.share])
        if tensor.preset is not None:
            schema.TensorAddPresetScale(builder, tensor.preset[0])
            schema.TensorAddPresetZeroPoint(builder, tensor.preset[1])
    return int(schema.TensorEnd(builder))


def _write_op(builder: Any, graph: Graph, node: Node, index_of: dict[str, int]) -> int:
    operator = operators()[node.op]
    inputs = [graph.tensors[name] if name else None for name in node.inputs]
    params = {**node.params, **operator.finish(node, inputs, [graph.tensors[name] for name in node.outputs])}
    table = getattr(schema, node.op + "T")()
    for key, value in params.items():
        if not hasattr(table, _camel(key)):
            raise ValueError(f"{node.op} has no field {key!r} in schemas/ops.fbs")
        if isinstance(value, bytes):
            value = np.frombuffer(value, "u1")
        setattr(table, _camel(key), value)
    packed = table.Pack(builder)
    name = builder.CreateString(node.name) if node.name else None
    ins = _vector(builder, [index_of[n] if n else ABSENT for n in node.inputs], "<u4")
    outs = _vector(builder, [index_of[n] for n in node.outputs], "<u4")
    schema.OpStart(builder)
    schema.OpAddParamsType(builder, getattr(schema.Params, node.op))
    schema.OpAddParams(builder, packed)
    schema.OpAddInputs(builder, ins)
    schema.OpAddOutputs(builder, outs)
    if name is not None:
        schema.OpAddName(builder, name)
    return int(schema.OpEnd(builder))


def _offsets(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _tensor_order(graph: Graph) -> list[str]:
    """Inputs, then tensors in the order in which the nodes mention them."""
    order = dict.fromkeys(graph.inputs)
    for node in graph.nodes:
        order.update(dict.fromkeys(name for name in node.inputs if name))
        order.update(dict.fromkeys(node.outputs))
    return list(order)


class _Constants:
    """Packs constants one at a time: a large model is in memory once more only in the file's own bytes."""

    def __init__(self, graph: Graph, entropy: str) -> None:
        self.graph, self.entropy = graph, entropy
        self.uses: dict[str, list[tuple[Node, int]]] = {}
        for node in graph.nodes:
            for position, name in enumerate(node.inputs):
                if name and graph.tensors[name].constant:
                    self.uses.setdefault(name, []).append((node, position))
        codable = (n for n in graph.nodes if len(n.inputs) > 1 and hasattr(operators()[n.op], "unpack"))
        self.weights = {n.inputs[1] for n in codable} if entropy != "off" else set()
        self.place = 0

    def _packed(self, name: str) -> bytes:
        """A constant that two operators want in different layouts is an error of the caller."""
        packed = (operators()[node.op].pack(node, position, self.graph.tensors[name]) for node, position in self.uses[name])
        data = next(packed)
        if any(other != data for other in packed):
            raise ValueError(f"constant {name!r} is used in two layouts; give each use a tensor of its own")
        return data

    def __call__(self, name: str) -> _Stored | None:
        """What is stored of a constant, weights entropy-coded where that is worth it; None for an activation. To be asked for in the
        order of the file."""
        if name not in self.uses:
            return None
        data = self._packed(name)
        bits = code_bits(self.graph.tensors[name]) if name in self.weights else 0
        if not bits or not worth_coding(data, bits, self.entropy):
            return _Stored(data)
        coded = encode(data, bits)
        if len(coded) >= len(data):  # `worth_coding` goes by an estimate
            return _Stored(data)
        place, self.place = self.place, self.place + -(-len(data) // _WEIGHT_ALIGNMENT) * _WEIGHT_ALIGNMENT
        return _Stored(coded, len(data), place)

    @property
    def most(self) -> int:
        """Bytes that hold all constants however they are packed: channels fill up to 16, inputs to 4."""
        return sum(256 + 64 * min(t.bytes, 1 << 16) + 4 * t.bytes for t in map(self.graph.tensors.__getitem__, self.uses))


def _builder(capacity: int) -> Any:
    """A FlatBuffer builder whose room becomes memory only where it is written.

    Raises:
        MemoryError: the system does not give so many addresses.
    """
    builder = flatbuffers.Builder(0)
    try:
        builder.Bytes = mmap.mmap(-1, capacity)
    except OSError as error:
        raise MemoryError(f"writing the model takes up to {capacity / 1e6:.0f} MB of memory, which the system refuses") from error
    builder.head = capacity
    return builder


def write(graph: Graph, entropy: str = "off") -> bytes:
    """The .e8 file of a graph.

    Args:
        graph: in execution order; every graph output is written by a node. INT8 activations without a scale make a
            weights-quantised file that calibration can complete.
        entropy: ``"off"``, ``"auto"`` or ``"on"``: which weights are stored entropy-coded.

    Returns:
        The whole file.
    """
    return bytes(_built(graph, entropy))


def write_into(graph: Graph, file: IO[bytes]) -> None:
    """As `write`, into an open file: the bytes are in memory once.

    Raises:
        OSError: the file does not take them.
    """
    file.write(_built(graph, "off"))


def _built(graph: Graph, entropy: str) -> memoryview:
    """The bytes of the file."""
    graph.check()
    order = _tensor_order(graph)
    index_of = {name: i for i, name in enumerate(order)}
    plan = plan_arena(graph)
    stored = _Constants(graph, entropy)
    builder = _builder((1 << 20) + 4096 * len(graph.nodes) + stored.most)
    tensors = [_write_tensor(builder, graph.tensors[name], stored(name), plan, index_of) for name in order]
    ops = [_write_op(builder, graph, node, index_of) for node in graph.nodes]
    tensor_vector, op_vector = _offsets(builder, tensors), _offsets(builder, ops)
    inputs = _vector(builder, [index_of[n] for n in graph.inputs], "<u4")
    outputs = _vector(builder, [index_of[n] for n in graph.outputs], "<u4")
    producer = builder.CreateString(PRODUCER)
    metadata = builder.CreateString(json.dumps(graph.metadata, sort_keys=True)) if graph.metadata else None
    schema.ModelStart(builder)
    schema.ModelAddTensors(builder, tensor_vector)
    schema.ModelAddOps(builder, op_vector)
    schema.ModelAddInputs(builder, inputs)
    schema.ModelAddOutputs(builder, outputs)
    schema.ModelAddArena(builder, plan.arena)
    schema.ModelAddProducer(builder, producer)
    schema.ModelAddDynamicBatch(builder, graph.dynamic_batch)
    if metadata is not None:
        schema.ModelAddMetadata(builder, metadata)
    model = schema.ModelEnd(builder)
    builder.Prep(1, HEADER_BYTES + 256)  # room for the header, and what Finish needs
    builder.Finish(model, b"EDG8")
    return _with_header(builder)


def _with_header(builder: Any, model_version: int = 0) -> memoryview:
    """The finished builder's bytes behind the header, which goes to the free room in front of them."""
    start = builder.Head() - HEADER_BYTES
    file = memoryview(builder.Bytes)[start:]
    checked = struct.pack("<HHQI", FORMAT_MAJOR, FORMAT_MINOR, len(file), model_version) + bytes(HEADER_BYTES - 28)
    file[12:HEADER_BYTES] = checked
    file[:12] = MAGIC + struct.pack("<I", crc32c(file[12:]))
    return file
