# SPDX-License-Identifier: Apache-2.0
"""Unary: y = f(x). In int8 a table of 256 codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from .. import elementary as e
from ..graph import DType, Graph, Node, Tensor, numpy_dtype
from ..shapes import emit, emit_node
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register

__all__ = ["Unary", "UnaryKind", "table", "unary_float"]

F = np.float32


class UnaryKind(IntEnum):
    """The functions; see `UnaryKind` in schemas/ops.fbs for their parameters."""

    IDENTITY = 0
    CLIP = 1
    LEAKY_RELU = 2
    ELU = 3
    SIGMOID = 4
    HARD_SIGMOID = 5
    HARD_SWISH = 6
    TANH = 7
    GELU = 8
    GELU_TANH = 9
    SILU = 10
    ERF = 11
    EXP = 12
    LOG = 13
    SQRT = 14
    ABS = 15
    NEG = 16
    POW = 17
    RECIPROCAL = 18
    FLOOR = 19
    CEIL = 20
    ROUND = 21
    SIN = 22
    COS = 23
    SOFTPLUS = 24
    NOT = 25
    SELU = 26
    CELU = 27
    MISH = 28
    SOFTSIGN = 29
    SIGN = 30
    THRESHOLDED_RELU = 31


K = UnaryKind
_INTEGER_KINDS = (K.IDENTITY, K.ABS, K.NEG, K.SIGN)


def _softplus(x: Array) -> Array:
    return np.where(x < 0, F(0), x) + e.log1p_unit(e.exp(-np.abs(x)))


def _mish(x: Array) -> Array:
    t = e.exp(-np.abs(x))
    up, down = F(1) + F(2) * t, t * (t + F(2))
    top = np.where(x < 0, down, up)
    bottom = np.where(x < 0, down + F(2), up + F(2) * (t * t))
    return x * (top / bottom)


def _gelu_argument(x: Array) -> Array:
    return F(1.5957691216) * (x + F(0.044715) * ((x * x) * x))


# f(x, alpha, beta) with the operations of runtime_c/src/unary_map.c.
_FUNCTIONS: dict[UnaryKind, Callable[[Array, np.float32, np.float32], Array]] = {
    K.IDENTITY: lambda x, a, b: x,
    K.CLIP: lambda x, a, b: e.clip(x, a, b),
    K.LEAKY_RELU: lambda x, a, b: np.where(x < 0, a * x, x),
    K.ELU: lambda x, a, b: np.where(x < 0, a * e.expm1_negative(x), x),
    K.SIGMOID: lambda x, a, b: e.sigmoid(x),
    K.HARD_SIGMOID: lambda x, a, b: e.clip(a * x + b, 0, 1),
    K.HARD_SWISH: lambda x, a, b: x * e.clip(x * (F(1) / F(6)) + F(0.5), 0, 1),
    K.TANH: lambda x, a, b: e.tanh(x),
    K.GELU: lambda x, a, b: (F(0.5) * x) * (F(1) + e.erf(x * F(0.70710678))),
    K.GELU_TANH: lambda x, a, b: x * e.sigmoid(_gelu_argument(x)),
    K.SILU: lambda x, a, b: x * e.sigmoid(x),
    K.ERF: lambda x, a, b: e.erf(x),
    K.EXP: lambda x, a, b: e.exp(x),
    K.LOG: lambda x, a, b: e.log(x),
    K.SQRT: lambda x, a, b: np.sqrt(x),
    K.ABS: lambda x, a, b: np.abs(x),
    K.NEG: lambda x, a, b: -x,
    K.POW: lambda x, a, b: e.power(x, np.broadcast_to(a, x.shape)),
    K.RECIPROCAL: lambda x, a, b: F(1) / x,
    K.FLOOR: lambda x, a, b: np.floor(x),
    K.CEIL: lambda x, a, b: np.ceil(x),
    K.ROUND: lambda x, a, b: np.rint(x),
    K.SIN: lambda x, a, b: e.sin(x),
    K.COS: lambda x, a, b: e.cos(x),
    K.SOFTPLUS: lambda x, a, b: _softplus(x),
    K.SELU: lambda x, a, b: b * np.where(x < 0, a * e.expm1_negative(x), x),
    K.CELU: lambda x, a, b: np.where(x < 0, a * e.expm1_negative(x / a), x),
    K.MISH: lambda x, a, b: _mish(x),
    K.SOFTSIGN: lambda x, a, b: x / (F(1) + np.abs(x)),
    K.SIGN: lambda x, a, b: np.where(x > 0, F(1), np.where(x < 0, F(-1), x)),
    K.THRESHOLDED_RELU: lambda x, a, b: np.where(x > a, x, F(0)),
}


def unary_float(kind: int, alpha: float, beta: float, x: Array) -> Array:
    """f(x) in float32 with the bits of the C runtime.

    Args:
        kind: `UnaryKind`, except NOT.
        alpha, beta: parameters of the function.
        x: float32 of any shape.
    """
    flat = np.ascontiguousarray(x, F).reshape(-1)
    with np.errstate(all="ignore"):
        return _FUNCTIONS[UnaryKind(kind)](flat, F(alpha), F(beta)).astype(F).reshape(x.shape)


def table(node: Node, source: Tensor, output: Tensor) -> Array:
    """The int8 table of a node, int8 [256], entry code + 128: Dequantize, the function and Quantize one after the other."""
    assert source.scale is not None
    assert output.scale is not None
    codes = np.arange(-128, 128, dtype=np.int32)
    x = (codes - source.zero_point).astype(F) * F(source.scale[0])
    y = unary_float(node.params.get("kind", 0), node.params.get("alpha", 0.0), node.params.get("beta", 0.0), x)
    zero = output.zero_point
    low, high = F(-128 - zero), F(127 - zero)
    with np.errstate(all="ignore"):
        value = y * (F(1) / F(output.scale[0]))
    # Comparisons as in requantise: NaN goes to the lowest code.
    value = np.where(value > low, value, low)
    value = np.where(value < high, value, high)
    return (np.rint(value).astype(np.int32) + zero).astype(np.int8)


@register
class Unary(Operator):
    """Elementwise function of one tensor."""

    table = "Unary"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """The input's shape and type."""
        (x,) = inputs
        assert x is not None
        kind = UnaryKind(node.params.get("kind", 0))
        if kind is K.NOT:
            if x.dtype is not DType.BOOL:
                raise ValueError(f"NOT needs bool, got {x.dtype.name.lower()}")
        elif x.dtype is not DType.FLOAT32 and x.scale is None and kind not in _INTEGER_KINDS and not _waits(x):
            raise ValueError(f"{kind.name} is not defined on {x.dtype.name.lower()}")
        return [(x.shape, x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The function; integers wrap to the width of their type."""
        (x,) = inputs
        assert x is not None
        kind = UnaryKind(node.params.get("kind", 0))
        if kind is K.NOT:
            return [~x]
        if x.dtype == F:
            return [unary_float(kind, node.params.get("alpha", 0.0), node.params.get("beta", 0.0), x)]
        wide = x.astype(np.int64)
        with np.errstate(over="ignore"):
            done = {K.IDENTITY: wide, K.ABS: np.abs(wide), K.NEG: -wide, K.SIGN: np.sign(wide)}[kind]
        return [done.astype(numpy_dtype(outputs[0].dtype))]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """A table for every float function."""
        if UnaryKind(node.params.get("kind", 0)) is K.NOT:
            return Quantisation(Scales.FLOAT, reason="logical operators work on bool")
        return Quantisation(Scales.FREE)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """``table[x + 128]``."""
        (x,) = inputs
        assert x is not None
        source = Tensor("", x.array.shape, DType.INT8, scale=x.scale, zero_point=x.zero_point)
        return [table(node, source, outputs[0])[x.array.astype(np.int32) + 128]]

    def finish(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> dict[str, Any]:
        """The table. 256 zeros hold its place in a file that calibration completes."""
        (x,), y = inputs, outputs[0]
        assert x is not None
        if x.dtype is not DType.INT8 or y.dtype is not DType.INT8:
            return {}
        if x.scale is None or y.scale is None:
            return {"table": np.zeros(256, np.int8)}
        return {"table": table(node, x, y)}


def _waits(t: Tensor) -> bool:
    """An int8 or int16 activation before its scale is known."""
    return t.dtype in (DType.INT8, DType.INT16) and not t.constant


# ---- ONNX ------------------------------------------------------------------------------------------------------------------------------

_PLAIN = {
    "Tanh": K.TANH,
    "Sigmoid": K.SIGMOID,
    "Erf": K.ERF,
    "Exp": K.EXP,
    "Log": K.LOG,
    "Sqrt": K.SQRT,
    "Abs": K.ABS,
    "Neg": K.NEG,
    "Reciprocal": K.RECIPROCAL,
    "Floor": K.FLOOR,
    "Ceil": K.CEIL,
    "Round": K.ROUND,
    "Sin": K.SIN,
    "Cos": K.COS,
    "Softplus": K.SOFTPLUS,
    "Softsign": K.SOFTSIGN,
    "Mish": K.MISH,
    "Sign": K.SIGN,
    "HardSwish": K.HARD_SWISH,
    "Not": K.NOT,
}
# Kind, default of alpha, attribute behind beta, its default.
_WITH_ALPHA: dict[str, tuple[UnaryKind, float, str, float]] = {
    "LeakyRelu": (K.LEAKY_RELU, 0.01, "", 0.0),
    "Elu": (K.ELU, 1.0, "", 0.0),
    "Celu": (K.CELU, 1.0, "", 0.0),
    "ThresholdedRelu": (K.THRESHOLDED_RELU, 1.0, "", 0.0),
    "Selu": (K.SELU, 1.6732631921768188, "gamma", 1.0507010221481323),
    "HardSigmoid": (K.HARD_SIGMOID, 0.2, "beta", 0.5),
}


@onnx_op(*_PLAIN)
def import_plain(ctx: Any) -> None:
    """Functions without parameters."""
    emit_node(ctx, "Unary", [ctx.input(0)], {"kind": int(_PLAIN[ctx.op_type])})


@onnx_op(*_WITH_ALPHA)
def import_with_alpha(ctx: Any) -> None:
    """Functions with alpha, and some with a second parameter."""
    kind, alpha, second, beta = _WITH_ALPHA[ctx.op_type]
    params = {"kind": int(kind), "alpha": float(ctx.attr("alpha", alpha)), "beta": float(ctx.attr(second, beta)) if second else 0.0}
    if kind is K.CELU and params["alpha"] <= 0:
        ctx.fail(f"alpha {params['alpha']} must be positive")
    emit_node(ctx, "Unary", [ctx.input(0)], params)


@onnx_op("Gelu")
def import_gelu(ctx: Any) -> None:
    """Gelu, exact or by tanh."""
    how = ctx.attr("approximate", "none")
    if how not in ("none", "tanh"):
        ctx.fail(f"approximate must be none or tanh, it is {how!r}")
    emit_node(ctx, "Unary", [ctx.input(0)], {"kind": int(K.GELU_TANH if how == "tanh" else K.GELU)})


@onnx_op("Swish")
def import_swish(ctx: Any) -> None:
    """x * sigmoid(alpha * x)."""
    alpha, x = float(ctx.attr("alpha", 1.0)), ctx.input(0)
    if alpha == 1.0:
        emit_node(ctx, "Unary", [x], {"kind": int(K.SILU)})
        return
    scaled = emit(ctx, "Binary", [x, ctx.const(np.float32(alpha), "alpha")], {"kind": 2})
    gate = emit(ctx, "Unary", [scaled], {"kind": int(K.SIGMOID)})
    emit_node(ctx, "Binary", [x, gate], {"kind": 2})


def _clip(ctx: Any, low: Any, high: Any) -> None:
    """Clip by constants: a function on floats, MAX and MIN on integers, whose bounds float32 may not hold."""
    x = ctx.input(0)
    if ctx.dtype(0) is DType.FLOAT32:
        low, high = (-np.inf if low is None else float(low)), (np.inf if high is None else float(high))
        # A lower bound above the upper one gives the upper one everywhere.
        emit_node(ctx, "Unary", [x], {"kind": int(K.CLIP), "alpha": min(low, high), "beta": high})
        return
    dtype = numpy_dtype(ctx.dtype(0))
    for kind, bound in ((6, low), (5, high)):
        if bound is not None:
            x = emit(ctx, "Binary", [x, ctx.const(np.asarray(bound).astype(dtype), "bound")], {"kind": kind})
    ctx.finish(x)


@onnx_op("Relu")
def import_relu(ctx: Any) -> None:
    """max(x, 0)."""
    _clip(ctx, 0, None)


@onnx_op("Clip")
def import_clip(ctx: Any) -> None:
    """Clip with attributes (opset 6) or inputs (opset 11 on); bounds that are computed become MAX and MIN."""
    if ctx.opset < 11:
        _clip(ctx, ctx.attr("min"), ctx.attr("max"))
        return
    bounds = [ctx.constant(i) for i in (1, 2)]
    if all(b is not None or not ctx.has_input(i) for i, b in zip((1, 2), bounds, strict=True)):
        low, high = (None if b is None else b.reshape(-1)[0] for b in bounds)
        _clip(ctx, low, high)
        return
    x = ctx.input(0)
    for kind, i in ((6, 1), (5, 2)):
        if ctx.has_input(i):
            x = emit(ctx, "Binary", [x, ctx.input(i)], {"kind": kind})
    ctx.finish(x)
