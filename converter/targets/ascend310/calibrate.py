# SPDX-License-Identifier: Apache-2.0
"""Calibration: batches go to disk in AMCT's form first, then the network runs over those files as often as the searches need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from ...errors import ConvertError
from .configs import LayerConfig
from .hfmg import HfmgHistogram
from .ifmr import IfmrParams, IfmrSearch, TailKeeper
from .observe import Activations, ObserverPool, finite
from .onnx_graph import OnnxGraph
from .profiles import Profile

__all__ = ["Batches", "Search", "join_batches", "search_ranges", "write_batches"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Batches:
    """Calibration batches on disk.

    Attributes:
        root: the ``calibration`` folder.
        folders: folder name by input name.
        dtypes: numpy dtype by input name.
        shapes: shape of each input, one mapping a batch.
    """

    root: Path
    folders: dict[str, str]
    dtypes: dict[str, np.dtype[Any]]
    shapes: list[dict[str, list[int]]]

    def __len__(self) -> int:
        return len(self.shapes)

    def load(self, index: int) -> dict[str, Array]:
        """Arrays of one batch."""
        out = {}
        for name, folder in self.folders.items():
            data = np.fromfile(self.root / folder / f"{index:04d}.bin", dtype=self.dtypes[name].newbyteorder("<"))
            out[name] = data.astype(self.dtypes[name], copy=False).reshape(self.shapes[index][name])
        return out


def folder_names(inputs: Sequence[str]) -> dict[str, str]:
    """A folder name of letters, digits, ``_ - .`` for each input."""
    out: dict[str, str] = {}
    for name in inputs:
        base = re.sub(r"[^A-Za-z0-9_.-]", "_", name).strip(".") or "input"
        folder, number = base, 0
        while folder in out.values():
            number += 1
            folder = f"{base}_{number}"
        out[name] = folder
    return out


def _checked(name: str, array: Any, dtype: np.dtype[Any], shape: Sequence[int], where: str) -> Array:
    """One sample's array in the input's type, with a first axis of samples."""
    data = np.asarray(array)
    if data.dtype.kind not in "fiub":
        raise ConvertError(f"sample of type {data.dtype}", rule="calibration.type", where=f"{where} input {name}", hint="Give numbers")
    if data.ndim == len(shape) - 1 and list(data.shape) == list(shape[1:]):
        data = data[None]
    if data.ndim != len(shape) or any(size not in (-1, given) for size, given in zip(shape[1:], data.shape[1:], strict=True)):
        raise ConvertError(
            f"sample of shape {list(data.shape)}, the model takes {[*shape]}",
            rule="calibration.shape",
            where=f"{where} input {name}",
            hint="Resize or crop the samples",
        )
    if dtype.kind in "iu" and data.dtype.kind == "f" and np.any(data != np.rint(data)):
        raise ConvertError(
            f"fractions for an input of type {dtype}", rule="calibration.type", where=f"{where} input {name}", hint="Give integers"
        )
    data = np.ascontiguousarray(data.astype(dtype))
    if not finite(name, data):
        raise ConvertError("NaN or infinity", rule="calibration.finite", where=f"{where} input {name}", hint="Check the preprocessing")
    return data


def _check_profiles(shapes: Mapping[str, list[int]], given: Mapping[str, list[int]], profile: Profile, where: str) -> None:
    """A dynamic model is calibrated at sizes that one of its profiles has."""
    dynamic = tuple(given[name][axis] for name, sizes in shapes.items() for axis, size in enumerate(sizes) if size == -1)
    rows = profile.rows
    if profile.flag in ("dynamic_batch_size", "dynamic_image_size"):
        width = len(rows[0])
        groups = {dynamic[i : i + width] for i in range(0, len(dynamic), width)}
        fits = len(groups) == 1 and next(iter(groups)) in rows
    else:
        fits = dynamic in rows
    if not fits:
        raise ConvertError(
            f"its dynamic sizes {list(dynamic)} match no profile",
            rule="calibration.profile",
            where=where,
            hint=f"Give samples of {profile.ours} {profile.text()}",
        )


def join_batches(
    samples: Iterable[Mapping[str, Any]], graph: OnnxGraph, shapes: Mapping[str, list[int]], what: str
) -> Iterator[dict[str, Array]]:
    """Checked samples as batches of the model: a model with batch N takes N samples at once; an incomplete last batch is left out.

    Raises:
        ConvertError: wrong names, shapes, types or values; names the sample.
    """
    names = [value.name for value in graph.inputs]
    dtypes = input_dtypes(graph)
    rows = {name: shapes[name][0] if shapes[name] else 0 for name in names}
    held: dict[str, list[Array]] = {name: [] for name in names}
    for count, sample in enumerate(samples, 1):
        where = f"{what} {count}"
        _check_keys(sample, names, where)
        for name in names:
            held[name].append(
                _checked(name, sample[name], dtypes[name], shapes[name], where)
                if shapes[name]
                else np.asarray(sample[name], dtypes[name]).reshape(())
            )
        while (batch := _full_batch(held, rows)) is not None:
            yield batch


def input_dtypes(graph: OnnxGraph) -> dict[str, np.dtype[Any]]:
    """numpy dtype of each graph input."""
    return {v.name: np.dtype(helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)) for v in graph.inputs}


def write_batches(
    samples: Iterable[Mapping[str, Any]],
    graph: OnnxGraph,
    shapes: Mapping[str, list[int]],
    root: Path,
    batch_num: int | None,
    profile: Profile | None,
) -> Batches:
    """Write ``root/<input>/NNNN.bin``, one batch a file, raw little-endian.

    Raises:
        ConvertError: no full batch, fewer batches than ``batch_num``, or what ``join_batches`` refuses.
    """
    folders = folder_names([value.name for value in graph.inputs])
    for folder in folders.values():
        (root / folder).mkdir(parents=True, exist_ok=True)
    written: list[dict[str, list[int]]] = []
    for batch in join_batches(samples, graph, shapes, "calibration sample"):
        given = {name: list(array.shape) for name, array in batch.items()}
        if profile is not None:
            _check_profiles(shapes, given, profile, f"calibration batch {len(written)}")
        for name, array in batch.items():
            array.astype(array.dtype.newbyteorder("<"), copy=False).tofile(root / folders[name] / f"{len(written):04d}.bin")
        written.append(given)
        if batch_num is not None and len(written) == batch_num:
            break
        if len(written) == 10000:
            raise ConvertError(
                "more than 10000 batches", rule="calibration.count", where="--calibration", hint="AMCT advises about 50 pictures in all"
            )
    if not written:
        size = max((sizes[0] for sizes in shapes.values() if sizes), default=1)
        raise ConvertError(
            f"there are no samples, or too few: they do not fill one batch of {max(size, 1)}",
            rule="calibration.empty",
            where="--calibration",
            hint="Full quantisation is the only kind on this target: it needs at least one batch of data",
        )
    if batch_num is not None and len(written) < batch_num:
        raise ConvertError(
            f"{len(written)} batch(es), but batch_num is {batch_num}",
            rule="calibration.count",
            where="--calibration",
            hint="Give more data or lower batch_num",
        )
    return Batches(root, folders, input_dtypes(graph), written)


def _check_keys(sample: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    missing = [name for name in names if name not in sample]
    unknown = [name for name in sample if name not in names]
    if missing or unknown:
        text = f"no array for {missing}" if missing else f"arrays for unknown inputs {unknown}"
        raise ConvertError(text, rule="calibration.names", where=where, hint=f"Inputs of the model: {', '.join(names)}")


def _full_batch(held: dict[str, list[Array]], rows: Mapping[str, int]) -> dict[str, Array] | None:
    """Take one batch out of the waiting samples, or None while they are too few."""
    out: dict[str, Array] = {}
    if not rows:
        return None
    for name, wanted in rows.items():
        have = sum(array.shape[0] if array.ndim else 1 for array in held[name])
        if have < (wanted if wanted > 0 else 1):
            return None
    for name, wanted in rows.items():
        if wanted <= 0:
            out[name] = held[name].pop(0)
            continue
        joined = held[name][0] if len(held[name]) == 1 else np.concatenate(held[name])
        out[name], rest = joined[:wanted], joined[wanted:]
        held[name] = [rest] if rest.shape[0] else []
    return out


@dataclass(frozen=True)
class Search:
    """One range to find: a value of the float graph and how. Equal searches are done once."""

    value: str
    config: LayerConfig


def search_ranges(
    searches: Sequence[Search], activations: Activations, static_sizes: Mapping[str, int | None]
) -> dict[Search, tuple[np.float32, int]]:
    """(scale_d, offset_d) of each search, by AMCT's definitions over all batches.

    Args:
        static_sizes: elements of each value in one batch, None where it varies (costs one more run to count).

    Raises:
        ConvertError: an activation is NaN or infinite (named).
    """
    unique = list(dict.fromkeys(searches))
    values = list(dict.fromkeys(search.value for search in unique))
    counts = {value: (static_sizes.get(value) or 0) * activations.count for value in values}
    varying = [value for value in values if not static_sizes.get(value)]
    if varying:
        activations.each("counting", lambda name, x: counts.__setitem__(name, counts[name] + x.size), varying)
    with ObserverPool() as pool:
        tails: dict[tuple[str, IfmrParams], TailKeeper] = {}
        ranges: dict[str, list[np.float32]] = {}
        for search in unique:
            if search.config.algorithm == "ifmr":
                tails.setdefault((search.value, search.config.ifmr), TailKeeper(search.config.ifmr, counts[search.value]))
            else:
                ranges.setdefault(search.value, [])

        def first(name: str, x: Array) -> None:
            if not finite(name, x):
                raise ConvertError(
                    "the float model gives NaN or infinity here",
                    rule="calibration.activation",
                    where=name,
                    hint="Check the model and the data",
                )
            for (value, _), keeper in tails.items():
                if value == name:
                    pool.submit(partial(keeper.add, x))
            if name in ranges:
                ranges[name] += [np.float32(x.min()), np.float32(x.max())]

        activations.each("ranges", first, values, pool.finish_batch)
        second: dict[Search, IfmrSearch | HfmgHistogram] = {}
        for search in unique:
            if search.config.algorithm == "ifmr":
                low, high = tails[(search.value, search.config.ifmr)].bounds()
                second[search] = IfmrSearch(search.config.ifmr, low, high, bool(search.config.asymmetric))
            else:
                second[search] = HfmgHistogram(search.config.bins, min(ranges[search.value]), max(ranges[search.value]))

        def accumulate(name: str, x: Array) -> None:
            for search, observer in second.items():
                if search.value == name:
                    pool.submit(partial(observer.add, x))

        activations.each("searching", accumulate, values, pool.finish_batch)
    out = {}
    for search, observer in second.items():
        out[search] = observer.best() if isinstance(observer, IfmrSearch) else observer.best(bool(search.config.asymmetric))
    return out
