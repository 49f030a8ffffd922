# SPDX-License-Identifier: Apache-2.0
"""The library's size; sizes that do not fit a 32-bit address space are refused there, whatever they become modulo 2^32."""

from __future__ import annotations

import struct
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


def loaded_bytes(elf: bytes) -> int:
    """Bytes that the loadable segments of a 64-bit little-endian ELF file hold."""
    start, size, count = struct.unpack_from("<Q", elf, 32)[0], *struct.unpack_from("<HH", elf, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", elf, start + i * size) for i in range(count)]
    return sum(file_bytes for kind, _, _, _, _, file_bytes, _, _ in segments if kind == 1)


def test_the_shared_library_for_aarch64_stays_below_300_kb(tmp_path: Path) -> None:
    compiler, archive = library("aarch64")
    shared = tmp_path / "libedge8.so"
    whole = ["-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive", "-Wl,--gc-sections"]
    subprocess.run([*compiler.command, "-shared", "-s", *whole, "-lpthread", "-o", str(shared)], check=True)
    # RELRO makes the linker begin the data on a page of 64 kB, up to which the file is padded.
    size = loaded_bytes(shared.read_bytes())
    print(f"libedge8.so for aarch64: {size} bytes of code and data, {shared.stat().st_size} with the padding between them")
    assert 200_000 < size < 300_000
