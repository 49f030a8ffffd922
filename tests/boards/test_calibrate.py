# SPDX-License-Identifier: Apache-2.0
"""edge8-calibrate: the host's bytes, whole files whatever happens, and states that add up. Runs natively, and on emulated boards."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge8 import Model
from edge8.calibrate import METHODS, Calibration, calibrate_file
from edge8.converter import convert
from edge8.converter.deploy import deploy
from tests.boards.emulated import Level, need, run_static, runner

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def program() -> Path:
    if platform.machine() != "x86_64":
        pytest.skip("builds edge8-calibrate for x86-64")
    return runner("x86_64", "edge8-calibrate")


def network(inputs: int = 1) -> onnx.ModelProto:
    """Convolution, sigmoid, another convolution and a softmax over [2, 3, 8, 8], the sum of the inputs."""
    random = np.random.default_rng(0)
    first, second = (random.normal(size=shape).astype(np.float32) for shape in ((16, 3, 3, 3), (8, 16, 1, 1)))
    names = [f"x{i}" for i in range(inputs)]
    nodes = [helper.make_node("Add", names, ["x"])] if inputs == 2 else [helper.make_node("Relu", names, ["x"])]
    nodes += [
        helper.make_node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Softmax", ["e"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, 8, 8]) for name in names],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 8])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def values(count: int, seed: int = 1) -> Array:
    """``count`` runs; the last ones reach much further, so that every sample matters."""
    x = np.random.default_rng(seed).normal(size=(2 * count, 3, 8, 8)).astype(np.float32)
    return (x * np.linspace(1, 4, 2 * count).reshape(-1, 1, 1, 1)).astype(np.float32)


class Case:
    """A weights-quantised file and samples: five .npy files, one that holds three runs, and a raw one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model, self.samples = folder, folder / "net.e8", folder / "samples"
        convert(network(), self.model, quant="weight")
        self.samples.mkdir()
        self.x = values(9)
        for i in range(5):
            np.save(self.samples / f"{i}.npy", self.x[2 * i : 2 * i + 2])
        np.save(self.samples / "5.npy", self.x[10:16])
        (self.samples / "6.bin").write_bytes(self.x[16:].tobytes())

    def host(self, method: str = "auto") -> bytes:
        """What convert gives from the same samples without corrections."""
        return convert(network(), calibration=str(self.samples), method=method, corrections=()).data


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("calibrate"))


def call(program: Path, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60, **options)


def fails(program: Path, code: int, words: str, *arguments: object) -> None:
    result = call(program, *arguments)
    assert result.returncode == code, result.stderr
    assert words in result.stderr
    assert result.stderr.startswith("edge8-calibrate: ")


@pytest.mark.parametrize("method", METHODS)
def test_bytes_are_those_of_the_host(program: Path, case: Case, tmp_path: Path, method: str) -> None:
    result = call(program, case.model, case.samples, "-o", tmp_path / "c.e8", "--method", method)
    assert result.returncode == 0, result.stderr
    calibrate_file(case.model, [case.samples], tmp_path / "p.e8", method=method)
    made = (tmp_path / "c.e8").read_bytes()
    assert made == (tmp_path / "p.e8").read_bytes()
    assert made == case.host(method)
    assert Model(tmp_path / "c.e8").calibrated
    assert "9 samples" in result.stdout


def test_threads_and_percentile(program: Path, case: Case, tmp_path: Path) -> None:
    result = call(
        program, case.model, case.samples, "-o", tmp_path / "c.e8", "--method", "percentile", "--percentile", "99", "--threads", 2
    )
    assert result.returncode == 0, result.stderr
    calibrate_file(case.model, [case.samples], tmp_path / "p.e8", method="percentile", percentile=99.0)
    assert (tmp_path / "c.e8").read_bytes() == (tmp_path / "p.e8").read_bytes()


def test_memory_is_stated_and_true(program: Path, case: Case) -> None:
    model = Model(case.model)
    result = call(program, case.model, "--info", "--state", "unused")
    calibration = Calibration(model)
    observers, state = calibration.bytes, len(calibration.save())
    total = observers + state + model.arena_bytes(1)
    assert f"memory {total} bytes: arena {model.arena_bytes(1)}, observers {observers}, state {state}" in result.stdout
    assert not Path("unused").exists()


