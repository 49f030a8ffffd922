# SPDX-License-Identifier: Apache-2.0
"""From an uncalibrated file to a full-int8 one: what is written, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from edge8 import Edge8Error, Model
from edge8.calibrate import METHODS, Calibration
from edge8.converter.graph import Graph
from edge8.converter.ops import operators
from edge8.converter.quant.scheme import Scheme, apply
from edge8.converter.targets.cpu_lite import write

from .graphs import Builder, samples, small_network
from .observing import scale_of

Array = np.ndarray[Any, Any]


def uncalibrated(graph: Graph, **options: Any) -> tuple[bytes, Graph]:
    result = copy.deepcopy(graph)
    apply(result, Scheme(**options))
    return write(result), result


def watched(data: bytes, xs: list[Array]) -> Calibration:
    calibration = Calibration(Model(data))
    calibration.run(xs)
    return calibration


XS = samples(6, 1, 8, 8, 4)


@pytest.fixture(scope="module")
def network() -> tuple[bytes, Graph]:
    return uncalibrated(small_network())


def float_values(graph: Graph, data: bytes, xs: list[Array]) -> dict[str, Array]:
    """Every activation of the uncalibrated model over the samples."""
    model = Model(data)
    session = model.session()
    seen: dict[str, list[Array]] = {}

    def after(op: int) -> None:
        for index in model.ops[op].outputs:
            seen.setdefault(model._tensor(index).name, []).append(session.tensor(index).copy())

    for x in xs:
        with session.hook(after=after):
            session(x)
    return {name: np.stack(parts) for name, parts in seen.items()}


def test_min_max_scales_are_those_of_the_values(network: tuple[bytes, Graph]) -> None:
    data, graph = network
    model = Model(data)
    assert not model.calibrated
    done = Model(watched(data, XS).fill("minmax"))
    assert done.calibrated
    assert done.file_bytes == model.file_bytes
    values = float_values(graph, data, XS)
    by_name = {t.name: t for t in done.tensors}
    groups: dict[str, list[str]] = {}
    for t in graph.activations():
        groups.setdefault(t.share or t.name, []).append(t.name)
    checked = 0
    for leader, members in groups.items():
        t = graph.tensors[leader]
        if t.dtype.name != "INT8":
            continue
        if t.preset is not None:
            wanted = t.preset
        else:
            low = min(float(values[m].min()) for m in members)
            high = max(float(values[m].max()) for m in members)
            wanted = scale_of(low, high)
        for m in members:
            assert (by_name[m].scale, by_name[m].zero_point) == pytest.approx(wanted, rel=1e-7)
            checked += 1
    assert checked >= 9


def test_tables_are_those_of_the_operators(network: tuple[bytes, Graph]) -> None:
    data, graph = network
    done_bytes = watched(data, XS).fill("minmax")
    done = {t.name: t for t in Model(done_bytes).tensors}
    filled = copy.deepcopy(graph)
    for t in filled.activations():
        if t.dtype.name == "INT8":
            t.scale, t.zero_point = np.float32([done[t.name].scale]), done[t.name].zero_point
    for node in filled.nodes:
        if node.op in ("Unary", "Softmax"):
            ins = [filled.tensors[n] for n in node.inputs]
            table = operators()[node.op].finish(node, ins, [filled.tensors[n] for n in node.outputs])["table"]
            content = bytes(table) if isinstance(table, (bytes, bytearray)) else np.asarray(table).tobytes()
            assert len(content) in (256, 512)
            assert content in done_bytes
            assert content not in data
    assert write(filled) == done_bytes


def test_int8_result_is_close_to_float(network: tuple[bytes, Graph]) -> None:
    data, _ = network
    reference = Model(data).session()
    session = Model(watched(data, XS).fill()).session()
    for x in samples(4, 1, 8, 8, 4, seed=9):
        assert np.abs(session(x) - reference(x)).max() < 0.06


def test_order_of_samples_does_not_matter(network: tuple[bytes, Graph]) -> None:
    data, _ = network
    for method in ("auto", "minmax", "percentile", "kl", "mse"):
        assert watched(data, XS).fill(method) == watched(data, XS[::-1]).fill(method)


def test_threads_do_not_matter(network: tuple[bytes, Graph]) -> None:
    data, _ = network
    calibration = Calibration(Model(data))
    calibration.run(XS, threads=2)
    assert calibration.fill() == watched(data, XS).fill()


@pytest.mark.parametrize("method", METHODS)
def test_states_survive_and_add_up(network: tuple[bytes, Graph], method: str) -> None:
    data, _ = network
    whole = watched(data, XS)
    first, second = watched(data, XS[:3]), watched(data, XS[3:])
    resumed = Calibration(Model(data))
    resumed.load(first.save())
    assert resumed.save() == first.save()
    resumed.run(XS[3:])
    assert resumed.runs == 6
    assert resumed.fill(method) == whole.fill(method)
    assert resumed.save() == whole.save()
    first.load(second.save(), merge=True)
    assert first.runs == 6
    if method not in ("moving-average", "removal-outlier"):
        assert first.fill(method) == whole.fill(method)


def test_damaged_states_are_refused(network: tuple[bytes, Graph]) -> None:
    data, _ = network
    calibration = watched(data, XS[:2])
    state = calibration.save()
    fresh = Calibration(Model(data))
    rng = np.random.default_rng(0)
    for position in [*range(32), *rng.integers(32, len(state), 200)]:
        bad = bytearray(state)
        bad[position] ^= 1 << int(rng.integers(8))
        with pytest.raises(Edge8Error, match="state"):
            fresh.load(bytes(bad))
    for size in (0, 1, 27, 28, 100, len(state) - 1):
        with pytest.raises(Edge8Error, match="state"):
            fresh.load(state[:size])
    with pytest.raises(Edge8Error, match="state"):
        fresh.load(state + b"\0")
    assert fresh.runs == 0
    other, _ = uncalibrated(small_network(seed=3))
    with pytest.raises(Edge8Error, match="another model"):
        Calibration(Model(other)).load(state)


def test_states_that_are_unsound_under_a_right_checksum(network: tuple[bytes, Graph]) -> None:
    """A state with random fields and a checksum made for it is refused, or harmless."""
    from edge8.converter.crc32c import crc32c

    data, _ = network
    state = watched(data, XS[:2]).save()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(300):
        bad = bytearray(state)
        for _ in range(int(rng.integers(1, 4))):
            position = int(rng.integers(28, 28 + 120)) if rng.random() < 0.7 else int(rng.integers(28, len(bad)))
            bad[position] = int(rng.integers(256))
        bad[8:12] = crc32c(bytes(bad[12:])).to_bytes(4, "little")
        fresh = Calibration(Model(data))
        try:
            fresh.load(bytes(bad))
        except Edge8Error:
            refused += 1
            continue
        for method in METHODS:
            assert Model(fresh.fill(method)).calibrated
    assert refused > 100


def test_ranges_and_methods_by_hand(network: tuple[bytes, Graph]) -> None:
    data, graph = network
    calibration = watched(data, XS)
    names = {t.name: t.index for t in calibration.model.tensors}
    flat = next(n for n in graph.nodes if n.name == "flat").outputs[0]
    pool = next(n for n in graph.nodes if n.name == "pool").outputs[0]
    calibration.set_range(names[flat], -1.0, 3.0)
    assert calibration.range(names[pool]) == (-1.0, 3.0)
    done = {t.name: t for t in Model(calibration.fill()).tensors}
    assert (done[pool].scale, done[pool].zero_point) == scale_of(-1.0, 3.0)
    for low, high in [(1.0, 2.0), (-2.0, -1.0), (float("nan"), 1.0), (-1e30, 1e30)]:
        with pytest.raises(Edge8Error):
            calibration.set_range(names[flat], low, high)
    with pytest.raises(Edge8Error):
        calibration.set_range(10_000, -1, 1)


def test_only_values_of_their_own_are_watched() -> None:
    """Pooling, concat and reshape results are among their inputs' values: they are not counted again."""
    data, graph = uncalibrated(small_network())
    from edge8._library import ffi, lib

    calibration = watched(data, XS)
    names = {t.name: t for t in calibration.model.tensors}
    node = {n.name: n for n in graph.nodes}
    observer = lib.e8_calibration_observer(calibration._calibration, names[node["join"].outputs[0]].index)
    seen = ffi.new("e8_observed *")
    lib.e8_observer_read(observer, seen)
    sources = [node["swish"].outputs[0], node["conv_c"].outputs[0]]
    assert seen.count == len(XS) * sum(int(np.prod(names[n].shape)) for n in sources)
    softmax = lib.e8_calibration_observer(calibration._calibration, names[node["softmax"].outputs[0]].index)
    assert softmax == ffi.NULL


