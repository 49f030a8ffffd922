# SPDX-License-Identifier: Apache-2.0
"""Operators with weights, and MatMul."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import DType, Node, Tensor
from ...linear import code_bounds
from ...ops.base import code_limits
from ...window import window_of
from .builder import FIRST, LAST, Array, Builder, emitter

__all__ = ["bind_clamped", "clamp"]

_BIAS_LIMIT = 2**31 - 1


def clamp(b: Builder, node: Node, value: str) -> str:
    """The fused activation of a float result."""
    low, high = float(node.params.get("act_min", -np.inf)), float(node.params.get("act_max", np.inf))
    hint = f"{node.outputs[0]}.clamped"
    if low == -np.inf and high == np.inf:
        return value
    if (low, high) == (0, np.inf):
        return b.op("Relu", [value], hint)
    return b.op("Clip", [value, *(b.number(v, "bound") if np.isfinite(v) else "" for v in (low, high))], hint)


def bind_clamped(b: Builder, node: Node, value: str, layout: str = LAST) -> None:
    """A result with its fused activation. Codes are clamped as codes, behind the QuantizeLinear, and not at all where they saturate at
    the same numbers: what stands before QuantizeLinear remains one integer operator of the runtime that reads the model."""
    out = b.tensor(node.outputs[0])
    if not b.quantised(out) or out.dtype is not DType.INT8:
        b.bind(node.outputs[0], clamp(b, node, value), layout)
        return
    bounds = code_bounds(node, out)
    if bounds != (-128, 127):
        assert out.scale is not None
        real = [b.number(float(np.float32(code - out.zero_point) * np.float32(out.scale[0])), "bound") for code in bounds]
        codes = b.quantise(value, out, f"{node.outputs[0]}.unclamped")
        value = b.op("Clip", [b.dequantise(codes, out, f"{node.outputs[0]}.unclamped_real"), *real], f"{node.outputs[0]}.clamped")
    b.bind(node.outputs[0], value, layout)


def _weights(b: Builder, node: Node, arrange: Any, axis: int) -> str:
    """Weights as ONNX arranges them; codes with their scales along ``axis`` (the output channels), dequantised."""
    tensor = b.tensor(node.inputs[1])
    if tensor.data is None:
        return _computed_weights(b, node, arrange)
    if tensor.scale is None:
        return b.constant(arrange(tensor.data.astype(np.float32)), tensor.name)
    codes = arrange(tensor.data)
    scale = np.asarray(tensor.scale, np.float32).reshape(-1)
    block = None
    if tensor.group:
        if node.op != "FullyConnected":
            raise b.fail(node, f"weights in groups of {tensor.group} have no form in ONNX outside of matrices", "Use --group 0")
        scale = scale.reshape(tensor.shape[0], -1)
        scale, axis, block = (scale, 1, tensor.group) if codes.shape == tensor.shape else (scale.T, 0, tensor.group)
    elif scale.size > 1 and scale.size != codes.shape[axis]:
        # Transposed convolution in groups: scales that differ between groups do not lie along one axis, so the numbers are stored.
        along = scale.reshape(-1, *[1] * (len(tensor.shape) - 1))
        return b.constant(arrange(tensor.data.astype(np.float32) * along), tensor.name)
    name = b.constant(b.written(codes), f"{tensor.name}.codes", shared=False)
    single = scale.size == 1 and not tensor.group
    scales = b.constant(scale.reshape(()) if single else scale, f"{tensor.name}.scale", shared=False)
    zero = b.constant(b.written(np.zeros(() if single else scale.shape, codes.dtype)), f"{tensor.name}.zero_point", shared=False)
    return b.op("DequantizeLinear", [name, scales, zero], tensor.name, axis=None if single else axis, block_size=block)


def _computed_weights(b: Builder, node: Node, arrange: Any) -> str:
    if node.op != "FullyConnected":
        raise b.fail(node, "its weights are computed at run time")
    value = b.value(node.inputs[1])
    return value if arrange is _as_is else b.op("Transpose", [value], f"{value}.transposed", perm=[1, 0])


def _as_is(weights: Array) -> Array:
    return weights


def _bias(b: Builder, node: Node, channels: int) -> str:
    """The bias: int32 in units of input scale * weight scale where both are codes, else float32; ``""`` when absent."""
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    if not name:
        return ""
    x, weights, bias = (b.tensor(node.inputs[i]) for i in range(3))
    if not b.quantised(x) or x.dtype is not DType.INT8 or weights.scale is None or weights.group or bias.data is None:
        return b.value(name)
    assert x.scale is not None
    scale = np.float32(x.scale[0]) * np.broadcast_to(np.asarray(weights.scale, np.float32).reshape(-1), (channels,))
    codes = np.clip(np.rint(bias.data.astype(np.float32) / scale).astype(np.float64), -_BIAS_LIMIT, _BIAS_LIMIT).astype(np.int32)
    names = [b.constant(codes, f"{name}.codes", shared=False), b.constant(scale.astype(np.float32), f"{name}.scale", shared=False)]
    zero = b.constant(np.zeros(channels, np.int32), f"{name}.zero_point", shared=False)
    return b.op("DequantizeLinear", [*names, zero], name, axis=0)


def _finish(b: Builder, node: Node, y: str, layout: str) -> None:
    """Residual, activation, result."""
    residual = node.inputs[4] if len(node.inputs) > 4 else ""
    if not residual:
        bind_clamped(b, node, y, layout)
    elif all(b.quantised(t) and t.dtype is DType.INT8 for t in map(b.tensor, (node.inputs[0], residual, node.outputs[0]))):
        _add_residual(b, node, y, residual, layout)
    else:
        b.bind(node.outputs[0], clamp(b, node, b.op("Add", [y, b.value(residual, layout)], f"{node.outputs[0]}.sum")), layout)


def _add_residual(b: Builder, node: Node, y: str, residual: str, layout: str) -> None:
    """rne((acc + rne((r - zr) * (s_r / s))) * (s / s_out)) with s = s_in * s_w[c]: acc is y in whole units of s."""
    x, weights, r, out = (b.tensor(name) for name in (node.inputs[0], node.inputs[1], residual, node.outputs[0]))
    assert x.scale is not None
    assert weights.scale is not None
    assert r.scale is not None
    assert out.scale is not None
    name = node.outputs[0]
    unit = np.float32(x.scale[0]) * np.asarray(weights.scale, np.float32).reshape(-1)
    along = (1, -1, 1, 1) if layout == FIRST else (1,) * (len(out.shape) - 1) + (-1,)

    def per_channel(values: Array, hint: str) -> str:
        return b.constant(values.astype(np.float32).reshape(along), f"{name}.{hint}")

    inverse = per_channel(np.float32(1) / unit, "per_unit")
    acc = b.op("Round", [b.op("Mul", [y, inverse], f"{name}.units")], f"{name}.accumulator")
    factor = per_channel(np.float32(r.scale[0]) / unit, "residual_factor")
    addend = b.op("Round", [b.op("Mul", [b.steps(residual, layout), factor], f"{name}.residual_units")], f"{name}.residual")
    total = b.op("Add", [acc, addend], f"{name}.sum")
    low, high = code_bounds(node, out)
    steps = b.op("Mul", [total, per_channel(unit / np.float32(out.scale[0]), "multiplier")], f"{name}.steps")
    b.bind_steps(name, steps, layout, low=low, high=high)


def _geometry(node: Node, kernel: tuple[int, int]) -> dict[str, Any]:
    window = window_of(node, kernel)
    return {
        "kernel_shape": list(kernel),
        "strides": list(window.stride),
        "dilations": list(window.dilation),
        "pads": list(window.pads),
    }


def _conv(b: Builder, node: Node, kind: str, weights: str, channels: int, **attributes: Any) -> None:
    inputs = [b.value(node.inputs[0], FIRST), weights]
    bias = _bias(b, node, channels)
    y = b.op(kind, [*inputs, bias] if bias else inputs, f"{node.outputs[0]}.raw", **attributes)
    _finish(b, node, y, FIRST)


@emitter("Conv2D")
def conv2d(b: Builder, node: Node) -> None:
    """Conv; weights [O,KH,KW,I/group] to [O,I/group,KH,KW]."""
    o, kh, kw, _ = b.tensor(node.inputs[1]).shape
    w = _weights(b, node, lambda a: np.ascontiguousarray(a.transpose(0, 3, 1, 2)), 0)
    _conv(b, node, "Conv", w, o, group=node.params.get("group", 1), **_geometry(node, (kh, kw)))


@emitter("DepthwiseConv2D")
def depthwise(b: Builder, node: Node) -> None:
    """Conv with one group per input channel; weights [KH,KW,C*m] to [C*m,1,KH,KW]."""
    kh, kw, channels = b.tensor(node.inputs[1]).shape
    w = _weights(b, node, lambda a: np.ascontiguousarray(a.transpose(2, 0, 1)[:, None]), 0)
    _conv(b, node, "Conv", w, channels, group=channels // node.params.get("multiplier", 1), **_geometry(node, (kh, kw)))


@emitter("ConvTranspose2D")
def conv_transpose(b: Builder, node: Node) -> None:
    """ConvTranspose; weights [O,KH,KW,C/group] to [C,O/group,KH,KW]."""
    tensor: Tensor = b.tensor(node.inputs[1])
    o, kh, kw, depth = tensor.shape
    group = node.params.get("group", 1)

    def arrange(a: Array) -> Array:
        parts = a.reshape(group, o // group, kh, kw, depth).transpose(0, 4, 1, 2, 3)
        return np.ascontiguousarray(parts.reshape(group * depth, o // group, kh, kw))

    extra = [node.params.get("output_pad_h", 0), node.params.get("output_pad_w", 0)]
    _conv(b, node, "ConvTranspose", _weights(b, node, arrange, 1), o, group=group, output_padding=extra, **_geometry(node, (kh, kw)))


@emitter("FullyConnected")
def fully_connected(b: Builder, node: Node) -> None:
    """Gemm for matrices, else MatMul and Add."""
    if node.params.get("dynamic", False):
        raise b.fail(node, "its activations are quantised row by row at run time, which ONNX cannot say")
    x, out = b.tensor(node.inputs[0]), node.outputs[0]
    channels = b.tensor(node.inputs[1]).shape[0]
    bias = _bias(b, node, channels)
    if len(x.shape) == 2:
        inputs = [b.value(node.inputs[0]), _weights(b, node, _as_is, 0)]
        _finish(b, node, b.op("Gemm", [*inputs, bias] if bias else inputs, f"{out}.raw", transB=1), LAST)
    elif _plain(b, node):
        _wide_gemm(b, node, bias)
    else:
        y = b.op("MatMul", [b.value(node.inputs[0]), _weights(b, node, lambda a: np.ascontiguousarray(a.T), 1)], f"{out}.raw")
        _finish(b, node, b.op("Add", [y, bias], f"{out}.biased") if bias else y, LAST)


def _plain(b: Builder, node: Node) -> bool:
    x, weights, out = b.tensor(node.inputs[0]), b.tensor(node.inputs[1]), b.tensor(node.outputs[0])
    coded = all(b.quantised(t) for t in (x, out)) and weights.scale is not None and not weights.group
    return coded and not (len(node.inputs) > 4 and node.inputs[4]) and code_bounds(node, out) == code_limits(out)


def _wide_gemm(b: Builder, node: Node, bias: str) -> None:
    """Other ranks than 2: the codes are reshaped to a matrix and back, so that the product and its bias are one integer operator."""
    source, name = node.inputs[0], node.outputs[0]
    x, out = b.tensor(source), b.tensor(name)
    codes, layout = b.codes.get(source, ("", LAST))
    if not codes or layout != LAST:
        codes = b.quantise(b.value(source), x, f"{source}.rows")
    flat = b.op("Reshape", [codes, b.integers([-1, x.shape[-1]], "matrix")], f"{name}.matrix")
    inputs = [b.dequantise(flat, x, f"{name}.rows"), _weights(b, node, _as_is, 0)]
    y = b.op("Gemm", [*inputs, bias] if bias else inputs, f"{name}.raw", transB=1)
    result = b.op("Reshape", [b.quantise(y, out, f"{name}.matrix_codes"), b.integers(out.shape, "shape")], f"{name}.codes")
    b.bind_codes(name, result)


@emitter("MatMul")
def mat_mul(b: Builder, node: Node) -> None:
    """MatMul; a transposed operand gets a Transpose."""
    left, right = b.value(node.inputs[0]), b.value(node.inputs[1])
    if node.params.get("transpose_b", False):
        rank = len(b.tensor(node.inputs[1]).shape)
        right = b.op("Transpose", [right], f"{node.inputs[1]}.transposed", perm=[*range(rank - 2), rank - 1, rank - 2])
    bind_clamped(b, node, b.op("MatMul", [left, right], f"{node.outputs[0]}.raw"))
