# SPDX-License-Identifier: Apache-2.0
"""The pipeline and the folder of passes say the same, and every pass has a test of its own."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import edge8.converter.passes.base as base
from edge8.converter.graph import Graph, Node, Tensor

NAMES = sorted({name for stage in base.PIPELINE for name in stage})
TESTS = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path.name != Path(__file__).name)


def test_every_pass_file_is_in_the_pipeline() -> None:
    folder = Path(inspect.getfile(base)).parent
    files = {path.stem for path in folder.glob("*.py") if "(Pass)" in path.read_text()}
    assert sorted(files) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_pass_is_tested(name: str) -> None:
    [step] = base.passes((name,))
    assert step.name == name
    assert f'"{name}"' in TESTS or f"{name}," in TESTS or f"{name}:" in TESTS


def test_broken_graph_is_not_optimised() -> None:
    graph = Graph({"x": Tensor("x", (2,)), "y": Tensor("y", (2,))}, [Node("Unary", ["z"], ["y"], {"kind": 1})], ["x"], ["y"])
    graph.tensors["z"] = Tensor("z", (2,))
    with pytest.raises(ValueError, match="read before it is written"):
        base.optimise(graph)
