# SPDX-License-Identifier: Apache-2.0
"""Tables of Resize against ONNX's reference for every mode, and the import of Resize and Upsample."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge8.converter.errors import ConvertError
from edge8.converter.onnx_in import load
from edge8.converter.resampling import Axis, Rule, axis_table
from tests.ops.onnx_case import check_onnx, check_onnxruntime, make_model

COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def _node(inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node("Resize", inputs, ["y"], name="resize", **attributes)


def _picture(shape: tuple[int, ...] = (1, 2, 5, 7)) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("nearest", NEAREST)
@pytest.mark.parametrize("sizes", [(10, 14), (3, 4), (7, 3), (1, 1)])
def test_nearest(coordinates: str, nearest: str, sizes: tuple[int, int]) -> None:
    roi = np.array([0, 0, 0.1, 0.2, 1, 1, 0.9, 0.7], np.float32)
    node = _node(["x", "roi", "", "sizes"], coordinate_transformation_mode=coordinates, nearest_mode=nearest)
    # onnxruntime rounds some exact positions of the symmetric mode down to the neighbour below.
    check = check_onnx if coordinates == "half_pixel_symmetric" else check_onnxruntime
    check(node, {"x": _picture()}, {"roi": roi, "sizes": np.array([1, 2, *sizes])}, opset=19)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("sizes", [(10, 14), (3, 4), (7, 3), (1, 1)])
def test_interpolation(coordinates: str, mode: str, sizes: tuple[int, int]) -> None:
    fixed: dict[str, Any] = {"sizes": np.array([1, 2, *sizes])}
    fixed["roi"] = np.array([0, 0, 0.1, 0.2, 1, 1, 0.9, 0.7], np.float32)
    node = _node(["x", "roi", "", "sizes"], mode=mode, coordinate_transformation_mode=coordinates)
    if mode == "cubic" and coordinates == "tf_crop_and_resize":
        check_onnx(node, {"x": _picture()}, fixed, opset=19, atol=1e-5)
    else:
        check_onnxruntime(node, {"x": _picture()}, fixed, opset=19, atol=1e-5)


@pytest.mark.parametrize("scales", [(2.0, 3.0), (0.6, 0.5), (1.0, 1.7)])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("outside", [0, 1])
def test_scales(scales: tuple[float, float], mode: str, outside: int) -> None:
    attributes = {"exclude_outside": outside} if mode == "cubic" else {}
    fixed = {"scales": np.array([1, 1, *scales], np.float32)}
    check_onnxruntime(_node(["x", "", "scales"], mode=mode, **attributes), {"x": _picture()}, fixed, opset=13, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_crop_beyond_the_input_gives_zero(mode: str) -> None:
    roi = np.array([0, 0, -0.3, 0.4, 1, 1, 1.2, 1.6], np.float32)
    node = _node(["x", "roi", "", "sizes"], mode=mode, coordinate_transformation_mode="tf_crop_and_resize")
    check_onnxruntime(node, {"x": _picture()}, {"roi": roi, "sizes": np.array([1, 2, 6, 9])}, opset=13)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [(2.0, 3.0), (0.6, 0.5)])
def test_resize_of_opset_10_and_upsample(mode: str, scales: tuple[float, float]) -> None:
    fixed = {"scales": np.array([1, 1, *scales], np.float32)}
    check_onnxruntime(onnx.helper.make_node("Resize", ["x", "scales"], ["y"], mode=mode), {"x": _picture()}, fixed, opset=10)
    if min(scales) >= 1:
        check_onnxruntime(onnx.helper.make_node("Upsample", ["x", "scales"], ["y"], mode=mode), {"x": _picture()}, fixed, opset=9)


@pytest.mark.parametrize(
    ("shape", "scales"),
    [
        ((7,), (2.0,)),
        ((4, 5), (2.0, 0.5)),
        ((2, 3, 9), (1.0, 1.0, 2.0)),
        ((2, 3, 4, 5), (2.0, 1.0, 1.0, 1.5)),
        ((1, 2, 3, 4, 5), (1, 1, 2, 2, 2)),
    ],
)
def test_any_axis(shape: tuple[int, ...], scales: tuple[float, ...]) -> None:
    check_onnx(_node(["x", "", "s"], mode="linear"), {"x": _picture(shape)}, {"s": np.array(scales, np.float32)}, opset=13, atol=1e-5)


def test_whole_numbers() -> None:
    x = np.arange(24, dtype=np.int64).reshape(1, 2, 3, 4)
    check_onnx(_node(["x", "", "s"], mode="nearest"), {"x": x}, {"s": np.array([1, 1, 2, 2], np.float32)}, opset=13)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [3]])
def test_axes_and_aspect_ratio(policy: str, axes: list[int]) -> None:
    node = _node(["x", "", "", "sizes"], axes=axes, keep_aspect_ratio_policy=policy, mode="linear")
    check_onnx(node, {"x": _picture()}, {"sizes": np.array([9, 8][: len(axes)])}, opset=18, atol=1e-5)


def test_no_change_is_a_copy() -> None:
    graph = load(make_model(_node(["x", "", "s"], mode="linear"), {"x": _picture()}, {"s": np.ones(4, np.float32)}, 13))
    assert [n.op for n in graph.nodes] == ["Reshape"]


@given(
    size=st.integers(1, 12),
    out=st.integers(1, 30),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinates=st.sampled_from([*COORDINATES, "tf_half_pixel_for_nn"]),
    nearest=st.sampled_from(NEAREST),
    exclude=st.booleans(),
    crop=st.tuples(st.floats(-1, 2), st.floats(-1, 2)),
)
@settings(max_examples=300, deadline=None)
def test_tables_stay_inside(
    size: int, out: int, mode: str, coordinates: str, nearest: str, exclude: bool, crop: tuple[float, float]
) -> None:
    index, weight = axis_table(Axis(size, out, np.float64(out / size), *crop), Rule(mode, coordinates, nearest, -0.75, exclude))
    assert index.min() >= 0
    assert index.max() < size
    assert len(index) % out == 0
    if weight is not None:
        sums = weight.reshape(out, -1).sum(axis=1)
        assert all(abs(s - 1) < 1e-5 or s == 0 for s in sums)
        if coordinates != "tf_crop_and_resize":
            assert (np.abs(sums - 1) < 1e-5).all()


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"antialias": 1}, "antialias"),
        ({"mode": "area"}, "mode 'area'|checker"),
        ({"coordinate_transformation_mode": "round"}, "coordinate_transformation_mode 'round'"),
        ({"nearest_mode": "up"}, "nearest_mode 'up'"),
    ],
)
def test_refuses(attributes: dict[str, Any], message: str) -> None:
    model = make_model(_node(["x", "", "s"], **attributes), {"x": _picture()}, {"s": np.array([1, 1, 2, 2], np.float32)}, 19)
    with pytest.raises(ConvertError, match=message):
        load(model)


def test_refuses_run_time_scales_and_ambiguous_corners() -> None:
    model = make_model(_node(["x", "", "s"]), {"x": _picture(), "s": np.ones(4, np.float32)}, opset=13)
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2, 5, 7]))
    with pytest.raises(ConvertError, match="Resize node 'resize': the list of scales is computed at run time"):
        load(model)
    node = _node(["x", "", "s"], mode="linear", coordinate_transformation_mode="align_corners")
    with pytest.raises(ConvertError, match=r"align_corners with scale 0\.7 .* sizes"):
        load(make_model(node, {"x": _picture()}, {"s": np.array([1, 1, 0.7, 1], np.float32)}, 13))
