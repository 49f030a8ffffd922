# SPDX-License-Identifier: Apache-2.0
"""Rewrites for ATC and for quantisation that keep the meaning: one function per rewrite, listed in REWRITES with what it does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from .kernels import same_pads
from .onnx_graph import OnnxGraph, attributes, make_node

__all__ = ["REWRITES", "rewrite"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _set(node: onnx.NodeProto, **attrs: object) -> None:
    """Replace attributes; None removes."""
    kept = {**attributes(node), **attrs}
    del node.attribute[:]
    for key in sorted(kept):
        if kept[key] is not None:
            node.attribute.append(helper.make_attribute(key, kept[key]))


def explicit_pads(graph: OnnxGraph) -> int:
    """auto_pad and ConvTranspose's output_shape become numbers."""
    count = 0
    for node in graph.nodes:
        if node.op_type not in ("Conv", "ConvTranspose", "MaxPool", "AveragePool"):
            continue
        attrs = attributes(node)
        auto = attrs.get("auto_pad", "NOTSET")
        if auto in ("NOTSET", "") and not attrs.get("output_shape"):
            if "auto_pad" in attrs:
                _set(node, auto_pad=None)
            continue
        weights = graph.inits.get(node.input[1]) if len(node.input) > 1 else None
        kernel = attrs.get("kernel_shape") or (list(weights.shape[2:]) if weights is not None else None)
        shape = graph.shape(node.input[0])
        if kernel is None or (shape is None and auto != "VALID"):
            continue
        rank = len(kernel)
        strides, dilations = attrs.get("strides", [1] * rank), attrs.get("dilations", [1] * rank)
        if node.op_type == "ConvTranspose":
            pads, extra = _transpose_pads(attrs, shape or [], kernel, strides, dilations)
            _set(node, auto_pad=None, output_shape=None, pads=pads, output_padding=extra)
        else:
            pads = [0] * (2 * rank) if auto == "VALID" else same_pads(auto, (shape or [])[2:], kernel, strides, dilations)
            _set(node, auto_pad=None, pads=pads)
        count += 1
    return count


