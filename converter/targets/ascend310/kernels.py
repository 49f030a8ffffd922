# SPDX-License-Identifier: Apache-2.0
"""Vectorised numpy kernels of the operators that onnx's own reference evaluator computes with Python loops. NCHW, any spatial rank."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["average_pool", "conv", "conv_transpose", "exact_dtype", "max_pool", "patches", "resize", "same_pads"]

Array = npt.NDArray[Any]

# im2col buffers are cut along the first spatial axis so that none exceeds this many elements.
_COLUMN_LIMIT = 1 << 24

# Elements of one depthwise block: input, product and sum together stay in the second-level cache.
_BLOCK = 1 << 15


def exact_dtype(bound: float) -> Any:
    """The float type in which integer sums of at most ``bound`` in magnitude are exact whatever the order of addition."""
    return np.float32 if bound < float(1 << 24) else np.float64


def same_pads(auto_pad: str, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Explicit pads (all begins, then all ends) of ONNX's auto_pad."""
    begins, ends = [], []
    for length, taps, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        out = -(-length // stride)
        total = max((out - 1) * stride + (taps - 1) * dilation + 1 - length, 0) if auto_pad.startswith("SAME") else 0
        small = total // 2
        begins.append(small if auto_pad != "SAME_LOWER" else total - small)
        ends.append(total - small if auto_pad != "SAME_LOWER" else small)
    return begins + ends


def _padded(x: Array, pads: Sequence[int], value: float) -> Array:
    rank = x.ndim - 2
    if not any(pads):
        return x
    widths = [(0, 0), (0, 0), *((pads[axis], pads[axis + rank]) for axis in range(rank))]
    return np.pad(x, widths, constant_values=value)


def _taps(kernel: Sequence[int]) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(taps) for taps in kernel)))


def _window(x: Array, tap: Sequence[int], dilations: Sequence[int], strides: Sequence[int], out: Sequence[int]) -> Array:
    """View of the input elements that kernel position ``tap`` meets, one per output element."""
    slices = [slice(None), slice(None)]
    for position, dilation, stride, length in zip(tap, dilations, strides, out, strict=True):
        start = position * dilation
        slices.append(slice(start, start + (length - 1) * stride + 1, stride))
    return x[tuple(slices)]


