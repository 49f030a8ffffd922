# SPDX-License-Identifier: Apache-2.0
"""The search for an accuracy target: ranking, the order of moves, the fewest layers, and what happens when nothing is enough."""

from __future__ import annotations

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
from edge8.converter.quant.assemble import assemble, with_float_weights
from edge8.converter.quant.corrections import Improved, _with_codes
from edge8.converter.quant.evaluation import Goal, make_goal
from edge8.converter.quant.moves import Rounding, plan_moves
from edge8.converter.quant.reach import hold_out
from edge8.converter.quant.scheme import Scheme
from edge8.converter.quant.search import Found, find_roundings, first_reached, search_levels
from edge8.converter.quant.sensitivity import Codebook, Probe, decibels_of
from edge8.converter.quant.statistics import gather

from .graphs import Builder, samples, small_network
from .test_evaluation import DEMO, pictures

Array = np.ndarray[Any, Any]


def hard_network() -> Graph:
    """Three convolutions; the channels of ``wide`` differ a thousandfold, and the next layer takes back the large one.

    One scale for all channels leaves nothing of the small ones, so the network needs ``wide`` in float and nothing else.
    """
    b = Builder(3)
    x = b.input("x", 1, 8, 8, 4)
    a = b.conv(x, 8, 1, name="first")
    wide = b.conv(a, 8, 1, name="wide", scale=0.2)
    narrow = b.conv(wide, 8, 1, name="narrow", scale=0.2)
    y = b.conv(narrow, 16, 3, name="last", scale=0.1)
    gains = np.array([1000.0, 1, 1, 1, 1, 1, 1, 1], np.float32)
    for name, axis, factor in (("wide", 0, gains), ("narrow", 3, 1 / gains)):
        tensor = b.graph.tensors[next(n for n in b.graph.nodes if n.name == name).inputs[1]]
        assert tensor.data is not None
        tensor.data = tensor.data * factor.reshape([-1 if i == axis else 1 for i in range(4)])
    return b.done(y)


def data(count: int = 12, seed: int = 1, shape: tuple[int, ...] = (1, 8, 8, 4)) -> list[dict[str, Array]]:
    return [{"x": x} for x in samples(count, *shape, seed=seed)]


def plain(graph: Graph) -> Improved:
    return Improved(graph, graph, [])


def searched(graph: Graph, sqnr: float, **options: Any) -> tuple[Found, Goal]:
    goal = make_goal(float_file(graph), data(8, seed=2), target_sqnr=sqnr)
    return search_levels(plain(graph), Scheme(), goal, lambda: data(), method="minmax", **options), goal


def test_the_layer_that_needs_float_is_found() -> None:
    graph = hard_network()
    found, goal = searched(graph, 25)
    assert found.score >= 25
    assert goal.score(found.data) == found.score
    named = [layer["node"] for layer in found.layers]
    assert set(named) == {"wide", "narrow"}, "the tensor between them loses its codes when both run in float"
    assert {d.node: d.domain for d in found.decisions if d.domain != "int8"} == {layer["node"]: layer["level"] for layer in found.layers}
    assert 0.5 <= found.int8_share < 1
    costly = next(layer for layer in found.layers if layer["node"] == "wide")
    assert costly["sqnr"] < 20
    assert "wide" in costly["why"]
    reason = next(d.reason for d in found.decisions if d.node == "wide")
    assert "for the accuracy target" in reason
    assert f"{costly['sqnr']:.1f} dB" in reason


def test_a_tensor_that_needs_more_codes_gets_int16() -> None:
    b = Builder(4)
    x = b.input("x", 1, 8, 8, 4)
    a = b.conv(x, 8, 1, name="first")
    far = b.const(np.array([100.0] * 4 + [-100.0] * 4))
    back = b.binary("sub", b.binary("add", a, far, "away"), far, "back")
    graph = b.done(b.conv(back, 16, 3, name="last", scale=0.1))
    found, _ = searched(graph, 30)
    assert {layer["node"]: layer["level"] for layer in found.layers} == {"away": "int16", "back": "int16"}
    assert {d.node for d in found.decisions if d.domain == "int16"} == {"away", "back"}
    assert found.int8_share > 0.9
    reason = next(d.reason for d in found.decisions if d.node == "away")
    assert reason.startswith("in int16 for the accuracy target: rounding tensor")


