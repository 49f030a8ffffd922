# SPDX-License-Identifier: Apache-2.0
"""edge8.Model and Session: shapes, names, batches, hooks, threads, errors."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest

import edge8
from edge8.converter.api import convert_graph
from edge8.converter.graph import Graph, Node, Tensor
from edge8.converter.quant.scheme import Scheme
from edge8.converter.targets.cpu_lite import write


def two_inputs() -> bytes:
    graph = Graph(inputs=["a", "b"], outputs=["sum", "product"])
    for name in ("a", "b", "sum", "product"):
        graph.add(Tensor(name, (1, 4)))
    graph.nodes = [
        Node("Binary", ["a", "b"], ["sum"], {"kind": 0}, "first"),
        Node("Binary", ["a", "b"], ["product"], {"kind": 2}, "second"),
    ]
    return write(graph)


A = np.arange(4, dtype=np.float32)[None]


def test_names_shapes_and_results() -> None:
    model = edge8.Model(two_inputs())
    assert [t.name for t in model.inputs] == ["a", "b"]
    assert model.inputs[0].shape == (1, 4)
    assert [op.name for op in model.ops] == ["first", "second"]
    result = model.session()({"a": A, "b": A + 1})
    assert isinstance(result, dict)
    np.testing.assert_array_equal(result["sum"], A + A + 1)
    np.testing.assert_array_equal(result["product"], A * (A + 1))


def test_larger_batches_run_part_by_part() -> None:
    session = edge8.Model(two_inputs()).session()
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    result = session({"a": x, "b": x})
    assert isinstance(result, dict)
    np.testing.assert_array_equal(result["product"], x * x)


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({"a": A}, "'b' is missing"),
        ({"a": A, "b": A, "c": A}, "no input 'c'"),
        ({"a": A, "b": A[:, :3]}, "'b' has shape"),
        ({"a": A, "b": A.astype(complex)}, "'b' is complex128"),
        ({"a": np.zeros((2, 4), np.float32), "b": A}, "different batch sizes"),
        ({"a": np.zeros((0, 4), np.float32), "b": A}, "'a' has shape"),
    ],
)
def test_wrong_inputs(feeds: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(edge8.Edge8Error, match=text):
        edge8.Model(two_inputs()).session()(feeds)


def test_an_array_needs_one_input() -> None:
    with pytest.raises(edge8.Edge8Error, match="2 inputs"):
        edge8.Model(two_inputs()).session()(A)


def test_hook_sees_every_operator_and_can_stop() -> None:
    model = edge8.Model(two_inputs())
    session = model.session()
    seen: list[int] = []
    with session.hook(after=seen.append):
        session({"a": A, "b": A})
    assert seen == [0, 1]

    def stop(op: int) -> None:
        raise KeyError(op)

    with pytest.raises(KeyError), session.hook(before=stop):
        session({"a": A, "b": A})
    session({"a": A, "b": A})


def test_op_times() -> None:
    session = edge8.Model(two_inputs()).session()
    times = session.op_times(3)
    assert len(times) == 2
    assert all(t >= 0 for t in times)


def test_sessions_share_a_model_between_threads() -> None:
    model = edge8.Model(two_inputs())
    wrong: list[int] = []

    def work(seed: int) -> None:
        session = model.session()
        x = np.random.default_rng(seed).standard_normal((1, 4)).astype(np.float32)
        for _ in range(300):
            result = session({"a": x, "b": x})
            if not np.array_equal(result["product"], x * x):
                wrong.append(seed)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def golden(name: str) -> bytes:
    return (Path(__file__).parent / "golden" / "v1" / f"{name}.e8").read_bytes()


@pytest.mark.parametrize("data", [two_inputs(), golden("conv2d.full"), golden("depthwise_conv2d.full")], ids=["plain", "conv", "depthwise"])
def test_arena_is_exactly_what_is_announced(data: bytes) -> None:
    from edge8._library import ffi, lib

    model = edge8.Model(data)
    least, most = model.arena_bytes(1, least=True), model.arena_bytes(1)
    block = np.full(most + 192, 0xA5, np.uint8)
    start = -block.ctypes.data % 64 + 64
    pointer = ffi.cast("void *", block.ctypes.data + start)
    session = ffi.new("e8_session *")
    for less in range(0, least, 16):
        assert lib.e8_session_init(session, model._model, pointer, less, 1) == 7
    assert lib.e8_session_init(session, model._model, ffi.cast("void *", block.ctypes.data + start + 4), most, 1) == 7
    for given in (least, max(least, most - 1), most):
        block[:] = 0xA5
        assert lib.e8_session_init(session, model._model, pointer, given, 1) == 0
        assert lib.e8_session_run(session) == 0
        assert (block[:start] == 0xA5).all()
        assert (block[start + (most if given == most else least) :] == 0xA5).all()


def test_operators_with_weights_keep_what_they_derive() -> None:
    model = edge8.Model(golden("conv2d.full"))
    channels = sum(math.prod(t.shape) for t in model.tensors if t.constant and t.dtype == np.int32)
    kept = model.arena_bytes(1) - model.arena_bytes(1, least=True)
    assert 12 * channels <= kept <= 12 * channels + 4096 * len(model.ops)


def test_what_is_kept_beyond_the_limit_is_derived_in_each_run() -> None:
    random = np.random.default_rng(0)
    graph = Graph(inputs=["x"], outputs=["t24"])
    graph.add(Tensor("x", (1, 16)))
    source, width = "x", 16
    for i in range(24):
        weights = random.standard_normal((528 - width, width)).astype(np.float32)
        graph.add(Tensor(f"w{i}", weights.shape, data=weights / math.sqrt(width)))
        graph.add(Tensor(f"t{i + 1}", (1, len(weights))))
        graph.nodes.append(Node("FullyConnected", [source, f"w{i}"], [f"t{i + 1}"]))
        source, width = f"t{i + 1}", len(weights)
    x = random.standard_normal((4, 1, 16)).astype(np.float32)
    data = convert_graph(graph, Scheme(), [{"x": sample} for sample in x])[0]
    free = edge8.Model(data)
    tight = edge8.Model(data, limits={"arena": free.arena_bytes() // 2})
    assert tight.arena_bytes() == free.arena_bytes(least=True) < free.arena_bytes() // 2
    np.testing.assert_array_equal(tight.session()(x[0]), free.session()(x[0]))


def test_cpu_levels_give_the_same_bytes() -> None:
    names = edge8.cpu.features()
    model = edge8.Model(two_inputs())
    results = []
    try:
        for count in range(len(names) + 1):
            edge8.cpu.restrict(names[:count])
            results.append(model.session()({"a": A, "b": A + 0.5}))
    finally:
        edge8.cpu.restrict(None)
    for result in results[1:]:
        for name in ("sum", "product"):
            np.testing.assert_array_equal(result[name], results[0][name])
    with pytest.raises(ValueError, match="unknown instruction set"):
        edge8.cpu.restrict(["mmx"])
