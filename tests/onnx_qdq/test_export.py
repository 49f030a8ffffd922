# SPDX-License-Identifier: Apache-2.0
"""`--target onnx-qdq`: onnxruntime, with its default options, gives the device's codes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge8 import Model
from edge8.converter import ConvertError, convert
from edge8.converter.api import convert_graph, outputs_of
from edge8.converter.graph import Graph
from edge8.converter.passes.base import optimise
from edge8.converter.quant.scheme import Scheme
from edge8.converter.targets.cpu_lite import write
from edge8.converter.targets.cpu_lite.read import read
from edge8.converter.targets.onnx_qdq import export
from tests.fetch import NETWORKS, Unavailable, network, shared_models
from tests.passes.test_random import Maker
from tests.samples import samples

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "converter" / "examples" / "fashion_mnist"
GOLDEN = [
    p for p in sorted((ROOT / "tests" / "golden" / "v1").glob("*.e8")) if not p.stem.endswith(".dynamic")
]  # rows quantised at run time are refused


def session(model: onnx.ModelProto | bytes) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def steps_of(model: Model) -> dict[str, float]:
    """What one code is worth in each output; outputs without a scale count differences of a 127th of their largest value."""
    tensors = model.tensors
    found = {t.name: t.scale for t in model.outputs if t.scale > 0}
    for op in model.ops:
        if op.kind == "Dequantize" and op.inputs[0] is not None:
            found[tensors[op.outputs[0]].name] = tensors[op.inputs[0]].scale
    return found


def distances(data: bytes, exported: onnx.ModelProto | bytes, inputs: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Per output the differences in codes between the device and onnxruntime, all inputs together."""
    model = Model(data)
    ours, theirs = model.session(1), session(exported)
    names, steps = [t.name for t in theirs.get_outputs()], steps_of(model)
    found: dict[str, list[Array]] = {}
    for x in inputs:
        a, b = outputs_of(ours(x), model), dict(zip(names, theirs.run(None, dict(x)), strict=True))
        assert a.keys() == b.keys()
        for name, y in a.items():
            assert y.shape == b[name].shape
            assert y.dtype == b[name].dtype
            worth = 1.0 if y.dtype.kind != "f" else steps.get(name) or max(float(np.abs(y).max()) / 127, 1e-30)
            if y.dtype.kind == "f" and not np.isfinite(y).all():
                np.testing.assert_array_equal(np.isnan(y), np.isnan(b[name]))
                continue
            found.setdefault(name, []).append(np.abs(y.astype(np.float64) - b[name]).ravel() / worth)
    return {name: np.rint(np.concatenate(parts)) for name, parts in found.items()}


def agree(data: bytes, exported: onnx.ModelProto | bytes, inputs: Sequence[Mapping[str, Array]], most: int = 1) -> None:
    """At most ``most`` codes of difference on at least 99.9 % of every output."""
    for name, distance in distances(data, exported, inputs).items():
        assert (distance <= most).mean() >= 0.999, f"{name}: {(distance <= most).mean():.4%} within {most} codes, most {distance.max()}"


def demo_inputs(count: int) -> list[dict[str, Array]]:
    with np.load(DEMO / "test.npz") as archive:
        pictures = archive["image"][:count]
    return [{"image": ((x.astype(np.float32) - 127.5) / np.float32(127.5)).transpose(2, 0, 1)[None]} for x in pictures]


def demo_options() -> dict[str, Any]:
    return {"calibration": DEMO / "calibration.npz", "preprocess": DEMO / "preprocess.toml"}


def test_demo_network(tmp_path: Path) -> None:
    ours = convert(DEMO / "model.onnx", **demo_options())
    path = tmp_path / "net.onnx"
    convert(DEMO / "model.onnx", path, target="onnx-qdq", **demo_options())
    exported = onnx.load(path)
    agree(ours.data, exported, demo_inputs(100))
    distance = distances(ours.data, exported, demo_inputs(100))["logits"]
    assert distance.max() == 0, "the demo's codes were equal in onnxruntime when this was written"
    assert exported.opset_import[0].version >= 13
    kinds = [node.op_type for node in exported.graph.node]
    assert kinds.count("Transpose") <= 2, "transposes remain in the middle"
    check_form(exported, ours.data)


def check_form(model: onnx.ModelProto, data: bytes) -> None:
    """Weights have a scale per output channel, biases are int32, scales and zero points are the file's."""
    graph = read(data)
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    pairs = {
        (float(values[n.input[1]]), int(values[n.input[2]]) - 128)
        for n in model.graph.node
        if n.op_type == "QuantizeLinear" and values[n.input[2]].dtype == np.uint8
    }
    wanted = {(float(t.scale[0]), t.zero_point) for t in graph.activations() if t.scale is not None}
    assert wanted == pairs
    weights = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in values and values[n.input[0]].ndim > 1]
    layers = [node for node in graph.nodes if node.op in ("Conv2D", "DepthwiseConv2D", "FullyConnected")]
    assert len(weights) == len(layers)
    for n in weights:
        assert values[n.input[1]].ndim == 1
        assert values[n.input[1]].size == values[n.input[0]].shape[0]
    biases = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in values and values[n.input[0]].ndim == 1]
    assert {values[n.input[0]].dtype for n in biases} == {np.dtype(np.int32)}


