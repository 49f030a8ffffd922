# SPDX-License-Identifier: Apache-2.0
"""Quantize: C against numpy bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.graph import DType
from tests.ops.harness import check_node, run_node, tensor, value


@given(
    wide=st.booleans(),
    scale=st.floats(2.0**-30, 2.0**30),
    zero=st.integers(-128, 127),
    shape=st.lists(st.integers(1, 40), max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_codes(wide: bool, scale: float, zero: int, shape: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    limit = 40000 if wide else 200
    x = rng.choice(np.concatenate([rng.normal(0, limit / 2, 50) * scale, (rng.integers(-limit, limit, 50) + 0.5) * scale]), shape)
    check_node(
        "Quantize", {}, [x.astype(np.float32)], [tensor(tuple(shape), DType.INT16 if wide else DType.INT8, scale, 0 if wide else zero)]
    )


@given(
    wide=st.tuples(st.booleans(), st.booleans()),
    scales=st.tuples(st.floats(2.0**-6, 2.0**6), st.floats(2.0**-6, 2.0**6)),
    zeros=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    shape=st.lists(st.integers(1, 40), max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_codes_of_another_type_or_scale(
    wide: tuple[bool, bool], scales: tuple[float, float], zeros: tuple[int, int], shape: list[int], seed: int
) -> None:
    info = np.iinfo(np.int16 if wide[0] else np.int8)
    codes = np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(info.dtype)
    x = value(codes, scales[0], 0 if wide[0] else zeros[0])
    y = tensor(tuple(shape), DType.INT16 if wide[1] else DType.INT8, scales[1], 0 if wide[1] else zeros[1])
    check_node("Quantize", {}, [x], [y])


def test_rounding_is_to_even_and_special_numbers_saturate() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 127.4, 1e30, -1e30, np.inf, -np.inf, np.nan, 1e-45], np.float32)
    (y,) = check_node("Quantize", {}, [x], [tensor(x.shape, DType.INT8, 1.0, 0)])
    assert y.tolist() == [0, 2, 2, 0, -2, 127, 127, -128, 127, -128, -128, 0]


def test_in_parts_of_threads() -> None:
    x = np.random.default_rng(2).normal(0, 3, (1, 300, 1001)).astype(np.float32)
    for dtype in (DType.INT8, DType.INT16):
        check_node("Quantize", {}, [x], [tensor(x.shape, dtype, 0.04, 5 if dtype is DType.INT8 else 0)], threads=(1, 2, 5))


def test_before_calibration_it_is_a_copy() -> None:
    x = np.random.default_rng(3).normal(0, 3, 70).astype(np.float32)
    (y,) = run_node("Quantize", {}, [x], [tensor(x.shape, DType.INT8)])
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("out", [tensor((3,), DType.INT32), tensor((4,), DType.INT8, 1.0)])
def test_other_types_and_shapes_are_refused(out: Any) -> None:
    with pytest.raises(edge8.FormatError, match=r"quantize\."):
        run_node("Quantize", {}, [np.zeros(3, np.float32)], [out])
