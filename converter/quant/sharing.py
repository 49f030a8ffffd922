# SPDX-License-Identifier: Apache-2.0
"""Whose scale an activation takes: tensors that share one, and scales that the operator or the model gives."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..ops.base import Quantisation, Scales
from .borders import CODE_TYPES

__all__ = ["share_scales"]


class _Groups:
    """Tensors that must have one scale (union-find by name)."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        root = name
        while self.parent.get(root, root) != root:
            root = self.parent[root]
        return root

    def join(self, names: Iterable[str]) -> None:
        """The tensor that comes first in the graph is the one whose scale the others take."""
        roots = [self.find(name) for name in names]
        for root in roots[1:]:
            self.parent[root] = roots[0]


def _given(tensor: Tensor) -> tuple[float, int] | None:
    """The scale that the model itself gives to an int8 activation (a quantised ONNX model), as (scale, zero point)."""
    if tensor.dtype is not DType.INT8 or tensor.constant or tensor.scale is None:
        return None
    return float(tensor.scale[0]), tensor.zero_point


def _separate_fixed(graph: Graph, forms: dict[int, Quantisation]) -> dict[str, tuple[float, int]]:
    """Put a table between a tensor of fixed scale and an operator that would impose another one (Softmax into Concat).

    Returns:
        The scale of every tensor that has a fixed one.
    """
    fixed = {t.name: given for t in graph.activations() if (given := _given(t)) is not None}
    nodes: list[Node] = []
    for node in graph.nodes:
        form = forms.get(id(node))
        if form is not None and form.scales is Scales.FIXED:
            fixed.update(dict.fromkeys(node.outputs, form.fixed))
        if form is not None and form.scales is Scales.SAME:
            positions = [p for p in form.data if p < len(node.inputs) and node.inputs[p]]
            found = [fixed.get(node.inputs[p]) for p in positions]
            wanted = fixed.get(node.outputs[0]) or (found[0] if len(set(found)) == 1 else None)
            for p, preset in zip(positions, found, strict=True):
                if preset is not None and preset != wanted:
                    source = graph.tensors[node.inputs[p]]
                    name = graph.add(Tensor(graph.fresh(f"{source.name}_rescaled"), source.shape, source.dtype))
                    nodes.append(Node("Unary", [source.name], [name], {"kind": 0}, name=f"{source.name}_rescale"))
                    node.inputs[p] = name
            if wanted is not None:
                fixed.update(dict.fromkeys((*(node.inputs[p] for p in positions), *node.outputs), wanted))
        nodes.append(node)
    graph.nodes = nodes
    return fixed


def share_scales(graph: Graph, forms: dict[int, Quantisation]) -> None:
    """Note in each int8 activation whose scale it takes, and which scales are given by the operator."""
    fixed = _separate_fixed(graph, forms)
    groups = _Groups()
    for node in graph.nodes:
        form = forms.get(id(node))
        if form is not None and form.scales is Scales.SAME:
            groups.join([*(node.inputs[p] for p in form.data if p < len(node.inputs) and node.inputs[p]), *node.outputs])
    for name, given in fixed.items():
        graph.tensors[groups.find(name)].preset = given
    for tensor in graph.activations():
        tensor.scale, tensor.zero_point = None, 0
        root = groups.find(tensor.name)
        if root != tensor.name:
            tensor.share = root
    _take_presets(graph)


def _covering(low: float, high: float, dtype: DType) -> tuple[float, int]:
    """Scale and zero point of codes that reach from ``low`` to ``high`` and have a code for zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    if dtype is DType.INT16:
        return float(np.float32(max(-low, high) / 32767)) or 1.0, 0
    scale = float(np.float32((high - low) / 255)) or 1.0
    return scale, round(-128 - low / scale)


def _take_presets(graph: Graph) -> None:
    """When every scale is given, there is nothing to calibrate: the tensors have their scales at once."""
    coded = [t for t in graph.activations() if t.dtype in CODE_TYPES.values()]
    given = {t.name: graph.tensors[t.share or t.name].preset for t in coded}
    for node in graph.nodes:  # a constant operand has its own range
        source = graph.tensors[node.inputs[0]] if node.op == "Quantize" else None
        if source is not None and source.data is not None and given[node.outputs[0]] is None:
            given[node.outputs[0]] = _covering(float(source.data.min()), float(source.data.max()), graph.tensors[node.outputs[0]].dtype)
    if None in given.values():
        return
    for tensor in coded:
        preset = given[tensor.name]
        assert preset is not None
        tensor.scale, tensor.zero_point = np.array([preset[0]], np.float32), preset[1]
        tensor.share, tensor.preset = "", None
