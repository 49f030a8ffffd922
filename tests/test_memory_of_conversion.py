# SPDX-License-Identifier: Apache-2.0
"""A conversion holds few copies of the float model, whatever the number of samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge8.converter.errors import ConvertError
from edge8.converter.graph import Tensor
from edge8.converter.memory import give_back, put_aside

WIDTH, LAYERS = 1536, 4

PROBE = """
import sys
import numpy as np
from edge8.converter.api import convert

class Samples:
    def __iter__(self):
        return (np.random.default_rng(i).standard_normal((1, {width})).astype(np.float32) for i in range(int(sys.argv[2])))

def peak():  # (ru_maxrss would begin at the parent's)
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))

before = peak()
convert(sys.argv[1], calibration=Samples(), method="minmax", corrections={corrections})
print((peak() - before) * 1024)
"""


def model(path: Path) -> int:
    """Dense layers of WIDTH; the bytes of their weights."""
    random = np.random.default_rng(0)
    nodes, constants, x = [], [], "x"
    for i in range(LAYERS):
        constants.append(numpy_helper.from_array((random.standard_normal((WIDTH, WIDTH)) / 40).astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("MatMul", [x, f"w{i}"], [f"y{i}"]))
        x = f"y{i}"
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in ("x", x)]
    graph = helper.make_graph(nodes, "dense", value[:1], value[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return LAYERS * WIDTH * WIDTH * 4


def growth(path: Path, samples: int, corrections: tuple[str, ...] = ()) -> int:
    command = [sys.executable, "-c", PROBE.format(width=WIDTH, corrections=corrections), str(path), str(samples)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(("corrections", "most"), [((), 6.5), (("equalisation", "bias"), 7.0)])
def test_few_copies(tmp_path: Path, corrections: tuple[str, ...], most: float) -> None:
    weights = model(tmp_path / "dense.onnx")
    few, many = growth(tmp_path / "dense.onnx", 9, corrections), growth(tmp_path / "dense.onnx", 80, corrections)
    assert few < most * weights, few / weights
    assert many < few + 0.25 * weights, (many - few) / weights


def test_large_constants_go_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    array, small = np.arange(1 << 16, dtype=np.float32), np.arange(5, dtype=np.float32)
    tensors = [Tensor("a", array.shape, data=array), Tensor("b", array.shape, data=array), Tensor("c", (5,), data=small)]
    put_aside(tensors)
    first, second, third = (t.data for t in tensors)
    assert first is second
    assert third is small
    assert isinstance(first, np.ndarray)
    assert not first.flags.writeable
    give_back()  # the pages come back from the file
    np.testing.assert_array_equal(first, array)
    put_aside(tensors)
    assert tensors[0].data is first, "what lies there already stays"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge8.converter.memory.tempfile.TemporaryFile", full)
    with pytest.raises(ConvertError, match=r"No space left on device.*TMPDIR"):
        put_aside([Tensor("d", array.shape, data=array.copy())])
