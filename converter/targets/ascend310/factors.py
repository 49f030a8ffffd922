# SPDX-License-Identifier: Apache-2.0
"""Quantisation factors of layers, and how they are read from the record file of AMCT and written to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format

from ...errors import ConvertError
from . import schemas_pb2
from .layers import Layer

__all__ = ["Factors", "Quantised", "TensorFactors", "read_record", "record_rules", "write_record"]

Array = npt.NDArray[Any]
_SCALE_MIN, _SCALE_MAX = float(np.finfo(np.float64).eps), 1.0 / float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Factors:
    """What a record holds of one layer: activation scale and offset, float32 weight scales (one or one per output channel)."""

    scale_d: np.float32
    offset_d: int
    scale_w: Array


@dataclass(frozen=True)
class TensorFactors:
    """Scale and offset of a tensor_quantize entry: input ``index`` of the node ``name``."""

    name: str
    index: int
    scale_d: np.float32
    offset_d: int


@dataclass(frozen=True)
class Quantised:
    """A layer with its factors and integer constants.

    Attributes:
        weights: int8, the layout of the float weights; None for AveragePool.
        bias: int32 [channels], or None.
    """

    layer: Layer
    factors: Factors
    weights: Array | None
    bias: Array | None


def record_rules(key: str, value: Any, channels: int | None) -> list[str]:
    """Violations of AMCT's rules in one SingleLayerRecord; ``channels`` None skips the length rule."""
    out = []
    if not value.HasField("scale_d") or not value.HasField("offset_d"):
        out.append("scale_d or offset_d is missing")
    scales = ([value.scale_d] if value.HasField("scale_d") else []) + list(value.scale_w)
    if any(not (math.isfinite(s) and _SCALE_MIN <= s <= _SCALE_MAX) for s in scales):
        out.append("a scale is not positive, finite and in float32's useful range")
    if not -128 <= value.offset_d <= 127:
        out.append(f"offset_d {value.offset_d} is outside -128 to 127")
    if not value.is_tensor_quantize:
        if not value.scale_w or not value.offset_w:
            out.append("scale_w or offset_w is missing")
        if any(value.offset_w):
            out.append("an offset_w is not 0")
        if len(value.scale_w) != len(value.offset_w):
            out.append(f"{len(value.scale_w)} scale_w but {len(value.offset_w)} offset_w")
        if channels is not None and len(value.scale_w) not in (1, channels):
            out.append(f"{len(value.scale_w)} scale_w; the layer takes 1 or {channels}")
    if any(value.shift_bit):
        out.append("shift_bit is not 0")
    return [f"{key}: {text}" for text in out]


def write_record(layers: Sequence[Quantised], tensors: Sequence[TensorFactors] = ()) -> str:
    """NET_record.txt. Only fields that every AMCT release knows are written."""
    message = schemas_pb2.ScaleOffsetRecord()
    for entry in layers:
        record = message.record.add()
        record.key = entry.layer.name
        record.value.scale_d = float(entry.factors.scale_d)
        record.value.offset_d = entry.factors.offset_d
        record.value.scale_w.extend(float(s) for s in entry.factors.scale_w)
        record.value.offset_w.extend([0] * entry.factors.scale_w.size)
    for tensor in tensors:
        record = message.record.add()
        record.key = f"{tensor.name}:{tensor.index}"
        record.value.scale_d, record.value.offset_d = float(tensor.scale_d), tensor.offset_d
        record.value.is_tensor_quantize = True
    return str(text_format.MessageToString(message))


def read_record(text: str, layers: Sequence[Layer], where: str) -> dict[str, Factors]:
    """Factors by layer name of a record file made for this model.

    Raises:
        ConvertError: not proto text of ScaleOffsetRecord, a key that is no quantisable layer of the model, factors that break a rule.
    """
    message = schemas_pb2.ScaleOffsetRecord()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ConvertError(f"cannot parse the record: {error}", rule="record.parse", where=where, hint="Give AMCT's record.txt") from error
    by_name: Mapping[str, Layer] = {layer.name: layer for layer in layers}
    problems, out = [], {}
    for record in message.record:
        layer = by_name.get(record.key)
        if record.value.is_tensor_quantize:
            problems.append(f"{record.key}: tensor_quantize records are not taken over; put them into the configuration")
        elif layer is None:
            problems.append(f"{record.key}: the model has no quantisable layer of this name")
        else:
            found = record_rules(record.key, record.value, layer.channels if layer.channel_wise else 1)
            if layer.symmetric_only and record.value.offset_d:
                found.append(f"{record.key}: offset_d must be 0 for this layer")
            problems += found
            out[record.key] = Factors(
                np.float32(record.value.scale_d), record.value.offset_d, np.array(record.value.scale_w, dtype=np.float32)
            )
    if not message.record:
        problems.append("it holds no layer")
    if problems:
        raise ConvertError(
            "the record does not fit the model:\n  " + "\n  ".join(problems[:20]) + "\n",
            rule="record.fit",
            where=where,
            hint="Record keys are layer names of the model that was calibrated; make the record from this very model",
        )
    return out
