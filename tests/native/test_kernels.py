# SPDX-License-Identifier: Apache-2.0
"""Every kernel of every level of this machine equals the reference, byte for byte; with gcc as released, with clang under sanitizers.

EDGE8_KERNEL_CASES sets the cases per kernel. Emulated processors, older x86 among them, are in tests/boards/test_kernels.py.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge8.converter.sources import sources_folder
from tests.native.program import FOLDER, SANITIZERS, build, kernel_sources, link

CASES = int(os.environ.get("EDGE8_KERNEL_CASES", "300"))
MACHINE = platform.machine()
X86 = ["reference", "sse41", "avx2", "avxvnni", "avx512bw", "avx512vnni"]
LEVELS = {"x86_64": X86, "aarch64": ["reference", "neon", "dotprod", "dotprod-wide", "i8mm"]}.get(MACHINE, ["reference"])
FAMILIES = re.findall(r"&family_(\w+)", (FOLDER / "check.c").read_text())


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """check_kernels by gcc, with the flags of the library."""
    if shutil.which(f"{MACHINE}-linux-gnu-gcc") is None:
        pytest.skip(f"{MACHINE}-linux-gnu-gcc is absent (Debian: gcc)")
    return build(MACHINE, tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """check_kernels by clang under AddressSanitizer and UndefinedBehaviorSanitizer, unoptimised: every read of the source is made."""
    if shutil.which("clang") is None:
        pytest.skip("clang is absent (Debian: clang libclang-rt-14-dev)")
    return link(["clang", "-O0", *SANITIZERS], kernel_sources(), tmp_path_factory.mktemp("sanitized") / "check_kernels")


def run(program: Path, level: str, cases: int) -> None:
    result = subprocess.run([program, "--level", level, "--cases", str(cases)], capture_output=True, text=True, timeout=500, check=False)
    if f"\n{level} " not in "\n" + re.sub(r" +skipped: .*", "", result.stdout):
        pytest.skip(f"{level}: {result.stdout.partition('skipped: ')[2].strip() or 'this build does not have it'}")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    compared = {family: int(count) for family, count in re.findall(r"^\S+ +(\w+) +(\d+) comparisons, 0 failures$", result.stdout, re.M)}
    assert sorted(compared) == sorted(FAMILIES)
    assert min(compared.values()) >= cases


@pytest.mark.parametrize("level", LEVELS)
def test_kernels_equal_the_reference(released: Path, level: str) -> None:
    run(released, level, CASES)


@pytest.mark.parametrize("level", LEVELS)
def test_kernels_keep_their_bounds(sanitized: Path, level: str) -> None:
    run(sanitized, level, max(1, CASES // 6))


def test_rates_are_printed(released: Path) -> None:
    result = subprocess.run([released, "--bench", "--family", "elementwise"], capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr
    assert re.search(r"add_s8 +[\d.]+ bytes/cycle +\d+ % of [\d.]+", result.stdout)


def test_every_kernel_is_checked() -> None:
    header = (sources_folder() / "src" / "kernels" / "kernel.h").read_text()
    table = header.partition("struct e8_kernels {")[2].partition("\n};")[0]
    kernels = re.findall(r"\(\*(\w+)\)\(", table)
    checked = set(re.findall(r'expect_same\w*\(\s*c, "(\w+)"', "".join(p.read_text() for p in FOLDER.glob("check*.c"))))
    assert len(kernels) > 25
    assert set(kernels) - checked == set()


def test_a_wrong_byte_is_found(tmp_path: Path, released: Path) -> None:
    """The harness itself: a level whose addition is off by one in the last element fails."""
    wrong = tmp_path / "wrong.c"
    wrong.write_text(
        '#include "kernels/kernel.h"\n'
        "void __real_e8_init_reference_elementwise(struct e8_kernels *k);\n"
        "void __wrap_e8_init_reference_elementwise(struct e8_kernels *k);\n"
        "static void (*right)(const int8_t *, const int8_t *, int8_t *, size_t, const struct e8_mul_s8 *);\n"
        "static int tables;\n"
        "static void off_by_one(const int8_t *a, const int8_t *b, int8_t *y, size_t count, const struct e8_mul_s8 *p)\n"
        "{\n    right(a, b, y, count, p);\n    y[count - 1] ^= 1;\n}\n"
        "void __wrap_e8_init_reference_elementwise(struct e8_kernels *k)\n"
        "{\n    __real_e8_init_reference_elementwise(k);\n    right = k->mul_s8;\n    if (tables++ == 0) k->mul_s8 = off_by_one;\n}\n"
    )
    archive = released.parent / "libedge8.a"
    wrap = "-Wl,--wrap=e8_init_reference_elementwise"
    program = link([f"{MACHINE}-linux-gnu-gcc", "-O1"], [str(wrong), str(archive), wrap], tmp_path / "check_kernels")
    result = subprocess.run([program, "--cases", "5", "--family", "elementwise"], capture_output=True, text=True, check=False)
    if "elementwise" not in result.stdout.partition("reference ")[2].partition("\n")[2]:
        pytest.skip("only the reference runs here, which is compared with itself")
    assert result.returncode == 1
    assert re.search(r"^FAIL \w+/mul_s8: byte \d+", result.stdout, re.M)
    assert "/add_s8" not in result.stdout
