# SPDX-License-Identifier: Apache-2.0
"""The commands as a user types them: results, exit codes, one-line errors, and files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

DEMO = Path(__file__).resolve().parents[1] / "converter" / "examples" / "fashion_mnist"
NETWORK = DEMO / "model.onnx"
CONVERT = [sys.executable, "-m", "edge8.converter"]
EDGE8 = [sys.executable, "-m", "edge8"]
CALIBRATION = ["--calibration", str(DEMO / "calibration.npz"), "--preprocess", str(DEMO / "preprocess.toml"), "--samples", "20"]


def run(
    command: list[str], *arguments: object, limit: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False, preexec_fn=limit, env={**os.environ, **environment}
    )


def fails(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 1 and one line on stderr that holds the words."""
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("edge8: ")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "net.e8"
    done = run(CONVERT, NETWORK, "-o", path, *CALIBRATION)
    assert done.returncode == 0, done.stderr
    assert "100.0 % of them in int8" in done.stdout
    return path


def test_run_prints_and_writes_outputs(model: Path, tmp_path: Path) -> None:
    x = tmp_path / "x.npy"
    np.save(x, np.zeros((3, 1, 28, 28), np.float32))
    done = run(EDGE8, "run", model, x, "-o", tmp_path / "y.npy", "--threads", 2)
    assert done.returncode == 0, done.stderr
    y = np.load(tmp_path / "y.npy")
    assert y.shape == (3, 10)
    assert (y == y[0]).all()


def test_bench_inspect_verify(model: Path, tmp_path: Path) -> None:
    done = run(EDGE8, "bench", model, "--runs", 5, "--json", tmp_path / "record.json")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["latency_ms"]["p50"] > 0
    assert len(record["ops"]) > 10
    done = run(EDGE8, "inspect", model)
    assert "Conv2D" in done.stdout
    assert "arena" in done.stdout
    done = run(EDGE8, "verify", model)
    assert done.returncode == 0
    assert "valid" in done.stdout


@pytest.mark.parametrize("activations", ["int8", "int16"])
def test_calibration_on_the_device_gives_the_hosts_file(tmp_path: Path, activations: str) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    with np.load(DEMO / "calibration.npz") as archive:
        pictures = ((archive["image"][:12].astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)
    for i, picture in enumerate(pictures):
        np.save(samples / f"{i:03}.npy", picture[None])
    plain = ["--no-corrections"] if "--no-corrections" in run(CONVERT, "--help").stdout else []
    plain += ["--activations", activations]
    assert run(CONVERT, NETWORK, "-o", tmp_path / "weight.e8", "--quant", "weight", *plain).returncode == 0
    assert run(CONVERT, NETWORK, "-o", tmp_path / "host.e8", "--calibration", samples, *plain).returncode == 0
    done = run(EDGE8, "calibrate", tmp_path / "weight.e8", samples, "-o", tmp_path / "device.e8")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "device.e8").read_bytes() == (tmp_path / "host.e8").read_bytes()
    halves = [sorted(samples.iterdir())[:6], sorted(samples.iterdir())[6:]]
    for half in halves:
        assert (
            run(EDGE8, "calibrate", tmp_path / "weight.e8", *half, "-o", tmp_path / "two.e8", "--state", tmp_path / "state").returncode == 0
        )
    assert (tmp_path / "two.e8").read_bytes() == (tmp_path / "host.e8").read_bytes()


