# SPDX-License-Identifier: Apache-2.0
"""IFMR, HFMG and ARQ once more, straight from their published definitions, slow and simple. Shares no code with the product."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

F = np.float32
TINY = 2.0**-23


def ifmr(
    data: Any, asymmetric: bool, p_max: float = 0.999999, p_min: float = 0.999999, start: float = 0.7, end: float = 1.3, step: float = 0.01
) -> tuple[np.float32, int]:
    """Sort everything, try every candidate on everything."""
    x = np.sort(np.asarray(data, dtype=F).reshape(-1))
    n = len(x)
    k_max = 1 if 1.0 - p_max < TINY else max(1, n - int(p_max * n))
    k_min = 1 if 1.0 - p_min < TINY else max(1, n - int(p_min * n))
    high, low = max(F(0), x[n - k_max]), min(F(0), x[k_min - 1])
    wide_low = abs(high) < abs(low)
    top = high if asymmetric else max(abs(high), abs(low))
    best_error, best_scale = math.inf, F(0)
    count = math.ceil((end - start) / step)
    for i in range(count):
        clip = F(top * F(start + i * step))
        scale = F((clip - low) / F(255)) if asymmetric else F(clip / (F(128) if wide_low else F(127)))
        if scale < F(TINY):
            scale = F(1)
        clipped = np.where(x > clip, clip, x)
        bottom = low if asymmetric else F(-clip)
        clipped = np.where(clipped < bottom, bottom, clipped)
        levels = np.round((clipped / scale).astype(F)).astype(F)
        difference = ((levels * scale).astype(F) - x).astype(F)
        error = float(np.sum((difference * difference).astype(F).astype(np.float64)))
        if error < best_error:
            best_error, best_scale = error, scale
    if not asymmetric:
        return best_scale, 0
    return best_scale, int(-np.round(F(low / best_scale)) - 128)


def hfmg(batches: Any, asymmetric: bool, bins: int = 4096) -> tuple[np.float32, int]:
    """Histogram by counting, ranges by walking, losses by integrating piece after piece."""
    x = np.concatenate([np.asarray(b, dtype=F).reshape(-1) for b in batches])
    low, high = x.min(), x.max()
    if low == high:
        low, high = F(low - F(1)), F(high + F(1))
    counts = [0] * bins
    for value in ((x - low) / F(high - low) * F(bins)).tolist():
        counts[min(int(value), bins - 1)] += 1
    ranges = _walk(counts, bins)
    width = float(F(high - low)) / bins
    losses = [_loss(counts, left, right, width) for left, right in ranges]
    left, right = ranges[losses.index(min(losses))]
    step = F(F(high - low) / F(bins))
    clip_min, clip_max = min(F(0), F(low + F(left) * step)), max(F(0), F(low + F(right + 1) * step))
    if asymmetric:
        scale = F(F(clip_max - clip_min) / F(255))
        return (F(1), -128) if scale < F(TINY) else (scale, int(np.round(F(F(-128) - F(clip_min / scale)))))
    scale = F(max(abs(clip_max), abs(clip_min)) / (F(128) if abs(clip_max) < abs(clip_min) else F(127)))
    return (F(1) if scale < F(TINY) else scale), 0


def _walk(counts: list[int], bins: int) -> list[tuple[int, int]]:
    left, right, out = 0, bins - 1, []
    need = max(math.ceil(sum(counts) / 100000), 1)
    while right - left > bins // 4:
        a, lost = left, 0
        while a < right and lost < need:
            lost += counts[a]
            a += 1
        b, lost = right, 0
        while a < b and lost < need:
            lost += counts[b]
            b -= 1
        if right - b >= a - left:
            right = b
        else:
            left = a
        out.append((left, right))
    return out


def _loss(counts: list[int], left: int, right: int, width: float) -> float:
    target = width * (right - left + 1) / 256
    if target < TINY:
        return 0.0
    total = 0.0
    for source, count in enumerate(counts):
        if not count:
            continue
        begin = (source - left) * width
        end = begin + width
        first, last = (min(max(math.floor(edge / target), 0), 255) for edge in (begin, end))
        for level in range(first, last + 1):
            centre = (level + 0.5) * target
            a = begin if level == first else level * target
            b = end if level == last else (level + 1) * target
            total += count / width * ((b - centre) ** 3 - (a - centre) ** 3) / 3
    return total


def arq(op: str, weights: Any, group: int, channel_wise: bool) -> tuple[Any, Any]:
    """(scales, int8 codes), channel by channel with explicit indices."""
    w = np.asarray(weights, dtype=F)
    if op == "Conv":
        where = [(slice(o, o + 1),) for o in range(w.shape[0])]
    elif op == "ConvTranspose":
        inside = w.shape[0] // group
        where = [(slice(g * inside, (g + 1) * inside), slice(j, j + 1)) for g in range(group) for j in range(w.shape[1])]
    else:
        where = [(slice(None), slice(j, j + 1)) for j in range(w.shape[1])]
    if not channel_wise:
        where = [(slice(None),)]
    scales, codes = [], np.zeros(w.shape, dtype=np.int8)
    for place in where:
        part = w[place]
        high, low = part.max(), part.min()
        scale = F(abs(high) / F(127)) if abs(high) >= abs(low) else F(abs(low) / F(128))
        scale = F(1) if scale < F(TINY) else scale
        scales.append(scale)
        codes[place] = np.clip(np.round((part / scale).astype(F)), -128, 127)
    return np.array(scales, dtype=F), codes


def adversarial(index: int, rng: np.random.Generator) -> np.ndarray:  # type: ignore[type-arg]
    """A tensor of one of many awkward kinds."""
    n = int(rng.integers(1, 3000))
    kind = index % 20
    normal = rng.normal(size=n).astype(F)
    table = {
        0: normal,
        1: np.maximum(normal, 0),
        2: np.clip(normal * 4, 0, 6),
        3: -np.abs(normal),
        4: np.full(n, rng.normal(), dtype=F),
        5: np.zeros(n, dtype=F),
        6: normal * F(1e-9),
        7: normal * F(1e9),
        8: np.where(rng.random(n) < 0.001, normal * 1000, normal),
        9: rng.integers(-3, 4, n).astype(F),
        10: rng.standard_cauchy(n).astype(F),
        11: np.exp(normal * 3),
        12: -np.exp(normal * 3),
        13: np.where(np.arange(n) == 0, F(100), F(0)),
        14: rng.integers(-128, 128, n).astype(F) * F(0.5),
        15: np.linspace(-1, 1, n, dtype=F),
        16: np.concatenate([normal, [F(-1e-30), F(1e-30)]]),
        17: np.array([rng.normal()], dtype=F),
        18: np.where(rng.random(n) < 0.5, F(-1), F(1.0000001)),
        19: normal + F(50),
    }
    return np.asarray(table[kind], dtype=F)
