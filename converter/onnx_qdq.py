# SPDX-License-Identifier: Apache-2.0
"""Models that are quantised already: QuantizeLinear and DequantizeLinear pairs keep their scales.

An activation between Q and DQ stays a float tensor of the graph that carries ``scale`` and ``zero_point``; the quantiser takes them
instead of calibrating. A constant before DQ becomes its real numbers, and the importer remembers the scale so that a linear
operator's weights get their codes back (`NodeImport.emit`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from .errors import ConvertError
from .graph import DType
from .onnx_node import Import, NodeImport, WeightGrid
from .ops.base import Array

__all__ = ["HANDLERS", "MOVES", "Codes", "codes_output", "expand_qlinear", "follow"]

MOVES = frozenset(
    {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather", "Split", "MaxPool"}
    | {"DepthToSpace", "SpaceToDepth", "Expand", "Tile"}
)
"""Operators that only move codes: they may stand between QuantizeLinear and DequantizeLinear."""

_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}
_POSITIVE = {"Softmax"}
_LINEAR = {"Conv2D", "DepthwiseConv2D", "ConvTranspose2D", "FullyConnected", "MatMul", "Binary"}


@dataclass(frozen=True)
class Codes:
    """The quantised form of a float tensor of the graph.

    Attributes:
        scale: of one code, float32.
        zero_point: in the model's own code type.
        dtype: the model's code type, ``"int8"`` or ``"uint8"``; another type means that the scale is not taken over.
    """

    scale: float
    zero_point: int
    dtype: str

    @property
    def shifted(self) -> int:
        """Zero point of the int8 codes: uint8 codes move by 128."""
        return self.zero_point - 128 if self.dtype == "uint8" else self.zero_point


def _parameters(ctx: NodeImport) -> tuple[Array, Array, str]:
    """Scale, zero point (same shape) and name of the code type."""
    scale = np.asarray(ctx.require_constant(1, "the scale"), np.float32)
    if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        ctx.fail("a scale is not a positive number", "Export the quantised model again")
    kind = ctx.raw_type(2) if ctx.has_input(2) else "uint8"
    zero = np.asarray(ctx.require_constant(2, "the zero point")) if ctx.has_input(2) else np.zeros_like(scale)
    if kind.startswith("float"):
        ctx.fail(f"{kind} codes are not supported", "Quantise the model to int8 or uint8")
    return scale, np.broadcast_to(zero.astype(np.int64), scale.shape), kind


def _along(values: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    """Scale or zero point of every element: per tensor, per index of ``axis``, or per block of ``block`` indices."""
    if values.size == 1:
        return values.reshape(())
    if block:
        return np.repeat(values, block, axis=axis)[tuple(slice(0, n) for n in shape)]
    return values.reshape([-1 if a == axis else 1 for a in range(len(shape))])


def quantize_linear(ctx: NodeImport) -> None:
    """QuantizeLinear: bind the codes' name to the float tensor, and remember what the codes are."""
    scale, zero, kind = _parameters(ctx)
    if not ctx.has_input(2) and ctx.attr("output_dtype", 0):
        kind = onnx.helper.tensor_dtype_to_np_dtype(ctx.attr("output_dtype")).name
    out = ctx.node.output[0]
    data = ctx.constant(0)
    if data is not None:
        low, high = _RANGES.get(kind, (-(2**15), 2**15 - 1))
        axis = ctx.attr("axis", 1) % max(data.ndim, 1)
        s, z = (_along(v, data.shape, axis, ctx.attr("block_size", 0)) for v in (scale, zero))
        codes = np.clip(np.rint(data.astype(np.float32) / s) + z, low, high)
        name = ctx.const((codes - z).astype(np.float32) * s.astype(np.float32), out)
        ctx.state.grids[out] = WeightGrid(scale)
        ctx.finish(name)
    else:
        if scale.size > 1:
            ctx.warn("per-channel scales of an activation are not taken over; it is calibrated instead")
            kind = "float32"
        name = ctx.input(0)
        ctx.finish(name)
    ctx.state.codes[out] = Codes(float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]), kind)


