# SPDX-License-Identifier: Apache-2.0
"""Generated tensors of every element type, for operators that move data."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from edge8.converter.graph import DType, Tensor, numpy_dtype
from edge8.converter.ops import Value
from tests.ops.harness import tensor, value

__all__ = ["MOVED", "content", "result", "shapes"]

MOVED = ["int8", "int16", DType.FLOAT32, DType.INT32, DType.INT64, DType.BOOL, DType.UINT8]
"""Quantised int8 and int16, and the plain types."""


@st.composite
def shapes(draw: st.DrawFn, low: int = 0, high: int = 8, elements: int = 6000) -> tuple[int, ...]:
    """A shape of so many dimensions, some of them 1, with a bounded number of elements."""
    shape = draw(st.lists(st.integers(1, 9), min_size=low, max_size=high))
    while int(np.prod(shape)) > elements:
        shape[int(np.argmax(shape))] = 1
    return tuple(shape)


def content(kind: Any, shape: tuple[int, ...], seed: int) -> Value | np.ndarray[Any, Any]:
    """Random elements; the kinds are those of `MOVED`."""
    rng = np.random.default_rng(seed)
    if kind in ("int8", "int16"):
        info = np.iinfo(kind)
        return value(rng.integers(info.min, info.max + 1, shape).astype(kind), 0.037, -3 if kind == "int8" else 0)
    if kind is DType.FLOAT32:
        return rng.normal(0, 3, shape).astype(np.float32)
    if kind is DType.BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    info = np.iinfo(numpy_dtype(kind))
    return rng.integers(info.min, info.max, shape, dtype=info.dtype)


def result(kind: Any, shape: tuple[int, ...]) -> Tensor:
    """The output tensor of the same kind."""
    if kind in ("int8", "int16"):
        return tensor(shape, DType[kind.upper()], 0.037, -3 if kind == "int8" else 0)
    return tensor(shape, kind)
