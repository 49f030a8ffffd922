# SPDX-License-Identifier: Apache-2.0
"""Write golden files of the present format: `python tests/golden/make.py FOLDER`.

A golden file of a released version is never made again. Each is a small network of one operator family, with its input and output
in expected.npz, so that a later runtime can show that it opens the file and gives the same bytes.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import edge8
from edge8.calibrate import Calibration
from edge8.converter import schema_generated as schema
from edge8.converter.graph import DType, Graph, Node, Tensor
from edge8.converter.ops import operators
from edge8.converter.quant.scheme import Scheme, apply
from edge8.converter.targets.cpu_lite import write

Array = np.ndarray[Any, Any]
SHAPE = (1, 6, 5, 8)


class Builder:
    """A graph with one input `x` of SHAPE to which nodes are appended."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(8)
        self.graph = Graph(inputs=["x"])
        self.graph.add(Tensor("x", SHAPE))
        self.last = "x"

    def weights(self, *shape: int) -> str:
        """A constant of small normal numbers."""
        return self.graph.constant((self.random.standard_normal(shape) * 0.3).astype(np.float32), "w")

    def add(self, op: str, *others: str, **params: Any) -> Builder:
        """Append a node that reads the last result and `others`."""
        return self.add_inputs(op, [self.last, *others], **params)

    def add_inputs(
        self, op: str, inputs: list[str], shape: tuple[int, ...] | None = None, dtype: DType = DType.FLOAT32, **params: Any
    ) -> Builder:
        """Append a node with these inputs; `shape` and `dtype` where the output's do not follow from them."""
        node = Node(op, inputs, [], params, f"{op.lower()}{len(self.graph.nodes)}")
        if shape is None:
            ((shape, dtype),) = operators()[op].infer(node, [self.graph.tensors[n] if n else None for n in inputs])
        self.last = self.graph.add(Tensor(self.graph.fresh("y"), shape, dtype))
        node.outputs = [self.last]
        self.graph.nodes.append(node)
        return self

    def done(self) -> Graph:
        """The graph, with the last result as its output."""
        self.graph.outputs = [self.last]
        return self.graph