def dequantize_linear(ctx: NodeImport) -> None:
    """DequantizeLinear of codes, of a constant, or of an integer input of the model."""
    scale, zero, kind = _parameters(ctx)
    source = ctx.node.input[0]
    out = ctx.node.output[0]
    if source in ctx.state.codes:
        _from_codes(ctx, ctx.state.codes[source], scale, zero, kind)
        return
    data = ctx.constant(0)
    if data is None:
        if ctx.dtype(0) is DType.INT8 and scale.size == 1 and ctx.input(0) in ctx.graph.inputs:
            _int8_input(ctx, scale, zero)
        else:
            _from_integers(ctx, scale, zero)
        return
    axis = ctx.attr("axis", 1) % max(data.ndim, 1)
    block = int(ctx.attr("block_size", 0))
    kind = ctx.raw_type(0)
    if kind in ("uint8", "uint4") and not ctx.has_input(2):
        zero = np.zeros_like(scale, np.int64)
    s, z = (_along(v, data.shape, axis, block) for v in (scale, zero))
    real = ((data.astype(np.int64) - z).astype(np.float32) * s).astype(np.float32)
    centre = 128 if kind == "uint8" else 0
    if kind in _RANGES and not block and np.all(zero == centre):
        ctx.state.grids[out] = WeightGrid(scale)
    elif kind in _RANGES and data.ndim > 1:
        ctx.warn(f"'{source}' has asymmetric or block-wise weights; they are taken as float and quantised again")
    ctx.finish(ctx.const(real, out))


def _from_codes(ctx: NodeImport, codes: Codes, scale: Array, zero: Array, kind: str) -> None:
    """Mark the float tensor behind the codes with their scale and let the result be that tensor."""
    name = ctx.input(0)
    tensor = ctx.tensor(name)
    if tensor.constant:
        ctx.state.grids[ctx.node.output[0]] = ctx.state.grids[ctx.node.input[0]]
        ctx.finish(name)
        return
    if codes.dtype == "float32":
        ctx.finish(name)
        return
    if scale.size != 1 or float(scale.reshape(-1)[0]) != codes.scale or int(zero.reshape(-1)[0]) != codes.zero_point:
        ctx.fail("its scale or zero point differs from those of the QuantizeLinear before it", "Use one scale for both")
    if codes.dtype not in _RANGES:
        ctx.warn(f"{codes.dtype} codes of '{ctx.node.input[0]}' are not taken over; the tensor is calibrated instead")
        ctx.finish(name)
        return
    if codes.shifted == -128 and not _not_negative(ctx, name):
        name = _clipped(ctx, name, codes)
        tensor = ctx.tensor(name)
    if tensor.scale is not None and (float(tensor.scale[0]) != codes.scale or tensor.zero_point != codes.shifted):
        name = ctx.emit("Unary", [name], {"kind": 0})
        tensor = ctx.tensor(name)
    tensor.scale = np.array([codes.scale], np.float32)
    tensor.zero_point = codes.shifted
    ctx.finish(name)


def _clipped(ctx: NodeImport, name: str, codes: Codes) -> str:
    """Codes that start at real zero act as a ReLU, which quantisers rely on: they leave the ReLU itself out."""
    for node in ctx.graph.nodes:
        if node.op == "Unary" and node.params.get("kind") == 1 and node.inputs == [name]:
            return node.outputs[0]
    return str(ctx.emit("Unary", [name], {"kind": 1, "alpha": 0.0, "beta": float(np.float32(codes.scale) * np.float32(255))}))


def _not_negative(ctx: NodeImport, name: str) -> bool:
    """Whether the value cannot be below zero, so that codes from zero on clip nothing."""
    producer = ctx.state.producer(name)
    while producer is not None and producer.op in ("Transpose", "Reshape", "Slice", "Pool2D"):
        producer = ctx.state.producer(producer.inputs[0])
    if producer is None:
        return True  # a graph input: its range is the user's
    if producer.op == "Unary":
        kind = producer.params.get("kind", 0)
        return kind in (4, 5, 12, 14, 15) or (kind == 1 and float(producer.params.get("alpha", 0.0)) >= 0)
    if producer.op in _POSITIVE:
        return True
    return producer.op not in _LINEAR


def _int8_input(ctx: NodeImport, scale: Array, zero: Array) -> None:
    """An int8 input of the model takes real numbers here; its scale is known, so ``io="int8"`` gives the codes back."""
    tensor = ctx.tensor(ctx.input(0))
    tensor.dtype, tensor.scale, tensor.zero_point = DType.FLOAT32, scale.reshape(1).astype(np.float32), int(zero.reshape(-1)[0])
    ctx.warn(f"input '{tensor.name}' takes real numbers instead of int8 codes; --io int8 takes the codes")
    ctx.finish(tensor.name)


def _from_integers(ctx: NodeImport, scale: Array, zero: Array) -> None:
    """Codes that come from outside (an integer input of the model): (q - zero) * scale as ordinary operators."""
    name = ctx.emit("Cast", [ctx.input(0)], result=(ctx.shape(0), DType.FLOAT32))
    axis = ctx.attr("axis", 1) % max(ctx.rank(0), 1)
    s, z = (_along(v, ctx.shape(0), axis, 0) for v in (scale, zero))
    if np.any(z):
        name = ctx.emit("Binary", [name, ctx.const(np.asarray(z, np.float32))], {"kind": 1})
    ctx.finish(ctx.emit("Binary", [name, ctx.const(np.asarray(s, np.float32))], {"kind": 2}))


