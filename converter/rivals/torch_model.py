# SPDX-License-Identifier: Apache-2.0
"""An ONNX model as a torch module, for the runtimes that convert from torch. Operators of common networks; fixed shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

from .contestant import Unusable

__all__ = ["torch_module"]

Values = dict[str, Any]
Attributes = dict[str, Any]
Step = Callable[[list[Any], Attributes], Any]


def _pads(a: Attributes, rank: int, where: str) -> tuple[list[int], list[int] | None]:
    """Symmetric padding, or the list that functional.pad takes."""
    pads = list(a.get("pads", [0] * 2 * rank))
    if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise Unusable(f"{where} with auto_pad has no torch form here")
    if pads[:rank] == pads[rank:]:
        return pads[:rank], None
    return [0] * rank, [p for axis in reversed(range(rank)) for p in (pads[axis], pads[rank + axis])]


def _conv(x: list[Any], a: Attributes) -> Any:
    rank = x[1].dim() - 2
    padding, around = _pads(a, rank, "Conv")
    if around is not None:
        x[0] = functional.pad(x[0], around)
    function = {1: functional.conv1d, 2: functional.conv2d}[rank]
    bias = x[2] if len(x) > 2 else None
    return function(x[0], x[1], bias, a.get("strides", [1] * rank), padding, a.get("dilations", [1] * rank), a.get("group", 1))


def _max_pool(x: list[Any], a: Attributes) -> Any:
    rank = len(a["kernel_shape"])
    padding, around = _pads(a, rank, "MaxPool")
    if around is not None:
        x[0] = functional.pad(x[0], around, value=float("-inf"))
    strides, ceil = a.get("strides", [1] * rank), bool(a.get("ceil_mode", 0))
    return functional.max_pool2d(x[0], a["kernel_shape"], strides, padding, ceil_mode=ceil)


def _average_pool(x: list[Any], a: Attributes) -> Any:
    rank = len(a["kernel_shape"])
    padding, around = _pads(a, rank, "AveragePool")
    if around is not None:
        raise Unusable("AveragePool with asymmetric padding has no torch form here")
    include = bool(a.get("count_include_pad", 0))
    return functional.avg_pool2d(x[0], a["kernel_shape"], a.get("strides", [1] * rank), padding, bool(a.get("ceil_mode", 0)), include)


def _clip(x: list[Any], a: Attributes) -> Any:
    low = x[1] if len(x) > 1 else a.get("min")
    high = x[2] if len(x) > 2 else a.get("max")
    low, high = (None if v is None else float(v) for v in (low, high))
    if (low, high) == (0.0, 6.0):
        return functional.relu6(x[0])
    return torch.clamp(x[0], low, high)


def _gemm(x: list[Any], a: Attributes) -> Any:
    if a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA", 0):
        raise Unusable("Gemm with alpha, beta or transA has no torch form here")
    weights = x[1] if a.get("transB", 0) else x[1].T
    return functional.linear(x[0], weights, x[2] if len(x) > 2 else None)


def _whole(x: Any) -> list[int]:
    return [int(v) for v in (x.tolist() if hasattr(x, "tolist") else x)]


def _reshape(x: list[Any], a: Attributes) -> Any:
    wanted = [x[0].shape[i] if size == 0 else size for i, size in enumerate(_whole(x[1]))]
    return x[0].reshape(wanted)


def _norm(x: list[Any], a: Attributes) -> Any:
    return functional.layer_norm(x[0], x[0].shape[a.get("axis", -1) :], x[1], x[2] if len(x) > 2 else None, a.get("epsilon", 1e-5))


def _mean(x: list[Any], a: Attributes) -> Any:
    axes = _whole(x[1]) if len(x) > 1 else list(a["axes"])
    return x[0].mean(axes, keepdim=bool(a.get("keepdims", 1)))


STEPS: dict[str, Step] = {
    "Add": lambda x, a: x[0] + x[1],
    "Sub": lambda x, a: x[0] - x[1],
    "Mul": lambda x, a: x[0] * x[1],
    "Div": lambda x, a: x[0] / x[1],
    "AveragePool": _average_pool,
    "BatchNormalization": lambda x, a: functional.batch_norm(x[0], x[3], x[4], x[1], x[2], False, 0.0, a.get("epsilon", 1e-5)),
    "Clip": _clip,
    "Concat": lambda x, a: torch.cat(x, a["axis"]),
    "Conv": _conv,
    "Erf": lambda x, a: torch.erf(x[0]),
    "Flatten": lambda x, a: torch.flatten(x[0], a.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x, a: functional.adaptive_avg_pool2d(x[0], 1),
    "HardSigmoid": lambda x, a: torch.clamp(x[0] * a.get("alpha", 0.2) + a.get("beta", 0.5), 0.0, 1.0),
    "HardSwish": lambda x, a: functional.hardswish(x[0]),
    "Identity": lambda x, a: x[0],
    "LayerNormalization": _norm,
    "LeakyRelu": lambda x, a: functional.leaky_relu(x[0], a.get("alpha", 0.01)),
    "MatMul": lambda x, a: x[0] @ x[1],
    "MaxPool": _max_pool,
    "PRelu": lambda x, a: torch.where(x[0] < 0, x[0] * x[1], x[0]),
    "ReduceMean": _mean,
    "Relu": lambda x, a: functional.relu(x[0]),
    "Reshape": _reshape,
    "Sigmoid": lambda x, a: torch.sigmoid(x[0]),
    "Softmax": lambda x, a: torch.softmax(x[0], a.get("axis", -1)),
    "Sqrt": lambda x, a: torch.sqrt(x[0]),
    "Squeeze": lambda x, a: torch.squeeze(x[0], tuple(_whole(x[1]) if len(x) > 1 else a["axes"])),
    "Tanh": lambda x, a: torch.tanh(x[0]),
    "Transpose": lambda x, a: x[0].permute(list(a["perm"])),
}


class _Module(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        graph = model.graph
        arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.nodes = [node for node in graph.node if node.op_type != "Constant"]
        unknown = sorted({node.op_type for node in self.nodes} - set(STEPS))
        if unknown:
            raise Unusable(f"operators without a torch form here: {', '.join(unknown)}")
        self.input = next(i.name for i in graph.input if i.name not in arrays)
        self.output = graph.output[0].name
        self.numbers: Values = {}
        self.keys: dict[str, str] = {}
        for i, (name, array) in enumerate(arrays.items()):
            # Shapes, axes and single numbers stay outside of the module: converters want them constant.
            if array.dtype != np.float32 or array.ndim == 0:
                self.numbers[name] = array if array.ndim else array.item()
                continue
            self.keys[name] = f"constant{i}"
            self.register_parameter(self.keys[name], torch.nn.Parameter(torch.from_numpy(array.copy()), requires_grad=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values: Values = {self.input: x, **self.numbers, **{name: getattr(self, key) for name, key in self.keys.items()}}
        for node in self.nodes:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            values[node.output[0]] = STEPS[node.op_type]([values[name] if name else None for name in node.input], attributes)
        result: torch.Tensor = values[self.output]
        return result


def torch_module(path: Path) -> torch.nn.Module:
    """The model as a module with one input and its first output.

    Raises:
        Unusable: an operator or a form of one is not among those handled; names it.
    """
    return _Module(onnx.load(path)).eval()
