# SPDX-License-Identifier: Apache-2.0
"""Memory of the process."""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["give_back"]


def give_back() -> None:
    """Return freed memory to the system. glibc keeps it for later, which after a large model is several times that model."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
