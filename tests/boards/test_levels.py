# SPDX-License-Identifier: Apache-2.0
"""The golden files give the same bytes on every emulated processor, and the processor's best kernels are chosen."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.boards.emulated import LEVELS, ROOT, Level, run_static

GOLDEN = sorted((ROOT / "tests" / "golden").glob("v*/*.e8"))


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_best_kernels_are_chosen(level: Level) -> None:
    result = run_static(level, ["--version"])
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("kernels ")[1].strip() == level.level


def check_golden_files(level: Level, tmp_path: Path, program: Path | None = None, left_out: str = "(?!)") -> None:
    """Run every golden file by edge8-run, or another build of it, and compare the outputs. ``left_out`` is found in names not to run."""
    wrong = []
    files = [path for path in GOLDEN if not re.search(left_out, path.stem)]
    for path in files:
        with np.load(path.parent / "expected.npz") as archive:
            np.save(tmp_path / "x.npy", archive["x"])
            expected = archive[path.stem]
        result = run_static(level, [path, tmp_path / "x.npy", "-o", tmp_path / "y.npy"], program)
        assert result.returncode == 0, f"{path.name}: {result.stderr}"
        got = np.load(tmp_path / "y.npy")
        if got.dtype != expected.dtype or got.shape != expected.shape or got.tobytes() != expected.tobytes():
            wrong.append(path.name)
    assert not wrong
    assert len(files) >= 40


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_golden_files_give_the_same_bytes(level: Level, tmp_path: Path) -> None:
    check_golden_files(level, tmp_path)
