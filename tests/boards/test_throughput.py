# SPDX-License-Identifier: Apache-2.0
"""The inner loops of the AArch64 kernels reach the share of their limit that runtime_c/bench/arm_throughput.py wants."""

from __future__ import annotations

import subprocess
import sys

from tests.boards.emulated import ROOT, need


def test_inner_loops_are_near_the_limit_of_their_instructions() -> None:
    need("llvm-mca-19", "llvm-19")
    need("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    command = [sys.executable, str(ROOT / "runtime_c" / "bench" / "arm_throughput.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 below what is wanted" in result.stdout
