# SPDX-License-Identifier: Apache-2.0
"""Reshape: the same elements in the same order under another shape. With it: what becomes a Reshape or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..shapes import axes_of, axis_of, emit, integers
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register

__all__ = ["Reshape"]


@register
class Reshape(Operator):
    """Another shape for the same elements; the shape is that of the output tensor."""

    table = "Reshape"
    int16 = True

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """Not known from the inputs: ValueError."""
        raise ValueError("its shape is that of its output tensor")

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """``x.reshape``."""
        (x,) = inputs
        assert x is not None
        return [x.reshape(outputs[0].shape)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Codes move."""
        return Quantisation(Scales.SAME)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The codes under the output's shape."""
        (x,) = inputs
        assert x is not None
        return [x.array.reshape(outputs[0].shape)]

    int16_reference = int8_reference


def _reshape(ctx: Any, name: str, shape: Sequence[int]) -> str:
    """A Reshape, or the tensor itself where its shape is right already."""
    tensor = ctx.tensor(name)
    if tensor.shape == tuple(shape):
        return name
    if int(np.prod(shape, dtype=np.int64)) != tensor.elements:
        ctx.fail(f"cannot reshape {list(tensor.shape)} to {list(shape)}", rule="onnx.shape")
    return emit(ctx, "Reshape", [name], result=(tuple(shape), tensor.dtype))


@onnx_op("Reshape")
def import_reshape(ctx: Any) -> None:
    """Reshape; 0 copies a dimension unless allowzero, -1 takes what is left."""
    source, wanted = ctx.shape(0), integers(ctx, 1, "the shape")
    if not ctx.attr("allowzero", 0):
        for i, d in enumerate(wanted):
            if d == 0:
                if i >= len(source):
                    ctx.fail(f"shape {wanted} copies dimension {i}, which input {list(source)} does not have", rule="onnx.shape")
                wanted[i] = source[i]
    if wanted.count(-1) > 1 or any(d < -1 for d in wanted):
        ctx.fail(f"shape {wanted} has more than one -1, or numbers below", rule="onnx.shape")
    if -1 in wanted:
        known = int(np.prod([d for d in wanted if d != -1], dtype=np.int64))
        elements = ctx.tensor(ctx.input(0)).elements
        if known == 0 or elements % known:
            ctx.fail(f"cannot reshape {list(source)} to {wanted}", rule="onnx.shape")
        wanted[wanted.index(-1)] = elements // known
    ctx.finish(_reshape(ctx, ctx.input(0), wanted))


@onnx_op("Flatten")
def import_flatten(ctx: Any) -> None:
    """Two dimensions: those before the axis and those from it on."""
    axis, shape = int(ctx.attr("axis", 1)), ctx.shape(0)
    axis = len(shape) if axis == len(shape) else axis_of(ctx, axis, max(len(shape), 1))
    ctx.finish(_reshape(ctx, ctx.input(0), [int(np.prod(part, dtype=np.int64)) for part in (shape[:axis], shape[axis:])]))


def _axes(ctx: Any) -> list[int] | None:
    """Axes from the attribute (before opset 13) or input 1."""
    if ctx.has_input(1):
        return integers(ctx, 1, "axes")
    axes = ctx.attr("axes")
    return None if axes is None else [int(a) for a in axes]


@onnx_op("Squeeze")
def import_squeeze(ctx: Any) -> None:
    """Drop dimensions of size 1."""
    shape, wanted = ctx.shape(0), _axes(ctx)
    axes = [i for i, d in enumerate(shape) if d == 1] if wanted is None else axes_of(ctx, wanted, len(shape))
    for axis in axes:
        if shape[axis] != 1:
            ctx.fail(f"dimension {axis} of {list(shape)} is not 1", rule="onnx.shape")
    ctx.finish(_reshape(ctx, ctx.input(0), [d for i, d in enumerate(shape) if i not in axes]))


@onnx_op("Unsqueeze")
def import_unsqueeze(ctx: Any) -> None:
    """Insert dimensions of size 1; axes count in the result."""
    shape, wanted = list(ctx.shape(0)), _axes(ctx)
    if not wanted:
        ctx.finish(ctx.input(0))
        return
    rank = len(shape) + len(wanted)
    axes = axes_of(ctx, wanted, rank)
    rest = iter(shape)
    ctx.finish(_reshape(ctx, ctx.input(0), [1 if i in axes else next(rest) for i in range(rank)]))


@onnx_op("Identity")
def import_identity(ctx: Any) -> None:
    """Nothing to do."""
    ctx.finish(ctx.input(0))


@onnx_op("Dropout")
def import_dropout(ctx: Any) -> None:
    """Nothing to do in inference; the mask is all true."""
    training = ctx.constant(2) if ctx.has_input(2) else np.zeros(1, np.bool_)
    ratio = ctx.constant(1) if ctx.has_input(1) else np.ones(1, np.float32)
    if training is None or (training.any() and (ratio is None or ratio.any())):
        ctx.fail("it is in training mode", "Export the model for inference")
    if ctx.outputs > 1 and ctx.node.output[1]:
        ctx.finish(ctx.input(0), ctx.const(np.ones(ctx.shape(0), np.bool_), "mask"))
        return
    ctx.finish(ctx.input(0))
