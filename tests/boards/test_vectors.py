# SPDX-License-Identifier: Apache-2.0
"""RISC-V with the vector extension: clang turns the portable loops into vector code of any length, and the bytes stay the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

from edge8.converter.cross import build_with_cmake
from tests.boards.emulated import ROOT, Level, need, rehearsal
from tests.boards.test_levels import check_golden_files

VECTOR_CPUS = ["rv64,v=true,vlen=128,vext_spec=v1.0", "rv64,v=true,vlen=512,vext_spec=v1.0"]


@rehearsal("a build by clang-19")
def test_vector_code_gives_the_same_bytes(tmp_path: Path) -> None:
    need("cmake", "cmake")
    need("clang-19", "clang-19")
    need("ld.lld-19", "lld-19")
    need("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu libc6-dev-riscv64-cross")
    _, programs = build_with_cmake(ROOT / "devices" / "toolchains" / "riscv64-rvv-clang.cmake", tmp_path)
    code = subprocess.run([need("llvm-objdump-19", "llvm-19"), "-d", str(programs[0])], capture_output=True, text=True, check=True).stdout
    assert code.count("vsetvli") + code.count("vsetivli") > 100
    for cpu in VECTOR_CPUS:
        # QEMU 7.2 ends with an assertion of its own (decode_save_opc) at vfncvt.rtz.x.f.w, by which floats become int16 codes.
        check_golden_files(Level("riscv64", cpu, "reference"), tmp_path, programs[0], left_out=r"\.(int16|borders)$")
