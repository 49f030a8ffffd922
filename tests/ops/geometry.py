# SPDX-License-Identifier: Apache-2.0
"""Generated shapes for the operators with windows or weights, and weight tensors for the harness."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from edge8.converter.graph import DType, Tensor

Array = np.ndarray[Any, Any]

__all__ = ["activation", "coded", "weights_float", "weights_int8", "windows"]


@st.composite
def windows(draw: st.DrawFn, most: int = 9) -> tuple[tuple[int, int], tuple[int, int], dict[str, int]]:
    """Input (H, W), kernel (KH, KW) and the window parameters; the window fits into the padded input."""
    sizes, kernel, params = [], [], {}
    for axis, (first, last) in (("h", ("top", "bottom")), ("w", ("left", "right"))):
        k, d, s = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
        before, after = draw(st.integers(0, 4)), draw(st.integers(0, 4))
        size = draw(st.integers(max(1, d * (k - 1) + 1 - before - after), most + d * (k - 1)))
        sizes.append(size)
        kernel.append(k)
        params.update({f"stride_{axis}": s, f"dilation_{axis}": d, f"pad_{first}": before, f"pad_{last}": after})
    return (sizes[0], sizes[1]), (kernel[0], kernel[1]), params


def activation(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """int8 codes, extremes included."""
    return rng.integers(-128, 128, shape, dtype=np.int8)


def weights_float(array: Array) -> Tensor:
    """Float weights."""
    return Tensor("", array.shape, DType.FLOAT32, array.astype(np.float32))


def coded(codes: Array, scale: Array, bits: int = 0) -> Tensor:
    """Weight codes with their scales."""
    dtype = DType.INT8 if codes.dtype == np.int8 else DType.INT16
    return Tensor("", codes.shape, dtype, codes, np.asarray(scale, np.float32), bits=bits)


def weights_int8(rng: np.random.Generator, shape: tuple[int, ...], channels: int, per_channel: bool) -> Tensor:
    """Random codes in [-127, 127] with one scale, or one for each channel."""
    scale = np.exp(rng.normal(-5, 1, channels if per_channel else 1)).astype(np.float32)
    return coded(rng.integers(-127, 128, shape, dtype=np.int8), scale)
