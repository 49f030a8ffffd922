# SPDX-License-Identifier: Apache-2.0
"""MatMul of two activations, and the import of ONNX MatMul (a constant matrix on the right becomes FullyConnected)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..linear import clamp_float, code_bounds
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register, requantise, rne

__all__ = ["MatMul"]

_DEPTH_LIMIT = 32768


def _depth(a: Tensor) -> int:
    return a.shape[-1]


@register
class MatMul(Operator):
    """Inputs: a [...,M,K], b [...,K,N] or with ``transpose_b`` [...,N,K]; leading dimensions broadcast."""

    table = "MatMul"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """``[...,M,N]``."""
        a, b = inputs[0], inputs[1]
        assert a is not None
        assert b is not None
        if len(a.shape) < 2 or len(b.shape) < 2:
            raise ValueError(f"operands {list(a.shape)} and {list(b.shape)} must have rank 2 or more")
        k, n = (b.shape[-1], b.shape[-2]) if node.params.get("transpose_b", False) else (b.shape[-2], b.shape[-1])
        if a.shape[-1] != k:
            raise ValueError(f"operands {list(a.shape)} and {list(b.shape)} do not fit together")
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return [((*lead, a.shape[-2], n), a.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """clamp(a @ b)."""
        a, b = inputs[0], inputs[1]
        assert a is not None
        assert b is not None
        return [clamp_float(_product(node, a, b), node)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Two int8 activations and a free output scale."""
        depth = _depth(graph.tensors[node.inputs[0]])
        if depth > _DEPTH_LIMIT:
            return Quantisation(Scales.FLOAT, reason=f"{depth} products per output could overflow int32 (limit {_DEPTH_LIMIT})")
        return Quantisation(Scales.FREE, data=(0, 1))

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """requantise(sum (a - za) * (b - zb) * ((s_a * s_b) / s_out)), clamped to the activation's codes."""
        a, b = inputs[0], inputs[1]
        assert a is not None
        assert b is not None
        assert a.scale is not None
        assert b.scale is not None
        out = outputs[0]
        assert out.scale is not None
        acc = _product(node, a.array.astype(np.int32) - a.zero_point, b.array.astype(np.int32) - b.zero_point)
        multiplier = (np.float32(a.scale[0]) * np.float32(b.scale[0])) / np.float32(out.scale[0])
        low, high = code_bounds(node, out)
        return [requantise(np.rint(acc).astype(np.int32), multiplier, out.zero_point, low, high)]

    def int16_quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """As int8, for any depth."""
        return Quantisation(Scales.FREE, data=(0, 1))

    def int16_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """rne(clamp(acc * ((s_a * s_b) / s_out))), acc a chain of fused multiply-adds of the codes in float32."""
        a, b = inputs[0], inputs[1]
        assert a is not None
        assert b is not None
        assert a.scale is not None
        assert b.scale is not None
        out = outputs[0]
        assert out.scale is not None
        left, right = a.array.astype(np.float64), b.array.astype(np.float64)
        if node.params.get("transpose_b", False):
            right = right.swapaxes(-1, -2)
        acc = np.zeros(out.shape, np.float32)
        for k in range(left.shape[-1]):  # product and sum are exact in double precision
            acc = (left[..., :, k, None] * right[..., k, None, :] + acc).astype(np.float32)
        multiplier = (np.float32(a.scale[0]) * np.float32(b.scale[0])) / np.float32(out.scale[0])
        low, high = code_bounds(node, out)
        return [rne(np.clip(acc * multiplier, np.float32(low), np.float32(high))).astype(np.int16)]

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Output elements times K."""
        assert inputs[0] is not None
        return outputs[0].elements * _depth(inputs[0])


def _product(node: Node, a: Array, b: Array) -> Array:
    """a @ b in float64, exact for integers."""
    right = b.astype(np.float64)
    return np.asarray(np.matmul(a.astype(np.float64), right.swapaxes(-1, -2) if node.params.get("transpose_b", False) else right))


def _result(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of ``a @ b`` in numpy's sense; vectors lose their added axis again."""
    left, right = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    rows = () if len(a) == 1 else left[-2:-1]
    columns = () if len(b) == 1 else right[-1:]
    return (*np.broadcast_shapes(left[:-2], right[:-2]), *rows, *columns)


@onnx_op("MatMul")
def _mat_mul(ctx: Any) -> None:
    shape_a, shape_b = ctx.shape(0), ctx.shape(1)
    if not shape_a or not shape_b:
        ctx.fail(f"operands of shapes {list(shape_a)} and {list(shape_b)}: a scalar is not a matrix")
    if shape_a[-1] != shape_b[-2 if len(shape_b) > 1 else 0]:
        ctx.fail(f"operands {list(shape_a)} and {list(shape_b)} do not fit together")
    a, b = ctx.input(0), ctx.input(1)
    constant = ctx.constant(1)
    if constant is not None and len(shape_b) >= 2 and int(np.prod(shape_b[:-2])) == 1 and ctx.constant(0) is None:
        weights = np.ascontiguousarray(constant.reshape(shape_b[-2:]).T)
        y = ctx.emit("FullyConnected", [a, ctx.const(weights, f"{ctx.node.input[1]}_packed")])
    else:
        a = ctx.reshape(a, (1, *shape_a)) if len(shape_a) == 1 else a
        b = ctx.reshape(b, (*shape_b, 1)) if len(shape_b) == 1 else b
        y = ctx.emit("MatMul", [a, b])
    result = _result(shape_a, shape_b)
    ctx.finish(y if ctx.tensor(y).shape == result else ctx.reshape(y, result))
