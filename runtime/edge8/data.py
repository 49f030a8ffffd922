# SPDX-License-Identifier: Apache-2.0
"""Reading inputs and writing outputs of a run: .npy, .npz and raw .bin files, with numpy alone."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from .errors import Edge8Error
from .model import Tensor

__all__ = ["read_array", "read_inputs", "write_outputs"]

Array = np.ndarray[Any, Any]


def read_array(path: Path, tensor: Tensor) -> Array:
    """An input from a .npy file, or a raw file of the tensor's dtype.

    Raises:
        Edge8Error: the file cannot be read or has the wrong size.
    """
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        raw = np.fromfile(path, tensor.dtype)
    except (OSError, ValueError) as error:
        raise Edge8Error(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    size = path.stat().st_size
    if size == 0 or size % tensor.bytes != 0:
        raise Edge8Error(f"{path}: {size} bytes; input {tensor.name!r} takes {tensor.bytes} ({tensor.dtype}, shape {list(tensor.shape)})")
    return raw.reshape(-1, *tensor.shape[1:]) if tensor.shape else raw[0]


def read_inputs(arguments: list[str], tensors: list[Tensor]) -> dict[str, Array]:
    """Inputs from ``name=file`` arguments; the name may be left out where the model has one input. A .npz file gives all.

    Raises:
        Edge8Error: a name is unknown, a file cannot be read, or an input is missing.
    """
    found: dict[str, Array] = {}
    by_name = {t.name: t for t in tensors}
    for argument in arguments:
        name, separator, file = argument.partition("=")
        if not separator or name not in by_name:
            name, file = (tensors[0].name, argument) if len(tensors) == 1 else ("", argument)
        path = Path(file)
        if path.suffix == ".npz":
            found.update(_read_npz(path, by_name))
            continue
        if not name:
            raise Edge8Error(f"{argument}: the model has several inputs; write NAME=FILE with NAME one of {', '.join(by_name)}")
        found[name] = read_array(path, by_name[name])
    missing = [name for name in by_name if name not in found]
    if missing:
        raise Edge8Error(f"no data for input {missing[0]!r}")
    return found


def _read_npz(path: Path, by_name: Mapping[str, Tensor]) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name in by_name}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Edge8Error(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def write_outputs(path: Path, outputs: Mapping[str, Array]) -> None:
    """Write to .npy (one output), .npz, or raw bytes (one output), by the path's ending. The file appears whole or not at all.

    Raises:
        Edge8Error: the file cannot be written, or several outputs do not fit its kind.
    """
    if path.suffix != ".npz" and len(outputs) != 1:
        raise Edge8Error(f"{path}: the model has {len(outputs)} outputs; write to a .npz file")
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            if path.suffix == ".npz":
                np.savez(file, **cast(Any, dict(outputs)))
            elif path.suffix == ".npy":
                np.save(file, next(iter(outputs.values())))
            else:
                file.write(next(iter(outputs.values())).tobytes())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Edge8Error(f"{path}: {error.strerror or error}") from error
