# SPDX-License-Identifier: Apache-2.0
"""The C observers for tests: numpy in, plain numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge8._library import ffi, lib

Array = np.ndarray[Any, Any]
METHODS = {"auto": 0, "min-max": 1, "moving-average": 2, "percentile": 3, "removal-outlier": 4, "kl": 5, "mse": 6}


@dataclass(frozen=True)
class Seen:
    runs: int
    count: int
    sampled: int
    near_zero: int
    huge: int
    nan: int
    low: float
    high: float


class Observer:
    """One e8_observer."""

    def __init__(self) -> None:
        self.pointer = ffi.new("e8_observer *")
        self.scratch = ffi.new("e8_observer_scratch *")
        lib.e8_observer_init(self.pointer)

    def add(self, values: Array) -> Observer:
        x = np.ascontiguousarray(values, np.float32).reshape(-1)
        lib.e8_observer_add(self.pointer, ffi.cast("float *", x.ctypes.data), x.size, self.scratch)
        return self

    def end(self) -> Observer:
        lib.e8_observer_end(self.pointer)
        return self

    def merge(self, other: Observer) -> Observer:
        lib.e8_observer_merge(self.pointer, other.pointer)
        return self

    @property
    def bytes(self) -> bytes:
        return bytes(ffi.buffer(self.pointer))

    @property
    def seen(self) -> Seen:
        s = ffi.new("e8_observed *")
        lib.e8_observer_read(self.pointer, s)
        return Seen(s.runs, s.count, s.sampled, s.near_zero, s.huge, s.nan, s.low, s.high)

    def bins(self) -> tuple[Array, Array]:
        """Edges ``[n, 2]`` and counts ``[n]``."""
        edges, counts = np.zeros((2049, 2)), np.zeros(2049, np.uint64)
        n = lib.e8_observer_bins(self.pointer, ffi.cast("double *", edges.ctypes.data), ffi.cast("uint64_t *", counts.ctypes.data), 2049)
        return edges[:n], counts[:n]

    def range(self, method: str, percentile: float = 99.99, bits: int = 8, symmetric: bool = False) -> tuple[float, float]:
        options = ffi.new("e8_range_options *", {"method": METHODS[method], "percentile": percentile, "bits": bits, "symmetric": symmetric})
        low, high = ffi.new("float *"), ffi.new("float *")
        status = lib.e8_observer_range(self.pointer, options, low, high, self.scratch)
        if status != 0:
            raise ValueError(status)
        return low[0], high[0]

    def error(self, low: float, high: float, bits: int = 8) -> Any:
        e = ffi.new("e8_range_error *")
        assert lib.e8_observer_error(self.pointer, low, high, bits, e) == 0
        return e


def scale_of(low: float, high: float, bits: int = 8, symmetric: bool = False) -> tuple[float, int]:
    scale, zero = ffi.new("float *"), ffi.new("int32_t *")
    lib.e8_scale_of_range(low, high, bits, symmetric, scale, zero)
    return scale[0], zero[0]


def quantised(x: Array, low: float, high: float) -> Array:
    """Real numbers after int8 quantisation with the scale of a range."""
    scale, zero = scale_of(low, high)
    codes = np.clip(np.rint(x.astype(np.float64) / scale) + zero, -128, 127)
    return (codes - zero) * scale
