# SPDX-License-Identifier: Apache-2.0
"""Models that come quantised with QuantizeLinear/DequantizeLinear: their factors are read, the pairs are removed, the rest stays float."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ...errors import ConvertError
from .onnx_graph import OnnxGraph, attributes

__all__ = ["QdqFactors", "by_layer", "extract"]

Array = npt.NDArray[Any]
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass
class QdqFactors:
    """Factors of one layer as the QDQ model has them.

    Attributes:
        scale_d: activation scale; offset_d: int8 zero point (a uint8 one minus 128).
        scale_w: weight scales, one or one per output channel.
    """

    scale_d: np.float32
    offset_d: int
    scale_w: Array


@dataclass
class _Found:
    """What the pairs said, by value name."""

    activation: dict[tuple[str, int], tuple[np.float32, int]] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.activation or self.weights)


def _scale_zero(graph: OnnxGraph, node: onnx.NodeProto) -> tuple[Array, Array]:
    scale = graph.inits.get(node.input[1])
    zero = graph.inits.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if scale is None or (len(node.input) > 2 and node.input[2] and zero is None):
        raise ConvertError(
            "scale or zero point is computed at run time", rule="qdq.constant", where=node.name, hint="Quantise with static factors"
        )
    if zero is None:
        zero = np.zeros(scale.shape, dtype=np.uint8 if node.op_type == "QuantizeLinear" else np.int8)
    if zero.dtype not in (np.int8, np.uint8, np.int32):
        raise ConvertError(
            f"{zero.dtype} codes are not 8-bit", rule="qdq.type", where=node.name, hint="The chip takes int8 layers; quantise to 8 bits"
        )
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ConvertError("scales must be positive and finite", rule="qdq.scale", where=node.name, hint="Quantise the model again")
    return scale.astype(np.float32), zero


def _dequantised(graph: OnnxGraph, node: onnx.NodeProto, found: _Found) -> Array:
    """A constant DequantizeLinear: its float values; weight scales are remembered."""
    codes = graph.inits[node.input[0]]
    scale, zero = _scale_zero(graph, node)
    axis = attributes(node).get("axis", 1)
    if scale.size > 1:
        shape = [1] * codes.ndim
        shape[axis] = -1
        scale_b, zero_b = scale.reshape(shape), zero.reshape(shape)
    else:
        scale_b, zero_b = scale.reshape(()), zero.reshape(())
    if codes.dtype in (np.int8, np.uint8):
        middle = 128 if codes.dtype == np.uint8 else 0
        if np.all(zero.astype(np.int32) == middle):
            found.weights[node.output[0]] = scale.ravel()
    values: Array = (codes.astype(np.int32) - zero_b.astype(np.int32)).astype(np.float32) * scale_b
    return values


def extract(graph: OnnxGraph, notes: list[str]) -> _Found:
    """Remove all Q/DQ nodes in place.

    Constants behind DequantizeLinear become float weights. Q->DQ pairs on activations are bypassed; their factors are kept for the
    layers they feed. Pairs elsewhere (in front of Add, pooling ...) are dropped: the chip computes those in float16.

    Raises:
        ConvertError: Q and DQ of a pair disagree, factors that are not constant, codes that are not 8-bit, QOperator models.
    """
    found = _Found()
    if not any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.nodes):
        return found
    producers = graph.producers()
    keep, replace, dropped = [], {}, 0
    for node in graph.nodes:
        if node.op_type == "DequantizeLinear" and node.input[0] in graph.inits:
            graph.inits[node.output[0]] = _dequantised(graph, node, found)
        elif node.op_type == "DequantizeLinear":
            maker = producers.get(node.input[0])
            if maker is None or maker.op_type != "QuantizeLinear":
                raise ConvertError(
                    "DequantizeLinear without QuantizeLinear in front",
                    rule="qdq.pair",
                    where=node.name,
                    hint="Only QDQ models with pairs are accepted",
                )
            scale, zero = _scale_zero(graph, node)
            other_scale, other_zero = _scale_zero(graph, maker)
            if scale.size != 1 or not np.array_equal(scale, other_scale) or not np.array_equal(zero.astype(int), other_zero.astype(int)):
                raise ConvertError(
                    "the factors of a Quantize/Dequantize pair differ or are not one per tensor",
                    rule="qdq.pair",
                    where=node.name,
                    hint="Quantise again",
                )
            offset = int(zero.ravel()[0]) - (128 if zero.dtype == np.uint8 else 0)
            source = replace.get(maker.input[0], maker.input[0])
            replace[node.output[0]] = source
            for reader, index in graph.consumers().get(node.output[0], []):
                if reader.op_type in _LAYERS and index == 0:
                    found.activation[(reader.name, index)] = (np.float32(scale.ravel()[0]), offset)
                else:
                    dropped += 1
        elif node.op_type == "QuantizeLinear":
            readers = graph.consumers().get(node.output[0], [])
            if node.output[0] in graph.output_names() or any(reader.op_type != "DequantizeLinear" for reader, _ in readers):
                raise ConvertError(
                    "QuantizeLinear without DequantizeLinear behind",
                    rule="qdq.pair",
                    where=node.name,
                    hint="Only QDQ models with pairs are accepted",
                )
        else:
            keep.append(node)
    graph.nodes = keep
    for node in keep:
        for index, name in enumerate(node.input):
            node.input[index] = replace.get(name, name)
    _keep_outputs(graph, replace)
    graph.drop_unused()
    graph.sort()
    notes.append(f"QDQ model: factors of {len(found.activation)} layer inputs and {len(found.weights)} weights taken over")
    if dropped:
        notes.append(f"{dropped} Quantize/Dequantize pairs in front of other operators removed; the chip computes those in float16")
    return found


def _keep_outputs(graph: OnnxGraph, replace: dict[str, str]) -> None:
    """A graph output that was a DequantizeLinear keeps its name through an Identity."""
    for value in graph.outputs:
        if value.name in replace:
            graph.nodes.append(
                onnx.helper.make_node("Identity", [replace[value.name]], [value.name], name=graph.fresh(f"{value.name}_identity"))
            )


def by_layer(graph: OnnxGraph, found: _Found) -> dict[str, QdqFactors]:
    """Factors of each layer of the prepared graph that has both an activation pair and quantised weights.

    Preparation may have renamed or transposed the weights; scales are matched by the name the prepared weights derive from.
    """
    out: dict[str, QdqFactors] = {}
    for node in graph.nodes:
        activation = found.activation.get((node.name, 0))
        if node.op_type not in _LAYERS or activation is None:
            continue
        origin = max((name for name in found.weights if node.input[1].startswith(name)), key=len, default=None)
        if origin is None:
            continue
        out[node.name] = QdqFactors(activation[0], activation[1], found.weights[origin])
    return out
