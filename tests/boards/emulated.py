# SPDX-License-Identifier: Apache-2.0
"""Builds for boards and the emulators that stand for them. What is absent skips the test, with the package that would bring it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge8.converter.devices import load_toolchain

__all__ = ["LEVELS", "ROOT", "Level", "build", "need", "run_static"]

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Level:
    """A processor of QEMU and the kernel level that must be chosen on it."""

    toolchain: str
    cpu: str
    level: str

    def __str__(self) -> str:
        return f"{self.toolchain}-{self.cpu}"


LEVELS = [
    Level("aarch64", "cortex-a53", "neon"),
    Level("aarch64", "cortex-a72", "neon"),
    Level("aarch64", "cortex-a76", "dotprod"),
    Level("aarch64", "neoverse-n1", "dotprod"),
    Level("aarch64", "max,sve=off", "i8mm"),
    Level("armv7l", "cortex-a7", "neon-vfpv4"),
    Level("armv7l", "cortex-a8", "neon"),
    Level("armv7l", "cortex-a15,neon=off", "vfpv4"),
    Level("riscv64", "rv64", "reference"),
    Level("s390x", "max", "reference"),
]


def need(program: str, package: str) -> str:
    """The path of a program, or a skip that names the Debian package."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is absent (Debian: {package})")
    return found


@functools.cache
def build(toolchain: str, *options: str) -> Path:
    """The build folder of libedge8 and the static edge8-run for a toolchain, made once per test run.

    EDGE8_BOARD_BUILDS names a folder to keep builds in between runs.
    """
    chain = load_toolchain(toolchain)
    need(chain.compiler, " ".join(chain.packages))
    need("cmake", "cmake")
    base = Path(os.environ.get("EDGE8_BOARD_BUILDS") or tempfile.mkdtemp(prefix="edge8-boards-"))
    folder = base / "-".join([toolchain, *(o.lstrip("-").replace("=", "_") for o in options)])
    file = ROOT / "devices" / "toolchains" / f"{toolchain}-gcc.cmake"
    configure = [
        "cmake",
        "-S",
        str(ROOT / "runtime_c"),
        "-B",
        str(folder),
        f"-DCMAKE_TOOLCHAIN_FILE={file}",
        "-DE8_CLI=ON",
        "-DE8_WERROR=ON",
        *options,
    ]
    for command in (configure, ["cmake", "--build", str(folder), "--parallel", "2"]):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return folder


def run_static(
    level: Level, arguments: list[str | Path], folder: Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run edge8-run, or another static program as the first argument, under the level's emulator."""
    emulator = need(load_toolchain(level.toolchain).emulator, "qemu-user-static")
    program = [] if folder is not None else [str(build(level.toolchain) / "cli" / "edge8-run")]
    command = [emulator, "-cpu", level.cpu, *program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, cwd=folder)
