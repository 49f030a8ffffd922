# SPDX-License-Identifier: Apache-2.0
"""An .e8 file that is read back to a graph and written again is the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edge8
from edge8.converter import convert
from edge8.converter.targets.cpu_lite import write
from edge8.converter.targets.cpu_lite.read import read

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "converter" / "examples" / "fashion_mnist"


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "golden" / "v1").glob("*.e8")), ids=lambda p: p.stem)
def test_golden_files_come_back(path: Path) -> None:
    """Old files may have another arena plan than this version's; all else is the same."""
    old = read(path.read_bytes())
    again = write(old)
    graph = read(again)
    assert write(graph) == again
    assert graph.dump() == old.dump()
    for name, tensor in old.tensors.items():
        other = graph.tensors[name]
        assert (tensor.zero_point, tensor.bits, tensor.group, tensor.share, tensor.preset) == (
            *(other.zero_point, other.bits, other.group, other.share, other.preset),
        )
        np.testing.assert_array_equal(tensor.scale, other.scale)
        np.testing.assert_array_equal(tensor.data, other.data)


@pytest.mark.parametrize(
    ("quant", "bits", "group"), [("full", 8, 0), ("weight", 8, 0), ("weight", 5, 0), ("weight", 12, 0), ("float", 8, 0)]
)
def test_networks_come_back(quant: str, bits: int, group: int) -> None:
    samples = np.random.default_rng(0).normal(0, 1, (4, 1, 28, 28)).astype(np.float32)
    data = convert(DEMO / "model.onnx", quant=quant, bits=bits, group=group, calibration=samples).data
    graph = read(data)
    assert write(graph) == data
    assert [node.op for node in graph.nodes] == [op.kind for op in edge8.Model(data).ops]


def test_damaged_file_is_refused() -> None:
    data = bytearray(convert(DEMO / "model.onnx", quant="float").data)
    data[-5] ^= 1
    with pytest.raises(edge8.FormatError, match="crc"):
        read(bytes(data))