def _transpose_pads(
    attrs: dict, shape: list[int], kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[int], list[int]]:  # type: ignore[type-arg]
    rank = len(kernel)
    extra = list(attrs.get("output_padding", [0] * rank))
    wanted = list(attrs.get("output_shape") or [])[-rank:]
    auto = attrs.get("auto_pad", "NOTSET")
    if not wanted:
        if auto not in ("SAME_UPPER", "SAME_LOWER"):
            return list(attrs.get("pads", [0] * (2 * rank))), extra
        wanted = [shape[2 + i] * strides[i] for i in range(rank)]
    begins, ends = [], []
    for i in range(rank):
        total = strides[i] * (shape[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - wanted[i]
        if total < 0:
            extra[i] -= total
            total = 0
        small, large = total // 2, total - total // 2
        begins.append(small if auto == "SAME_UPPER" else large)
        ends.append(large if auto == "SAME_UPPER" else small)
    return begins + ends, extra


def pad_into_conv(graph: OnnxGraph) -> int:
    """A zero Pad of the spatial axes that feeds convolutions only moves into their pads (limit of the chip: 255)."""
    count, consumers, outputs = 0, graph.consumers(), graph.output_names()
    for node in graph.nodes:
        if node.op_type != "Pad" or attributes(node).get("mode", "constant") != "constant" or node.output[0] in outputs:
            continue
        pads = graph.inits.get(node.input[1]) if len(node.input) > 1 else None
        value = graph.inits.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        if pads is None or value is None or pads.size < 6 or float(value.ravel()[0]) != 0.0:
            continue
        rank = pads.size // 2
        if pads[:2].any() or pads[rank : rank + 2].any() or (pads < 0).any():
            continue
        spatial = [int(p) for p in [*pads[2:rank], *pads[rank + 2 :]]]
        readers = consumers.get(node.output[0], [])
        if not readers or any(
            r.op_type != "Conv" or index != 0 or attributes(r).get("auto_pad", "NOTSET") not in ("NOTSET", "") for r, index in readers
        ):
            continue
        merged = []
        for reader, _ in readers:
            own = attributes(reader).get("pads", [0] * len(spatial))
            merged.append([a + b for a, b in zip(own, spatial, strict=True)])
        if any(max(pads_of) > 255 for pads_of in merged):
            continue
        for (reader, _), total in zip(readers, merged, strict=True):
            _set(reader, pads=total)
            reader.input[0] = node.input[0]
        count += 1
    if count:
        graph.drop_unused()
    return count


def conv1d_to_conv2d(graph: OnnxGraph) -> int:
    """Conv and ConvTranspose over one axis get a height of 1: the quantiser takes 4-D filters only."""
    count, nodes = 0, []
    for node in graph.nodes:
        weights = graph.inits.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type not in ("Conv", "ConvTranspose") or weights is None or weights.ndim != 3 or graph.rank(node.input[0]) != 3:
            nodes.append(node)
            continue
        attrs = attributes(node)
        if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "") or attrs.get("output_shape"):
            nodes.append(node)
            continue
        for key, fill in (("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("output_padding", 0)):
            if key in attrs:
                attrs[key] = [fill, *attrs[key]]
        if "pads" in attrs:
            attrs["pads"] = [0, attrs["pads"][0], 0, attrs["pads"][1]]
        wide, out = graph.fresh(f"{node.output[0]}_in2d"), graph.fresh(f"{node.output[0]}_2d")
        weight = graph.constant(f"{node.input[1]}_2d", weights[:, :, None, :])
        nodes += [
            _axes_node(graph, "Unsqueeze", node.input[0], wide, graph.fresh(f"{node.name}_to2d")),
            make_node(node.op_type, [wide, weight, *node.input[2:]], [out], node.name, **attrs),
            _axes_node(graph, "Squeeze", out, node.output[0], graph.fresh(f"{node.name}_to1d")),
        ]
        count += 1
    graph.nodes = nodes
    if count:
        graph.drop_unused()
    return count


def _axes_node(graph: OnnxGraph, op: str, x: str, y: str, name: str) -> onnx.NodeProto:
    if graph.opset >= 13:
        return make_node(op, [x, graph.constant(f"{name}_axes", [2], np.int64)], [y], name)
    return make_node(op, [x], [y], name, axes=[2])


def plain_gemm(graph: OnnxGraph) -> int:
    """Gemm with constant B: transB, alpha, beta and a broadcast C are folded; transA becomes a Transpose."""
    count, nodes = 0, []
    for node in graph.nodes:
        weights = graph.inits.get(node.input[1]) if node.op_type == "Gemm" else None
        if weights is None:
            nodes.append(node)
            continue
        attrs = attributes(node)
        changed = False
        alpha, beta = attrs.get("alpha", 1.0), attrs.get("beta", 1.0)
        if attrs.get("transA", 0):
            moved = graph.fresh(f"{node.output[0]}_a")
            nodes.append(make_node("Transpose", [node.input[0]], [moved], graph.fresh(f"{node.name}_transA"), perm=[1, 0]))
            node.input[0] = moved
            changed = True
        if attrs.get("transB", 0) or alpha != 1.0:
            weights = np.ascontiguousarray(weights.T) if attrs.get("transB", 0) else weights
            weights = (weights * np.float32(alpha)).astype(np.float32) if alpha != 1.0 else weights
            node.input[1] = graph.constant(f"{node.input[1]}_kn", weights)
            changed = True
        bias = graph.inits.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if bias is not None:
            columns = weights.shape[1]
            flat = bias.reshape(-1) if bias.ndim < 2 or bias.shape[0] == 1 else None
            if flat is not None and (flat.size == columns or flat.size == 1) and (bias.shape != (columns,) or beta != 1.0):
                value = np.broadcast_to(flat, (columns,)) * np.float32(beta)
                node.input[2] = graph.constant(f"{node.input[2]}_n", value.astype(np.float32))
                beta, changed = 1.0, True
        if changed or attrs:
            _set(node, transA=None, transB=None, alpha=None, beta=None if beta == 1.0 else beta)
        count += changed
        nodes.append(node)
    graph.nodes = nodes
    if count:
        graph.drop_unused()
    return count


def own_weights(graph: OnnxGraph) -> int:
    """Every layer reads weights and bias of its own: AMCT and ATC refuse to quantise shared ones."""
    count, seen = 0, set()
    for node in graph.nodes:
        for index, name in enumerate(node.input):
            if name not in graph.inits or not name:
                continue
            weighted = node.op_type in _WEIGHTED and index > 0
            if name in seen and weighted:
                node.input[index] = graph.constant(f"{name}_of_{node.name or node.output[0]}", graph.inits[name])
                count += 1
            seen.add(name)
    # A weight that another kind of node read first is caught in a second round from the back.
    readers = graph.consumers()
    for node in graph.nodes:
        for index, name in enumerate(node.input):
            if index and node.op_type in _WEIGHTED and name in graph.inits and len(readers.get(name, [])) > 1:
                node.input[index] = graph.constant(f"{name}_of_{node.name or node.output[0]}", graph.inits[name])
                count += 1
                readers = graph.consumers()
    return count


def positive_gather(graph: OnnxGraph) -> int:
    """Constant negative indices of Gather count from the front: ATC's GatherV2 reads them unsigned."""
    count = 0
    for node in graph.nodes:
        if node.op_type != "Gather":
            continue
        indices, shape = graph.inits.get(node.input[1]), graph.shape(node.input[0])
        if indices is None or shape is None or not (indices < 0).any():
            continue
        size = shape[attributes(node).get("axis", 0) % len(shape)]
        node.input[1] = graph.constant(f"{node.input[1]}_positive", np.where(indices < 0, indices + size, indices).astype(indices.dtype))
        count += 1
    return count


def kernel_shapes(graph: OnnxGraph) -> int:
    """Conv without kernel_shape gets the weights' own."""
    count = 0
    for node in graph.nodes:
        if node.op_type in ("Conv", "ConvTranspose") and "kernel_shape" not in attributes(node):
            weights = graph.inits.get(node.input[1])
            if weights is not None:
                _set(node, kernel_shape=list(weights.shape[2:]))
                count += 1
    return count


# Order matters: pads are explicit before they are merged, weights are 2-D before they are made each layer's own.
REWRITES: tuple[tuple[str, Callable[[OnnxGraph], int]], ...] = (
    ("auto_pad and output_shape made explicit", explicit_pads),
    ("zero Pad moved into Conv", pad_into_conv),
    ("1-D convolution made 2-D", conv1d_to_conv2d),
    ("Gemm brought to A*B+C with constants folded", plain_gemm),
    ("shared weights copied for each layer", own_weights),
    ("negative Gather indices made positive", positive_gather),
    ("kernel_shape filled in", kernel_shapes),
)


def rewrite(graph: OnnxGraph, notes: list[str]) -> None:
    """Run all rewrites in place; what was changed goes to ``notes``."""
    for label, function in REWRITES:
        graph.infer()
        count = function(graph)
        if count:
            notes.append(f"{label}: {count}")
    graph.sort()