def test_int16_activations_move_to_float_for_their_weights() -> None:
    graph, scheme = small_network(), Scheme(activations="int16")
    start = assemble(plain(graph), scheme, lambda: data(), method="minmax", percentile=99.99, threads=1)[0]
    before = make_goal(float_file(graph), data(8, seed=2), target_sqnr=1).score(start)
    goal = make_goal(float_file(graph), data(8, seed=2), target_sqnr=before + 3)
    found = search_levels(plain(graph), scheme, goal, lambda: data(), method="minmax", min_int8=0.05)
    assert found.score >= before + 3
    assert found.layers
    assert {layer["level"] for layer in found.layers} == {"float"}
    assert any(layer["why"] == "rounding its weights" for layer in found.layers)
    assert 0.05 <= found.int8_share < 1
    assert "int16" in {d.domain for d in found.decisions}
    with pytest.raises(ConvertError, match=r"100 % of the MACs in int16.*leave int16 \(--min-int8, now 100\)"):
        search_levels(plain(graph), scheme, goal, lambda: data(), method="minmax", min_int8=1.0)


def test_roundings_of_int16_files_are_found_by_their_float_names() -> None:
    graph, scheme = small_network(), Scheme(activations="int16")
    file, decisions, _ = assemble(plain(graph), scheme, lambda: data(), method="minmax", percentile=99.99, threads=1)
    found, _ = find_roundings(plain(graph), file, decisions, data(), 1)
    places = {rounding.what for rounding in found}
    assert {f"tensor {name!r}" for name in [*graph.inputs, *graph.outputs]} <= places


def test_nodes_that_the_user_made_int16_can_move_to_float() -> None:
    graph = hard_network()
    scheme = Scheme(int16=("re:.",))
    goal = make_goal(float_file(graph), data(8, seed=2), target_sqnr=55)
    found = search_levels(plain(graph), scheme, goal, lambda: data(), method="minmax", min_int8=0.0)
    assert {layer["level"] for layer in found.layers} == {"float"}


def test_a_target_that_int8_reaches_moves_nothing() -> None:
    found, _ = searched(small_network(), 10)
    assert (found.tried, found.layers, found.int8_share) == (1, [], 1.0)


def test_a_target_out_of_reach() -> None:
    with pytest.raises(ConvertError, match=r"--target-sqnr: the target is SQNR at least 25 dB, the best of \d+ files is .* --best-effort"):
        searched(hard_network(), 25, min_int8=0.99)
    found, goal = searched(hard_network(), 25, min_int8=0.99, best_effort=True)
    assert not goal.reached(found.score)
    assert found.int8_share >= 0.99


def test_a_probe_measures_the_rounding_of_one_tensor() -> None:
    graph = small_network()
    inputs = data(3)
    probe = Probe(graph, inputs)
    swish = graph.nodes[2].outputs[0]
    assert probe.activations({swish: Codebook(1e-7, 0, -(2**30), 2**30)}) < 1e-9
    fine, coarse = (probe.activations({swish: Codebook(s, 0, -4096, 4095)}) for s in (0.05, 0.4))
    assert 0 < fine < coarse
    weights = graph.tensors[graph.nodes[0].inputs[1]].data
    assert weights is not None
    assert probe.weights(graph.nodes[0], weights) == pytest.approx(0, abs=1e-12)
    assert probe.weights(graph.nodes[0], weights + 0.1) > 1e-4
    assert probe.weights(graph.nodes[0], weights) == pytest.approx(0, abs=1e-12), "the file's own weights are back"
    assert probe.activations({"x": Codebook(0.5, 0, -4, 4)}) > 1e-5


def test_noise_without_softmax_is_the_output_error() -> None:
    b = Builder()
    graph = b.done(b.dense(b.input("x", 1, 6), 4, "dense"))
    inputs = [{"x": x} for x in samples(4, 1, 6)]
    book = Codebook(0.1, 0, -128, 127)
    session = Model(float_file(graph)).session()
    y = np.stack([np.asarray(session(s)) for s in inputs]).astype(np.float64)
    expected = ((book.rounded(y) - y) ** 2).reshape(4, -1).sum(axis=1)
    noise = 4 * np.exp(np.log(expected).mean()) / (y**2).sum()
    assert Probe(graph, inputs).activations({graph.outputs[0]: book}) == pytest.approx(noise, rel=1e-3)


def test_one_sample_does_not_decide() -> None:
    b = Builder()
    graph = b.done(b.dense(b.input("x", 1, 6), 4, "dense"))
    inputs = [{"x": x} for x in samples(8, 1, 6)]
    inputs[5]["x"] *= 5
    probe, end = Probe(graph, inputs), graph.outputs[0]
    clipped = probe.activations({end: Codebook(0.1, 0, -128, 127)})
    assert 0 < clipped < 0.02, "the sum over all samples is the one that is clipped, nearly 1"
    assert probe.activations({end: Codebook(0.4, 0, -128, 127)}) > 2 * clipped, "coarser steps count although they clip less"


