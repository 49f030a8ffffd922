# SPDX-License-Identifier: Apache-2.0
"""`deploy`: what is in the bundle works on the emulated board, and what cannot work is refused with a reason."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge8 import FormatError
from edge8.converter import cross
from edge8.converter.deploy import Deployment, deploy
from edge8.converter.errors import ConvertError
from tests.boards.emulated import LEVELS, ROOT, Level, need, run_static

MODEL = ROOT / "tests" / "golden" / "v1" / "conv2d.full.e8"
A72 = Level("aarch64", "cortex-a72", "neon")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    need("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    return deploy(MODEL, "raspberry-pi-4", tmp_path_factory.mktemp("bundle") / "pi", toolchain="gcc", array=True, ops_from=[])


def expected_line(folder: Path) -> str:
    return re.search(r"output \S+ float32 .* crc32c [0-9a-f]{8}", (folder / "README.md").read_text()).group(0)  # type: ignore[union-attr]


def test_bundle_holds_what_it_says(bundle: Deployment) -> None:
    names = {p.name for p in bundle.folder.iterdir()}
    wanted = {
        "edge8-run",
        "libedge8.a",
        "edge8.h",
        "edge8_pool.h",
        "main.c",
        "Makefile",
        "CMakeLists.txt",
        "README.md",
        "LICENSE",
        MODEL.name,
    }
    assert names == wanted | {"check-input.npy", "model_data.c", "model_data.h"}
    text = "".join(p.read_text() for p in bundle.folder.iterdir() if p.suffix in {".md", ".c", ".txt", ".h"})
    assert not re.search(r"@[A-Z_]+@", text)
    assert str(ROOT) not in text


def test_run_prints_the_digest_of_the_readme(bundle: Deployment) -> None:
    folder = bundle.folder
    result = run_static(A72, [folder / MODEL.name, folder / "check-input.npy"], folder / "edge8-run")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == expected_line(folder)


def test_bundle_measures(bundle: Deployment, tmp_path: Path) -> None:
    result = run_static(
        A72, [bundle.folder / MODEL.name, "--bench", "5", "--ops", "--record", tmp_path / "r.json"], bundle.folder / "edge8-run"
    )
    assert result.returncode == 0, result.stderr
    assert "p90" in result.stdout
    assert "Conv2D" in result.stdout


def test_example_builds_and_runs(bundle: Deployment, tmp_path: Path) -> None:
    need("make", "make")
    folder = tmp_path / "copy"
    shutil.copytree(bundle.folder, folder)
    subprocess.run(["make", "-s", "CC=aarch64-linux-gnu-gcc -static -Werror"], cwd=folder, check=True)
    result = run_static(A72, [], folder / "example")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 10


def test_pruned_runner_refuses_other_operators(bundle: Deployment) -> None:
    other = ROOT / "tests" / "golden" / "v1" / "softmax.full.e8"
    result = run_static(A72, [other, bundle.folder / "check-input.npy"], bundle.folder / "edge8-run")
    assert result.returncode == 3
    assert "rule op.kind" in result.stderr
    assert "--ops-from" in result.stderr


def test_pruned_runner_refuses_other_number_formats(bundle: Deployment) -> None:
    other = ROOT / "tests" / "golden" / "v1" / "conv2d.float.e8"
    result = run_static(A72, [other, bundle.folder / "check-input.npy"], bundle.folder / "edge8-run")
    assert result.returncode == 3
    assert "rule op.form, operator" in result.stderr


def test_firmware_equals_the_host(tmp_path: Path) -> None:
    need("arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi")
    need("qemu-system-arm", "qemu-system-arm")
    made = deploy(MODEL, "cortex-m4", tmp_path / "m4", ops_from=[])
    text = " ".join(made.notes)
    assert "output as on the host" in text
    code, stack = (int(re.search(pattern, text).group(1)) for pattern in (r"code (\d+)", r"stack (\d+)"))  # type: ignore[union-attr]
    assert code < 40_000
    assert stack <= 4096
    rerun = subprocess.run(["make", "-s", "run"], cwd=made.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert "output as on the host" in rerun.stdout + rerun.stderr


@pytest.mark.skipif(
    not os.environ.get("EDGE8_SLOW") or importlib.util.find_spec("ziglang") is None, reason="EDGE8_SLOW=1 and ziglang: minutes"
)
@pytest.mark.parametrize(("toolchain", "device"), [("aarch64", "raspberry-pi-4"), ("armv7l", "raspberry-pi-2")])
def test_zig_bundle_runs_on_every_level(toolchain: str, device: str, tmp_path: Path) -> None:
    levels = [level for level in LEVELS if level.toolchain == toolchain]
    made = deploy(MODEL, device, tmp_path / "zig", toolchain="zig")
    for level in levels:
        program = made.folder / "edge8-run"
        assert run_static(level, ["--version"], program).stdout.split("kernels ")[1].strip() == level.level
        result = run_static(level, [made.folder / MODEL.name, made.folder / "check-input.npy"], program)
        assert result.stdout.strip() == expected_line(made.folder)
    assert made.sizes["edge8-run"] < 500_000


def test_toolchain_file(tmp_path: Path) -> None:
    need("cmake", "cmake")
    need("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu")
    file = ROOT / "devices" / "toolchains" / "riscv64-gcc.cmake"
    made = deploy(MODEL, "visionfive-2", tmp_path / "v", toolchain=str(file), ops_from=[])
    result = run_static(
        Level("riscv64", "rv64", "reference"), [made.folder / MODEL.name, made.folder / "check-input.npy"], made.folder / "edge8-run"
    )
    assert result.stdout.strip() == expected_line(made.folder)


def refused(tmp_path: Path, match: str, device: str = "raspberry-pi-4", model: Path = MODEL, **options: Any) -> None:
    with pytest.raises(ConvertError, match=match):
        deploy(model, device, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".edge8-*")) == []


def test_unknown_device(tmp_path: Path) -> None:
    refused(tmp_path, "unknown device 'pi'.*raspberry-pi-4", device="pi")


def test_device_without_cpu(tmp_path: Path) -> None:
    refused(tmp_path, "no CPU that runs edge8", device="atlas-300i")


def test_existing_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ConvertError, match="exists already"):
        deploy(MODEL, "raspberry-pi-4", tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def test_file_of_a_newer_format(tmp_path: Path) -> None:
    data = MODEL.read_bytes()
    (tmp_path / "newer.e8").write_bytes(data[:12] + b"\x63\x00" + data[14:])
    with pytest.raises(FormatError, match=r"newer\.e8: the model was written for a newer runtime \(rule file\.version\)"):
        deploy(tmp_path / "newer.e8", "raspberry-pi-4", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_parent_folder(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="the folder does not exist"):
        deploy(MODEL, "raspberry-pi-4", tmp_path / "a" / "b")


def test_missing_compiler_names_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross.shutil, "which", lambda name: None)
    monkeypatch.setattr(cross.importlib.util, "find_spec", lambda name: None)
    refused(tmp_path, "neither aarch64-linux-gnu-gcc nor zig is installed.*pip install ziglang, or apt install gcc-aarch64-linux-gnu")
    refused(tmp_path, "apt install gcc-arm-none-eabi", device="cortex-m4")
    refused(tmp_path, "a toolchain file needs cmake", toolchain=str(ROOT / "devices" / "toolchains" / "aarch64-gcc.cmake"))


def test_missing_toolchain_file(tmp_path: Path) -> None:
    refused(tmp_path, "the toolchain file does not exist", toolchain=str(tmp_path / "none.cmake"))


def test_wheel_for_another_machine(tmp_path: Path) -> None:
    need("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    wheel = tmp_path / "edge8-0.1.0-py3-none-linux_x86_64.whl"
    wheel.write_bytes(b"")
    refused(tmp_path, "the wheel is not for aarch64", toolchain="gcc", wheel=str(wheel))


def test_model_that_does_not_fit(tmp_path: Path) -> None:
    small = (ROOT / "devices" / "cortex-m4.toml").read_text().replace('ram = "256 KiB"', 'ram = "17 KiB"')
    (tmp_path / "small.toml").write_text(small)
    need("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    refused(tmp_path, "the arena needs .* too much", device=str(tmp_path / "small.toml"))


def test_host_and_board_inputs_are_the_same(bundle: Deployment) -> None:
    assert np.load(bundle.folder / "check-input.npy").dtype == np.float32
