# SPDX-License-Identifier: Apache-2.0
"""`--io uint8`: the file takes pictures, and gives what it gives for the numbers that they are normalised to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from PIL import Image

import edge8
from edge8.cli import main
from edge8.converter import convert
from edge8.converter.errors import ConvertError
from edge8.converter.preprocess import Preprocess

STEPS = Preprocess(mean=(120.0, 110.0, 100.0), std=(60.0, 55.0, 50.0))


def network(shape: list[int]) -> onnx.ModelProto:
    """A convolution with a border over pictures, channels first or last."""
    weights = np.random.default_rng(3).standard_normal((8, 3, 3, 3)).astype(np.float32)
    first = ["x"] if shape[1] == 3 else ["t"]
    nodes = [] if shape[1] == 3 else [make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])]
    nodes += [make_node("Conv", [*first, "w"], ["c"], pads=[1, 1, 1, 1]), make_node("Relu", ["c"], ["y"])]
    ends = [make_tensor_value_info("x", 1, shape)], [make_tensor_value_info("y", 1, [1, 8, 16, 20])]
    return make_model(make_graph(nodes, "n", *ends, [from_array(weights, "w")]), opset_imports=[make_opsetid("", 13)], ir_version=8)


def normalised(pictures: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (pictures.astype(np.float32) - np.array(STEPS.mean, np.float32)) / np.array(STEPS.std, np.float32)


@pytest.fixture
def pictures() -> np.ndarray[Any, Any]:
    return np.random.default_rng(4).integers(0, 256, (6, 16, 20, 3), np.uint8)


@pytest.mark.parametrize("quant", ["full", "weight", "float"])
@pytest.mark.parametrize("shape", [[1, 3, 16, 20], [1, 16, 20, 3]])
def test_same_bytes_as_normalised_outside(shape: list[int], quant: str, pictures: np.ndarray[Any, Any]) -> None:
    options: dict[str, Any] = {"calibration": pictures, "preprocess": STEPS, "quant": quant}
    inside = edge8.Model(convert(network(shape), io="uint8", **options).data)
    outside = edge8.Model(convert(network(shape), **options).data)
    assert [(t.name, t.shape, t.dtype) for t in inside.inputs] == [("x", (1, 16, 20, 3), np.uint8)]
    assert [op.kind for op in inside.ops][:2] == ["NormalizePicture", "Conv2D"]
    numbers = normalised(pictures[:1])
    y = outside.session()(numbers.transpose(0, 3, 1, 2) if shape[1] == 3 else numbers)
    assert np.array_equal(inside.session()(pictures[:1]), y)


def test_runs_a_picture_file(tmp_path: Path, pictures: np.ndarray[Any, Any], capsys: pytest.CaptureFixture[str]) -> None:
    report = convert(network([1, 3, 16, 20]), tmp_path / "n.e8", calibration=pictures, preprocess=STEPS, io="uint8")
    assert report.accuracy["y"]["sqnr"] > 25
    Image.fromarray(pictures[0]).save(tmp_path / "p.png")
    assert main(["run", str(tmp_path / "n.e8"), str(tmp_path / "p.png"), "-o", str(tmp_path / "y.npy")]) == 0
    expected = edge8.Model(report.data).session()(pictures[:1])
    assert np.array_equal(np.load(tmp_path / "y.npy"), expected)


def test_qdq_export_normalises_too(tmp_path: Path, pictures: np.ndarray[Any, Any]) -> None:
    import onnxruntime

    report = convert(network([1, 3, 16, 20]), calibration=pictures, preprocess=STEPS, io="uint8", target="onnx-qdq", corrections=())
    file = convert(network([1, 3, 16, 20]), calibration=pictures, preprocess=STEPS, io="uint8", corrections=())
    (theirs,) = onnxruntime.InferenceSession(report.data).run(None, {"x": pictures[:1]})
    ours = edge8.Model(file.data).session()(pictures[:1])
    step = float(np.unique(np.abs(np.diff(np.unique(ours)))).min())
    assert np.abs(ours - theirs).max() <= 1.01 * step


def test_inputs_that_are_no_pictures_are_refused() -> None:
    node = make_node("Relu", ["x"], ["y"])
    ends = [make_tensor_value_info("x", 1, [1, 7])], [make_tensor_value_info("y", 1, [1, 7])]
    model = make_model(make_graph([node], "n", *ends), opset_imports=[make_opsetid("", 13)], ir_version=8)
    with pytest.raises(ConvertError, match="shape of pictures"):
        convert(model, quant="float", io="uint8")


def test_numbers_that_do_not_fit_the_channels_are_refused() -> None:
    node = make_node("Relu", ["x"], ["y"])
    ends = [make_tensor_value_info("x", 1, [1, 1, 8, 8])], [make_tensor_value_info("y", 1, [1, 1, 8, 8])]
    model = make_model(make_graph([node], "n", *ends), opset_imports=[make_opsetid("", 13)], ir_version=8)
    with pytest.raises(ConvertError, match="mean and std have 3"):
        convert(model, quant="float", io="uint8", preprocess=Preprocess(mean=(1.0, 2.0, 3.0)))


def test_a_weights_file_is_completed_on_pictures(tmp_path: Path, pictures: np.ndarray[Any, Any]) -> None:
    options: dict[str, Any] = {"preprocess": STEPS, "io": "uint8"}
    convert(network([1, 3, 16, 20]), tmp_path / "w.e8", quant="weight", **options)
    np.save(tmp_path / "p.npy", pictures)
    assert main(["calibrate", str(tmp_path / "w.e8"), str(tmp_path / "p.npy"), "-o", str(tmp_path / "full.e8")]) == 0
    host = convert(network([1, 3, 16, 20]), calibration=pictures, corrections=(), **options)
    device, there = edge8.Model(tmp_path / "full.e8"), edge8.Model(host.data)
    assert np.array_equal(device.session()(pictures[:1]), there.session()(pictures[:1]))
