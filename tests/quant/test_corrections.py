# SPDX-License-Identifier: Apache-2.0
"""Equalisation, bias correction and output-aware rounding: each does what it says, and `improve` keeps only what helps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from edge8.converter.api import convert_graph
from edge8.converter.errors import ConvertError
from edge8.converter.evaluate import evaluate
from edge8.converter.graph import Graph, Node, Tensor
from edge8.converter.quant.bias_correction import mean_shift
from edge8.converter.quant.corrections import improve
from edge8.converter.quant.equalisation import equalise, find_spaces
from edge8.converter.quant.float_model import FloatModel
from edge8.converter.quant.matrices import to_matrix
from edge8.converter.quant.rounding import best_codes, layer_codes, quadratic_error
from edge8.converter.quant.scheme import Scheme
from edge8.converter.quant.statistics import gather
from edge8.converter.quant.weights import channel_axis, channel_scales, quantise_weights

Array = np.ndarray[Any, Any]


def network(spread: float, seed: int = 0) -> Graph:
    """Two 1x1 convolutions with ReLU between; `spread` is the ratio of the largest to the smallest middle channel."""
    random = np.random.default_rng(seed)
    graph = Graph(inputs=["x"], outputs=["y"])
    graph.add(Tensor("x", (1, 6, 6, 8)))
    channels = np.geomspace(1, spread, 16).astype(np.float32)[:, None, None, None]
    graph.constant(random.standard_normal((16, 1, 1, 8)).astype(np.float32) * channels, "w1")
    graph.constant(random.standard_normal(16).astype(np.float32) * channels[:, 0, 0, 0] * 0.1, "b1")
    graph.constant((random.standard_normal((4, 1, 1, 16)) / channels[:, 0, 0, 0]).astype(np.float32), "w2")
    graph.constant(random.standard_normal(4).astype(np.float32), "b2")
    graph.add(Tensor("m", (1, 6, 6, 16)))
    graph.add(Tensor("y", (1, 6, 6, 4)))
    first = Node("Conv2D", ["x", "w1", "b1"], ["m"], {"act_min": 0.0}, "first")
    graph.nodes = [first, Node("Conv2D", ["m", "w2", "b2"], ["y"], {}, "second")]
    return graph


def samples(count: int, seed: int = 1) -> list[dict[str, Array]]:
    random = np.random.default_rng(seed)
    # Channels that move together, around a mean: rounding by output has something to use.
    mixing = random.standard_normal((8, 8))
    return [{"x": (random.standard_normal((1, 6, 6, 8)) @ mixing + 0.7).astype(np.float32)} for _ in range(count)]


def test_equalisation_keeps_the_meaning_and_levels_the_channels() -> None:
    graph, data = network(spread=100), samples(8)
    changed = copy.deepcopy(graph)
    tensors = [t for space in find_spaces(changed) for t in space.tensors]
    assert "m" in tensors
    divisors = equalise(changed, gather(changed, data, most=8, rows=0, channels=tensors).extremes, 1.0)
    assert "m" in divisors
    own = gather(changed, data, most=8, rows=0, channels=["m"]).extremes["m"]
    seen = gather(changed, data, most=8, rows=0, channels=["m"], model=FloatModel(graph).scaled(changed, divisors)).extremes["m"]
    np.testing.assert_allclose(seen, own, rtol=1e-4, atol=1e-4)
    before, after = evaluate(graph, data[0])["y"], evaluate(changed, data[0])["y"]
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4 * float(np.abs(before).max()))

    def spread(g: Graph) -> float:
        first = g.tensors[g.nodes[0].inputs[1]].data
        assert first is not None
        peaks = np.abs(first).max(axis=(1, 2, 3))
        return float(peaks.max() / peaks.min())

    assert spread(changed) < spread(graph) / 10


def test_equalisation_leaves_an_activation_that_does_not_commute() -> None:
    graph = network(spread=100)
    graph.nodes[0].params["act_max"] = 6.0
    assert "m" not in [t for space in find_spaces(graph) for t in space.tensors]


def test_bias_correction_takes_back_the_mean_shift() -> None:
    graph, data = network(spread=1), samples(16)
    node, weights = graph.nodes[0], graph.tensors["w1"].data
    assert weights is not None
    axis = channel_axis(node.op)
    codes = quantise_weights(weights, channel_scales(weights, axis=axis, bits=3), axis=axis, bits=3)
    shift = mean_shift(node, weights, codes, gather(graph, data, most=16).inputs[0])
    x = np.concatenate([s["x"].reshape(-1, 8) for s in data]).astype(np.float64)
    rounded = codes.codes.reshape(16, 8) * codes.scale.reshape(16, 1)
    true = (x @ (rounded - weights.reshape(16, 8)).T).mean(axis=0)
    assert np.abs(true).max() > 0.01
    np.testing.assert_allclose(shift, true, rtol=1e-3, atol=1e-4)


def test_rounding_lowers_the_error_of_the_output() -> None:
    graph, data = network(spread=1), samples(32)
    node, weights = graph.nodes[0], graph.tensors["w1"].data
    assert weights is not None
    seen = gather(graph, data, most=32).inputs[0]
    axis = channel_axis(node.op)
    nearest = quantise_weights(weights, channel_scales(weights, axis=axis, bits=4), axis=axis, bits=4)
    chosen = layer_codes(graph, node, seen, bits=4, search_scale=False)
    held = np.concatenate([s["x"].reshape(-1, 8) for s in samples(32, seed=1)[16:]]).astype(np.float64)
    held -= held.mean(axis=0)

    def error(codes: Any) -> float:
        difference = codes.codes.reshape(16, 8) * codes.scale.reshape(16, 1) - weights.reshape(16, 8)
        return float(np.mean((held @ difference.T) ** 2))

    assert error(chosen) < 0.8 * error(nearest)
    assert np.abs(chosen.codes).max() <= 7


def test_best_codes_are_never_worse_than_nearest() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        k = int(random.integers(1, 90))
        matrix, scale = random.standard_normal((1, 5, k)), np.full((1, 5), 0.21)
        mixing = random.standard_normal((k, k))
        covariance = (mixing @ mixing.T)[None]
        codes = best_codes(matrix, scale, covariance, 7)
        nearest = np.clip(np.rint(matrix / scale[:, :, None]), -7, 7)
        ours, theirs = (quadratic_error(c * scale[:, :, None] - matrix, covariance) for c in (codes, nearest))
        assert (ours <= theirs * 1.02 + 1e-9).all()
        assert np.abs(codes).max() <= 7


def test_matrices_are_rows_of_output_channels() -> None:
    graph = network(spread=1)
    weights = graph.tensors["w1"].data
    assert weights is not None
    np.testing.assert_array_equal(to_matrix(graph.nodes[0], weights)[0], weights.reshape(16, 8))


def test_improve_raises_the_score_and_says_what_it_did() -> None:
    graph, data = network(spread=300), samples(24)
    before = copy.deepcopy(graph)
    improved = improve(graph, Scheme(), data, method="minmax")
    better, steps = improved.graph, improved.steps
    assert [s.name for s in steps] == ["equalisation", "bias", "rounding"]
    assert steps[0].kept
    assert all((s.after > s.before) == s.kept for s in steps)
    assert better is not graph
    np.testing.assert_array_equal(graph.tensors["w1"].data, before.tensors["w1"].data)  # type: ignore[arg-type]
    plain, corrected = (convert_graph(g, Scheme(), data, method="minmax")[0] for g in (graph, better))
    import edge8

    test = samples(8, seed=9)
    noise = []
    for file in (plain, corrected):
        session = edge8.Model(file).session()
        noise.append(sum(float(np.sum((session(s) - evaluate(graph, s)["y"]) ** 2)) for s in test))
    assert noise[1] < noise[0] / 2


def test_what_does_not_help_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def ruined(graph: Graph, *_: Any) -> tuple[Graph, dict[str, Array]]:
        result = copy.deepcopy(graph)
        result.tensors["w2"].data = np.zeros_like(result.tensors["w2"].data)
        return result, {}

    monkeypatch.setattr("edge8.converter.quant.corrections._equalised", ruined)
    graph = network(spread=1)
    improved = improve(graph, Scheme(), samples(24), corrections=("equalisation",), method="minmax")
    better, (step,) = improved.graph, improved.steps
    assert not step.kept
    assert step.after < step.before
    assert better is graph


def test_unknown_corrections_and_few_samples() -> None:
    graph = network(spread=300)
    with pytest.raises(ConvertError, match="unknown correction 'magic'"):
        convert_graph(graph, Scheme(), samples(8), corrections=("magic",))
    steps: list[Any] = []
    convert_graph(graph, Scheme(), samples(7), corrections=("equalisation",), steps=steps)
    assert steps == []
