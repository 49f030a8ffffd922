# SPDX-License-Identifier: Apache-2.0
"""A simulator of the chip for deploy models, as operators of onnx's numpy evaluator (``chip_ops``) and as an executor.

Integers between AscendQuant and AscendDequant are held as q - offset: ATC folds the activation offset into the bias and pads with it,
so these are the very sums the cube computes, and padding with 0 is right.

Mode "fp32" (310P, 310B; and what the fake-quant model computes):
  q = clip(rint(x * scale) + offset, -128, 127);   y = f32(sum) * deq_scale
Mode "fp16" (310, ISA V100):
  x, scale, offset and every step of the product are float16: q = clip(rint(f16(f16(x*scale) + offset)), -128, 127)
  y = f16(f32(sum) * f16(deq_scale))
  A scale outside [2^-14, 65504] is applied twice as its square root (ATC's sqrt_mode), with a float16 rounding in between.
  Every other value of the graph is rounded to float16 (ATC's default precision_mode force_fp16); beyond 65504 it saturates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference.op_run import OpRun

from .deploy import unpack_deq_scales
from .evaluate import FAST_OPS, Executor

__all__ = ["FP16_MAX", "FP16_MIN", "Ranges", "Simulator", "chip_ops", "half", "needs_sqrt_mode"]

Array = npt.NDArray[Any]
FP16_MIN, FP16_MAX = 2.0**-14, 65504.0


def half(x: Array) -> Array:
    """Round to float16 (nearest, ties to even), saturating at 65504, and give float32 back.

    Normal numbers: 13 bits of the float32 mantissa are rounded off. Below 2^-14 float16 has a fixed step of 2^-24, which is float32's
    step at 0.75. Much faster than numpy's conversion, and equal to it.
    """
    x = np.clip(np.asarray(x, dtype=np.float32), -FP16_MAX, FP16_MAX)
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    rounded &= np.uint32(0xFFFFE000)
    middle = np.float32(0.75)
    small = np.abs(x) < np.float32(FP16_MIN)
    return np.where(small, (x + middle) - middle, rounded.view(np.float32).reshape(x.shape))


def needs_sqrt_mode(scale: Array) -> Array:
    """Whether a scale lies outside float16's normal numbers."""
    return (np.asarray(scale) < FP16_MIN) | (np.asarray(scale) > FP16_MAX)


def _half_scaled(x: Array, scale: Array) -> Array:
    """f16(x * scale), through the square root where the scale itself does not fit float16. ``x`` float32, not yet rounded."""
    scale = np.asarray(scale, dtype=np.float32)
    root = half(np.sqrt(scale))
    direct = half(x * half(np.where(needs_sqrt_mode(scale), np.float32(1.0), scale)))
    if not needs_sqrt_mode(scale).any():
        return direct
    return np.where(needs_sqrt_mode(scale), half(half(x * root) * root), direct)


class AscendQuantFp32(OpRun):
    op_domain = ""

    def _run(self, x, scale=None, offset=None, dst_type=None, sqrt_mode=None, round_mode=None):  # type: ignore[override, no-untyped-def]
        q = np.rint(x.astype(np.float32) * np.float32(scale)) + np.float32(offset)
        return ((np.clip(q, -128, 127) - np.float32(offset)).astype(np.int16),)


class AscendQuantFp16(OpRun):
    op_domain = ""

    def _run(self, x, scale=None, offset=None, dst_type=None, sqrt_mode=None, round_mode=None):  # type: ignore[override, no-untyped-def]
        product = _half_scaled(half(x), np.float32(scale))
        q = np.rint(half(product + np.float32(offset)))
        return ((np.clip(q, -128, 127) - np.float32(offset)).astype(np.int16),)


def _channel_shape(scales: Array, rank: int) -> Array:
    """One scale, or one per channel: axis 1 of images, the last axis of matrices and of MatMul's stacks (one scale only there)."""
    if scales.size == 1:
        return scales.reshape((1,) * rank)
    return scales.reshape((1, -1, *(1,) * (rank - 2)))


