# SPDX-License-Identifier: Apache-2.0
"""int16 activations: for a whole network, and for the nodes and tensors that are named."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import edge8
from edge8.calibrate import Calibration
from edge8.converter.errors import ConvertError
from edge8.converter.graph import DType, Graph
from edge8.converter.quant.scheme import Scheme, apply, decide
from edge8.converter.targets.cpu_lite import write

from .graphs import Builder, samples, small_network

Array = np.ndarray[Any, Any]


def applied(graph: Graph, **options: Any) -> Graph:
    result = copy.deepcopy(graph)
    apply(result, Scheme(**options))
    return result


def domains(graph: Graph, **options: Any) -> dict[str, str]:
    return {d.node: d.domain for d in decide(graph, Scheme(**options))}


def sqnr(graph: Graph, data: list[Array], **options: Any) -> float:
    model = edge8.Model(write(applied(graph, **options)))
    if not model.calibrated:
        calibration = Calibration(model)
        calibration.run(data, 1)
        model = edge8.Model(calibration.fill("minmax"))
    session, reference = model.session(), edge8.Model(write(graph)).session()
    pairs = [(reference(x), session(x)) for x in data]
    return float(10 * np.log10(sum(np.sum(a**2) for a, _ in pairs) / sum(np.sum((a - b) ** 2) for a, b in pairs)))


def test_a_whole_network() -> None:
    graph = applied(small_network(), activations="int16")
    inner = [t for t in graph.activations() if t.name not in {"x", *graph.outputs}]
    assert {t.dtype for t in inner} == {DType.INT16}
    assert all(t.zero_point == 0 for t in inner)
    softmax = next(n for n in graph.nodes if n.op == "Softmax")
    assert graph.tensors[softmax.outputs[0]].preset == (2.0**-15, 0)


def test_only_the_weights_limit_the_accuracy() -> None:
    graph, data = small_network(), samples(8, 1, 8, 8, 4)
    coded = sqnr(graph, data, mode="weight")
    assert sqnr(graph, data, activations="int16") == pytest.approx(coded, abs=0.2)
    assert sqnr(graph, data) < coded - 5


def test_operators_without_an_int16_form_stay_float_and_say_so() -> None:
    b = Builder()
    x = b.input("x", 1, 4, 4, 2)
    up = b.op("ConvTranspose2D", [x, b.const(np.ones((3, 2, 2, 2)), "w")], "up", stride_h=2, stride_w=2)
    graph = b.done(b.conv(up, 3, name="conv"))
    found = {d.node: d for d in decide(graph, Scheme(activations="int16"))}
    assert found["conv"].domain == "int16"
    assert (found["up"].domain, found["up"].reason) == ("weight", "ConvTranspose2D has no int16 form")
    assert domains(graph, int16=("up",))["up"] == "int8", "a named node keeps int8 instead"


@pytest.mark.parametrize(
    ("patterns", "wide"),
    [
        (("dense",), {"dense"}),
        (("type:conv2d",), {"conv_a", "conv_c"}),
        (("re:^swish$", "dense"), {"swish", "dense", "pool", "join", "flat"}),
        (("tensor:sigmoid_out",), {"sigmoid", "swish"}),
    ],
)
def test_named_nodes_and_what_moves_codes_between_them(patterns: tuple[str, ...], wide: set[str]) -> None:
    found = domains(small_network(), int16=patterns)
    assert {name for name, domain in found.items() if domain == "int16"} == wide
    assert set(found.values()) == {"int8", "int16"}


def test_nodes_by_the_name_of_their_output() -> None:
    """What a search for an accuracy target asks for."""
    graph = small_network()
    output = next(n for n in graph.nodes if n.name == "dense").outputs[0]
    found = {d.node: d for d in decide(graph, Scheme(wide={output: "kept in int16 by the search"}))}
    assert (found["dense"].domain, found["dense"].reason) == ("int16", "kept in int16 by the search")
    assert {d.domain for name, d in found.items() if name != "dense"} == {"int8"}


def test_borders_between_int8_and_int16() -> None:
    graph = applied(small_network(), int16=("swish",))
    producer = {name: n for n in graph.nodes for name in n.outputs}
    swish = next(n for n in graph.nodes if n.name == "swish")
    for name in swish.inputs:
        border = producer[name]
        assert border.op == "Quantize"
        assert (graph.tensors[border.inputs[0]].dtype, graph.tensors[name].dtype) == (DType.INT8, DType.INT16)
    reader = next(n for n in graph.nodes if swish.outputs[0] in n.inputs)
    assert reader.op == "Quantize"
    assert graph.tensors[reader.outputs[0]].dtype is DType.INT8
    data = samples(4, 1, 8, 8, 4)
    assert sqnr(small_network(), data, int16=("re:.*",)) > sqnr(small_network(), data, int16=("swish",)) > 15


def test_codes_at_the_edges() -> None:
    graph = applied(small_network(), activations="int16", io="int16")
    assert [graph.tensors[n].dtype for n in (*graph.inputs, *graph.outputs)] == [DType.INT16, DType.INT16]
    graph = applied(small_network(), activations="int16", io="int8")
    assert [graph.tensors[n].dtype for n in (*graph.inputs, *graph.outputs)] == [DType.FLOAT32, DType.FLOAT32]


def test_a_constant_operand_gets_int16_codes() -> None:
    b = Builder()
    x = b.input("x", 1, 6)
    d = b.dense(x, 6, "dense")
    graph = b.done(b.dense(b.binary("mul", d, b.const(np.linspace(-2, 3, 6), "factor"), "scaled"), 3, "out"))
    assert sqnr(graph, samples(6, 1, 6), activations="int16") > 40


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"activations": "int4"}, "quant.activations"),
        ({"mode": "float", "activations": "int16"}, "quant.activations"),
        ({"mode": "float", "int16": ("dense",)}, "quant.activations"),
        ({"int16": ("nothing",)}, "quant.int16"),
        ({"int16": ("tensor:nothing",)}, "quant.int16"),
        ({"int16": ("re:(",)}, "quant.int16"),
        ({"io": "int4"}, "quant.io"),
    ],
)
def test_what_is_refused(options: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConvertError) as caught:
        decide(small_network(), Scheme(**options))
    assert caught.value.rule == rule
