# SPDX-License-Identifier: Apache-2.0
"""Files of every released format open forever and give the same bytes: on every CPU level, for any number of threads and memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edge8

FILES = sorted(Path(__file__).parent.glob("v*/*.e8"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_golden_file_gives_the_same_bytes(path: Path) -> None:
    with np.load(path.parent / "expected.npz") as archive:
        x, expected = archive["x"], archive[path.stem]
    model = edge8.Model(path)
    names = edge8.cpu.features()
    try:
        for count in range(len(names) + 1):
            edge8.cpu.restrict(names[:count])
            for threads, least in ((1, False), (2, False), (1, True)):
                session = model.session(threads, least_memory=least)
                for run in range(2):
                    message = f"{names[:count]}, {threads} threads, least memory {least}, run {run}"
                    np.testing.assert_array_equal(session(x), expected, err_msg=message)
    finally:
        edge8.cpu.restrict(None)


def test_there_are_golden_files() -> None:
    assert len(FILES) >= 40
