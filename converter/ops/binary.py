# SPDX-License-Identifier: Apache-2.0
"""Binary: y = clamp(f(a, b), act_min, act_max) with NumPy broadcasting.

The rules of the int8 form stand at the head of runtime_c/src/ops/binary_int8.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from .. import elementary as e
from ..graph import DType, Graph, Node, Tensor, numpy_dtype
from ..shapes import broadcast, emit, emit_node
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register
from .unary import UnaryKind

__all__ = ["Binary", "BinaryKind", "add_multipliers"]

F = np.float32


class BinaryKind(IntEnum):
    """The functions; see `BinaryKind` in schemas/ops.fbs."""

    ADD = 0
    SUB = 1
    MUL = 2
    DIV = 3
    POW = 4
    MIN = 5
    MAX = 6
    PRELU = 7
    EQUAL = 8
    LESS = 9
    LESS_EQUAL = 10
    GREATER = 11
    GREATER_EQUAL = 12
    AND = 13
    OR = 14
    XOR = 15
    MOD = 16


K = BinaryKind
_COMPARISONS: dict[BinaryKind, Callable[[Array, Array], Array]] = {
    K.EQUAL: np.equal,
    K.LESS: np.less,
    K.LESS_EQUAL: np.less_equal,
    K.GREATER: np.greater,
    K.GREATER_EQUAL: np.greater_equal,
}
_LOGIC: dict[BinaryKind, Callable[[Array, Array], Array]] = {K.AND: np.logical_and, K.OR: np.logical_or, K.XOR: np.logical_xor}
_FLOAT: dict[BinaryKind, Callable[[Array, Array], Array]] = {
    K.ADD: np.add,
    K.SUB: np.subtract,
    K.MUL: np.multiply,
    K.DIV: np.divide,
    K.POW: e.power,
    K.MIN: lambda a, b: np.where((a < b) | np.isnan(a), a, b),
    K.MAX: lambda a, b: np.where((a > b) | np.isnan(a), a, b),
    K.PRELU: lambda a, b: np.where(a < 0, a * b, a),
    K.MOD: np.fmod,
}
_INT8_KINDS = (K.ADD, K.SUB, K.MUL, K.DIV, K.MIN, K.MAX, K.PRELU)
_HUGE = 1e6
"""Constants beyond this (masks of -1e9, -inf) would take the whole int8 range."""


def _integer_power(a: Array, b: Array) -> Array:
    """a ** b modulo 2^64; a negative exponent gives trunc(1 / a^-b), and 0 for a = 0."""
    unit = np.where(a == 1, 1, np.where(a == -1, np.where(b % 2 != 0, -1, 1), 0))
    result, base, left = np.ones(a.shape, np.int64), a.copy(), np.where(b < 0, 0, b)
    while left.any():
        result = np.where(left & 1, result * base, result)
        base = base * base
        left = left >> 1
    return np.where(b < 0, unit, result)


def _divide(a: Array, b: Array) -> Array:
    """Truncating division; 0 for a divisor of 0; the smallest number by -1 wraps."""
    safe = np.where((b == 0) | (b == -1), 1, b)
    quotient = a // safe + ((a % safe != 0) & ((a < 0) != (safe < 0)))
    return np.where(b == 0, 0, np.where(b == -1, -a, quotient))


def _remainder(a: Array, b: Array, dividend_sign: bool) -> Array:
    safe = np.where((b == 0) | (b == -1), 1, b)
    return np.where((b == 0) | (b == -1), 0, np.fmod(a, safe) if dividend_sign else np.mod(a, safe))


def _integers(kind: BinaryKind, a: Array, b: Array, fmod: bool) -> Array:
    """int64 arithmetic modulo 2^64."""
    a, b = (np.array(v, np.int64, ndmin=1) for v in np.broadcast_arrays(a, b))
    functions: dict[BinaryKind, Callable[[], Array]] = {
        K.ADD: lambda: a + b,
        K.SUB: lambda: a - b,
        K.MUL: lambda: a * b,
        K.DIV: lambda: _divide(a, b),
        K.POW: lambda: _integer_power(a, b),
        K.MIN: lambda: np.minimum(a, b),
        K.MAX: lambda: np.maximum(a, b),
        K.PRELU: lambda: np.where(a < 0, a * b, a),
        K.MOD: lambda: _remainder(a, b, fmod),
    }
    with np.errstate(all="ignore"):
        return functions[kind]()


def _bounds(node: Node, output: Tensor) -> tuple[int, int]:
    """Codes of act_min and act_max."""
    assert output.scale is not None
    low, high = (np.array([F(node.params.get(key, d))]) for key, d in (("act_min", -np.inf), ("act_max", np.inf)))
    scale, zero = F(output.scale[0]), output.zero_point
    return int(_requantise(low / scale, zero, -128, 127)[0]), int(_requantise(high / scale, zero, -128, 127)[0])


def _requantise(value: Array, zero: int, low: int, high: int) -> Array:
    """clamp(rne(value) + zero, low, high) as int8; NaN gives low."""
    lowest, highest = F(low - zero), F(high - zero)
    value = np.where(value > lowest, value, lowest)
    value = np.where(value < highest, value, highest)
    return (np.rint(value).astype(np.int32) + zero).astype(np.int8)


def add_multipliers(ratio0: np.float32, ratio1: np.float32) -> tuple[int, int, int]:
    """16-bit multipliers and their common shift."""
    exponent = int(np.frexp(max(ratio0, ratio1))[1]) - 1
    shift = min(max(14 - exponent, 1), 30)
    m0, m1 = (min(int(np.rint(min(float(r * F(2.0**shift)), 1e6))), 32767) for r in (ratio0, ratio1))
    return m0, m1, shift


@register
class Binary(Operator):
    """Elementwise function of two tensors."""

    table = "Binary"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """The broadcast shape; comparisons and logic give BOOL."""
        a, b = inputs
        assert a is not None
        assert b is not None
        kind = BinaryKind(node.params.get("kind", 0))
        if a.dtype is not b.dtype:
            raise ValueError(f"{kind.name} of {a.dtype.name.lower()} and {b.dtype.name.lower()}")
        if (kind in _LOGIC) != (a.dtype is DType.BOOL) and kind not in _COMPARISONS:
            raise ValueError(f"{kind.name} is not defined on {a.dtype.name.lower()}")
        return [(broadcast(a.shape, b.shape), DType.BOOL if kind in _COMPARISONS or kind in _LOGIC else a.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The function; integers are computed modulo 2^64 and stored modulo the type's width."""
        a, b = inputs
        assert a is not None
        assert b is not None
        kind = BinaryKind(node.params.get("kind", 0))
        shape, dtype = outputs[0].shape, numpy_dtype(outputs[0].dtype)
        if kind in _COMPARISONS or kind in _LOGIC:
            result = (_COMPARISONS.get(kind) or _LOGIC[kind])(a, b)
        elif a.dtype == F:
            with np.errstate(all="ignore"):
                result = _FLOAT[kind](np.array(a, ndmin=1), np.array(b, ndmin=1))
                result = e.clip(result, node.params.get("act_min", -np.inf), node.params.get("act_max", np.inf))
        else:
            result = _integers(kind, a, b, bool(node.params.get("fmod", False)))
        return [np.asarray(result).astype(dtype).reshape(shape)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Arithmetic is free in its output scale; comparisons, logic and Pow stay in float."""
        kind = BinaryKind(node.params.get("kind", 0))
        if kind not in _INT8_KINDS:
            return Quantisation(Scales.FLOAT, reason=f"{kind.name.lower()} has no int8 form")
        for name in node.inputs:
            data = graph.tensors[name].data
            if data is not None and data.dtype == F and not np.abs(data).max() <= _HUGE:
                return Quantisation(Scales.FLOAT, reason=f"constant {name!r} holds numbers beyond {_HUGE:g}, such as a mask")
        if kind is K.DIV and not graph.tensors[node.inputs[1]].constant:
            return Quantisation(Scales.FLOAT, reason="a divisor near zero has no precision in int8")
        return Quantisation(Scales.FREE, data=(0, 1))

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """As runtime_c/src/ops/binary_int8.c has it."""
        a, b = inputs
        y = outputs[0]
        assert a is not None
        assert a.scale is not None
        assert b is not None
        assert b.scale is not None
        assert y.scale is not None
        kind = BinaryKind(node.params.get("kind", 0))
        low, high = _bounds(node, y)
        sa, sb, sy = F(a.scale[0]), F(b.scale[0]), F(y.scale[0])
        first = np.array(a.array, np.int32, ndmin=1) - a.zero_point
        second = np.array(b.array, np.int32, ndmin=1) - b.zero_point
        if kind in (K.ADD, K.SUB):
            m0, m1, shift = add_multipliers(sa / sy, sb / sy)
            total = first * m0 + second * (-m1 if kind is K.SUB else m1) + (1 << (shift - 1))
            result = np.clip((total >> shift) + y.zero_point, low, high).astype(np.int8)
        else:
            product = (sa * sb) / sy
            value: Array
            with np.errstate(all="ignore"):
                if kind is K.MUL:
                    value = (first * second).astype(F) * product
                elif kind is K.DIV:
                    value = (first.astype(F) / second.astype(F)) * (sa / (sb * sy))
                elif kind is K.PRELU:
                    value = np.where(first < 0, (first * second).astype(F) * product, first.astype(F) * (sa / sy))
                else:
                    left, right = first.astype(F) * (sa / sy), second.astype(F) * (sb / sy)
                    value = np.where(left < right, left, right) if kind is K.MIN else np.where(left > right, left, right)
            result = _requantise(value, y.zero_point, low, high)
        return [result.reshape(y.shape)]


# ---- ONNX ------------------------------------------------------------------------------------------------------------------------------

_TWO = {
    "Add": K.ADD,
    "Sub": K.SUB,
    "Mul": K.MUL,
    "Div": K.DIV,
    "PRelu": K.PRELU,
    "Equal": K.EQUAL,
    "Less": K.LESS,
    "LessOrEqual": K.LESS_EQUAL,
    "Greater": K.GREATER,
    "GreaterOrEqual": K.GREATER_EQUAL,
    "And": K.AND,
    "Or": K.OR,
    "Xor": K.XOR,
}
_MANY = {"Sum": K.ADD, "Mean": K.ADD, "Min": K.MIN, "Max": K.MAX}


@onnx_op(*_TWO)
def import_two(ctx: Any) -> None:
    """Operators of two inputs and no attributes."""
    emit_node(ctx, "Binary", [ctx.input(0), ctx.input(1)], {"kind": int(_TWO[ctx.op_type])})


@onnx_op("Mod")
def import_mod(ctx: Any) -> None:
    """Mod: the divisor's sign on integers, with fmod the dividend's; floats need fmod."""
    fmod = bool(ctx.attr("fmod", 0))
    if ctx.dtype(0) is DType.FLOAT32 and not fmod:
        ctx.fail("floats need the attribute fmod = 1")
    emit_node(ctx, "Binary", [ctx.input(0), ctx.input(1)], {"kind": int(K.MOD), "fmod": fmod})


@onnx_op("Pow")
def import_pow(ctx: Any) -> None:
    """Pow; base and exponent may have different types, the result has the base's. One constant float exponent becomes a function."""
    base, exponent = ctx.input(0), ctx.input(1)
    kind, other = ctx.dtype(0), ctx.dtype(1)
    data = ctx.constant(1)
    if kind is DType.FLOAT32 and data is not None and data.size == 1 and data.ndim <= ctx.rank(0):
        emit_node(ctx, "Unary", [base], {"kind": int(UnaryKind.POW), "alpha": float(data.reshape(-1)[0])})
        return
    common = kind if kind is other else (DType.FLOAT32 if DType.FLOAT32 in (kind, other) else DType.INT64)
    base, exponent = (n if t is common else _cast(ctx, n, common) for n, t in ((base, kind), (exponent, other)))
    result = emit(ctx, "Binary", [base, exponent], {"kind": int(K.POW)})
    ctx.finish(result if common is kind else _cast(ctx, result, kind))


def _cast(ctx: Any, name: str, dtype: DType) -> str:
    return emit(ctx, "Cast", [name], result=(ctx.tensor(name).shape, dtype))


@onnx_op(*_MANY)
def import_many(ctx: Any) -> None:
    """Sum, Mean, Min and Max of any number of inputs, from left to right."""
    result = ctx.input(0)
    for i in range(1, ctx.inputs):
        result = emit(ctx, "Binary", [result, ctx.input(i)], {"kind": int(_MANY[ctx.op_type])})
    if ctx.op_type == "Mean" and ctx.inputs > 1:
        count = ctx.const(np.asarray(ctx.inputs, numpy_dtype(ctx.dtype(0))), "count")
        result = emit(ctx, "Binary", [result, count], {"kind": int(K.DIV)})
    ctx.finish(result)
