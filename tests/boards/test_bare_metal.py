# SPDX-License-Identifier: Apache-2.0
"""Microcontrollers: the golden files under qemu-system-arm, the symbols that the library wants, stack and code size."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge8 import Model
from edge8.converter.bare_metal import link_firmware, run_firmware, write_link_script
from edge8.converter.cross import Compiler
from edge8.converter.devices import load_device
from edge8.converter.templates import fill
from tests.boards.emulated import ROOT, bare_library, need

DEVICES = ["cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"]
GOLDEN = sorted((ROOT / "tests" / "golden" / "v1").glob("*.e8"))

# What the compiler's own library brings: 64-bit division, double precision, conversions.
HELPERS = re.compile(r"__aeabi_\w+|__\w+[sd]i\d|__gnu_\w+|__\w+[sd]f\w*")
LIBC = {"memcpy", "memmove", "memset", "memcmp"}
STACK_BYTES = 4096


def _array(name: str, data: bytes) -> str:
    return f"alignas(64) static const uint8_t {name}[] = {{{','.join(map(str, data))}}};\n"


HEADER = """
#include <stddef.h>
#include <stdint.h>
struct suite_case {
    const char *name;
    const uint8_t *model;
    size_t model_bytes;
    const uint8_t *expected;
    size_t expected_bytes;
};
extern const struct suite_case suite_cases[];
extern const uint8_t suite_input[];
"""


def _write_suite(folder: Path, files: list[Path]) -> None:
    """suite_data.h and .c: golden files, their common input, the expected outputs."""
    with np.load(files[0].parent / "expected.npz") as archive:
        x = archive["x"].tobytes()
        expected = {path.stem: archive[path.stem].tobytes() for path in files}
    source = ["#include <stdalign.h>\n", '#include "suite_data.h"\n', f"const uint8_t suite_input[] = {{{','.join(map(str, x))}}};\n"]
    rows = []
    for i, path in enumerate(files):
        source += [_array(f"model{i}", path.read_bytes()), _array(f"expected{i}", expected[path.stem])]
        rows.append(f'{{"{path.stem}", model{i}, sizeof model{i}, expected{i}, sizeof expected{i}}},\n')
    arena = max(Model(path).arena_bytes(1) for path in files)
    sizes = f"enum {{ SUITE_CASES = {len(files)}, SUITE_ARENA = {arena}, SUITE_INPUT_BYTES = {len(x)} }};\n"
    (folder / "suite_data.h").write_text(HEADER + sizes)
    (folder / "suite_data.c").write_text("".join([*source, "const struct suite_case suite_cases[] = {\n", *rows, "};\n"]))


def run_suite(device: str, compiler: Compiler, library: Path, files: list[Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Golden files under qemu-system-arm, linked with a library; the exit code counts failures."""
    need("qemu-system-arm", "qemu-system-arm")
    machine = load_device(device).clusters[0].core.emulated_as
    _write_suite(folder, files)
    for name in ("start.c", "start.h"):
        (folder / name).write_text(fill(f"bare/{name}", {}))
    shutil.copyfile(ROOT / "tests" / "boards" / "bare_suite.c", folder / "bare_suite.c")
    sources = [folder / name for name in ("bare_suite.c", "start.c", "suite_data.c")]
    program = link_firmware(compiler, sources, library, write_link_script(folder, machine), folder / "suite.elf")
    return run_firmware(machine, program)


@pytest.mark.parametrize("device", DEVICES)
def test_golden_files_give_the_same_bytes(device: str, tmp_path: Path) -> None:
    compiler, library = bare_library(device)
    result = run_suite(device, compiler, library, GOLDEN, tmp_path)
    assert result.returncode == 0, result.stdout
    used = int(re.search(r"stack (\d+) bytes", result.stdout).group(1))  # type: ignore[union-attr]
    assert 256 < used <= STACK_BYTES


@pytest.mark.parametrize("device", DEVICES)
def test_library_calls_nothing_but_mem(device: str) -> None:
    compiler, library = bare_library(device)
    text = subprocess.run([compiler.command[0].replace("gcc", "nm"), str(library)], capture_output=True, text=True, check=True).stdout
    wanted = set(re.findall(r" U (\w+)", text))
    defined = set(re.findall(r" [TtDdRrBbCV] (\w+)", text))
    assert {name for name in wanted - defined - LIBC if not HELPERS.fullmatch(name)} == set()
