# SPDX-License-Identifier: Apache-2.0
"""Whole networks give the digests of x86-64 on every emulated processor: the third-party ones, and those of runtime_c/bench/networks.py
that are made for small boards. Minutes, so EDGE8_SLOW=1 runs all; the others run the smallest.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge8.converter.api import convert_graph, load_graph
from edge8.converter.quant.scheme import Scheme
from tests.boards.emulated import LEVELS, ROOT, Level, run_static
from tests.fetch import NETWORKS, Unavailable, network

sys.path.insert(0, str(ROOT / "runtime_c" / "bench"))
import networks

HOST = next(level for level in LEVELS if level.toolchain == "x86_64")
BOARDS = [level for level in LEVELS if level.toolchain != "x86_64"]
SMALL = ["dscnn_kws", "resnet8_cifar", "mobilenetv1_025_vww"]
QUICK = ["dscnn_kws"]


def load(name: str, folder: Path) -> Any:
    """The float graph of a network, or a skip that says what is missing."""
    if name in SMALL:
        return load_graph(networks.write(name, folder))
    try:
        return load_graph(network(name), NETWORKS[name].shapes)
    except Unavailable as error:
        pytest.skip(f"{name}: {error}")


def digests(level: Level, model: Path, inputs: list[Path]) -> str:
    """What edge8-run prints about its outputs."""
    result = run_static(level, [model, *inputs])
    assert result.returncode == 0, f"{level}: {result.stderr}"
    return result.stdout


@pytest.mark.parametrize("mode", ["full", "float"])
@pytest.mark.parametrize("name", [*SMALL, *sorted(NETWORKS)])
def test_one_digest_on_every_processor(name: str, mode: str, tmp_path: Path) -> None:
    if name not in QUICK and not os.environ.get("EDGE8_SLOW"):
        pytest.skip("EDGE8_SLOW=1: a minute")
    graph = load(name, tmp_path)
    random = np.random.default_rng(0)

    def sample() -> dict[str, Any]:
        made = {}
        for tensor in (graph.tensors[n] for n in graph.inputs):
            integer = tensor.dtype.name.startswith("INT")
            noise = random.integers(0, 256, tensor.shape) if integer else random.standard_normal(tensor.shape)
            made[tensor.name] = noise.astype(np.int32 if integer else np.float32)
        return made

    data, x = [sample() for _ in range(2)], sample()
    model, inputs = tmp_path / "net.e8", []
    model.write_bytes(convert_graph(graph, Scheme(mode=mode), data, method="minmax")[0])
    for number, tensor in enumerate(graph.inputs):
        inputs.append(tmp_path / f"{number}.npy")
        np.save(inputs[-1], x[tensor])
    expected = digests(HOST, model, inputs)
    assert "digest" in expected or "crc" in expected.lower(), expected
    wrong = [str(level) for level in BOARDS if digests(level, model, inputs) != expected]
    assert not wrong, expected
