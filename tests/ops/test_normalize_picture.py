# SPDX-License-Identifier: Apache-2.0
"""NormalizePicture against numpy, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.graph import DType
from tests.ops.harness import check_node, run_node, tensor

PARAMS = {"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, -57.4]}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5), st.lists(st.integers(1, 9), max_size=3), st.floats(2**-8, 2.0, width=32), st.integers(-128, 127), st.integers(0, 99)
)
def test_codes_and_numbers(channels: int, shape: list[int], scale: float, zero: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (*shape, channels), np.uint8)
    params = {"mean": rng.uniform(-10, 300, channels).tolist(), "std": rng.uniform(0.1, 300, channels).tolist()}
    check_node("NormalizePicture", params, [x], [tensor(x.shape)])
    check_node("NormalizePicture", params, [x], [tensor(x.shape, DType.INT8, scale, zero)])


def test_every_thread_count_gives_the_same() -> None:
    x = np.resize(np.arange(256, dtype=np.uint8), (1, 97, 131, 3))
    for out in (tensor(x.shape), tensor(x.shape, DType.INT8, 0.0187, -14)):
        check_node("NormalizePicture", PARAMS, [x], [out], threads=(1, 2, 5))


def test_codes_are_what_quantize_makes() -> None:
    x = np.resize(np.arange(256, dtype=np.uint8), (4, 64, 3))
    out = tensor(x.shape, DType.INT8, 0.0187, -14)
    (real,) = run_node("NormalizePicture", PARAMS, [x], [tensor(x.shape)])
    (codes,) = run_node("NormalizePicture", PARAMS, [x], [out])
    assert np.array_equal(codes, run_node("Quantize", {}, [real], [out])[0])


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        ({"mean": [1.0, 2.0], "std": [1.0, 1.0, 1.0]}, "channels"),
        ({"mean": [1.0, 2.0, 3.0], "std": []}, "channels"),
        ({"mean": [1.0, float("nan"), 3.0], "std": [1.0, 1.0, 1.0]}, "finite"),
        ({"mean": [1.0, 2.0, 3.0], "std": [1.0, float("inf"), 1.0]}, "finite"),
        ({"mean": [1.0, 2.0, 3.0], "std": [1.0, 0.0, 1.0]}, "std"),
    ],
)
def test_bad_parameters_are_refused(params: dict[str, list[float]], rule: str) -> None:
    x = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(edge8.FormatError, match=rf"normalize_picture\.{rule}"):
        run_node("NormalizePicture", params, [x], [tensor(x.shape)])


def test_other_types_and_shapes_are_refused() -> None:
    x = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(edge8.FormatError, match=r"normalize_picture\.shape"):
        run_node("NormalizePicture", PARAMS, [x], [tensor((2, 1, 3))])
    with pytest.raises(edge8.FormatError, match=r"normalize_picture\.type"):
        run_node("NormalizePicture", PARAMS, [x.astype(np.float32)], [tensor(x.shape)])
    with pytest.raises(edge8.FormatError, match=r"normalize_picture\.type"):
        run_node("NormalizePicture", PARAMS, [x], [tensor(x.shape, DType.INT32)])
