# SPDX-License-Identifier: Apache-2.0
"""The static programs bring no C library: what stands in for it (cli/alone) computes what Python's formatting does, on each machine."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge8.converter.cross import ALONE, choose_compiler, link_alone
from edge8.converter.devices import load_toolchain
from tests.boards.emulated import ROOT, need, runner

NUMBERS = [
    "0",
    "1",
    "-1",
    "0.5",
    "127.5",
    "0.00390625",
    "123.675",
    "58.395",
    "1e-3",
    "2.5e+6",
    "-0.0625",
    "9.9999",
    "99999.96",
    "1234567",
    ".25",
    "3.1415927",
]
STATIC_BYTES = 500_000


def expected(text: str) -> list[str]:
    value = float(np.float32(text))
    whole = int(value)
    first = f"{value:.9g}|{value:.1f}|{value:.3f}|{value:9.4f}|{value:.6f}|{f'{value:.3f}'[:5]}|{len(f'{value:.3f}')}|0"
    second = f"{whole}|{whole}|{whole % 2**32}|{whole % 2**32:08x}|{text:<20}|{text:>6}|{text[:2]}|{text[0]}"
    return [first, second]


@pytest.mark.parametrize("machine", sorted(ALONE))
def test_stand_in_for_the_c_library(machine: str, tmp_path: Path) -> None:
    chain = load_toolchain(machine)
    need(chain.compiler, " ".join(chain.packages))
    program = tmp_path / "check"
    link_alone(choose_compiler(chain, "gcc"), [ROOT / "tests" / "boards" / "alone_check.c"], [], program)
    command = [str(program)] if platform.machine() == machine else [need(chain.emulator, "qemu-user-static"), str(program)]
    result = subprocess.run([*command, *NUMBERS], capture_output=True, text=True, check=False, timeout=100)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [line for text in NUMBERS for line in expected(text)]


@pytest.mark.parametrize("machine", sorted(ALONE))
def test_static_program_is_small(machine: str) -> None:
    assert runner(machine).stat().st_size < STATIC_BYTES
