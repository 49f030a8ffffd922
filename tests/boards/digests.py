# SPDX-License-Identifier: Apache-2.0
"""Whole networks on every emulated processor against the digests of x86-64.

``python -m tests.boards.digests`` takes those of tests/fetch.py and the small ones of runtime_c/bench/networks.py, in full int8 and float,
and prints a line for each (hours); ``--networks dscnn_kws`` some of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge8.converter.api import convert_graph, load_graph
from edge8.converter.graph import Graph
from edge8.converter.quant.scheme import Scheme
from tests.boards.builds import hold_builds
from tests.boards.emulated import LEVELS, Level, run_static
from tests.fetch import NETWORKS, Unavailable, bench_networks, network

__all__ = ["BOARDS", "MODES", "NAMES", "SMALL", "compare", "load", "write"]

HOST = next(level for level in LEVELS if level.toolchain == "x86_64")
BOARDS = [level for level in LEVELS if level.toolchain != "x86_64"]
SMALL = ["dscnn_kws", "resnet8_cifar", "mobilenetv1_025_vww"]
NAMES = [*SMALL, *sorted(NETWORKS)]
MODES = ["full", "float"]


def load(name: str, folder: Path) -> Graph:
    """The float graph of a network. Raises `Unavailable` where it cannot be had."""
    return load_graph(network(name), NETWORKS[name].shapes) if name in NETWORKS else load_graph(bench_networks().write(name, folder))


def write(graph: Graph, mode: str, folder: Path) -> tuple[Path, list[Path]]:
    """Convert a network with random data; gives the model and random inputs, as files in ``folder``."""
    random = np.random.default_rng(0)

    def sample() -> dict[str, Any]:
        made = {}
        for tensor in (graph.tensors[n] for n in graph.inputs):
            integer = tensor.dtype.name.startswith("INT")
            noise = random.integers(0, 256, tensor.shape) if integer else random.standard_normal(tensor.shape)
            made[tensor.name] = noise.astype(np.int32 if integer else np.float32)
        return made

    data, x = [sample() for _ in range(2)], sample()
    model, inputs = folder / "net.e8", []
    model.write_bytes(convert_graph(graph, Scheme(mode=mode), data, method="minmax")[0])
    for number, tensor in enumerate(graph.inputs):
        inputs.append(folder / f"{number}.npy")
        np.save(inputs[-1], x[tensor])
    return model, inputs


def digests(level: Level, model: Path, inputs: list[Path]) -> str:
    """What edge8-run prints about its outputs."""
    result = run_static(level, [model, *inputs], timeout=3600)
    if result.returncode != 0 or "crc32c" not in result.stdout:
        raise RuntimeError(f"{level}: {result.stdout}{result.stderr}")
    return result.stdout


def compare(model: Path, inputs: list[Path]) -> Iterator[tuple[Level, bool]]:
    """Each processor, and whether its digests are those of x86-64."""
    expected = digests(HOST, model, inputs)
    for level in BOARDS:
        yield level, digests(level, model, inputs) == expected


def main() -> int:
    """Compare the networks asked for and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--networks", nargs="+", default=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}, and runtime_c/bench/networks.py"
    )
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    arguments = parser.parse_args()
    failed = 0
    with hold_builds():
        for name, mode in ((name, mode) for name in arguments.networks for mode in arguments.modes):
            with tempfile.TemporaryDirectory(prefix="edge8-digests-") as folder:
                try:
                    found = dict(compare(*write(load(name, Path(folder)), mode, Path(folder))))
                except Unavailable as error:
                    print(f"{name} {mode}: skipped, {error}", flush=True)
                    continue
                wrong = [str(level) for level, same in found.items() if not same]
                failed += bool(wrong)
                print(
                    f"{name} {mode}: {f'DIFFERENT on {wrong}' if wrong else f'one digest on {len(found)} processors and x86-64'}",
                    flush=True,
                )
    return failed


if __name__ == "__main__":
    sys.exit(main())
