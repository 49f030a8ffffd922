# SPDX-License-Identifier: Apache-2.0
"""IFMR, HFMG and ARQ equal a second evaluation of their definitions on 1,000 random and adversarial tensors each."""

from __future__ import annotations

import numpy as np
import pytest

from edge8.converter.targets.ascend310.arq import BiasOverflowError, arq_scales, quantise_bias, quantise_weights
from edge8.converter.targets.ascend310.hfmg import HfmgHistogram
from edge8.converter.targets.ascend310.ifmr import IfmrParams, IfmrSearch, TailKeeper, ratios, tail_rank
from tests.ascend310 import brute_force

TENSORS = 1000


def _split(x: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:  # type: ignore[type-arg]
    """The same values as one to four batches."""
    cuts = np.sort(rng.integers(0, x.size + 1, int(rng.integers(0, 4))))
    return [part for part in np.split(x, cuts) if part.size]


def _ifmr(batches: list[np.ndarray], asymmetric: bool, params: IfmrParams) -> tuple[np.float32, int]:  # type: ignore[type-arg]
    keeper = TailKeeper(params, sum(b.size for b in batches))
    for batch in batches:
        keeper.add(batch)
    search = IfmrSearch(params, *keeper.bounds(), asymmetric)
    for batch in batches:
        search.add(batch)
    return search.best()


def test_ifmr_equals_brute_force() -> None:
    rng = np.random.default_rng(1)
    different = []
    for index in range(TENSORS):
        x = brute_force.adversarial(index, rng)
        asymmetric = bool(rng.random() < 0.7)
        p = 0.999999 if index % 3 else float(rng.choice([0.51, 0.9, 0.99, 1.0]))
        got = _ifmr(_split(x, rng), asymmetric, IfmrParams(max_percentile=p, min_percentile=p))
        if got != brute_force.ifmr(x, asymmetric, p, p):
            different.append(index)
    assert not different


def test_hfmg_equals_brute_force() -> None:
    rng = np.random.default_rng(2)
    different = []
    for index in range(TENSORS):
        x = brute_force.adversarial(index, rng)[:200]
        asymmetric = bool(rng.random() < 0.7)
        bins = 1024 if index % 10 else int(rng.choice([2048, 4096]))
        histogram = HfmgHistogram(bins, x.min(), x.max())
        batches = _split(x, rng)
        for batch in batches:
            histogram.add(batch)
        if histogram.best(asymmetric) != brute_force.hfmg(batches, asymmetric, bins):
            different.append(index)
    assert not different


def test_arq_equals_brute_force() -> None:
    rng = np.random.default_rng(3)
    for index in range(TENSORS):
        flat = brute_force.adversarial(index, rng)
        op = ("Conv", "ConvTranspose", "Gemm", "MatMul")[index % 4]
        group = int(rng.integers(1, 4)) if op in ("Conv", "ConvTranspose") else 1
        shape = (
            (group * int(rng.integers(1, 4)), int(rng.integers(1, 5)), 3, 2)
            if op in ("Conv", "ConvTranspose")
            else (int(rng.integers(1, 9)), int(rng.integers(1, 9)))
        )
        w = np.resize(flat, shape).astype(np.float32)
        channel_wise = op in ("Conv", "ConvTranspose") and bool(rng.random() < 0.8)
        scales, codes = brute_force.arq(op, w, group, channel_wise)
        got = arq_scales(op, w, group, channel_wise)
        assert np.array_equal(got, scales), (index, op)
        assert np.array_equal(quantise_weights(op, w, got, group), codes), (index, op)


def test_candidates_include_the_end_of_the_range() -> None:
    values = ratios(IfmrParams())
    assert values.size == 61
    assert values[0] == np.float32(0.7)
    assert values[-1] == np.float32(1.3)


@pytest.mark.parametrize(("count", "rank"), [(1, 1), (999_999, 1), (1_000_000, 1), (2_500_000, 3), (10_000_000, 10)])
def test_tail_rank(count: int, rank: int) -> None:
    assert tail_rank(0.999999, count) == rank


def test_special_values() -> None:
    """All zero: scale 1, offset -128 (0 when symmetric). A constant c > 0: c/255 at ratio 1, offset -128; c/127 when symmetric."""
    zero, five = [np.zeros(100, np.float32)], [np.full(100, 5, np.float32)]
    assert _ifmr(zero, True, IfmrParams()) == (np.float32(1), -128)
    assert _ifmr(zero, False, IfmrParams()) == (np.float32(1), 0)
    for asymmetric, levels in ((True, 255), (False, 127)):
        scale, offset = _ifmr(five, asymmetric, IfmrParams())
        assert scale == pytest.approx(5 / levels, rel=3e-7)
        assert offset == (-128 if asymmetric else 0)


def test_bias_is_divided_in_float32_and_must_fit() -> None:
    assert quantise_bias(np.float32([1, -1, 0.5]), np.float32(0.5), np.float32([1, 1, 1])).tolist() == [2, -2, 1]
    with pytest.raises(BiasOverflowError) as error:
        quantise_bias(np.float32([0, 1e9]), np.float32(1e-3), np.float32([1e-3]))
    assert error.value.channel == 1
