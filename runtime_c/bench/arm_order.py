# SPDX-License-Identifier: Apache-2.0
"""Search an order of a loop's instructions that takes fewest cycles in llvm-mca.

    python runtime_c/bench/arm_order.py arm_neon_gemm.c cortex-a53 --seconds 300

Takes the hottest loop of a kernel file (see arm_throughput.py) and moves instructions at random where no dependence forbids it, keeping
what does not cost more, and at first also some of what does (simulated annealing). Prints the best order; putting it into the source is
done by hand.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from arm_throughput import analyse, compile_file, loops, macs_of

TWO_TARGETS = ("ldp", "ld2r")
READS_TARGET = ("smlal", "smlal2", "sadalp", "sdot", "smmla", "fmla")


def accesses(line: str) -> tuple[set[str], set[str]]:
    """Registers that an instruction reads and writes; the flags are called f."""
    name, rest = line.split(maxsplit=1)
    registers = [("v" if r[0] in "qvds" else "x") + r[1:] for r in re.findall(r"\b([xqvds]\d+)\b", rest)]
    if name.startswith("b"):
        return {"f"}, set()
    if name == "cmp":
        return set(registers), {"f"}
    targets = 2 if name in TWO_TARGETS else 1
    reads = set(registers if name in READS_TARGET else registers[targets:])
    writes = set(registers[:targets])
    if "[" in line and (line.endswith("!") or "], #" in line):
        writes.add(registers[targets])  # the address is moved on
    if name == "subs":
        writes.add("f")
    if name == "csel":
        reads.add("f")
    return reads, writes


def search(body: list[str], end: str, core: str, seconds: float, seed: int) -> tuple[float, list[str]]:
    """The best order found and its cycles."""
    random.seed(seed)
    known = [accesses(line) for line in body]
    count = len(body)

    def depends(i: int, j: int) -> bool:
        (r1, w1), (r2, w2) = known[i], known[j]
        return bool(w1 & r2 or r1 & w2 or w1 & w2)

    before = [[i < j and depends(i, j) for j in range(count)] for i in range(count)]

    def cost(order: list[int]) -> float:
        return analyse([body[i] for i in order] + [end], core, "llvm-mca-19")[0]

    order = list(range(count))
    current = cost(order)
    best = (current, order)
    warmth, stop = 1.5, time.monotonic() + seconds
    while time.monotonic() < stop:
        tried = list(order)
        moved = tried.pop(random.randrange(count))
        low = max((k + 1 for k, other in enumerate(tried) if before[other][moved]), default=0)
        high = min((k for k, other in enumerate(tried) if before[moved][other]), default=len(tried))
        tried.insert(random.randint(low, high), moved)
        new = cost(tried)
        if new <= current or random.random() < math.exp((current - new) / warmth):
            order, current = tried, new
        if current < best[0]:
            best = (current, order)
        warmth = max(0.05, warmth * 0.997)
    return best[0], [body[i] for i in best[1]] + [end]


def main() -> int:
    """Print the best order found."""
    parser = argparse.ArgumentParser(description="Search an order of a loop's instructions.")
    parser.add_argument("file", help="a file of runtime_c/src/kernels")
    parser.add_argument("core", help="a core that llvm-mca knows")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        body = max(loops(compile_file("aarch64-linux-gnu-gcc", arguments.file, Path(folder))), key=macs_of)
    start = analyse(body, arguments.core, "llvm-mca-19")[0]
    best, lines = search(body[:-1], body[-1], arguments.core, arguments.seconds, arguments.seed)
    print("\n".join(lines))
    print(f"{macs_of(body)} multiply-accumulates: {start:.1f} cycles before, {best:.1f} after", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
