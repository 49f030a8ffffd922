# SPDX-License-Identifier: Apache-2.0
"""The script that compares quantisers: its rows, its skips, and that it hands every quantiser the same pictures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.e2e.quantisers import NORMALISED, QUANTISERS, _network, _task

SCRIPT = Path(__file__).parent / "quantisers.py"


def test_pictures_are_the_inputs(tmp_path: Path) -> None:
    task = _task("fashion_mnist")
    assert task is not None
    network = _network(task, tmp_path)
    pixels = network.pixels(3)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (28, 28, 1)
    (mean,), (scale,) = NORMALISED["fashion_mnist"]
    again = (pixels.astype(np.float32) - np.float32(mean)) * np.float32(scale)
    assert np.abs(again.transpose(2, 0, 1)[None] - network.sample(3)).max() < 1e-6
    assert np.array_equal(network.sample(3), task.calibration[3][network.input])


def test_rows() -> None:
    command = [sys.executable, str(SCRIPT), "accuracy", "fashion_mnist", "--quantisers", "edge8 minmax,ncnn ACIQ,nncf default"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    found = re.search(r"edge8 minmax.* top-1 +([\d.]+) %  agreement +([\d.]+) %  SQNR +([\d.]+) dB", result.stdout)
    assert found, result.stdout
    top1, agreement, sqnr = map(float, found.groups())
    assert top1 > 93.0
    assert agreement > 99.0
    assert sqnr > 30.0
    for name in ("nncf default", "ncnn ACIQ"):
        quantiser = next(q for q in QUANTISERS if q.name == name)
        if reason := quantiser.missing():
            assert re.search(rf"{name} +skipped: {re.escape(reason)}", result.stdout)
