# SPDX-License-Identifier: Apache-2.0
"""Slice: along every axis y[i] = x[start + i * step]. Split becomes Slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..shapes import axes_of, axis_of, emit, integers
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register

__all__ = ["Slice"]


@register
class Slice(Operator):
    """A regular part of a tensor; how many elements it has along each axis is the shape of the output tensor."""

    table = "Slice"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """Not known from the inputs: ValueError."""
        raise ValueError("its shape is that of its output tensor")

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """``numpy.take`` along every axis."""
        (x,) = inputs
        assert x is not None
        for axis, (start, step, count) in enumerate(zip(node.params["start"], node.params["step"], outputs[0].shape, strict=True)):
            if (start, step, count) != (0, 1, x.shape[axis]):
                x = np.take(x, start + step * np.arange(count), axis=axis)
        return [np.ascontiguousarray(x).reshape(outputs[0].shape)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Codes move."""
        return Quantisation(Scales.SAME)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The part of the codes."""
        (x,) = inputs
        assert x is not None
        return self.reference(node, [x.array], outputs)

    int16_reference = int8_reference


def _slice(ctx: Any, name: str, start: Sequence[int], step: Sequence[int], shape: Sequence[int]) -> str:
    tensor = ctx.tensor(name)
    if any(d < 1 for d in shape):
        ctx.fail(f"the part of {list(tensor.shape)} has shape {list(shape)}: it is empty", rule="onnx.shape")
    if tuple(shape) == tensor.shape and all(s == 1 for s in step):
        return name
    return emit(ctx, "Slice", [name], {"start": list(start), "step": list(step)}, result=(tuple(shape), tensor.dtype))


def _vector(ctx: Any, i: int, key: str, required: bool) -> list[int] | None:
    """A vector that is an attribute before opset 10, and input ``i`` from then on."""
    if ctx.opset < 10:
        value = ctx.attr(key)
        if value is None and required:
            ctx.fail(f"{key} are missing")
        return None if value is None else [int(v) for v in value]
    return integers(ctx, i, key) if required or ctx.has_input(i) else None


@onnx_op("Slice")
def import_slice(ctx: Any) -> None:
    """Slice: starts and ends count from the end when negative and are clipped to the axis; steps may be negative."""
    shape = list(ctx.shape(0))
    starts, ends = _vector(ctx, 1, "starts", True), _vector(ctx, 2, "ends", True)
    axes, steps = _vector(ctx, 3, "axes", False), _vector(ctx, 4, "steps", False) if ctx.opset >= 10 else None
    assert starts is not None
    assert ends is not None
    axes = axes_of(ctx, list(range(len(starts))) if axes is None else axes, len(shape))
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        ctx.fail(f"starts {starts}, ends {ends}, axes {axes} and steps {steps} have different lengths", rule="onnx.shape")
    first, step, counts = [0] * len(shape), [1] * len(shape), list(shape)
    for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
        if stride == 0:
            ctx.fail(f"the step on axis {axis} is 0", rule="onnx.shape")
        taken = range(*slice(start, _end(end, stride, shape[axis]), stride).indices(shape[axis]))
        first[axis], counts[axis] = taken.start, len(taken)
        step[axis] = stride if len(taken) > 1 else 1
    ctx.finish(_slice(ctx, ctx.input(0), first, step, counts))


def _end(end: int, step: int, dimension: int) -> int | None:
    """The end as Python's slices understand it: going down, an end before the first element is None."""
    return None if step < 0 and end < -dimension else end


@onnx_op("Split")
def import_split(ctx: Any) -> None:
    """Split: sizes from the attribute (before opset 13), input 1, or equal parts of which the last may be smaller."""
    shape = ctx.shape(0)
    axis = axis_of(ctx, int(ctx.attr("axis", 0)), max(len(shape), 1))
    total, parts = shape[axis], int(ctx.attr("num_outputs", ctx.outputs))
    sizes = integers(ctx, 1, "split") if ctx.has_input(1) else ctx.attr("split")
    if sizes is None:
        if ctx.opset < 18 and total % parts:
            ctx.fail(f"dimension {total} does not split into {parts} equal parts", rule="onnx.shape")
        each = -(-total // parts)
        sizes = [each] * (parts - 1) + [total - each * (parts - 1)]
    if sum(sizes) != total or len(sizes) != ctx.outputs or any(s < 1 for s in sizes):
        ctx.fail(f"parts {list(sizes)} do not split dimension {total} into {ctx.outputs} outputs", rule="onnx.shape")
    results, at = [], 0
    for output, size in zip(ctx.node.output, sizes, strict=True):
        first = [at if i == axis else 0 for i in range(len(shape))]
        part = [size if i == axis else d for i, d in enumerate(shape)]
        results.append(_slice(ctx, ctx.input(0), first, [1] * len(shape), part) if output else "")
        at += size
    ctx.finish(*results)
