# SPDX-License-Identifier: Apache-2.0
"""Bias correction: rounded weights shift a layer's mean output; the bias takes the shift back.

The shift of output channel o is ``sum over k of (code * scale - weight)[o, k] * mean(input k)``, from the float model's mean inputs.
Any number of network inputs, every operator with weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edge8 import Model
from edge8 import Tensor as RuntimeTensor
from edge8._library import lib

from ..crc32c import crc32c
from ..errors import ConvertError
from ..graph import Graph, Node
from .matrices import input_rows, per_channel, positions_of, to_matrix
from .statistics import InputStatistics, Statistics, chosen_positions, linear_nodes, residual_name
from .weights import BIAS_INPUT, Codes

__all__ = ["correct_activation_bias", "correct_bias", "mean_shift"]

Array = np.ndarray[Any, Any]


def mean_shift(node: Node, weights: Array, codes: Codes, statistics: InputStatistics) -> Array:
    """Mean change of each output channel, ``[channels]``, that quantised weights make."""
    scale = per_channel(node, codes.scale, weights.shape)
    difference = to_matrix(node, codes.codes).astype(np.float64) * scale[:, :, None] - to_matrix(node, weights)
    shift = np.einsum("grk,gk->gr", difference, statistics.mean)
    if node.op == "ConvTranspose2D":
        # A kernel position reaches an output position about once in stride_h * stride_w.
        taps = weights.shape[1] * weights.shape[2]
        reach = node.params.get("stride_h", 1) * node.params.get("stride_w", 1)
        return np.asarray(shift.reshape(-1, taps).sum(axis=1) / reach)
    return np.asarray(shift.reshape(-1))


def correct_bias(graph: Graph, node: Node, shift: Array) -> None:
    """Subtract a shift ``[channels]`` from a node's bias; adds one where there is none."""
    node.inputs += [""] * (BIAS_INPUT + 1 - len(node.inputs))
    name = node.inputs[BIAS_INPUT]
    old = graph.tensors[name].data if name else None
    bias = (0.0 if old is None else old.astype(np.float64)) - shift
    node.inputs[BIAS_INPUT] = graph.constant(bias.astype(np.float32), f"{name or node.name}_corrected")


class _Steps:
    """One session per sample, stepped through the operators together."""

    def __init__(self, model: Model, samples: Iterable[Mapping[str, Array]], most: int) -> None:
        self.model = model
        self.sessions: list[Any] = []
        for sample in samples:
            if len(self.sessions) == most:
                break
            session = model.session()
            for i, tensor in enumerate(model.inputs):
                session.input_view(i)[...] = sample[tensor.name]
            self.sessions.append(session)

    def real(self, session: Any, tensor: RuntimeTensor) -> Array:
        """An activation as real numbers."""
        x = session.tensor(tensor.index)
        if tensor.scale == 0:
            return np.asarray(x)
        return np.asarray((x.astype(np.float32) - np.float32(tensor.zero_point)) * np.float32(tensor.scale))

    def step(self, op: int) -> None:
        """Run one operator in every session."""
        for session in self.sessions:
            if lib.e8_session_step(session._session, op) != 0:
                raise ConvertError("a sample cannot be run in int8", rule="quant.run", where=f"operator {op}")


def _input_shifts(
    steps: _Steps,
    node: Node,
    tensor: RuntimeTensor,
    reference: InputStatistics,
    shape: tuple[int, ...],
    number: int,
    take: int,
    positions: int,
) -> Array:
    """Per sample the mean int8 input minus the mean float input, ``[samples, groups, K]``."""
    shifts = []
    for sample, session in enumerate(steps.sessions):
        rows = input_rows(node, steps.real(session, tensor), shape, chosen_positions(number, sample, positions, take))
        shifts.append(rows.mean(axis=1, dtype=np.float64) - reference.means[sample])
    return np.stack(shifts)


def correct_activation_bias(
    data: bytes, graph: Graph, reference: Statistics, samples: Iterable[Mapping[str, Array]], *, rows: int
) -> bytes:
    """Take back the mean shift that quantised activations bring into each layer, in a full-int8 file.

    The int8 model runs on the samples operator by operator, all samples in step; before an operator with weights its bias takes
    ``weights @ (mean int8 input - mean float input)`` and the like for its residual: the median over the samples, so that a few samples
    with clipped outliers do not bend all others. Later layers see the corrected ones before them.

    Args:
        data: the file.
        graph: the quantised graph that it was written from; every operator with weights has a bias of its own.
        reference: of the float graph: the same samples first, the same ``rows``.
        samples: inputs; as many are used as ``reference`` has seen.
        rows: as given to `statistics.gather`.

    Returns:
        The file with other biases.
    """
    model = Model(data)
    steps = _Steps(model, samples, reference.samples)
    by_name = {t.name: t for t in model.tensors}
    numbers = {id(node): i for i, node in enumerate(linear_nodes(graph))}
    take = max(1, rows // reference.samples)
    for op, node in enumerate(graph.nodes):
        number = numbers.get(id(node))
        if number is not None and by_name[node.inputs[0]].scale > 0 and node.op != "ConvTranspose2D":
            weights = graph.tensors[node.inputs[1]]
            assert weights.data is not None
            assert weights.scale is not None
            positions = positions_of(node, by_name[node.inputs[0]].shape, by_name[node.outputs[0]].shape)
            shifts = _input_shifts(steps, node, by_name[node.inputs[0]], reference.inputs[number], weights.shape, number, take, positions)
            matrix = to_matrix(node, weights.data).astype(np.float64) * per_channel(node, weights.scale, weights.shape)[:, :, None]
            moved = np.einsum("grk,sgk->sgr", matrix, shifts).reshape(len(shifts), -1)
            residual = residual_name(node)
            wanted = reference.residuals[number]
            if residual and wanted is not None:
                parts = [steps.real(s, by_name[residual]) for s in steps.sessions]
                moved += np.stack([p.reshape(-1, p.shape[-1]).mean(axis=0, dtype=np.float64) for p in parts]) - wanted
            shift = np.median(moved, axis=0)
            # The bias is read when the operator runs: writing it where the opened file lies changes this run and the result.
            stored = steps.sessions[0].tensor(by_name[node.inputs[BIAS_INPUT]].index).view("<f4")
            stored[...] = (stored.astype(np.float64) - shift).astype(np.float32)
        steps.step(op)
    content = bytearray(model.file_content().tobytes())
    content[8:12] = crc32c(bytes(content[12:])).to_bytes(4, "little")
    return bytes(content)
