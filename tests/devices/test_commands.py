# SPDX-License-Identifier: Apache-2.0
"""`convert --device` and `edge8 bench`, as they are typed: fit and prediction, and records that can be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge8.cli import main
from edge8.converter.cli import convert_main

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "converter" / "examples" / "fashion_mnist" / "model.onnx"
GOLDEN = ROOT / "tests" / "golden" / "v1" / "conv2d.full.e8"


def run_convert(folder: Path, device: str) -> int:
    np.save(folder / "x.npy", np.random.default_rng(0).random((4, 1, 28, 28), np.float32))
    return convert_main(
        [str(MODEL), "--calibration", str(folder / "x.npy"), "--no-corrections", "--device", device, "-o", str(folder / "net.e8")]
    )


def test_convert_says_what_fits_and_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_convert(tmp_path, "raspberry-pi-4") == 0
    text = capsys.readouterr().out
    assert "of the free RAM" in text
    assert "predict" in text.lower()


def test_convert_refuses_a_device_that_is_too_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = (ROOT / "devices" / "cortex-m4.toml").read_text().replace('ram = "256 KiB"', 'ram = "17 KiB"')
    (tmp_path / "small.toml").write_text(small)
    assert run_convert(tmp_path, str(tmp_path / "small.toml")) == 1
    error = capsys.readouterr().err
    assert "too much" in error
    assert "would fit" in error or "it fits on" in error
    assert not (tmp_path / "net.e8").exists()


def test_convert_refuses_an_unknown_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_convert(tmp_path, "raspberry") == 1
    assert "unknown device 'raspberry'" in capsys.readouterr().err


def test_bench_keeps_to_cores_and_records_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for path in paths:
        assert main(["bench", str(GOLDEN), "--runs", "5", "--cores", "0", "--json", path]) == 0
    record = json.loads(Path(paths[0]).read_text())
    assert record["latency_ms"]["p50"] <= record["latency_ms"]["p99"]
    assert {"temperature_c", "frequency_khz"} <= set(record["machine"])
    assert len(record["ops"]) == 3
    capsys.readouterr()
    assert main(["bench", "--compare", *paths]) == 0
    assert "p99" in capsys.readouterr().out
