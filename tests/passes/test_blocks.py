# SPDX-License-Identifier: Apache-2.0
"""Building blocks of published networks, as exporters write them: right results, few nodes, and transposes only where they must be.

Each block is an ONNX model in NCHW; one transpose at its image input and one at its feature-map output are the user's layout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge8 import Model
from edge8.converter.onnx_in import load
from edge8.converter.passes.base import optimise
from edge8.converter.targets.cpu_lite import write

Array = np.ndarray[Any, Any]


class Net:
    """An ONNX model in the making: each method adds something and gives its name back."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def const(self, array: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array), self.name()))
        return self.weights[-1].name

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.const(np.array(value, np.float32))

    def random(self, *shape: int) -> str:
        fan = float(np.prod(shape[1:])) if len(shape) > 1 else 1.0
        return self.const((self.rng.normal(size=shape) / np.sqrt(fan)).astype(np.float32))

    def input(self, *shape: int, kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(self.name(), kind, shape))
        return self.inputs[-1].name

    def op(self, table: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(table, *inputs, outputs=1, **attributes)[0]

    def ops(self, table: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(table, list(inputs), names, name=f"{table}_{self.count}", **attributes))
        return names

    def conv(self, x: str, inputs: int, outputs: int, size: int = 3, group: int = 1, stride: int = 1) -> str:
        weights = self.random(outputs, inputs // group, size, size)
        return self.op("Conv", x, weights, self.random(outputs), pads=[size // 2] * 4, strides=[stride] * 2, group=group)

    def norm(self, x: str, channels: int) -> str:
        variance = self.const(self.rng.uniform(0.5, 2, channels).astype(np.float32))
        return self.op("BatchNormalization", x, self.random(channels), self.random(channels), self.random(channels), variance)

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        return self.op("Add", self.op("MatMul", x, self.random(inputs, outputs)), self.random(outputs))

    def layer_norm(self, x: str, channels: int) -> str:
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1]))
        variance = self.op("ReduceMean", self.op("Pow", centred, self.number(2)), axes=[-1])
        y = self.op("Div", centred, self.op("Sqrt", self.op("Add", variance, self.number(1e-5))))
        return self.op("Add", self.op("Mul", y, self.random(channels)), self.random(channels))

    def gelu(self, x: str) -> str:
        inner = self.op("Add", self.op("Erf", self.op("Div", x, self.number(np.sqrt(2)))), self.number(1))
        return self.op("Mul", self.op("Mul", x, inner), self.number(0.5))

    def attention(self, x: str, tokens: int, width: int, heads: int, mask: str = "") -> str:
        def split(y: str, *perm: int) -> str:
            return self.op("Transpose", self.op("Reshape", y, self.ints(0, tokens, heads, width // heads)), perm=perm)

        q, k, v = (self.dense(x, width, width) for _ in range(3))
        scores = self.op("Div", self.op("MatMul", split(q, 0, 2, 1, 3), split(k, 0, 2, 3, 1)), self.number(np.sqrt(width // heads)))
        scores = self.op("Add", scores, mask) if mask else scores
        y = self.op("MatMul", self.op("Softmax", scores, axis=-1), split(v, 0, 2, 1, 3))
        y = self.op("Reshape", self.op("Transpose", y, perm=[0, 2, 1, 3]), self.ints(0, tokens, width))
        return self.dense(y, width, width)

    def model(self, *outputs: str) -> onnx.ModelProto:
        kinds = {n.output[0]: TensorProto.INT64 for n in self.nodes if n.op_type == "ArgMax"}
        values = [helper.make_tensor_value_info(o, kinds.get(o, TensorProto.FLOAT), None) for o in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, values, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


Block = Callable[[Net], tuple[str, ...]]
BLOCKS: dict[str, tuple[Block, int, dict[str, int]]] = {}


def block(transposes: int, **counts: int) -> Callable[[Block], Block]:
    """Register a block with the transposes that may stay and the exact number of some operators."""

    def register(function: Block) -> Block:
        BLOCKS[function.__name__] = (function, transposes, counts)
        return function

    return register


@block(3, Reshape=2)
def channel_shuffle(n: Net) -> tuple[str, ...]:
    left, right = n.ops("Split", n.conv(n.input(1, 3, 16, 16), 3, 8), n.ints(4, 4), outputs=2, axis=1)
    right = n.conv(n.op("Relu", n.conv(right, 4, 4)), 4, 4, group=4)
    y = n.op("Reshape", n.op("Concat", left, right, axis=1), n.ints(1, 2, 4, 16, 16))
    y = n.op("Reshape", n.op("Transpose", y, perm=[0, 2, 1, 3, 4]), n.ints(1, 8, 16, 16))
    return (n.conv(y, 8, 4),)


@block(3, Reshape=2)
def pixel_shuffle(n: Net) -> tuple[str, ...]:
    return (n.conv(n.op("DepthToSpace", n.conv(n.input(1, 3, 8, 8), 3, 12), blocksize=2, mode="CRD"), 3, 3),)


@block(2, Unary=1)
def focus_and_silu(n: Net) -> tuple[str, ...]:
    x = n.input(1, 3, 16, 16)
    parts = [n.op("Slice", x, n.ints(a, b), n.ints(2**31, 2**31), n.ints(2, 3), n.ints(2, 2)) for a in (0, 1) for b in (0, 1)]
    y = n.conv(n.op("Concat", *parts, axis=1), 12, 8)
    return (n.op("Mul", y, n.op("Sigmoid", y)),)


@block(2, Conv2D=4, Unary=1, Binary=1)
def squeeze_excite(n: Net) -> tuple[str, ...]:
    y = n.op("Relu", n.conv(n.input(1, 8, 16, 16), 8, 8))
    s = n.op("Relu", n.conv(n.op("GlobalAveragePool", y), 8, 4, size=1))
    s = n.op("HardSigmoid", n.conv(s, 4, 8, size=1), alpha=1 / 6, beta=0.5)
    return (n.conv(n.op("Mul", y, s), 8, 8),)


@block(2, Conv2D=2, FullyConnected=2, Unary=1, Binary=1)
def squeeze_excite_by_gemm(n: Net) -> tuple[str, ...]:
    y = n.op("Relu", n.conv(n.input(1, 8, 16, 16), 8, 8))
    s = n.op("ReduceMean", y, axes=[2, 3], keepdims=0)
    s = n.op("Relu", n.op("Gemm", s, n.random(4, 8), n.random(4), transB=1))
    s = n.op("Sigmoid", n.op("Gemm", s, n.random(8, 4), n.random(8), transB=1))
    return (n.conv(n.op("Mul", y, n.op("Reshape", s, n.ints(1, 8, 1, 1))), 8, 8),)


@block(4, Conv2D=8)
def anchor_free_head(n: Net) -> tuple[str, ...]:
    features, boxes, classes = n.op("Relu", n.conv(n.input(1, 3, 32, 32), 3, 16, stride=2)), [], []
    for stride, points in ((1, 256), (2, 64)):
        y = n.conv(features, 16, 16, stride=stride)
        boxes.append(n.op("Reshape", n.conv(y, 16, 64, size=1), n.ints(1, 64, points)))
        classes.append(n.op("Reshape", n.conv(y, 16, 10, size=1), n.ints(1, 10, points)))
    d = n.op("Reshape", n.op("Concat", *boxes, axis=2), n.ints(1, 4, 16, 320))
    d = n.op("Softmax", n.op("Transpose", d, perm=[0, 2, 1, 3]), axis=1)
    d = n.op("Reshape", n.op("Conv", d, n.const(np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1))), n.ints(1, 4, 320))
    left, right = n.ops("Split", d, n.ints(2, 2), outputs=2, axis=1)
    anchors = n.random(1, 2, 320)
    low, high = n.op("Sub", anchors, left), n.op("Add", anchors, right)
    centre = n.op("Div", n.op("Add", low, high), n.number(2))
    box = n.op("Mul", n.op("Concat", centre, n.op("Sub", high, low), axis=1), n.const(np.full((1, 320), 8, np.float32)))
    return (n.op("Concat", box, n.op("Sigmoid", n.op("Concat", *classes, axis=2)), axis=1),)


@block(2, Conv2D=3, Resize=1)
def pyramid_pooling(n: Net) -> tuple[str, ...]:
    y = n.op("Relu", n.conv(n.input(1, 8, 16, 16), 8, 8))
    parts = [y, *(n.op("MaxPool", y, kernel_shape=[k, k], pads=[k // 2] * 4) for k in (5, 9))]
    small = n.conv(n.op("Concat", *parts, axis=1), 24, 8, size=1, stride=2)
    scales = n.const(np.array([1, 1, 2, 2], np.float32))
    up = n.op("Resize", small, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    return (n.conv(n.op("Concat", up, y, axis=1), 16, 4),)


@block(1, Softmax=1)
def detection_heads(n: Net) -> tuple[str, ...]:
    y = n.op("Relu", n.conv(n.input(1, 3, 32, 32), 3, 16, stride=2))
    z = n.op("Relu", n.conv(y, 16, 16, stride=2))
    heads = [n.op("Reshape", n.op("Transpose", n.conv(t, 16, 12), perm=[0, 2, 3, 1]), n.ints(1, -1, 4)) for t in (y, z)]
    return (n.op("Softmax", n.op("Concat", *heads, axis=1), axis=2),)


@block(5, LayerNorm=3, FullyConnected=7, MatMul=2, Unary=1)
def vision_transformer(n: Net) -> tuple[str, ...]:
    y = n.op("Conv", n.input(1, 3, 32, 32), n.random(32, 3, 8, 8), n.random(32), strides=[8, 8])
    y = n.op("Transpose", n.op("Reshape", y, n.ints(1, 32, 16)), perm=[0, 2, 1])
    y = n.op("Add", n.op("Concat", n.random(1, 1, 32), y, axis=1), n.random(1, 17, 32))
    y = n.op("Add", y, n.attention(n.layer_norm(y, 32), 17, 32, 4))
    y = n.op("Add", y, n.dense(n.gelu(n.dense(n.layer_norm(y, 32), 32, 64)), 64, 32))
    y = n.op("Gather", n.layer_norm(y, 32), n.const(np.array(0, np.int64)), axis=1)
    return (n.op("Gemm", y, n.random(10, 32), n.random(10), transB=1),)


@block(4, LayerNorm=3, FullyConnected=6, MatMul=2, Gather=1)
def text_encoder(n: Net) -> tuple[str, ...]:
    ids, mask = n.input(1, 8, kind=TensorProto.INT64), n.input(1, 8, kind=TensorProto.INT64)
    x = n.layer_norm(n.op("Add", n.op("Gather", n.random(50, 32), ids), n.random(1, 8, 32)), 32)
    m = n.op("Cast", n.op("Unsqueeze", n.op("Unsqueeze", mask, n.ints(1)), n.ints(2)), to=1)
    m = n.op("Mul", n.op("Sub", n.number(1), m), n.number(-3.4028234663852886e38))
    x = n.layer_norm(n.op("Add", n.attention(x, 8, 32, 4, m), x), 32)
    x = n.layer_norm(n.op("Add", n.dense(n.gelu(n.dense(x, 32, 64)), 64, 32), x), 32)
    weights = n.op("Cast", n.op("Expand", n.op("Unsqueeze", mask, n.ints(-1)), n.ints(1, 8, 32)), to=1)
    total = n.op("ReduceSum", n.op("Mul", x, weights), n.ints(1), keepdims=0)
    return (n.op("Div", total, n.op("Clip", n.op("ReduceSum", weights, n.ints(1), keepdims=0), n.number(1e-9))),)


@block(2, DepthwiseConv2D=1, LayerNorm=1, FullyConnected=2, Conv2D=1, Unary=1)
def inverted_block_with_layer_norm(n: Net) -> tuple[str, ...]:
    x = n.input(1, 8, 16, 16)
    y = n.layer_norm(n.op("Transpose", n.conv(x, 8, 8, size=7, group=8), perm=[0, 2, 3, 1]), 8)
    y = n.op("Mul", n.dense(n.gelu(n.dense(y, 8, 32)), 32, 8), n.random(8))
    return (n.conv(n.op("Add", x, n.op("Transpose", y, perm=[0, 3, 1, 2])), 8, 8),)


@block(1, Conv2D=3, FullyConnected=1)
def temporal_convolutions(n: Net) -> tuple[str, ...]:
    def conv(x: str, inputs: int, dilation: int) -> str:
        return n.op("Conv", x, n.random(8, inputs, 3), n.random(8), pads=[2 * dilation, 0], dilations=[dilation])

    y = conv(n.input(1, 4, 64), 4, 1)
    for dilation in (1, 2):
        y = n.op("Relu", n.op("Add", n.op("Relu", n.norm(conv(y, 8, dilation), 8)), y))
    y = n.op("GlobalAveragePool", n.op("AveragePool", y, kernel_shape=[2], strides=[2]))
    return (n.op("Gemm", n.op("Flatten", y), n.random(3, 8), n.random(3), transB=1),)


@block(3, Conv2D=2)
def norm_before_convolution(n: Net) -> tuple[str, ...]:
    x = n.input(1, 8, 16, 16)
    y = n.op("Concat", x, n.conv(n.op("Relu", n.norm(x, 8)), 8, 4), axis=1)
    return (n.op("AveragePool", n.conv(n.op("Relu", n.norm(y, 12)), 12, 6), kernel_shape=[2, 2], strides=[2, 2]),)


@block(2, Conv2D=3, ConvTranspose2D=1, ArgMax=1, Softmax=1, Concat=1)
def encoder_and_decoder(n: Net) -> tuple[str, ...]:
    a = n.op("Relu", n.conv(n.input(1, 3, 16, 16), 3, 8))
    d = n.op("Relu", n.conv(n.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 8, 16))
    up = n.op("ConvTranspose", d, n.random(16, 8, 2, 2), n.random(8), strides=[2, 2])
    y = n.conv(n.op("Concat", a, n.op("Relu", n.norm(up, 8)), axis=1), 16, 2, size=1)
    return n.op("ArgMax", y, axis=1, keepdims=0), n.op("Softmax", y, axis=1)


@block(4, LayerNorm=1, Conv2D=2)
def group_norm(n: Net) -> tuple[str, ...]:
    y = n.op("Reshape", n.conv(n.input(1, 3, 16, 16), 3, 8), n.ints(0, 2, -1))
    y = n.op("InstanceNormalization", y, n.const(np.ones(2, np.float32)), n.const(np.zeros(2, np.float32)))
    y = n.op("Mul", n.op("Reshape", y, n.ints(1, 8, 16, 16)), n.random(8, 1, 1))
    y = n.op("Add", y, n.random(8, 1, 1))
    return (n.conv(n.op("Mul", y, n.op("Sigmoid", y)), 8, 3),)


@block(0, Conv2D=2, FullyConnected=1)
def channels_last_export(n: Net) -> tuple[str, ...]:
    y = n.op("Relu", n.conv(n.op("Transpose", n.input(1, 16, 16, 3), perm=[0, 3, 1, 2]), 3, 8))
    y = n.op("Add", n.op("Transpose", y, perm=[0, 2, 3, 1]), n.random(8))
    y = n.op("Transpose", n.op("Pad", y, n.ints(0, 1, 1, 0, 0, 1, 1, 0)), perm=[0, 3, 1, 2])
    y = n.op("Transpose", n.op("Conv", y, n.random(8, 8, 3, 3)), perm=[0, 2, 3, 1])
    return (n.op("MatMul", n.op("Reshape", y, n.ints(1, -1)), n.random(16 * 16 * 8, 5)),)


@block(1, FullyConnected=1, Conv2D=1)
def flattened_features(n: Net) -> tuple[str, ...]:
    y = n.op("MaxPool", n.op("Relu", n.conv(n.input(1, 3, 8, 8), 3, 8)), kernel_shape=[2, 2], strides=[2, 2])
    return (n.op("Relu", n.op("Gemm", n.op("Dropout", n.op("Flatten", y)), n.random(10, 128), n.random(10), transB=1)),)


@block(0, Conv2D=1, FullyConnected=1, Softmax=1)
def sequence_of_columns(n: Net) -> tuple[str, ...]:
    y = n.op("ReduceMean", n.op("Relu", n.conv(n.input(1, 1, 32, 64), 1, 8, stride=2)), axes=[2], keepdims=0)
    return (n.op("LogSoftmax", n.dense(n.op("Transpose", y, perm=[2, 0, 1]), 8, 12), axis=2),)


@pytest.mark.parametrize("name", list(BLOCKS))
def test_block(name: str) -> None:
    ort: Any = pytest.importorskip("onnxruntime")
    function, transposes, counts = BLOCKS[name]
    net = Net()
    proto = net.model(*function(net))
    graph = load(proto)
    optimise(graph)
    assert graph.metadata["warnings"] == []
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {}
    for value in session.get_inputs():
        whole = net.rng.integers(0, 2 if feeds else 50, value.shape)
        feeds[value.name] = net.rng.normal(size=value.shape).astype(np.float32) if "float" in value.type else whole
    result = Model(write(graph)).session()(feeds)
    outputs = list(result.values()) if isinstance(result, dict) else [result]
    for wanted, found in zip(session.run(None, feeds), outputs, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(np.abs(wanted).max()))
    found_counts = Counter(node.op for node in graph.nodes)
    assert found_counts["Transpose"] <= transposes, graph.dump()
    assert {table: found_counts[table] for table in counts} == counts
