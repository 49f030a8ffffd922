# SPDX-License-Identifier: Apache-2.0
"""The native kernel checks on emulated processors: every level equals the reference byte for byte.

EDGE8_KERNEL_CASES sets the cases per kernel. many_cases.py runs a million of each.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from edge8.converter.cross import Compiler
from edge8.converter.devices import load_toolchain
from tests.boards.emulated import LEVELS, Level, need, program, run_static
from tests.boards.many_cases import Run, count_cases, runs
from tests.native.program import link

CASES = int(os.environ.get("EDGE8_KERNEL_CASES", "80"))


@functools.cache
def check_program(toolchain: str) -> Path:
    def make(compiler: Compiler, archive: Path, made: Path) -> None:
        link([*compiler.command, *compiler.flags, "-O1"], [str(archive), "-static"], made)

    return program(toolchain, "check_kernels", make)


@pytest.mark.parametrize("level", [level for level in LEVELS if level.level != "reference"], ids=str)
def test_kernels_equal_the_reference(level: Level) -> None:
    # QEMU 7.2 reads 16 or 32 bytes for vpmaskmovd and vfmadd231ss of fewer. What the kernels read, tests/native sees on real processors.
    slack = ["--slack", "64"] if level.toolchain == "x86_64" else []
    result = run_static(level, ["--cases", str(CASES), *slack], check_program(level.toolchain))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    assert f"\n{level.level} " in result.stdout
    assert "FAIL" not in result.stdout


@pytest.mark.parametrize("run", [run for run in runs() if run.processor], ids=str)
def test_kernels_of_a_level_are_counted(run: Run) -> None:
    """What `python -m tests.boards.many_cases` does a million times."""
    need(load_toolchain(run.toolchain).emulator, "qemu-user-static")
    [total] = count_cases(run, check_program(run.toolchain), 20)
    assert min(total.values()) >= 20
    assert any(name.startswith(("gemm", "conv")) for name in total)


def test_an_absent_level_is_an_error() -> None:
    run = Run("aarch64", "i8mm", "cortex-a53")
    need(load_toolchain(run.toolchain).emulator, "qemu-user-static")
    with pytest.raises(RuntimeError, match=r"aarch64 i8mm .*seed 1: .*skipped"):
        list(count_cases(run, check_program(run.toolchain), 20))
