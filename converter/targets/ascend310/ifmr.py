# SPDX-License-Identifier: Apache-2.0
"""IFMR: the activation range search of AMCT, streaming. Everything is float32 except the sum of the squared errors (float64).

Definition, over the n values x of all batches of one tensor:
  k = n - int(p*n)  (1 when 1-p < 2^-23);   max = k-th largest, min = k-th smallest;   max = max(0,max), min = min(0,min)
  ratio_i = start + i*step, i = 0 .. ceil((end-start)/step)-1
  asymmetric: c_i = max*ratio_i, s_i = (c_i-min)/255, low = min
  symmetric:  M = max(|max|,|min|), c_i = M*ratio_i, s_i = c_i/127 (/128 when |max| < |min|), low = -c_i
  s_i < 2^-23 -> 1;   error_i = mean((rint(clip(x,low,c_i)/s_i)*s_i - x)^2);   the first smallest error wins
  offset = -rint(min/s) - 128, or 0 when symmetric

Two passes over the data. The first keeps the k largest and k smallest values (k is about 1e-6 n by default), the second adds up the
errors: memory is 2k floats a tensor plus one block, whatever n is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["EPSILON", "IfmrParams", "IfmrSearch", "TailKeeper", "ratios", "tail_rank"]

Array = npt.NDArray[np.float32]

EPSILON = np.float32(1.1920928955078125e-07)
_BLOCK = 1 << 15


@dataclass(frozen=True)
class IfmrParams:
    """Settings of one tensor's search, named as in AMCT's configuration."""

    max_percentile: float = 0.999999
    min_percentile: float = 0.999999
    search_start: float = 0.7
    search_end: float = 1.3
    search_step: float = 0.01


def tail_rank(percentile: float, count: int) -> int:
    """k: which largest (smallest) value bounds the search."""
    if 1.0 - percentile < float(EPSILON):
        return 1
    return max(1, count - int(percentile * count))


def ratios(params: IfmrParams) -> Array:
    """The candidate ratios; 61 by default, 1.30 included."""
    count = math.ceil((params.search_end - params.search_start) / params.search_step)
    return (params.search_start + np.arange(count, dtype=np.float64) * params.search_step).astype(np.float32)


class TailKeeper:
    """The k-th largest and k-th smallest of a stream, exactly.

    Args:
        count: how many values the stream will have.
    """

    def __init__(self, params: IfmrParams, count: int) -> None:
        self.count = count
        self._k_max = tail_rank(params.max_percentile, count)
        self._k_min = tail_rank(params.min_percentile, count)
        self._top = np.empty(0, dtype=np.float32)
        self._bottom = np.empty(0, dtype=np.float32)

    def add(self, x: npt.NDArray[Any]) -> None:
        """Take in one batch."""
        flat = np.asarray(x, dtype=np.float32).ravel()
        self._top = _keep_largest(self._top, flat, self._k_max)
        self._bottom = -_keep_largest(-self._bottom, -flat, self._k_min)

    def bounds(self) -> tuple[np.float32, np.float32]:
        """(min, max), both including 0."""
        return np.float32(min(0.0, float(self._bottom.max()))), np.float32(max(0.0, float(self._top.min())))


def _keep_largest(kept: Array, x: Array, k: int) -> Array:
    if kept.size >= k:
        x = x[x > kept.min()]
    both = np.concatenate([kept, x])
    if both.size <= k:
        return both
    return np.partition(both, both.size - k)[both.size - k :]


class IfmrSearch:
    """The second pass: squared error of each candidate."""

    def __init__(self, params: IfmrParams, low: np.float32, high: np.float32, asymmetric: bool) -> None:
        self.asymmetric = asymmetric
        self.low = np.float32(low)
        factor = ratios(params)
        if asymmetric:
            self.clips: Array = np.float32(high) * factor
            scales = (self.clips - self.low) / np.float32(255.0)
        else:
            limit = np.float32(128.0) if abs(high) < abs(low) else np.float32(127.0)
            self.clips = np.float32(max(abs(high), abs(low))) * factor
            scales = self.clips / limit
        self.scales: Array = np.where(scales < EPSILON, np.float32(1.0), scales).astype(np.float32)
        self.errors = np.zeros(self.scales.size, dtype=np.float64)
        self.count = 0

    def add(self, x: npt.NDArray[Any]) -> None:
        """Take in one batch. Zeros are skipped: their error is 0 under every candidate."""
        flat = np.asarray(x, dtype=np.float32).ravel()
        self.count += flat.size
        flat = flat[flat != 0]
        work = np.empty(min(_BLOCK, flat.size), dtype=np.float32)
        for start in range(0, flat.size, _BLOCK):
            block = flat[start : start + _BLOCK]
            low_clipped = np.maximum(block, self.low) if self.asymmetric else block
            q = work[: block.size]
            for index, (clip, scale) in enumerate(zip(self.clips, self.scales, strict=True)):
                np.minimum(low_clipped, clip, out=q)
                if not self.asymmetric:
                    np.maximum(q, -clip, out=q)
                np.divide(q, scale, out=q)
                np.rint(q, out=q)
                np.multiply(q, scale, out=q)
                np.subtract(q, block, out=q)
                np.multiply(q, q, out=q)
                self.errors[index] += np.add.reduce(q, dtype=np.float64)

    def best(self) -> tuple[np.float32, int]:
        """(scale_d, offset_d)."""
        scale = self.scales[int(np.argmin(self.errors))]
        return scale, self.offset(scale)

    def offset(self, scale: np.float32) -> int:
        """Zero point of a scale, int8."""
        if not self.asymmetric:
            return 0
        return int(np.clip(-np.rint(self.low / scale) - 128.0, -128, 127))