def test_what_cannot_be_calibrated(network: tuple[bytes, Graph]) -> None:
    data, _ = network
    with pytest.raises(Edge8Error, match="at least one sample"):
        Calibration(Model(data)).fill()
    done = watched(data, XS).fill()
    with pytest.raises(Edge8Error, match="no calibration"):
        Calibration(Model(done))
    with pytest.raises(Edge8Error, match="unknown method"):
        watched(data, XS).fill("best")
    with pytest.raises(Edge8Error, match=r"percentile|options|argument|use"):
        watched(data, XS).fill("percentile", 20.0)


def test_constant_and_zero_activations_get_usable_scales() -> None:
    b = Builder()
    x = b.input("x", 1, 8)
    h = b.dense(x, 8, "first")
    zero = b.binary("mul", h, b.const(np.zeros(8)), "nothing")
    graph = b.done(b.dense(zero, 3, "last"))
    data, _ = uncalibrated(graph)
    for method in METHODS:
        session = Model(watched(data, samples(3, 1, 8)).fill(method)).session()
        bias = graph.tensors[graph.nodes[-1].inputs[2]].data
        assert bias is not None
        np.testing.assert_allclose(session(samples(1, 1, 8)[0])[0], bias, atol=0.02)


def test_mask_constants_do_not_ruin_the_range() -> None:
    """Scores plus a mask of 0 and -3.4e38: the range is that of the scores, and masked places saturate."""
    b = Builder()
    x = b.input("x", 1, 8)
    mask = b.input("mask", 1, 8)
    graph = b.done(b.op("Softmax", [b.binary("add", b.dense(x, 8, "scores", 1.0), mask, "masked")], "weights"))
    data, _ = uncalibrated(graph)
    xs = [{"x": x, "mask": np.where(np.arange(8) < 5, 0, -3.4e38).astype(np.float32)[None]} for x in samples(6, 1, 8)]
    calibration = Calibration(Model(data))
    calibration.run(xs)
    done = Model(calibration.fill("minmax"))
    masked = next(t for t in done.tensors if t.name.startswith("masked"))
    assert masked.scale < 0.1
