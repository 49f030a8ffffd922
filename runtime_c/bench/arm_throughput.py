# SPDX-License-Identifier: Apache-2.0
"""How near the inner loops of the ARM kernels come to the limit of their instructions, by static analysis.

    python runtime_c/bench/arm_throughput.py

Each kernel file is compiled with Debian's cross compiler. Of its innermost loops the one with most multiply-accumulates is analysed
with llvm-mca, which knows the pipelines of some cores. It assumes that all data lies in the L1 cache and that every branch is
predicted; it is not a measurement. The pipelines of the Cortex-A76 are those of the Neoverse N1. The limit is the number of
multiply-accumulates that the core could do a cycle if it did nothing but the instructions that compute them and never waited for a
result: their count over the capacity of the units that they need, from the same model of the core (``Block RThroughput``).
(For in-order cores llvm-mca lets a load wait for earlier, longer instructions, which the cores do not: the float
figure for the Cortex-A53 is too low for that reason.)
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"
FLAGS = [
    "-std=c11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-DNDEBUG",
    "-D_GNU_SOURCE",
    f"-I{SOURCE}",
    f"-I{SOURCE.parent / 'include'}",
]

# Multiply-accumulates of one instruction (Q form).
MACS = {"sdot": 16, "smmla": 32, "fmla": 4, "smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8}

# The arithmetic of each kernel, without loads and stores.
SDOT = [f"sdot v{r}.4s, v{24 + r % 4}.16b, v28.4b[{r % 4}]" for r in range(16)]
SMMLA = [f"smmla v{r}.4s, v{24 + r % 4}.16b, v28.16b" for r in range(16)]
FMLA = [f"fmla v{r}.4s, v{24 + r % 4}.4s, v28.s[{r % 4}]" for r in range(16)]
NEON = [
    *(f"smull v{16 + r}.8h, v24.8b, v{26 + r % 4}.8b" for r in range(8)),
    *(f"smlal v{16 + r}.8h, v25.8b, v{26 + r % 4}.8b" for r in range(8)),
    *(f"sadalp v{r}.4s, v{16 + r}.8h" for r in range(8)),
]
DEPTHWISE = [
    *(f"smull v{16 + r}.8h, v24.8b, v{26 + r % 4}.8b" for r in range(8)),
    *(f"smlal v{16 + r}.8h, v25.8b, v{26 + r % 4}.8b" for r in range(8)),
    *(f"saddw v{2 * r}.4s, v{2 * r}.4s, v{16 + r}.4h" for r in range(8)),
    *(f"saddw2 v{2 * r + 1}.4s, v{2 * r + 1}.4s, v{16 + r}.8h" for r in range(8)),
]


@dataclass(frozen=True)
class Case:
    """A kernel on a core: the file, its arithmetic (None: all instructions of its loop count, loads and epilogue too), the share of the
    limit that is wanted, and the share of the lanes that compute what is asked for."""

    kernel: str
    file: str
    arithmetic: list[str] | None
    core: str
    wanted: float
    useful: float = 1.0


CASES = [
    Case("int8 GEMM dot product", "arm_dotprod.c", SDOT, "cortex-a55", 0.80),
    Case("int8 GEMM dot product", "arm_dotprod_wide.c", SDOT, "neoverse-n1", 0.80),
    Case("int8 GEMM NEON", "arm_neon_gemm.c", NEON, "cortex-a53", 0.70),
    Case("int8 GEMM NEON", "arm_neon_gemm.c", NEON, "cortex-a72", 0.70),
    Case("int8 GEMM i8mm", "arm_i8mm.c", SMMLA, "cortex-a510", 0.0),
    Case("int8 GEMM i8mm", "arm_i8mm.c", SMMLA, "neoverse-v1", 0.0),
    Case("int8 depthwise", "arm_neon_depthwise.c", DEPTHWISE, "cortex-a53", 0.60),
    Case("int8 depthwise", "arm_neon_depthwise.c", DEPTHWISE, "cortex-a55", 0.60),
    Case("int8 depthwise", "arm_neon_depthwise.c", DEPTHWISE, "cortex-a72", 0.60),
    Case("int8 depthwise", "arm_neon_depthwise.c", DEPTHWISE, "neoverse-n1", 0.60),
    # From pixels to codes in one loop. Of four lanes of an SDOT three hold the rows of the kernel.
    Case("int8 depthwise 3x3 rows", "arm_dotprod_depthwise.c", None, "cortex-a55", 0.0, 0.75),
    Case("int8 depthwise 3x3 rows", "arm_dotprod_depthwise.c", None, "neoverse-n1", 0.60, 0.75),
    Case("float GEMM", "arm_neon_float.c", FMLA, "cortex-a53", 0.0),
    Case("float GEMM", "arm_neon_float.c", FMLA, "cortex-a55", 0.70),
    Case("float GEMM", "arm_neon_float.c", FMLA, "cortex-a72", 0.70),
    Case("float GEMM", "arm_neon_float.c", FMLA, "neoverse-n1", 0.70),
]


def macs_of(lines: list[str]) -> int:
    """Multiply-accumulates of a piece of assembly. FMLA with scalar operands counts one."""
    total = 0
    for line in lines:
        name = line.split()[0]
        total += (1 if re.match(r"fmla\s+s\d", line) else MACS[name]) if name in MACS else 0
    return total


def analyse(lines: list[str], core: str, tool: str) -> tuple[float, float]:
    """Cycles of one iteration of a loop body: simulated, and the least that the core's units allow."""
    attributes = "+dotprod,+i8mm"
    command = [
        tool,
        "--mtriple=aarch64-linux-gnu",
        f"--mcpu={core}",
        f"--mattr={attributes}",
        "--iterations=200",
        "--instruction-info=0",
        "-resource-pressure=0",
    ]
    result = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    found = re.search(r"Total Cycles:\s+(\d+)", result.stdout)
    least = re.search(r"Block RThroughput:\s+([\d.]+)", result.stdout)
    if result.returncode != 0 or not found or not least:
        raise RuntimeError(f"{tool} failed on {core}: {result.stderr.strip()[:400]}")
    return int(found.group(1)) / 200, float(least.group(1))


