# SPDX-License-Identifier: Apache-2.0
"""A build of the library with sanitizers and without the checksum."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def mutate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of mutate.c, under AddressSanitizer and UndefinedBehaviorSanitizer."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no gcc or clang to build the library with sanitizers")
    program = tmp_path_factory.mktemp("robust") / "mutate"
    library = [p for folder in ("", "ops", "kernels", "quant") for p in sorted((ROOT / "runtime_c" / "src" / folder).glob("*.c"))]
    command = [compiler, "-std=gnu11", "-O1", "-g", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    command += ["-DE8_FUZZ_WITHOUT_CRC", '-DE8_VERSION="test"', f"-I{ROOT}/runtime_c/include", f"-I{ROOT}/runtime_c/src"]
    sources = [ROOT / "tests" / "robust" / "mutate.c", ROOT / "tests" / "robust" / "fuzz_model.c", *library]
    subprocess.run([*command, *map(str, sources), "-lpthread", "-lm", "-o", str(program)], check=True)
    return program
