# SPDX-License-Identifier: Apache-2.0
"""Calibration data: folders, files, arrays and Python iterables become one stream of checked samples."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ConvertError
from .graph import DType, Graph, numpy_dtype
from .preprocess import PICTURE_SUFFIXES, Preprocess, load_preprocess, picture_array, prepare, read_picture

__all__ = ["Input", "Preprocess", "Samples", "input_steps", "load_preprocess", "open_samples", "read_pictures"]

Array = np.ndarray[Any, Any]
Sample = dict[str, Array]
_ARRAY_SUFFIXES = frozenset({".npy", ".npz", ".bin", ".raw"})


@dataclass(frozen=True)
class Input:
    """What a sample must fit: name, shape (the first dimension is the batch where ``batched``), numpy dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def batch(self) -> int:
        """Samples that one run takes."""
        return self.shape[0] if self.shape else 1


def _error(message: str, rule: str, where: str, hint: str = "") -> ConvertError:
    return ConvertError(message, rule=f"calibration.{rule}", where=where, hint=hint)


class Samples:
    """Samples by input name, each one run of the network. Can be gone through any number of times.

    Attributes:
        total: number of samples where it is known beforehand.
        preprocess: what was applied to pictures, or would have been, by input name; empty where there were none and nothing was said.
    """

    def __init__(self, make: Callable[[], Iterator[Sample]], inputs: Sequence[Input], total: int | None, limit: int | None) -> None:
        self._make = make
        self._inputs = inputs
        self._limit = limit
        self.total = total if total is None or limit is None else min(total, limit)
        self.preprocess: dict[str, Preprocess] = {}

    def __iter__(self) -> Iterator[Sample]:
        """Check and yield each sample.

        Raises:
            ConvertError: a sample cannot be used, or there is none; names the file.
        """
        count = 0
        for sample in self._make():
            if self._limit is not None and count >= self._limit:
                return
            count += 1
            yield sample
        if count == 0:
            raise _error("there are no samples", "empty", "--calibration", "Give at least one, better 100")


def _checked(array: Array, wanted: Input, where: str) -> Array:
    """An array that fits the input exactly, in its type."""
    if not np.can_cast(array.dtype, wanted.dtype, "same_kind"):
        raise _error(f"{array.dtype} data for input {wanted.name!r}, which is {wanted.dtype}", "type", where, f"Save it as {wanted.dtype}")
    if array.dtype == np.uint8 and wanted.dtype.kind == "f" and array.ndim >= 3:
        raise _error(
            f"uint8 pictures for input {wanted.name!r}, which is {wanted.dtype}", "preprocess", where,
            "Say how they are normalised (--mean, --std, --preprocess), or save float32 data as the network takes it",
        )  # fmt: skip
    result = np.ascontiguousarray(array, wanted.dtype)
    if result.dtype.kind == "f" and not np.isfinite(result).all():
        what = "NaN" if np.isnan(result).any() else "infinity"
        raise _error(f"{what} in the data of input {wanted.name!r}", "finite", where, "Remove the file or repair its values")
    return result


