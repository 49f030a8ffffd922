# SPDX-License-Identifier: Apache-2.0
"""Functions of single elements, in the layout in which their data arrives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...graph import DType, Node
from ...ops.binary import BinaryKind
from ...ops.unary import UnaryKind
from .builder import ONNX_TYPES, Builder, emitter, permuted
from .int8 import int8_binary, int8_unary, on_grid
from .linear import clamp

__all__: list[str] = []

K, U = BinaryKind, UnaryKind
_BINARY = {
    K.ADD: "Add",
    K.SUB: "Sub",
    K.MUL: "Mul",
    K.DIV: "Div",
    K.POW: "Pow",
    K.MIN: "Min",
    K.MAX: "Max",
    K.EQUAL: "Equal",
    K.LESS: "Less",
    K.LESS_EQUAL: "LessOrEqual",
    K.GREATER: "Greater",
    K.GREATER_EQUAL: "GreaterOrEqual",
    K.AND: "And",
    K.OR: "Or",
    K.XOR: "Xor",
}
_PLAIN = {
    U.SIGMOID: "Sigmoid",
    U.HARD_SWISH: "HardSwish",
    U.TANH: "Tanh",
    U.ERF: "Erf",
    U.EXP: "Exp",
    U.LOG: "Log",
    U.SQRT: "Sqrt",
    U.ABS: "Abs",
    U.NEG: "Neg",
    U.RECIPROCAL: "Reciprocal",
    U.FLOOR: "Floor",
    U.CEIL: "Ceil",
    U.ROUND: "Round",
    U.SIN: "Sin",
    U.COS: "Cos",
    U.SOFTPLUS: "Softplus",
    U.NOT: "Not",
    U.SOFTSIGN: "Softsign",
    U.SIGN: "Sign",
}
# Operators with attributes: what alpha and beta are called.
_WITH_ATTRIBUTES: dict[UnaryKind, tuple[str, str, str]] = {
    U.LEAKY_RELU: ("LeakyRelu", "alpha", ""),
    U.ELU: ("Elu", "alpha", ""),
    U.CELU: ("Celu", "alpha", ""),
    U.THRESHOLDED_RELU: ("ThresholdedRelu", "alpha", ""),
    U.SELU: ("Selu", "alpha", "gamma"),
    U.HARD_SIGMOID: ("HardSigmoid", "alpha", "beta"),
}


@emitter("Binary")
def binary(b: Builder, node: Node) -> None:
    """One ONNX operator; PRelu with a slope that widens the result is spelled out."""
    kind, out = BinaryKind(node.params.get("kind", 0)), node.outputs[0]
    layout = b.layout(node.inputs)
    if all(b.quantised(b.tensor(name)) and b.tensor(name).dtype is DType.INT8 for name in (*node.inputs, out)):
        int8_binary(b, node, kind, layout)
        return
    first, second = (b.value(name, layout) for name in node.inputs)
    if kind is K.PRELU:
        y = _prelu(b, node, first, second)
    elif kind is K.MOD:
        y = b.op("Mod", [first, second], f"{out}.raw", fmod=int(bool(node.params.get("fmod", False)) or _is_float(b, node)))
    else:
        y = b.op(_BINARY[kind], [first, second], f"{out}.raw")
    b.bind(out, clamp(b, node, y), layout)


def _is_float(b: Builder, node: Node) -> bool:
    return b.tensor(node.inputs[0]).dtype.name == "FLOAT32"


def _prelu(b: Builder, node: Node, x: str, slope: str) -> str:
    out = node.outputs[0]
    if b.tensor(node.inputs[0]).shape == b.tensor(out).shape:
        return b.op("PRelu", [x, slope], f"{out}.raw")
    below = b.op("Less", [x, b.number(0.0, "zero")], f"{out}.below")
    return b.op("Where", [below, b.op("Mul", [x, slope], f"{out}.product"), x], f"{out}.raw")


def _gelu(b: Builder, x: str, hint: str) -> str:
    erf = b.op("Erf", [b.op("Mul", [x, b.number(0.70710678, "sqrt_half")], f"{hint}.scaled")], f"{hint}.erf")
    half = b.op("Mul", [x, b.number(0.5, "half")], f"{hint}.half")
    return b.op("Mul", [half, b.op("Add", [erf, b.number(1.0, "one")], f"{hint}.gate")], f"{hint}.raw")


def _gelu_tanh(b: Builder, x: str, hint: str) -> str:
    cube = b.op("Mul", [b.op("Mul", [x, x], f"{hint}.square"), x], f"{hint}.cube")
    inner = b.op("Add", [x, b.op("Mul", [cube, b.number(0.044715, "cubic")], f"{hint}.bend")], f"{hint}.inner")
    gate = b.op("Sigmoid", [b.op("Mul", [inner, b.number(1.5957691216, "twice_sqrt_2_pi")], f"{hint}.scaled")], f"{hint}.gate")
    return b.op("Mul", [x, gate], f"{hint}.raw")


_SPELLED_OUT: dict[UnaryKind, Callable[[Builder, str, str], str]] = {
    U.IDENTITY: lambda b, x, hint: x,
    U.GELU: _gelu,
    U.GELU_TANH: _gelu_tanh,
    U.SILU: lambda b, x, hint: b.op("Mul", [x, b.op("Sigmoid", [x], f"{hint}.gate")], f"{hint}.raw"),
    U.MISH: lambda b, x, hint: b.op("Mul", [x, b.op("Tanh", [b.op("Softplus", [x], f"{hint}.up")], f"{hint}.gate")], f"{hint}.raw"),
}


@emitter("Unary")
def unary(b: Builder, node: Node) -> None:
    """One ONNX operator, or the formula."""
    kind, out = UnaryKind(node.params.get("kind", 0)), node.outputs[0]
    alpha, beta = float(node.params.get("alpha", 0.0)), float(node.params.get("beta", 0.0))
    layout = b.layout(node.inputs)
    if int8_unary(b, node, layout):
        return
    x = b.value(node.inputs[0], layout)
    if kind is U.CLIP:
        bounds = [b.number(v, "bound") if np.isfinite(v) else "" for v in (alpha, beta)]
        y = b.op("Relu", [x], f"{out}.raw") if (alpha, beta) == (0.0, np.inf) else b.op("Clip", [x, *bounds], f"{out}.raw")
    elif kind is U.POW:
        y = b.op("Pow", [x, b.number(alpha, "exponent")], f"{out}.raw")
    elif kind in _WITH_ATTRIBUTES:
        onnx_kind, first, second = _WITH_ATTRIBUTES[kind]
        y = b.op(onnx_kind, [x], f"{out}.raw", **{name: v for name, v in ((first, alpha), (second, beta)) if name})
    elif kind in _PLAIN:
        y = b.op(_PLAIN[kind], [x], f"{out}.raw")
    else:
        y = _SPELLED_OUT[kind](b, x, out)
    b.bind(out, y, layout)


@emitter("Where")
def where(b: Builder, node: Node) -> None:
    """Where."""
    layout = b.layout(node.inputs)
    b.bind(node.outputs[0], b.op("Where", [b.value(n, layout) for n in node.inputs], f"{node.outputs[0]}.raw"), layout)


@emitter("Cast")
def cast(b: Builder, node: Node) -> None:
    """Cast."""
    layout, out = b.layout(node.inputs), node.outputs[0]
    b.bind(out, b.op("Cast", [b.value(node.inputs[0], layout)], f"{out}.raw", to=ONNX_TYPES[b.tensor(out).dtype]), layout)


@emitter("NormalizePicture")
def normalize_picture(b: Builder, node: Node) -> None:
    """Cast, subtract, divide; then the result's own QuantizeLinear."""
    layout, out = b.layout(node.inputs), node.outputs[0]
    rank = len(b.tensor(out).shape)
    shape = permuted([1] * (rank - 1) + [len(node.params["mean"])], layout)
    y = b.op("Cast", [b.value(node.inputs[0], layout)], f"{out}.real", to=ONNX_TYPES[DType.FLOAT32])
    for kind, key in (("Sub", "mean"), ("Div", "std")):
        numbers = b.constant(np.asarray(node.params[key], np.float32).reshape(shape), f"{out}.{key}")
        y = b.op(kind, [y, numbers], f"{out}.{kind.lower()}")
    if b.quantised(b.tensor(out)):
        y = on_grid(b, out, y)
    b.bind(out, y, layout)


@emitter("Quantize")
def quantize(b: Builder, node: Node) -> None:
    """The result's own QuantizeLinear; in a file that waits for calibration nothing."""
    layout = b.layout(node.inputs)
    x, out = b.value(node.inputs[0], layout), b.tensor(node.outputs[0])
    if b.quantised(out):
        x = on_grid(b, node.outputs[0], x)
    b.bind(node.outputs[0], x, layout)


@emitter("Dequantize")
def dequantize(b: Builder, node: Node) -> None:
    """Nothing: codes are dequantised where they are written."""
    for layout, value in b.present(node.inputs[0]).items():
        b.alias(node.outputs[0], value, layout)
