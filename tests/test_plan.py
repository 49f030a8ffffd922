# SPDX-License-Identifier: Apache-2.0
"""The arena plan: no two living tensors share bytes, in-place chains, and how close the arena is to the lower bound."""

from __future__ import annotations

import random

import pytest

from edge8.converter.graph import Graph, Node, Tensor
from edge8.converter.targets.cpu_lite.plan import IN_PLACE, plan_arena
from tests.e2e.arena import quantised
from tests.fetch import Unavailable


def chain_graph(seed: int, steps: int) -> Graph:
    """Unary and Binary nodes over tensors of random sizes."""
    rand = random.Random(seed)
    graph = Graph(inputs=["t0"])
    graph.add(Tensor("t0", (rand.randint(1, 5000),)))
    names = ["t0"]
    for i in range(1, steps):
        source = rand.choice(names[-4:])
        shape = graph.tensors[source].shape if rand.random() < 0.5 else (rand.randint(1, 5000),)
        op = "Unary" if shape == graph.tensors[source].shape else "Expand"
        graph.add(Tensor(f"t{i}", shape))
        graph.nodes.append(Node(op, [source], [f"t{i}"]))
        names.append(f"t{i}")
    graph.outputs = [names[-1]]
    graph.prune()
    return graph


def test_living_tensors_are_disjoint() -> None:
    for seed in range(60):
        graph = chain_graph(seed, 25)
        plan = plan_arena(graph)
        items = list(plan.places.items())
        assert plan.arena >= plan.lower_bound
        for i, (name, a) in enumerate(items):
            assert a.offset % 64 == 0
            assert a.offset + graph.tensors[name].bytes <= plan.arena
            for other, b in items[i + 1 :]:
                alive = a.first <= b.last and b.first <= a.last
                apart = a.offset + graph.tensors[name].bytes <= b.offset or b.offset + graph.tensors[other].bytes <= a.offset
                handed_over = a.offset == b.offset and (a.last == b.first or b.last == a.first)
                assert not alive or apart or handed_over, (seed, name, other)


def test_unary_chain_takes_one_place() -> None:
    graph = Graph(inputs=["x"], outputs=["z"])
    for name in ("x", "y", "z"):
        graph.add(Tensor(name, (100,)))
    graph.nodes = [Node("Unary", ["x"], ["y"]), Node("Unary", ["y"], ["z"])]
    assert plan_arena(graph).arena == 448


def test_a_tensor_that_is_read_later_keeps_its_place() -> None:
    graph = Graph(inputs=["x"], outputs=["z"])
    for name in ("x", "y", "z"):
        graph.add(Tensor(name, (100,)))
    graph.nodes = [Node("Unary", ["x"], ["y"]), Node("Binary", ["x", "y"], ["z"])]
    plan = plan_arena(graph)
    assert plan.places["x"].offset != plan.places["y"].offset
    assert "Binary" in IN_PLACE


@pytest.mark.parametrize("name", ["dscnn_kws", "resnet8_cifar", "mtcnn-onet", "fer-mini-xception", "basic-pitch-nmp", "blazeface-front"])
def test_arena_is_within_a_tenth_of_what_is_alive_at_once(name: str) -> None:
    try:
        graph = quantised(name)
    except Unavailable as reason:
        pytest.skip(str(reason))
    plan = plan_arena(graph)
    assert plan.arena <= 1.1 * plan.lower_bound
