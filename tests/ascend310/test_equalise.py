# SPDX-License-Identifier: Apache-2.0
"""`--method equalise`: the network computes the same, its channels get like ranges, and quantising it costs less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edge8.converter.errors import ConvertError
from edge8.converter.targets.ascend310 import convert_ascend310, verify_folder
from edge8.converter.targets.ascend310.equalise import equalise, find_spaces
from edge8.converter.targets.ascend310.evaluate import Executor
from edge8.converter.targets.ascend310.onnx_graph import OnnxGraph
from edge8.converter.targets.ascend310.prepare import prepare
from tests.ascend310 import nets


def _residual(groups: int = 1, kernel: int = 1) -> onnx.ModelProto:
    """Two linear branches summed, a 1x1 reader, ReLU, a grouped transposed convolution; channels of very unlike ranges and middles."""
    rng = np.random.default_rng(7)
    unlike = np.exp2(np.arange(8) - 4.0)
    pads = [kernel // 2] * 4
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "first"),
        helper.make_node("Conv", ["x", "w2", "b2"], ["b"], "second"),
        helper.make_node("Add", ["a", "b"], ["s"], "sum"),
        helper.make_node("MaxPool", ["s"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w3", "b3"], ["c"], "reader", group=groups, pads=pads),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("ConvTranspose", ["r", "w4", "b4"], ["y"], "up", strides=[2, 2], group=2),
    ]
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    inits = {
        "w1": draw(8, 3, 1, 1) * unlike[:, None, None, None].astype(np.float32), "b1": (5 * unlike).astype(np.float32),
        "w2": draw(8, 3, 1, 1) * unlike[:, None, None, None].astype(np.float32), "b2": (-2 * unlike).astype(np.float32),
        "w3": draw(8, 8 // groups, kernel, kernel), "b3": draw(8), "w4": draw(8, 3, 2, 2), "b4": draw(6),
    }  # fmt: skip
    return nets.graph_of(nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 6, 8, 8]}, inits)


def _prepared(model: onnx.ModelProto) -> OnnxGraph:
    return prepare(model, target_opset=11, input_shape={}, batch=None, profile=None, do_fusion=True, skip_fusion=()).graph


def _gather(graph: OnnxGraph, feeds: list[dict[str, Any]]) -> Callable[..., None]:
    def gather(visit: Callable[[str, Any], None], names: set[str]) -> None:
        for feed in feeds:
            Executor(graph.to_model()).run(feed, (), lambda name, array: visit(name, array) if name in names else None)

    return gather


@pytest.mark.parametrize(("groups", "kernel"), [(1, 1), (2, 1), (8, 1), (1, 3)])
def test_the_network_computes_the_same(groups: int, kernel: int) -> None:
    graph, feeds = _prepared(_residual(groups, kernel)), nets.feeds(4, (1, 3, 8, 8))
    before = Executor(graph.to_model()).run(feeds[0], ["y", "s"])
    assert equalise(graph, _gather(graph, feeds)) == 1
    after = Executor(graph.to_model()).run(feeds[0], ["y", "s"])
    assert np.abs(before["y"] - after["y"]).max() <= 1e-5 * np.abs(before["y"]).max()
    ranges = np.stack([after["s"].min(axis=(0, 2, 3)), after["s"].max(axis=(0, 2, 3))])
    assert np.ptp(np.log2(np.abs(ranges).max(axis=0))) < 5  # 7 before
    # Zero padding of the reader would not be shifted with its input: the middles stay where they are then.
    middles = np.abs(ranges.mean(axis=0)) / np.ptp(ranges, axis=0)
    assert middles.max() < 0.35 if kernel == 1 else middles.max() > 0.35


def test_spaces_end_where_a_factor_would_not_pass() -> None:
    graph = _prepared(_residual())
    assert [([node.name for node in s.makers], [node.name for node in s.users]) for s in find_spaces(graph)] == [
        (["first", "second"], ["reader"])
    ]
    pool = next(node for node in graph.nodes if node.name == "pool")
    pool.op_type = "Sigmoid"
    assert find_spaces(graph) == []


def test_outputs_and_shared_weights_stay() -> None:
    model = _residual()
    model.graph.output.append(helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [1, 8, 8, 8]))
    graph, feeds = _prepared(model), nets.feeds(2, (1, 3, 8, 8))
    before = Executor(graph.to_model()).run(feeds[0])
    equalise(graph, _gather(graph, feeds))
    assert np.array_equal(before["s"], Executor(graph.to_model()).run(feeds[0])["s"])


def test_it_lowers_the_noise_and_the_folder_fits(tmp_path: Path) -> None:
    noise = {}
    for method in ("amct", "equalise"):
        folder = tmp_path / method
        convert_ascend310(_residual(), folder, calibration=nets.feeds(8, (1, 3, 8, 8)), method=method, name="net")
        result = verify_folder(folder, data=nets.feeds(20, (1, 3, 8, 8), seed=9))
        assert result.ok, str(result)
        assert result.comparison is not None
        noise[method] = result.comparison.outputs["y"]["chip"].sqnr
    assert noise["equalise"] > noise["amct"] + 1


def test_fixed_factors_exclude_it(produced: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="fixed scales"):
        convert_ascend310(
            nets.cnn(), tmp_path / "net", calibration=nets.feeds(2), record=produced / "net_record.txt", method="equalise", name="net"
        )
