# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph in the making: values of graph tensors in either layout, QuantizeLinear and DequantizeLinear around them.

The device computes rank-4 data as [N,H,W,C], ONNX's spatial operators as [N,C,H,W]. Every tensor may therefore be had in its own
layout (``LAST``) or with the channels in front (``FIRST``); a Transpose is added when somebody asks for the one that is not there.
Operators that do not care stay in the layout in which their data arrives, so that Transposes remain at the edges.

Results shall be the device's, code for code. onnxruntime computes DequantizeLinear, Conv or Gemm, QuantizeLinear as one integer
operator with the same rule (int32 sums, one float32 multiplication, round to even). Where the device does something else, such as a
residual that enters the sum as a whole number, `steps` and `bind_steps` spell its arithmetic out in whole numbers, which float32
holds exactly, and put the result on the grid of the output's scale before QuantizeLinear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...errors import ConvertError
from ...graph import DType, Graph, Node, Tensor

__all__ = ["FIRST", "FROM_FIRST", "LAST", "TO_FIRST", "Array", "Builder", "Emitter", "emitter", "emitters", "permuted"]

Array = np.ndarray[Any, Any]
LAST, FIRST = "last", "first"
TO_FIRST = (0, 3, 1, 2)  # axis i of FIRST is axis TO_FIRST[i] of LAST
FROM_FIRST = (0, 2, 3, 1)

ONNX_TYPES = {
    DType.FLOAT32: TensorProto.FLOAT,
    DType.INT8: TensorProto.INT8,
    DType.INT16: TensorProto.INT16,
    DType.INT32: TensorProto.INT32,
    DType.INT64: TensorProto.INT64,
    DType.BOOL: TensorProto.BOOL,
    DType.UINT8: TensorProto.UINT8,
}

Emitter = Callable[["Builder", Node], None]
_EMITTERS: dict[str, Emitter] = {}


def emitter(*ops: str) -> Callable[[Emitter], Emitter]:
    """Decorator: this function writes graph nodes of these operators as ONNX nodes."""

    def wrap(function: Emitter) -> Emitter:
        for op in ops:
            _EMITTERS[op] = function
        return function

    return wrap


def emitters() -> dict[str, Emitter]:
    """Every emitter by operator."""
    return _EMITTERS


def permuted(values: Sequence[Any], layout: str) -> list[Any]:
    """One value per axis of a rank-4 tensor, in the order of a layout."""
    return [values[a] for a in TO_FIRST] if layout == FIRST else list(values)


