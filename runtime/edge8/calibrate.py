# SPDX-License-Identifier: Apache-2.0
"""Calibration: a weights-quantised file becomes a full int8 one. The converter uses this very code, so files agree byte for byte."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._library import ffi, lib
from .data import read_inputs
from .errors import Edge8Error
from .model import Model, Session, aligned_block

__all__ = ["METHODS", "Calibration", "calibrate_file", "sample_files"]

Array = np.ndarray[Any, Any]

# e8_method of edge8_quant.h.
METHODS = {"auto": 0, "minmax": 1, "moving-average": 2, "percentile": 3, "removal-outlier": 4, "kl": 5, "mse": 6}
STATE_ERRORS = {2: "is not a saved calibration", 4: "is damaged", 1: "belongs to another model"}


def _options(method: str, percentile: float) -> Any:
    if method not in METHODS:
        raise Edge8Error(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    options = ffi.new("e8_range_options *", lib.e8_default_range_options())
    options.method = METHODS[method]
    options.percentile = percentile
    return options


class Calibration:
    """Observers for every activation of an uncalibrated model, in a fixed amount of memory.

    Attributes:
        model: the uncalibrated model.
        bytes: memory that the observers take.
    """

    def __init__(self, model: Model) -> None:
        """Prepare to watch runs of ``model``.

        Raises:
            Edge8Error: the model is calibrated already, or was not made to be calibrated.
        """
        if model.calibrated:
            raise Edge8Error(f"{model.path or 'the model'} needs no calibration: its activations have scales, or none is quantised")
        self.model = model
        self.bytes = int(lib.e8_calibration_bytes(model._model))
        self._memory_pointer, self._memory = aligned_block(self.bytes)
        self._calibration = ffi.new("e8_calibration *")
        self._check(lib.e8_calibration_init(self._calibration, model._model, self._memory_pointer, self.bytes))

    def _check(self, status: int) -> None:
        if status != 0:
            raise Edge8Error(f"calibration: {ffi.string(lib.e8_status_text(status)).decode()}")

    def attach(self, session: Session) -> None:
        """Watch every run of ``session`` from now on."""
        lib.e8_calibration_attach(self._calibration, session._session)

    @property
    def runs(self) -> int:
        """Runs watched so far."""
        return int(lib.e8_calibration_runs(self._calibration))

    def run(self, samples: Iterable[Array | Mapping[str, Array]], threads: int = 1) -> int:
        """Run the model on samples and watch it; gives the number of samples.

        Raises:
            Edge8Error: a sample does not fit the model.
        """
        session = self.model.session(threads)
        self.attach(session)
        count = 0
        for sample in samples:
            session(sample)
            count += 1
        lib.e8_calibration_attach(self._calibration, ffi.NULL)
        return count

    def set_range(self, tensor: int, low: float, high: float) -> None:
        """Choose a tensor's range by hand."""
        self._check(lib.e8_calibration_set_range(self._calibration, tensor, low, high))

    def range(self, tensor: int, method: str = "auto", percentile: float = 99.99) -> tuple[float, float]:
        """The range that ``fill`` would write for a tensor."""
        low, high = ffi.new("float *"), ffi.new("float *")
        self._check(lib.e8_calibration_range(self._calibration, _options(method, percentile), tensor, low, high))
        return float(low[0]), float(high[0])

    def fill(self, method: str = "auto", percentile: float = 99.99) -> bytes:
        """The full int8 file.

        Args:
            method: how a range is chosen, a key of `METHODS`.
            percentile: for the method of that name: percent of values up to the upper end.

        Raises:
            Edge8Error: nothing was watched, or the method is unknown.
        """
        size = self.model.file_bytes
        pointer, block = aligned_block(size)
        block[:] = self.model.file_content()
        diag = ffi.new("e8_diag *")
        status = lib.e8_calibration_fill(self._calibration, _options(method, percentile), pointer, size, diag)
        if status != 0:
            rule = ffi.string(diag.rule).decode() if diag.rule else ""
            if rule == "calibration.runs":
                raise Edge8Error("calibration needs at least one sample")
            raise Edge8Error(f"calibration: {ffi.string(lib.e8_status_text(status)).decode()} {rule}".rstrip())
        return block.tobytes()

    def save(self) -> bytes:
        """The state of the observers, to go on later or to join with others."""
        size = int(lib.e8_calibration_saved_bytes(self._calibration))
        state = np.zeros(size, np.uint8)
        self._check(lib.e8_calibration_save(self._calibration, ffi.cast("void *", state.ctypes.data), size))
        return state.tobytes()

    def load(self, state: bytes, *, merge: bool = False) -> None:
        """Take a saved state in place of what was seen, or add it with ``merge``.

        Raises:
            Edge8Error: the state is damaged or belongs to another model; what was seen stays.
        """
        function = lib.e8_calibration_merge if merge else lib.e8_calibration_load
        status = function(self._calibration, ffi.from_buffer(state), len(state))
        if status != 0:
            raise Edge8Error(f"the state {STATE_ERRORS.get(int(status), 'cannot be used')}")


def sample_files(paths: list[Path]) -> list[Path]:
    """Files of folders and single files, each folder's in order of their names.

    Raises:
        Edge8Error: a path does not exist, or a folder holds no .npy, .npz, .bin or .raw file.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix in (".npy", ".npz", ".bin", ".raw"))
            if not found:
                raise Edge8Error(f"{path}: no .npy, .npz, .bin or .raw file in this folder")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise Edge8Error(f"{path}: no such file or folder")
    return files


def calibrate_file(
    source: Path,
    samples: list[Path],
    output: Path,
    *,
    method: str = "auto",
    percentile: float = 99.99,
    threads: int = 1,
    state: Path | None = None,
    merge: Sequence[Path] = (),
) -> str:
    """Calibrate a weights-quantised file on samples and write the full int8 file.

    The output appears whole or not at all; it may be the source itself. With ``state`` the observers' state is read from
    that file if it exists and written to it afterwards, so that several calls add up. The states of ``merge`` (other boards) are
    added; then there may be no samples.

    Returns:
        A line for people.

    Raises:
        Edge8Error: samples or files cannot be used; nothing has been written.
    """
    model = Model(source)
    calibration = Calibration(model)
    if state is not None and state.exists():
        calibration.load(state.read_bytes())
    for other in merge:
        try:
            calibration.load(other.read_bytes(), merge=True)
        except OSError as error:
            raise Edge8Error(f"{other}: {error.strerror or error}") from error
    calibration.run((_finite(f, read_inputs([str(f)], model.inputs)) for f in sample_files(samples)), threads)
    data = calibration.fill(method, percentile)
    if state is not None:
        _replace(state, calibration.save())
    _replace(output, data)
    memory = calibration.bytes + model.arena_bytes(threads)
    count = calibration.runs
    return f"{output}: full int8, {count} samples, method {method}; used {memory:,} bytes of memory ({calibration.bytes:,} for observers)"


def _finite(path: Path, sample: dict[str, Array]) -> dict[str, Array]:
    for name, x in sample.items():
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise Edge8Error(f"{path}: NaN or infinity in the data of input {name!r}")
    return sample


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Edge8Error(f"{path}: cannot write ({error.strerror or error})") from error
