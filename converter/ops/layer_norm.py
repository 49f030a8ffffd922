# SPDX-License-Identifier: Apache-2.0
"""LayerNorm over the last axis; the rules stand in runtime_c/src/ops/layer_norm.c. ONNX LayerNormalization becomes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..shapes import axis_of
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register
from .binary import BinaryKind
from .reduce import ReduceKind
from .softmax import lane_sum
from .unary import UnaryKind

__all__ = ["LayerNorm"]

F = np.float32
_LENGTH_LIMIT = 65536


@register
class LayerNorm(Operator):
    """Inputs: x [...,n], gamma float32 [n], beta float32 [n]; the last two may be absent."""

    table = "LayerNorm"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """The input's shape."""
        x = inputs[0]
        assert x is not None
        if not x.shape or x.dtype not in (DType.FLOAT32, DType.INT8):
            raise ValueError(f"normalisation of {x.dtype.name.lower()}{list(x.shape)} is not supported")
        for t in inputs[1:3]:
            if t is not None and (t.shape != (x.shape[-1],) or t.dtype != DType.FLOAT32):
                raise ValueError(f"scale or bias {t.dtype.name.lower()}{list(t.shape)} must be float32[{x.shape[-1]}]")
        return [(x.shape, x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """((x - mean) * (1 / sqrt(var + epsilon))) * gamma + beta."""
        x, gamma, beta = [*inputs, None, None][:3]
        assert x is not None
        n, epsilon = F(x.shape[-1]), F(node.params.get("epsilon", 1e-5))
        with np.errstate(all="ignore"):
            centred = x - lane_sum(x) / n
            variance = lane_sum(centred * centred) / n
            y = centred * (F(1) / np.sqrt(variance + epsilon))
        if gamma is not None:
            y = y * gamma
        if beta is not None:
            y = y + beta
        return [y.astype(F)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Int8 with a free output scale; gamma and beta stay float32."""
        length = graph.tensors[node.inputs[0]].shape[-1]
        if length > _LENGTH_LIMIT:
            return Quantisation(Scales.FLOAT, reason=f"a row of {length} values could overflow the sums (limit {_LENGTH_LIMIT})")
        return Quantisation(Scales.FREE)

    def int16_quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """A free output scale, for rows of any length."""
        return Quantisation(Scales.FREE)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Exact integer sums, then requantise((float(n*q - S) * r) * (gamma / s_out) + beta / s_out)."""
        x, gamma, beta = [*inputs, None, None][:3]
        out = outputs[0]
        assert x is not None
        assert x.scale is not None
        assert out.scale is not None
        codes = x.array.astype(np.int64)
        n, scale, s_out = codes.shape[-1], F(x.scale[0]), F(out.scale[0])
        total = codes.sum(axis=-1, keepdims=True)
        spread = (n * (codes * codes).sum(axis=-1, keepdims=True) - total * total).astype(F)
        epsilon = F(node.params.get("epsilon", 1e-5))
        root = np.sqrt((scale * scale) * spread + epsilon * (F(n) * F(n)))
        r = np.where(root > 0, scale / np.where(root > 0, root, F(1)), F(0))
        factor = (np.ones(n, F) if gamma is None else gamma.array) / s_out
        addend = (np.zeros(n, F) if beta is None else beta.array) / s_out
        value = ((n * codes - total).astype(F) * r) * factor + addend
        value = np.clip(value, F(-128 - out.zero_point), F(127 - out.zero_point))
        return [(np.rint(value).astype(np.int32) + out.zero_point).astype(np.int8)]

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Four operations per element."""
        return 4 * outputs[0].elements


def _flat_constant(ctx: Any, i: int, shape: tuple[int, ...]) -> str:
    """Scale or bias input ``i`` as one value per normalised element, or ``""``."""
    if not ctx.has_input(i):
        return ""
    data = ctx.constant(i)
    count = int(np.prod(shape))
    if data is not None:
        try:
            whole = np.broadcast_to(data, shape)
        except ValueError:
            ctx.fail(f"input {i} of shape {list(data.shape)} does not fit the normalised shape {list(shape)}")
        return str(ctx.input(i)) if data.shape == (count,) else str(ctx.const(np.ascontiguousarray(whole).reshape(-1), ctx.node.input[i]))
    if ctx.shape(i) != shape:
        ctx.fail(f"input {i} of shape {list(ctx.shape(i))} does not have the normalised shape {list(shape)}")
    return str(ctx.input(i) if len(shape) == 1 else ctx.reshape(ctx.input(i), (count,)))


@onnx_op("LayerNormalization")
def _layer_normalization(ctx: Any) -> None:
    shape = ctx.shape(0)
    if not shape:
        ctx.fail("a scalar cannot be normalised")
    axis = axis_of(ctx, ctx.attr("axis", -1), len(shape))
    inner = shape[axis:]
    gamma, beta = _flat_constant(ctx, 1, inner), _flat_constant(ctx, 2, inner)
    x = ctx.input(0)
    flat = x if len(inner) == 1 else ctx.reshape(x, (*shape[:axis], int(np.prod(inner))))
    inputs = [flat, gamma, beta] if beta else [flat, gamma]
    y = ctx.emit("LayerNorm", inputs, {"epsilon": float(ctx.attr("epsilon", 1e-5))})
    y = y if len(inner) == 1 else ctx.reshape(y, shape)
    ctx.finish(y, *(_statistics(ctx, x, axis) if any(ctx.node.output[1:]) else ()))


def _statistics(ctx: Any, x: str, axis: int) -> tuple[str, str]:
    """The outputs Mean and InvStdDev = 1 / sqrt(mean((x - Mean)^2) + epsilon)."""
    average = {"kind": int(ReduceKind.MEAN), "axes": list(range(axis, ctx.rank(0))), "keep_dims": True}
    mean = ctx.emit("Reduce", [x], average)
    centred = ctx.emit("Binary", [x, mean], {"kind": int(BinaryKind.SUB)})
    variance = ctx.emit("Reduce", [ctx.emit("Binary", [centred, centred], {"kind": int(BinaryKind.MUL)})], average)
    epsilon = ctx.const(np.float32(ctx.attr("epsilon", 1e-5)), "epsilon")
    root = ctx.emit("Unary", [ctx.emit("Binary", [variance, epsilon], {"kind": int(BinaryKind.ADD)})], {"kind": int(UnaryKind.SQRT)})
    return mean, ctx.emit("Unary", [root], {"kind": int(UnaryKind.RECIPROCAL)})