def test_two_inputs_by_name(program: Path, tmp_path: Path) -> None:
    convert(network(2), tmp_path / "net.e8", quant="weight")
    names = [t.name for t in Model(tmp_path / "net.e8").inputs]
    for seed, name in enumerate(names):
        (tmp_path / name).mkdir()
        for i, x in enumerate(np.split(values(3, seed), 3)):
            np.save(tmp_path / name / f"{i}.npy", x)
    arguments = [f"{name}={tmp_path / name}" for name in names]
    result = call(program, tmp_path / "net.e8", *arguments, "-o", tmp_path / "c.e8")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "c.e8").read_bytes() == convert(network(2), calibration=arguments, corrections=()).data
    fails(program, 2, "write NAME=FOLDER", tmp_path / "net.e8", tmp_path / names[0])
    (tmp_path / names[1] / "2.npy").unlink()
    fails(program, 4, "3 files for input x0, but 2 for input x1", tmp_path / "net.e8", *arguments)


@pytest.mark.parametrize("method", ["auto", "kl", "minmax", "percentile", "mse"])
def test_states_of_two_boards_add_up(program: Path, case: Case, tmp_path: Path, method: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    halves = sorted(case.samples.iterdir())
    assert call(program, case.model, *halves[:3], "--state", first, "--observe").returncode == 0
    assert call(program, case.model, *halves[3:5], "--state", second, "--observe").returncode == 0
    assert call(program, case.model, *halves[5:], "--state", second, "--observe").returncode == 0
    result = call(program, case.model, "--merge", first, "--merge", second, "--method", method, "-o", tmp_path / "c.e8")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "c.e8").read_bytes() == case.host(method)
    calibrate_file(case.model, [], tmp_path / "p.e8", method=method, merge=[first, second])
    assert (tmp_path / "p.e8").read_bytes() == case.host(method)


@pytest.mark.parametrize("method", METHODS)
def test_resume_goes_on_where_a_call_stopped(program: Path, case: Case, tmp_path: Path, method: str) -> None:
    """Also where the call stopped inside a file of three runs, and for the methods that depend on the order."""
    state = tmp_path / "state"
    part = tmp_path / "part"
    part.mkdir()
    for path in sorted(case.samples.iterdir())[:5]:
        shutil.copy(path, part)
    np.save(part / "5.npy", case.x[10:14])
    assert call(program, case.model, part, "--state", state, "--observe").returncode == 0
    result = call(program, case.model, case.samples, "--state", state, "--resume", "--method", method, "-o", tmp_path / "c.e8")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "c.e8").read_bytes() == case.host(method)


def many(case: Case, tmp_path: Path, count: int = 4000) -> Path:
    """A sample file that takes a while."""
    np.save(tmp_path / "many.npy", np.concatenate([case.x[:2]] * count))
    return tmp_path / "many.npy"


def test_a_signal_saves_the_state_and_leaves_the_model(program: Path, case: Case, tmp_path: Path) -> None:
    model, state = tmp_path / "net.e8", tmp_path / "state"
    shutil.copy(case.model, model)
    before = model.read_bytes()
    running = subprocess.Popen(
        [program, model, many(case, tmp_path), "--state", state, "--save-every", "1"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    while not state.exists():
        time.sleep(0.005)
    running.send_signal(signal.SIGTERM)
    _, text = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    assert b"the state is saved" in text
    assert model.read_bytes() == before
    calibration = Calibration(Model(model))
    calibration.load(state.read_bytes())
    assert 0 < calibration.runs < 4000
    assert {p.name for p in tmp_path.iterdir()} == {"net.e8", "state", "many.npy"}


def test_killed_at_any_moment_the_model_is_whole(program: Path, case: Case, tmp_path: Path) -> None:
    """In place, killed without warning: the file is the old one or the whole result."""
    model = tmp_path / "net.e8"
    before, after = case.model.read_bytes(), case.host()
    outcomes = set()
    begin = time.perf_counter()
    shutil.copy(case.model, model)
    call(program, model, case.samples)
    whole = time.perf_counter() - begin
    for i in range(40):
        shutil.copy(case.model, model)
        running = subprocess.Popen([program, model, case.samples], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(whole * i / 25)
        running.kill()
        running.wait()
        content = model.read_bytes()
        assert content in (before, after)
        outcomes.add(content)
    assert outcomes == {before, after}


def test_no_space_leaves_the_model_whole(program: Path, case: Case, tmp_path: Path) -> None:
    model = tmp_path / "net.e8"
    shutil.copy(case.model, model)
    before = model.read_bytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))

    result = call(program, model, case.samples, preexec_fn=limit)
    assert result.returncode == 6
    assert "cannot be written" in result.stderr
    assert model.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"net.e8"}
    result = call(program, model, case.samples, "--state", tmp_path / "state", "--observe", preexec_fn=limit)
    assert result.returncode == 6
    assert {p.name for p in tmp_path.iterdir()} == {"net.e8"}


