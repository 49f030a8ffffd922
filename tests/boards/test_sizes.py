# SPDX-License-Identifier: Apache-2.0
"""The library's size; sizes that do not fit a 32-bit address space are refused there, whatever they become modulo 2^32."""

from __future__ import annotations

import subprocess
from pathlib import Path

from edge8.converter.graph import Graph, Node, Tensor
from edge8.converter.targets.cpu_lite import write
from tests.boards.emulated import LEVELS, library, run_static

ARM32 = next(level for level in LEVELS if level.toolchain == "armv7l")
ARM64 = next(level for level in LEVELS if level.toolchain == "aarch64")


def product(depth: int) -> bytes:
    """A float product [1, depth] x [depth, 1]: its packed panel takes 16 * depth floats of scratch."""
    graph = Graph(inputs=["a", "b"], outputs=["y"])
    for name, shape in (("a", (1, depth)), ("b", (depth, 1)), ("y", (1, 1))):
        graph.add(Tensor(name, shape))
    graph.nodes = [Node("MatMul", ["a", "b"], ["y"])]
    return write(graph)


def test_scratch_of_two_to_the_32_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.e8"
    path.write_bytes(product((1 << 26) + 64))
    for level in (ARM32, ARM64):
        result = run_static(level, ["--info", path])
        assert result.returncode != 0, f"{level}: {result.stdout}"
        assert "limit.arena" in result.stderr


def test_scratch_beyond_the_address_space_is_refused_on_32_bits_only(tmp_path: Path) -> None:
    path = tmp_path / "net.e8"
    path.write_bytes(product(1 << 25))
    assert "limit.arena" in run_static(ARM32, ["--info", path]).stderr
    assert run_static(ARM64, ["--info", path]).returncode == 0


def test_the_shared_library_for_aarch64_stays_below_300_kb(tmp_path: Path) -> None:
    compiler, archive = library("aarch64")
    shared = tmp_path / "libedge8.so"
    whole = ["-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive", "-Wl,--gc-sections"]
    subprocess.run([*compiler.command, "-shared", "-s", *whole, "-lpthread", "-o", str(shared)], check=True)
    size = shared.stat().st_size
    print(f"libedge8.so for aarch64: {size} bytes")
    assert size < 300_000