@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet-lite0", "ppocr-direction", "magika-standard", "mtcnn-onet"])
def test_real_networks(name: str) -> None:
    if shared_models() is None and name in ("mobilenetv2", "efficientnet-lite0", "mtcnn-onet"):
        pytest.skip("the shared models are not here")
    try:
        data = samples(name, 6, seed=5)
        path = network(name)
    except Unavailable as reason:
        pytest.skip(str(reason))
    options: dict[str, Any] = {"calibration": data[:3], "input_shape": NETWORKS[name].shapes, "method": "minmax", "threads": 2}
    ours = convert(path, **options)
    agree(ours.data, export(ours.data), data)


def mixed_model() -> onnx.ModelProto:
    """Convolution, sum, Concat, sigmoid product, pools, Resize, matrix product and Softmax."""
    rng = np.random.default_rng(7)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 1 / math.sqrt(np.prod(shape[1:])), shape).astype(np.float32), name)

    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1]),
        node("Relu", ["c0"], ["r0"]),
        node("Conv", ["r0", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Sigmoid", ["c1"], ["g1"]),
        node("Mul", ["c1", "g1"], ["m1"]),
        node("Add", ["m1", "r0"], ["a1"]),
        node("Sub", ["a1", "m1"], ["a2"]),
        node("Concat", ["a1", "r0", "a2"], ["k1"], axis=1),
        node("AveragePool", ["k1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("MaxPool", ["p1"], ["p2"], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]),
        node("Resize", ["p2", "", "scales"], ["u1"], mode="linear", coordinate_transformation_mode="half_pixel"),
        node("Conv", ["u1", "w2", "b2"], ["c2"], group=4),
        node("Clip", ["c2", "zero", "six"], ["s2"]),
        node("Transpose", ["s2"], ["t2"], perm=[0, 2, 3, 1]),
        node("Reshape", ["t2", "rows"], ["v2"]),
        node("MatMul", ["v2", "w3"], ["f3"]),
        node("Add", ["f3", "b3"], ["h3"]),
        node("Softmax", ["h3"], ["y"], axis=-1),
    ]
    constants = [
        *(weight("w0", 8, 3, 3, 3), weight("b0", 8), weight("w1", 8, 8, 3, 3)),
        *(weight("w2", 8, 6, 1, 1), weight("b2", 8), weight("w3", 8, 10), weight("b3", 10)),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(np.float32(0.5), "six"),
        numpy_helper.from_array(np.array([1, -1, 8], np.int64), "rows"),
    ]
    graph = helper.make_graph(
        nodes,
        "mixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 144, 10])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def mixed_inputs(count: int, seed: int) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(0, 1, (1, 3, 12, 12)).astype(np.float32)} for _ in range(count)]


def test_concat_add_softmax() -> None:
    ours = convert(mixed_model(), calibration=mixed_inputs(8, 1))
    assert {d.domain for d in ours.decisions} == {"int8"}
    agree(ours.data, export(ours.data), mixed_inputs(20, 2))


def test_inner_codes_are_equal() -> None:
    """Not only the outputs: the sums, products, means and clamps inside give the same codes, so nothing is off by luck."""
    data = convert(mixed_model(), calibration=mixed_inputs(8, 1)).data
    exported = export(data)
    inner = [n.output[0] for n in exported.graph.node if n.op_type == "QuantizeLinear"]
    exported.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in inner)
    theirs = session(exported)
    model = Model(data)
    ours, tensors, ops = model.session(1), model.tensors, model.ops
    compared = 0
    for x in mixed_inputs(5, 3):
        got: dict[str, Array] = {}

        def after(op: int, got: dict[str, Array] = got) -> None:
            t = tensors[ops[op].outputs[0]]
            got[t.name] = ours.tensor(t.index).copy()

        with ours.hook(after=after):
            ours(x)
        results = dict(zip([t.name for t in theirs.get_outputs()], theirs.run(None, x), strict=True))
        for name, codes in got.items():
            other = results.get(f"{name}.codes")
            if other is None or codes.dtype != np.int8 or name.startswith("y"):  # y: softmax, a table on the device
                continue
            other = other if other.shape == codes.shape else other.transpose(0, 2, 3, 1)
            np.testing.assert_array_equal(codes.astype(int), other.astype(int) - 128, err_msg=name)
            compared += 1
    assert compared >= 5 * 10


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_every_operator(path: Path) -> None:
    data = path.read_bytes()
    model = Model(data)
    rng = np.random.default_rng(1)
    inputs = []
    for _ in range(4):
        x: dict[str, Array] = {}
        for t in model.inputs:
            if t.dtype.kind == "f":
                x[t.name] = rng.normal(0, 1, t.shape).astype(np.float32)
                if path.stem.startswith("normalize_picture"):  # it casts to uint8, where only 0 to 255 are defined
                    x[t.name] = np.abs(x[t.name] * 60).clip(0, 255)
            elif t.dtype.kind == "b":
                x[t.name] = rng.random(t.shape) < 0.5
            else:
                x[t.name] = rng.integers(-128 if t.scale else 0, 128 if t.scale else 2, t.shape).astype(t.dtype)
        inputs.append(x)
    agree(data, export(data), inputs, most=2 if path.stem.endswith(".int16") else 1)  # onnxruntime sums int16 in float32


@pytest.mark.parametrize("quant", ["weight", "float"])
def test_other_quantisations(quant: str) -> None:
    ours = convert(DEMO / "model.onnx", quant=quant)
    exported = export(ours.data)
    assert not any(n.op_type == "QuantizeLinear" for n in exported.graph.node)
    coded = [n for n in exported.graph.node if n.op_type == "DequantizeLinear"]
    assert len(coded) == (14 if quant == "weight" else 0)
    model = Model(ours.data)
    for x in demo_inputs(5):
        y = outputs_of(model.session(1)(x), model)["logits"]
        np.testing.assert_allclose(session(exported).run(None, x)[0], y, rtol=2e-2 if quant == "weight" else 1e-4, atol=2e-2)


def test_codes_as_inputs_and_outputs() -> None:
    ours = convert(DEMO / "model.onnx", io="int8", **demo_options())
    exported = export(ours.data)
    assert [i.type.tensor_type.elem_type for i in (*exported.graph.input, *exported.graph.output)] == [TensorProto.INT8] * 2
    rng = np.random.default_rng(0)
    distance = distances(ours.data, exported, [{"image": rng.integers(-128, 128, (1, 1, 28, 28)).astype(np.int8)} for _ in range(10)])
    assert distance["logits"].max() <= 1


def test_signed_codes() -> None:
    ours = convert(DEMO / "model.onnx", **demo_options())
    exported = onnx.load_from_string(convert(DEMO / "model.onnx", target="onnx-qdq", codes="int8", **demo_options()).data)
    kinds = {i.data_type for i in exported.graph.initializer}
    assert TensorProto.INT8 in kinds
    assert TensorProto.UINT8 not in kinds
    # Float arithmetic: every node as it stands, on any CPU.
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    theirs = ort.InferenceSession(exported.SerializeToString(), options, providers=["CPUExecutionProvider"])
    model = Model(ours.data)
    step = steps_of(model)["logits"]
    a = np.stack([outputs_of(model.session(1)(x), model)["logits"] for x in demo_inputs(30)])
    b = np.stack([theirs.run(None, x)[0] for x in demo_inputs(30)])
    assert (np.abs(a - b) <= 1.01 * step).mean() >= 0.999


def test_operator_without_onnx_form() -> None:
    graph: Graph = read(convert(DEMO / "model.onnx", quant="weight").data)
    next(node for node in graph.nodes if node.op == "FullyConnected").params["dynamic"] = True
    with pytest.raises(ConvertError, match=r"FullyConnected node '/31/Gemm'.*row by row"):
        export(write(graph))


def test_unknown_codes_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="--codes: unknown type 'int4'"):
        convert(DEMO / "model.onnx", target="onnx-qdq", codes="int4", **demo_options())
    with pytest.raises(ConvertError, match="folder does not exist"):
        convert(DEMO / "model.onnx", tmp_path / "no" / "net.onnx", target="onnx-qdq", **demo_options())
    with pytest.raises(TypeError, match="codes"):
        convert(DEMO / "model.onnx", codes="int8", **demo_options())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    maker = Maker(data)
    for _ in range(data.draw(st.integers(3, 12))):
        maker.step()
    outputs = list(dict.fromkeys(x for x in maker.made[2:][-3:] if maker.shape(x)))
    if not outputs:
        return
    graph = maker.b.finish(*outputs)
    optimise(graph)
    rng = np.random.default_rng(0)

    def inputs() -> dict[str, Array]:
        return {name: rng.normal(0, 1, graph.tensors[name].shape).astype(np.float32) for name in graph.inputs}

    file = convert_graph(graph, Scheme(), [inputs() for _ in range(4)], method="minmax")[0]
    for name, distance in distances(file, export(file), [inputs() for _ in range(4)]).items():
        # Float operators between int8 ones and softmax tables may move single codes, and few values make coarse shares.
        assert (distance <= 1).mean() >= 0.99, name
