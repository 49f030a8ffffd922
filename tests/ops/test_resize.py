# SPDX-License-Identifier: Apache-2.0
"""Resize: C against numpy bit for bit over generated tables; what the runtime refuses. Import: tests/test_resampling.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.graph import DType, numpy_dtype
from edge8.converter.ops.resize import ResizeKind
from edge8.converter.resampling import Axis, Rule, axis_table
from tests.ops.harness import check_node, node_file, tensor, value

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 9)


def _params(kind: ResizeKind, sizes: tuple[int, int], outs: tuple[int, int], coordinates: str = "half_pixel") -> dict[str, Any]:
    params: dict[str, Any] = {"kind": int(kind)}
    for axis, size, out in zip("yx", sizes, outs, strict=True):
        index, weight = axis_table(Axis(size, out, np.float64(out / size)), Rule(kind.name.lower(), coordinates))
        params[f"{axis}_index"] = index.tolist()
        if weight is not None:
            params[f"{axis}_weight"] = weight.tolist()
    return params


@given(kind=st.sampled_from(ResizeKind), h=sides, w=sides, oh=sides, ow=sides, channels=st.integers(1, 40), seed=seeds)
@settings(max_examples=150, deadline=None)
def test_float(kind: ResizeKind, h: int, w: int, oh: int, ow: int, channels: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(0, 3, (2, h, w, channels)).astype(np.float32)
    check_node("Resize", _params(kind, (h, w), (oh, ow)), [x], [tensor((2, oh, ow, channels))])


@given(
    kind=st.sampled_from([ResizeKind.NEAREST, ResizeKind.LINEAR]),
    h=sides,
    w=sides,
    oh=sides,
    ow=sides,
    channels=st.integers(1, 40),
    seed=seeds,
    zero=st.integers(-128, 127),
)
@settings(max_examples=200, deadline=None)
def test_int8(kind: ResizeKind, h: int, w: int, oh: int, ow: int, channels: int, seed: int, zero: int) -> None:
    codes = np.random.default_rng(seed).integers(-128, 128, (2, h, w, channels), dtype=np.int8)
    params, y = _params(kind, (h, w), (oh, ow)), tensor((2, oh, ow, channels), DType.INT8, 0.5, zero)
    (found,) = check_node("Resize", params, [value(codes, 0.5, zero)], [y])
    (real,) = check_node("Resize", params, [codes.astype(np.float32)], [tensor((2, oh, ow, channels))])
    assert np.abs(found - real).max() <= 0.75


@given(weights=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12), seed=seeds, zero=st.integers(-128, 127))
@settings(max_examples=100, deadline=None)
def test_int8_any_weights(weights: list[float], seed: int, zero: int) -> None:
    """Weights that do not add up to 1, as outside a cropped region."""
    rng = np.random.default_rng(seed)
    out = len(weights)
    pairs = [[w, min(float(np.float32(1) - np.float32(w)), 1.0) if i % 2 else 0.0] for i, w in enumerate(weights)]
    params = {"kind": 1, "y_index": [0, 0], "y_weight": [1.0, 0.0], "x_index": rng.integers(0, 5, 2 * out).tolist()}
    params["x_weight"] = [v for pair in pairs for v in pair]
    x = value(rng.integers(-128, 128, (1, 1, 5, 7), dtype=np.int8), 0.5, zero)
    check_node("Resize", params, [x], [tensor((1, 1, out, 7), DType.INT8, 0.5, zero)])


@pytest.mark.parametrize("dtype", [DType.INT64, DType.INT32, DType.BOOL, DType.UINT8, DType.INT8])
def test_nearest_moves_any_type(dtype: DType) -> None:
    x = np.random.default_rng(0).integers(0, 2, (1, 4, 5, 3)).astype(numpy_dtype(dtype))
    check_node("Resize", _params(ResizeKind.NEAREST, (4, 5), (9, 3)), [x], [tensor((1, 9, 3, 3), dtype)])


def test_threads_share_a_large_input() -> None:
    x = value(np.random.default_rng(0).integers(-128, 128, (1, 40, 40, 64), dtype=np.int8), 0.1, 7)
    params = _params(ResizeKind.LINEAR, (40, 40), (79, 83))
    check_node("Resize", params, [x], [tensor((1, 79, 83, 64), DType.INT8, 0.1, 7)], threads=(1, 2, 3, 4))


def _linear(**changes: Any) -> dict[str, Any]:
    return {"kind": 1, "y_index": [0, 1], "x_index": [0, 1], "y_weight": [0.5, 0.5], "x_weight": [1.0, 0.0], **changes}


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        (_linear(y_index=[0, 2]), "resize.table"),
        (_linear(x_index=[-1, 0]), "resize.table"),
        (_linear(x_index=[0, 1, 0]), "resize.table"),
        (_linear(x_index=[]), "resize.table"),
        (_linear(y_weight=[0.5]), "resize.table"),
        (_linear(y_weight=[float("nan"), 0.5]), "resize.table"),
        (_linear(y_weight=[1.0, 1.0]), "resize.table"),
        (_linear(y_weight=[-0.5, 1.0]), "resize.table"),
        (_linear(kind=0), "resize.table"),
        (_linear(kind=2), "resize.type"),
        (_linear(kind=3), "resize.kind"),
    ],
)
def test_check_refuses(params: dict[str, Any], rule: str) -> None:
    x = value(np.zeros((1, 2, 2, 1), np.int8), 0.5)
    with pytest.raises(edge8.Edge8Error, match=rule):
        edge8.Model(node_file("Resize", params, [x], [tensor((1, 1, 1, 1), DType.INT8, 0.5)]))


def test_check_refuses_other_scales_and_shapes() -> None:
    x = value(np.zeros((1, 2, 2, 1), np.int8), 0.5)
    for out, rule in ((tensor((1, 1, 1, 1), DType.INT8, 0.25), r"op\.scale"), (tensor((1, 1, 1, 2), DType.INT8, 0.5), r"resize\.shape")):
        with pytest.raises(edge8.Edge8Error, match=rule):
            edge8.Model(node_file("Resize", _linear(), [x], [out]))
