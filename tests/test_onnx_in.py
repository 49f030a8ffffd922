# SPDX-License-Identifier: Apache-2.0
"""The importer's trust boundary: what it takes, what it refuses and how it says so."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge8.converter.errors import ConvertError
from edge8.converter.evaluate import evaluate
from edge8.converter.graph import DType, Graph
from edge8.converter.onnx_in import load

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[Any]],
    outputs: list[str],
    weights: dict[str, Array] | None = None,
    opset: int = 17,
    kinds: dict[str, int] | None = None,
    domains: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """A model; outputs have no shape, inputs are float32 unless ``kinds`` says otherwise."""
    kinds = kinds or {}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), None) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in (domains or {}).items())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def conv_model(**kwargs: Any) -> onnx.ModelProto:
    """Conv and Relu on ``x``."""
    weights = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv1", pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["y"])]
    return model(nodes, {"x": kwargs.pop("shape", ["N", 3, 8, 8])}, ["y"], {"w": kwargs.pop("w", weights)}, **kwargs)


def refused(source: Any, *words: str, rule: str = "", **kwargs: Any) -> ConvertError:
    """The error of a model that must be refused; its text holds all words."""
    with pytest.raises(ConvertError) as caught:
        load(source, **kwargs)
    for word in words:
        assert word in str(caught.value)
    if rule:
        assert caught.value.rule == rule
    assert "Traceback" not in str(caught.value)
    return caught.value


def written(proto: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


# ---- the file --------------------------------------------------------------------------------------------------------------------------


def test_missing_file_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "none.onnx", "No such file", rule="onnx.file")
    refused(tmp_path, "not a file", rule="onnx.file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file(tmp_path: Path) -> None:
    path = written(conv_model(), tmp_path / "m.onnx")
    path.chmod(0)
    refused(path, "Permission denied", rule="onnx.file")


@pytest.mark.parametrize("content", [b"", b"not onnx at all", b"\x00" * 64, b"GIF89a" * 10, b"\xff" * 1000])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    refused(path, "m.onnx")


def test_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    content = conv_model().SerializeToString()
    path = tmp_path / "m.onnx"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        refused(path, "m.onnx")


def test_changed_bytes_give_a_graph_or_an_error(tmp_path: Path) -> None:
    content = conv_model().SerializeToString()
    rng = np.random.default_rng(3)
    path = tmp_path / "m.onnx"
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
        path.write_bytes(bytes(changed))
        with contextlib.suppress(ConvertError):
            load(path).check()


def test_model_that_breaks_onnx_rules() -> None:
    proto = conv_model()
    proto.graph.node[0].input[0] = "nowhere"
    refused(proto, "checker", rule="onnx.checker")


# ---- opsets ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21])
def test_supported_opsets(opset: int) -> None:
    assert load(conv_model(opset=opset)).metadata["warnings"] == []


def test_newer_opset_is_taken_with_a_warning() -> None:
    assert "newer" in load(conv_model(opset=22)).metadata["warnings"][0]


def test_older_opset_is_raised() -> None:
    assert "older" in load(conv_model(opset=8)).metadata["warnings"][0]


def test_model_without_opset() -> None:
    proto = conv_model()
    del proto.opset_import[:]
    refused(proto, "operator set", rule="onnx.opset")


# ---- external data ---------------------------------------------------------------------------------------------------------------------


def external(tmp_path: Path, location: str, **entries: int) -> Path:
    """A model whose weights lie in a file; the file is written beside it as w.bin."""
    proto = conv_model()
    tensor = proto.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes(b"\0" * 64 + tensor.raw_data)
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": 64, "length": size, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return written(proto, tmp_path / "m.onnx")


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    graph = load(external(tmp_path, "w.bin"))
    assert any(t.data is not None and np.any(t.data) for t in graph.tensors.values())


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "", "."])
def test_external_data_elsewhere(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    refused(external(folder, location), "outside the model's folder", rule="onnx.external")


def test_external_data_behind_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(folder, "link.bin")
    (folder / "w.bin").rename(tmp_path / "secret.bin")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    refused(path, "outside the model's folder", rule="onnx.external")


@pytest.mark.parametrize(("entries", "word"), [({"offset": 10**9}, "wants up to"), ({"length": 12}, "needs"), ({"offset": -1}, "number")])
def test_external_data_that_does_not_fit(tmp_path: Path, entries: dict[str, int], word: str) -> None:
    proto_path = external(tmp_path, "w.bin")
    proto = onnx.load(str(proto_path), load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key in entries:
            entry.value = str(entries[entry.key])
    refused(written(proto, tmp_path / "n.onnx"), word, rule="onnx.external")


def test_external_data_file_is_missing(tmp_path: Path) -> None:
    path = external(tmp_path, "w.bin")
    (tmp_path / "w.bin").unlink()
    refused(path, "w.bin", "cannot be read", rule="onnx.external")


def test_external_data_without_a_folder(tmp_path: Path) -> None:
    refused(onnx.load(str(external(tmp_path, "w.bin")), load_external_data=False), "in memory", rule="onnx.external")


# ---- shapes ----------------------------------------------------------------------------------------------------------------------------


def test_free_batch_becomes_one() -> None:
    graph = load(conv_model())
    assert graph.dynamic_batch
    assert graph.tensors["x"].shape == (1, 3, 8, 8)
    assert not load(conv_model(shape=[1, 3, 8, 8])).dynamic_batch


def test_free_dimensions_need_the_flag() -> None:
    error = refused(conv_model(shape=["N", 3, "H", None]), "'x' [1, 3, H, ?]", "--input-shape x:1,3,<size>,<size>")
    assert error.rule == "input_shape.missing"
    graph = load(conv_model(shape=["N", 3, "H", None]), input_shape={"x": (2, 3, 6, 7)})
    assert graph.tensors["x"].shape == (2, 3, 6, 7)
    assert graph.dynamic_batch


def test_sequence_first_input_is_no_batch() -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": ["seq_len", 5]}, ["y"])
    refused(proto, "'x' [seq_len, 5]", rule="input_shape.missing")


def test_one_symbol_is_one_size() -> None:
    proto = model([helper.make_node("Add", ["a", "b"], ["y"])], {"a": ["N", "T"], "b": ["N", "T"]}, ["y"])
    assert load(proto, input_shape={"a": (1, 7)}).tensors["b"].shape == (1, 7)
    refused(proto, "'T'", rule="input_shape.conflict", input_shape={"a": (1, 7), "b": (1, 8)})


@pytest.mark.parametrize(
    ("shape", "rule"),
    [((1, 3, 9, 8), "input_shape.fixed"), ((1, 3, 8), "input_shape.rank"), ((0, 3, 8, 8), "input_shape.rank")],
)
def test_shape_that_contradicts_the_model(shape: tuple[int, ...], rule: str) -> None:
    refused(conv_model(), "x", rule=rule, input_shape={"x": shape})


def test_shape_of_an_unknown_input() -> None:
    refused(conv_model(), "no input 'z'", "Its inputs are x", rule="input_shape.name", input_shape={"z": (1,)})


def test_huge_shape_is_refused() -> None:
    refused(conv_model(shape=[1, 3, "H", "W"]), "bytes", rule="onnx.size", input_shape={"x": (1, 3, 60000, 60000)})


# ---- weights and types -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_become_float32(dtype: type) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = RNG.normal(size=(4, 3, 3, 3)).astype(dtype)
    graph = load(conv_model(w=weights, kinds={"x": kind, "y": kind}))
    assert {t.dtype for t in graph.tensors.values()} == {DType.FLOAT32}
    assert "float32 here" in graph.metadata["warnings"][0]


@pytest.mark.parametrize(("value", "rule"), [(np.nan, "weights.nan"), (np.inf, "weights.inf"), (-np.inf, "weights.inf")])
def test_damaged_weights(value: float, rule: str) -> None:
    weights = np.ones((4, 3, 3, 3), np.float32)
    weights[1, 2, 0, 1] = value
    refused(conv_model(w=weights), "constant 'w'", "[1, 2, 0, 1]", rule=rule)


def test_masks_and_limits_may_be_infinite() -> None:
    mask = np.where(np.tri(4) > 0, 0, -np.inf).astype(np.float32)
    nodes = [helper.make_node("Add", ["x", "m"], ["z"]), helper.make_node("Clip", ["z", "", "high"], ["y"])]
    load(model(nodes, {"x": [1, 4, 4]}, ["y"], {"m": mask, "high": np.array(np.inf, np.float32)}))


def test_type_of_an_input() -> None:
    proto = model([helper.make_node("Identity", ["x"], ["y"])], {"x": [2]}, ["y"], kinds={"x": TensorProto.STRING, "y": TensorProto.STRING})
    refused(proto, "input 'x'", "string", rule="onnx.input")


# ---- nodes -----------------------------------------------------------------------------------------------------------------------------


def test_every_unsupported_node_is_listed() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["a"], name="first"),
        helper.make_node("Cast", ["a"], ["b"], to=1),
        helper.make_node("Det", ["x"], ["c"], name="second"),
        helper.make_node("FusedConv", ["x", "x"], ["d"], name="third", domain="com.microsoft"),
    ]
    error = refused(
        model(nodes, {"x": [3, 3]}, ["b", "c", "d"], domains={"com.microsoft": 1}),
        "NonZero node 'first'",
        "Det node 'second'",
        "com.microsoft.FusedConv (opset 1)",
        "onnxruntime",
        rule="onnx.unsupported",
    )
    assert str(error).count("is not supported") == 3


def test_control_flow() -> None:
    inside = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "t", [], [helper.make_tensor_value_info("r", 1, None)])
    nodes = [helper.make_node("If", ["c"], ["y"], name="choice", then_branch=inside, else_branch=inside)]
    proto = model(nodes, {"c": [1], "x": [2]}, ["y"], kinds={"c": TensorProto.BOOL})
    refused(proto, "If node 'choice'", "Control flow", rule="onnx.unsupported")


def test_several_wrong_nodes_are_reported_together() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["a"], name="r1"),
        helper.make_node("Relu", ["a"], ["y"]),
        helper.make_node("Conv", ["p", "q"], ["b"], name="c1"),
    ]
    proto = model(nodes, {"x": [2], "s": [2], "p": [1, 3, 5, 5], "q": [2, 3, 3, 3]}, ["y", "b"], kinds={"s": TensorProto.INT64})
    refused(proto, "2 problems", "Reshape node 'r1'", "Conv node 'c1'")


def test_inputs_and_outputs_keep_their_names() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Identity", ["y"], ["again"]),
        helper.make_node("Identity", ["x"], ["same"]),
    ]
    proto = model(nodes, {"x": [2, 3]}, ["y", "again", "same", "k"], {"k": np.arange(3, dtype=np.float32)})
    graph = load(proto)
    assert (graph.inputs, graph.outputs) == (["x"], ["y", "again", "same", "k"])
    x = RNG.normal(size=(2, 3)).astype(np.float32)
    result = evaluate(graph, {"x": x})
    for name, wanted in {"y": np.maximum(x, 0), "again": np.maximum(x, 0), "same": x, "k": np.arange(3)}.items():
        np.testing.assert_array_equal(result[name], wanted)


def test_initialisers_may_be_listed_as_inputs() -> None:
    proto = conv_model()
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 3, 3]))
    assert load(proto).inputs == ["x"]


def test_same_model_same_graph() -> None:
    proto = conv_model()
    assert load(proto).dump() == load(proto).dump()


def test_the_callers_model_is_not_changed() -> None:
    proto = conv_model()
    before = proto.SerializeToString()
    load(proto, input_shape={"x": (1, 3, 8, 8)})
    assert proto.SerializeToString() == before


def test_model_functions_are_inlined() -> None:
    body = helper.make_function("my", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)])
    proto = model([helper.make_node("Twice", ["x"], ["y"], domain="my")], {"x": [2, 3]}, ["y"], domains={"my": 1})
    proto.functions.append(body)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(evaluate(load(proto), {"x": x})["y"], x + x)


# ---- quantised models ------------------------------------------------------------------------------------------------------------------


def q(name: str, scale: float, zero: int, dtype: type) -> dict[str, Array]:
    """Scale and zero point of a tensor as weights of the model."""
    return {f"{name}_s": np.array(scale, np.float32), f"{name}_z": np.array(zero, dtype)}


def qdq_conv(
    activation: type = np.uint8,
    zero: int = 100,
    weight_zero: int = 0,
    per_channel: bool = True,
    tail: bool = True,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """x -> Q -> DQ -> Conv (weights and bias through DQ) -> Q -> DQ -> Relu."""
    codes = RNG.integers(-100, 101, (4, 3, 3, 3)).astype(np.int8)
    scale = np.linspace(0.01, 0.04, 4).astype(np.float32) if per_channel else np.array(0.02, np.float32)
    shape = scale.shape
    arrays = {
        **q("x", 0.05, zero, activation),
        **q("y", 0.2, zero, activation),
        "w": codes,
        "w_s": scale,
        "w_z": np.full(shape, weight_zero, np.int8),
        "b": RNG.integers(-500, 500, 4).astype(np.int32),
        "b_s": (np.float32(0.05) * np.broadcast_to(scale, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_s", "x_z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "x_s", "x_z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "w_s", "w_z"], ["wd"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "b_s"], ["bd"], axis=0),
        helper.make_node("Conv", ["xd", "wd", "bd"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c", "y_s", "y_z"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "y_s", "y_z"], ["y"]),
    ]
    if tail:
        nodes.append(helper.make_node("Sigmoid", ["y"], ["z"]))
    return model(nodes, {"x": [1, 3, 6, 6]}, ["z" if tail else "y"], arrays), arrays


def marks(graph: Graph) -> list[tuple[float, int]]:
    return sorted((float(t.scale[0]), t.zero_point) for t in graph.activations() if t.scale is not None)


@pytest.mark.parametrize(("activation", "zero", "shifted"), [(np.uint8, 100, -28), (np.int8, -28, -28)])
def test_scales_and_codes_are_taken_over(activation: type, zero: int, shifted: int) -> None:
    proto, arrays = qdq_conv(activation, zero)
    graph = load(proto)
    assert marks(graph) == [(np.float32(0.05), shifted), (np.float32(0.2), shifted)]
    conv = next(n for n in graph.nodes if n.op == "Conv2D")
    weights = graph.tensors[conv.inputs[1]]
    assert weights.dtype == DType.INT8
    assert weights.data is not None
    assert weights.scale is not None
    np.testing.assert_array_equal(weights.data, arrays["w"].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(weights.scale, arrays["w_s"])
    bias = graph.tensors[conv.inputs[2]].data
    assert bias is not None
    np.testing.assert_allclose(bias, arrays["b"] * arrays["b_s"], rtol=1e-6)


def reference(proto: onnx.ModelProto, x: Array) -> Array:
    session = pytest.importorskip("onnxruntime").InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_quantised_model_computes_the_same_up_to_its_steps() -> None:
    proto, _ = qdq_conv(tail=False)
    x = RNG.normal(size=(1, 3, 6, 6)).astype(np.float32)
    result = evaluate(load(proto), {"x": x})["y"]
    wanted = reference(proto, x)
    assert np.median(np.abs(result - wanted)) <= 0.2


def test_scale_per_tensor_is_spread_over_the_channels() -> None:
    graph = load(qdq_conv(per_channel=False)[0])
    weights = next(t for t in graph.tensors.values() if t.dtype == DType.INT8)
    assert weights.scale is not None
    np.testing.assert_array_equal(weights.scale, np.full(4, 0.02, np.float32))


def test_asymmetric_weights_are_taken_as_float_with_a_warning() -> None:
    graph = load(qdq_conv(weight_zero=3)[0])
    assert all(t.dtype != DType.INT8 for t in graph.tensors.values())
    assert any("asymmetric" in w for w in graph.metadata["warnings"])


def test_codes_that_begin_at_zero_act_as_relu() -> None:
    graph = load(qdq_conv(np.uint8, 0)[0])
    clip = [n for n in graph.nodes if n.op == "Unary" and n.params.get("kind") == 1]
    assert len(clip) == 1
    assert marks(graph) == [(np.float32(0.05), -128), (np.float32(0.2), -128)]


def test_operators_that_move_codes_may_stand_between() -> None:
    arrays = q("x", 0.05, 7, np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_s", "x_z"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2]),
        helper.make_node("DequantizeLinear", ["c", "x_s", "x_z"], ["y"]),
    ]
    graph = load(model(nodes, {"x": [1, 3, 6, 6]}, ["y"], arrays))
    assert marks(graph)[-1] == (np.float32(0.05), 7)


def test_computing_with_codes_is_refused() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_s", "x_z"], ["a"]),
        helper.make_node("Cast", ["a"], ["y"], to=1, name="cast"),
    ]
    refused(model(nodes, {"x": [2, 3]}, ["y"], q("x", 0.05, 7, np.int8)), "integer codes", "Cast node 'cast'", rule="onnx.qdq")


def test_two_scales_that_differ_are_refused() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_s", "x_z"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "y_s", "y_z"], ["y"], name="dq"),
    ]
    refused(model(nodes, {"x": [2, 3]}, ["y"], q("x", 0.05, 7, np.int8) | q("y", 0.06, 7, np.int8)), "dq", "differs")


def test_per_channel_activations_are_calibrated() -> None:
    arrays = {"s": np.array([0.1, 0.2, 0.3], np.float32), "z": np.zeros(3, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["a"], axis=1),
        helper.make_node("DequantizeLinear", ["a", "s", "z"], ["d"], axis=1),
        helper.make_node("Sigmoid", ["d"], ["y"]),
    ]
    graph = load(model(nodes, {"x": [2, 3]}, ["y"], arrays))
    assert marks(graph) == []
    assert any("per-channel" in w for w in graph.metadata["warnings"])


def test_qlinear_conv() -> None:
    _, arrays = qdq_conv()
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_s", "x_z"], ["xq"]),
        helper.make_node(
            "QLinearConv", ["xq", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z", "b"], ["yq"], name="qconv", pads=[1, 1, 1, 1]
        ),
        helper.make_node("DequantizeLinear", ["yq", "y_s", "y_z"], ["d"]),
        helper.make_node("Sigmoid", ["d"], ["y"]),
    ]
    graph = load(model(nodes, {"x": [1, 3, 6, 6]}, ["y"], arrays))
    assert marks(graph) == [(np.float32(0.05), -28), (np.float32(0.2), -28)]
    assert sum(t.dtype == DType.INT8 for t in graph.tensors.values()) == 1


def test_int8_input_takes_real_numbers() -> None:
    nodes = [helper.make_node("DequantizeLinear", ["x", "x_s", "x_z"], ["d"]), helper.make_node("Sigmoid", ["d"], ["y"])]
    graph = load(model(nodes, {"x": [2, 3]}, ["y"], q("x", 0.05, 7, np.int8), kinds={"x": TensorProto.INT8}))
    assert graph.tensors["x"].dtype == DType.FLOAT32
    assert marks(graph) == [(np.float32(0.05), 7)]
    assert any("real numbers" in w for w in graph.metadata["warnings"])


def test_uint8_input_and_output_stay_codes() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "x_s", "x_z"], ["d"]),
        helper.make_node("Sigmoid", ["d"], ["s"]),
        helper.make_node("QuantizeLinear", ["s", "y_s", "y_z"], ["y"]),
    ]
    arrays = q("x", 0.05, 128, np.uint8) | q("y", 1 / 255, 0, np.uint8)
    proto = model(nodes, {"x": [2, 3]}, ["y"], arrays, kinds={"x": TensorProto.UINT8, "y": TensorProto.UINT8})
    x = RNG.integers(0, 256, (2, 3)).astype(np.uint8)
    result = evaluate(load(proto), {"x": x})["y"]
    assert result.dtype == np.uint8
    assert np.abs(result.astype(int) - reference(proto, x).astype(int)).max() <= 1