def families() -> Iterator[tuple[str, Graph]]:
    """A small network per operator family."""
    same = {"pad_top": 1, "pad_left": 1, "pad_bottom": 1, "pad_right": 1}
    b = Builder()
    yield "conv2d", b.add("Conv2D", b.weights(12, 3, 3, 8), b.weights(12), **same, act_min=0.0).done()
    b = Builder()
    yield "conv2d_group", b.add("Conv2D", b.weights(6, 3, 3, 4), b.weights(6), **same, group=2, stride_h=2, stride_w=2).done()
    b = Builder()
    yield "conv2d_residual", b.add("Conv2D", b.weights(8, 1, 1, 8), b.weights(8), "", "x").done()
    b = Builder()
    yield (
        "depthwise_conv2d",
        b.add("DepthwiseConv2D", b.weights(3, 3, 16), b.weights(16), **same, multiplier=2, act_min=0.0, act_max=6.0).done(),
    )
    b = Builder()
    yield "conv_transpose2d", b.add("ConvTranspose2D", b.weights(4, 3, 3, 8), b.weights(4), stride_h=2, stride_w=2).done()
    b = Builder()
    yield "fully_connected", b.add("FullyConnected", b.weights(10, 8), b.weights(10)).done()
    b = Builder()
    yield "mat_mul", b.add_inputs("MatMul", ["x", "x"], transpose_b=True).done()
    kinds = schema.BinaryKind
    b = Builder()
    c = b.weights(8)
    yield (
        "binary",
        b.add("Binary", c, kind=kinds.ADD, act_min=0.0).add("Binary", "x", kind=kinds.MUL).add("Binary", "x", kind=kinds.SUB).done(),
    )
    b = Builder()
    b.add("Conv2D", b.weights(8, 1, 1, 8), b.weights(8))
    for kind in (schema.UnaryKind.HARD_SWISH, schema.UnaryKind.TANH, schema.UnaryKind.GELU, schema.UnaryKind.SIGMOID):
        b.add("Unary", kind=kind)
    yield "unary", b.done()
    b = Builder()
    pool = {"kernel_h": 3, "kernel_w": 3, **same}
    yield "pool2d", b.add("Pool2D", kind=schema.PoolKind.MAX, **pool).add("Pool2D", kind=schema.PoolKind.AVERAGE, **pool).done()
    b = Builder()
    yield "reduce", b.add("Reduce", kind=schema.ReduceKind.MEAN, axes=[1, 2]).done()
    b = Builder()
    yield "softmax", b.add("Conv2D", b.weights(8, 1, 1, 8), b.weights(8)).add("Softmax").done()
    b = Builder()
    yield "layer_norm", b.add("Conv2D", b.weights(8, 1, 1, 8), b.weights(8)).add("LayerNorm", b.weights(8), b.weights(8)).done()
    b = Builder()
    b.add("Conv2D", b.weights(8, 1, 1, 8), b.weights(8)).add("Concat", "x", axis=3)
    b.add("Slice", shape=(1, 3, 5, 5), start=[0, 4, 0, 2], step=[1, -2, 1, 3])
    yield (
        "movement",
        b.add("Pad", kind=schema.PadKind.EDGE, before=[0, 1, 0, 0], after=[0, 0, 2, 0]).add("Transpose", perm=[0, 3, 1, 2]).done(),
    )
    b = Builder()
    peaked = b.graph.constant((b.random.standard_normal((48, 3, 3, 8)) ** 3).astype(np.float32), "w")
    yield "entropy", b.add("Conv2D", peaked, b.weights(48)).done()
    b = Builder()
    b.add("Cast", shape=SHAPE, dtype=DType.UINT8).add("NormalizePicture", mean=[0.5] * 8, std=[0.25, 0.5, 1.0, 2.0, -1.0, 3.0, 0.1, 1.5])
    yield "normalize_picture", b.add("Conv2D", b.weights(8, 1, 1, 8), b.weights(8)).done()


def build(graph: Graph, mode: str, x: Array) -> bytes:
    """The file of a graph, `mode` as in Scheme or "int16" (full, with int16 activations; "borders": every other node) or the width
    of entropy-coded weights; full ones are calibrated on x."""
    quantised = copy.deepcopy(graph)
    wide: dict[str, Any] = {"int16": {"activations": "int16"}, "borders": {"int16": tuple(n.name for n in graph.nodes[::2])}}.get(mode, {})
    if mode in ("4bits", "8bits"):
        apply(quantised, Scheme(mode="weight", bits=int(mode[0])))
        return write(quantised, "on")
    apply(quantised, Scheme(mode="full", **wide) if wide else Scheme(mode=mode, calibratable=mode == "weight"))
    data = write(quantised)
    if mode not in ("full", "int16", "borders") or edge8.Model(data).calibrated:
        return data
    calibration = Calibration(edge8.Model(data))
    calibration.run([x])
    return calibration.fill("minmax")


def main() -> None:
    """Write every family in each form."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    expected = {"x": np.random.default_rng(88).standard_normal(SHAPE).astype(np.float32)}
    for name, graph in families():
        extra = {"fully_connected": ["dynamic"], "unary": ["borders"], "movement": ["borders"]}.get(name, [])
        forms = ["float", "weight", "full"]
        if name == "entropy":
            forms = ["4bits", "8bits"]
        elif any(operators()[node.op].int16 for node in graph.nodes):
            extra.append("int16")
        for mode in (*forms, *extra):
            data = build(graph, mode, expected["x"])
            (folder / f"{name}.{mode}.e8").write_bytes(data)
            expected[f"{name}.{mode}"] = edge8.Model(data).session()(expected["x"])
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    main()
