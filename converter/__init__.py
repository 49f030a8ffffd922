# SPDX-License-Identifier: Apache-2.0
"""edge8.converter: ONNX models to .e8 files and to Ascend 310 folders. Needs `pip install edge8[convert]`."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Report, convert
    from .errors import ConvertError

__all__ = ["ConvertError", "Report", "convert"]

_missing = [name for name in ("onnx", "onnxscript", "onnx_ir", "flatbuffers") if importlib.util.find_spec(name) is None]
if _missing:
    raise ImportError(f"edge8.converter needs {', '.join(_missing)}: pip install edge8[convert]")


def __getattr__(name: str) -> Any:
    """Load `convert` and the like when they are first used: `edge8.converter.errors` alone must not cost an import of onnx."""
    if name in ("convert", "Report"):
        from . import api

        return getattr(api, name)
    if name == "ConvertError":
        from .errors import ConvertError

        return ConvertError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
