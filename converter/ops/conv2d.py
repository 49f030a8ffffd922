# SPDX-License-Identifier: Apache-2.0
"""Conv2D, and the import of ONNX Conv (also 1-D and depthwise)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..linear import DEPTH_LIMIT, clamp_float, code_bits, convolution_inputs, finish_int8, finish_int16, pack_matrix, unpack_matrix
from ..window import import_window, taps, window_of
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register
from .binary import BinaryKind

__all__ = ["Conv2D", "conv_sums"]


def conv_sums(x: Array, weights: Array, node: Node) -> Array:
    """Sums of products ``[N,OH,OW,O]`` in float64 (exact for integers); ``x`` [N,H,W,C], ``weights`` [O,KH,KW,C/group]."""
    outputs, kh, kw, depth = weights.shape
    group = node.params.get("group", 1)
    window = window_of(node, (kh, kw))
    oh, ow = window.output((x.shape[1], x.shape[2]))
    w = weights.astype(np.float64).reshape(group, outputs // group, kh * kw, depth).transpose(2, 0, 3, 1)
    acc = np.zeros((group, x.shape[0] * oh * ow, outputs // group))
    for tap, view in enumerate(taps(x.astype(np.float64), window, 0.0)):
        rows = view.reshape(-1, group, depth).transpose(1, 0, 2)
        acc += np.matmul(rows, w[tap])
    return acc.transpose(1, 0, 2).reshape(x.shape[0], oh, ow, outputs)


@register
class Conv2D(Operator):
    """Inputs: x [N,H,W,C], weights [O,KH,KW,C/group], bias [O], weight_sum [O], residual [N,OH,OW,O]; the last three may be absent."""

    int16 = True
    table = "Conv2D"

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """``[N,OH,OW,O]``."""
        x, w = convolution_inputs(node, inputs)
        oh, ow = window_of(node, (w.shape[1], w.shape[2])).output((x.shape[1], x.shape[2]))
        return [((x.shape[0], oh, ow, w.shape[0]), x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """clamp(conv(x, weights) + bias + residual)."""
        x, w, bias, _, residual = [*inputs, None, None, None][:5]
        assert x is not None
        assert w is not None
        y = conv_sums(x, w, node)
        if bias is not None:
            y = y + bias
        if residual is not None:
            y = y + residual
        return [clamp_float(y, node)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Int8 with a free output scale; the residual is a second activation."""
        depth = int(np.prod(graph.tensors[node.inputs[1]].shape[1:]))
        if depth > DEPTH_LIMIT:
            return Quantisation(Scales.FLOAT, reason=f"{depth} products per output could overflow int32 (limit {DEPTH_LIMIT})")
        return Quantisation(Scales.FREE, data=(0, 4))

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The rules of runtime_c/src/ops/linear.h."""
        x, w, bias, _, residual = [*inputs, None, None, None][:5]
        assert x is not None
        assert w is not None
        sums = conv_sums(x.array.astype(np.int32) - x.zero_point, w.array, node)
        depth = int(np.prod(w.array.shape[1:]))
        return [finish_int8(node, sums, x, w, None if bias is None else bias.array, residual, outputs[0], depth)]

    def int16_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The rules of runtime_c/src/ops/linear.h."""
        x, w, bias, _, residual = [*inputs, None, None, None][:5]
        assert x is not None
        assert w is not None
        return [finish_int16(node, conv_sums(x.array, w.array, node), x, w, None if bias is None else bias.array, residual, outputs[0])]

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Output elements times the products of each."""
        assert inputs[1] is not None
        return outputs[0].elements * int(np.prod(inputs[1].shape[1:]))

    def pack(self, node: Node, position: int, tensor: Tensor) -> bytes:
        """Weights: one packed matrix [O/group][KH*KW*C/group] per group, one after the other."""
        if position != 1:
            return super().pack(node, position, tensor)
        assert tensor.data is not None
        rows = tensor.data.reshape(node.params.get("group", 1), -1, int(np.prod(tensor.shape[1:])))
        return b"".join(pack_matrix(matrix, code_bits(tensor)) for matrix in rows)

    def unpack(self, node: Node, tensor: Tensor, data: bytes) -> Array:
        """The logical weights (float32, or codes as int16) from their stored bytes."""
        group, depth = node.params.get("group", 1), int(np.prod(tensor.shape[1:]))
        part, rows = len(data) // group, tensor.shape[0] // group
        blocks = [unpack_matrix(data[g * part : (g + 1) * part], rows, depth, code_bits(tensor)) for g in range(group)]
        return np.concatenate(blocks).reshape(tensor.shape)


def import_weights(ctx: Any) -> Array:
    """Constant weights of a convolution with float type; ConvertError that names the node otherwise."""
    weights = ctx.require_constant(1, "the weight tensor")
    if weights.ndim != ctx.rank(0):
        ctx.fail(f"weights of shape {list(weights.shape)} do not fit an input of shape {list(ctx.shape(0))}")
    if weights.size == 0:
        ctx.fail(f"weights of shape {list(weights.shape)} have no elements")
    kernel = ctx.attr("kernel_shape")
    if kernel and tuple(kernel) != weights.shape[2:]:
        ctx.fail(f"kernel_shape {kernel} differs from the weights' {list(weights.shape[2:])}")
    return weights if weights.ndim == 4 else np.expand_dims(weights, 2) if weights.ndim == 3 else weights


def add_bias(ctx: Any, y: str, position: int) -> str:
    """Add a bias that is computed at run time to an NHWC result."""
    return str(ctx.emit("Binary", [y, ctx.input(position)], {"kind": int(BinaryKind.ADD)}))


def split_bias(ctx: Any, position: int, outputs: int) -> tuple[str, bool]:
    """Name of a constant bias input (``""`` if absent), and whether there is a bias to add at run time instead."""
    if not ctx.has_input(position):
        return "", False
    if ctx.shape(position) != (outputs,):
        ctx.fail(f"bias has shape {list(ctx.shape(position))}, not [{outputs}]")
    if ctx.constant(position) is None:
        return "", True
    return str(ctx.input(position)), False


@onnx_op("Conv")
def _conv(ctx: Any) -> None:
    raw = ctx.constant(1)
    window = import_window(ctx, list(raw.shape[2:]) if raw is not None else list(ctx.shape(1)[2:]))
    weights = import_weights(ctx)
    group, channels = ctx.attr("group", 1), ctx.shape(0)[1]
    outputs = weights.shape[0]
    if group < 1 or channels != weights.shape[1] * group or outputs % group:
        ctx.fail(f"{channels} input channels, {outputs} output channels, group {group} and weights {list(raw.shape)} do not fit together")
    bias, later = split_bias(ctx, 2, outputs)
    x = ctx.to_nhwc(ctx.input(0))
    hint = f"{ctx.node.input[1]}_packed"
    if group == channels and group > 1:
        w = ctx.const(np.ascontiguousarray(weights[:, 0].transpose(1, 2, 0)), hint)
        y = ctx.emit("DepthwiseConv2D", [x, w, bias] if bias else [x, w], {**window.params(), "multiplier": outputs // group})
    else:
        w = ctx.const(np.ascontiguousarray(weights.transpose(0, 2, 3, 1)), hint)
        y = ctx.emit("Conv2D", [x, w, bias] if bias else [x, w], {**window.params(), "group": group})
    if later:
        y = add_bias(ctx, y, 2)
    ctx.finish(ctx.from_nhwc(y, ctx.rank(0)))
