# SPDX-License-Identifier: Apache-2.0
"""FullyConnected, and the import of ONNX Gemm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..linear import (
    DEPTH_LIMIT,
    check_bias,
    clamp_float,
    code_bits,
    finish_int8,
    finish_int16,
    fused_multiply_add,
    pack_matrix,
    unpack_matrix,
)
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register
from .binary import BinaryKind

__all__ = ["FullyConnected"]


@register
class FullyConnected(Operator):
    """Inputs: x [...,K], weights [O,K], bias [O], weight_sum int32 [O], residual [...,O]; the last three may be absent."""

    int16 = True
    table = "FullyConnected"

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """``[...,O]``."""
        x, w = inputs[0], inputs[1]
        assert x is not None
        assert w is not None
        if len(x.shape) < 1 or len(w.shape) != 2 or x.shape[-1] != w.shape[1]:
            raise ValueError(f"input {list(x.shape)} and weights {list(w.shape)} do not fit together")
        check_bias(inputs, w.shape[0])
        return [((*x.shape[:-1], w.shape[0]), x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """clamp(x @ weights.T + bias + residual)."""
        x, w, bias, _, residual = [*inputs, None, None, None][:5]
        assert x is not None
        assert w is not None
        if node.params.get("dynamic", False):
            codes, scale = _row_codes(x)
            x = (codes * scale).astype(np.float32)
        y = np.matmul(x.astype(np.float64), w.astype(np.float64).T)
        if bias is not None:
            y = y + bias
        if residual is not None:
            y = y + residual
        return [clamp_float(y, node)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Int8 with a free output scale; the residual is a second activation."""
        depth = graph.tensors[node.inputs[1]].shape[1]
        if node.params.get("dynamic", False):
            return Quantisation(Scales.FLOAT, reason="its activations are quantised row by row at run time")
        if depth > DEPTH_LIMIT:
            return Quantisation(Scales.FLOAT, reason=f"{depth} products per output could overflow int32 (limit {DEPTH_LIMIT})")
        return Quantisation(Scales.FREE, data=(0, 4))

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The rules of runtime_c/src/ops/linear.h, and of fully_connected.c for the dynamic form."""
        x, w, bias, _, residual = [*inputs, None, None, None][:5]
        assert x is not None
        assert w is not None
        if node.params.get("dynamic", False):
            assert w.scale is not None
            whole, scale = _row_codes(x.array)
            sums = np.matmul(whole, w.array.astype(np.float64).T).astype(np.float32)
            y = fused_multiply_add(sums, scale * w.scale.astype(np.float32), np.zeros(1, np.float32) if bias is None else bias.array)
            return [clamp_float(y if residual is None else y + residual.array, node)]
        codes = x.array.astype(np.float64) - x.zero_point
        sums = np.matmul(codes, w.array.astype(np.float64).T)
        return [finish_int8(node, sums, x, w, None if bias is None else bias.array, residual, outputs[0], w.array.shape[1])]

    def int16_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The rules of runtime_c/src/ops/linear.h."""
        x, w, bias, _, residual = [*inputs, None, None, None][:5]
        assert x is not None
        assert w is not None
        sums = np.matmul(x.array.astype(np.float64), w.array.astype(np.float64).T)
        return [finish_int16(node, sums, x, w, None if bias is None else bias.array, residual, outputs[0])]

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Output elements times K."""
        assert inputs[1] is not None
        return outputs[0].elements * inputs[1].shape[1]

    def pack(self, node: Node, position: int, tensor: Tensor) -> bytes:
        """Weights: one packed matrix [O][K]."""
        if position != 1:
            return super().pack(node, position, tensor)
        assert tensor.data is not None
        return pack_matrix(tensor.data, code_bits(tensor))

    def unpack(self, node: Node, tensor: Tensor, data: bytes) -> Array:
        """The logical weights (float32, or codes as int16) from their stored bytes."""
        return unpack_matrix(data, tensor.shape[0], tensor.shape[1], code_bits(tensor))


def _row_codes(x: Array) -> tuple[Array, Array]:
    """Each row as the dynamic form sees it: code - zero point (float64), and its scale ``[..., 1]`` (float32)."""
    x = x.astype(np.float32)

    def extremes(limit: float) -> tuple[Array, Array]:
        plain = np.where(np.abs(x) < np.float32(limit), x, np.float32(0))
        return np.minimum(plain.min(axis=-1, keepdims=True), 0), np.maximum(plain.max(axis=-1, keepdims=True), 0)

    low, high = extremes(2.0**29)
    again = high - low < np.float32(2.0**-100)
    wide_low, wide_high = extremes(2.0**126)
    low, high = np.where(again, wide_low, low), np.where(again, wide_high, high)
    dead = high - low < np.float32(2.0**-100)
    span = np.where(dead, np.float32(1), high - low)
    inverse = np.float32(255) / span
    zero = np.rint(np.float32(-128) - low * inverse)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.nan_to_num(np.rint(x * inverse).astype(np.float64), nan=-np.inf)
    codes = np.clip(steps + zero, -128, 127) - zero
    return np.where(dead, 0, codes), np.where(dead, np.float32(0), span / np.float32(255)).astype(np.float32)


def row_bias(shape: tuple[int, ...], outputs: int) -> bool:
    """Whether a Gemm's C of this shape is the same for every row."""
    padded = (1, 1, *shape)[-2:]
    return len(shape) <= 2 and padded[0] == 1 and padded[1] in (1, outputs)


