# SPDX-License-Identifier: Apache-2.0
"""What the operators with weights share: the packed layout of runtime_c/src/kernels/kernel.h and the int8 arithmetic of linear.h."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .graph import DType, Node, Tensor
from .ops.base import Array, Value, code_limits, requantise

__all__ = [
    "DEPTH_LIMIT",
    "check_bias",
    "clamp_float",
    "code_bits",
    "convolution_inputs",
    "finish_int8",
    "finish_int16",
    "fused_multiply_add",
    "pack_codes",
    "pack_matrix",
    "stored_width",
    "unpack_codes",
    "unpack_matrix",
]

ROWS = 16
DEPTH_LIMIT = 65536
"""Inputs that one int8 output may sum: 255 * 127 * 65536 and a bias fit in int32."""


def fused_multiply_add(a: Array, b: Array, c: Array) -> Array:
    """``a * b + c`` of float32 arrays with one rounding.

    The product is exact in float64. The sum is rounded to odd there (its last bit is 1 unless it is exact), after which rounding to
    float32 is as if done once.
    """
    product, c = np.broadcast_arrays(a.astype(np.float64) * b.astype(np.float64), np.asarray(c, np.float64))
    with np.errstate(over="ignore", invalid="ignore"):
        total = product + c
        part = total - product
        lost = (product - (total - part)) + (c - part)
    bits = total.view(np.int64)
    outward = (lost > 0) == (total > 0)
    inexact = np.isfinite(total) & (lost != 0) & (bits & 1 == 0)
    odd: Array = np.where(inexact, np.where(outward, bits + 1, bits - 1), bits)
    return np.asarray(odd.view(np.float64), np.float32)


def pack_codes(codes: Array, bits: int) -> bytes:
    """Integer codes as a little-endian bit string, ``bits`` each; the last byte is filled up with zeros.

    Codes are in two's complement; those of one bit are 0 for +1 (and padding) and 1 for -1.
    """
    flat = np.asarray(codes).reshape(-1).astype(np.int64)
    if bits == 1:
        flat = (flat < 0).astype(np.int64)
    if bits == 8:
        return flat.astype("i1").tobytes()
    if bits == 16:
        return flat.astype("<i2").tobytes()
    digits = (flat[:, None] >> np.arange(bits)) & 1
    return np.packbits(digits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def unpack_codes(data: bytes, bits: int, count: int) -> Array:
    """The first ``count`` codes of a bit string, int16."""
    digits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits, bitorder="little").reshape(count, bits)
    words = digits.astype(np.int64) @ (np.int64(1) << np.arange(bits))
    if bits == 1:
        return np.where(words == 1, -1, 1).astype(np.int16)
    sign = 1 << (bits - 1)
    return ((words ^ sign) - sign).astype(np.int16)


def code_bits(tensor: Tensor) -> int:
    """Stored width of a weight tensor's codes, 0 for float32."""
    if tensor.dtype == DType.FLOAT32:
        return 0
    if tensor.dtype not in (DType.INT8, DType.INT16):
        raise ValueError(f"weights {tensor.name!r} are {tensor.dtype.name.lower()}")
    return tensor.bits or (8 if tensor.dtype == DType.INT8 else 16)


