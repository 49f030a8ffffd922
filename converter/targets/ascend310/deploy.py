# SPDX-License-Identifier: Apache-2.0
"""The deploy form: AscendQuant -> int8 layer with int32 bias -> AscendDequant, all in the default domain, as ATC's parser takes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from .arq import deq_scales
from .factors import Quantised, TensorFactors
from .onnx_graph import OnnxGraph, make_node

__all__ = ["deploy_graph", "pack_deq_scales", "save_model", "unpack_deq_scales"]

Array = npt.NDArray[Any]
# protobuf messages end at 2 GB; a little room is left for the graph itself.
_EXTERNAL_LIMIT = (1 << 31) - (1 << 26)


def pack_deq_scales(scales: Array) -> Array:
    """uint64: float32 bits in 31..0, shift N (0) in 39..32, weight offset (0) in 47..40."""
    return np.ascontiguousarray(scales, dtype=np.float32).view(np.uint32).astype(np.uint64)


def unpack_deq_scales(packed: Array) -> Array:
    """float32 scales of the low 32 bits."""
    return (np.asarray(packed, dtype=np.uint64) & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32)


def quant_node(name: str, x: str, scale_d: np.float32, offset_d: int) -> onnx.NodeProto:
    """AscendQuant; ``scale`` is f32(1/scale_d), both factors FLOAT (an INT would be read as 0)."""
    node = make_node("AscendQuant", [x], [f"{name}.output0"], name)
    inverse = np.float32(1.0) / np.float32(scale_d)
    node.attribute.extend(
        [
            onnx.helper.make_attribute("scale", float(inverse)),
            onnx.helper.make_attribute("offset", float(offset_d)),
            onnx.helper.make_attribute("dst_type", "INT8"),
        ]
    )
    return node


class _Builder:
    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph.copy()
        self.by_name = {node.name: node for node in self.graph.nodes}
        self.quants: dict[tuple[str, float, int], str] = {}
        self.outputs = self.graph.output_names()

    def quantised(self, name: str, x: str, scale_d: np.float32, offset_d: int) -> str:
        """The int8 form of ``x``; equal quantisers of one value are one node."""
        key = (x, float(scale_d), offset_d)
        if key not in self.quants:
            node = quant_node(name, x, scale_d, offset_d)
            self.graph.nodes.append(node)
            self.quants[key] = node.output[0]
        return self.quants[key]

    def layer(self, entry: Quantised) -> None:
        layer, factors, graph = entry.layer, entry.factors, self.graph
        node = self.by_name[layer.name]
        entrance = self.by_name[layer.pad] if layer.pad else node
        entrance.input[0] = self.quantised(f"{layer.name}.quant", entrance.input[0], factors.scale_d, factors.offset_d)
        if layer.pad and len(entrance.input) > 2 and entrance.input[2]:
            entrance.input[2] = graph.constant(f"{layer.pad}_zero", np.zeros(graph.inits[entrance.input[2]].shape, dtype=np.int8))
        if entry.weights is not None:
            graph.inits[layer.weight] = entry.weights
        if entry.bias is not None:
            graph.inits[layer.bias] = entry.bias
        last = self.by_name[layer.bias_add] if layer.bias_add else node
        self.dequantise(layer.name, last, deq_scales(factors.scale_d, factors.scale_w))

    def dequantise(self, name: str, node: onnx.NodeProto, scales: Array) -> None:
        """AscendDequant behind ``node``. A graph output keeps its name: the layer's own output becomes ``<layer>_output0``."""
        graph, old = self.graph, node.output[0]
        param = f"{name}.dequant.param"
        graph.inits[param] = pack_deq_scales(scales)
        if old in self.outputs:
            node.output[0] = f"{node.name}_output0"
            result = old
        else:
            result = f"{name}.dequant.output0"
            graph.rename_uses(old, result)
            self.quants = {(result if x == old else x, s, o): out for (x, s, o), out in self.quants.items()}
        dequant = make_node("AscendDequant", [node.output[0], param], [result], f"{name}.dequant", dtype=0)
        graph.nodes.append(dequant)

    def tensor(self, entry: TensorFactors) -> None:
        """Quantise and restore one input: AscendQuant -> AscendAntiQuant."""
        node = self.by_name[entry.name]
        base = f"{entry.name}.input{entry.index}"
        x = self.quantised(f"{base}.quant", node.input[entry.index], entry.scale_d, entry.offset_d)
        back = make_node("AscendAntiQuant", [x], [f"{base}.antiquant.output0"], f"{base}.antiquant")
        back.attribute.extend(
            [onnx.helper.make_attribute("scale", float(entry.scale_d)), onnx.helper.make_attribute("offset", float(entry.offset_d))]
        )
        self.graph.nodes.append(back)
        node.input[entry.index] = back.output[0]


def deploy_graph(graph: OnnxGraph, layers: Sequence[Quantised], tensors: Sequence[TensorFactors] = ()) -> OnnxGraph:
    """The deploy form of a prepared float graph; the float graph is left alone."""
    builder = _Builder(graph)
    for entry in layers:
        builder.layer(entry)
    for tensor in tensors:
        builder.tensor(tensor)
    builder.graph.sort()
    builder.graph.drop_unused()
    builder.graph.types = {}
    return builder.graph


def save_model(graph: OnnxGraph, path: Path, limit: int = _EXTERNAL_LIMIT) -> list[Path]:
    """Write a model; beyond ``limit`` bytes the large initialisers go to ``<init>_deploy.external`` beside it. Returns all files."""
    total = sum(array.nbytes for array in graph.inits.values())
    if total < limit:
        path.write_bytes(graph.to_model().SerializeToString(deterministic=True))
        return [path]
    files = [path]
    slim = graph.copy()
    large = {name: array for name, array in graph.inits.items() if array.nbytes >= 1024 and array.dtype != np.uint64}
    slim.inits = {name: array for name, array in graph.inits.items() if name not in large}
    model = slim.to_model()
    for number, (name, array) in enumerate(large.items()):
        safe = "".join(c if c.isalnum() or c in "_-." else "_" for c in name)
        file = path.parent / f"{safe}_deploy.external"
        if file in files:
            file = path.parent / f"{safe}_{number}_deploy.external"
        array.astype(array.dtype.newbyteorder("<"), copy=False).tofile(file)
        files.append(file)
        tensor = model.graph.initializer.add()
        tensor.name, tensor.data_type = name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.dims.extend(array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", file.name), ("offset", "0"), ("length", str(array.nbytes))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString(deterministic=True))
    return files
