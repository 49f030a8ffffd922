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

from .evaluate import Executor

__all__ = ["FloatRunner", "NumpyRunner", "ObserverPool"]

Array = npt.NDArray[Any]
# Batches of one tensor that wait for an observer; more would hold the activations of a whole network in memory.
_PENDING = 6


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


def finite(name: str, array: Array) -> bool:
    """Whether a float array holds numbers only."""
    return not np.issubdtype(array.dtype, np.floating) or bool(np.isfinite(array).all())
