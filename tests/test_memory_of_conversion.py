# SPDX-License-Identifier: Apache-2.0
"""A conversion holds few copies of the float model, whatever the number of samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
convert(sys.argv[1], calibration=Samples(), method="minmax", corrections=())
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


def growth(path: Path, samples: int) -> int:
    command = [sys.executable, "-c", PROBE.format(width=WIDTH), str(path), str(samples)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_few_copies(tmp_path: Path) -> None:
    weights = model(tmp_path / "dense.onnx")
    few, many = growth(tmp_path / "dense.onnx", 2), growth(tmp_path / "dense.onnx", 60)
    assert few < 7.5 * weights, few / weights
    assert many < few + 0.25 * weights, (many - few) / weights
