# SPDX-License-Identifier: Apache-2.0
"""The observers of runtime_c/src/quant for plots: what values a tensor takes, in fixed memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge8._library import ffi, lib

__all__ = ["Observer"]

Array = np.ndarray[Any, Any]
_CAPACITY = 2049  # e8_observer_bins: these always suffice


class Observer:
    """One e8_observer: extremes and a histogram of a stream of values."""

    def __init__(self) -> None:
        self._observer = ffi.new("e8_observer *")
        lib.e8_observer_init(self._observer)

    def add(self, values: Array, scratch: Any) -> None:
        """Watch one run's float32 values; ``scratch`` is an ``e8_observer_scratch *`` that many observers may share."""
        x = np.ascontiguousarray(values, np.float32).reshape(-1)
        lib.e8_observer_add(self._observer, ffi.cast("float *", x.ctypes.data), x.size, scratch)
        lib.e8_observer_end(self._observer)

    def extremes(self) -> tuple[float, float]:
        """Least and largest value; (0, 0) before the first."""
        seen = ffi.new("e8_observed *")
        lib.e8_observer_read(self._observer, seen)
        return float(seen.low), float(seen.high)

    def bins(self) -> tuple[Array, Array]:
        """Edges ``[n, 2]`` (float64) and counts ``[n]`` (float64) of the bins with values, ascending."""
        edges, counts = np.zeros((_CAPACITY, 2), np.float64), np.zeros(_CAPACITY, np.uint64)
        n = lib.e8_observer_bins(
            self._observer, ffi.cast("double *", edges.ctypes.data), ffi.cast("uint64_t *", counts.ctypes.data), _CAPACITY
        )
        return edges[:n], counts[:n].astype(np.float64)

    def histogram(self, bins: int = 100) -> tuple[float, float, list[float]]:
        """Equal bins between the extremes: low, high, and the share of the values in each.

        The observer's bins are narrow near zero and wide far from it; each spreads its count evenly over the equal ones.
        """
        edges, counts = self.bins()
        low, high = self.extremes()
        if not len(counts) or high <= low:
            return low, high, []
        grid = np.linspace(low, high, bins + 1)
        left, right = np.clip(edges[:, 0], low, high), np.clip(edges[:, 1], low, high)
        # Points of the cumulative count; a bin without width after clipping keeps a hair of it, so that it is not lost.
        width = np.maximum(right - left, (high - low) * 1e-9)
        covered = np.clip((grid[:, None] - left[None, :]) / width[None, :], 0.0, 1.0)
        cumulative = covered @ counts
        cumulative[-1] = counts.sum()
        return low, high, [float(v) for v in np.diff(cumulative) / counts.sum()]


def scratch() -> Any:
    """Working memory that observers share."""
    return ffi.new("e8_observer_scratch *")
