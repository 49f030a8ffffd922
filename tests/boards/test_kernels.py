# SPDX-License-Identifier: Apache-2.0
"""The native kernel checks on emulated processors: every level equals the reference byte for byte.

EDGE8_KERNEL_CASES sets the cases per kernel; the figure in docs/boards.md was made with 100000.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest

from edge8.converter.cross import sources_folder
from tests.boards.emulated import LEVELS, ROOT, Level, library, run_static

CASES = int(os.environ.get("EDGE8_KERNEL_CASES", "150"))


@functools.cache
def check_program(toolchain: str) -> Path:
    compiler, archive = library(toolchain)
    source = sources_folder()
    made = archive.parent / "check_kernels"
    includes = [f"-I{ROOT / 'tests' / 'native'}", f"-I{source / 'src'}", f"-I{source / 'include'}"]
    files = sorted(str(p) for p in (ROOT / "tests" / "native").glob("check*.c"))
    command = [*compiler.command, *compiler.flags, "-std=c11", "-O1", "-ffp-contract=off", *includes, *files, str(archive)]
    subprocess.run([*command, "-static", "-lpthread", "-o", str(made)], check=True)
    return made


@pytest.mark.parametrize("level", [level for level in LEVELS if level.level != "reference"], ids=str)
def test_kernels_equal_the_reference(level: Level) -> None:
    result = run_static(level, ["--cases", str(CASES)], check_program(level.toolchain))
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    assert f"\n{level.level} " in result.stdout
    assert "FAIL" not in result.stdout
