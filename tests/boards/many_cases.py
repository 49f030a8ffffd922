# SPDX-License-Identifier: Apache-2.0
"""Very many random cases of every kernel of every level against the reference, byte for byte, on emulated processors and on this one.

``python -m tests.boards.many_cases`` runs a million cases of each kernel that a level has of its own (about two hours of one core);
``--levels neon`` some of them, ``--cases 1000`` fewer. A portion at a time: what was compared so far stands in the output. The sizes are
small (every tail of every loop is among them); large ones are in tests/native and tests/boards/test_kernels.py.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge8.converter.devices import load_toolchain
from tests.boards.emulated import LEVELS
from tests.native.program import build, build_avx512

__all__ = ["Run", "count_cases", "runs"]

PORTION = 20_000


@dataclass(frozen=True)
class Run:
    """A level and what runs it: a processor of QEMU, or this machine (an empty processor)."""

    toolchain: str
    level: str
    processor: str = ""

    def __str__(self) -> str:
        return f"{self.toolchain} {self.level} ({self.processor or 'this processor'})"

    def command(self, program: Path) -> list[str]:
        """What starts the program."""
        return [load_toolchain(self.toolchain).emulator, "-cpu", self.processor, str(program)] if self.processor else [str(program)]


def runs() -> list[Run]:
    """One processor for each level that has kernels of its own. Levels of x86-64 run on this machine, AVX-512 through SIMDe's functions."""
    found = {(level.toolchain, level.level): Run(level.toolchain, level.level, level.cpu) for level in reversed(LEVELS)}
    boards = [run for run in reversed(found.values()) if run.level != "reference" and run.toolchain != "x86_64"]
    return [Run("x86_64", "avx2"), Run("x86_64", "avx512vnni"), *boards]


def make_program(run: Run, folder: Path) -> Path | None:
    """The checks for a level's machine, built once; None where SIMDe is absent."""
    if run.level == "avx512vnni":
        return build_avx512(folder, "-O1")
    own = folder / run.toolchain
    made = own / "check_kernels"
    if not made.exists():
        own.mkdir(exist_ok=True)
        build(run.toolchain, own)
    return made


def count_cases(run: Run, program: Path, cases: int) -> Iterator[Counter[str]]:
    """Compared cases by kernel so far, after each portion.

    Raises:
        RuntimeError: a byte differs, the level is not there, or the program fails; with its output.
    """
    total: Counter[str] = Counter()
    for seed, done in enumerate(range(0, cases, PORTION)):
        options = ["--level", run.level, "--own", "--small", "--tally", "--seed", str(seed + 1), "--cases", str(min(PORTION, cases - done))]
        result = subprocess.run([*run.command(program), *options], capture_output=True, text=True, check=False)
        found = {name: int(count) for name, count in re.findall(r"^  (\w+) +(\d+)$", result.stdout, re.M)}
        if result.returncode != 0 or not found:
            raise RuntimeError(f"{run}, seed {seed + 1}: {result.stdout[-2000:]}{result.stderr[-2000:]}")
        total.update(found)
        yield total


def main() -> int:
    """Run the levels asked for and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1_000_000, help="of each kernel")
    parser.add_argument("--levels", nargs="+", default=[], metavar="LEVEL", help=f"of {', '.join(sorted({r.level for r in runs()}))}")
    arguments = parser.parse_args()
    chosen = [run for run in runs() if not arguments.levels or run.level in arguments.levels]
    if arguments.cases < 1 or not chosen or set(arguments.levels) - {run.level for run in chosen}:
        parser.error("--cases must be positive and --levels among those that --help lists")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="edge8-cases-") as folder:
        programs = {run: make_program(run, Path(folder)) for run in chosen}
        for run, program in programs.items():
            if program is None:
                print(f"{run}: skipped, SIMDe is absent (Debian: libsimde-dev)", flush=True)
                continue
            try:
                for total in count_cases(run, program, arguments.cases):
                    if sys.stderr.isatty():
                        print(f"\r{run}: {min(total.values()):,} cases", end="\r", file=sys.stderr)
                kernels = ", ".join(f"{name} {count:,}" for name, count in sorted(total.items()))
                print(
                    f"{run}: {len(total)} kernels, no difference in at least {min(total.values()):,} cases of each: {kernels}", flush=True
                )
            except RuntimeError as error:
                failed += 1
                print(f"FAILED {error}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
