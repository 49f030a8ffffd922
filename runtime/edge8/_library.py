# SPDX-License-Identifier: Apache-2.0
"""The shared library libedge8, through the cffi module that the build generated from the C headers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import _edge8_cffi  # type: ignore[attr-defined, unused-ignore]

__all__ = ["ffi", "lib"]

ffi: Any = _edge8_cffi.ffi


def _load() -> Any:
    # EDGE8_LIBRARY names another build of the library, such as one with sanitizers.
    override = os.environ.get("EDGE8_LIBRARY")
    if override:
        return ffi.dlopen(override)
    for folder in (Path(_edge8_cffi.__file__).parent, Path(__file__).parent):
        path = folder / "libedge8.so"
        if path.exists():
            return ffi.dlopen(str(path))
    raise ImportError("libedge8.so is not beside the package edge8: install it again with pip")


lib: Any = _load()
