# SPDX-License-Identifier: Apache-2.0
"""How close the arena of each network comes to the bytes that are alive at once, which no plan can undercut.

    python tests/e2e/arena.py [NAME ...]

Networks of runtime_c/bench/networks.py and of tests/fetch.py, full int8. What cannot be had is named.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import onnx

from edge8.converter.api import load_graph
from edge8.converter.graph import Graph
from edge8.converter.quant.scheme import Scheme, apply
from edge8.converter.targets.cpu_lite import Plan, plan_arena
from tests.fetch import NETWORKS, Unavailable, bench_networks, network

BUILT = ("dscnn_kws", "mobilenetv1_025_vww", "resnet8_cifar", "squeezenet11", "mobilenetv1", "resnet18", "resnet50", "minilm6")


def quantised(name: str) -> Graph:
    """A network as it is written to a full int8 file. Raises `Unavailable` where it cannot be had."""
    if name in BUILT:
        model: onnx.ModelProto | Path = bench_networks().build(name)
        graph = load_graph(model)
    else:
        graph = load_graph(network(name), NETWORKS[name].shapes)
    apply(graph, Scheme())
    return graph


def plans(names: list[str]) -> Iterator[tuple[str, Plan | str]]:
    """Each network's plan, or why it cannot be had."""
    for name in names:
        try:
            yield name, plan_arena(copy.deepcopy(quantised(name)))
        except Unavailable as reason:
            yield name, str(reason)


def main(names: list[str]) -> None:
    """Print the table."""
    print(f"{'network':24} {'arena':>12} {'alive at once':>14} {'ratio':>7}")
    for name, plan in plans(names or [*BUILT, *NETWORKS]):
        if isinstance(plan, str):
            print(f"{name:24} {plan}")
        else:
            print(f"{name:24} {plan.arena:12,} {plan.lower_bound:14,} {plan.arena / plan.lower_bound:7.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
