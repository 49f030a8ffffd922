# SPDX-License-Identifier: Apache-2.0
"""What an operator file defines.

Each file ``converter/ops/<table>.py`` (the same name as ``runtime_c/src/ops/<table>.c``) registers one `Operator` for its table in
schemas/ops.fbs, and the ONNX operators that become it. Files are found by listing the package; there is no list to keep in step.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, ClassVar

import numpy as np

from ..graph import DType, Graph, Node, Tensor, numpy_dtype

__all__ = [
    "Array",
    "Operator",
    "Quantisation",
    "Scales",
    "Value",
    "code_limits",
    "import_handlers",
    "int16_codes",
    "onnx_op",
    "operators",
    "register",
    "requantise",
    "rne",
]

Array = np.ndarray[Any, Any]


class Scales(Enum):
    """How an operator's output scale is found when it runs in int8."""

    FREE = "free"  # from the output's own range
    SAME = "same"  # the outputs and the data inputs share one scale (Concat, Reshape, max pooling ...)
    FIXED = "fixed"  # given by the operator (Softmax)
    FLOAT = "float"  # no int8 form: stays in float32


@dataclass(frozen=True)
class Quantisation:
    """An operator's int8 form.

    Attributes:
        scales: where the output scale comes from.
        data: numbers of the inputs that become int8 activations; the others stay as they are.
        fixed: (scale, zero_point) of the output for `Scales.FIXED`.
        reason: for `Scales.FLOAT`: why, in words for the report.
    """

    scales: Scales
    data: tuple[int, ...] = (0,)
    fixed: tuple[float, int] = (0.0, 0)
    reason: str = ""


@dataclass
class Value:
    """A tensor's content with what is needed to read it: codes with scale and zero point, or plain numbers (scale 0)."""

    array: Array
    scale: Array | None = None
    zero_point: int = 0

    def real(self) -> Array:
        """The numbers that the codes stand for, float32."""
        if self.scale is None:
            return self.array
        return ((self.array.astype(np.int32) - self.zero_point).astype(np.float32) * np.float32(self.scale[0])).astype(np.float32)


def rne(x: Array) -> Array:
    """Round to nearest, ties to even, float32 to int32 (values must fit)."""
    return np.rint(np.asarray(x, np.float32)).astype(np.int32)


def code_limits(tensor: Tensor) -> tuple[int, int]:
    """Lowest and highest code of an activation: int8 -128 to 127, int16 symmetric."""
    return (-32767, 32767) if tensor.dtype is DType.INT16 else (-128, 127)


def requantise(
    acc: Array, multiplier: Array | np.float32, zero_point: int, low: int = -128, high: int = 127, dtype: DType = DType.INT8
) -> Array:
    """The one requantisation rule: ``clamp(rne(float32(acc) * multiplier) + zero_point, low, high)`` as ``dtype``.

    Args:
        acc: int32, or int64 (int16 outputs).
        multiplier: float32, a scalar or one per element of the last axis.
        zero_point, low, high: codes.
        dtype: INT8 or INT16.
    """
    value = acc.astype(np.float32) * np.asarray(multiplier, np.float32)
    value = np.clip(value, np.float32(low - zero_point), np.float32(high - zero_point))
    return (rne(value) + np.int32(zero_point)).astype(numpy_dtype(dtype))


class Operator(ABC):
    """One table of schemas/ops.fbs: shape rule, references, int8 form.

    ``reference`` and ``int8_reference`` are the specification in numpy; the C reference gives the same int8 bytes.
    """

    table: ClassVar[str]
    int16: ClassVar[bool] = False
    """Whether the runtime has an int16 form wherever it has an int8 one."""

    @abstractmethod
    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """Shape and type of each output from the inputs' shapes and types. Raises ValueError on a mismatch."""

    @abstractmethod
    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Float (or integer, bool) result in numpy; ``outputs`` tells the expected shapes and types."""

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """The int8 form of this node; by default none."""
        return Quantisation(Scales.FLOAT, reason=f"{self.table} has no int8 form")

    def int16_quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """The int16 form of this node: as the int8 one, where the operator has it."""
        form = self.quantisation(node, graph)
        if self.int16 or form.scales is Scales.FLOAT:
            return form
        return Quantisation(Scales.FLOAT, reason=f"{self.table} has no int16 form")

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Int8 result in numpy, bit for bit the runtime's; ``outputs`` carry scale and zero point."""
        raise ValueError(f"{self.table} has no int8 form")

    def int16_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """Int16 result in numpy, bit for bit the runtime's: Dequantize, the float form and Quantize, unless an operator overrides it.
        Codes that only move come out as they were."""
        plain = [replace(t, dtype=DType.FLOAT32, scale=None) if t.dtype is DType.INT16 else t for t in outputs]
        results = self.reference(node, [None if v is None else v.real() for v in inputs], plain)
        return [int16_codes(y, t) if t.dtype is DType.INT16 else y for y, t in zip(results, outputs, strict=True)]

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Multiply-accumulates (or element operations), as the runtime counts them."""
        return sum(t.elements for t in outputs)

    def pack(self, node: Node, position: int, tensor: Tensor) -> bytes:
        """Stored bytes of constant input number ``position``: plain little-endian unless the operator packs it."""
        assert tensor.data is not None
        return np.ascontiguousarray(tensor.data).tobytes()

    def finish(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> dict[str, Any]:
        """Parameters that depend on scales (int8 tables): merged into the node's when the file is written."""
        return {}


def int16_codes(x: Array, tensor: Tensor) -> Array:
    """Real numbers as codes of an INT16 tensor: ``clamp(rne(x * (1 / scale)), -32767, 32767)``; NaN gives the lowest code."""
    assert tensor.scale is not None
    with np.errstate(all="ignore"):
        value = np.asarray(x, np.float32) * (np.float32(1) / np.float32(tensor.scale[0]))
    low, high = code_limits(tensor)
    value = np.where(value > np.float32(low), value, np.float32(low))
    return rne(np.where(value < np.float32(high), value, np.float32(high))).astype(np.int16)


Handler = Callable[[Any], None]
_OPERATORS: dict[str, Operator] = {}
_HANDLERS: dict[str, Handler] = {}


def register(cls: type[Operator]) -> type[Operator]:
    """Class decorator: make the operator known under its table's name."""
    _OPERATORS[cls.table] = cls()
    return cls


def onnx_op(*names: str) -> Callable[[Handler], Handler]:
    """Decorator of an import handler: ``handler(ctx)`` turns ONNX nodes of these types into graph nodes.

    ``ctx`` is an `edge8.converter.onnx_in.NodeImport`.
    """

    def wrap(handler: Handler) -> Handler:
        for name in names:
            _HANDLERS[name] = handler
        return handler

    return wrap


@functools.cache
def _load() -> None:
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != "base":
            importlib.import_module(f"{__package__}.{module.name}")


def operators() -> dict[str, Operator]:
    """Every operator by table name."""
    _load()
    return _OPERATORS


def import_handlers() -> dict[str, Handler]:
    """Import handlers by ONNX operator type."""
    _load()
    return _HANDLERS
