# SPDX-License-Identifier: Apache-2.0
"""Dequantize: C against numpy bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.graph import DType, Graph, Node, Tensor
from edge8.converter.targets.cpu_lite import write
from tests.ops.harness import check_node, run_file, run_node, tensor, value


@given(
    code=st.sampled_from(["int8", "int16"]),
    scale=st.floats(2.0**-30, 2.0**30),
    zero=st.integers(-128, 127),
    shape=st.lists(st.integers(1, 40), max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_real_numbers(code: Any, scale: float, zero: int, shape: list[int], seed: int) -> None:
    info = np.iinfo(code)
    x = np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(code)
    check_node("Dequantize", {}, [value(x, scale, 0 if code == "int16" else zero)], [tensor(tuple(shape))])


def test_real_zero_is_exact() -> None:
    (y,) = run_node("Dequantize", {}, [value(np.array([-17, -16], np.int8), 0.3, -17)], [tensor((2,))])
    assert y.tolist() == [0.0, np.float32(0.3)]


def test_in_parts_of_threads() -> None:
    x = np.random.default_rng(4).integers(-128, 128, (300, 1001), dtype=np.int8)
    check_node("Dequantize", {}, [value(x, 0.1, 3)], [tensor(x.shape)], threads=(1, 2, 5))


def test_before_calibration_it_is_a_copy() -> None:
    graph = Graph(inputs=["x"], outputs=["y"])
    for name, dtype in (("x", DType.FLOAT32), ("q", DType.INT8), ("y", DType.FLOAT32)):
        graph.add(Tensor(name, (50,), dtype))
    graph.nodes = [Node("Quantize", ["x"], ["q"]), Node("Dequantize", ["q"], ["y"])]
    x = np.random.default_rng(5).normal(0, 3, 50).astype(np.float32)
    np.testing.assert_array_equal(run_file(write(graph), {"x": x})[0], x)


def test_plain_integers_are_refused() -> None:
    with pytest.raises(edge8.FormatError, match=r"dequantize\.type"):
        run_node("Dequantize", {}, [np.zeros(3, np.int32)], [tensor((3,))])
