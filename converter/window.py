# SPDX-License-Identifier: Apache-2.0
"""Sliding windows: geometry of convolutions and pools, from ONNX attributes and in numpy. 1-D windows are 2-D with height 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import Node
from .ops.base import Array

__all__ = ["Window", "auto_pads", "import_window", "taps", "window_of"]

_LIMIT = 1 << 20


@dataclass(frozen=True)
class Window:
    """A window over H and W; ``pads`` is (top, left, bottom, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def params(self) -> dict[str, int]:
        """The fields that the convolution and pool tables have in common."""
        top, left, bottom, right = self.pads
        return {
            "stride_h": self.stride[0],
            "stride_w": self.stride[1],
            "dilation_h": self.dilation[0],
            "dilation_w": self.dilation[1],
            "pad_top": top,
            "pad_left": left,
            "pad_bottom": bottom,
            "pad_right": right,
        }

    def extent(self, axis: int) -> int:
        """Input positions from the first to the last one of a window."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def output(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Output height and width: whole windows only.

        Raises:
            ValueError: the window is larger than the padded input, or a number is out of range.
        """
        if (
            min(*self.kernel, *self.stride, *self.dilation) < 1
            or min(self.pads) < 0
            or max(*self.pads, *self.stride, *self.dilation) > _LIMIT
        ):
            raise ValueError(f"kernel {self.kernel}, stride {self.stride}, dilation {self.dilation}, pads {self.pads} out of range")
        sizes = []
        for axis in (0, 1):
            span = shape[axis] + self.pads[axis] + self.pads[axis + 2] - self.extent(axis)
            if span < 0:
                raise ValueError(f"window of {self.extent(axis)} positions is larger than the padded input {shape[axis]}")
            sizes.append(span // self.stride[axis] + 1)
        return sizes[0], sizes[1]


def window_of(node: Node, kernel: tuple[int, int]) -> Window:
    """The window of a graph node; the kernel size comes from the weights or the parameters."""
    get = node.params.get
    return Window(
        kernel,
        (get("stride_h", 1), get("stride_w", 1)),
        (get("dilation_h", 1), get("dilation_w", 1)),
        (get("pad_top", 0), get("pad_left", 0), get("pad_bottom", 0), get("pad_right", 0)),
    )


def taps(x: Array, window: Window, fill: Any) -> Iterator[Array]:
    """Views of padded ``x`` [N,H,W,C], one per kernel position in row-major order, each [N,OH,OW,C]."""
    oh, ow = window.output((x.shape[1], x.shape[2]))
    top, left, bottom, right = window.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            y, x0 = ky * window.dilation[0], kx * window.dilation[1]
            rows = slice(y, y + (oh - 1) * window.stride[0] + 1, window.stride[0])
            columns = slice(x0, x0 + (ow - 1) * window.stride[1] + 1, window.stride[1])
            yield padded[:, rows, columns, :]


def auto_pads(mode: str, size: int, extent: int, stride: int) -> tuple[int, int]:
    """Padding before and after one axis for ``SAME_UPPER`` and ``SAME_LOWER``: the output is ceil(size / stride)."""
    out = -(-size // stride)
    total = max((out - 1) * stride + extent - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def _two(values: list[int], fill: int) -> tuple[int, int]:
    return (fill, values[0]) if len(values) == 1 else (values[0], values[1])


def spatial_list(ctx: Any, name: str, rank: int, default: int) -> list[int]:
    """An attribute with one number per spatial axis."""
    values = list(ctx.attr(name, [default] * rank))
    if len(values) != rank:
        ctx.fail(f"attribute {name} has {len(values)} values for {rank} spatial axes")
    return values


def import_window(ctx: Any, kernel: list[int], *, dilated: bool = True) -> Window:
    """The window of an ONNX convolution or pool from its attributes and the shape of input 0 ([N,C,W] or [N,C,H,W]).

    Raises:
        ConvertError: rank, attribute lengths, or numbers that make no sense.
    """
    rank = ctx.rank(0) - 2
    if rank not in (1, 2):
        ctx.fail(f"input of shape {list(ctx.shape(0))}: only 1-D and 2-D spatial data (rank 3 and 4) is supported")
    if len(kernel) != rank:
        ctx.fail(f"kernel of {len(kernel)} dimensions on {rank}-D data")
    strides = spatial_list(ctx, "strides", rank, 1)
    dilations = spatial_list(ctx, "dilations", rank, 1) if dilated else [1] * rank
    if min(*kernel, *strides, *dilations) < 1:
        ctx.fail(f"kernel {kernel}, strides {strides} and dilations {dilations} must be positive")
    pads = import_pads(ctx, kernel, strides, dilations)
    if min(pads) < 0:
        ctx.fail(f"negative padding {pads} is not supported", "Crop with a Slice before the node instead")
    before, after = _two(pads[:rank], 0), _two(pads[rank:], 0)
    return Window(_two(kernel, 1), _two(strides, 1), _two(dilations, 1), (*before, *after))


def import_pads(ctx: Any, kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    """Padding as ONNX lists it (all begins, then all ends), with ``auto_pad`` worked out."""
    rank, mode = len(kernel), ctx.attr("auto_pad", "NOTSET") or "NOTSET"
    if mode == "NOTSET":
        pads = list(ctx.attr("pads", [0] * (2 * rank)))
        if len(pads) != 2 * rank:
            ctx.fail(f"attribute pads has {len(pads)} values for {rank} spatial axes")
        return pads
    if mode == "VALID":
        return [0] * (2 * rank)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        ctx.fail(f"unknown auto_pad '{mode}'")
    sizes = ctx.shape(0)[2:]
    pairs = [auto_pads(mode, n, d * (k - 1) + 1, s) for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)]
    return [p[0] for p in pairs] + [p[1] for p in pairs]
