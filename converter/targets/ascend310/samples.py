# SPDX-License-Identifier: Apache-2.0
"""Calibration and test data for this target, from the same sources as every other target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from onnx import helper

from ...calibration import Input, open_samples
from .onnx_graph import OnnxGraph
from .profiles import Profile

__all__ = ["open_data"]


@dataclass(frozen=True)
class _Network:
    inputs: list[Input]


def _first_sizes(shapes: Mapping[str, Sequence[int]], profile: Profile | None) -> dict[str, tuple[int, ...]]:
    """Static shapes: where a profile decides, its first row."""
    out = {}
    row = iter(profile.rows[0]) if profile is not None and profile.flag == "dynamic_dims" else None
    for name, sizes in shapes.items():
        values = row if row is not None else iter(profile.rows[0]) if profile is not None else iter(())
        out[name] = tuple(next(values, 1) if size == -1 else size for size in sizes)
    return out


def open_data(
    source: Any,
    graph: OnnxGraph,
    shapes: Mapping[str, Sequence[int]],
    profile: Profile | None,
    preprocess: Any,
    limit: int | None,
    batch: int | None = None,
) -> Iterable[Mapping[str, Any]]:
    """Samples by input name.

    ``batch``: the size that free first axes were set to; such inputs are read sample by sample and joined later.
    A dynamic model reads files at the sizes of its first profile; dicts of arrays may have the sizes of any profile.

    Raises:
        ConvertError: nothing can be read; names the file or input.
    """
    plain = not isinstance(source, (str, bytes, Mapping, np.ndarray)) and not hasattr(source, "__fspath__")
    if profile is not None and plain:
        items = list(source) if not isinstance(source, Iterator) else source
        if not (isinstance(items, list) and items and all(isinstance(s, (str, bytes)) or hasattr(s, "__fspath__") for s in items)):
            return islice(items, limit)
        source = items
    static = _first_sizes(shapes, profile)
    if batch is not None and batch > 1:
        static = {name: (1, *sizes[1:]) if sizes and sizes[0] == batch else sizes for name, sizes in static.items()}
        limit = limit and limit * batch
    kinds = {v.name: np.dtype(helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)) for v in graph.inputs}
    return open_samples(source, _Network([Input(name, static[name], kinds[name]) for name in static]), preprocess=preprocess, limit=limit)
