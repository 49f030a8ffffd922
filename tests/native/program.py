# SPDX-License-Identifier: Apache-2.0
"""Building the program of check*.c: by tests/native for this machine, by tests/boards for emulated ones.

To run it by hand, with ``--bench`` for rates beside limits: ``python tests/native/program.py [--bench] [--level avx2] [...]``
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge8.converter.cross import build_library, choose_compiler
from edge8.converter.devices import load_toolchain
from edge8.converter.sources import sources_folder

__all__ = ["FOLDER", "SANITIZERS", "build", "build_avx512", "kernel_sources", "link"]

FOLDER = Path(__file__).resolve().parent
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def kernel_sources() -> list[str]:
    """The files of the library that kernels need."""
    source = sources_folder() / "src"
    return [*map(str, sorted((source / "kernels").glob("*.c"))), *(str(source / name) for name in ("cpu.c", "math.c", "unary_map.c"))]


def link(command: Sequence[str], rest: Sequence[str], made: Path) -> Path:
    """Compile the checks and link them with ``rest``: a library, or sources, and options."""
    source = sources_folder()
    options = ["-std=c11", "-ffp-contract=off", "-fno-math-errno", f"-I{FOLDER}", f"-I{source / 'src'}", f"-I{source / 'include'}"]
    files = sorted(map(str, FOLDER.glob("check*.c")))
    subprocess.run([*command, *options, *files, *rest, "-lpthread", "-o", str(made)], check=True)
    return made


def build(toolchain: str, folder: Path) -> Path:
    """The program with the library as it is released."""
    compiler = choose_compiler(load_toolchain(toolchain), "gcc")
    return link([*compiler.command, *compiler.flags, "-O1"], [str(build_library(compiler, folder)), "-static"], folder / "check_kernels")


def build_avx512(folder: Path, optimisation: str = "-O0") -> Path | None:
    """The program for any x86-64 machine, its AVX-512 kernels made of SIMDe's functions; None where SIMDe is absent."""
    probe = subprocess.run(["gcc", "-fsyntax-only", "-include", "simde/x86/avx512.h", "-xc", os.devnull], capture_output=True, check=False)
    if probe.returncode:
        return None
    return link(["gcc", optimisation, "-Wno-psabi", "-DE8_EMULATE_AVX512"], kernel_sources(), folder / "check_avx512")


def main() -> int:
    """Build for this x86-64 machine in a temporary folder, and run with the arguments given."""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run([str(build("x86_64", Path(folder))), *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