def codes_output(state: Import, name: str, codes: Codes, emit: Any) -> str:
    """Integer codes as an output of the model: cast(clamp(round(x / scale) + zero)) as ordinary operators.

    Args:
        state: the import.
        name: float tensor behind the codes.
        codes: its quantised form.
        emit: `NodeImport.emit` of a node to name in messages.
    """
    if codes.dtype != "uint8":
        raise ConvertError(
            f"{codes.dtype} codes cannot be an output of the model",
            rule="onnx.qdq",
            where=f"output '{name}'",
            hint="Put a DequantizeLinear before the output; --io int8 gives codes",
        )
    scale = state.graph.constant(np.array(codes.scale, np.float32), state.fresh(f"{name}.scale"))
    zero = state.graph.constant(np.array(codes.zero_point, np.float32), state.fresh(f"{name}.zero_point"))
    value = emit("Binary", [name, scale], {"kind": 3})
    value = emit("Unary", [value], {"kind": 21})
    value = emit("Binary", [value, zero], {"kind": 0})
    value = emit("Unary", [value], {"kind": 1, "alpha": 0.0, "beta": 255.0})
    return str(emit("Cast", [value], result=(state.graph.tensors[name].shape, DType.UINT8)))


def follow(state: Import, node: onnx.NodeProto) -> None:
    """Before a node is imported: codes may only be moved; its results are codes of the same scale then.

    Raises:
        ConvertError: the node computes with integer codes.
    """
    codes = [state.codes[name] for name in node.input if name in state.codes]
    if not codes or node.op_type in HANDLERS:
        return
    same = all(c == codes[0] for c in codes)
    if node.op_type in MOVES or (node.op_type == "Concat" and same and len(codes) == len(node.input)):
        for output in node.output:
            if output:
                state.codes[output] = codes[0]
        return
    raise ConvertError(
        "it computes with the integer codes of QuantizeLinear",
        rule="onnx.qdq",
        where=f"{node.op_type} node '{node.name}'",
        hint="Put a DequantizeLinear before it (QDQ format)",
    )


HANDLERS = {"QuantizeLinear": quantize_linear, "DequantizeLinear": dequantize_linear}
"""Import handlers that the importer calls itself, because they work on names and scales rather than on operators."""


def expand_qlinear(proto: onnx.ModelProto) -> None:
    """Write QLinearConv and QLinearMatMul as DequantizeLinear, the float operator, QuantizeLinear; in place."""
    constants = {t.name: t for t in proto.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in ("QLinearConv", "QLinearMatMul"):
            nodes.append(node)
            continue
        nodes.extend(_expand(proto, node, constants))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _expand(proto: onnx.ModelProto, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> list[onnx.NodeProto]:
    label = node.output[0]
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.input[:8]
    make = onnx.helper.make_node
    axis = 0 if node.op_type == "QLinearConv" else 1
    result = [
        make("DequantizeLinear", [x, x_scale, x_zero], [f"{label}.x"], name=f"{node.name}.x"),
        make("DequantizeLinear", [w, w_scale, w_zero], [f"{label}.w"], name=f"{node.name}.w", axis=axis),
    ]
    inputs = [f"{label}.x", f"{label}.w"]
    if len(node.input) > 8 and node.input[8]:
        if x_scale not in constants or w_scale not in constants:
            raise ConvertError("its scales are not constants", rule="onnx.node", where=f"{node.op_type} node '{node.name}'")
        scale = onnx.numpy_helper.to_array(constants[x_scale]).reshape(-1) * onnx.numpy_helper.to_array(constants[w_scale]).reshape(-1)
        scale = scale.reshape(()) if scale.size == 1 else scale
        proto.graph.initializer.append(onnx.numpy_helper.from_array(scale.astype(np.float32), f"{label}.bias_scale"))
        result.append(make("DequantizeLinear", [node.input[8], f"{label}.bias_scale"], [f"{label}.bias"], name=f"{node.name}.bias", axis=0))
        inputs.append(f"{label}.bias")
    real = make("Conv" if axis == 0 else "MatMul", inputs, [f"{label}.y"], name=node.name)
    real.attribute.extend(node.attribute)
    result.append(real)
    result.append(make("QuantizeLinear", [f"{label}.y", y_scale, y_zero], [label], name=f"{node.name}.y"))
    return result
