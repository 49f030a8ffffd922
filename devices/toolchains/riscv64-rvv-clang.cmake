# SPDX-License-Identifier: Apache-2.0
# 64-bit RISC-V boards with the vector extension 1.0: clang 19 turns the portable loops into vector code. The program needs such a CPU.
#   Debian: clang-19 lld-19 gcc-riscv64-linux-gnu libc6-dev-riscv64-cross
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(CMAKE_C_COMPILER clang-19)
set(CMAKE_C_COMPILER_TARGET riscv64-linux-gnu)
set(CMAKE_C_FLAGS_INIT "-march=rv64gcv -O3")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-fuse-ld=lld-19")
set(CMAKE_SHARED_LINKER_FLAGS_INIT "-fuse-ld=lld-19")
