# SPDX-License-Identifier: Apache-2.0
"""docs/boards.md, "From laptop to board in five minutes": its own lines are run, the board's in an emulated arm64 Debian.

proot lets the root's shell start programs through qemu without privileges. Copying to the board is the only line that is replaced.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge8.converter.devices import load_device
from edge8.converter.wheel import build_wheel
from tests.boards.emulated import ROOT, need
from tests.boards.root import ARM64, PACKAGES, make_root

GUIDE = ROOT / "docs" / "boards.md"
COPY = "scp -r bundle/ board: && ssh board"


def lines_after(heading: str) -> list[str]:
    """The lines of the first indented block after some words of the guide."""
    text = GUIDE.read_text(encoding="utf-8")
    assert text.count(heading) == 1
    block = re.search(r"\n\n((?:    .*\n)+)", text[text.index(heading) :])
    assert block is not None
    return [line[4:] for line in block.group(1).splitlines()]


def on_laptop(lines: list[str], folder: Path) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = "\n".join(["set -e", *lines])
    result = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def on_board(root: Path, lines: list[str]) -> str:
    """Run lines in the home folder of the emulated board, with its shell and its programs."""
    proot = need("proot", "proot")
    emulator = need("qemu-aarch64-static", "qemu-user-static")
    libraries = "/usr/lib/aarch64-linux-gnu"
    command = [proot, "-q", f"{emulator} -cpu cortex-a72", "-r", str(root), "-b", "/proc", "-b", "/dev", "-w", "/root"]
    command += ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "HOME=/root", f"LD_LIBRARY_PATH={libraries}/blas:{libraries}/lapack"]
    script = "\n".join(["set -e", *lines])
    result = subprocess.run([*command, "/bin/bash", "-c", script], capture_output=True, text=True, check=False, timeout=500)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def prepare(folder: Path) -> None:
    """What the guide takes for granted: a network and a folder of samples."""
    example = ROOT / "converter" / "examples" / "fashion_mnist"
    shutil.copyfile(example / "model.onnx", folder / "net.onnx")
    (folder / "data").mkdir()
    np.save(folder / "data" / "x.npy", np.random.default_rng(0).random((16, 1, 28, 28), np.float32))


def board(folder: Path, *packages: str) -> Path:
    """A root of this test's own, with the bundle in the home folder. The shared root is linked, not copied."""
    shared = make_root(ARM64, *PACKAGES, *packages)
    root = folder / "board"
    subprocess.run(["cp", "-al", str(shared), str(root)], check=True, stderr=subprocess.DEVNULL)
    shutil.copytree(folder / "bundle", root / "root" / "bundle")
    return root


def test_guide_works_as_printed(tmp_path: Path) -> None:
    need("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    prepare(tmp_path)
    laptop = lines_after("On the laptop:")
    assert laptop.count(COPY) == 1
    printed = on_laptop([line for line in laptop if line != COPY], tmp_path)
    assert "raspberry-pi-4" in printed
    text = on_board(board(tmp_path), lines_after("On the board:\n\n    cd bundle && ./edge8-run"))
    expected = re.search(r"output .* crc32c [0-9a-f]{8}", (tmp_path / "bundle" / "README.md").read_text())
    assert expected is not None
    assert expected.group(0) in text
    assert "p90" in text
    assert "Conv2D" in text
    record = tmp_path / "board" / "root" / "bundle" / "board.json"
    on_laptop(["edge8 bench net.e8 --runs 5 --json laptop.json >/dev/null", f"edge8 bench --compare {record} laptop.json"], tmp_path)


@pytest.mark.skipif(not os.environ.get("EDGE8_SLOW"), reason="EDGE8_SLOW=1: two minutes")
def test_python_on_the_board_works_as_printed(tmp_path: Path) -> None:
    need("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    prepare(tmp_path)
    on_laptop([line for line in lines_after("On the laptop:") if line != COPY], tmp_path)
    build_wheel(load_device("raspberry-pi-4"), tmp_path / "bundle", "gcc")
    install, *rest = lines_after("nothing else. On the board:")
    packages = install.removeprefix("sudo apt install ").split()
    assert packages == ["python3-venv", "python3-numpy", "python3-cffi"]
    root = board(tmp_path, "python3-venv")
    text = on_board(root, rest)
    assert "p90" in text or "p50" in text
    y = np.load(root / "root" / "bundle" / "y.npy")
    static = on_board(root, ["cd bundle && ./edge8-run net.e8 check-input.npy -o static.npy"])
    assert "crc32c" in static
    np.testing.assert_array_equal(y, np.load(root / "root" / "bundle" / "static.npy"))
