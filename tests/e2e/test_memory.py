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

PROBE = """
import json, sys
import numpy as np
import edge8

def private():
    line = next(l for l in open("/proc/self/status") if l.startswith("RssAnon"))
    return int(line.split()[1]) * 1024

x = np.zeros((1, 3, 224, 224), np.float32)
before = private()
model = edge8.Model(sys.argv[1])
session = model.session()
session(x)
print(json.dumps({"growth": private() - before, "arena": model.arena_bytes(), "file": model.file_bytes}))
"""


def test_private_memory_grows_by_the_arena(tmp_path: Path) -> None:
    try:
        path = network("mobilenetv2")
    except Unavailable as error:
        pytest.skip(str(error))
    sample = {"input": np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)}
    file = tmp_path / "net.e8"
    file.write_bytes(convert_graph(load_graph(path), Scheme(), [sample], method="minmax")[0])
    done = subprocess.run([sys.executable, "-c", PROBE, str(file)], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    print(seen)
    assert seen["file"] > 3_000_000
    assert seen["growth"] < seen["arena"] + 500_000
