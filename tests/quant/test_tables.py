# SPDX-License-Identifier: Apache-2.0
"""Embedding tables: int8 codes with a scale per row in every kind of quantisation, as numpy computes, and in the file's size."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge8 import Model
from edge8.converter import convert
from edge8.converter.api import load_graph
from edge8.converter.evaluate import evaluate
from edge8.converter.graph import DType, Graph
from edge8.converter.quant.scheme import Scheme, apply
from edge8.converter.targets.cpu_lite import write
from edge8.converter.targets.cpu_lite.read import read

Array = np.ndarray[Any, Any]
WORDS, WIDTH, TOKENS = 3000, 32, 12


def classifier() -> onnx.ModelProto:
    """Two looks into one table of words, whose rows differ much in size, a projection and a mean."""
    random = np.random.default_rng(3)
    words = (random.normal(size=(WORDS, WIDTH)) * 10.0 ** random.uniform(-3, 0, (WORDS, 1))).astype(np.float32)
    constants = {
        "words": words,
        "w": random.normal(0, WIDTH**-0.5, (WIDTH, 8)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["a"], name="first"),
        helper.make_node("Gather", ["words", "others"], ["b"], name="second"),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["d"], name="project"),
        helper.make_node("ReduceMean", ["d"], ["y"], axes=[1], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [1, TOKENS]) for name in ("ids", "others")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])]
    values = [numpy_helper.from_array(x, name) for name, x in constants.items()]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, values), opset_imports=[helper.make_opsetid("", 13)])


def samples(count: int, seed: int) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    return [{name: rng.integers(-WORDS, WORDS, (1, TOKENS)) for name in ("ids", "others")} for _ in range(count)]


def gathers(graph: Graph) -> list[Any]:
    return [node for node in graph.nodes if node.op == "Gather"]


@pytest.mark.parametrize("quant", ["weight", "dynamic", "full"])
def test_tables_become_codes(quant: str) -> None:
    options: dict[str, Any] = {"calibration": samples(8, 1), "corrections": ()} if quant == "full" else {}
    plain, report = convert(classifier(), quant="float"), convert(classifier(), quant=quant, **options)
    assert {d.node: d.domain for d in report.decisions if d.op == "Gather"} == {"first": "weight", "second": "weight"}
    graph = read(report.data)
    tables = {node.inputs[0] for node in gathers(graph)}
    assert len(tables) == 1, "both nodes read one table"
    table = graph.tensors[tables.pop()]
    assert table.dtype is DType.INT8
    assert table.scale is not None
    assert table.scale.size == WORDS
    assert len(report.data) < len(plain.data) - 2.8 * WORDS * WIDTH
    sessions = Model(plain.data).session(), Model(report.data).session()
    for x in samples(4, 2):
        wanted, found = (s(x) for s in sessions)
        assert np.abs(found - wanted).max() < (0.06 if quant == "full" else 0.03) * np.abs(wanted).max()  # type: ignore[operator]


def test_rows_are_codes_times_their_scale() -> None:
    """Bit for bit what numpy makes of the quantised graph; each row within half a step of its own."""
    graph = load_graph(classifier())
    quantised = copy.deepcopy(graph)
    apply(quantised, Scheme(mode="weight"))
    node = gathers(quantised)[0]
    table = quantised.tensors[node.inputs[0]]
    assert table.data is not None
    assert table.scale is not None
    words = graph.tensors[gathers(graph)[0].inputs[0]].data
    assert words is not None
    rows = table.data.astype(np.float32) * table.scale[:, None]
    assert (np.abs(rows - words) <= 0.5001 * np.abs(words).max(axis=1, keepdims=True) / 127).all()
    quantised.outputs = [node.outputs[0]]
    quantised.prune()
    (x,) = samples(1, 5)
    found = Model(write(quantised)).session()({name: x[name] for name in quantised.inputs})
    feeds = {name: x[name] for name in quantised.inputs}
    np.testing.assert_array_equal(found, evaluate(quantised, feeds)[node.outputs[0]])


def test_what_keeps_a_table_in_float() -> None:
    graph = load_graph(classifier())
    for options, reason in (
        ({"skip": ("first",)}, "named by --skip first"),
        ({"min_elements": WORDS * WIDTH}, "--min-elements"),
        ({"bits": 12}, "fewer than --bits 12"),
    ):
        quantised = copy.deepcopy(graph)
        decisions = {d.node: d for d in apply(quantised, Scheme(mode="weight", **options))}  # type: ignore[arg-type]
        assert decisions["first"].domain == "float"
        assert reason in decisions["first"].reason
        assert quantised.tensors[gathers(quantised)[0].inputs[0]].dtype is DType.FLOAT32
    full = copy.deepcopy(graph)
    assert {d.node: d.domain for d in apply(full, Scheme(skip=("first",)))}["first"] == "float"


def test_export_as_onnx_computes_the_same() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from edge8.converter.targets.onnx_qdq import export

    report = convert(classifier(), calibration=samples(8, 1), corrections=())
    session = onnxruntime.InferenceSession(export(report.data).SerializeToString(), providers=["CPUExecutionProvider"])
    ours = Model(report.data).session()
    for x in samples(4, 2):
        (found,) = session.run(None, x)
        wanted = ours(x)
        assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()  # type: ignore[arg-type]