def patches(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]) -> Array:
    """im2col: [N, C, spatial...] -> [N, C, kernel positions, out...]."""
    x = _padded(x, pads, 0.0)
    out = [(x.shape[2 + i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(len(kernel))]
    return np.stack([_window(x, tap, dilations, strides, out) for tap in _taps(kernel)], axis=2)


def _depthwise(x: Array, w: Array, strides: Sequence[int], dilations: Sequence[int], out: Sequence[int]) -> Array:
    """Each input channel with its own filters: [N,C,...] * [C,M,kernel...] -> [N,C,M,out...], in blocks that stay in the cache."""
    channels, multiplier = w.shape[:2]
    y = np.zeros((x.shape[0], channels, multiplier, *out), dtype=x.dtype)
    step = max(1, _BLOCK // max(int(np.prod(out)), 1))
    ones = (1,) * len(out)
    for image in range(x.shape[0]):
        for start in range(0, channels, step):
            block = slice(start, start + step)
            for m in range(multiplier):
                target = y[image, block, m]
                product = np.empty_like(target)
                for tap in _taps(w.shape[2:]):
                    window = _window(x[image : image + 1, block], tap, dilations, strides, out)[0]
                    np.multiply(window, w[(block, m, *tap)].reshape(-1, *ones), out=product)
                    target += product
    return y


def conv(x: Array, w: Array, group: int, strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]) -> Array:
    """y[n,o,p] = sum over c,k of x[n, c, p*stride + k*dilation - pad] * w[o,c,k], without bias.

    Args:
        x: [N, C, spatial...]; w: [O, C/group, kernel...] of the same float dtype.

    Returns:
        [N, O, out...], dtype of x.
    """
    kernel = w.shape[2:]
    batch, channels = x.shape[:2]
    x = _padded(x, pads, 0.0)
    out = [(x.shape[2 + i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(len(kernel))]
    if min(out) < 1:
        raise ValueError(f"kernel {list(kernel)} does not fit into {list(x.shape[2:])}")
    per_group, outputs = channels // group, w.shape[0]
    if per_group == 1:
        return _depthwise(x, w.reshape(channels, outputs // group, *kernel), strides, dilations, out).reshape(batch, outputs, *out)
    matrix = np.ascontiguousarray(w.reshape(group, outputs // group, -1))
    positions = _taps(kernel)
    row = int(np.prod(out[1:], dtype=np.int64)) * channels * len(positions) * batch
    step = max(1, min(out[0], _COLUMN_LIMIT // max(row, 1)))
    parts = []
    for start in range(0, out[0], step):
        rows = min(step, out[0] - start)
        piece = [rows, *out[1:]]
        source = x[:, :, start * strides[0] :]
        if len(positions) == 1:
            columns = np.ascontiguousarray(_window(source, positions[0], dilations, strides, piece))
        else:
            columns = np.empty((batch, channels, len(positions), *piece), dtype=x.dtype)
            for index, tap in enumerate(positions):
                columns[:, :, index] = _window(source, tap, dilations, strides, piece)
        flat = columns.reshape(batch, group, per_group * len(positions), -1)
        parts.append(np.matmul(matrix[None], flat).reshape(batch, outputs, *piece))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def conv_transpose(
    x: Array, w: Array, group: int, strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int], output_padding: Sequence[int]
) -> Array:
    """The transpose of ``conv``, without bias. x: [N, C, spatial...]; w: [C, O/group, kernel...]; result [N, O, out...]."""
    kernel = w.shape[2:]
    rank = len(kernel)
    batch, channels = x.shape[:2]
    per_group = w.shape[1]
    full = [(x.shape[2 + i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + output_padding[i] for i in range(rank)]
    matrix = w.reshape(group, channels // group, -1).transpose(0, 2, 1)
    columns = np.matmul(np.ascontiguousarray(matrix)[None], x.reshape(batch, group, channels // group, -1))
    columns = columns.reshape(batch, group * per_group, -1, *x.shape[2:])
    y = np.zeros((batch, group * per_group, *full), dtype=x.dtype)
    for index, tap in enumerate(_taps(kernel)):
        _window(y, tap, dilations, strides, x.shape[2:])[...] += columns[:, :, index]
    crop = [slice(None), slice(None), *(slice(pads[i], full[i] - pads[i + rank]) for i in range(rank))]
    return np.ascontiguousarray(y[tuple(crop)])


def _pool_geometry(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int], ceil_mode: bool
) -> tuple[list[int], list[int]]:
    """Output sizes, and pads with the surplus that ceil_mode needs at the ends. A window must start before the end padding."""
    rank = len(kernel)
    out, full = [], list(pads)
    for i in range(rank):
        reach = (kernel[i] - 1) * dilations[i] + 1
        span = size[i] + pads[i] + pads[i + rank] - reach
        length = (-(-span // strides[i]) if ceil_mode else span // strides[i]) + 1
        if ceil_mode and (length - 1) * strides[i] >= size[i] + pads[i]:
            length -= 1
        out.append(length)
        full[i + rank] = max(pads[i + rank], (length - 1) * strides[i] + reach - size[i] - pads[i])
    return out, full


def max_pool(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int], ceil_mode: bool
) -> Array:
    """Maximum over each window; padding never wins. Same dtype as x."""
    out, full = _pool_geometry(x.shape[2:], kernel, strides, dilations, pads, ceil_mode)
    lowest = np.finfo(x.dtype).min if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    x = _padded(x, full, -np.inf if np.issubdtype(x.dtype, np.floating) else lowest)
    y: Array | None = None
    for tap in _taps(kernel):
        window = _window(x, tap, dilations, strides, out)
        y = window.copy() if y is None else np.maximum(y, window, out=y)
    assert y is not None
    return y


def average_pool(
    x: Array,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    ceil_mode: bool,
    include_pad: bool,
) -> Array:
    """Mean over each window; padding counts only with ``include_pad`` and then only inside the declared pads. Float dtype of x."""
    out, full = _pool_geometry(x.shape[2:], kernel, strides, dilations, pads, ceil_mode)
    ones = np.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    if include_pad:
        ones = _padded(ones, pads, 1.0)
        rest = [extra - inside for extra, inside in zip(full, pads, strict=True)]
        ones = _padded(ones, rest, 0.0)
    else:
        ones = _padded(ones, full, 0.0)
    x = _padded(x, full, 0.0)
    total = np.zeros((*x.shape[:2], *out), dtype=x.dtype)
    count = np.zeros((1, 1, *out), dtype=x.dtype)
    for tap in _taps(kernel):
        total += _window(x, tap, dilations, strides, out)
        count += _window(ones, tap, dilations, strides, out)
    return (total / count).astype(x.dtype)


COORDINATE_MODES = ("align_corners", "asymmetric", "half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn")


def _coordinates(mode: str, length_out: int, length_in: int, scale: float) -> Array:
    """Input coordinate of each output index, float64; ``mode`` is one of COORDINATE_MODES."""
    index = np.arange(length_out, dtype=np.float64)
    if mode == "align_corners":
        return index * ((length_in - 1) / (length_out - 1)) if length_out > 1 else np.zeros(1)
    if mode == "asymmetric":
        return index / scale
    if mode == "pytorch_half_pixel" and length_out == 1:
        return np.zeros(1)
    if mode == "tf_half_pixel_for_nn":
        return (index + 0.5) / scale
    return (index + 0.5) / scale - 0.5


def _nearest_index(coordinate: Array, mode: str) -> Array:
    if mode == "floor":
        return np.floor(coordinate)
    if mode == "ceil":
        return np.ceil(coordinate)
    if mode == "round_prefer_ceil":
        return np.floor(coordinate + 0.5)
    return np.ceil(coordinate - 0.5)


def _cubic_weights(fraction: Array, a: float) -> list[Array]:
    """Keys' cubic at distances 1+f, f, 1-f, 2-f."""
    far = lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a  # noqa: E731
    near = lambda d: ((a + 2) * d - (a + 3)) * d * d + 1  # noqa: E731
    return [far(1 + fraction), near(fraction), near(1 - fraction), far(2 - fraction)]


def resize(
    x: Array,
    sizes: Sequence[int],
    scales: Sequence[float],
    mode: str,
    coordinates: str,
    nearest: str,
    cubic_a: float,
    exclude_outside: bool,
) -> Array:
    """ONNX Resize, one axis after the other. Axes whose size and scale do not change are left alone."""
    for axis, (length_out, scale) in enumerate(zip(sizes, scales, strict=True)):
        length_in = x.shape[axis]
        if length_out == length_in and scale == 1.0:
            continue
        where = _coordinates(coordinates, length_out, length_in, scale)
        if mode == "nearest":
            index = np.clip(_nearest_index(where, nearest), 0, length_in - 1).astype(np.int64)
            x = np.take(x, index, axis=axis)
            continue
        base = np.floor(where)
        fraction = where - base
        if mode == "linear":
            weights, offsets = [1 - fraction, fraction], [0, 1]
        else:
            weights, offsets = _cubic_weights(fraction, cubic_a), [-1, 0, 1, 2]
        if exclude_outside:
            inside = [((base + o >= 0) & (base + o < length_in)).astype(np.float64) for o in offsets]
            total = sum(w * i for w, i in zip(weights, inside, strict=True))
            weights = [w * i / total for w, i in zip(weights, inside, strict=True)]
        shape = [1] * x.ndim
        shape[axis] = length_out
        result: Array | None = None
        for weight, offset in zip(weights, offsets, strict=True):
            index = np.clip(base + offset, 0, length_in - 1).astype(np.int64)
            part = np.take(x, index, axis=axis) * weight.reshape(shape).astype(x.dtype)
            result = part if result is None else result + part
        assert result is not None
        x = result
    return np.ascontiguousarray(x)
