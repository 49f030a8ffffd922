# SPDX-License-Identifier: Apache-2.0
"""Reshape, and the ONNX operators that become it or vanish."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.errors import ConvertError
from edge8.converter.graph import Graph, Node, Tensor
from edge8.converter.targets.cpu_lite import write
from tests.ops.harness import check_node, run_file, run_node, tensor
from tests.ops.onnx_case import check_onnx, import_onnx
from tests.ops.shapes import MOVED, content, result, shapes

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@given(kind=st.sampled_from(MOVED), shape=shapes(), data=st.data())
@settings(max_examples=80, deadline=None)
def test_elements_keep_their_order(kind: Any, shape: tuple[int, ...], data: st.DataObject) -> None:
    target = tuple(data.draw(st.permutations([*shape, 1])))[:8]
    if int(np.prod(target)) != int(np.prod(shape)):
        target = (int(np.prod(shape)),)
    check_node("Reshape", {}, [content(kind, shape, 1)], [result(kind, target)])


def test_in_place_and_copied() -> None:
    """A graph input that is read again is copied; an activation at its end gives its place."""
    graph = Graph(inputs=["x"], outputs=["a", "s"])
    for name, shape in (("x", (2, 3)), ("a", (6,)), ("n", (2, 3)), ("r", (3, 2)), ("s", (3, 2))):
        graph.add(Tensor(name, shape))
    graph.nodes = [
        Node("Reshape", ["x"], ["a"]),
        Node("Unary", ["x"], ["n"], {"kind": 16}),
        Node("Reshape", ["n"], ["r"]),
        Node("Unary", ["r"], ["s"], {"kind": 15}),
    ]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    a, s = run_file(write(graph), {"x": x})
    assert a.tolist() == [0, 1, 2, 3, 4, 5]
    assert s.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_another_number_of_elements_is_refused() -> None:
    with pytest.raises(edge8.FormatError, match=r"reshape\.elements"):
        run_node("Reshape", {}, [X], [tensor((5, 5))])


@pytest.mark.parametrize(
    ("target", "allowzero"), [([4, 6], 0), ([-1], 0), ([0, -1], 0), ([2, 0, 4, 1], 0), ([4, -1, 2], 0), ([24], 1), ([1, 0, 1, -1], 0)]
)
def test_import_reshape(target: list[int], allowzero: int) -> None:
    node = onnx.helper.make_node("Reshape", ["x", "s"], ["y"], **({"allowzero": 1} if allowzero else {}))
    x = X if target != [1, 0, 1, -1] else X.reshape(1, 24)
    check_onnx(node, {"x": x}, {"s": np.array(target, np.int64)})


def test_impossible_reshape_is_an_error() -> None:
    node = onnx.helper.make_node("Reshape", ["x", "s"], ["y"], name="bad")
    with pytest.raises(ConvertError):
        import_onnx(node, {"x": X}, {"s": np.array([5, -1], np.int64)})


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_import_flatten(axis: int) -> None:
    check_onnx(onnx.helper.make_node("Flatten", ["x"], ["y"], axis=axis), {"x": X})


def test_import_squeeze_and_unsqueeze() -> None:
    x = X.reshape(1, 2, 1, 3, 4)
    check_onnx(onnx.helper.make_node("Squeeze", ["x"], ["y"]), {"x": x})
    check_onnx(onnx.helper.make_node("Squeeze", ["x", "a"], ["y"]), {"x": x}, {"a": np.array([-3], np.int64)})
    check_onnx(onnx.helper.make_node("Squeeze", ["x"], ["y"], axes=[0, 2]), {"x": x}, opset=11)
    check_onnx(onnx.helper.make_node("Unsqueeze", ["x", "a"], ["y"]), {"x": X}, {"a": np.array([0, -1, 2], np.int64)})
    check_onnx(onnx.helper.make_node("Unsqueeze", ["x"], ["y"], axes=[1]), {"x": X}, opset=11)


def test_import_identity_and_dropout() -> None:
    check_onnx(onnx.helper.make_node("Identity", ["x"], ["y"]), {"x": X})
    check_onnx(onnx.helper.make_node("Dropout", ["x"], ["y"]), {"x": X})
    check_onnx(onnx.helper.make_node("Dropout", ["x"], ["y", "mask"]), {"x": X})


def test_dropout_in_training_is_an_error() -> None:
    node = onnx.helper.make_node("Dropout", ["x", "r", "t"], ["y"], name="d")
    with pytest.raises(ConvertError, match="training"):
        import_onnx(node, {"x": X}, {"r": np.float32(0.5), "t": np.array(True)})
