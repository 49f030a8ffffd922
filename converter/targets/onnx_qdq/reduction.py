# SPDX-License-Identifier: Apache-2.0
"""Pools, reductions, softmax, normalisation, arg max."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import DType, Node
from ...ops.pool2d import PoolKind
from ...ops.reduce import ReduceKind
from ...window import window_of
from .builder import FIRST, FROM_FIRST, LAST, ONNX_TYPES, Builder, emitter

__all__: list[str] = []

_REDUCE = {
    ReduceKind.MEAN: "ReduceMean",
    ReduceKind.SUM: "ReduceSum",
    ReduceKind.MAX: "ReduceMax",
    ReduceKind.MIN: "ReduceMin",
    ReduceKind.PROD: "ReduceProd",
    ReduceKind.L1: "ReduceL1",
    ReduceKind.L2: "ReduceL2",
    ReduceKind.SUM_SQUARE: "ReduceSumSquare",
    ReduceKind.LOG_SUM_EXP: "ReduceLogSumExp",
}


@emitter("Pool2D")
def pool(b: Builder, node: Node) -> None:
    """MaxPool or AveragePool; padding of a whole window and more becomes a Pad."""
    out, average = node.outputs[0], node.params.get("kind", 0) == PoolKind.AVERAGE
    window = window_of(node, (node.params.get("kernel_h", 1), node.params.get("kernel_w", 1)))
    x, pads = b.value(node.inputs[0], FIRST), list(window.pads)
    include = bool(node.params.get("count_include_pad", False))
    if any(p >= k for p, k in zip(pads, window.kernel * 2, strict=True)):
        if average and not include:
            raise b.fail(node, f"padding {pads} as large as the window {list(window.kernel)} has no form in ONNX")
        amounts = b.integers([0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]], "pads")
        x = b.op("Pad", [x, amounts, b.number(0.0 if average else -np.inf, "value")], f"{out}.padded")
        pads, include = [0, 0, 0, 0], False
    attributes: dict[str, Any] = {"kernel_shape": list(window.kernel), "strides": list(window.stride), "pads": pads}
    if window.dilation != (1, 1):
        attributes["dilations"] = list(window.dilation)
    if average:
        attributes["count_include_pad"] = int(include)
    b.bind(out, b.op("AveragePool" if average else "MaxPool", [x], f"{out}.raw", **attributes), FIRST)


@emitter("Reduce")
def reduce(b: Builder, node: Node) -> None:
    """Reduce*, or a global pool."""
    name, out = node.inputs[0], node.outputs[0]
    kind, axes = ReduceKind(node.params.get("kind", 0)), [int(a) for a in node.params["axes"]]
    keep = bool(node.params.get("keep_dims", True))
    layout = b.layout([name]) if len(b.tensor(name).shape) == 4 else LAST
    if not keep and not ({1, 2} <= set(axes) or 3 in axes):
        layout = LAST  # the axes that are left would come in another order
    if layout == FIRST and axes == [1, 2] and keep and kind in (ReduceKind.MEAN, ReduceKind.MAX):
        pooled = b.op("GlobalAveragePool" if kind is ReduceKind.MEAN else "GlobalMaxPool", [b.value(name, FIRST)], f"{out}.raw")
        b.bind(out, pooled, FIRST)
        return
    axes = sorted(FROM_FIRST[a] for a in axes) if layout == FIRST else axes
    x = b.value(name, layout)
    if kind is ReduceKind.SUM or b.opset >= 18:
        y = b.op(_REDUCE[kind], [x, b.integers(axes, "axes")], f"{out}.raw", keepdims=int(keep))
    else:
        y = b.op(_REDUCE[kind], [x], f"{out}.raw", axes=axes, keepdims=int(keep))
    b.bind(out, y, layout)


@emitter("Softmax")
def softmax(b: Builder, node: Node) -> None:
    """Softmax or LogSoftmax over the channels."""
    name, out = node.inputs[0], node.outputs[0]
    layout = b.layout([name]) if len(b.tensor(name).shape) == 4 else LAST
    kind = "LogSoftmax" if node.params.get("log", False) else "Softmax"
    b.bind(out, b.op(kind, [b.value(name, layout)], f"{out}.raw", axis=1 if layout == FIRST else -1), layout)


@emitter("LayerNorm")
def layer_norm(b: Builder, node: Node) -> None:
    """LayerNormalization over the last axis."""
    x, gamma, beta = [*node.inputs, "", ""][:3]
    size = b.tensor(x).shape[-1]
    scale = b.value(gamma) if gamma else b.constant(np.ones(size, np.float32), "ones")
    inputs = [b.value(x), scale, *([b.value(beta)] if beta else [])]
    y = b.op("LayerNormalization", inputs, f"{node.outputs[0]}.raw", axis=-1, epsilon=float(node.params.get("epsilon", 1e-5)))
    b.bind(node.outputs[0], y)


@emitter("ArgMax")
def arg_max(b: Builder, node: Node) -> None:
    """ArgMax or ArgMin."""
    out, get = node.outputs[0], node.params.get
    y = b.op(
        "ArgMin" if get("smallest", False) else "ArgMax",
        [b.value(node.inputs[0])],
        f"{out}.raw",
        axis=int(get("axis", 0)),
        keepdims=int(bool(get("keep_dims", True))),
        select_last_index=int(bool(get("select_last", False))),
    )
    if b.tensor(out).dtype is not DType.INT64:
        y = b.op("Cast", [y], f"{out}.cast", to=ONNX_TYPES[b.tensor(out).dtype])
    b.bind(out, y)
