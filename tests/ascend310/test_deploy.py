# SPDX-License-Identifier: Apache-2.0
"""The deploy form, node by node, and its twin in plain ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edge8.converter.targets.ascend310 import convert_ascend310, verify_folder
from edge8.converter.targets.ascend310.arq import deq_scales
from edge8.converter.targets.ascend310.deploy import pack_deq_scales, save_model, unpack_deq_scales
from edge8.converter.targets.ascend310.onnx_graph import OnnxGraph, attributes
from edge8.converter.targets.ascend310.simulate import Simulator, chip_ops, half
from tests.ascend310 import nets


def _load(folder: Path, kind: str) -> onnx.ModelProto:
    return onnx.load(str(folder / f"{folder.name}_{kind}_model.onnx"))


def _by_name(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {node.name: node for node in model.graph.node}


def _inits(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def test_layer_form(produced: Path) -> None:
    model = _load(produced, "deploy")
    nodes, inits = _by_name(model), _inits(model)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 11)]
    assert "bn1" not in nodes
    for layer in ("conv1", "depthwise", "up", "fc"):
        quant, dequant, node = nodes[f"{layer}.quant"], nodes[f"{layer}.dequant"], nodes[layer]
        assert quant.op_type == "AscendQuant"
        assert {a.name: a.type for a in quant.attribute} == {"scale": 1, "offset": 1, "dst_type": 3}
        assert node.input[0] == quant.output[0]
        assert list(dequant.input) == [node.output[0], f"{layer}.dequant.param"]
        weight, bias, param = inits[node.input[1]], inits[node.input[2]], inits[f"{layer}.dequant.param"]
        assert weight.data_type == onnx.TensorProto.INT8
        assert weight.raw_data
        assert bias.data_type == onnx.TensorProto.INT32
        assert len(bias.int32_data) == bias.dims[0]
        assert param.data_type == onnx.TensorProto.UINT64
        assert list(param.dims) == [1 if layer == "fc" else 8]
        assert len(param.uint64_data) == param.dims[0]
    assert not attributes(nodes["fc"])


def test_graph_output_keeps_its_name(produced: Path) -> None:
    nodes = _by_name(_load(produced, "deploy"))
    assert nodes["fc"].output[0] == "fc_output0"
    assert nodes["fc.dequant"].output[0] == "logits"


def test_average_pool_is_symmetric_with_scale_one(produced: Path) -> None:
    nodes, inits = _by_name(_load(produced, "deploy")), _inits(_load(produced, "deploy"))
    quant = attributes(nodes["pool1.quant"])
    assert quant["offset"] == 0.0
    scale = unpack_deq_scales(numpy_helper.to_array(inits["pool1.dequant.param"]))
    row = next(row for row in json.loads((produced / "report.json").read_text())["layers"] if row["name"] == "pool1")
    assert scale.tolist() == [np.float32(row["scale_d"])]


def test_average_pool_with_its_own_pad(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"], "pool_pad"),
        helper.make_node("AveragePool", ["p"], ["a"], "pool", kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Conv", ["a", "w"], ["y"], "conv"),
    ]
    w = np.random.default_rng(0).normal(size=(4, 2, 1, 1)).astype(np.float32)
    model = nets.graph_of(nodes, {"x": [1, 2, 8, 8]}, {"y": [1, 4, 4, 4]}, {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "w": w})
    folder = tmp_path / "pad"
    convert_ascend310(model, folder, calibration=nets.feeds(2, (1, 2, 8, 8)), name="pad")
    found = _by_name(_load(folder, "deploy"))
    assert found["pool_pad"].input[0] == found["pool.quant"].output[0]
    assert found["pool"].input[0] == found["pool_pad"].output[0]
    assert verify_folder(folder).ok


def test_matmul_bias_add_is_integer_and_dequantised_behind(produced_mlp: Path) -> None:
    model = _load(produced_mlp, "deploy")
    nodes, inits = _by_name(model), _inits(model)
    assert inits[nodes["add1"].input[1]].data_type == onnx.TensorProto.INT32
    assert nodes["mat1.dequant"].input[0] == nodes["add1"].output[0]
    assert list(inits["mat1.dequant.param"].dims) == [1]
    assert nodes["attention"].input[0] == "mat1.dequant.output0" or nodes["attention"].op_type == "MatMul"
    assert "attention.quant" not in nodes


def test_equal_quantisers_are_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Conv", ["x", f"w{i}"], [f"y{i}"], f"conv{i}") for i in range(2)]
    inits = {f"w{i}": rng.normal(size=(4, 3, 1, 1)).astype(np.float32) for i in range(2)}
    model = nets.graph_of(nodes, {"x": [1, 3, 8, 8]}, {f"y{i}": [1, 4, 8, 8] for i in range(2)}, inits)
    folder = tmp_path / "twin"
    convert_ascend310(model, folder, calibration=nets.feeds(2, (1, 3, 8, 8)), name="twin")
    model = _load(folder, "deploy")
    assert [node.op_type for node in model.graph.node].count("AscendQuant") == 1
    assert verify_folder(folder).ok


def test_packing() -> None:
    scales = np.float32([1.5, 2**-20, 3e-5])
    packed = pack_deq_scales(scales)
    assert packed.dtype == np.uint64
    assert packed[0] == 0x3FC00000
    assert np.array_equal(unpack_deq_scales(packed), scales)
    assert deq_scales(np.float32(0.1), np.float32([0.3])).dtype == np.float32


@pytest.mark.parametrize("optimise", [True, False])
def test_fake_quant_in_onnxruntime_equals_the_simulation(produced: Path, produced_mlp: Path, optimise: bool) -> None:
    """The same bits, with and without onnxruntime's own fusions."""
    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for folder, shape in ((produced, (1, 3, 16, 16)), (produced_mlp, (1, 5, 12))):
        session = onnxruntime.InferenceSession(_load(folder, "fake_quant").SerializeToString(), options)
        simulator = Simulator(_load(folder, "deploy"), "fp32")
        for sample in nets.feeds(20, shape, seed=9):
            for given, wanted in zip(session.run(None, sample), simulator.run(sample).values(), strict=True):
                assert np.abs(given - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_simulator_works_in_onnx_own_evaluator(produced: Path) -> None:
    model = _load(produced, "deploy")
    sample = nets.feeds(1)[0]
    for mode in ("fp32",):
        (plain,) = ReferenceEvaluator(model, new_ops=chip_ops(mode)).run(None, sample)
        assert np.array_equal(plain, Simulator(model, mode).run(sample)["logits"])


def test_float16_simulation_rounds_every_value(produced: Path) -> None:
    values: dict[str, Any] = {}
    Simulator(_load(produced, "deploy"), "fp16").run(nets.feeds(1)[0], lambda name, array: values.__setitem__(name, array))
    floats = [array for array in values.values() if array.dtype == np.float32]
    assert floats
    assert all(np.array_equal(array, array.astype(np.float16).astype(np.float32)) for array in floats)


def test_half_is_float16() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint64).astype(np.uint32)
    x = bits.view(np.float32)
    x = np.concatenate([x[np.isfinite(x)], np.float32([65504, 65519.9, 65520, -1e9, 0, 2**-14, 2**-25, 3 * 2**-25])])
    assert np.array_equal(half(x), np.clip(x, -65504, 65504).astype(np.float16).astype(np.float32))


