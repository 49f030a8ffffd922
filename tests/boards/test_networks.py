# SPDX-License-Identifier: Apache-2.0
"""Whole networks give the digests of x86-64 on every emulated processor. EDGE8_SLOW=1 runs all; the others run the smallest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.boards.digests import BOARDS, MODES, NAMES, compare, load, write
from tests.fetch import Unavailable

QUICK = ["dscnn_kws"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_one_digest_on_every_processor(name: str, mode: str, tmp_path: Path) -> None:
    if name not in QUICK and not os.environ.get("EDGE8_SLOW"):
        pytest.skip("EDGE8_SLOW=1: from a minute to half an hour")
    try:
        graph = load(name, tmp_path)
    except Unavailable as error:
        pytest.skip(f"{name}: {error}")
    found = dict(compare(*write(graph, mode, tmp_path)))
    assert [str(level) for level, same in found.items() if not same] == []
    assert len(found) == len(BOARDS) >= 10