def test_weights_count_with_the_codes_that_the_corrections_gave() -> None:
    graph = hard_network()
    coded = _with_codes(graph, Scheme(), gather(graph, data(8), most=8).inputs, rounding=True)

    def noise_of_last() -> float:
        improved = Improved(coded, graph, [])
        file, decisions, _ = assemble(improved, Scheme(), lambda: data(), method="minmax", percentile=99.99, threads=1)
        return find_roundings(improved, file, decisions, data(), 1)[0][-1].noise

    before = noise_of_last()
    weights = coded.tensors[coded.nodes[-1].inputs[1]]
    assert weights.data is not None
    weights.data = weights.data // 16 * 16
    assert noise_of_last() > 30 * before


@pytest.mark.parametrize(("coarse_first", "taken"), [(True, "rounding"), (False, "")])
def test_weight_corrections_are_chosen_again(coarse_first: bool, taken: str) -> None:
    """Whatever int8 activations made of them, the better codes count once those move."""
    graph = hard_network()
    fine = _with_codes(graph, Scheme(), gather(graph, data(8), most=8).inputs, rounding=True)
    coarse = fine.copy()
    weights = coarse.tensors[coarse.nodes[-1].inputs[1]]
    assert weights.data is not None
    weights.data = weights.data // 16 * 16
    kept, other = (coarse, fine) if coarse_first else (fine, coarse)
    goal = make_goal(float_file(graph), data(8, seed=2), target_sqnr=25)
    lines: list[str] = []
    improved = Improved(kept, graph, [], rejected={"rounding": other})
    found = search_levels(improved, Scheme(), goal, lambda: data(), method="minmax", say=lines.append)
    assert found.correction == taken
    assert any("going on with the weights" in line for line in lines) == coarse_first
    assert found.score >= 25
    assert {layer["node"] for layer in found.layers} == {"wide", "narrow"}, "the last layer's weights need no float"


def test_one_sample_does_not_decide_between_files() -> None:
    b = Builder()
    graph = b.done(b.dense(b.input("x", 1, 6), 4, "dense"))
    reference = float_file(graph)
    inputs = data(8, shape=(1, 6))
    inputs[5]["x"] *= 1000
    goal = make_goal(reference, inputs, target_sqnr=20)
    ways: dict[str, Any] = {"method": "minmax", "percentile": 99.99, "threads": 1}
    calibrated = [assemble(plain(graph), Scheme(), calibrate, **ways)[0] for calibrate in (lambda: inputs, lambda: inputs[:5])]
    assert goal.score(calibrated[0]) > goal.score(calibrated[1]), "all samples' noise together is that of the large one"
    assert goal.compared(calibrated[1]) > goal.compared(calibrated[0])
    assert make_goal(reference, inputs, max_drop=1).compared(reference) == pytest.approx(1), "other metrics compare by their score"


def test_roundings_predict_the_file() -> None:
    """Noises of single roundings add up to the noise of the whole file, within 3 dB."""
    graph = hard_network()
    scheme = Scheme()
    file, decisions, _ = assemble(plain(graph), scheme, lambda: data(), method="minmax", percentile=99.99, threads=1)
    roundings, macs = find_roundings(plain(graph), file, decisions, data(), 1)
    assert len(macs) == len(graph.nodes)
    predicted = decibels_of(sum(r.noise for r in roundings))
    measured = make_goal(float_file(graph), data()[:8], target_sqnr=1).score(file)
    assert predicted == pytest.approx(measured, abs=3)


def test_moves_take_most_noise_for_the_least_work() -> None:
    roundings = [
        Rounding("a", 1.0, frozenset([0, 1])),
        Rounding("b", 0.5, frozenset([1, 2])),
        Rounding("c", 0.4, frozenset([3])),
        Rounding("d", 0.4, frozenset([4])),
    ]
    moves = plan_moves(roundings, [10, 10, 10, 1000, 10])
    assert [m.nodes for m in moves] == [(0, 1), (2,), (4,), (3,)]
    assert [m.removed for m in moves] == pytest.approx([1.0, 0.5, 0.4, 0.4])
    assert [m.why.what for m in moves] == ["a", "b", "d", "c"]
    assert sum(m.macs for m in moves) == 1040


def test_a_move_counts_all_that_vanishes_with_it() -> None:
    small = [Rounding(str(i), 0.2, frozenset([0, 1])) for i in range(4)]
    moves = plan_moves([Rounding("one", 0.5, frozenset([2])), *small], [10, 10, 20])
    assert moves[0].nodes == (0, 1)
    assert moves[0].removed == pytest.approx(0.8)