def pack_matrix(matrix: Array, bits: int) -> bytes:
    """Rows of weights ``[n, k]`` in blocks of 16 rows.

    Float (``bits`` 0): ``[ceil(n/16)][k][16]``. Codes: ``[ceil(n/16)][ceil(k/4)][16][4]``, bit-packed in this order. Padding is zero
    (of one-bit codes +1, which meets no input).
    """
    n, k = matrix.shape
    blocks = -(-n // ROWS)
    if bits == 0:
        padded = np.zeros((blocks * ROWS, k), "<f4")
        padded[:n] = matrix
        return padded.reshape(blocks, ROWS, k).transpose(0, 2, 1).tobytes()
    columns = -(-k // 4)
    codes = np.zeros((blocks * ROWS, columns * 4), np.int16)
    codes[:n, :k] = matrix
    return pack_codes(codes.reshape(blocks, ROWS, columns, 4).transpose(0, 2, 1, 3), bits)


def stored_width(n: int, k: int, bits: int) -> int:
    """Bytes of `pack_matrix`."""
    blocks = -(-n // ROWS)
    return blocks * ROWS * k * 4 if bits == 0 else blocks * -(-k // 4) * 8 * bits


def unpack_matrix(data: bytes, n: int, k: int, bits: int) -> Array:
    """Inverse of `pack_matrix`: float32 or int16 codes ``[n, k]``."""
    blocks = -(-n // ROWS)
    if len(data) != stored_width(n, k, bits):
        raise ValueError(f"{len(data)} bytes are not a packed {n} x {k} matrix of {bits or 32} bits")
    if bits == 0:
        return np.frombuffer(data, "<f4").reshape(blocks, k, ROWS).transpose(0, 2, 1).reshape(blocks * ROWS, k)[:n].copy()
    columns = -(-k // 4)
    codes = unpack_codes(data, bits, blocks * columns * 64).reshape(blocks, columns, ROWS, 4)
    return codes.transpose(0, 2, 1, 3).reshape(blocks * ROWS, columns * 4)[:n, :k].copy()


def convolution_inputs(node: Node, inputs: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
    """x [N,H,W,C] and weights [O,KH,KW,C/group] of a convolution or transposed convolution, checked with group and bias.

    Raises:
        ValueError: ranks, channels, group or bias do not fit together.
    """
    x, w = inputs[0], inputs[1]
    assert x is not None
    assert w is not None
    if len(x.shape) != 4 or len(w.shape) != 4:
        raise ValueError(f"input {list(x.shape)} and weights {list(w.shape)} must have rank 4")
    group = node.params.get("group", 1)
    if group < 1 or x.shape[3] != w.shape[3] * group or w.shape[0] % group:
        raise ValueError(f"{x.shape[3]} input channels, weights {list(w.shape)} and group {group} do not fit together")
    check_bias(inputs, w.shape[0])
    return x, w


def check_bias(inputs: Sequence[Tensor | None], channels: int) -> None:
    """Raise ValueError unless input 2 is absent or has one value per output channel."""
    bias = inputs[2] if len(inputs) > 2 else None
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"bias has shape {list(bias.shape)}, not [{channels}]")


def clamp_float(x: Array, node: Node) -> Array:
    """The fused activation of a float result: clamp to act_min .. act_max."""
    low, high = node.params.get("act_min", -np.inf), node.params.get("act_max", np.inf)
    return np.clip(x, np.float32(low), np.float32(high)).astype(np.float32)


def _code_of(real: float, out: Tensor) -> int:
    assert out.scale is not None
    low, high = (np.float32(limit - out.zero_point) for limit in code_limits(out))
    return int(np.rint(np.float32(np.clip(np.float32(real) / np.float32(out.scale[0]), low, high)))) + out.zero_point


def code_bounds(node: Node, out: Tensor) -> tuple[int, int]:
    """Codes of act_min and act_max on the output's scale."""
    return _code_of(node.params.get("act_min", -np.inf), out), _code_of(node.params.get("act_max", np.inf), out)


def finish_int8(
    node: Node,
    sums: Array,
    x: Value,
    weights: Value,
    bias: Array | None,
    residual: Value | None,
    out: Tensor,
    depth: int,
) -> Array:
    """From exact sums of (code - zero point) * weight code to int8 outputs, by the rules of runtime_c/src/ops/linear.h.

    Args:
        sums: whole numbers ``[..., O]``, any type that holds them exactly.
        x: the input (its scale is used).
        weights: the codes with 1 or O scales.
        bias: float32 [O] or None.
        residual: int8 of the output's shape, or None.
        out: the output with scale and zero point.
        depth: K, the number of values that one output sums.
    """
    assert x.scale is not None
    assert weights.scale is not None
    assert out.scale is not None
    channels = sums.shape[-1]
    bound = (2**31 - 1 - 32385 * depth) // 2
    scale = np.float32(x.scale[0]) * np.broadcast_to(np.asarray(weights.scale, np.float32).reshape(-1), (channels,))
    acc = np.rint(sums).astype(np.int64)
    if bias is not None:
        with np.errstate(over="ignore"):
            start = np.rint(bias.astype(np.float32) / scale)
        acc = acc + np.clip(start.astype(np.float64), -bound, bound).astype(np.int64)
    if residual is not None:
        assert residual.scale is not None
        factor = np.minimum(np.float32(residual.scale[0]) / scale, np.float32(bound // 256))
        step = (residual.array.astype(np.int32) - residual.zero_point).astype(np.float32) * factor
        acc = acc + np.clip(np.rint(step).astype(np.float64), -2147483520, 2147483520).astype(np.int64)
    low, high = code_bounds(node, out)
    return requantise(acc.astype(np.int32), scale / np.float32(out.scale[0]), out.zero_point, low, high)


def finish_int16(node: Node, sums: Array, x: Value, weights: Value, bias: Array | None, residual: Value | None, out: Tensor) -> Array:
    """From exact sums of code * weight code to int16 outputs, by the rules of runtime_c/src/ops/linear.h; arguments as `finish_int8`."""
    assert x.scale is not None
    assert weights.scale is not None
    assert out.scale is not None
    channels = sums.shape[-1]
    scale = np.float32(x.scale[0]) * np.broadcast_to(np.asarray(weights.scale, np.float32).reshape(-1), (channels,))
    acc = np.rint(sums).astype(np.int64)
    if bias is not None:
        with np.errstate(over="ignore"):
            start = (bias.astype(np.float32) / scale).astype(np.float64)
        acc = acc + np.rint(np.clip(start, -(2.0**50), 2.0**50)).astype(np.int64)
    if residual is not None:
        assert residual.scale is not None
        factor = np.minimum(np.float32(residual.scale[0]) / scale, np.float32(2.0**34))
        acc = acc + np.rint((residual.array.astype(np.float32) * factor).astype(np.float64)).astype(np.int64)
    low, high = code_bounds(node, out)
    return requantise(acc, scale / np.float32(out.scale[0]), 0, low, high, DType.INT16)
