# SPDX-License-Identifier: Apache-2.0
"""Opening a mapped file copies no weights: private memory grows by the arena and little else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge8.converter.api import convert_graph, load_graph
from edge8.converter.quant.scheme import Scheme
from tests.fetch import Unavailable, network
from tests.quant.graphs import Builder

PROBE = """
import json, sys
import numpy as np
import edge8

def resident(kind):
    line = next(l for l in open("/proc/self/status") if l.startswith(kind))
    return int(line.split()[1]) * 1024

before, all_before = resident("RssAnon"), resident("VmRSS")
model = edge8.Model(sys.argv[1])
session = model.session()
session(np.zeros(model.inputs[0].shape, np.float32))
grown = {"growth": resident("RssAnon") - before, "resident": resident("VmRSS") - all_before}
print(json.dumps({**grown, "arena": model.arena_bytes(), "file": model.file_bytes}))
"""


def probe(file: Path) -> dict[str, int]:
    """What one run takes."""
    done = subprocess.run([sys.executable, "-c", PROBE, str(file)], capture_output=True, text=True, check=True)
    seen: dict[str, int] = json.loads(done.stdout)
    print(seen)
    return seen


def test_private_memory_grows_by_the_arena(tmp_path: Path) -> None:
    try:
        path = network("mobilenetv2")
    except Unavailable as error:
        pytest.skip(str(error))
    sample = {"input": np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)}
    file = tmp_path / "net.e8"
    file.write_bytes(convert_graph(load_graph(path), Scheme(), [sample], method="minmax")[0])
    seen = probe(file)
    assert seen["file"] > 3_000_000
    assert seen["growth"] < seen["arena"] + 500_000


@pytest.mark.parametrize(("bits", "group", "factor"), [(8, 0, 3.9), (4, 0, 7.6), (4, 32, 6.3)])
def test_coded_weights_stay_coded_in_memory(tmp_path: Path, bits: int, group: int, factor: float) -> None:
    """A run needs the file and the arena: what the file saves against float is saved in memory, since weights are decoded by the panel."""
    b = Builder()
    x = b.input("x", 4, 1024)
    for _ in range(4):
        x = b.dense(x, 1024, scale=0.05)
    graph, seen = b.done(x), {}
    for name, scheme in (("float", Scheme(mode="float")), ("coded", Scheme(mode="weight", bits=bits, group=group))):
        file = tmp_path / f"{name}.e8"
        file.write_bytes(convert_graph(graph, scheme)[0])
        seen[name] = probe(file)
    assert seen["float"]["file"] > factor * seen["coded"]["file"]
    saved = seen["float"]["file"] - seen["coded"]["file"]
    assert seen["float"]["resident"] - seen["coded"]["resident"] > saved - 600_000
    assert seen["coded"]["resident"] < seen["coded"]["file"] + seen["coded"]["arena"] + 600_000