@pytest.mark.parametrize("needed", range(1, 15))
def test_fewest_moves_in_few_trials(needed: int) -> None:
    asked = []

    def reached(count: int) -> bool:
        asked.append(count)
        return count >= needed

    assert first_reached(14, reached) == needed
    assert len(asked) <= 8
    assert len(set(asked)) == len(asked)
    assert first_reached(needed - 1, lambda count: count >= needed) is None if needed > 1 else True


def test_moved_layers_get_their_float_weights_back() -> None:
    graph = hard_network()
    improved = Improved(_with_codes(graph, Scheme(), gather(graph, data(8), most=8).inputs, rounding=True), graph, [])
    restored = with_float_weights(improved, [graph.nodes[1].outputs[0]])
    for i, node in enumerate(restored.nodes):
        now, then = restored.tensors[node.inputs[1]], graph.tensors[graph.nodes[i].inputs[1]]
        assert np.array_equal(now.data, then.data) == (i == 1)
        if i == 1:
            bias = restored.tensors[node.inputs[2]].data
            np.testing.assert_array_equal(bias, graph.tensors[graph.nodes[1].inputs[2]].data)


def test_every_fourth_sample_is_held_out() -> None:
    items, labels = data(10), list(range(10))
    calibration, held, held_labels, remark = hold_out(items, labels)
    assert [s is items[i] for s, i in zip(held, (3, 7), strict=True)] == [True, True]
    assert len(list(calibration)) == 8
    assert list(held_labels) == [3, 7]
    assert remark == ""
    calibration, held, _, remark = hold_out(items[:7], None)
    assert calibration is held
    assert "--validation" in remark


def test_convert_searches_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(DEMO / "model.onnx"), "-o", str(tmp_path / "a.e8"), "--preprocess", str(DEMO / "preprocess.toml"), "--no-corrections"]
    command += ["--calibration", str(DEMO / "calibration.npz"), "--samples", "24", "--report", str(tmp_path / "a.json")]
    assert convert_main([*command, "--target-sqnr", "36"]) == 0
    printed = capsys.readouterr()
    assert "layers in int16" in printed.err
    assert "MACs in int8" in printed.out
    report = json.loads((tmp_path / "a.json").read_text())
    layers = report["search"]["layers"]
    assert layers
    assert {"node", "op", "level", "macs", "why", "sqnr"} <= layers[0].keys()
    moved = {o["node"]: o for o in report["operators"] if "accuracy target" in o["reason"]}
    assert {layer["node"] for layer in layers} == moved.keys()
    (tmp_path / "a.e8").unlink()
    assert convert_main([*command, "--target-sqnr", "36", "--no-search"]) == 1
    assert convert_main([*command, "--target-sqnr", "36", "--min-int8", "100"]) == 1
    assert not (tmp_path / "a.e8").exists()
    assert convert_main([*command, "--target-sqnr", "36", "--min-int8", "101"]) == 1
    assert "--min-int8: 101 is not a percentage" in capsys.readouterr().err
    assert convert_main([*command, "--target-sqnr", "36", "--min-int8", "100", "--best-effort", "--report", str(tmp_path / "a.html")]) == 0
    assert "which is less" in capsys.readouterr().out
    assert (tmp_path / "a.e8").exists()


def test_float_where_int16_is_not_enough() -> None:
    graph = hard_network()
    goal = make_goal(float_file(graph), data(8, seed=2), target_sqnr=60)
    lines: list[str] = []
    found = search_levels(plain(graph), Scheme(), goal, lambda: data(), method="minmax", min_int8=0, say=lines.append)
    assert found.score >= 60, "beyond what int8 weights allow"
    assert "float" in {layer["level"] for layer in found.layers}
    assert lines[0].startswith("0 layers in int16, 0 in float, 100.0 % of the MACs in int8: ")


def test_a_function_is_the_target() -> None:
    calls = []

    def score(session: Any) -> float:
        int8 = any(t.scale > 0 for t in session.model.tensors if not t.constant)
        floats = [op for op in session.model.ops if op.kind == "Conv2D" and session.model.tensors[op.outputs[0]].dtype != np.int8]
        calls.append(len(floats))
        return 10.0 if not int8 or floats else 5.0

    made = convert(DEMO / "model.onnx", calibration=pictures(8)[0], max_drop=1, evaluate=score, corrections=(), min_int8=0)
    assert made.search["reached"] == "10"
    assert calls[1] == 0, "all int8 is tried first"
    assert made.search["layers"]
    with pytest.raises(ConvertError, match="evaluate: the function gives nan"):
        convert(DEMO / "model.onnx", calibration=pictures(8)[0], max_drop=1, evaluate=lambda s: float("nan"), corrections=())
