# SPDX-License-Identifier: Apache-2.0
"""Which tensors become int8, where conversions stand, and whose scales are shared."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from edge8 import Model
from edge8.converter.api import convert_graph
from edge8.converter.errors import ConvertError
from edge8.converter.evaluate import evaluate
from edge8.converter.graph import DType, Graph
from edge8.converter.quant.scheme import Decision, Scheme, apply, decide
from edge8.converter.targets.cpu_lite import write

from .graphs import Builder, samples, small_network


def domains(decisions: list[Decision]) -> dict[str, str]:
    return {d.node: d.domain for d in decisions}


def applied(graph: Graph, **options: Any) -> Graph:
    result = copy.deepcopy(graph)
    apply(result, Scheme(**options))
    return result


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def test_full_quantisation_of_a_whole_network() -> None:
    graph = small_network()
    decisions = apply(graph, Scheme())
    assert set(domains(decisions).values()) == {"int8"}
    assert ops(graph)[0] == "Quantize"
    assert ops(graph)[-1] == "Dequantize"
    assert ops(graph).count("Quantize") == 1
    assert graph.tensors["x"].dtype is DType.FLOAT32
    assert graph.tensors[graph.outputs[0]].dtype is DType.FLOAT32
    inner = [t for t in graph.activations() if t.name not in {"x", *graph.outputs}]
    assert all(t.dtype is DType.INT8 for t in inner)


def test_what_nobody_needs_decides_nothing() -> None:
    b = Builder()
    x, y = b.input("x", 1, 4), b.input("y", 1, 4)
    b.dense(x, 3, "dead")
    graph = b.done(b.unary("sigmoid", y))
    data = [{name: np.ones((1, 4), np.float32) for name in "xy"}]
    file, decisions, *_ = convert_graph(graph, Scheme(), data)
    assert [d.domain for d in decisions] == ["int8"]
    assert Model(file).calibrated


def test_output_keeps_its_name_and_order() -> None:
    b = Builder()
    x = b.input("x", 1, 4)
    y = b.dense(x, 3, "one")
    z = b.dense(y, 2, "two")
    graph = b.done(y, z)
    names = list(graph.outputs)
    apply(graph, Scheme())
    assert graph.outputs == names
    assert all(graph.tensors[n].dtype is DType.FLOAT32 for n in names)


def test_pooling_concat_and_reshape_share_one_scale() -> None:
    graph = applied(small_network())
    by_name = {node.name: node for node in graph.nodes}
    group = [by_name["pool"].inputs[0], by_name["pool"].outputs[0], *by_name["join"].inputs, by_name["join"].outputs[0]]
    group.append(by_name["flat"].outputs[0])
    leaders = {graph.tensors[n].share or n for n in group}
    assert len(leaders) == 1
    (leader,) = leaders
    assert graph.tensors[leader].share == ""
    others = [t.name for t in graph.activations() if (t.share or t.name) == leader]
    assert set(others) == set(group)


def test_softmax_has_its_fixed_scale() -> None:
    graph = applied(small_network())
    node = next(n for n in graph.nodes if n.op == "Softmax")
    assert graph.tensors[node.outputs[0]].preset == (1 / 256, -128)


def test_a_fixed_scale_is_rescaled_before_concat() -> None:
    b = Builder()
    x = b.input("x", 1, 6)
    d = b.dense(x, 6, "dense")
    s = b.op("Softmax", [d], "softmax")
    flat = b.reshape(s, 6, 1, name="turn")
    c = b.op("Concat", [flat, b.reshape(d, 6, 1, name="turn2")], "join", axis=1)
    graph = applied(b.done(b.dense(c, 2, "out")))
    join = next(n for n in graph.nodes if n.op == "Concat")
    producer = {name: n for n in graph.nodes for name in n.outputs}
    assert producer[join.inputs[0]].op == "Unary"
    assert producer[join.inputs[1]].op == "Reshape"
    turned = graph.tensors[producer[join.inputs[0]].inputs[0]]
    assert graph.tensors[turned.share].preset == (1 / 256, -128)
    assert graph.tensors[join.outputs[0]].preset is None
    dense = next(n for n in graph.nodes if n.name == "dense")
    assert len({graph.tensors[n].share or n for n in [*join.inputs, join.outputs[0], dense.outputs[0]]}) == 1


def test_two_softmaxes_keep_the_fixed_scale_through_concat() -> None:
    b = Builder()
    x = b.input("x", 1, 6)
    d = b.dense(x, 6, "dense")
    parts = [b.op("Softmax", [d], f"s{i}") for i in range(2)]
    graph = applied(b.done(b.dense(b.op("Concat", parts, "join", axis=1), 2, "out")))
    assert "Unary" not in ops(graph)
    assert graph.tensors[next(n for n in graph.nodes if n.op == "Softmax").outputs[0]].preset == (1 / 256, -128)


@pytest.mark.parametrize(
    ("pattern", "hit"),
    [("conv_a", {"conv_a"}), ("type:conv2d", {"conv_a", "conv_c"}), ("re:conv_[b-z]", {"conv_c"}), ("re:^swish$", {"swish"})],
)
def test_skip_by_name_type_and_expression(pattern: str, hit: set[str]) -> None:
    graph = small_network()
    decisions = decide(graph, Scheme(skip=(pattern,)))
    skipped = {d.node for d in decisions if "--skip" in d.reason}
    assert skipped == hit
    assert all(d.domain == "float" for d in decisions if d.node in hit)
    quantised = applied(graph, skip=(pattern,))
    for node in quantised.nodes:
        if node.name in hit and node.op == "Conv2D":
            assert quantised.tensors[node.inputs[1]].dtype is DType.FLOAT32
            assert all(quantised.tensors[n].dtype is DType.FLOAT32 for n in [node.inputs[0], *node.outputs])


def test_skip_that_names_nothing_is_an_error() -> None:
    for pattern in ("conv", "type:Nothing", "re:^zz"):
        with pytest.raises(ConvertError, match="no node matches"):
            decide(small_network(), Scheme(skip=(pattern,)))
    with pytest.raises(ConvertError, match="regular expression"):
        decide(small_network(), Scheme(skip=("re:(",)))


def test_float_nodes_get_conversions_once_per_tensor() -> None:
    graph = applied(small_network(), skip=("sigmoid", "swish"))
    conv = next(n for n in graph.nodes if n.name == "conv_a")
    assert ops(graph).count("Dequantize") == 2  # of the convolution, for both float readers, and of the result
    assert graph.tensors[conv.outputs[0]].dtype is DType.INT8


def test_movers_between_float_operators_stay_float() -> None:
    b = Builder()
    x = b.input("x", 1, 16)
    r = b.reshape(x, 1, 4, 4, name="before")
    n = b.op("LayerNorm", [r, b.const(np.ones(4))], "norm")
    f = b.reshape(n, 1, 16, name="between")
    e = b.unary("exp", f, name="exp")
    graph = b.done(b.dense(e, 3, "dense"))
    decided = decide(graph, Scheme(skip=("exp", "norm")))
    assert domains(decided) == {"before": "float", "norm": "float", "between": "float", "exp": "float", "dense": "int8"}
    assert "moves data" in next(d.reason for d in decided if d.node == "between")


def test_movers_before_int8_operators_move_codes() -> None:
    b = Builder()
    x = b.input("x", 1, 4, 8, 8)
    t = b.op("Transpose", [x], "nhwc", perm=[0, 2, 3, 1])
    graph = applied(b.done(b.conv(t, 3, name="conv")))
    assert ops(graph) == ["Quantize", "Transpose", "Conv2D", "Dequantize"]


def test_light_islands_stay_float_but_light_networks_do_not() -> None:
    b = Builder()
    x = b.input("x", 1, 8)
    h = b.dense(x, 8, "first")
    e = b.unary("exp", h, name="exp")
    m = b.binary("mul", e, e, name="product")
    n = b.unary("exp", m, name="exp2")
    graph = b.done(b.dense(n, 3, "last"))
    decided = {d.node: d for d in decide(graph, Scheme(skip=("exp", "exp2")))}
    assert decided["product"].domain == "float"
    assert "island" in decided["product"].reason
    b = Builder()
    x = b.input("x", 1, 8)
    assert domains(decide(b.done(b.binary("add", x, x, "sum")), Scheme())) == {"sum": "int8"}


def test_constant_operands_are_quantised_in_the_graph() -> None:
    b = Builder()
    x = b.input("x", 1, 8)
    h = b.dense(x, 8, "first")
    c = b.const(np.linspace(-1, 1, 8))
    graph = applied(b.done(b.binary("add", h, c, "shift")))
    add = next(n for n in graph.nodes if n.op == "Binary")
    producer = {name: n for n in graph.nodes for name in n.outputs}
    assert producer[add.inputs[1]].op == "Quantize"
    assert producer[add.inputs[1]].inputs == [c]


def test_int8_interface() -> None:
    graph = applied(small_network(), io="int8")
    assert "Quantize" not in ops(graph)
    assert "Dequantize" not in ops(graph)
    assert graph.tensors["x"].dtype is DType.INT8
    assert graph.tensors[graph.outputs[0]].dtype is DType.INT8


def test_weights_mode_codes_weights_only() -> None:
    graph = small_network()
    decisions = domains(apply(graph, Scheme(mode="weight", bits=5)))
    assert {n for n, d in decisions.items() if d == "weight"} == {"conv_a", "conv_c", "dense"}
    assert all(t.dtype is DType.FLOAT32 for t in graph.activations())
    weights = graph.tensors[next(n for n in graph.nodes if n.op == "FullyConnected").inputs[1]]
    assert (weights.dtype, weights.bits) == (DType.INT8, 5)
    assert weights.data is not None
    assert np.abs(weights.data).max() == 15


def test_thresholds_and_their_reasons() -> None:
    decided = {d.node: d for d in decide(small_network(), Scheme(mode="weight", min_channels=5))}
    assert decided["conv_a"].domain == "weight"
    assert "--min-channels 5" in decided["conv_c"].reason
    decided = {d.node: d for d in decide(small_network(), Scheme(mode="weight", min_elements=6 * 9 * 4))}
    assert "--min-elements" in decided["conv_a"].reason
    assert decided["dense"].domain == "weight"


def test_widths_per_node() -> None:
    outputs = {n.name: n.outputs[0] for n in small_network().nodes}
    graph = applied(small_network(), mode="weight", bits=8, node_bits={outputs["conv_a"]: 3, outputs["dense"]: 12})
    width = {n.name: graph.tensors[n.inputs[1]].bits for n in graph.nodes if n.op in ("Conv2D", "FullyConnected")}
    assert width == {"conv_a": 3, "conv_c": 0, "dense": 12}


def test_calibratable_weights_mode_equals_full() -> None:
    full, weight = applied(small_network()), applied(small_network(), mode="weight", calibratable=True)
    assert full.dump() == weight.dump()


def test_float_mode_changes_nothing() -> None:
    graph = small_network()
    assert applied(graph, mode="float").dump() == graph.dump()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "half"}, "unknown quantisation 'half'.*full, weight, dynamic, float"),
        ({"mode": "weight", "bits": 0}, "1 to 16"),
        ({"mode": "weight", "bits": 17}, "1 to 16"),
        ({"bits": 4}, "8-bit weights"),
        ({"mode": "weight", "group": -1}, "group"),
        ({"group": 32}, "weights quantisation"),
        ({"io": "int4"}, "float32, int8"),
        ({"mode": "weight", "min_channels": -1}, "negative"),
        ({"mode": "weight", "node_bits": {"a": 40}}, "1 to 16"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        Scheme(**options)


def test_dynamic_quantises_the_rows_of_matrix_products() -> None:
    """FullyConnected takes its dynamic form; other weights are codes that are computed with in float32; no activation becomes int8."""
    graph = small_network()
    decisions = domains(apply(graph, Scheme(mode="dynamic")))
    assert set(decisions.values()) == {"dynamic", "weight", "float"}
    for node in graph.nodes:
        assert node.params.get("dynamic", False) == (node.op == "FullyConnected")
        assert (decisions[node.name] == "dynamic") == (node.op == "FullyConnected")
        assert (decisions[node.name] == "weight") == (node.op == "Conv2D")
    assert all(t.dtype is DType.FLOAT32 for t in graph.activations())


def test_dynamic_leaves_what_is_skipped_small_or_deep() -> None:
    b = Builder()
    x = b.input("x", 1, 4)
    graph = b.done(b.dense(b.dense(x, 3, "small"), 60, "skipped"))
    found = {d.node: d for d in decide(graph, Scheme(mode="dynamic", skip=("skipped",), min_elements=12))}
    assert found["small"].domain == found["skipped"].domain == "float"
    b = Builder()
    graph = b.done(b.dense(b.input("x", 1, 65537), 1, "deep"))
    (deep,) = decide(graph, Scheme(mode="dynamic"))
    assert deep.domain == "weight"
    assert "65537 products" in deep.reason
    with pytest.raises(ConvertError, match="dynamic quantisation takes 8-bit weights"):
        Scheme(mode="dynamic", bits=4)
    with pytest.raises(ConvertError, match="groups"):
        Scheme(mode="dynamic", group=32)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("conv_b", r"--skip conv_b: no node matches\. Did you mean .*conv_a"),
        ("Sigmoid", r"Did you mean sigmoid"),
        ("softmax2", r"Did you mean .*softmax"),
        ("FullyConnected", r"Did you mean type:FullyConnected"),
        ("type:Conv", r"--skip type:Conv: no node matches\. Did you mean type:Conv2D"),
        ("type:Xyz", r"The operators are Binary, Concat, Conv2D"),
        ("qqqqq", r"list the node names"),
        ("re:^nothing$", r"list the node names"),
    ],
)
def test_skip_without_a_match_says_what_is_near(pattern: str, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        decide(small_network(), Scheme(skip=(pattern,)))


def test_skip_in_every_mode() -> None:
    for mode in ("full", "weight", "dynamic"):
        for pattern, nodes in (("conv_a", {"conv_a"}), ("type:conv2d", {"conv_a", "conv_c"}), ("re:^(conv_c|dense)$", {"conv_c", "dense"})):
            decided = {d.node: d for d in decide(small_network(), Scheme(mode=mode, skip=(pattern,)))}
            assert {n for n, d in decided.items() if d.reason == f"named by --skip {pattern}"} == nodes
            assert all(decided[n].domain == "float" for n in nodes)


def network_of_weights() -> Graph:
    """A convolution of 9 * 4 inputs, a depthwise and a transposed one, matrices of 100 and of 7 inputs."""
    b = Builder(4)
    x = b.input("x", 1, 6, 6, 4)
    c = b.conv(x, 8, name="conv")
    d = b.op("DepthwiseConv2D", [c, b.const(b.rng.normal(size=(3, 3, 8))), b.const(np.zeros(8))], "depthwise")
    t = b.op("ConvTranspose2D", [d, b.const(b.rng.normal(size=(6, 2, 2, 8)))], "transposed", stride_h=2, stride_w=2)
    flat = b.dense(b.reshape(t, 1, 384), 100, "deep")
    return b.done(b.dense(b.dense(flat, 7, "middle"), 5, "small"))


@pytest.mark.parametrize("bits", [1, 3, 4, 8, 12])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_groups_where_they_fit(group: int, bits: int) -> None:
    """Depths that are no multiple of the group, operators that take none, and channels smaller than a group: runs as numpy computes."""
    graph = network_of_weights()
    quantised = copy.deepcopy(graph)
    decisions = {d.node: d for d in apply(quantised, Scheme(mode="weight", bits=bits, group=group))}
    sizes = {n.name: quantised.tensors[n.inputs[1]] for n in quantised.nodes if n.op != "Reshape"}
    parts = {name: -(-t.elements // t.shape[0] // group) if t.group else 1 for name, t in sizes.items()}
    wanted_groups = {"conv": 36, "depthwise": 0, "transposed": 0, "deep": 384, "middle": 100, "small": 7}
    assert {name: t.group for name, t in sizes.items()} == {name: group if group < depth else 0 for name, depth in wanted_groups.items()}
    assert sizes["deep"].scale is not None
    assert sizes["deep"].scale.size == 100 * parts["deep"]
    for name in ("depthwise", "transposed"):
        assert f"instead of groups of {group}" in decisions[name].reason
    assert not decisions["deep"].reason
    (x,) = samples(1, 1, 6, 6, 4)
    ours = Model(write(quantised)).session()(x)
    (wanted,) = evaluate(quantised, {"x": x}).values()
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4 * float(np.abs(wanted).max()))
    (real,) = evaluate(graph, {"x": x}).values()
    if bits >= 8:
        assert np.abs(wanted - real).max() < 0.05 * np.abs(real).max()


def test_groups_lose_less_than_channels() -> None:
    b = Builder(5)
    graph = b.done(b.dense(b.input("x", 20, 512), 64, "dense"))
    x = np.random.default_rng(0).normal(size=(20, 512)).astype(np.float32)
    (real,) = evaluate(graph, {"x": x}).values()
    errors = []
    for group in (0, 128, 64, 32):
        quantised = applied(graph, mode="weight", bits=4, group=group)
        errors.append(float(np.sum((Model(write(quantised)).session()(x) - real) ** 2)))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.75 * errors[0]
    with pytest.raises(ConvertError, match="multiple of 4"):
        Scheme(mode="weight", group=6)
