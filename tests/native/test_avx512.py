# SPDX-License-Identifier: Apache-2.0
"""AVX-512 kernels: their bytes on any x86-64 machine, through SIMDe's portable functions, and their loops as they were compiled."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge8.converter.sources import sources_folder
from tests.native.program import build_avx512

if platform.machine() != "x86_64":
    pytest.skip("the kernels of another machine", allow_module_level=True)

LEVEL = "avx512vnni"
CASES = int(os.environ.get("EDGE8_KERNEL_CASES", "150"))
KERNELS = sources_folder() / "src" / "kernels"


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """check_kernels with the AVX-512 kernels made of SIMDe's functions."""
    program = build_avx512(tmp_path_factory.mktemp("emulated"))
    if program is None:
        pytest.skip("SIMDe is absent (Debian: libsimde-dev)")
    return program


@pytest.mark.parametrize("family", ["gemm", "rows"])
def test_emulated_kernels_equal_the_reference(emulated: Path, family: str) -> None:
    command = [str(emulated), "--level", LEVEL, "--family", family, "--cases", str(CASES)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    done = re.search(rf"^{LEVEL} +{family} +(\d+) comparisons, 0 failures$", result.stdout, re.M)
    assert done, result.stdout
    assert int(done[1]) >= CASES


def _loops(code: str) -> Iterator[tuple[str, list[str]]]:
    """Function and instructions of every innermost loop in a disassembly."""
    for part in re.split(r"\n(?=[0-9a-f]+ <)", code):
        head = re.match(r"[0-9a-f]+ <([\w.]+)>", part)
        if head is None:
            continue
        lines = [(int(address, 16), text) for address, text in re.findall(r"^ +([0-9a-f]+):\t(.*)$", part, re.M)]
        at = {address: i for i, (address, _) in enumerate(lines)}
        for i, (address, text) in enumerate(lines):
            jump = re.match(r"j\w+ +([0-9a-f]+)", text)
            if jump is None or not int(jump[1], 16) < address or int(jump[1], 16) not in at:
                continue
            body = [text for _, text in lines[at[int(jump[1], 16)] : i + 1]]
            if not any(re.match(r"j\w+ ", text) for text in body[:-1]):
                yield head[1], body


def _compiled(source: Path, made: Path) -> str:
    if shutil.which("gcc") is None or shutil.which("objdump") is None:
        pytest.skip("gcc or objdump is absent (Debian: gcc binutils)")
    flags = ["-O2", "-std=c11", "-fPIC", "-ffp-contract=off", f"-I{KERNELS.parents[1] / 'include'}", f"-I{KERNELS.parent}"]
    subprocess.run(["gcc", *flags, "-c", str(source), "-o", str(made)], check=True)
    return subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(made)], capture_output=True, text=True, check=True).stdout


def test_inner_loops_keep_their_sums_in_registers(tmp_path: Path) -> None:
    """Every tile's loop: one vpdpbusd for each sum, one load for each row and vector, nothing on the stack."""
    code = _compiled(KERNELS / "x86_avx512vnni_gemm.c", tmp_path / "gemm.o")
    found = {}
    for function, body in _loops(code):
        products = sum("vpdpbusd" in text for text in body)
        if products:
            found[function] = products
            assert not [text for text in body if "%rsp" in text or "%rbp)" in text], function
            rows, vectors = map(int, re.findall(r"\d+", function)[:2])
            assert products == rows * vectors
            assert sum("(" in text for text in body if "zmm" in text) == rows + vectors, function
    assert {"tile_6x4", "tile_4x4", "tile_8x2", "tile_8x1"} <= set(found)


def test_a_spill_is_found(tmp_path: Path) -> None:
    """The same look at a loop with more sums than there are registers."""
    source = tmp_path / "spill.c"
    source.write_text(
        "typedef int sums __attribute__((vector_size(64)));\n"
        '__attribute__((target("avx512f,avx512vnni"))) void tile(sums *a, const sums *x, long n)\n'
        "{\n    sums s[40];\n    for (int i = 0; i < 40; i++) s[i] = a[i];\n"
        "    for (; n; n--, x += 2)\n"
        "#pragma GCC unroll 40\n"
        '        for (int i = 0; i < 40; i++) __asm__("vpdpbusd %2, %1, %0" : "+v"(s[i]) : "v"(x[0]), "v"(x[1]));\n'
        "    for (int i = 0; i < 40; i++) a[i] = s[i];\n}\n"
    )
    loops = [body for _, body in _loops(_compiled(source, tmp_path / "spill.o")) if any("vpdpbusd" in text for text in body)]
    assert any("%rsp" in text or "%rbp)" in text for body in loops for text in body)
