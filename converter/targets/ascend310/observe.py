# SPDX-License-Identifier: Apache-2.0
"""Float activations for the range searches: who runs the network, and how observers see its values with bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx

from ...progress import track
from .evaluate import Executor

__all__ = ["Activations", "FloatRunner", "NumpyRunner", "ObserverPool", "finite"]

Array = npt.NDArray[Any]
# Batches of one tensor that wait for an observer; more would hold the activations of a whole network in memory.
_PENDING = 6
# Bytes of activations that are kept from one pass to the next.
_ROOM = 768 << 20


class FloatRunner(Protocol):
    """Runs the float model and shows values by their ONNX names."""

    def run(self, feeds: Mapping[str, Array], names: Collection[str], visit: Callable[[str, Array], None]) -> None:
        """Call ``visit`` once for each value in ``names`` (graph inputs and intermediate values) on one batch."""


class NumpyRunner:
    """FloatRunner over the numpy evaluator: float32, values freed as soon as they are seen."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._executor = Executor(model)

    def run(self, feeds: Mapping[str, Array], names: Collection[str], visit: Callable[[str, Array], None]) -> None:
        wanted = frozenset(names)
        self._executor.run(feeds, (), lambda name, array: visit(name, array) if name in wanted else None)


class ObserverPool:
    """Runs observers beside the network. One observer never runs twice at once, so its sums keep their order."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1)))
        self._pending: list[Future[None]] = []

    def submit(self, task: Callable[[], None]) -> None:
        """Queue one task; waits while too many are queued."""
        while len(self._pending) >= _PENDING:
            self._pending.pop(0).result()
        self._pending.append(self._pool.submit(task))

    def finish_batch(self) -> None:
        """Wait for all tasks of this batch."""
        while self._pending:
            self._pending.pop(0).result()

    def __enter__(self) -> ObserverPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


class Activations:
    """Values of the float model over all batches, gone through as often as needed.

    Batches are kept in memory up to ``room`` bytes, so that later passes need not run the network for them; the network runs again for
    the rest. Memory is bounded by ``room`` and one batch.

    Args:
        names: the values that passes may ask for.
    """

    def __init__(
        self,
        runner: FloatRunner,
        load: Callable[[int], Mapping[str, Array]],
        count: int,
        names: Collection[str],
        *,
        quiet: bool,
        room: int = _ROOM,
    ) -> None:
        self._runner, self._load, self.count, self._names = runner, load, count, frozenset(names)
        self._quiet, self._room = quiet, room
        self._kept: dict[int, dict[str, Array]] = {}

    def each(
        self,
        text: str,
        visit: Callable[[str, Array], None],
        names: Collection[str] | None = None,
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        """Call ``visit`` with every value of every batch in order, ``finish`` after each batch. ``text`` labels the progress bar."""
        wanted = self._names if names is None else frozenset(names)
        for index in track(range(self.count), text, self.count, quiet=self._quiet):
            if index in self._kept:
                for name, array in self._kept[index].items():
                    if name in wanted:
                        visit(name, array)
            else:
                self._run(index, wanted, visit)
            finish()

    def _run(self, index: int, wanted: frozenset[str], visit: Callable[[str, Array], None]) -> None:
        seen: dict[str, Array] = {}
        size = 0

        def note(name: str, array: Array) -> None:
            nonlocal size
            if wanted >= self._names:
                size += array.nbytes
                if size <= self._room:
                    seen[name] = array
                else:
                    seen.clear()
            visit(name, array)

        self._runner.run(self._load(index), wanted, note)
        if len(seen) == len(self._names):
            self._kept[index] = seen
            self._room -= size


def finite(name: str, array: Array) -> bool:
    """Whether a float array holds numbers only."""
    return not np.issubdtype(array.dtype, np.floating) or bool(np.isfinite(array).all())
