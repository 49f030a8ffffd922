# SPDX-License-Identifier: Apache-2.0
"""HFMG: the histogram search of AMCT. Two passes: the range of all batches, then one histogram over it.

Definition:
  1. ``bins`` equal bins over [min,max] of all batches (min == max widens by 1 on both sides); index int((x-min)/(max-min)*bins), float32;
     x == max falls into the last bin.
  2. l = 0, r = bins-1, step = max(ceil(N/100000), 1). While r-l > bins/4: a = number of bins that must be dropped on the left to lose
     at least step samples, b = the same on the right; drop the side that loses more bins (tie: right); (l,r) is a candidate.
     Where too few samples are left, a leaves one bin, and b stops at the bin that a would leave.
  3. loss(l,r): destination bins of width w = binwidth*(r-l+1)/256; each source bin is uniform with density count/binwidth, and each
     piece of it adds the integral of (x-centre)^2 to the destination bin floor(x/w), clamped to 0..255. w < 2^-23: loss 0.
  4. The first smallest loss: clip_min = min + l*binwidth, clip_max = min + (r+1)*binwidth, both made to include 0.
     asymmetric: s = (clip_max-clip_min)/255, offset = rint(-128 - clip_min/s);
     symmetric: s = max|clip|/127, /128 when |clip_max| < |clip_min|.
     s < 2^-23: scale 1, offset -128 (asymmetric) or 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .ifmr import EPSILON

__all__ = ["HfmgHistogram", "asymmetric_factors", "symmetric_factors"]

Array = npt.NDArray[Any]
_LEVELS = 256


def asymmetric_factors(low: np.float32, high: np.float32) -> tuple[np.float32, int]:
    """Scale and offset of a clip range that includes 0."""
    scale = np.float32(np.float32(high - low) / np.float32(255.0))
    if scale < EPSILON:
        return np.float32(1.0), -128
    return scale, int(np.clip(np.rint(np.float32(-128.0) - low / scale), -128, 127))


def symmetric_factors(low: np.float32, high: np.float32) -> tuple[np.float32, int]:
    """Scale of a symmetric range; offset 0."""
    limit = np.float32(128.0) if abs(high) < abs(low) else np.float32(127.0)
    scale = np.float32(max(abs(high), abs(low)) / limit)
    return (np.float32(1.0) if scale < EPSILON else scale), 0


class HfmgHistogram:
    """The second pass: a histogram over a known range.

    Args:
        bins: 1024, 2048, 4096 or 8192.
        low, high: exact range over all batches, float32.
    """

    def __init__(self, bins: int, low: np.float32, high: np.float32) -> None:
        self.bins = bins
        if low == high:
            low, high = np.float32(low - np.float32(1.0)), np.float32(high + np.float32(1.0))
        self.low, self.high = np.float32(low), np.float32(high)
        self.counts = np.zeros(bins, dtype=np.int64)

    def add(self, x: Array) -> None:
        """Take in one batch."""
        flat = np.asarray(x, dtype=np.float32).ravel()
        index = ((flat - self.low) / np.float32(self.high - self.low) * np.float32(self.bins)).astype(np.int64)
        np.clip(index, 0, self.bins - 1, out=index)
        self.counts += np.bincount(index, minlength=self.bins)

    def candidates(self) -> list[tuple[int, int]]:
        """The shrinking ranges of step 2."""
        left, right = 0, self.bins - 1
        step = max(math.ceil(int(self.counts.sum()) / 100000), 1)
        out = []
        total = np.concatenate([[0], np.cumsum(self.counts)])
        while right - left > self.bins // 4:
            # First start behind `left` that has lost `step` samples, at most `right`; then the last end that has, not before that start.
            start = min(int(np.searchsorted(total, total[left] + step, side="left")), right)
            end = int(np.searchsorted(total, total[right + 1] - step, side="right")) - 2
            end = max(end, start)
            if right - end >= start - left:
                right = end
            else:
                left = start
            out.append((left, right))
        return out

    def loss(self, left: int, right: int) -> float:
        """Squared error of step 3, up to a constant factor."""
        width = float(np.float32(self.high - self.low)) / self.bins
        target = width * (right - left + 1) / _LEVELS
        if target < float(EPSILON):
            return 0.0
        begin = (np.arange(self.bins, dtype=np.float64) - left) * width
        end = begin + width
        first = np.clip(np.floor(begin / target), 0, _LEVELS - 1)
        last = np.clip(np.floor(end / target), 0, _LEVELS - 1)
        density = self.counts / width
        half = target / 2
        from_first = begin - (first + 0.5) * target
        to_last = end - (last + 0.5) * target
        pieces = half**3 - from_first**3 + (last - first - 1) * (2 * half**3) + to_last**3 + half**3
        return float((density * pieces).sum() / 3)

    def clip_range(self) -> tuple[np.float32, np.float32]:
        """(clip_min, clip_max) of the best candidate, including 0."""
        ranges = self.candidates()
        losses = [self.loss(left, right) for left, right in ranges]
        left, right = ranges[int(np.argmin(losses))]
        width = np.float32(np.float32(self.high - self.low) / np.float32(self.bins))
        low = self.low + np.float32(left) * width
        high = self.low + np.float32(right + 1) * width
        return np.float32(min(low, np.float32(0.0))), np.float32(max(high, np.float32(0.0)))

    def best(self, asymmetric: bool) -> tuple[np.float32, int]:
        """(scale_d, offset_d)."""
        low, high = self.clip_range()
        return asymmetric_factors(low, high) if asymmetric else symmetric_factors(low, high)
