# SPDX-License-Identifier: Apache-2.0
"""What every activation of a float model was seen to hold, kept apart from any file: ranges for every choice of types come from it.

Calibration on a device watches the file that it completes (runtime_c/src/quant/calibrate.c). Here the float model is watched once, with
the same observers, and a file of any quantisation of it is completed from that: corrections and searches try many files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from edge8 import Model
from edge8._library import ffi, lib
from edge8.calibrate import Calibration

from ..graph import DType, Graph
from .float_model import FloatModel

__all__ = ["BY_RUN", "Observations", "completed", "source_of"]

BY_RUN = frozenset({"moving-average", "removal-outlier"})
"""Methods that look at each run by itself: tensors that share a scale must be watched together, in the file itself."""

# What quantisation adds to the name of a tensor whose values it repeats (borders.py, sharing.py).
_SUFFIX = re.compile(r"_(int8|int16|rescaled)(_\d+)?$")


def source_of(name: str, known: Callable[[str], bool]) -> str | None:
    """The activation of the float graph, one of those ``known``, whose values a tensor of a quantised file holds; None if of none."""
    while not known(name):
        shorter = _SUFFIX.sub("", name)
        if shorter == name:
            return None
        name = shorter
    return name


class Observations:
    """One observer for each float activation of a graph; a `float_model.Watcher`.

    Attributes:
        runs: runs that were watched.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        real = {t.name for t in graph.activations() if t.dtype is DType.FLOAT32}
        made = [name for node in graph.nodes for name in node.outputs]
        names = dict.fromkeys(name for name in [*graph.inputs, *made] if name in real)
        self._numbers = {name: i for i, name in enumerate(names)}
        self._table = ffi.new("e8_observer[]", max(1, len(names)))
        for i in range(len(names)):
            lib.e8_observer_init(ffi.addressof(self._table, i))
        self._scratch = ffi.new("e8_observer_scratch *")
        self.runs = 0

    def _add(self, names: Iterable[str], model: FloatModel) -> None:
        for name in names:
            if name in self._numbers:
                x = model.value(name)
                lib.e8_observer_add(self._observer(name), ffi.cast("float *", x.ctypes.data), x.size, self._scratch)

    def _observer(self, name: str) -> Any:
        return ffi.addressof(self._table, self._numbers[name])

    def before(self, op: int, model: FloatModel) -> None:
        """Watch the inputs of a run."""
        if op == 0:
            self._add(self._graph.inputs, model)

    def after(self, op: int, model: FloatModel) -> None:
        """Watch what an operator made."""
        self._add(self._graph.nodes[op].outputs, model)
        if op + 1 == len(self._graph.nodes):
            for i in range(len(self._numbers)):
                lib.e8_observer_end(ffi.addressof(self._table, i))
            self.runs += 1

    def merge(self, other: Observations) -> None:
        """Add what was seen of the same graph elsewhere."""
        for name in self._numbers:
            lib.e8_observer_merge(self._observer(name), other._observer(name))
        self.runs += other.runs

    def _constant(self, name: str) -> Any:
        """The numbers of a float constant, or None."""
        tensor = self._graph.tensors.get(name)
        return tensor.data if tensor is not None and tensor.constant and tensor.dtype is DType.FLOAT32 else None

    def _source(self, name: str) -> str:
        """The float activation, or constant operand, whose values a tensor of a quantised file holds."""
        source = source_of(name, lambda plain: plain in self._numbers or self._constant(plain) is not None)
        if source is None:
            raise ValueError(f"tensor {name!r} belongs to no activation that was watched")
        return source

    def _add_constant(self, slot: Any, x: np.ndarray[Any, Any]) -> None:
        """Each run of a file quantises its constant operands."""
        for _ in range(self.runs):
            lib.e8_observer_add(slot, ffi.cast("float *", x.ctypes.data), x.size, self._scratch)
            lib.e8_observer_end(slot)

    def give(self, calibration: Calibration) -> None:
        """Let the observers of a file's calibration have seen what these did.

        Raises:
            ValueError: the file is of another graph.
        """
        model, handle = calibration.model, calibration._calibration
        tensors = {t.index: t for t in model.tensors if not t.constant}
        slots = {index: lib.e8_calibration_observer(handle, index) for index in tensors}
        slots = {index: slot for index, slot in slots.items() if slot != ffi.NULL}
        moved = {  # as in calibrate.c: what comes from a tensor of the same scale was seen there; Pad brings a value of its own
            out
            for op in model.ops
            for out in op.outputs
            if op.kind != "Pad" and out in slots and any(slots.get(i) == slots[out] for i in op.inputs if i is not None)
        }
        for index, slot in slots.items():
            if index in moved:
                continue
            source = self._source(tensors[index].name)
            data = self._constant(source)
            if data is None:
                lib.e8_observer_merge(slot, self._observer(source))
            else:
                self._add_constant(slot, np.ascontiguousarray(data, np.float32))


def completed(data: bytes, seen: Observations, *, method: str, percentile: float) -> bytes:
    """The full int8 (or int16) file of a file that waits for calibration."""
    model = Model(data)
    if model.calibrated:
        return data
    calibration = Calibration(model)
    seen.give(calibration)
    return calibration.fill(method, percentile)