def test_a_full_disk_leaves_the_model_whole(program: Path, case: Case, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    size = (case.model.stat().st_size // 4096 + 1) * 4096
    mount = f"mount -t tmpfs -o size={size} none {disk} && cp {case.model} {disk}/net.e8"
    script = f"{mount} && {program} {disk}/net.e8 {case.samples}; echo $?; cmp {disk}/net.e8 {case.model} && ls -A {disk}"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    result = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert "No space left on device" in result.stderr, result.stderr
    assert result.stdout.split()[-2:] == ["6", "net.e8"]


def test_what_cannot_be_used_is_refused(program: Path, case: Case, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    fails(program, 4, "no .npy, .bin, .raw, .ppm, .pgm or .bmp file", case.model, empty)
    fails(program, 4, "No such file", case.model, tmp_path / "absent")
    fails(program, 2, "no samples given", case.model)
    fails(program, 2, "--method takes auto", case.model, case.samples, "--method", "best")
    fails(program, 2, "--percentile takes", case.model, case.samples, "--percentile", "nan")
    fails(program, 2, "need --state FILE", case.model, case.samples, "--resume")
    bad = case.x[:2].copy()
    bad[1, 2, 3, 4] = np.nan
    np.save(tmp_path / "nan.npy", bad)
    fails(program, 4, "NaN or infinity in the data of input", case.model, tmp_path / "nan.npy")
    np.save(tmp_path / "shape.npy", case.x[:3])
    fails(program, 4, "its shape is not that of input", case.model, tmp_path / "shape.npy")
    (tmp_path / "cut.bin").write_bytes(case.x[:2].tobytes()[:-4])
    fails(program, 4, "bytes, but input", case.model, tmp_path / "cut.bin")
    np.savez(tmp_path / "a.npz", x=case.x[:2])
    fails(program, 4, ".npz is not read here", case.model, tmp_path / "a.npz")
    assert call(program, case.model, case.samples, "-o", tmp_path / "full.e8").returncode == 0
    fails(program, 3, "needs no calibration", tmp_path / "full.e8", case.samples)
    state = tmp_path / "state"
    assert call(program, case.model, case.samples, "--state", state, "--observe").returncode == 0
    damaged = bytearray(state.read_bytes())
    damaged[100] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    fails(program, 4, "the state is damaged", case.model, "--merge", tmp_path / "damaged")
    fails(program, 4, "not a saved calibration", case.model, "--merge", tmp_path / "nan.npy")
    convert(network(2), tmp_path / "other.e8", quant="weight")
    fails(program, 4, "belongs to another model", tmp_path / "other.e8", "--merge", state)


@pytest.mark.skipif(not os.environ.get("EDGE8_SLOW"), reason="EDGE8_SLOW=1: builds for two boards")
@pytest.mark.parametrize("level", [Level("aarch64", "cortex-a72", "neon"), Level("s390x", "max", "reference")], ids=str)
def test_other_boards_write_the_same_bytes(case: Case, tmp_path: Path, level: Level) -> None:
    result = run_static(level, [case.model, case.samples, "-o", tmp_path / "c.e8"], runner(level.toolchain, "edge8-calibrate"))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "c.e8").read_bytes() == case.host()


def test_a_bundle_brings_it_for_a_model_that_waits(case: Case, tmp_path: Path) -> None:
    need("x86_64-linux-gnu-gcc", "gcc")
    made = deploy(case.model, "generic-x86-64", tmp_path / "bundle", toolchain="gcc", ops_from=[])
    assert made.sizes["edge8-calibrate"] < 1_200_000
    assert "./edge8-calibrate net.e8 samples/ -o int8.e8" in (made.folder / "README.md").read_text()
    result = call(made.folder / "edge8-calibrate", made.folder / "net.e8", case.samples, "-o", tmp_path / "c.e8")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "c.e8").read_bytes() == case.host()
