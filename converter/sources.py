# SPDX-License-Identifier: Apache-2.0
"""Where the C sources of the runtime are."""

from __future__ import annotations

from pathlib import Path

from .errors import ConvertError

__all__ = ["sources_folder"]


def sources_folder() -> Path:
    """The folder runtime_c, in the repository or in the installed package.

    Raises:
        ConvertError: it is not there.
    """
    folder = Path(__file__).resolve().parent.parent / "runtime_c"
    if not (folder / "src" / "model.c").is_file():
        raise ConvertError("the C sources of the runtime are missing", rule="deploy.sources", where=str(folder), hint="reinstall edge8")
    return folder
