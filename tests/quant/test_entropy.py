# SPDX-License-Identifier: Apache-2.0
"""Entropy-coded weights: the coder, the files, and the runtime's decoder on sound and unsound bytes."""

from __future__ import annotations

import copy
import functools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import edge8
from edge8.calibrate import Calibration
from edge8.converter import convert, schema_generated
from edge8.converter.cli import convert_main
from edge8.converter.crc32c import crc32c
from edge8.converter.errors import ConvertError
from edge8.converter.graph import Graph
from edge8.converter.linear import pack_codes
from edge8.converter.quant.layer_widths import LayerCodes
from edge8.converter.quant.mixed_widths import find_widths
from edge8.converter.quant.scheme import Scheme, apply
from edge8.converter.targets.cpu_lite import write
from edge8.converter.targets.cpu_lite.entropy import coded_size, decode, encode, worth_coding
from edge8.converter.targets.cpu_lite.read import read

from .graphs import Builder

Array = np.ndarray[Any, Any]
schema: Any = schema_generated
HEADER, TABLE, STATES = 64, 4, 32


def bell_codes(bits: int, count: int, width: float, seed: int) -> bytes:
    """The bit string of normal numbers' codes."""
    values = np.random.default_rng(seed).standard_normal(count) * width
    if bits == 1:
        return pack_codes(np.where(values > 1, -1, 1), 1)
    most = 2 ** (bits - 1) - 1
    return pack_codes(np.clip(np.rint(values * most), -most, most), bits)


