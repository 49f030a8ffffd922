# SPDX-License-Identifier: Apache-2.0
"""ConvTranspose2D, and the import of ONNX ConvTranspose (1-D and 2-D)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..linear import DEPTH_LIMIT, clamp_float, code_bits, convolution_inputs, finish_int8, pack_matrix, unpack_matrix
from ..window import Window, spatial_list, window_of
from .base import Array, Operator, Quantisation, Scales, Value, onnx_op, register
from .conv2d import add_bias, import_weights, split_bias

__all__ = ["ConvTranspose2D"]


def _output(node: Node, shape: tuple[int, ...], window: Window) -> tuple[int, int]:
    extra = (node.params.get("output_pad_h", 0), node.params.get("output_pad_w", 0))
    if min(*window.kernel, *window.stride, *window.dilation) < 1 or min(*window.pads, *extra) < 0:
        raise ValueError(f"kernel {window.kernel}, stride {window.stride}, pads {window.pads} or output padding {extra} out of range")
    sizes = []
    for axis in (0, 1):
        full = (shape[1 + axis] - 1) * window.stride[axis] + window.extent(axis)
        sizes.append(full - window.pads[axis] - window.pads[axis + 2] + extra[axis])
    if min(sizes) < 1:
        raise ValueError(f"the output would be {sizes[0]} x {sizes[1]}")
    return sizes[0], sizes[1]


def _sums(x: Array, weights: Array, node: Node) -> Array:
    """Sums of products ``[N,OH,OW,O]`` in float64; ``x`` [N,H,W,C], ``weights`` [O,KH,KW,C/group]."""
    outputs, kh, kw, depth = weights.shape
    n, h, w, _ = x.shape
    group = node.params.get("group", 1)
    window = window_of(node, (kh, kw))
    (sh, sw), (dh, dw) = window.stride, window.dilation
    oh, ow = _output(node, x.shape, window)
    top, left, _, _ = window.pads
    rows = x.astype(np.float64).reshape(-1, group, depth).transpose(1, 0, 2)
    matrix = weights.astype(np.float64).reshape(group, outputs // group, kh, kw, depth)
    # A canvas that holds every contribution; the output is a part of it.
    canvas = np.zeros((n, max((h - 1) * sh + window.extent(0), top + oh), max((w - 1) * sw + window.extent(1), left + ow), outputs))
    for ky in range(kh):
        for kx in range(kw):
            product = np.matmul(rows, matrix[:, :, ky, kx].transpose(0, 2, 1))
            part = product.transpose(1, 0, 2).reshape(n, h, w, outputs)
            y, x0 = ky * dh, kx * dw
            canvas[:, y : y + (h - 1) * sh + 1 : sh, x0 : x0 + (w - 1) * sw + 1 : sw] += part
    return canvas[:, top : top + oh, left : left + ow]


@register
class ConvTranspose2D(Operator):
    """Inputs: x [N,H,W,C], weights [O,KH,KW,C/group], bias [O] or absent."""

    table = "ConvTranspose2D"

    def infer(self, node: Node, inputs: Sequence[Tensor | None]) -> list[tuple[tuple[int, ...], DType]]:
        """``[N,OH,OW,O]``."""
        x, w = convolution_inputs(node, inputs)
        oh, ow = _output(node, x.shape, window_of(node, (w.shape[1], w.shape[2])))
        return [((x.shape[0], oh, ow, w.shape[0]), x.dtype)]

    def reference(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Tensor]) -> list[Array]:
        """clamp(sum of contributions + bias)."""
        x, w, bias = [*inputs, None][:3]
        assert x is not None
        assert w is not None
        y = _sums(x, w, node)
        return [clamp_float(y if bias is None else y + bias, node)]

    def quantisation(self, node: Node, graph: Graph) -> Quantisation:
        """Int8 with a free output scale."""
        depth = int(np.prod(graph.tensors[node.inputs[1]].shape[1:]))
        if depth > DEPTH_LIMIT:
            return Quantisation(Scales.FLOAT, reason=f"{depth} products per output could overflow int32 (limit {DEPTH_LIMIT})")
        return Quantisation(Scales.FREE)

    def int8_reference(self, node: Node, inputs: Sequence[Value | None], outputs: Sequence[Tensor]) -> list[Array]:
        """The rules of linear.h with K = KH * KW * C/group, whatever number of positions meets in a pixel."""
        x, w, bias = [*inputs, None][:3]
        assert x is not None
        assert w is not None
        sums = _sums(x.array.astype(np.int32) - x.zero_point, w.array, node)
        depth = int(np.prod(w.array.shape[1:]))
        return [finish_int8(node, sums, x, w, None if bias is None else bias.array, None, outputs[0], depth)]

    def macs(self, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> int:
        """Input elements times the products that each takes part in."""
        x, w = inputs[0], inputs[1]
        assert x is not None
        assert w is not None
        return x.elements * w.shape[0] // int(node.params.get("group", 1)) * w.shape[1] * w.shape[2]

    def pack(self, node: Node, position: int, tensor: Tensor) -> bytes:
        """Weights: per group and kernel row one packed matrix [KW * O/group][C/group], row kx * O/group + o."""
        if position != 1:
            return super().pack(node, position, tensor)
        assert tensor.data is not None
        outputs, kh, kw, depth = tensor.shape
        group = node.params.get("group", 1)
        rows = tensor.data.reshape(group, outputs // group, kh, kw, depth).transpose(0, 2, 3, 1, 4)
        matrices = rows.reshape(group * kh, kw * (outputs // group), depth)
        return b"".join(pack_matrix(matrix, code_bits(tensor)) for matrix in matrices)

    def unpack(self, node: Node, tensor: Tensor, data: bytes) -> Array:
        """The logical weights (float32, or codes as int16) from their stored bytes."""
        outputs, kh, kw, depth = tensor.shape
        group = node.params.get("group", 1)
        count, rows = group * kh, kw * (outputs // group)
        part = len(data) // count
        blocks = [unpack_matrix(data[i * part : (i + 1) * part], rows, depth, code_bits(tensor)) for i in range(count)]
        stacked = np.stack(blocks).reshape(group, kh, kw, outputs // group, depth)
        return stacked.transpose(0, 3, 1, 2, 4).reshape(tensor.shape)


def _pads(ctx: Any, kernel: list[int], strides: list[int], dilations: list[int]) -> tuple[list[int], list[int]]:
    """Padding (begins, then ends) and output padding, from pads, auto_pad, output_padding and output_shape."""
    rank = len(kernel)
    extra = spatial_list(ctx, "output_padding", rank, 0)
    wanted, mode = ctx.attr("output_shape"), ctx.attr("auto_pad", "NOTSET") or "NOTSET"
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        ctx.fail(f"unknown auto_pad '{mode}'")
    same = mode in ("SAME_UPPER", "SAME_LOWER")
    if not wanted and not same:
        pads = spatial_list(ctx, "pads", 2 * rank, 0) if mode == "NOTSET" else [0] * (2 * rank)
        return pads, extra
    sizes = ctx.shape(0)[2:]
    targets = list(wanted)[-rank:] if wanted else [n * s for n, s in zip(sizes, strides, strict=True)]
    if len(targets) != rank:
        ctx.fail(f"output_shape {wanted} does not fit {rank}-D data")
    begins, ends = [], []
    for axis, target in enumerate(targets):
        full = strides[axis] * (sizes[axis] - 1) + extra[axis] + dilations[axis] * (kernel[axis] - 1) + 1
        total = max(full - target, 0)
        extra[axis] += max(target - full, 0)
        half = total // 2
        begins.append(half if mode == "SAME_UPPER" else total - half)
        ends.append(total - begins[-1])
    return begins + ends, extra


def _import_geometry(ctx: Any, kernel: list[int]) -> dict[str, int]:
    rank = ctx.rank(0) - 2
    if rank not in (1, 2):
        ctx.fail(f"input of shape {list(ctx.shape(0))}: only 1-D and 2-D spatial data (rank 3 and 4) is supported")
    strides, dilations = spatial_list(ctx, "strides", rank, 1), spatial_list(ctx, "dilations", rank, 1)
    if min(*strides, *dilations) < 1:
        ctx.fail(f"strides {strides} and dilations {dilations} must be positive")
    pads, extra = _pads(ctx, kernel, strides, dilations)
    if min(*pads, *extra) < 0:
        ctx.fail(f"negative padding {pads} or output padding {extra} is not supported")
    lead = [0] * (2 - rank)
    ones = [1] * (2 - rank)
    before, after, out = lead + pads[:rank], lead + pads[rank:], lead + extra
    stride, dilation = ones + strides, ones + dilations
    params = Window((1, 1), (stride[0], stride[1]), (dilation[0], dilation[1]), (before[0], before[1], after[0], after[1])).params()
    return {**params, "output_pad_h": out[0], "output_pad_w": out[1]}


@onnx_op("ConvTranspose")
def _conv_transpose(ctx: Any) -> None:
    weights = import_weights(ctx)
    group, channels = ctx.attr("group", 1), ctx.shape(0)[1]
    inputs, width = weights.shape[0], weights.shape[1]
    if weights.ndim != 4:
        ctx.fail(f"input of shape {list(ctx.shape(0))}: only 1-D and 2-D spatial data (rank 3 and 4) is supported")
    if group < 1 or channels != inputs or inputs % group:
        ctx.fail(f"{channels} input channels, group {group} and weights {list(ctx.shape(1))} do not fit together")
    kernel = list(ctx.shape(1)[2:])
    params = _import_geometry(ctx, kernel)
    # ONNX [C, O/group, KH, KW] to [O, KH, KW, C/group].
    parts = weights.reshape(group, inputs // group, width, *weights.shape[2:]).transpose(0, 2, 3, 4, 1)
    logical = np.ascontiguousarray(parts.reshape(group * width, *weights.shape[2:], inputs // group))
    bias, later = split_bias(ctx, 2, group * width)
    x = ctx.to_nhwc(ctx.input(0))
    w = ctx.const(logical, f"{ctx.node.input[1]}_packed")
    y = ctx.emit("ConvTranspose2D", [x, w, bias] if bias else [x, w], {**params, "group": group})
    if later:
        y = add_bias(ctx, y, 2)
    ctx.finish(ctx.from_nhwc(y, ctx.rank(0)))
