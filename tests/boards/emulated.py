# SPDX-License-Identifier: Apache-2.0
"""Builds for boards and the emulators that stand for them. What is absent skips the test, with the package that would bring it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge8.converter.cross import Compiler, build_library, choose_compiler, link_program
from edge8.converter.devices import load_device, load_toolchain
from edge8.converter.sources import sources_folder
from tests.boards.builds import alone_in

__all__ = ["LEVELS", "ROOT", "Level", "bare_library", "library", "need", "program", "rehearsal", "run_static", "runner"]

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
    Level("x86_64", "Nehalem", "reference"),
    Level("x86_64", "Haswell", "avx2"),
    Level("aarch64", "cortex-a53", "neon"),
    Level("aarch64", "cortex-a72", "neon"),
    Level("aarch64", "cortex-a76", "dotprod-wide"),
    Level("aarch64", "neoverse-n1", "dotprod-wide"),
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


def rehearsal(reason: str) -> pytest.MarkDecorator:
    """For what .ci/run does each time and `pytest` alone does not: it needs EDGE8_REHEARSAL=1 or EDGE8_SLOW=1."""
    wanted = os.environ.get("EDGE8_REHEARSAL") or os.environ.get("EDGE8_SLOW")
    return pytest.mark.skipif(not wanted, reason=f"EDGE8_REHEARSAL=1: {reason}")


def _fresh(made: Path) -> bool:
    sources = [p for pattern in ("*.c", "*.h") for p in sources_folder().rglob(pattern)]
    return made.exists() and made.stat().st_mtime > max(p.stat().st_mtime for p in sources)


def _compiler(toolchain: str, flags: tuple[str, ...] = ()) -> Compiler:
    chain = load_toolchain(toolchain)
    need(chain.compiler, " ".join(chain.packages))
    return choose_compiler(chain, "gcc", flags)


@functools.cache
def library(toolchain: str) -> tuple[Compiler, Path]:
    """The compiler and libedge8.a of a toolchain, built once per test run."""
    return _library(toolchain, _compiler(toolchain))


@functools.cache
def bare_library(device: str) -> tuple[Compiler, Path]:
    """The compiler and the whole libedge8.a of a microcontroller, built once per test run."""
    profile = load_device(device)
    return _library(device, _compiler(profile.toolchain, profile.flags))


def _library(name: str, compiler: Compiler) -> tuple[Compiler, Path]:
    with alone_in(name) as folder:
        made = folder / "libedge8.a"
        return compiler, made if _fresh(made) else build_library(compiler, folder)


def program(toolchain: str, name: str, link: Callable[[Compiler, Path, Path], object]) -> Path:
    """A program of a toolchain, linked once per test run.

    Args:
        toolchain: whose libedge8.a it is linked with.
        name: of the program.
        link: makes it from the compiler, the library and its own path.
    """
    compiler, archive = library(toolchain)
    with alone_in(f"{toolchain}-{name}") as folder:
        made = folder / name
        if not (_fresh(made) and made.stat().st_mtime >= archive.stat().st_mtime):
            link(compiler, archive, made)
        return made


@functools.cache
def runner(toolchain: str, name: str = "edge8-run") -> Path:
    """A static program of a toolchain, edge8-run or edge8-calibrate, built once per test run."""
    return program(toolchain, name, link_program)


def run_static(
    level: Level, arguments: list[str | Path], executable: Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run edge8-run, or another static program, under the level's emulator."""
    emulator = need(load_toolchain(level.toolchain).emulator, "qemu-user-static")
    command = [emulator, "-cpu", level.cpu, str(executable or runner(level.toolchain)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