@given(st.integers(1, 8), st.integers(1, 5000), st.floats(0.01, 2), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_decoding_gives_the_codes_back(bits: int, steps: int, width: float, seed: int) -> None:
    packed = bell_codes(bits, 8 * steps, width, seed)
    coded = encode(packed, bits)
    assert decode(coded, bits, len(packed)) == packed
    assert abs(coded_size(packed, bits) - len(coded)) <= 40 + len(coded) // 50


def test_codes_take_what_their_entropy_says() -> None:
    for bits in range(2, 9):
        packed = bell_codes(bits, 1 << 17, 0.3, bits)
        shares = np.bincount(np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little").reshape(-1, bits) @ (1 << np.arange(bits)))
        p = shares[shares > 0] / shares.sum()
        entropy = float(-np.sum(p * np.log2(p))) * (1 << 17) / 8
        assert entropy < len(encode(packed, bits)) < entropy * 1.015 + 300


def test_a_wrong_end_is_noticed() -> None:
    packed = bell_codes(4, 4096, 0.3, 0)
    coded = bytearray(encode(packed, 4))
    coded[-40] ^= 1
    with pytest.raises(ValueError, match="do not end"):
        decode(bytes(coded), 4, len(packed))


def network() -> Graph:
    """Every operator with weights, each with enough of them, far from evenly distributed."""
    b = Builder(3)

    def peaked(*shape: int) -> str:
        return b.const(b.rng.normal(size=shape) ** 3 * 0.1, "w")

    x = b.input("x", 1, 6, 6, 16)
    same = {"pad_top": 1, "pad_left": 1, "pad_bottom": 1, "pad_right": 1}
    y = b.op("Conv2D", [x, peaked(32, 3, 3, 16), b.const(b.rng.normal(size=32), "b")], "conv", **same)
    y = b.op("DepthwiseConv2D", [y, peaked(7, 7, 32)], "depthwise", pad_top=3, pad_left=3, pad_bottom=3, pad_right=3)
    y = b.op("Conv2D", [y, peaked(32, 3, 3, 8)], "grouped", group=4, **same)
    y = b.op("ConvTranspose2D", [y, peaked(16, 3, 3, 32)], "transposed", stride_h=2, stride_w=2)
    y = b.op("FullyConnected", [y, peaked(150, 16)], "dense")
    return b.done(y)


def file_of(scheme: Scheme, x: Array) -> bytes:
    """The file of `network`, calibrated where that is due."""
    graph = copy.deepcopy(network())
    apply(graph, scheme)
    data = write(graph, scheme.entropy)
    if edge8.Model(data).calibrated or scheme.mode != "full":
        return data
    calibration = Calibration(edge8.Model(data))
    calibration.run([x])
    return calibration.fill("minmax")


X = np.random.default_rng(5).standard_normal((1, 6, 6, 16)).astype(np.float32)
KINDS: dict[str, dict[str, Any]] = {
    "full": {"mode": "full"},
    "int16": {"mode": "full", "activations": "int16"},
    "dynamic": {"mode": "dynamic"},
    "waiting": {"mode": "weight", "calibratable": True},
    "groups": {"mode": "weight", "bits": 4, "group": 8},
    **{f"{bits} bits": {"mode": "weight", "bits": bits} for bits in (2, 3, 5, 7, 8)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_network_in_fewer_bytes(kind: str) -> None:
    plain, coded = (file_of(Scheme(**KINDS[kind], entropy=entropy), X) for entropy in ("off", "on"))
    assert len(coded) < len(plain)
    models = edge8.Model(plain), edge8.Model(coded)
    assert models[0].decoded_bytes == 0
    assert models[1].decoded_bytes > 0
    assert models[1].arena_bytes() >= models[0].arena_bytes() + models[1].decoded_bytes
    sessions = models[0].session(), models[1].session(2)
    np.testing.assert_array_equal(sessions[0](X), sessions[1](X))
    for a, b in zip(models[0].tensors, models[1].tensors, strict=True):
        assert a.bytes == b.bytes
        assert b.stored <= a.stored
        if a.constant:
            np.testing.assert_array_equal(sessions[0].tensor(a.index), sessions[1].tensor(b.index))
    assert sum(b.stored < b.bytes for b in models[1].tensors) >= (4 if kind != "int16" else 3)
    assert write(read(coded)) == write(read(plain))
    assert write(read(coded), "on") == coded


def test_calibration_keeps_the_coding() -> None:
    waiting = file_of(Scheme(mode="weight", calibratable=True, entropy="on"), X)
    calibration = Calibration(edge8.Model(waiting))
    calibration.run([X])
    finished = calibration.fill("minmax")
    assert len(finished) == len(waiting)
    assert edge8.Model(finished).decoded_bytes > 0
    np.testing.assert_array_equal(edge8.Model(finished).session()(X), edge8.Model(file_of(Scheme(mode="full"), X)).session()(X))


def test_auto_codes_only_what_clearly_gets_smaller() -> None:
    narrow, wide, noise = bell_codes(4, 1 << 15, 0.25, 1), bell_codes(8, 1 << 15, 0.4, 1), np.random.default_rng(0).bytes(1 << 15)
    worth = [[worth_coding(packed, bits, mode) for mode in ("off", "auto", "on")] for packed, bits in ((narrow, 4), (wide, 8), (noise, 8))]
    assert worth == [[False, True, True], [False, False, True], [False, False, False]]


def test_widths_are_found_for_the_bytes_that_remain() -> None:
    size = len(file_of(Scheme(mode="weight", bits=4), X))
    found = {}
    for entropy in ("off", "on"):
        codes = LayerCodes(network(), Scheme(mode="weight", entropy=entropy), None, (), 1)
        found[entropy] = find_widths(codes, [{"x": X}], size=size)
        assert len(found[entropy].data) <= size
    assert found["on"].average > found["off"].average + 0.5


# ---- unsound files ---------------------------------------------------------------------------------------------------------------------


@functools.cache
def coded_file() -> tuple[bytearray, int, int, Any]:
    """A file with one coded tensor, where its coded bytes begin and how many they are, and its table."""
    b = Builder(4)
    x = b.input("x", 1, 4, 4, 8)
    w = b.const(b.rng.normal(size=(48, 3, 3, 8)) ** 3, "w")
    graph = b.done(b.op("Conv2D", [x, w, b.const(np.ones(48), "b")], "conv"))
    apply(graph, Scheme(mode="weight", bits=4))
    data = bytearray(write(graph, "on"))
    model = schema.Model.GetRootAs(data, HEADER)
    tables = [model.Tensors(i) for i in range(model.TensorsLength())]
    (table,) = [t for t in tables if t.Decoded()]
    content = bytes(np.asarray(table.DataAsNumpy()).tobytes())
    return data, bytes(data).find(content), len(content), table


def put(data: bytearray, at: int, layout: str, value: int) -> bytearray:
    """A copy with one number changed and the checksum that belongs to it."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, at, value)
    struct.pack_into("<I", changed, 8, crc32c(bytes(changed[12:])))
    return changed


def field_at(table: Any, number: int) -> int:
    """Where a scalar field of a table lies in the file."""
    return int(table._tab.Pos + table._tab.Offset(4 + 2 * number))


def rule_of(data: bytearray, **limits: int) -> str:
    with pytest.raises(edge8.FormatError) as caught:
        edge8.Model(bytes(data), limits=limits)
    return str(caught.value.rule)


def test_unsound_tables_and_sizes_are_refused_when_the_model_is_opened() -> None:
    data, at, _, table = coded_file()
    edge8.Model(bytes(data)).session()
    decoded = field_at(table, 14)
    assert struct.unpack_from("<I", data, decoded)[0] == table.Decoded()
    frequencies = [put(data, at + TABLE + i, "B", 127 - data[at + TABLE + i] % 2) for i in range(8)]
    assert all(rule_of(f) == "tensor.entropy" for f in frequencies)
    assert rule_of(put(data, at, "<I", 0)) == "tensor.entropy"  # steps of a segment
    assert rule_of(put(data, at, "<I", 1)) == "tensor.entropy"  # more segments than there are bytes
    assert rule_of(put(data, decoded, "<I", table.Decoded() + 3)) == "tensor.data"
    assert rule_of(put(data, decoded, "<I", table.Decoded() + 4)) == "tensor.entropy"  # one more step, in a second segment
    assert rule_of(put(data, decoded, "<I", 0)) == "linear.weights_data"
    bomb = put(put(data, at, "<I", 0x3FFFFFFF), decoded, "<I", 0xFFFFFFFC)
    assert rule_of(bomb, arena=1 << 20) == "limit.arena"
    assert rule_of(put(data, field_at(table, 5), "B", 9)) in ("tensor.data", "tensor.entropy")


def test_words_that_end_elsewhere_are_refused_when_a_session_starts() -> None:
    data, at, size, _ = coded_file()
    for place in (at + size - 1, at + size - 200, at + size // 2):
        model = edge8.Model(bytes(put(data, place, "B", data[place] ^ 0x55)))
        with pytest.raises(edge8.Edge8Error, match="well-formed"):
            model.session()


@given(st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_changed_byte_is_refused_or_gives_other_weights(place: int, change: int) -> None:
    data, at, size, _ = coded_file()
    place = at + place % size
    try:
        session = edge8.Model(bytes(put(data, place, "B", data[place] ^ change))).session()
    except edge8.Edge8Error:
        return
    # A changed word may decode to other codes and end well all the same: other weights, as if the file held those.
    assert np.isfinite(session(np.ones((1, 4, 4, 8), np.float32))).all()


def test_only_packed_weights_may_be_coded() -> None:
    data, _, _, _ = coded_file()
    op = schema.Model.GetRootAs(data, HEADER).Ops(0)
    weights, place = op.Inputs(1), op._tab.Vector(op._tab.Offset(8)) + 4 * 2
    assert struct.unpack_from("<I", data, place)[0] == op.Inputs(2)
    assert rule_of(put(data, place, "<I", weights)) == "tensor.data"  # as bias


# ---- the converter ---------------------------------------------------------------------------------------------------------------------


def dense_model() -> onnx.ModelProto:
    random = np.random.default_rng(11)
    w = numpy_helper.from_array((random.standard_normal((64, 200)) ** 3).astype(np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2, size]) for n, size in (("x", 64), ("y", 200))]
    return helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [w]), opset_imports=[helper.make_opsetid("", 17)])


def test_the_flag_makes_a_smaller_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(dense_model(), tmp_path / "net.onnx")
    sizes = {}
    for choice in ("off", "auto", "on"):
        path = tmp_path / f"{choice}.e8"
        assert convert_main([str(tmp_path / "net.onnx"), "--quant", "weight", "--bits", "4", "--entropy", choice, "-o", str(path)]) == 0
        sizes[choice] = path.stat().st_size
        assert ("entropy-coded" in capsys.readouterr().out) == (choice != "off")
    assert sizes["on"] <= sizes["auto"] < 0.85 * sizes["off"]
    x = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
    results = [edge8.Model(tmp_path / f"{choice}.e8").session()(x) for choice in sizes]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_smaller_target_size_can_be_met_with_it() -> None:
    model = dense_model()
    smallest = len(convert(model, quant="weight", bits=2).data)
    with pytest.raises(ConvertError, match="smallest file"):
        convert(model, quant="weight", target_size=smallest - 400, calibration=[np.ones((2, 64), np.float32)])
    made = convert(model, quant="weight", target_size=smallest - 400, entropy="on", calibration=[np.ones((2, 64), np.float32)])
    assert len(made.data) <= smallest - 400


def test_unknown_choices_and_float_models_are_refused() -> None:
    with pytest.raises(ConvertError, match="sometimes"):
        convert(dense_model(), quant="weight", entropy="sometimes")
    with pytest.raises(ConvertError, match="no codes"):
        convert(dense_model(), quant="float", entropy="on")
    with pytest.raises(ConvertError, match="ascend310"):
        convert(dense_model(), target="ascend310", entropy="on")
    with pytest.raises(ConvertError, match="an ONNX model has no entropy-coded weights"):
        convert(dense_model(), quant="weight", target="onnx-qdq", entropy="on")


def test_codes_that_do_not_get_smaller_are_stored_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate by which tensors are chosen may be wrong."""
    b = Builder(5)
    graph = b.done(b.dense(b.input("x", 1, 64), 64, "dense"))
    graph.tensors[graph.nodes[0].inputs[1]].data = b.rng.uniform(-1, 1, (64, 64)).astype(np.float32)
    apply(graph, Scheme(mode="weight"))
    monkeypatch.setattr("edge8.converter.targets.cpu_lite.file.worth_coding", lambda *_: True)
    assert write(graph, "on") == write(graph)


def test_refused_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("mmap.mmap", refuse)
    with pytest.raises(MemoryError, match=r"writing the model takes up to \d+ MB of memory"):
        convert(dense_model(), quant="weight")
