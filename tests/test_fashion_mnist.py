# SPDX-License-Identifier: Apache-2.0
"""The demo's network and images are what their README says."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests import fetch

FOLDER = Path(__file__).resolve().parents[1] / "converter" / "examples" / "fashion_mnist"


def stored(name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    with np.load(FOLDER / name) as file:
        return file["image"], file["label"]


def split(prefix: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """All images [n,28,28,1] and labels [n] of a split of the original data."""
    folder = fetch.require("fashion-mnist")
    pixels = np.frombuffer(gzip.decompress((folder / f"{prefix}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return pixels.reshape(-1, 28, 28, 1), labels


def network_input(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The formula of README.md."""
    return np.ascontiguousarray(((images.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)).transpose(0, 3, 1, 2))


@pytest.mark.parametrize(("name", "prefix", "per_class"), [("calibration.npz", "train", 20), ("test.npz", "t10k", 100)])
def test_images_are_of_their_split_in_equal_numbers(name: str, prefix: str, per_class: int) -> None:
    images, labels = stored(name)
    assert images.shape == (10 * per_class, 28, 28, 1)
    assert images.dtype == labels.dtype == np.uint8
    assert np.bincount(labels).tolist() == [per_class] * 10
    originals = {(image.tobytes(), int(label)) for image, label in zip(*split(prefix), strict=True)}
    assert all((image.tobytes(), int(label)) in originals for image, label in zip(images, labels, strict=True))


def test_calibration_and_test_share_no_image() -> None:
    assert not {image.tobytes() for image in stored("calibration.npz")[0]} & {image.tobytes() for image in stored("test.npz")[0]}


def test_preprocess_toml_says_what_the_readme_says() -> None:
    preprocess = pytest.importorskip("edge8.converter.preprocess")
    steps = preprocess.load_preprocess(FOLDER / "preprocess.toml")["image"]
    images = stored("calibration.npz")[0][:3]
    for image, wanted in zip(images, network_input(images), strict=True):
        made = preprocess.prepare(
            preprocess.picture_array(image, "calibration.npz"), steps, (1, 1, 28, 28), np.dtype(np.float32), "image", "calibration.npz"
        )
        assert np.array_equal(made.reshape(1, 28, 28), wanted)


def test_the_network_is_small_and_recognises_the_test_images() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = FOLDER / "model.onnx"
    assert model.stat().st_size < 250_000
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.shape, target.name, target.shape) == ("image", ["N", 1, 28, 28], "logits", ["N", 10])
    images, labels = stored("test.npz")
    hits = int((session.run(None, {"image": network_input(images)})[0].argmax(axis=1) == labels).sum())
    assert hits >= 920
