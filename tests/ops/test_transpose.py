# SPDX-License-Identifier: Apache-2.0
"""Transpose over generated shapes and types, and DepthToSpace and SpaceToDepth."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from tests.ops.harness import check_node, run_node, tensor
from tests.ops.onnx_case import check_onnx
from tests.ops.shapes import MOVED, content, result, shapes


@given(kind=st.sampled_from(MOVED), shape=shapes(), data=st.data())
@settings(max_examples=300, deadline=None)
def test_every_permutation(kind: Any, shape: tuple[int, ...], data: st.DataObject) -> None:
    perm = data.draw(st.permutations(range(len(shape))))
    check_node("Transpose", {"perm": list(perm)}, [content(kind, shape, 2)], [result(kind, tuple(shape[p] for p in perm))])


@pytest.mark.parametrize("kind", MOVED, ids=str)
@pytest.mark.parametrize(
    "shape", [(1, 3, 65, 67), (1, 224, 224, 3), (2, 70, 33), (300, 301), (1, 96, 56, 56), (1, 56, 56, 96), (4, 4, 128, 32)], ids=str
)
def test_layouts_in_parts_of_threads(kind: Any, shape: tuple[int, ...]) -> None:
    """NCHW and NHWC, matrices, and the head split of attention, at sizes where the work is shared out."""
    x = content(kind, shape, 3)
    perms = {2: [(1, 0)], 3: [(0, 2, 1), (2, 1, 0)], 4: [(0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1, 3), (0, 1, 3, 2), (3, 2, 1, 0)]}[len(shape)]
    for perm in perms:
        check_node("Transpose", {"perm": list(perm)}, [x], [result(kind, tuple(shape[p] for p in perm))], threads=(1, 3))


def test_what_does_not_permute_is_refused() -> None:
    for perm in ([0, 0], [0, 2], [0, -1], [0], [0, 1, 2], []):
        with pytest.raises(edge8.FormatError, match="transpose"):
            run_node("Transpose", {"perm": perm}, [np.zeros((2, 2), np.float32)], [tensor((2, 2))])


def test_import_transpose() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    check_onnx(onnx.helper.make_node("Transpose", ["x"], ["y"]), {"x": x})
    check_onnx(onnx.helper.make_node("Transpose", ["x"], ["y"], perm=[1, 2, 0]), {"x": x})
    check_onnx(onnx.helper.make_node("Transpose", ["x"], ["y"], perm=[0, 1, 2]), {"x": x})


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_import_depth_to_space(mode: str) -> None:
    x = np.arange(2 * 18 * 2 * 5, dtype=np.float32).reshape(2, 18, 2, 5)
    check_onnx(onnx.helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=3, mode=mode), {"x": x})


def test_import_space_to_depth() -> None:
    x = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)
    check_onnx(onnx.helper.make_node("SpaceToDepth", ["x"], ["y"], blocksize=2), {"x": x})
