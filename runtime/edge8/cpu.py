# SPDX-License-Identifier: Apache-2.0
"""Instruction sets of this CPU and of the sessions opened from now on."""

from __future__ import annotations

from ._library import ffi, lib

__all__ = ["FEATURES", "features", "level", "restrict"]

# Bits of e8_cpu_features (edge8.h).
FEATURES = {
    "sse41": 1,
    "avx2": 2,
    "avx512": 4,
    "avx512vnni": 8,
    "neon": 256,
    "dotprod": 512,
    "i8mm": 1024,
    "wide": 4096,
}


def features() -> list[str]:
    """Names of the instruction sets that this CPU has."""
    bits = lib.e8_cpu_features()
    return [name for name, bit in FEATURES.items() if bits & bit]


def level() -> str:
    """Name of the kernel level that a session opened now would use."""
    return str(ffi.string(lib.e8_cpu_level()).decode())


def restrict(names: list[str] | None) -> None:
    """Let sessions opened from now on use only these instruction sets; None lifts the restriction. Results do not change.

    Raises:
        ValueError: a name is unknown.
    """
    if names is None:
        lib.e8_cpu_restrict(0xFFFFFFFF)
        return
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        raise ValueError(f"unknown instruction set {unknown[0]!r}; known: {', '.join(FEATURES)}")
    lib.e8_cpu_restrict(sum(FEATURES[name] for name in names))
