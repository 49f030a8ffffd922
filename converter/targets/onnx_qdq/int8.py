# SPDX-License-Identifier: Apache-2.0
"""The device's int8 arithmetic of elementwise operators in whole numbers, where QuantizeLinear of the real result could round
differently. The rules are those of runtime_c/src/ops/binary_int8.c and of the tables of Unary."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...graph import DType, Node, Tensor
from ...linear import code_bounds
from ...ops.binary import BinaryKind, add_multipliers
from ...ops.unary import table, unary_float
from .builder import Array, Builder

__all__ = ["int8_binary", "int8_unary", "on_grid"]

K = BinaryKind
F = np.float32
_CLOSE = 1e-3
"""A result so close to the middle of two codes, in steps, may fall on the other side elsewhere."""


def on_grid(b: Builder, name: str, value: str) -> str:
    """Real numbers rounded to the grid of a tensor's scale as the device's Quantize does it: rne(x * (1 / scale)) * scale.

    Pictures have 256 levels and a scale that is often half a level, so many inputs lie exactly between two codes, where a division by
    the scale and a multiplication with its inverse part.
    """
    scale = b.tensor(name).scale
    assert scale is not None
    steps = b.op("Round", [b.op("Mul", [value, b.constant(F(1) / F(scale[0]), "per_scale")], f"{name}.steps")], f"{name}.rounded")
    return b.op("Mul", [steps, b.constant(F(scale[0]), "scale")], f"{name}.grid")


def _scale(tensor: Tensor) -> np.float32:
    assert tensor.scale is not None
    return F(tensor.scale[0])


def int8_binary(b: Builder, node: Node, kind: BinaryKind, layout: str) -> None:
    """A Binary of int8 tensors."""
    out = b.tensor(node.outputs[0])
    sa, sb, sy = _scale(b.tensor(node.inputs[0])), _scale(b.tensor(node.inputs[1])), _scale(out)
    first, second = (b.steps(name, layout) for name in node.inputs)
    name = node.outputs[0]

    def scaled(value: str, factor: np.float32, hint: str) -> str:
        return b.op("Mul", [value, b.constant(F(factor), "factor")], f"{name}.{hint}")

    low, high = code_bounds(node, out)
    if kind in (K.ADD, K.SUB):
        # (a * m0 + b * m1 + 2^(shift - 1)) >> shift with 16-bit multipliers: all of it exact in float32 within the codes' range.
        m0, m1, shift = add_multipliers(sa / sy, sb / sy)
        left, right = scaled(first, F(m0 / 2.0**shift), "left"), scaled(second, F((-m1 if kind is K.SUB else m1) / 2.0**shift), "right")
        total = b.op("Add", [b.op("Add", [left, right], f"{name}.sum"), b.number(0.5, "half")], f"{name}.half_up")
        b.bind_steps(name, b.op("Floor", [total], f"{name}.floor"), layout, whole=True, low=low, high=high)
        return
    product: Callable[[], str] = lambda: b.op("Mul", [first, second], f"{name}.product")  # noqa: E731
    if kind is K.MUL:
        steps = scaled(product(), (sa * sb) / sy, "steps")
    elif kind is K.DIV:
        steps = scaled(b.op("Div", [first, second], f"{name}.quotient"), sa / (sb * sy), "steps")
    elif kind is K.PRELU:
        below = b.op("Less", [first, b.number(0.0, "zero")], f"{name}.below")
        steps = b.op("Where", [below, scaled(product(), (sa * sb) / sy, "slope"), scaled(first, sa / sy, "same")], f"{name}.steps")
    else:
        both = [scaled(first, sa / sy, "left"), scaled(second, sb / sy, "right")]
        steps = b.op("Min" if kind is K.MIN else "Max", both, f"{name}.steps")
    b.bind_steps(name, steps, layout, low=low, high=high)


def int8_unary(b: Builder, node: Node, layout: str) -> bool:
    """A function of an int8 tensor as its table, where some result lies so close to the middle of two codes that another
    implementation of the function could round it the other way; False where the function itself will do."""
    x, out = b.tensor(node.inputs[0]), b.tensor(node.outputs[0])
    if not (b.quantised(x) and b.quantised(out) and x.dtype is DType.INT8 and out.dtype is DType.INT8):
        return False
    codes = table(node, x, out)
    if not _ambiguous(node, x, out):
        return False
    name = node.outputs[0]
    steps = b.constant(codes.astype(np.float32) - np.float32(out.zero_point), f"{name}.table")
    place = b.op("Add", [b.steps(node.inputs[0], layout), b.number(128.0 + x.zero_point, "offset")], f"{name}.place")
    index = b.op("Cast", [place], f"{name}.index", to=7)
    b.bind_steps(name, b.op("Gather", [steps, index], f"{name}.steps", axis=0), layout, whole=True)
    return True


def _ambiguous(node: Node, x: Tensor, out: Tensor) -> bool:
    """Whether some of the 256 results is not safely nearer to one code than to the next."""
    codes = np.arange(-128, 128, dtype=np.int32)
    real = (codes - x.zero_point).astype(F) * _scale(x)
    get = node.params.get
    y: Array = unary_float(get("kind", 0), get("alpha", 0.0), get("beta", 0.0), real).astype(np.float64) / float(_scale(out))
    if not np.isfinite(y).all():
        return True
    inside = (y > -129.0 - out.zero_point) & (y < 128.0 - out.zero_point)
    return bool((np.abs(np.abs(y - np.floor(y)) - 0.5) < _CLOSE)[inside].any())