def _runs_of(array: Array, wanted: Input, where: str) -> Iterator[Array]:
    """Split ``[n, ...]`` into runs of the network's batch; one sample may lack the batch dimension."""
    shape, batch = wanted.shape, wanted.batch
    if array.shape == shape:
        yield _checked(array, wanted, where)
        return
    if array.shape == shape[1:] and batch == 1 and shape:
        yield _checked(array[None], wanted, where)
        return
    if array.ndim != len(shape) or array.shape[1:] != shape[1:] or not shape:
        raise _error(f"shape {list(array.shape)} does not fit input {wanted.name!r} of shape {list(shape)}", "shape", where)
    if array.shape[0] < batch:
        raise _error(f"{array.shape[0]} samples do not fill a batch of {batch}", "shape", where)
    for i in range(array.shape[0] // batch):
        yield _checked(array[i * batch : (i + 1) * batch], wanted, where)


def _is_pictures(array: Array, wanted: Input) -> bool:
    return array.dtype == np.uint8 and array.ndim in (3, 4) and (array.ndim == 3 or array.shape[-1] in (1, 3))


def _array_runs(array: Array, wanted: Input, steps: Preprocess | None, where: str) -> Iterator[Array]:
    """Runs from an array: plain data, or uint8 pictures where preprocessing is given: ``[n, h, w, c]``, ``[h, w, c]``, ``[n, h, w]``."""
    if steps is None or not _is_pictures(array, wanted):
        yield from _runs_of(array, wanted, where)
        return
    pictures = array[None] if array.ndim == 3 and array.shape[-1] in (1, 3) else array

    def singles() -> Iterator[Array]:
        for i, pixels in enumerate(pictures):
            place = f"{where} picture {i}"
            yield prepare(picture_array(np.asarray(pixels), place), steps, wanted.shape, wanted.dtype, wanted.name, place)

    yield from _batches(singles(), wanted)


def _batches(singles: Iterable[Array], wanted: Input) -> Iterator[Array]:
    """Join samples without a batch dimension into runs; a last incomplete batch is left out."""
    waiting: list[Array] = []
    for single in singles:
        if len(wanted.shape) == single.ndim:
            yield single
            continue
        waiting.append(single)
        if len(waiting) == wanted.batch:
            yield np.stack(waiting)
            waiting = []


def _load_npy(path: Path) -> Array:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise _error(f"not a readable .npy file: {error}", "file", str(path)) from error


def _load_raw(path: Path, wanted: Input) -> Array:
    size = path.stat().st_size
    need = int(np.prod(wanted.shape[1:], dtype=np.int64)) * wanted.dtype.itemsize
    if size == 0 or size % need:
        raise _error(
            f"{size} bytes; one sample of input {wanted.name!r} is {need} ({wanted.dtype} {list(wanted.shape[1:])})", "size", str(path)
        )
    flat = np.memmap(path, wanted.dtype.newbyteorder("<"), "r")
    return np.asarray(flat).reshape(-1, *wanted.shape[1:]) if wanted.shape else np.asarray(flat[0])


def _load_npz(path: Path, inputs: Sequence[Input]) -> dict[str, Array]:
    """Arrays by input name: by the same names, or the only array (or the one called images, x, data or inputs) for one input."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            if all(i.name in names for i in inputs):
                return {i.name: archive[i.name] for i in inputs}
            if len(inputs) == 1:
                usual = [n for n in names if n in ("images", "x", "data", "inputs", "input")]
                chosen = names if len(names) == 1 else usual
                if len(chosen) == 1:
                    return {inputs[0].name: archive[chosen[0]]}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise _error(f"not a readable .npz file: {error}", "file", str(path)) from error
    missing = [i.name for i in inputs if i.name not in names]
    raise _error(
        f"no array named {missing[0]!r}; it has {', '.join(names) or 'none'}", "name", str(path), "Name the arrays after the inputs"
    )


def _file_runs(path: Path, inputs: Sequence[Input], steps: Mapping[str, Preprocess | None]) -> Iterator[Sample]:
    """Runs of one file that is not a picture."""
    if path.suffix.lower() == ".npz":
        arrays = _load_npz(path, inputs)
    else:
        (wanted,) = inputs
        arrays = {wanted.name: _load_npy(path) if path.suffix.lower() == ".npy" else _load_raw(path, wanted)}
    streams = {i.name: _array_runs(arrays[i.name], i, steps.get(i.name), str(path)) for i in inputs}
    yield from _zip_inputs(streams, str(path))


def _zip_inputs(streams: Mapping[str, Iterator[Array]], where: str) -> Iterator[Sample]:
    """Pair the inputs' streams, which must be equally long."""
    while True:
        heads = {name: next(stream, None) for name, stream in streams.items()}
        ended = [name for name, head in heads.items() if head is None]
        if ended:
            if len(ended) != len(heads):
                raise _error(f"input {ended[0]!r} has fewer samples than the others", "pairs", where)
            return
        yield {name: head for name, head in heads.items() if head is not None}


def _folder_files(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise _error(error.strerror or str(error), "folder", str(folder)) from error
    files = [folder / name for name in names if not name.startswith(".")]
    files = [f for f in files if f.is_file() and f.suffix.lower() in PICTURE_SUFFIXES | _ARRAY_SUFFIXES]
    if not files:
        kinds = ", ".join(sorted(PICTURE_SUFFIXES | _ARRAY_SUFFIXES))
        raise _error("no calibration data in this folder", "empty", str(folder), f"Files that count end in {kinds}")
    return files


def _files(paths: Sequence[Path]) -> list[Path]:
    """Files in order: a folder's by name, single ones as given."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += _folder_files(path)
        elif not path.exists():
            raise _error("no such file or folder", "file", str(path))
        elif path.suffix.lower() in PICTURE_SUFFIXES | _ARRAY_SUFFIXES:
            files.append(path)
        else:
            raise _error("unknown kind of file", "file", str(path), "Give .npy, .npz, .bin, .raw or a picture")
    return files


def _singles(files: Sequence[Path], wanted: Input, steps: Preprocess | None) -> Iterator[Array]:
    """Runs of one input from files of any kind; pictures are joined into batches."""

    def pictures() -> Iterator[Array]:
        for path in files:
            yield prepare(read_picture(path), steps or Preprocess(), wanted.shape, wanted.dtype, wanted.name, str(path))

    if all(f.suffix.lower() in PICTURE_SUFFIXES for f in files):
        yield from _batches(pictures(), wanted)
        return
    for path in files:
        if path.suffix.lower() in PICTURE_SUFFIXES:
            raise _error("pictures and arrays are mixed", "mixed", str(path), "Keep them in two folders and choose one")
        for sample in _file_runs(path, [wanted], {wanted.name: steps}):
            yield sample[wanted.name]


def _from_files(files: Sequence[Path], inputs: Sequence[Input], steps: Mapping[str, Preprocess | None]) -> Iterator[Sample]:
    if len(inputs) == 1:
        for run in _singles(files, inputs[0], steps.get(inputs[0].name)):
            yield {inputs[0].name: run}
        return
    for path in files:
        if path.suffix.lower() != ".npz":
            names = ", ".join(i.name for i in inputs)
            raise _error(
                f"the network has {len(inputs)} inputs",
                "inputs",
                str(path),
                f"Give NAME=FOLDER for each of {names}, or .npz files with these arrays",
            )
        yield from _file_runs(path, inputs, steps)


def _total_of(files: Sequence[Path], inputs: Sequence[Input]) -> int | None:
    """Number of runs where files tell it without being read: pictures, one each."""
    if len(inputs) == 1 and all(f.suffix.lower() in PICTURE_SUFFIXES for f in files):
        return len(files) // (inputs[0].batch if len(inputs[0].shape) == 4 else 1)
    return None


class _Spool:
    """Lets a one-shot iterable be gone through again: samples are kept in a temporary file as they come."""

    def __init__(self, source: Iterator[Any]) -> None:
        self.source = source
        self.file = tempfile.TemporaryFile(prefix="edge8-samples-")  # noqa: SIM115 - lives as long as this object
        self.ends: list[int] = []

    def __call__(self) -> Iterator[Any]:
        position = 0
        while True:
            if position < len(self.ends):
                self.file.seek(self.ends[position - 1] if position else 0)
                with np.load(_stored_part(self.file), allow_pickle=False) as archive:
                    sample: Any = {name: archive[name] for name in archive.files}
                sample = sample.get("", sample)
            else:
                try:
                    sample = next(self.source)
                except StopIteration:
                    return
                self._keep(sample)
            position += 1
            yield sample

    def _keep(self, sample: Any) -> None:
        self.file.seek(self.ends[-1] if self.ends else 0)
        arrays = sample if isinstance(sample, Mapping) else {"": sample}
        start = self.file.tell()
        archive = io.BytesIO()
        named: dict[str, Any] = {str(name): np.asarray(x) for name, x in arrays.items()}
        np.savez(archive, **named)
        content = archive.getvalue()
        self.file.write(len(content).to_bytes(8, "little") + content)
        self.ends.append(start + 8 + len(content))


def _stored_part(file: Any) -> io.BytesIO:
    """The archive at the file's position: its length in eight bytes, then its bytes."""
    size = int.from_bytes(file.read(8), "little")
    return io.BytesIO(file.read(size))


def _from_objects(make: Callable[[], Iterator[Any]], inputs: Sequence[Input], steps: Mapping[str, Preprocess | None]) -> Iterator[Sample]:
    """Samples from Python objects: arrays for one input, mappings for several."""
    for number, item in enumerate(make()):
        where = f"sample {number}"
        if not isinstance(item, Mapping):
            if len(inputs) != 1:
                raise _error(f"the network has {len(inputs)} inputs", "inputs", where, "Give a dict of arrays by input name")
            item = {inputs[0].name: item}
        unknown = [name for name in item if all(name != i.name for i in inputs)]
        if unknown:
            raise _error(f"no input is called {unknown[0]!r}", "name", where, f"Inputs: {', '.join(i.name for i in inputs)}")
        missing = [i.name for i in inputs if i.name not in item]
        if missing:
            raise _error(f"no data for input {missing[0]!r}", "name", where)
        streams = {}
        for i in inputs:
            try:
                array = np.asarray(item[i.name])
            except ValueError as error:
                raise _error(f"not an array: {error}", "type", where) from error
            if array.dtype == object:
                raise _error("not an array of numbers", "type", where)
            streams[i.name] = _array_runs(array, i, steps.get(i.name), where)
        yield from _zip_inputs(streams, where)


def _named_paths(source: Sequence[str | os.PathLike[str]], inputs: Sequence[Input]) -> dict[str, list[Path]]:
    """``NAME=PATH`` arguments by input name; arguments without a name go under the empty one."""
    found: dict[str, list[Path]] = {}
    for argument in source:
        text = os.fspath(argument)
        name, separator, rest = text.partition("=")
        if separator and any(name == i.name for i in inputs):
            found.setdefault(name, []).append(Path(rest))
        elif separator and not Path(text).exists():
            raise _error(f"no input is called {name!r}", "name", text, f"Inputs: {', '.join(i.name for i in inputs)}")
        else:
            found.setdefault("", []).append(Path(text))
    if "" in found and len(found) > 1:
        raise _error("a path without an input's name among named ones", "inputs", str(found[""][0]), "Write NAME=PATH")
    return found


def _inputs_of(network: Any) -> list[Input]:
    if isinstance(network, Graph):
        tensors = [network.tensors[name] for name in network.inputs]
        # A graph whose inputs are handed over as codes is still fed with real numbers.
        return [
            Input(t.name, t.shape, numpy_dtype(DType.FLOAT32 if t.dtype is DType.INT8 and t.scale is None else t.dtype)) for t in tensors
        ]
    return [Input(t.name, tuple(t.shape), np.dtype(t.dtype)) for t in network.inputs]


def input_steps(preprocess: Any, network: Any) -> dict[str, Preprocess | None]:
    """What `open_samples` takes as ``preprocess``, by input name.

    Raises:
        ConvertError: a name that is no input's, or a file that cannot be read.
    """
    inputs = _inputs_of(network)
    if preprocess is None or isinstance(preprocess, Preprocess):
        return {i.name: preprocess for i in inputs}
    if isinstance(preprocess, (str, os.PathLike)):
        preprocess = load_preprocess(Path(preprocess))
    unknown = [name for name in preprocess if name and all(name != i.name for i in inputs)]
    if unknown:
        raise _error(f"no input is called {unknown[0]!r}", "name", "preprocessing", f"Inputs: {', '.join(i.name for i in inputs)}")
    return {i.name: preprocess.get(i.name, preprocess.get("")) for i in inputs}


def open_samples(source: Any, network: Any, *, preprocess: Any = None, limit: int | None = None) -> Samples:
    """Open calibration data.

    Args:
        source: a folder, a file, or a list of them (``NAME=PATH`` for several inputs, paired by sorted file names); a dict of
            such sources or of arrays ``[n, ...]`` by input name; an array ``[n, ...]``; or an iterable of arrays or of dicts.
        network: a `Graph` or an `edge8.Model`: what the samples must fit.
        preprocess: how pictures become inputs: a `Preprocess`, a dict of them by input name (``""`` for all others), or the
            path of a TOML file. Without it pictures are resized to the input's size and keep the values 0..255; arrays of
            uint8 for a float input are refused.
        limit: use at most so many runs.

    Returns:
        Samples, checked while they are read; reading again gives the same.

    Raises:
        ConvertError: nothing can be read; names the file or input.
    """
    inputs = _inputs_of(network)
    steps = input_steps(preprocess, network)
    if limit is not None and limit < 1:
        raise _error(f"{limit} samples", "limit", "--samples", "Give at least 1")
    if isinstance(source, (str, os.PathLike)):
        source = [source]
    if isinstance(source, Mapping):
        return _open_mapping(source, inputs, steps, limit)
    if isinstance(source, np.ndarray):
        samples = Samples(lambda: _from_objects(lambda: iter([source]), inputs, steps), inputs, None, limit)
    elif isinstance(source, Sequence) and source and all(isinstance(s, (str, os.PathLike)) for s in source):
        samples = _open_paths(source, inputs, steps, limit)
    elif isinstance(source, Sequence):
        samples = Samples(lambda: _from_objects(lambda: iter(source), inputs, steps), inputs, len(source), limit)
    elif isinstance(source, Iterator):
        spool = _Spool(source)
        samples = Samples(lambda: _from_objects(spool, inputs, steps), inputs, None, limit)
    elif isinstance(source, Iterable):
        samples = Samples(lambda: _from_objects(lambda: iter(source), inputs, steps), inputs, None, limit)
    else:
        raise _error(f"{type(source).__name__} is no calibration data", "type", "--calibration", "Give a folder, files or arrays")
    if not samples.preprocess:
        samples.preprocess = {name: given for name, given in steps.items() if given is not None}
    return samples


def _open_paths(source: Sequence[Any], inputs: Sequence[Input], steps: Mapping[str, Preprocess | None], limit: int | None) -> Samples:
    named = _named_paths(source, inputs)
    if "" in named:
        files = _files(named[""])
        samples = Samples(lambda: _from_files(files, inputs, steps), inputs, _total_of(files, inputs), limit)
        if any(f.suffix.lower() in PICTURE_SUFFIXES for f in files):
            samples.preprocess = {i.name: steps.get(i.name) or Preprocess() for i in inputs}
        return samples
    missing = [i.name for i in inputs if i.name not in named]
    if missing:
        raise _error(f"no data for input {missing[0]!r}", "inputs", "--calibration", "Give NAME=FOLDER for every input")
    files_of = {name: _files(paths) for name, paths in named.items()}
    by_input = {i.name: i for i in inputs}
    counts = {name: len(files) for name, files in files_of.items()}
    if len(set(counts.values())) > 1:
        raise _error(f"numbers of files differ: {counts}", "pairs", "--calibration", "Files are paired by their sorted names")

    def make() -> Iterator[Sample]:
        streams = {name: _singles(files, by_input[name], steps.get(name)) for name, files in files_of.items()}
        yield from _zip_inputs(streams, "--calibration")

    totals = [_total_of(files, [by_input[name]]) for name, files in files_of.items()]
    known = [t for t in totals if t is not None]
    samples = Samples(make, inputs, min(known) if known else None, limit)
    for name, files in files_of.items():
        if any(f.suffix.lower() in PICTURE_SUFFIXES for f in files):
            samples.preprocess[name] = steps.get(name) or Preprocess()
    return samples


def _open_mapping(source: Mapping[str, Any], inputs: Sequence[Input], steps: Mapping[str, Preprocess | None], limit: int | None) -> Samples:
    if all(isinstance(value, (str, os.PathLike)) for value in source.values()):
        return _open_paths([f"{name}={os.fspath(value)}" for name, value in source.items()], inputs, steps, limit)
    return Samples(lambda: _from_objects(lambda: iter([source]), inputs, steps), inputs, None, limit)


def read_pictures(arguments: Sequence[str], model: Any) -> Sample:
    """Inputs of one run from pictures or arrays, with the preprocessing that the model's file remembers.

    Args:
        arguments: a path per input, ``NAME=PATH`` where there are several.
        model: an `edge8.Model`; its ``metadata["preprocess"]`` holds `Preprocess.to_dict` by input name.

    Raises:
        ConvertError: a file cannot be read or does not fit.
    """
    remembered = model.metadata.get("preprocess", {})
    steps = {str(name): Preprocess.from_dict(values, f"metadata of {model.path}") for name, values in remembered.items()}
    for sample in open_samples(list(arguments), model, preprocess=steps or None, limit=1):
        return sample
    raise _error("there are no samples", "empty", ", ".join(arguments))
