# SPDX-License-Identifier: Apache-2.0
"""The protocol of a pass and the pipeline that `optimise` runs.

A pass changes the graph's form, never what it computes: on every input the results are the same up to float rounding. It says whether it
changed something; run a second time, it does not.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import ClassVar

from ..graph import Graph

__all__ = ["PIPELINE", "RESTLESS", "Pass", "optimise", "passes"]

_CLEAN = ("hoist_scales", "fold_constants", "remove_identity", "common_subexpressions", "normalise_arithmetic")

PIPELINE: tuple[tuple[str, ...], ...] = (
    _CLEAN,
    # Spelled-out functions become one operator, before anything moves into their middle.
    ("fuse_layer_norm", "fuse_softmax", "fuse_prelu", "fuse_functions"),
    # Transposes and reshapes move until they meet and vanish.
    (*_CLEAN, "merge_transposes", "sink_reshapes", "sink_transposes"),
    # Neighbours move into the operators with weights.
    (*_CLEAN, "fuse_matmul", "fuse_pad", "fuse_batch_norm", "fuse_activation", "fuse_residual"),
)
"""Names of the pass files by stage. A stage is repeated until it changes nothing, and so is the whole."""

_ROUNDS = 30

RESTLESS = "the passes undo each other on this model; it computes the right thing, but may hold needless transposes: please report it"


class Pass(ABC):
    """One transformation: file ``converter/passes/<name>.py`` with a class that `passes` finds by its ``name``."""

    name: ClassVar[str]

    def requires(self, graph: Graph) -> None:
        """Raise ValueError when the graph is not in a state that the pass understands."""
        graph.check()

    @abstractmethod
    def run(self, graph: Graph) -> bool:
        """Change the graph in place; whether something changed."""

    def ensures(self, graph: Graph) -> None:
        """Raise ValueError when the pass left the graph in a state that it promises not to leave."""
        graph.check()


def passes(stage: tuple[str, ...]) -> list[Pass]:
    """The passes of a stage, in order."""
    found = []
    for name in stage:
        module = importlib.import_module(f"{__package__}.{name}")
        classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Pass) and getattr(c, "name", "") == name]
        found.append(classes[0]())
    return found


def optimise(graph: Graph, stages: tuple[tuple[str, ...], ...] = PIPELINE) -> None:
    """Run the pipeline until nothing changes.

    Should it not come to rest, the graph is right nevertheless, and ``graph.metadata["warnings"]`` says so.

    Raises:
        ValueError: a pass broke an invariant of the graph.
    """
    for _ in range(_ROUNDS):
        changed = [_settle(graph, passes(stage)) for stage in stages]
        if not any(changed):
            return
    graph.metadata.setdefault("warnings", []).append(RESTLESS)


def _settle(graph: Graph, stage: list[Pass]) -> bool:
    """Repeat one stage until it changes nothing; whether it changed something."""
    modified = False
    for _ in range(_ROUNDS):
        changed = False
        for step in stage:
            step.requires(graph)
            if step.run(graph):
                changed = True
                step.ensures(graph)
        if not changed:
            return modified
        modified = True
    return modified