class Builder:
    """Collects ONNX nodes and initialisers.

    Attributes:
        graph: what is exported.
        opset: version of the ONNX operators.
        unsigned: write int8 codes as uint8, code + 128 and zero point + 128: the same numbers.
        nodes, initialisers: what has been written.
        codes: ONNX names of quantised activations, by graph tensor, each in the layout that it was computed in.
    """

    def __init__(self, graph: Graph, opset: int, *, unsigned: bool = True) -> None:
        self.graph = graph
        self.opset = opset
        self.unsigned = unsigned
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self.codes: dict[str, tuple[str, str]] = {}
        self._values: dict[str, dict[str, str]] = {}
        self._used: set[str] = set(graph.inputs)
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], str] = {}

    # ---- writing ---------------------------------------------------------------------------------------------------------------------

    def fresh(self, hint: str) -> str:
        """A name that nobody uses."""
        name, number = hint or "t", 0
        while name in self._used:
            number += 1
            name = f"{hint}_{number}"
        self._used.add(name)
        return name

    def op(self, kind: str, inputs: Sequence[str], hint: str, **attributes: Any) -> str:
        """Add a node with one output; gives the output's name."""
        result = self.fresh(hint)
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(kind, list(inputs), [result], name=f"{result}:{kind}", **given))
        return result

    def constant(self, array: Array, hint: str, *, shared: bool = True) -> str:
        """An initialiser; equal ones are written once unless they must not be ``shared`` (onnxruntime rewrites those of weights)."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (array.dtype.str, array.tobytes(), array.shape)
        if shared and key in self._constants:
            return self._constants[key]
        name = self.fresh(hint)
        self.initialisers.append(numpy_helper.from_array(array, name))
        if shared:
            self._constants[key] = name
        return name

    def integers(self, values: Sequence[int], hint: str) -> str:
        """An initialiser of int64."""
        return self.constant(np.asarray(values, np.int64), hint)

    def number(self, value: float, hint: str) -> str:
        """A float32 scalar."""
        return self.constant(np.asarray(value, np.float32), hint)

    def fail(self, node: Node, reason: str, hint: str = "") -> ConvertError:
        """The error of a node that has no ONNX form."""
        return ConvertError(
            reason, rule="onnx_qdq.node", where=f"{node.op} node '{node.name}'", hint=hint or "Convert for cpu-lite instead"
        )

    # ---- reading ---------------------------------------------------------------------------------------------------------------------

    def tensor(self, name: str) -> Tensor:
        """The graph's tensor."""
        return self.graph.tensors[name]

    def quantised(self, tensor: Tensor) -> bool:
        """Whether a tensor is an activation with a scale."""
        return not tensor.constant and tensor.scale is not None and tensor.dtype in (DType.INT8, DType.INT16)

    def layout(self, names: Sequence[str]) -> str:
        """The layout in which an operator that does not care should work on these tensors: FIRST when an activation of rank 4 is there in
        it only, and the others can be had in it."""
        active = [name for name in names if name and not self.tensor(name).constant]
        wants = any(FIRST in self._values[n] and LAST not in self._values[n] for n in active)
        fits = all(len(self.tensor(n).shape) == 4 or self.tensor(n).elements == 1 for n in active)
        fits = fits and all(len(self.tensor(n).shape) <= 4 for n in names if n)
        return FIRST if wants and fits else LAST

    def value(self, name: str, layout: str = LAST) -> str:
        """ONNX name of a tensor's numbers (codes are dequantised) in a layout."""
        tensor = self.tensor(name)
        found = self._values.setdefault(name, {})
        if layout in found:
            return found[layout]
        if tensor.constant:
            found[layout] = self._constant_value(tensor, layout)
        elif layout == FIRST and len(tensor.shape) != 4:
            return self.value(name, LAST)  # one element
        else:
            other = found[LAST if layout == FIRST else FIRST]
            perm = TO_FIRST if layout == FIRST else FROM_FIRST
            found[layout] = self.op("Transpose", [other], f"{name}.{'nchw' if layout == FIRST else 'nhwc'}", perm=list(perm))
        return found[layout]

    def _constant_value(self, tensor: Tensor, layout: str) -> str:
        data = tensor.data
        assert data is not None
        if layout == FIRST and data.ndim:
            data = data.reshape((1,) * (4 - data.ndim) + data.shape).transpose(TO_FIRST)
        if tensor.scale is None:
            return self.constant(data, tensor.name)
        return self.dequantise(self.constant(self.written(data), f"{tensor.name}.codes"), tensor, tensor.name)

    def present(self, name: str) -> dict[str, str]:
        """The layouts in which an activation is there, with ONNX names."""
        return self._values[name]

    def every_value(self) -> list[dict[str, str]]:
        """The tables of ONNX names by layout, of all tensors."""
        return list(self._values.values())

    # ---- results ---------------------------------------------------------------------------------------------------------------------

    def bind(self, name: str, value: str, layout: str = LAST) -> None:
        """``value`` holds a tensor's real numbers; a quantised one passes through QuantizeLinear and DequantizeLinear."""
        tensor = self.tensor(name)
        layout = layout if len(tensor.shape) == 4 else LAST
        if self.quantised(tensor):
            assert tensor.scale is not None
            codes = self.quantise(value, tensor, f"{name}.codes")
            self.codes[name] = (codes, layout)
            value = self.dequantise(codes, tensor, f"{name}.real")
        self._values.setdefault(name, {})[layout] = value

    def bind_codes(self, name: str, codes: str, layout: str = LAST) -> None:
        """``codes`` holds a quantised tensor's codes, as `quantise` would write them."""
        self.codes[name] = (codes, layout)
        self._values.setdefault(name, {})[layout] = self.dequantise(codes, self.tensor(name), f"{name}.real")

    def alias(self, name: str, value: str, layout: str) -> None:
        """A tensor has the numbers of a value that is there already, with the same scale."""
        self._values.setdefault(name, {})[layout] = value

    def steps(self, name: str, layout: str = LAST) -> str:
        """A quantised tensor in whole steps of its scale: code - zero point, as float32."""
        scale = self.tensor(name).scale
        assert scale is not None
        found = self._values.setdefault(f"{name}.steps", {})
        if layout not in found:
            inverse = self.constant(np.float32(1) / np.float32(scale[0]), "per_scale")
            found[layout] = self.op("Round", [self.op("Mul", [self.value(name, layout), inverse], f"{name}.near")], f"{name}.steps")
        return found[layout]

    def bind_steps(self, name: str, steps: str, layout: str, *, whole: bool = False, low: int = -128, high: int = 127) -> None:
        """``steps`` holds a quantised tensor in steps of its scale: rounded to even unless ``whole``, clamped to codes low..high."""
        tensor = self.tensor(name)
        assert tensor.scale is not None
        if not whole:
            steps = self.op("Round", [steps], f"{name}.rounded")
        if (low, high) != (-128, 127):
            bounds = [self.number(float(code - tensor.zero_point), "bound") for code in (low, high)]
            steps = self.op("Clip", [steps, *bounds], f"{name}.clamped")
        self.bind(name, self.op("Mul", [steps, self.constant(np.float32(tensor.scale[0]), "scale")], f"{name}.grid"), layout)

    def quantise(self, value: str, tensor: Tensor, hint: str) -> str:
        """QuantizeLinear with the scale of a tensor."""
        assert tensor.scale is not None
        return self.op("QuantizeLinear", [value, *self._scale(np.float32(tensor.scale[0]), tensor)], hint)

    def dequantise(self, codes: str, tensor: Tensor, hint: str) -> str:
        """DequantizeLinear with the scale of a tensor."""
        assert tensor.scale is not None
        return self.op("DequantizeLinear", [codes, *self._scale(np.float32(tensor.scale[0]), tensor)], hint)

    def written(self, codes: Array) -> Array:
        """Codes as they are written: int8 ones shifted to uint8 where the model is ``unsigned``."""
        return (codes.astype(np.int16) + 128).astype(np.uint8) if self.unsigned and codes.dtype == np.int8 else codes

    def _scale(self, scale: np.float32, tensor: Tensor) -> list[str]:
        zero = np.asarray(tensor.zero_point, np.int8 if tensor.dtype is DType.INT8 else np.int16)
        return [self.constant(np.asarray(scale, np.float32), "scale"), self.constant(self.written(zero), "zero_point")]