class AscendDequantFp32(OpRun):
    op_domain = ""

    def _run(self, x, deq_scale, dtype=None, relu_flag=None, sqrt_mode=None):  # type: ignore[override, no-untyped-def]
        y = x.astype(np.float32) * _channel_shape(unpack_deq_scales(deq_scale), x.ndim)
        return (np.maximum(y, 0) if relu_flag else y,)


class AscendDequantFp16(OpRun):
    op_domain = ""

    def _run(self, x, deq_scale, dtype=None, relu_flag=None, sqrt_mode=None):  # type: ignore[override, no-untyped-def]
        y = _half_scaled(x.astype(np.float32), _channel_shape(unpack_deq_scales(deq_scale), x.ndim))
        return (np.maximum(y, 0) if relu_flag else y,)


class AscendAntiQuantFp32(OpRun):
    op_domain = ""

    def _run(self, x, scale=None, offset=None, dtype=None, sqrt_mode=None):  # type: ignore[override, no-untyped-def]
        return (x.astype(np.float32) * np.float32(scale),)


class AscendAntiQuantFp16(OpRun):
    op_domain = ""

    def _run(self, x, scale=None, offset=None, dtype=None, sqrt_mode=None):  # type: ignore[override, no-untyped-def]
        return (_half_scaled(x.astype(np.float32), np.float32(scale)),)


def _named(cls: type[OpRun], name: str) -> type[OpRun]:
    return type(name, (cls,), {"op_domain": ""})


def chip_ops(mode: str) -> list[type[OpRun]]:
    """Custom operators for ``onnx.reference.ReferenceEvaluator(deploy_model, new_ops=chip_ops("fp16"))``; mode ``"fp16"`` or ``"fp32"``."""
    table: dict[str, tuple[type[OpRun], type[OpRun], type[OpRun]]] = {
        "fp32": (AscendQuantFp32, AscendDequantFp32, AscendAntiQuantFp32),
        "fp16": (AscendQuantFp16, AscendDequantFp16, AscendAntiQuantFp16),
    }
    quant, dequant, anti = table[mode]
    return [_named(quant, "AscendQuant"), _named(dequant, "AscendDequant"), _named(anti, "AscendAntiQuant"), *FAST_OPS]


@dataclass
class Ranges:
    """Largest magnitudes met.

    Attributes:
        sums: largest |int sum| by the value that AscendDequant reads.
        saturated: number of values beyond float16's range, by value name (mode fp16).
    """

    sums: dict[str, int] = field(default_factory=dict)
    saturated: dict[str, int] = field(default_factory=dict)


class Simulator:
    """Runs a deploy model as the chip would.

    Args:
        model: deploy model.
        mode: ``"fp16"`` or ``"fp32"``.
    """

    def __init__(self, model: onnx.ModelProto, mode: str) -> None:
        self.ranges = Ranges()
        self._sums = {node.input[0] for node in model.graph.node if node.op_type == "AscendDequant"}
        adjust: Callable[[str, Array], Array] | None = self._half if mode == "fp16" else None
        self._executor = Executor(model, chip_ops(mode), adjust)
        self.output_names = self._executor.output_names

    def _half(self, name: str, array: Array) -> Array:
        if array.dtype != np.float32:
            return array
        beyond = int(np.count_nonzero(np.abs(array) > FP16_MAX))
        if beyond:
            self.ranges.saturated[name] = self.ranges.saturated.get(name, 0) + beyond
        return half(array)

    def run(self, feeds: dict[str, Array], visit: Callable[[str, Array], None] | None = None) -> dict[str, Array]:
        """Outputs of one batch; ``visit`` sees every value."""

        def watch(name: str, array: Array) -> None:
            if name in self._sums and array.size:
                largest = max(int(array.max()), -int(array.min()))
                self.ranges.sums[name] = max(self.ranges.sums.get(name, 0), largest)
            if visit:
                visit(name, array)

        return self._executor.run(feeds, None, watch)
