# SPDX-License-Identifier: Apache-2.0
"""Pool2D: C against numpy bit for bit; MaxPool and AveragePool against ONNX's reference and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.errors import ConvertError
from edge8.converter.graph import DType
from edge8.converter.onnx_in import load
from edge8.converter.ops.pool2d import PoolKind
from edge8.converter.targets.cpu_lite import write
from edge8.converter.window import Window
from tests.ops.geometry import activation, windows
from tests.ops.harness import check_node, node_file, run_file, tensor, value
from tests.ops.onnx_case import check_onnxruntime, make_model

seeds = st.integers(0, 2**32 - 1)


def _window(kernel: tuple[int, int], p: dict[str, int]) -> Window:
    pads = (p["pad_top"], p["pad_left"], p["pad_bottom"], p["pad_right"])
    return Window(kernel, (p["stride_h"], p["stride_w"]), (p["dilation_h"], p["dilation_w"]), pads)


def _params(kind: PoolKind, kernel: tuple[int, int], window: dict[str, int], include: bool) -> dict[str, Any]:
    return {"kind": int(kind), "kernel_h": kernel[0], "kernel_w": kernel[1], **window, "count_include_pad": include}


@given(geometry=windows(), kind=st.sampled_from(PoolKind), include=st.booleans(), seed=seeds, channels=st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_float(geometry: Any, kind: PoolKind, include: bool, seed: int, channels: int) -> None:
    (h, w), kernel, window = geometry
    rng = np.random.default_rng(seed)
    out = (2, *_window(kernel, window).output((h, w)), channels)
    x = rng.normal(0, 3, (2, h, w, channels)).astype(np.float32)
    check_node("Pool2D", _params(kind, kernel, window, include), [x], [tensor(out)])


@given(
    geometry=windows(),
    kind=st.sampled_from(PoolKind),
    include=st.booleans(),
    seed=seeds,
    channels=st.integers(1, 40),
    scale=st.floats(2.0**-6, 2.0**6),
    zeros=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
)
@settings(max_examples=250, deadline=None)
def test_int8(geometry: Any, kind: PoolKind, include: bool, seed: int, channels: int, scale: float, zeros: tuple[int, int]) -> None:
    (h, w), kernel, window = geometry
    rng = np.random.default_rng(seed)
    out = (2, *_window(kernel, window).output((h, w)), channels)
    x = value(activation(rng, (2, h, w, channels)), 0.25, zeros[0])
    y = tensor(out, DType.INT8, 0.25, zeros[0]) if kind is PoolKind.MAX else tensor(out, DType.INT8, 0.25 * scale, zeros[1])
    check_node("Pool2D", _params(kind, kernel, window, include), [x], [y])


def test_threads_share_a_large_input() -> None:
    rng = np.random.default_rng(1)
    x = value(activation(rng, (1, 61, 67, 96)), 0.1, -3)
    params = {"kind": 1, "kernel_h": 3, "kernel_w": 3, "pad_top": 1, "pad_left": 1, "pad_bottom": 1, "pad_right": 1}
    check_node("Pool2D", params, [x], [tensor((1, 61, 67, 96), DType.INT8, 0.11, 4)], threads=(1, 2, 3, 4))


@pytest.mark.parametrize(
    ("params", "out", "rule"),
    [
        ({"kernel_h": 0}, (1, 4, 4, 2), "pool2d.window"),
        ({"stride_w": 0}, (1, 4, 4, 2), "pool2d.window"),
        ({"dilation_h": -1}, (1, 4, 4, 2), "pool2d.window"),
        ({"pad_top": -1}, (1, 4, 4, 2), "pool2d.window"),
        ({"kernel_h": 5}, (1, 4, 4, 2), "pool2d.window"),
        ({"stride_h": 2}, (1, 4, 4, 2), "pool2d.window"),
        ({}, (1, 4, 4, 3), "pool2d.shape"),
        ({}, (4, 4, 2), "pool2d.rank"),
        ({"kind": 2}, (1, 4, 4, 2), "pool2d.kind"),
        ({"kernel_h": 4096, "kernel_w": 4096, "pad_top": 4092, "pad_left": 4092}, (1, 1, 1, 2), "pool2d.window"),
    ],
)
def test_check_refuses(params: dict[str, int], out: tuple[int, ...], rule: str) -> None:
    data = node_file("Pool2D", params, [np.zeros((1, 4, 4, 2), np.float32)], [tensor(out)])
    with pytest.raises(edge8.Edge8Error, match=rule):
        edge8.Model(data)


def test_check_refuses_two_scales_of_a_maximum() -> None:
    data = node_file("Pool2D", {}, [value(np.zeros((1, 4, 4, 2), np.int8), 0.5)], [tensor((1, 4, 4, 2), DType.INT8, 0.25)])
    with pytest.raises(edge8.Edge8Error, match=r"op\.scale"):
        edge8.Model(data)


# ---- ONNX ------------------------------------------------------------------------------------------------------------------------------


@given(
    op=st.sampled_from(["MaxPool", "AveragePool"]),
    rank=st.integers(1, 2),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 2),
    pads=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    size=st.integers(6, 12),
    ceil=st.booleans(),
    include=st.booleans(),
    seed=seeds,
)
@settings(max_examples=120, deadline=None)
def test_import_against_onnxruntime(
    op: str, rank: int, kernel: int, stride: int, dilation: int, pads: list[int], size: int, ceil: bool, include: bool, seed: int
) -> None:
    extent = dilation * (kernel - 1) + 1
    ends = [min(p, kernel - 1) for p in (pads[:rank] + pads[2 : 2 + rank])]  # onnxruntime wants pads smaller than the kernel
    # With count_include_pad, onnxruntime's divisor of a window that ceil_mode adds differs from ONNX's: no ceil_mode then.
    attributes: dict[str, Any] = {"ceil_mode": int(ceil and not (op == "AveragePool" and include)), "dilations": [dilation] * rank}
    if op == "AveragePool":
        attributes["count_include_pad"] = int(include)
    node = onnx.helper.make_node(op, ["x"], ["y"], kernel_shape=[kernel] * rank, strides=[stride] * rank, pads=ends, **attributes)
    x = np.random.default_rng(seed).normal(0, 2, (2, 3, *[max(size, extent)] * rank)).astype(np.float32)
    check_onnxruntime(node, {"x": x}, opset=19)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("rank", [1, 2])
def test_import_auto_pad(op: str, mode: str, rank: int) -> None:
    x = np.random.default_rng(3).normal(0, 1, (1, 2, *[7] * rank)).astype(np.float32)
    node = onnx.helper.make_node(op, ["x"], ["y"], kernel_shape=[3] * rank, strides=[2] * rank, auto_pad=mode)
    check_onnxruntime(node, {"x": x})


def test_import_ceil_with_counted_padding() -> None:
    x = np.random.default_rng(3).normal(0, 1, (1, 2, 6, 6)).astype(np.float32)
    node = onnx.helper.make_node(
        "AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 0, 1], ceil_mode=1, count_include_pad=1
    )
    graph = load(make_model(node, {"x": x}, opset=19))
    found = run_file(write(graph), {"x": x})[0]
    padded = np.zeros((1, 2, 6, 8), np.float32)
    padded[..., 1:7] = x
    assert found.shape == (1, 2, 3, 4)
    for i in range(3):
        for k in range(4):
            part = padded[:, :, 2 * i : 2 * i + 3, 2 * k : 2 * k + 3]
            np.testing.assert_allclose(found[:, :, i, k], part.mean(axis=(2, 3)), rtol=1e-5, atol=1e-6)


def test_import_refuses_indices_and_volumes() -> None:
    x = np.zeros((1, 2, 6, 6), np.float32)
    node = onnx.helper.make_node("MaxPool", ["x"], ["y", "where"], kernel_shape=[2, 2], name="pool")
    with pytest.raises(ConvertError, match=r"MaxPool node 'pool': output 'where' \(number 1\) is not supported"):
        load(make_model(node, {"x": x}))
    node = onnx.helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2, 2], name="pool")
    with pytest.raises(ConvertError, match="only 1-D and 2-D"):
        load(make_model(node, {"x": np.zeros((1, 2, 4, 4, 4), np.float32)}))
