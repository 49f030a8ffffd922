# SPDX-License-Identifier: Apache-2.0
"""The float model that a conversion measures: run sample by sample, watched operator by operator.

Its file lies in the folder for temporary files and is mapped, so that its weights are memory that the system can take back.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from edge8 import Model, Session

from ..graph import Graph
from ..memory import give_back, map_file, no_room
from ..targets.cpu_lite import write_into

__all__ = ["FloatModel", "Watcher"]

Array = np.ndarray[Any, Any]


class Watcher(Protocol):
    """Looks at activations around the operators of a run; the tensors' values come from ``model.value``."""

    def before(self, op: int, model: FloatModel) -> None:
        """Operator ``op`` has its inputs."""

    def after(self, op: int, model: FloatModel) -> None:
        """Operator ``op`` has its outputs."""


class FloatModel:
    """A float graph that runs. Operator ``i`` is node ``i`` of the graph.

    Attributes:
        graph: the graph.
        session: of its file.
    """

    def __init__(self, graph: Graph, threads: int = 1) -> None:
        """Write the graph's file and open it.

        Args:
            graph: float.
            threads: of the runs.

        Raises:
            ConvertError: there is no room for the file.
        """
        self.graph = graph
        try:
            with tempfile.NamedTemporaryFile(prefix="edge8-float-") as file:
                write_into(graph, file)
                file.flush()
                model = Model(file.name)
        except OSError as error:
            raise no_room(error) from error
        map_file(model.mapped)
        give_back()
        self.macs = model.macs
        self._numbers = {t.name: t.index for t in model.tensors}
        self._divisors: Mapping[str, Array] = {}
        self.session: Session = model.session(threads)

    def value(self, name: str) -> Array:
        """An activation's memory, to be looked at in a `Watcher` only."""
        x = self.session.tensor(self._numbers[name])
        return x / self._divisors[name] if name in self._divisors else x

    def scaled(self, graph: Graph, divisors: Mapping[str, Array]) -> FloatModel:
        """The same runs seen as those of another graph, whose activations are these divided by a vector along the last axis.

        Args:
            graph: with the same nodes.
            divisors: float32, by tensor name; the others are the same in both.
        """
        other = copy.copy(self)
        other.graph, other._divisors = graph, divisors
        return other

    def run(self, sample: Mapping[str, Array], watchers: Sequence[Watcher] = ()) -> list[Array]:
        """Run once; the outputs, in the graph's order."""

        def before(op: int) -> None:
            for watcher in watchers:
                watcher.before(op, self)

        def after(op: int) -> None:
            for watcher in watchers:
                watcher.after(op, self)

        with self.session.hook(after=after, before=before):
            result = self.session(dict(sample))
        return list(result.values()) if isinstance(result, dict) else [result]