def test_two_conversions_give_the_same_bytes(model: Path, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        again = tmp_path / f"{seed}.e8"
        assert run(CONVERT, NETWORK, "-o", again, *CALIBRATION, PYTHONHASHSEED=seed).returncode == 0
        assert again.read_bytes() == model.read_bytes()


def test_size_is_weights_and_little_more(model: Path) -> None:
    arrays = [numpy_helper.to_array(t) for t in onnx.load(NETWORK).graph.initializer]
    weights = sum(a.size for a in arrays if a.ndim > 1)
    biases = sum(4 * a.size for a in arrays if a.ndim == 1)
    assert model.stat().st_size <= 1.05 * (weights + biases + 20_000)


def test_codes_at_the_edges(tmp_path: Path) -> None:
    done = run(CONVERT, NETWORK, "-o", tmp_path / "net.e8", "--io", "int8", *CALIBRATION)
    assert done.returncode == 0, done.stderr
    text = run(EDGE8, "inspect", tmp_path / "net.e8").stdout
    assert "input image: int8[1,1,28,28] s=" in text
    assert "output logits: int8[1,10] s=" in text


def broken(tmp_path: Path, value: float) -> Path:
    proto = onnx.load(NETWORK)
    tensor = next(t for t in proto.graph.initializer if len(t.dims) == 4)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[3] = value
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    path = tmp_path / "broken.onnx"
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    fails(run(CONVERT, broken(tmp_path, value), "-o", tmp_path / "x.e8", *CALIBRATION))
    assert not (tmp_path / "x.e8").exists()


def test_models_that_cannot_be_read(tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(NETWORK.read_bytes()[:5000])
    fails(run(CONVERT, tmp_path / "missing.onnx", "-o", tmp_path / "x.e8"), "missing.onnx")
    fails(run(CONVERT, cut, "-o", tmp_path / "x.e8"), "cut.onnx")


def test_calibration_data_that_cannot_be_used(tmp_path: Path) -> None:
    empty, wrong, nan, picture = tmp_path / "empty", tmp_path / "wrong.npy", tmp_path / "nan.npy", tmp_path / "broken.png"
    empty.mkdir()
    np.save(wrong, np.zeros((1, 1, 28, 27), np.float32))
    np.save(nan, np.full((1, 1, 28, 28), np.nan, np.float32))
    picture.write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    raw = tmp_path / "short.bin"
    raw.write_bytes(b"\0" * 100)
    for source in (empty, wrong, nan, picture, raw, tmp_path / "nowhere"):
        fails(run(CONVERT, NETWORK, "-o", tmp_path / "x.e8", "--calibration", source), source.name)
        assert not (tmp_path / "x.e8").exists()
    fails(run(CONVERT, NETWORK, "-o", tmp_path / "x.e8"), "--calibration")


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    fails(run(CONVERT, NETWORK, "-o", tmp_path / "no" / "x.e8", "--quant", "weight"), "no")
    fails(run(CONVERT, NETWORK, "-o", "/proc/x.e8", "--quant", "weight"), "/proc")


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.e8"
    target.write_bytes(b"old")

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    fails(run(CONVERT, NETWORK, "-o", target, "--quant", "weight", limit=small_files, PYTHONDONTWRITEBYTECODE="1"), "cannot write")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.e8"]


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "x.e8"
    process = subprocess.Popen([*CONVERT, str(NETWORK), "-o", str(target), *CALIBRATION[:4]], stderr=subprocess.PIPE, text=True)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode != 0:
        assert process.returncode in (130, -signal.SIGINT), errors
        assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run(CONVERT, tmp_path / "missing.onnx", "-o", tmp_path / "x.e8", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["convert"], ["convert", "a.onnx", "-o", "b", "--quant", "half"], ["nonsense"], ["run", "--threads", "x", "a", "b"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert run(EDGE8, *arguments).returncode == 2


def test_records_are_compared(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run(EDGE8, "bench", model, "--runs", 3, "--no-ops", "--json", tmp_path / f"{name}.json").returncode == 0
    done = run(EDGE8, "bench", "--compare", tmp_path / "a.json", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    assert "p50" in done.stdout
    assert "Conv2D" in done.stdout
    (tmp_path / "c.json").write_text("{}")
    fails(run(EDGE8, "bench", "--compare", tmp_path / "a.json", tmp_path / "c.json"), "c.json")