@onnx_op("Gemm")
def _gemm(ctx: Any) -> None:
    """Y = alpha * A' B' + beta * C."""
    alpha, beta = float(ctx.attr("alpha", 1.0)), float(ctx.attr("beta", 1.0))
    if ctx.rank(0) != 2 or ctx.rank(1) != 2:
        ctx.fail(f"inputs of shapes {list(ctx.shape(0))} and {list(ctx.shape(1))}: both must have rank 2")
    a = ctx.input(0)
    if ctx.attr("transA", 0):
        a = ctx.emit("Transpose", [a], {"perm": [1, 0]})
    b = ctx.constant(1)
    if b is None:
        y, bias_done = _variable_product(ctx, a, alpha), False
    else:
        y, bias_done = _constant_product(ctx, a, b, alpha, beta)
    if ctx.has_input(2) and not bias_done and beta != 0.0:
        c = ctx.input(2)
        if beta != 1.0:
            c = ctx.emit("Binary", [c, ctx.const(np.float32(beta), "beta")], {"kind": int(BinaryKind.MUL)})
        y = ctx.emit("Binary", [y, c], {"kind": int(BinaryKind.ADD)})
    ctx.finish(y)


def _variable_product(ctx: Any, a: str, alpha: float) -> str:
    y = ctx.emit("MatMul", [a, ctx.input(1)], {"transpose_b": bool(ctx.attr("transB", 0))})
    if alpha != 1.0:
        y = ctx.emit("Binary", [y, ctx.const(np.float32(alpha), "alpha")], {"kind": int(BinaryKind.MUL)})
    return str(y)


def _constant_product(ctx: Any, a: str, b: Array, alpha: float, beta: float) -> tuple[str, bool]:
    """The product, and whether C is part of it."""
    weights = b if ctx.attr("transB", 0) else b.T
    if alpha != 1.0:
        weights = weights * np.float32(alpha)
    inputs = [a, ctx.const(np.ascontiguousarray(weights, np.float32), f"{ctx.node.input[1]}_packed")]
    c = ctx.constant(2)
    done = c is not None and row_bias(c.shape, weights.shape[0])
    if c is not None and done and beta != 0.0:
        bias = np.broadcast_to(c.reshape(-1) * np.float32(beta), (weights.shape[0],))
        inputs.append(ctx.const(np.ascontiguousarray(bias, np.float32), f"{ctx.node.input[2]}_bias"))
    return str(ctx.emit("FullyConnected", inputs)), done
