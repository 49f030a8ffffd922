# SPDX-License-Identifier: Apache-2.0
"""Memory of the process: a large model's weights lie in temporary files that are mapped, and what is freed goes back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import tempfile
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import ConvertError
from .graph import Tensor

__all__ = ["give_back", "map_file", "no_room", "put_aside"]

_SMALL = 1 << 16
"""Constants of fewer bytes stay where they are."""

_MAPPED: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def give_back() -> None:
    """Return to the system what is freed (glibc keeps it for later, which after a large model is several times that model), and the
    pages of mapped files, which come back when they are read."""
    for mapped in list(_MAPPED):
        if not mapped.closed:
            mapped.madvise(mmap.MADV_DONTNEED)
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def map_file(mapped: mmap.mmap | None) -> None:
    """Let `give_back` drop the pages of a file that is mapped for reading."""
    if mapped is not None:
        _MAPPED.add(mapped)


def put_aside(tensors: Iterable[Tensor]) -> None:
    """Move large constants into a temporary file, mapped for reading.

    Raises:
        ConvertError: there is no room for it.
    """
    large = [t for t in tensors if t.data is not None and t.data.nbytes >= _SMALL and not _is_aside(t.data)]
    unique = {id(t.data): t.data for t in large if t.data is not None}
    if not unique:
        return
    places: dict[int, int] = {}
    try:
        with tempfile.TemporaryFile(prefix="edge8-weights-") as file:
            for key, array in unique.items():
                places[key] = file.tell()
                file.write(np.ascontiguousarray(array).data.cast("B"))
                file.write(bytes(-file.tell() % 64))
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise no_room(error) from error
    map_file(mapped)
    moved = {
        key: np.frombuffer(mapped, unique[key].dtype, unique[key].size, place).reshape(unique[key].shape) for key, place in places.items()
    }
    for tensor in large:
        tensor.data = moved[id(tensor.data)]
    unique.clear()
    give_back()


def _is_aside(array: np.ndarray[Any, Any]) -> bool:
    base: Any = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return isinstance(base, mmap.mmap)


def no_room(error: OSError) -> ConvertError:
    """What to say when a temporary file cannot be written."""
    where, hint = f"folder {tempfile.gettempdir()}", "Point TMPDIR to a folder with room for the float model"
    return ConvertError(f"cannot write: {error.strerror or error}", rule="memory.file", where=where, hint=hint)
