# SPDX-License-Identifier: Apache-2.0
"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from .errors import ConvertError

__all__ = ["write_file"]


def write_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``: beside it first, flushed to the disk, then renamed. An existing file stays until then.

    Raises:
        ConvertError: the folder is missing or not writable, or the disk is full. Nothing is left behind.
    """
    folder = path.parent
    if not folder.is_dir():
        raise ConvertError("the folder does not exist", rule="output.folder", where=str(folder), hint="create it first")
    partial = None
    try:
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
        partial = None
    except OSError as error:
        raise ConvertError(f"cannot write ({error.strerror or error})", rule="output.write", where=str(path)) from error
    finally:
        if partial is not None:
            with contextlib.suppress(OSError):
                os.unlink(partial)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
