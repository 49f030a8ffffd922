# SPDX-License-Identifier: Apache-2.0
"""Folders that a conversion wrote, shared by the tests of this target."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge8.converter.targets.ascend310 import convert_ascend310
from tests.ascend310 import nets


@pytest.fixture(scope="session")
def produced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small CNN by AMCT's own method, with AIPP and ATC's own calibration file."""
    folder = tmp_path_factory.mktemp("ascend") / "net"
    camera = {"input_format": "RGB888_U8", "src_image_size": [20, 24], "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    convert_ascend310(nets.cnn(), folder, calibration=nets.feeds(3), aipp=camera, compression=True, method="amct", name="net")
    return folder


@pytest.fixture
def copy(produced: Path, tmp_path: Path) -> Path:
    """A copy of ``produced`` to break."""
    return Path(shutil.copytree(produced, tmp_path / "net"))


@pytest.fixture(scope="session")
def produced_mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MatMul with bias Add, without compression files."""
    folder = tmp_path_factory.mktemp("ascend") / "mlp"
    convert_ascend310(nets.mlp(), folder, calibration=nets.feeds(3, (1, 5, 12)), name="mlp")
    return folder