def loops(assembly: str) -> list[list[str]]:
    """The innermost loops of a file: from a label to a branch back to it with no other label between. Labels of inline assembly are
    numbers, and a branch back to 2 is written 2b."""
    result: list[list[str]] = []
    label, current = "", []
    for line in assembly.splitlines():
        text = line.strip()
        found = re.match(r"(\.L\w+|\d+):", text)
        if found:
            label, current = found.group(1), []
            continue
        if not text or text.startswith((".", "#", "//")) or text.endswith(":"):
            continue
        current.append(text)
        branch = re.match(r"(?:b\.?[a-z]{2}|cbn?z\s+\w+,|tbn?z\s+\w+, \S+,)\s+(\S+)$", text)
        if branch and branch.group(1) in (label, label + "b"):
            # llvm-mca knows no numbered labels.
            result.append([*current[:-1], text.replace(branch.group(1), ".Lhere")])
    return result


def compile_file(compiler: str, name: str, folder: Path) -> str:
    """Assembly of a kernel file."""
    out = folder / (name + ".s")
    subprocess.run([compiler, *FLAGS, "-S", str(SOURCE / "kernels" / name), "-o", str(out)], check=True)
    return out.read_text()


def main() -> int:
    """Print the table; 1 when a kernel misses what is wanted."""
    tool = next((t for t in ("llvm-mca-19", "llvm-mca-20", "llvm-mca-21") if shutil.which(t)), None)
    compiler = "aarch64-linux-gnu-gcc"
    if tool is None or shutil.which(compiler) is None:
        print(f"arm_throughput: needs llvm-mca (Debian: llvm-19) and {compiler} (Debian: gcc-aarch64-linux-gnu)", file=sys.stderr)
        return 2
    missed = 0
    print(f"{'kernel':24} {'core':12} {'MACs/cycle':>10} {'limit':>7} {'share':>6} {'wanted':>7}")
    with tempfile.TemporaryDirectory() as folder:
        texts = {name: compile_file(compiler, name, Path(folder)) for name in {case.file for case in CASES}}
        for case in CASES:
            body = max(loops(texts[case.file]), key=macs_of)
            arithmetic = case.arithmetic or body
            reached = case.useful * macs_of(body) / analyse(body, case.core, tool)[0]
            limit = case.useful * macs_of(arithmetic) / analyse(arithmetic, case.core, tool)[1]
            missed += reached / limit < case.wanted
            print(f"{case.kernel:24} {case.core:12} {reached:10.2f} {limit:7.2f} {reached / limit:6.0%} {case.wanted:7.0%}")
    print(f"\n{tool}, loops of {compiler} -O3; {missed} below what is wanted")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
