# SPDX-License-Identifier: Apache-2.0
"""Real networks: converted, verified, simulated; the fake-quant model in onnxruntime computes what the simulation computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ascend310.networks import BY_LAYER, WHOLE, check_network
from tests.fetch import require


@pytest.mark.parametrize("name", [*WHOLE, *BY_LAYER])
def test_network(name: str, tmp_path: Path) -> None:
    row = check_network(name, require(name), tmp_path / "net")
    assert row.verified.ok, str(row.verified)
    assert row.layers
    assert not [w for w in row.warnings if "overflow" in w and "could" not in w]
    assert row.difference <= 1e-5
