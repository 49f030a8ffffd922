# SPDX-License-Identifier: Apache-2.0
"""Bounded weights: the bound holds in the packed order, scales only rise, rounding keeps it, and `auto` drops it where it costs much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.api import convert, convert_graph
from edge8.converter.cli import convert_main
from edge8.converter.errors import ConvertError
from edge8.converter.graph import DType, Graph
from edge8.converter.ops import operators
from edge8.converter.quant import corrections
from edge8.converter.quant.bounded_weights import BOUND, bounded_codes, bounded_layers, bounded_scales, keep_bound, largest_sums, profits
from edge8.converter.quant.rounding import layer_codes
from edge8.converter.quant.scheme import Scheme, apply
from edge8.converter.quant.statistics import gather
from edge8.converter.quant.weights import Codes, channel_scales, quantise_weights

from .graphs import Builder

Array = np.ndarray[Any, Any]
LAYERS = ["pointwise", "grouped", "lines", "between", "window", "strided"]


def network(seed: int = 0) -> Graph:
    """Convolutions whose kernels use the bound (1x1, grouped, narrow and wide windows, 1x1 with stride), and layers that do not."""
    b = Builder(seed)
    x = b.input("x", 1, 12, 12, 57)
    wide = b.conv(x, 64, 1, "pointwise")
    grouped = b.conv(wide, 64, 1, "grouped", group=2, act_min=0.0)
    lines = b.conv(grouped, 48, 3, "lines", scale=0.05)
    window = b.conv(b.conv(lines, 64, 1, "between"), 128, 3, "window", scale=0.05, stride_h=2, stride_w=2)
    small = b.conv(window, 16, 1, "few_channels")
    y = b.dense(b.reshape(small, 1, 6 * 6 * 16), 32, "one_row", 0.05)
    return b.done(y, b.conv(lines, 40, 1, "strided", stride_h=2, stride_w=2))


def samples(count: int, seed: int = 1) -> list[dict[str, Array]]:
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((57, 57)) / 7
    return [{"x": (random.standard_normal((1, 12, 12, 57)) @ mixing + 0.3).astype(np.float32)} for _ in range(count)]


def steps_of(packed: bytes) -> Array:
    """Magnitudes ``[blocks of channels, pairs of steps, 16, 2]`` of int16 sums, as the kernel sees stored weights of one block."""
    codes = np.frombuffer(packed, np.int8).astype(int).reshape(-1, 16, 2, 2)
    codes = np.concatenate([codes, np.zeros((len(codes) % 2, 16, 2, 2), int)])
    both = [np.maximum(sign * codes, 0).sum(axis=3).reshape(-1, 2, 16, 2).sum(axis=1) for sign in (1, -1)]
    return np.asarray(np.maximum(*both))


@given(st.integers(1, 9), st.integers(1, 70), st.integers(0, 10_000), st.sampled_from(["normal", "flat", "one large"]))
@settings(max_examples=60, deadline=None)
def test_scales_only_rise_and_the_bound_holds(channels: int, depth: int, seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    weights = random.standard_normal((channels, depth)).astype(np.float32)
    if kind == "flat":
        weights = np.sign(weights) * np.float32(0.7)
    if kind == "one large":
        weights[:, depth // 2] *= 30
    free = channel_scales(weights, axis=0)
    scale = bounded_scales(weights, free)
    assert scale.dtype == np.float32
    assert (scale >= free).all()
    kept = largest_sums(quantise_weights(weights, free, axis=0).codes).max(axis=1) <= BOUND
    assert (scale[kept] == free[kept]).all()
    assert (largest_sums(quantise_weights(weights, scale, axis=0).codes) <= BOUND).all()
    # No further than needed: a scale that is a 25th smaller breaks the bound (where the codes are large enough to tell).
    raised = scale > free * 1.05
    if raised.any():
        looser = quantise_weights(weights[raised], scale[raised] * 0.96, axis=0)
        assert (largest_sums(looser.codes).max(axis=1) > BOUND - 4).all()


def test_stored_weights_keep_the_bound_in_the_order_of_the_kernel() -> None:
    graph = network()
    assert [n.name for n in graph.nodes if profits(graph, n)] == LAYERS
    free, bounded = graph.copy(), graph.copy()
    apply(free, Scheme())
    apply(bounded, Scheme(bounded_weights="on"))
    assert bounded_layers(free) == (0, len(LAYERS))
    assert bounded_layers(bounded) == (len(LAYERS), len(LAYERS))
    for node, other in zip(bounded.nodes, free.nodes, strict=True):
        if node.op not in ("Conv2D", "FullyConnected"):
            continue
        tensors = [g.tensors[n.inputs[1]] for g, n in ((bounded, node), (free, other))]
        if node.name not in LAYERS:
            np.testing.assert_array_equal(tensors[0].data, tensors[1].data)
            continue
        blocks = 16 * (-(-int(np.prod(tensors[0].shape[1:])) // 4) * 4)
        packed, loose = (operators()[node.op].pack(node, 1, t) for t in tensors)
        assert max(steps_of(packed[i : i + blocks]).max() for i in range(0, len(packed), blocks)) <= BOUND
        assert max(steps_of(loose[i : i + blocks]).max() for i in range(0, len(loose), blocks)) > BOUND


def test_rounding_keeps_the_bound() -> None:
    graph, data = network(), samples(12)
    seen = gather(graph, data, most=12).inputs
    broken = 0
    for node, inputs in list(zip(graph.nodes, seen, strict=False))[:3]:
        weights = graph.tensors[node.inputs[1]].data
        assert weights is not None
        codes = layer_codes(graph, node, inputs, search_scale=False, bounded=True)
        nearest = bounded_codes(graph, node)
        np.testing.assert_array_equal(codes.scale, nearest.scale)
        assert (codes.codes != nearest.codes).mean() > 0.01
        assert (largest_sums(codes.codes) <= BOUND).all()
        broken += int((largest_sums(nearest.codes + np.sign(nearest.codes)) > BOUND).sum())
    assert broken


def test_only_sets_that_break_the_bound_go_back_to_the_nearest_codes() -> None:
    weights = np.random.default_rng(0).standard_normal((5, 19)).astype(np.float32) * 0.3
    scale = bounded_scales(weights, channel_scales(weights, axis=0))
    nearest = quantise_weights(weights, scale, axis=0)
    moved = nearest.codes.copy()
    moved[1, [2, 16]] += 1
    moved[1, 8:16] = 100
    kept = keep_bound(Codes(moved, scale), weights)
    expected = nearest.codes.copy()
    expected[1, [2, 16]] += 1
    np.testing.assert_array_equal(kept.codes, expected)


def test_auto_keeps_what_costs_little_and_drops_what_costs_much(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, data = one_layer(), samples(16)
    for most, kept in ((100.0, True), (-100.0, False)):
        monkeypatch.setattr(corrections, "MOST_LOSS", most)
        for wanted in ((), ("bias", "rounding")):
            steps: list[Any] = []
            file, *_ = convert_graph(graph, Scheme(bounded_weights="auto"), data, corrections=wanted, steps=steps)
            (step,) = [s for s in steps if s.name == "bounded weights"]
            assert step.kept is kept
            assert not step.untried
            assert edge8.Model(file).metadata.get("bounded_weights") == ([1, 1] if kept else None)


def test_auto_without_corrections_gives_the_file_of_its_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, data = one_layer(), samples(16)
    for most, choice in ((100.0, "on"), (-100.0, "off")):
        monkeypatch.setattr(corrections, "MOST_LOSS", most)
        files = [convert_graph(graph, Scheme(bounded_weights=c), data)[0] for c in ("auto", choice)]
        assert files[0] == files[1]


def test_auto_needs_samples_and_layers() -> None:
    for graph, data, reason in (
        (network(), samples(7), "it takes 8 samples to judge them"),
        (one_layer(16), samples(16), "no layer would run faster"),
    ):
        steps: list[Any] = []
        file, *_ = convert_graph(graph, Scheme(bounded_weights="auto"), data, steps=steps)
        assert [(s.name, s.kept, s.untried) for s in steps] == [("bounded weights", False, reason)]
        assert file == convert_graph(graph, Scheme(), data)[0]


def one_layer(channels: int = 64) -> Graph:
    b = Builder()
    return b.done(b.conv(b.input("x", 1, 12, 12, 57), channels, 1))


def test_int16_layers_and_given_codes_stay_as_they_are() -> None:
    wide = network()
    apply(wide, Scheme(activations="int16", bounded_weights="on"))
    plain = network()
    apply(plain, Scheme(activations="int16"))
    for a, b in zip(wide.nodes, plain.nodes, strict=True):
        if a.op == "Conv2D":
            np.testing.assert_array_equal(wide.tensors[a.inputs[1]].data, plain.tensors[b.inputs[1]].data)
    coded = network()
    tensor = coded.tensors[coded.nodes[0].inputs[1]]
    assert tensor.data is not None
    codes = quantise_weights(tensor.data, channel_scales(tensor.data, axis=0), axis=0)
    tensor.data, tensor.scale, tensor.dtype = codes.codes, codes.scale, DType.INT8
    apply(coded, Scheme(bounded_weights="on"))
    np.testing.assert_array_equal(coded.tensors[next(n for n in coded.nodes if n.op == "Conv2D").inputs[1]].data, codes.codes)
    assert bounded_layers(coded) == (len(LAYERS) - 1, len(LAYERS))


@pytest.mark.parametrize(
    ("options", "message"), [({"mode": "weight"}, "not weight"), ({"mode": "dynamic"}, "not dynamic"), ({}, "unknown")]
)
def test_what_has_no_meaning_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConvertError, match=message) as caught:
        Scheme(bounded_weights="on" if options else "perhaps", **options)
    assert "--bounded-weights" in str(caught.value)


def pointwise_onnx(folder: Path) -> Path:
    """A 1x1 convolution of 64 channels, and eight samples for it."""
    random = np.random.default_rng(0)
    weights = onnx.numpy_helper.from_array(random.standard_normal((64, 64, 1, 1)).astype(np.float32), "w")
    shapes = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 64, 6, 6]) for n in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Conv", ["x", "w"], ["y"])], "g", shapes[:1], shapes[1:], [weights])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), folder / "net.onnx")
    np.save(folder / "x.npy", random.standard_normal((8, 64, 6, 6)).astype(np.float32))
    return folder / "net.onnx"


def test_flag_file_device_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = pointwise_onnx(tmp_path), str(tmp_path / "x.npy")
    config = tmp_path / "net.toml"
    config.write_text(f'model = "{model}"\ncalibration = ["{data}"]\nbounded_weights = "on"\noutput = "{tmp_path / "net.e8"}"\n')
    assert convert_main(["--config", str(config)]) == 0
    line = "bounded weights: in 1 of 1 layers that the bound makes faster"
    assert line in capsys.readouterr().out
    from edge8.inspect import describe

    assert line in describe(edge8.Model(tmp_path / "net.e8"))
    assert convert_main(["--config", str(config), "--bounded-weights", "off"]) == 0
    assert "bounded weights" not in capsys.readouterr().out

    def tried(**options: Any) -> bool:
        return "bounded weights" in [c["name"] for c in convert(model, calibration=data, **options).corrections]

    assert tried(device="generic-x86-64")
    assert tried(device="intel-n100")
    assert not tried(device="raspberry-pi-4")
    assert not tried(device="generic-x86-64", bounded_weights="off")
    assert not tried()
    assert convert(model, quant="weight", device="generic-x86-64").bounded is None
    with pytest.raises(ConvertError, match="--bounded-weights"):
        convert(model, quant="weight", bounded_weights="auto")
