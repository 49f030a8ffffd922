# SPDX-License-Identifier: Apache-2.0
"""edge8-run: inputs of every kind, and everything that can be wrong on a board. Runs natively."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edge8
from edge8.converter.crc32c import crc32c
from tests.boards.emulated import ROOT, runner

GOLDEN = ROOT / "tests" / "golden" / "v1"
MODEL = GOLDEN / "conv2d.full.e8"


@pytest.fixture(scope="module")
def program() -> Path:
    if platform.machine() != "x86_64":
        pytest.skip("builds edge8-run for x86-64")
    return runner("x86_64")


@pytest.fixture
def x(tmp_path: Path) -> Path:
    with np.load(GOLDEN / "expected.npz") as archive:
        np.save(tmp_path / "x.npy", archive["x"])
    return tmp_path / "x.npy"


def call(program: Path, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


def fails(program: Path, code: int, words: str, *arguments: object) -> None:
    result = call(program, *arguments)
    assert result.returncode == code, result.stderr
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("edge8-run: ")


def test_npy_in_and_out(program: Path, x: Path, tmp_path: Path) -> None:
    result = call(program, MODEL, x, "-o", tmp_path / "y.npy")
    assert result.returncode == 0, result.stderr
    with np.load(GOLDEN / "expected.npz") as archive:
        expected = archive[MODEL.stem]
    y = np.load(tmp_path / "y.npy")
    np.testing.assert_array_equal(y, expected)
    assert f"crc32c {crc32c(expected.tobytes()):08x}" in result.stdout


def test_raw_in_and_out(program: Path, x: Path, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(np.load(x).tobytes())
    assert call(program, MODEL, tmp_path / "x.bin", "-o", tmp_path / "y.bin").returncode == 0
    with np.load(GOLDEN / "expected.npz") as archive:
        assert (tmp_path / "y.bin").read_bytes() == archive[MODEL.stem].tobytes()


@pytest.mark.parametrize("dtype", ["f8", "i2", "u1", "i8"])
def test_npy_of_other_types_is_converted(program: Path, x: Path, tmp_path: Path, dtype: str) -> None:
    values = np.abs(np.round(np.load(x) * 3))
    np.save(tmp_path / "a.npy", values.astype(dtype))
    np.save(tmp_path / "b.npy", values.astype(np.float32))
    assert call(program, MODEL, tmp_path / "a.npy").stdout == call(program, MODEL, tmp_path / "b.npy").stdout


def test_threads_and_features_change_nothing(program: Path, x: Path) -> None:
    plain = call(program, MODEL, x).stdout
    assert call(program, MODEL, x, "--threads", 2).stdout == plain
    assert call(program, MODEL, x, "--features", 0).stdout == plain


def picture_model(tmp_path: Path) -> Path:
    onnx = pytest.importorskip("onnx")
    from edge8.converter import convert

    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    shapes = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, 4, 5]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", shapes[:1], shapes[1:])
    convert(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)]), tmp_path / "picture.e8", quant="float")
    return tmp_path / "picture.e8"


def write_bmp(path: Path, rgb: np.ndarray, bits: int) -> None:
    height, width, _ = rgb.shape
    pixels = np.zeros((height, width, bits // 8), np.uint8)
    pixels[..., :3] = rgb[::-1, :, ::-1]
    rows = [row.tobytes() + b"\0" * (-len(row.tobytes()) % 4) for row in pixels]
    data = b"".join(rows)
    header = struct.pack("<2sIHHI", b"BM", 54 + len(data), 0, 0, 54)
    path.write_bytes(header + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(data), 0, 0, 0, 0) + data)


def test_pictures(program: Path, tmp_path: Path) -> None:
    model = picture_model(tmp_path)
    rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    (tmp_path / "p.ppm").write_bytes(b"P6\n# made by hand\n5 4\n255\n" + rgb.tobytes())
    write_bmp(tmp_path / "p24.bmp", rgb, 24)
    write_bmp(tmp_path / "p32.bmp", rgb, 32)
    expected = np.maximum((rgb.astype(np.float32) - np.float32([10, 20, 30])) / np.float32([2, 3, 4]), 0).transpose(2, 0, 1)[None]
    for name in ("p.ppm", "p24.bmp", "p32.bmp"):
        result = call(program, model, tmp_path / name, "--mean", "10,20,30", "--std", "2,3,4", "-o", tmp_path / "y.npy")
        assert result.returncode == 0, result.stderr
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    call(program, model, tmp_path / "p.ppm", "--bgr", "-o", tmp_path / "y.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), rgb.transpose(2, 0, 1)[None, ::-1].astype(np.float32))
    (tmp_path / "small.ppm").write_bytes(b"P6 4 4 255\n" + bytes(48))
    fails(program, 4, "4 x 4 pixels, but input x takes 5 x 4", model, tmp_path / "small.ppm")
    (tmp_path / "cut.ppm").write_bytes(b"P6 5 4 255\n" + bytes(59))
    fails(program, 4, "is cut off", model, tmp_path / "cut.ppm")
    (tmp_path / "cut.bmp").write_bytes((tmp_path / "p24.bmp").read_bytes()[:-1])
    fails(program, 4, "is cut off", model, tmp_path / "cut.bmp")
    (tmp_path / "deep.ppm").write_bytes(b"P6 5 4 65535\n" + bytes(240))
    fails(program, 4, "more than 8 bits", model, tmp_path / "deep.ppm")


def test_every_truncation_of_a_picture_is_refused(program: Path, tmp_path: Path) -> None:
    model = picture_model(tmp_path)
    write_bmp(tmp_path / "p.bmp", np.zeros((4, 5, 3), np.uint8), 24)
    data = (tmp_path / "p.bmp").read_bytes()
    for length in range(1, len(data)):
        (tmp_path / "q.bmp").write_bytes(data[:length])
        assert call(program, model, tmp_path / "q.bmp").returncode == 4


def test_wrong_inputs(program: Path, x: Path, tmp_path: Path) -> None:
    values = np.load(x)
    fails(program, 4, "No such file", MODEL, tmp_path / "none.npy")
    (tmp_path / "short.bin").write_bytes(values.tobytes()[:-1])
    fails(program, 4, "959 bytes, but input x is float32 [1, 6, 5, 8], which are 960 bytes", MODEL, tmp_path / "short.bin")
    np.save(tmp_path / "shape.npy", values.reshape(1, 6, 8, 5))
    fails(program, 4, "its shape is not that of input x, [1, 6, 5, 8]", MODEL, tmp_path / "shape.npy")
    np.save(tmp_path / "order.npy", np.asfortranarray(values))
    fails(program, 4, "Fortran order", MODEL, tmp_path / "order.npy")
    np.save(tmp_path / "half.npy", values.astype(np.float16))
    fails(program, 4, "an element type that cannot be used", MODEL, tmp_path / "half.npy")
    (tmp_path / "cut.npy").write_bytes(x.read_bytes()[:-4])
    fails(program, 4, "is cut off", MODEL, tmp_path / "cut.npy")
    (tmp_path / "empty.npy").write_bytes(b"")
    fails(program, 4, "the file is empty", MODEL, tmp_path / "empty.npy")
    (tmp_path / "noise.npy").write_bytes(b"noise, not an array")
    fails(program, 4, "is not a .npy file", MODEL, tmp_path / "noise.npy")
    fails(program, 2, "has 1 input(s), 2 file(s) given", MODEL, x, x)
    fails(program, 2, "has 1 input(s), 0 file(s) given", MODEL)


def test_wrong_models(program: Path, x: Path, tmp_path: Path) -> None:
    data = MODEL.read_bytes()
    cases = {
        "empty": (b"", "the file is empty"),
        "cut": (data[:-1], "rule file.size"),
        "noise": (bytes(1000), "rule file.magic"),
        "newer": (data[:12] + b"\x63\x00" + data[14:], "written for a newer edge8"),
        "flipped": (data[:500] + bytes([data[500] ^ 1]) + data[501:], "rule file.crc"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / f"{name}.e8").write_bytes(content)
        fails(program, 3, words, tmp_path / f"{name}.e8", x)
    fails(program, 3, "No such file", tmp_path / "none.e8", x)
    fails(program, 3, "not a regular file", tmp_path, x)


def test_wrong_usage(program: Path, x: Path) -> None:
    fails(program, 2, "no model given")
    fails(program, 2, "unknown option --fast", MODEL, "--fast")
    fails(program, 2, "--threads must be at least 1", MODEL, x, "--threads", 0)
    fails(program, 2, "--threads takes a whole number", MODEL, x, "--threads", "two")
    fails(program, 2, "--bench takes a whole number of at most", MODEL, "--bench", "-1")
    fails(program, 2, "--std takes one or three numbers that are not 0", MODEL, x, "--std", "1,0,1")
    fails(program, 2, "belong to --bench", MODEL, x, "--ops")
    fails(program, 2, "-o needs a value", MODEL, x, "-o")
    fails(program, 2, "--cores takes numbers", MODEL, x, "--cores", "fast")


def test_output_that_cannot_be_written(program: Path, x: Path, tmp_path: Path) -> None:
    fails(program, 6, "cannot be written: No such file", MODEL, x, "-o", tmp_path / "none" / "y.npy")
    (tmp_path / "full").mkdir()
    fails(program, 6, "cannot be written", MODEL, x, "-o", tmp_path / "full")
    assert list((tmp_path / "full").iterdir()) == []
    if Path("/dev/full").exists():
        with open("/dev/full", "w") as full:
            result = subprocess.run([str(program), str(MODEL), str(x)], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert result.returncode == 6


def test_out_of_memory_is_said(program: Path, x: Path) -> None:
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 << 20, 2 << 20))

    result = call(program, MODEL, x, "--threads", "256", preexec_fn=little)
    assert result.returncode == 5, (result.returncode, result.stderr)
    assert "memory" in result.stderr or "threads" in result.stderr


def test_activations_that_do_not_fit_in_memory(program: Path, tmp_path: Path) -> None:
    """Both programs say how much the model needs; 1 GB here, of which the process may have 0.8."""
    onnx = pytest.importorskip("onnx")
    from edge8.converter import convert

    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["c"]), onnx.helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    info = onnx.helper.make_tensor_value_info
    weights = [onnx.numpy_helper.from_array(np.ones((1024, 1, 1, 1), np.float32), "w")]
    graph = onnx.helper.make_graph(nodes, "g", [info("x", 1, [1, 1, 512, 512])], [info("y", 1, [1, 1024, 1, 1])], weights)
    model = tmp_path / "large.e8"
    convert(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)]), model, quant="float")
    np.save(tmp_path / "zeros.npy", np.zeros((1, 1, 512, 512), np.float32))

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (800_000_000, 800_000_000))

    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    for command, code in (([str(program)], 5), ([sys.executable, "-m", "edge8", "run"], 1)):
        command = [*command, str(model), str(tmp_path / "zeros.npy")]
        result = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=little, env=environment)
        assert result.returncode == code, result.stderr
        assert re.search(r"large\.e8 needs 107\d\.\d MB of memory for its activations, which the system refuses$", result.stderr.strip())
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_run_cleanly(program: Path, x: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [str(program), str(MODEL), str(x), "--bench", "10000000", "--record", str(tmp_path / "r.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(0.3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert f"stopped by signal {int(number)}; nothing was written" in errors
    assert list(tmp_path.iterdir()) == [x]


def test_record_can_be_read(program: Path, tmp_path: Path) -> None:
    assert call(program, MODEL, "--bench", 20, "--record", tmp_path / "r.json").returncode == 0
    record = json.loads((tmp_path / "r.json").read_text())
    model = edge8.Model(MODEL)
    assert record["crc"] == f"{model.crc:08x}"
    assert record["macs"] == model.macs
    assert record["runs"] == 20
    assert record["latency_ms"]["min"] <= record["latency_ms"]["p50"] <= record["latency_ms"]["p99"] <= record["latency_ms"]["max"]
    assert [op["kind"] for op in record["ops"]] == [op.kind for op in model.ops]


def test_info(program: Path) -> None:
    text = call(program, MODEL, "--info").stdout
    assert "input x float32 [1, 6, 5, 8] (960 bytes)" in text
    assert call(program, "--help").returncode == 0
    assert call(program, "--version").stdout.startswith("edge8-run ")


def test_records_can_be_compared(program: Path, tmp_path: Path) -> None:
    from edge8.compare import compare_records

    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, mask in zip(paths, ["0xFFFFFFFF", "0"], strict=True):
        assert call(program, MODEL, "--bench", 5, "--record", path, "--features", mask).returncode == 0
    text = compare_records(*paths)
    assert "level reference" in text
    assert "p99" in text
    assert "Conv2D" in text
