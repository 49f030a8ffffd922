# SPDX-License-Identifier: Apache-2.0
"""Observers: exact where they promise it, independent of order, and close to numpy in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from .observing import METHODS, Observer, quantised, scale_of

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(11)
FLOATS = st.floats(-(2.0**28), 2.0**28, width=32)


def bell(count: int = 20000) -> Array:
    return RNG.normal(size=count).astype(np.float32)


def test_extremes_and_counts_are_exact() -> None:
    x = bell(100_000)
    x[::3] = 0
    seen = Observer().add(x[:70_000]).add(x[70_000:]).end().seen
    assert (seen.low, seen.high) == (x.min(), x.max())
    assert (seen.runs, seen.count) == (1, x.size)
    assert seen.sampled == 32768 + 30_000
    assert abs(seen.near_zero / seen.sampled - 1 / 3) < 0.01


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, st.integers(1, 300), elements=FLOATS))
def test_histogram_counts_every_value(x: Array) -> None:
    edges, counts = Observer().add(x).bins()
    assert counts.sum() == x.size
    assert np.all(edges[:, 0] < edges[:, 1])
    for v in x:
        home = (edges[:, 0] <= v) & (v <= edges[:, 1])
        assert home.any()
    largest = np.abs(x).max()
    wide = (edges[:, 1] - edges[:, 0]) / np.maximum(np.abs(edges).max(axis=1), 1e-300)
    assert np.all((wide <= 1 / 64) | (np.abs(edges).max(axis=1) <= max(largest, 2.0**-109) * 2.0**-14))


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, st.integers(2, 200), elements=FLOATS), st.randoms(use_true_random=False))
def test_order_and_splitting_do_not_matter(x: Array, random: Any) -> None:
    whole = Observer().add(x).end()
    shuffled = x.copy()
    random.shuffle(shuffled)
    cut = random.randrange(1, x.size)
    parts = Observer().add(shuffled[:cut]).add(shuffled[cut:]).end()
    merged = Observer().add(shuffled[cut:]).merge(Observer().add(shuffled[:cut])).end()
    for other in (parts, merged):
        assert other.seen == whole.seen
        assert np.array_equal(other.bins()[0], whole.bins()[0])
        assert np.array_equal(other.bins()[1], whole.bins()[1])
        for method in ("auto", "min-max", "percentile", "kl", "mse"):
            assert other.range(method) == whole.range(method)


def test_growing_values_keep_the_histogram() -> None:
    """The window moves up from 1e-20 to 1e8; the bins are those of counting everything at once."""
    x = (10.0 ** RNG.uniform(-20, 8, 3000) * RNG.choice([-1, 1], 3000)).astype(np.float32)
    ascending = Observer()
    for v in x[np.argsort(np.abs(x))]:
        ascending.add(v[None])
    at_once = Observer().add(x)
    assert np.array_equal(ascending.bins()[1], at_once.bins()[1])
    assert np.array_equal(ascending.bins()[0], at_once.bins()[0])


def test_huge_values_and_nan_take_no_part() -> None:
    x = bell(1000)
    mask = np.array([-3.4e38, -np.inf, np.inf, -1e9, np.nan], np.float32)
    seen = Observer().add(np.concatenate([x[:500], mask, x[500:]])).end().seen
    assert (seen.low, seen.high) == (x.min(), x.max())
    assert (seen.huge, seen.nan, seen.count) == (4, 1, 1004)
    only = Observer().add(mask).end()
    assert only.seen.runs == 0
    assert all(only.range(m) == (0, 0) for m in METHODS)


def test_nothing_seen_gives_the_empty_range() -> None:
    empty = Observer().add(np.zeros(0, np.float32)).end()
    assert all(empty.range(m) == (0, 0) for m in METHODS)
    zeros = Observer().add(np.zeros(100, np.float32)).end()
    assert all(zeros.range(m) == (0, 0) for m in METHODS)
    assert scale_of(0, 0) == (1, 0)


@pytest.mark.parametrize("value", [3.25, -0.01, 1e-25, 2.0**28])
@pytest.mark.parametrize("method", METHODS)
def test_constant_activations(method: str, value: float) -> None:
    low, high = Observer().add(np.full(500, value, np.float32)).end().range(method)
    assert min(0.0, float(np.float32(value))) * 1.02 <= low <= 0 <= high <= max(0.0, float(np.float32(value))) * 1.02
    assert high - low == pytest.approx(abs(value), rel=0.02)


@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99])
def test_percentile_is_close_to_numpy(percentile: float) -> None:
    x = np.concatenate([bell(30_000) * 2 + 1, RNG.exponential(5, 2000).astype(np.float32)])
    low, high = Observer().add(x).range("percentile", percentile)
    near = 0.012 if percentile < 99.95 else 0.04  # three values lie beyond 99.99 % of them
    assert low == pytest.approx(np.percentile(x, 100 - percentile), rel=near)
    assert high == pytest.approx(np.percentile(x, percentile), rel=near)
    assert Observer().add(x).range("percentile", 100.0) == (x.min(), x.max())
    assert Observer().add(-x).range("percentile", percentile) == (-high, -low)


def test_percentile_of_a_one_sided_range_reaches_over_zero() -> None:
    """99 % of the values are negative: the upper percentile is negative too, and the range ends at zero."""
    x = np.concatenate([-1 - RNG.random(9900), RNG.random(100)]).astype(np.float32)
    assert Observer().add(x).range("percentile", 98.0)[1] == 0
    x = np.concatenate([np.zeros(99_00), RNG.random(100) + 1]).astype(np.float32)
    assert Observer().add(x).range("percentile", 98.0) == (0, 0)


def test_samples_of_long_arrays_represent_them() -> None:
    """Channels of very different sizes in a period that divides every block."""
    for channels in (64, 96, 256, 768):
        scales = np.logspace(-2, 2, channels)
        x = (RNG.normal(size=(200_000 // channels, channels)) * scales).astype(np.float32)
        low, high = Observer().add(x).range("percentile", 99.0)
        assert high == pytest.approx(np.percentile(x, 99), rel=0.12)
        assert low == pytest.approx(np.percentile(x, 1), rel=0.12)


def test_moving_average_follows_its_recurrence() -> None:
    runs = [bell(1000) * s for s in (1, 2, 8, 0.5)]
    o = Observer()
    low = high = 0.0
    for i, x in enumerate(runs):
        o.add(x[:300]).add(x[300:]).end()
        keep = 0.9 if i else 0.0
        low, high = keep * low + (1 - keep) * float(x.min()), keep * high + (1 - keep) * float(x.max())
    assert o.range("moving-average") == (np.float32(low), np.float32(high))


def test_removal_of_outliers_is_the_mean_of_quantiles() -> None:
    runs = [bell(30_000) * s for s in (1, 3)]
    o = Observer()
    for x in runs:
        x[17] = 1000
        o.add(x).end()
    low, high = o.range("removal-outlier")
    assert high == pytest.approx(np.mean([np.quantile(x, 0.9999) for x in runs]), rel=0.1)
    assert low == pytest.approx(np.mean([np.quantile(x, 0.0001) for x in runs]), rel=0.1)


def true_error(x: Array, low: float, high: float, power: int = 2) -> float:
    return float(np.mean(np.abs(quantised(x, low, high) - x) ** power))


@pytest.mark.parametrize("shape", ["bell", "relu", "outliers", "uniform", "laplace"])
@pytest.mark.parametrize(("method", "power"), [("mse", 2), ("auto", 3)])
def test_least_error_is_nearly_the_best_of_a_search_on_the_values(shape: str, method: str, power: int) -> None:
    x = bell(30_000)
    x = {
        "bell": x,
        "relu": np.maximum(x, 0),
        "outliers": np.concatenate([x, np.float32([60, -30])]),
        "uniform": RNG.uniform(-1, 3, 30_000).astype(np.float32),
        "laplace": RNG.laplace(size=30_000).astype(np.float32),
    }[shape]
    low, high = Observer().add(x).range(method)
    found = true_error(x, low, high, power)
    best = min(
        true_error(x, float(x.min()) * a, float(x.max()) * b, power) for a in np.linspace(0.02, 1, 40) for b in np.linspace(0.02, 1, 40)
    )
    assert found <= best * 1.06
    assert found <= true_error(x, float(x.min()), float(x.max()), power) * 1.03


def test_estimated_error_is_the_measured_one() -> None:
    x = RNG.laplace(size=30_000).astype(np.float32)
    o = Observer().add(x)
    for low, high in [(float(x.min()), float(x.max())), (-3.0, 4.0), (-1.0, 8.0)]:
        e = o.error(low, high)
        assert e.clip_rate == pytest.approx(np.mean((x < low) | (x > high)), abs=0.003)
        assert e.clip_error + e.round_error == pytest.approx(true_error(x, low, high), rel=0.06)
        assert e.power == pytest.approx(np.mean(x.astype(np.float64) ** 2), rel=0.01)


def divergences(x: Array) -> dict[int, float]:
    """The KL method on 2048 true bins, written plainly: divergence by number of bins kept."""
    counts, _ = np.histogram(np.abs(x[x != 0]), 2048, (0, float(np.abs(x).max())))
    values = {}
    for bins in range(128, 2049, 8):
        p = counts[:bins].astype(np.float64)
        inside, tail = p.sum(), counts[bins:].sum()
        p[-1] += tail
        q = np.zeros(bins)
        for level in range(128):
            b, e = level * bins // 128, (level + 1) * bins // 128
            filled = p[b:e] > 0
            q[b:e][filled] = counts[b:e].sum() / max(1, filled.sum())
        used = p > 0
        ratio = np.where(q[used] > 0, (p[used] / p.sum()) / np.maximum(q[used] / inside, 1e-300), np.exp(1 + 15 * tail / p.sum()))
        values[bins] = float(np.sum(p[used] / p.sum() * np.log(ratio)))
    return values


def test_divergence_is_nearly_the_least_of_a_plain_implementation() -> None:
    tails = RNG.standard_t(3, size=32_000)
    for x in (RNG.laplace(size=32_000), RNG.normal(size=32_000), np.maximum(tails, 0), -np.abs(tails)):
        values = divergences(x.astype(np.float32))
        low, high = Observer().add(x).range("kl")
        bins = round(max(-low, high) / float(np.abs(x).max()) * 2048 / 8) * 8
        least, usual = min(values.values()), float(np.median(list(values.values())))
        assert values[bins] - least <= 0.25 * (usual - least)
    wild = np.concatenate([bell(30_000), np.float32([100.0])])
    assert Observer().add(wild).range("kl")[1] < 20


def test_divergence_keeps_a_spike_at_the_far_end() -> None:
    inside = RNG.uniform(0, 3, 8_000)
    for x in (np.concatenate([inside, np.full(24_000, 6.0)]), -np.concatenate([inside, np.full(24_000, 6.0)])):
        low, high = Observer().add(x.astype(np.float32)).range("kl")
        assert max(-low, high) > 5.9


def test_symmetric_ranges_and_16_bits() -> None:
    x = np.concatenate([bell(5000), np.float32([9])])
    for method in METHODS:
        low, high = Observer().add(x).end().range(method, symmetric=True)
        assert low == -high < 0
    low, high = Observer().add(x).range("mse", bits=16)
    assert high > 8.5
    assert scale_of(-1, 4, 16) == (np.float32(4) / np.float32(32767), 0)
    assert scale_of(-8, 4, 8, True) == (np.float32(8) / np.float32(127), 0)


def test_options_out_of_range_are_refused() -> None:
    o = Observer().add(bell(10))
    for options in ({"percentile": 50.0}, {"percentile": 100.5}, {"percentile": float("nan")}, {"bits": 7}):
        with pytest.raises(ValueError, match="1"):
            o.range("percentile", **options)  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(FLOATS, FLOATS)
def test_scales_represent_zero_and_cover_the_range(a: float, b: float) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    scale, zero = scale_of(low, high)
    assert -128 <= zero <= 127
    assert 2.0**-30 <= scale <= 2.0**30
    if high - low > 2.0**-20:
        assert (127 - zero) * scale >= high - 0.51 * scale
        assert (-128 - zero) * scale <= low + 0.51 * scale
        assert scale == pytest.approx((high - low) / 255, rel=1e-6)
    if low == 0 and high > 2.0**-20:
        assert zero == -128


def test_memory_does_not_grow_and_states_are_equal_for_equal_data() -> None:
    a, b = Observer(), Observer()
    for _ in range(50):
        x = bell(5000)
        a.add(x).end()
        b.add(x).end()
    assert len(a.bytes) == 2112 * 8
    assert a.bytes == b.bytes
