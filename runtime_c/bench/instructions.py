# SPDX-License-Identifier: Apache-2.0
"""Instructions per inference on an emulated AArch64 processor. peers.py compares with other runtimes.

    python runtime_c/bench/instructions.py --cpu cortex-a76 net.e8 other.e8

edge8-run runs under qemu-aarch64 (Debian: qemu-user) with a plugin that counts instructions, once with 1 run and once with 3; half of
the difference is one inference, whatever the program does beside it. The number is repeatable to a few instructions. It is not a time:
cores differ in what an instruction costs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def build_plugin(folder: Path) -> Path:
    """Compile count_instructions.c."""
    made = folder / "count_instructions.so"
    source = Path(__file__).resolve().parent / "count_instructions.c"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(source), "-o", str(made)], check=True)
    return made


def build_runner(folder: Path) -> Path:
    """A static edge8-run for aarch64, with Debian's cross compiler."""
    from edge8.converter.cross import build_library, choose_compiler, link_program
    from edge8.converter.devices import load_toolchain

    compiler = choose_compiler(load_toolchain("aarch64"), "gcc")
    return link_program(compiler, build_library(compiler, folder), folder / "edge8-run")


def count(plugin: Path, cpu: str, command: list[str], root: Path | None = None, site: Path | None = None) -> int:
    """Instructions of a whole program. ``root`` is the folder of an aarch64 system for a program that is not static, ``site`` its
    PYTHONPATH."""
    emulator = ["qemu-aarch64", "-cpu", cpu, "-plugin", str(plugin), "-d", "plugin"]
    environment = dict(os.environ)
    if root:
        libraries = f"{root}/usr/lib/aarch64-linux-gnu"
        emulator += [
            "-L",
            str(root),
            "-E",
            f"LD_LIBRARY_PATH={libraries}/blas:{libraries}/lapack",
            "-E",
            f"PYTHONPATH={site or ''}",
            "-E",
            "PYTHONHASHSEED=0",
        ]
        environment.pop("PYTHONPATH", None)
    result = subprocess.run([*emulator, *command], capture_output=True, text=True, check=False, env=environment)
    found = re.search(r"instructions (\d+)", result.stderr + result.stdout)
    if result.returncode != 0 or not found:
        raise RuntimeError(f"{' '.join(command)} ended with {result.returncode}: {(result.stderr or result.stdout)[-500:]}")
    return int(found.group(1))


def per_inference(plugin: Path, cpu: str, command: list[str], root: Path | None = None, site: Path | None = None, more: int = 2) -> float:
    """Instructions of one inference: those of 1 + ``more`` without those of 1, over ``more``. ``{runs}`` in the command is the number."""
    few, many = (count(plugin, cpu, [part.replace("{runs}", str(runs)) for part in command], root, site) for runs in (1, 1 + more))
    return (many - few) / more


def main() -> int:
    """Print a line per model."""
    parser = argparse.ArgumentParser(description="Count instructions per inference.")
    parser.add_argument("models", nargs="+", help=".e8 files")
    parser.add_argument("--cpu", default="cortex-a53")
    arguments = parser.parse_args()
    if shutil.which("qemu-aarch64") is None:
        print("instructions: qemu-aarch64 is absent (Debian: qemu-user)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        plugin, runner = build_plugin(folder), build_runner(folder)
        for model in arguments.models:
            print(f"{per_inference(plugin, arguments.cpu, [str(runner), model, '--bench', '{runs}']):16,.0f}  {model}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
