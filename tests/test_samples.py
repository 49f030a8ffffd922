# SPDX-License-Identifier: Apache-2.0
"""samples.py: every network has samples of its own shape, and the float networks recognise them."""

from __future__ import annotations

import numpy as np
import pytest

from tests import fetch, sample_files, samples


@pytest.mark.parametrize("name", sorted(fetch.NETWORKS))
def test_samples_fit_the_network_and_repeat(name: str) -> None:
    for needed in ("foolbox", "dejavu-fonts"):
        fetch.require(needed)
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(fetch.require(name)), providers=["CPUExecutionProvider"])
    two, one = samples.samples(name, 2, seed=3), samples.samples(name, 1, seed=3)
    ((input_name, first),) = two[0].items()
    assert np.array_equal(first, one[0][input_name])
    assert not np.array_equal(first, two[1][input_name])
    assert all(np.isfinite(output).all() for output in session.run(None, two[0]))


def test_tokens_fill_both_ends_with_padding() -> None:
    made = sample_files.tokens(b"  ab cd\n")
    assert made[:6].tolist() == [*b"ab cd\n"]
    assert made[-7:].tolist() == [*b"  ab cd"]
    assert (made[6:-7] == 256).all()
    assert sample_files.tokens(b"").tolist() == [256] * 2048


def test_files_are_recognised() -> None:
    pytest.importorskip("onnxruntime")
    fetch.require("magika-standard")
    assert samples.files_recognised(60)[0] >= 57


def test_notes_are_heard() -> None:
    pytest.importorskip("onnxruntime")
    fetch.require("basic-pitch-nmp")
    heard, played, invented = samples.notes_heard(6)
    assert played >= 12
    assert heard >= 0.9 * played
    assert invented <= 0.3 * played
