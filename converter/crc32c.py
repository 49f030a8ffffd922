# SPDX-License-Identifier: Apache-2.0
"""CRC-32C (Castagnoli), computed by the C runtime so that writer and reader cannot disagree."""

from __future__ import annotations

from edge8._library import ffi, lib

__all__ = ["crc32c"]


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """CRC-32C of ``data`` as RFC 3720 defines it."""
    return int(lib.e8_crc32c(ffi.from_buffer("uint8_t[]", data), len(data)))
