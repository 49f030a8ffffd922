# SPDX-License-Identifier: Apache-2.0
"""Fusion before calibration: BatchNormalization takes in a following constant Mul and Add, then convolutions take in BatchNormalization."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import onnx

from .onnx_graph import OnnxGraph, attributes

__all__ = ["fuse"]

Array = npt.NDArray[np.float64]


def _per_channel(graph: OnnxGraph, node: onnx.NodeProto, channels: int, rank: int | None) -> tuple[str, Array] | None:
    """(other input, one factor per channel) when exactly one input is a constant that broadcasts per channel."""
    for index in (0, 1):
        constant = graph.inits.get(node.input[index])
        if constant is None or rank is None or node.input[1 - index] in graph.inits:
            continue
        padded = constant.reshape((1,) * max(rank - constant.ndim, 0) + constant.shape)
        if padded.ndim != rank or padded.size not in (1, channels) or (padded.size > 1 and padded.shape[1] != channels):
            return None
        return node.input[1 - index], np.broadcast_to(padded.ravel(), (channels,)).astype(np.float64)
    return None


def _sole_reader(graph: OnnxGraph, name: str) -> onnx.NodeProto | None:
    readers = graph.consumers().get(name, [])
    return readers[0][0] if len(readers) == 1 and name not in graph.output_names() else None


def _norm_constants(graph: OnnxGraph, node: onnx.NodeProto) -> list[Array] | None:
    arrays = [graph.inits.get(name) for name in node.input[1:5]]
    return [a.astype(np.float64) for a in arrays if a is not None] if all(a is not None for a in arrays) else None


def _drop(graph: OnnxGraph, node: onnx.NodeProto, onto: onnx.NodeProto) -> None:
    """Remove ``node``, whose work ``onto`` now does; ``onto`` takes over the output name."""
    onto.output[0] = node.output[0]
    graph.nodes = [other for other in graph.nodes if other is not node]


def fuse(graph: OnnxGraph, skip: Collection[str] = ()) -> list[str]:
    """Fuse in place; ``skip`` names layers that stay as they are. Returns one line per fused node. Needs ``graph.infer()`` before."""
    done: list[str] = []
    for op in ("Mul", "Add"):
        for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
            line = _scale_into_norm(graph, norm, op, skip)
            if line:
                done.append(line)
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        line = _norm_into_conv(graph, norm, skip)
        if line:
            done.append(line)
    if done:
        graph.drop_unused()
        graph.sort()
    return done


def _scale_into_norm(graph: OnnxGraph, norm: onnx.NodeProto, op: str, skip: Collection[str]) -> str | None:
    """(g*x + b) * c = (g*c)*x + b*c; (g*x + b) + c = g*x + (b + c)."""
    reader = _sole_reader(graph, norm.output[0])
    constants = _norm_constants(graph, norm)
    if reader is None or reader.op_type != op or constants is None or reader.name in skip or norm.name in skip:
        return None
    gamma, beta = constants[0], constants[1]
    found = _per_channel(graph, reader, gamma.size, graph.rank(norm.output[0]))
    if found is None:
        return None
    factor = found[1]
    if op == "Mul":
        norm.input[1] = graph.constant(f"{norm.input[1]}_fused", (gamma * factor).astype(np.float32))
        norm.input[2] = graph.constant(f"{norm.input[2]}_fused", (beta * factor).astype(np.float32))
    else:
        norm.input[2] = graph.constant(f"{norm.input[2]}_fused", (beta + factor).astype(np.float32))
    _drop(graph, reader, norm)
    return f"{op} {reader.name} into BatchNormalization {norm.name}"


def _norm_into_conv(graph: OnnxGraph, norm: onnx.NodeProto, skip: Collection[str]) -> str | None:
    """w' = w * g/sqrt(v+e) per output channel, b' = (b - m) * g/sqrt(v+e) + beta."""
    conv = graph.producers().get(norm.input[0])
    constants = _norm_constants(graph, norm)
    if conv is None or conv.op_type not in ("Conv", "ConvTranspose") or constants is None or conv.name in skip or norm.name in skip:
        return None
    weights = graph.inits.get(conv.input[1])
    bias = graph.inits.get(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
    has_variable_bias = len(conv.input) > 2 and bool(conv.input[2]) and bias is None
    if weights is None or has_variable_bias or _sole_reader(graph, conv.output[0]) is not norm:
        return None
    gamma, beta, mean, variance = constants
    factor = gamma / np.sqrt(variance + np.float64(np.float32(attributes(norm).get("epsilon", 1e-5))))
    start = np.zeros_like(mean) if bias is None else bias.astype(np.float64)
    if conv.op_type == "Conv":
        shaped = factor.reshape(-1, *(1,) * (weights.ndim - 1))
        scaled = weights * shaped
    else:
        group = attributes(conv).get("group", 1)
        by_group = weights.reshape(group, weights.shape[0] // group, *weights.shape[1:])
        scaled = (by_group * factor.reshape(group, 1, weights.shape[1], *(1,) * (weights.ndim - 2))).reshape(weights.shape)
    weight_name = graph.constant(f"{conv.input[1]}_fused", scaled.astype(np.float32))
    bias_name = graph.constant(f"{conv.name}_bias_fused", ((start - mean) * factor + beta).astype(np.float32))
    inputs = [conv.input[0], weight_name, bias_name]
    del conv.input[:]
    conv.input.extend(inputs)
    _drop(graph, norm, conv)
    return f"BatchNormalization {norm.name} into {conv.op_type} {conv.name}"