def test_large_models_keep_their_weights_beside_them(produced: Path, tmp_path: Path) -> None:
    graph = OnnxGraph(_load(produced, "deploy"))
    graph.inits["conv1.big"] = np.arange(1000, dtype=np.float32)
    graph.nodes.append(helper.make_node("ReduceSum", ["conv1.big"], ["total"], "big"))
    files = save_model(graph, tmp_path / "big.onnx", limit=1000)
    assert (tmp_path / "conv1.big_deploy.external") in files
    loaded = onnx.load(str(tmp_path / "big.onnx"))
    stored = next(t for t in loaded.graph.initializer if t.name == "conv1.big")
    assert np.array_equal(numpy_helper.to_array(stored), np.arange(1000, dtype=np.float32))


def test_tensor_quantize_restores_the_tensor(tmp_path: Path) -> None:
    config = tmp_path / "amct.cfg"
    config.write_text('tensor_quantize { layer_name: "pool2" input_index: 0 }\n')
    folder = tmp_path / "tensor"
    convert_ascend310(nets.cnn(), folder, calibration=nets.feeds(3), amct_config=config, name="tensor")
    nodes = _by_name(_load(folder, "deploy"))
    assert nodes["pool2"].input[0] == nodes["pool2.input0.antiquant"].output[0]
    assert verify_folder(folder).ok
