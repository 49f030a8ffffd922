# SPDX-License-Identifier: Apache-2.0
"""The library's thread pool, which serves the sessions' parallel-for."""

from __future__ import annotations

from typing import Any

from ._library import ffi, lib
from .errors import Edge8Error

__all__ = ["Pool"]


class Pool:
    """So many threads (the caller's included) that wait for work.

    Attributes:
        parallel, context: what e8_session_parallel takes.
    """

    def __init__(self, threads: int) -> None:
        """Start ``threads - 1`` threads.

        Raises:
            Edge8Error: the system gives no more threads.
        """
        self.context: Any = lib.e8_pool_create(threads)
        if self.context == ffi.NULL:
            raise Edge8Error(f"cannot start {threads - 1} threads")
        self.parallel: Any = ffi.addressof(lib, "e8_pool_run")

    def __del__(self) -> None:
        """Stop the threads."""
        context, self.context = getattr(self, "context", None), None
        if context:
            lib.e8_pool_destroy(context)
