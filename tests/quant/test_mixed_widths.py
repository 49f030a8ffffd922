# SPDX-License-Identifier: Apache-2.0
"""A width for each layer: measured, allocated along the convex hulls, and the file that comes of it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge8 import Model
from edge8.converter import ConvertError, convert
from edge8.converter.api import float_file
from edge8.converter.cli import convert_main
from edge8.converter.graph import Graph
from edge8.converter.quant.evaluation import make_goal
from edge8.converter.quant.layer_widths import LayerCodes, coded_nodes, weights_file
from edge8.converter.quant.mixed_widths import find_widths, lower_hull, path_of, stored_bytes, target_bytes
from edge8.converter.quant.scheme import Scheme

from .graphs import Builder, samples, small_network
from .test_evaluation import DEMO, pictures

Array = np.ndarray[Any, Any]
BOTH = ("bias", "rounding")


def uneven_network() -> Graph:
    """Two layers of equal size; what the second one gets wrong reaches the output a hundred times weaker."""
    b = Builder(5)
    x = b.input("x", 1, 32)
    strong, weak = b.dense(x, 32, "strong"), b.dense(x, 32, "weak")
    y = b.binary("add", strong, b.binary("mul", weak, b.const(np.array([0.01]))))
    return b.done(y)


def data(count: int = 16, seed: int = 1, shape: tuple[int, ...] = (1, 32)) -> list[dict[str, Array]]:
    return [{"x": x} for x in samples(count, *shape, seed=seed)]


def codes_of(graph: Graph, inputs: list[dict[str, Array]], corrections: tuple[str, ...] = BOTH, **options: Any) -> LayerCodes:
    return LayerCodes(graph, Scheme(mode="weight", **options), inputs, corrections, 1)


def test_the_layer_that_matters_keeps_more_bits() -> None:
    graph = uneven_network()
    size = len(weights_file(codes_of(graph, data()), {n.outputs[0]: 5 for n in graph.nodes[:2]})[0])
    mixed = find_widths(codes_of(graph, data()), data(), size=size)
    strong, weak = (layer["bits"] for layer in mixed.layers)
    assert strong >= weak + 3
    assert len(mixed.data) <= size
    assert mixed.average == (strong + weak) / 2
    goal = make_goal(float_file(graph), data(8, seed=2), target_sqnr=1)
    even = weights_file(codes_of(graph, data()), {n.outputs[0]: 5 for n in graph.nodes[:2]})[0]
    assert goal.score(mixed.data) > goal.score(even) + 4


def test_widths_are_in_the_file() -> None:
    graph = uneven_network()
    mixed = find_widths(codes_of(graph, data()), data(), size=6000)
    bits = {layer["node"]: layer["bits"] for layer in mixed.layers}
    bytes_of = {op.name: Model(mixed.data).tensors[op.inputs[1] or 0].bytes for op in Model(mixed.data).ops if op.kind == "FullyConnected"}
    assert bytes_of == {name: stored_bytes(32 * 32, bits[name]) for name in bits}


def test_an_accuracy_target_gets_the_smallest_file_on_the_path() -> None:
    graph = small_network()
    inputs = [{"x": x} for x in samples(16, 1, 8, 8, 4)]
    goal = make_goal(float_file(graph), [{"x": x} for x in samples(8, 1, 8, 8, 4, seed=2)], target_sqnr=30)
    mixed = find_widths(codes_of(graph, inputs), inputs, goal=goal)
    assert mixed.score is not None
    assert mixed.score == goal.score(mixed.data) >= 30
    assert mixed.average < 8
    narrow = find_widths(codes_of(graph, inputs), inputs, goal=make_goal(float_file(graph), inputs, target_sqnr=15))
    assert len(narrow.data) < len(mixed.data)


def test_targets_out_of_reach() -> None:
    graph, inputs = uneven_network(), data()
    goal = make_goal(float_file(graph), inputs, target_sqnr=90)
    with pytest.raises(
        ConvertError, match=r"--target-sqnr: the target is SQNR at least 90 dB, 8 bits per weight gives [\d.]+ dB; nothing is written"
    ):
        find_widths(codes_of(graph, inputs), inputs, goal=goal)
    best = find_widths(codes_of(graph, inputs), inputs, goal=goal, best_effort=True)
    assert {layer["bits"] for layer in best.layers} == {8}
    with pytest.raises(ConvertError, match=r"--target-size: the target is 100 bytes, the smallest file has [\d,]+"):
        find_widths(codes_of(graph, inputs), inputs, size=100)
    smallest = find_widths(codes_of(graph, inputs), inputs, size=100, best_effort=True, low=3)
    assert {layer["bits"] for layer in smallest.layers} == {3}
    with pytest.raises(ConvertError, match="a file of this size gives"):
        find_widths(codes_of(graph, inputs), inputs, size=5000, goal=goal)


def test_hull_leaves_out_what_does_not_pay() -> None:
    points = [(8, 0.0), (6, 1.0), (4, 1.5), (2, 10.0), (5, 1.5)]
    assert lower_hull(points) == [0, 2, 3]
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = [(int(s), float(n)) for s, n in zip(rng.choice(40, 7, replace=False), rng.random(7) ** 3, strict=True)]
        hull = [points[i] for i in lower_hull(points)]
        slopes = [(b[1] - a[1]) / (a[0] - b[0]) for a, b in itertools.pairwise(hull)]
        assert slopes == sorted(slopes)
        assert all(s > 0 for s in slopes)
        for size, noise in points:  # no point lies below the hull
            beneath = np.interp(size, [p[0] for p in hull[::-1]], [p[1] for p in hull[::-1]])
            assert noise >= beneath - 1e-12


def test_path_is_the_least_noise_for_its_bytes() -> None:
    """Against every allocation there is: no one is smaller and quieter than a point of the path."""
    noises = [{b: c * 4.0**-b for b in range(2, 6)} for c in (1.0, 30.0, 4.0)]
    elements = [80, 40, 160]
    start, steps = path_of(noises, [{b: stored_bytes(count, b) for b in range(2, 6)} for count in elements])
    assert start == [5, 5, 5]
    widths = list(start)
    every = [
        (sum(stored_bytes(e, b) for e, b in zip(elements, w, strict=True)), sum(n[b] for n, b in zip(noises, w, strict=True)))
        for w in itertools.product(range(2, 6), repeat=3)
    ]
    for step in steps:
        widths[step.layer] = step.bits
        size = sum(stored_bytes(e, b) for e, b in zip(elements, widths, strict=True))
        noise = sum(n[b] for n, b in zip(noises, widths, strict=True))
        assert not any(s <= size and n < noise * (1 - 1e-9) for s, n in every)
    assert widths == [2, 2, 2]


def test_data_make_better_codes() -> None:
    graph, inputs = small_network(), [{"x": x} for x in samples(32, 1, 8, 8, 4)]
    widths = {n.outputs[0]: 3 for n in coded_nodes(graph, Scheme(mode="weight"))}
    goal = make_goal(float_file(graph), [{"x": x} for x in samples(16, 1, 8, 8, 4, seed=2)], target_sqnr=1)
    plain, bias, rounding = (goal.score(weights_file(codes_of(graph, inputs, c), widths)[0]) for c in ((), ("bias",), BOTH))
    assert bias > plain
    assert rounding > plain + 2


def test_layers_with_groups() -> None:
    graph, inputs = uneven_network(), data()
    mixed = find_widths(codes_of(graph, inputs, group=16), inputs, goal=make_goal(float_file(graph), inputs, target_sqnr=25))
    assert len({layer["bits"] for layer in mixed.layers}) == 2, mixed.layers
    alone = min(layer["sqnr"] for layer in mixed.layers)
    assert make_goal(float_file(graph), inputs, target_sqnr=1).score(mixed.data) == pytest.approx(alone, abs=1.5)


def test_eight_bit_layers_keep_right_sums() -> None:
    graph, inputs = small_network(), [{"x": x} for x in samples(16, 1, 8, 8, 4)]
    codes = codes_of(graph, inputs)
    file = Model(weights_file(codes, {})[0])
    session = file.session()
    checked = 0
    for op in file.ops:
        if op.kind in ("Conv2D", "FullyConnected"):
            node = next(n for n in graph.nodes if n.name == op.name)
            wanted = codes(node, 8)[0].codes.reshape(graph.tensors[node.inputs[1]].shape[0], -1).sum(axis=1, dtype=np.int32)
            stored = op.inputs[3]
            assert stored is not None
            np.testing.assert_array_equal(session.tensor(stored).view("<i4"), wanted)
            checked += 1
    assert checked == 3
    assert make_goal(float_file(graph), inputs, target_sqnr=1).score(file.file_content().tobytes()) > 35


@pytest.mark.parametrize(
    ("text", "size"), [("200000", 200_000), ("200k", 200_000), ("1.5M", 1_500_000), ("1.5MB", 1_500_000), ("0.25", 250), ("25%", 250)]
)
def test_sizes(text: str, size: int) -> None:
    assert target_bytes(text, 1000) == size


@pytest.mark.parametrize("text", ["", "big", "-5", "0", "nan", "inf", "k", "1e-9"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ConvertError, match=r"is not a size\. Write bytes"):
        target_bytes(text, 1000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": "mixed"}, "--bits mixed: a width for each layer needs a target. Give --target-size"),
        (
            {"bits": "mixed", "target_size": "20k", "calibration": None},
            "--target-size: a width for each layer is found on data. Give --calibration",
        ),
        ({"bits": "half"}, "--bits: unknown width 'half'. Choose 1 to 16, or mixed"),
        ({"bits": 17}, "17 bits per weight are outside 1 to 16"),
        ({"target_size": "20k", "bits": 4}, "--target-size: one width for all layers"),
        ({"target_size": "20k", "search": False}, "--no-search: a width for each layer is found by a search"),
        ({"target_size": "20k", "quant": "full"}, "--target-size: full quantisation has 8-bit weights only"),
        ({"bits": "mixed", "quant": "full"}, "--bits mixed: full quantisation has 8-bit weights only"),
        ({"target_size": "20k", "bit_range": (4, 3)}, "--bit-range: 4,3 are no widths"),
        ({"target_size": "20k", "bit_range": (0, 8)}, "--bit-range: 0,8 are no widths"),
        ({"target_size": "20k", "bit_range": (2, 17)}, "--bit-range: 2,17 are no widths"),
        ({"target_size": "small"}, "--target-size small: is not a size"),
        ({"target_size": "20k", "skip": ["re:.*"]}, "no layer has weights to quantise"),
    ],
)
def test_bad_flags(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConvertError, match=message.replace("(", r"\(")):
        convert(DEMO / "model.onnx", **{"quant": "weight", "calibration": pictures(8)[0], **options})


def test_command_line_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(DEMO / "model.onnx"), "-o", str(tmp_path / "a.e8"), "--preprocess", str(DEMO / "preprocess.toml"), "--quant", "weight"]
    command += ["--calibration", str(DEMO / "calibration.npz"), "--samples", "40", "--report", str(tmp_path / "a.json")]
    assert convert_main([*command, "--target-size", "36k"]) == 0
    assert (tmp_path / "a.e8").stat().st_size <= 36_000
    assert "bits per weight: " in capsys.readouterr().out
    search = json.loads((tmp_path / "a.json").read_text())["search"]
    assert float(search["bits per weight"]) < 4
    assert len({layer["bits"] for layer in search["layers"]}) > 1
    assert search["target"] == "at most 36,000 bytes"
    (tmp_path / "a.e8").unlink()
    assert convert_main([*command, "--target-size", "5k"]) == 1
    assert not (tmp_path / "a.e8").exists()
    assert convert_main([*command, "--target-size", "5k", "--best-effort", "--bit-range", "3,4", "--report", str(tmp_path / "a.html")]) == 0
    assert "only this layer is quantised" in (tmp_path / "a.html").read_text()


def test_narrow_weights_are_rounded_for_the_output_where_data_are() -> None:
    blind = convert(DEMO / "model.onnx", quant="weight", bits=3)
    seen = convert(DEMO / "model.onnx", quant="weight", bits=3, calibration=pictures(40)[0])
    assert [(c["name"], c["state"]) for c in seen.corrections] == [("rounding", "kept")]
    test, _ = pictures(200)
    from edge8.converter.api import load_graph

    goal = make_goal(float_file(load_graph(DEMO / "model.onnx")), test[100:], target_sqnr=0)
    assert goal.score(seen.data) > goal.score(blind.data) + 2
