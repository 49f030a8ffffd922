# SPDX-License-Identifier: Apache-2.0
"""Nine networks to measure speed with: the usual architectures with seeded random weights, batch norm folded, written as ONNX.

    python runtime_c/bench/networks.py FOLDER [name ...]

He-initialised weights say nothing about accuracy; layer sizes and data ranges are those of the real networks. ResNet-50 is v1.5, MiniLM
starts behind its embedding (input [1, 128, 384]), DS-CNN and VWW follow MLPerf Tiny.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["NETWORKS", "build", "write"]


class Net:
    """Builds an ONNX graph node by node; every method returns the name of its result."""

    def __init__(self, name: str, shape: tuple[int, ...], gain: float = 2.0) -> None:
        self.random = np.random.default_rng(sum(map(ord, name)))
        self.name, self.shape, self.gain = name, shape, gain
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: np.ndarray[Any, Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weights(self, *shape: int, scale: float = 1.0) -> str:
        deviation = math.sqrt(self.gain / math.prod(shape[1:])) * scale
        return self.constant(self.random.normal(0, deviation, shape).astype(np.float32))

    def bias(self, count: int) -> str:
        return self.constant(self.random.uniform(-0.1, 0.1, count).astype(np.float32))

    def conv(
        self,
        x: str,
        i: int,
        o: int,
        k: int | tuple[int, int] = 3,
        s: int = 1,
        g: int = 1,
        act: str = "relu",
        pad: Any = None,
        scale: float = 1.0,
    ) -> str:
        kh, kw = (k, k) if isinstance(k, int) else k
        ph, pw = ((kh - 1) // 2, (kw - 1) // 2) if pad is None else pad
        y = self.op(
            "Conv",
            x,
            self.weights(o, i // g, kh, kw, scale=scale),
            self.bias(o),
            kernel_shape=[kh, kw],
            strides=[s, s],
            pads=[ph, pw, ph, pw],
            group=g,
        )
        if act == "relu6":
            return self.op("Clip", y, self.constant(np.array(0, np.float32)), self.constant(np.array(6, np.float32)))
        return self.op("Relu", y) if act == "relu" else y

    def linear(self, x: str, i: int, o: int) -> str:
        """x [..., i] times a matrix."""
        w = self.constant(self.random.normal(0, math.sqrt(self.gain / i), (i, o)).astype(np.float32))
        return self.op("Add", self.op("MatMul", x, w), self.bias(o))

    def head(self, x: str, i: int, classes: int) -> str:
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.op("Gemm", flat, self.weights(classes, i), self.bias(classes), transB=1)

    def model(self, output: str, shape: tuple[int, ...]) -> onnx.ModelProto:
        self.nodes[-1].output[0] = "output"
        assert output == self.nodes[-1].name
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        return model


IMAGE = (1, 3, 224, 224)


def _mobilenet_v1(name: str, alpha: float, classes: int, shape: tuple[int, ...]) -> onnx.ModelProto:
    n = Net(name, shape)

    def width(c: int) -> int:
        return int(c * alpha)

    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    i = width(32)
    x = n.conv("input", 3, i, 3, 2, act="relu6")
    for channels, stride in blocks:
        x = n.conv(x, i, i, 3, stride, g=i, act="relu6")
        x = n.conv(x, i, width(channels), 1, act="relu6")
        i = width(channels)
    return n.model(n.head(x, i, classes), (1, classes))


def _mobilenet_v2(name: str) -> onnx.ModelProto:
    n = Net(name, IMAGE)
    i = 32
    x = n.conv("input", 3, i, 3, 2, act="relu6")
    for t, c, repeat, stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for k in range(repeat):
            s, h, y = (stride if k == 0 else 1), i * t, x
            if t > 1:
                y = n.conv(y, i, h, 1, act="relu6")
            y = n.conv(y, h, h, 3, s, g=h, act="relu6")
            y = n.conv(y, h, c, 1, act="", scale=0.3)
            x = n.op("Add", x, y) if s == 1 and i == c else y
            i = c
    x = n.conv(x, i, 1280, 1, act="relu6")
    return n.model(n.head(x, 1280, 1000), (1, 1000))


def _block(n: Net, x: str, i: int, width: int, stride: int, bottleneck: bool) -> tuple[str, int]:
    o = width * 4 if bottleneck else width
    if bottleneck:
        y = n.conv(n.conv(x, i, width, 1), width, width, 3, stride)
        y = n.conv(y, width, o, 1, act="", scale=0.3)
    else:
        y = n.conv(n.conv(x, i, width, 3, stride), width, o, 3, act="", scale=0.3)
    if stride != 1 or i != o:
        x = n.conv(x, i, o, 1, stride, act="")
    return n.op("Relu", n.op("Add", y, x)), o


def _resnet(name: str, layers: tuple[int, ...], bottleneck: bool) -> onnx.ModelProto:
    n = Net(name, IMAGE)
    x = n.conv("input", 3, 64, 7, 2)
    x = n.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    i = 64
    for repeat, width in zip(layers, (64, 128, 256, 512), strict=True):
        for k in range(repeat):
            x, i = _block(n, x, i, width, 2 if k == 0 and width > 64 else 1, bottleneck)
    return n.model(n.head(x, i, 1000), (1, 1000))


def _resnet8(name: str) -> onnx.ModelProto:
    n = Net(name, (1, 3, 32, 32))
    x, i = n.conv("input", 3, 16), 16
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        x, i = _block(n, x, i, width, stride, False)
    return n.model(n.head(x, i, 10), (1, 10))


def _squeezenet(name: str) -> onnx.ModelProto:
    n = Net(name, IMAGE)

    def pool(x: str) -> str:
        return n.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])

    def fire(x: str, i: int, squeeze: int, expand: int) -> str:
        x = n.conv(x, i, squeeze, 1)
        return n.op("Concat", n.conv(x, squeeze, expand, 1), n.conv(x, squeeze, expand, 3), axis=1)

    x = pool(n.conv("input", 3, 64, 3, 2, pad=(0, 0)))
    x = pool(fire(fire(x, 64, 16, 64), 128, 16, 64))
    x = pool(fire(fire(x, 128, 32, 128), 256, 32, 128))
    x = fire(fire(fire(fire(x, 256, 48, 192), 384, 48, 192), 384, 64, 256), 512, 64, 256)
    x = n.conv(x, 512, 1000, 1)
    return n.model(n.op("Flatten", n.op("GlobalAveragePool", x)), (1, 1000))


def _dscnn(name: str) -> onnx.ModelProto:
    n = Net(name, (1, 1, 49, 10))
    x = n.conv("input", 1, 64, (10, 4), 2, pad=(5, 1))
    for _ in range(4):
        x = n.conv(n.conv(x, 64, 64, 3, g=64), 64, 64, 1)
    return n.model(n.head(x, 64, 12), (1, 12))


def _norm(n: Net, x: str, d: int) -> str:
    return n.op("LayerNormalization", x, n.constant(np.ones(d, np.float32)), n.constant(np.zeros(d, np.float32)), axis=-1, epsilon=1e-5)


def _gelu(n: Net, x: str) -> str:
    root = n.constant(np.array(math.sqrt(2), np.float32))
    one, half = n.constant(np.array(1, np.float32)), n.constant(np.array(0.5, np.float32))
    return n.op("Mul", n.op("Mul", x, n.op("Add", n.op("Erf", n.op("Div", x, root)), one)), half)


def _minilm(name: str, layers: int = 6, d: int = 384, heads: int = 12, wide: int = 1536, tokens: int = 128) -> onnx.ModelProto:
    n = Net(name, (1, tokens, d), gain=1.0)
    split = n.constant(np.array([1, tokens, heads, d // heads], np.int64))
    whole = n.constant(np.array([1, tokens, d], np.int64))
    scale = n.constant(np.array((d // heads) ** -0.5, np.float32))
    x = "input"
    for _ in range(layers):
        q, k, v = (n.op("Reshape", n.linear(x, d, d), split) for _ in range(3))
        q, v = n.op("Transpose", q, perm=[0, 2, 1, 3]), n.op("Transpose", v, perm=[0, 2, 1, 3])
        scores = n.op("Mul", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 2, 3, 1])), scale)
        y = n.op("MatMul", n.op("Softmax", scores, axis=-1), v)
        y = n.op("Reshape", n.op("Transpose", y, perm=[0, 2, 1, 3]), whole)
        x = _norm(n, n.op("Add", x, n.linear(y, d, d)), d)
        x = _norm(n, n.op("Add", x, n.linear(_gelu(n, n.linear(x, d, wide)), wide, d)), d)
    return n.model(x, (1, tokens, d))


NETWORKS: dict[str, Callable[[str], onnx.ModelProto]] = {
    "mobilenetv1": lambda name: _mobilenet_v1(name, 1.0, 1000, IMAGE),
    "mobilenetv2": _mobilenet_v2,
    "resnet18": lambda name: _resnet(name, (2, 2, 2, 2), False),
    "resnet50": lambda name: _resnet(name, (3, 4, 6, 3), True),
    "squeezenet11": _squeezenet,
    "dscnn_kws": _dscnn,
    "mobilenetv1_025_vww": lambda name: _mobilenet_v1(name, 0.25, 2, (1, 3, 96, 96)),
    "resnet8_cifar": _resnet8,
    "minilm6": _minilm,
}


def build(name: str) -> onnx.ModelProto:
    """The network called ``name``, the same bytes each time."""
    return NETWORKS[name](name)


def write(name: str, folder: Path) -> Path:
    """Write the network to ``folder`` unless it is there; its path."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(build(name).SerializeToString())
    return path


def main() -> None:
    """Write networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), metavar="name", help=", ".join(NETWORKS))
    arguments = parser.parse_args()
    for name in arguments.names:
        print(write(name, arguments.folder))


if __name__ == "__main__":
    main()
