# SPDX-License-Identifier: Apache-2.0
"""text_lines.py: reproducible lines that the float networks read."""

from __future__ import annotations

import numpy as np
import pytest

from tests import fetch, text_lines


def test_a_line_depends_on_seed_and_index_only() -> None:
    fetch.require("dejavu-fonts")
    few, texts = text_lines.recognition_set(3, seed=5)
    more, more_texts = text_lines.recognition_set(5, seed=5)
    assert texts == more_texts[:3]
    assert np.array_equal(few, more[:3])
    assert text_lines.recognition_set(3, seed=6)[1] != texts
    assert few.shape == (3, 3, 48, 320)
    assert few.dtype == np.float32
    assert few.min() >= -1.0
    assert few.max() <= 1.0


def test_turned_lines_are_the_upright_ones_turned() -> None:
    fetch.require("dejavu-fonts")
    picture = text_lines.pictures(2, seed=7)[1][0]
    inputs, labels = text_lines.direction_set(2, seed=7)
    assert labels.tolist() == [0, 1]
    assert np.array_equal(inputs[1], text_lines.to_input(np.rot90(picture, 2), text_lines.DIRECTION_WIDTH))


def test_input_is_bgr_scaled_and_padded_with_zero() -> None:
    picture = np.zeros((24, 40, 3), np.uint8)
    picture[:, :] = (255, 0, 51)
    made = text_lines.to_input(picture, 320)
    assert np.allclose(made[:, :, :80], np.array([51 / 127.5 - 1, -1, 1], np.float32)[:, None, None])
    assert not made[:, :, 80:].any()
    assert text_lines.to_input(np.zeros((10, 500, 3), np.uint8), 320).shape == (3, 48, 320)


def test_ctc_merges_repeats_and_drops_blanks() -> None:
    path = [1, 1, 0, 1, 2, 2, 0, 0, 3]
    scores = np.eye(4, dtype=np.float32)[path][None]
    assert text_lines.ctc_decode(scores, ["", "a", "b", " "]) == ["aab "]
    with pytest.raises(ValueError, match="4 scores a step, but 3 classes"):
        text_lines.ctc_decode(scores, ["", "a", "b"])


def test_the_float_networks_read_the_lines() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    fetch.require("dejavu-fonts")
    model = fetch.require("ppocr-recognition")
    lines, texts = text_lines.recognition_set(40, seed=11)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    read = text_lines.ctc_decode(session.run(None, {"x": lines})[0], text_lines.characters(model))
    assert sum(a == b for a, b in zip(read, texts, strict=True)) >= 36

    turned, labels = text_lines.direction_set(40, seed=11)
    session = onnxruntime.InferenceSession(str(fetch.require("ppocr-direction")), providers=["CPUExecutionProvider"])
    assert int((session.run(None, {"x": turned})[0].argmax(axis=1) == labels).sum()) >= 38
