# SPDX-License-Identifier: Apache-2.0
"""From a float graph and a scheme to a file: the step that conversions and searches share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from edge8 import Model
from edge8.calibrate import Calibration

from ..graph import Graph, Node
from ..memory import give_back
from ..targets.cpu_lite import write
from .bounded_weights import bounded_layers
from .corrections import Improved
from .observations import BY_RUN, completed
from .scheme import Decision, Scheme, apply
from .weights import BIAS_INPUT, WEIGHTS_INPUT

__all__ = ["assemble", "calibrated", "file_with", "with_float_weights"]

Sample = Mapping[str, np.ndarray[Any, Any]]


def file_with(graph: Graph, scheme: Scheme) -> tuple[bytes, list[Decision], Graph]:
    """The file of a graph under a scheme, not calibrated: bytes, a decision per node, and the quantised graph."""
    quantised = graph.copy()
    decisions = apply(quantised, scheme)
    if scheme.mode == "full" or scheme.calibratable:
        quantised.metadata["reasons"] = {d.node: d.reason for d in decisions if d.reason}
    if scheme.mode == "dynamic":
        quantised.metadata["dynamic"] = [d.node for d in decisions if d.domain == "dynamic"]
    if scheme.bounded_weights == "on":
        quantised.metadata["bounded_weights"] = list(bounded_layers(quantised))
    data = write(quantised, scheme.entropy)
    give_back()
    return data, decisions, quantised


def calibrated(
    data: bytes, samples: Iterable[Sample], improved: Improved, *, method: str, percentile: float, threads: int
) -> tuple[bytes, int]:
    """The file with ranges from samples, and their number; a file without int8 activations stays as it is.

    What the corrections saw of the samples is enough, but for methods that look at each run by itself: the file is run for them.
    """
    model = Model(data)
    if model.calibrated:
        return data, 0
    if improved.seen is not None and method not in BY_RUN:
        return completed(data, improved.seen, method=method, percentile=percentile), improved.samples
    calibration = Calibration(model)
    count = calibration.run(samples, threads)
    return calibration.fill(method, percentile), count


def with_float_weights(improved: Improved, outputs: Iterable[str]) -> Graph:
    """The corrected graph, in which some nodes (by their first output) have their float weights and biases again."""
    wanted = set(outputs)
    result = improved.graph.copy()
    if improved.graph is improved.base:
        return result
    originals: dict[str, Node] = {node.outputs[0]: node for node in improved.base.nodes}
    for node in result.nodes:
        if node.outputs[0] not in wanted or node.op not in WEIGHTS_INPUT:
            continue
        original = originals[node.outputs[0]]
        for position in (WEIGHTS_INPUT[node.op], BIAS_INPUT):
            if position < len(original.inputs) and original.inputs[position]:
                tensor = improved.base.tensors[original.inputs[position]]
                if tensor.constant and tensor.data is not None:
                    node.inputs[position] = result.constant(tensor.data, f"{tensor.name}_float32")
        del node.inputs[len(original.inputs) :]
        for position, name in enumerate(original.inputs):
            if not name:
                node.inputs[position] = ""
    result.prune()
    return result


def assemble(
    improved: Improved, scheme: Scheme, samples: Callable[[], Iterable[Sample]], *, method: str, percentile: float, threads: int
) -> tuple[bytes, list[Decision], int]:
    """The calibrated file of a corrected graph under a scheme whose ``levels`` keep some nodes in float.

    Returns:
        The file, a decision per node, the number of calibration samples.
    """
    data, decisions, _ = file_with(with_float_weights(improved, scheme.levels), scheme)
    data, count = calibrated(data, samples(), improved, method=method, percentile=percentile, threads=threads)
    return data, decisions, count
