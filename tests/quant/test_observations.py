# SPDX-License-Identifier: Apache-2.0
"""What the float model showed completes any file of it as watching that file itself would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge8 import Model
from edge8.calibrate import METHODS, Calibration
from edge8.converter.api import Report
from edge8.converter.graph import Graph
from edge8.converter.quant import float_model
from edge8.converter.quant.assemble import file_with
from edge8.converter.quant.corrections import improve
from edge8.converter.quant.float_model import FloatModel
from edge8.converter.quant.observations import BY_RUN, Observations, completed
from edge8.converter.quant.scheme import Scheme

from .graphs import Builder, samples, small_network

Array = np.ndarray[Any, Any]


def exact(graph: Graph) -> Graph:
    """The graph with weights that int8 codes hold exactly, and no biases (which coded weights add at another place): a file's
    activations, not calibrated, are then the float model's."""
    for node in graph.nodes:
        if node.op in ("Conv2D", "FullyConnected"):
            tensor = graph.tensors[node.inputs[1]]
            assert tensor.data is not None
            tensor.data = np.rint(tensor.data * 64).clip(-126, 126).astype(np.float32) / 64
            tensor.data.reshape(tensor.shape[0], -1)[:, 0] = 127 / 64
            bias = graph.tensors[node.inputs[2]]
            bias.data = np.zeros(bias.shape, np.float32)
    return graph


def padded() -> Graph:
    """A Pad with a value that is not in the data, and a tensor that the graph hands out in the middle."""
    b = Builder(2)
    x = b.input("x", 1, 8, 8, 4)
    a = b.conv(x, 8, 1, name="first")
    p = b.op("Pad", [a], "pad", before=[0, 1, 1, 0], after=[0, 1, 1, 0], value=40.0)
    y = b.conv(b.op("Concat", [p, p], "twice", axis=3), 4, 3, name="last", pad_top=0, pad_left=0, pad_bottom=0, pad_right=0)
    return b.done(y, a)


def scaled() -> Graph:
    """A constant operand, which a file quantises in each run."""
    b = Builder(3)
    a = b.conv(b.input("x", 1, 8, 8, 4), 8, 1, name="first")
    m = b.binary("mul", a, b.const(np.linspace(-0.7, 3.0, 8)), "scaled")
    moved = b.binary("add", m, b.const(np.array([0.3])), "moved")
    return b.done(b.conv(b.op("Concat", [m, moved], "both", axis=3), 4, 3, name="last"))


def seen_of(graph: Graph, data: list[Array]) -> Observations:
    seen, model = Observations(graph), FloatModel(graph)
    for x in data:
        model.run({"x": x}, [seen])
    return seen


def watched(data: bytes, inputs: list[Array], method: str) -> bytes:
    calibration = Calibration(Model(data))
    calibration.run([{"x": x} for x in inputs])
    return calibration.fill(method)


@pytest.mark.parametrize("make", [small_network, padded, scaled])
@pytest.mark.parametrize("method", [m for m in METHODS if m not in BY_RUN])
def test_files_are_those_that_watching_them_gives(make: Any, method: str) -> None:
    graph, inputs = exact(make()), samples(6, 1, 8, 8, 4)
    seen = seen_of(graph, inputs)
    assert seen.runs == 6
    middle = graph.nodes[2].outputs[0]
    schemes = [
        Scheme(), Scheme(io="int8"), Scheme(activations="int16"), replace(Scheme(), wide={middle: "wide"}),
        replace(Scheme(), levels={graph.nodes[0].outputs[0]: "float"}), Scheme(int16=("type:Concat",)),
    ]  # fmt: skip
    for scheme in schemes:
        data, _, _ = file_with(graph, scheme)
        assert not Model(data).calibrated
        assert completed(data, seen, method=method, percentile=99.99) == watched(data, inputs, method)


def test_what_two_saw_is_added() -> None:
    graph, inputs = exact(small_network()), samples(6, 1, 8, 8, 4)
    first, second = seen_of(graph, inputs[:2]), seen_of(graph, inputs[2:])
    first.merge(second)
    assert first.runs == 6
    data, _, _ = file_with(graph, Scheme())
    assert completed(data, first, method="auto", percentile=99.99) == watched(data, inputs, "auto")


def test_a_file_of_another_graph_is_refused() -> None:
    seen = seen_of(small_network(), samples(1, 1, 8, 8, 4))
    data, _, _ = file_with(padded(), Scheme())
    with pytest.raises(ValueError, match="belongs to no activation that was watched"):
        completed(data, seen, method="auto", percentile=99.99)


def test_no_samples_no_file() -> None:
    graph = small_network()
    data, _, _ = file_with(graph, Scheme())
    with pytest.raises(Exception, match="at least one sample"):
        completed(data, Observations(graph), method="auto", percentile=99.99)


def test_the_float_model_runs_once_per_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    run = FloatModel.run
    monkeypatch.setattr(float_model.FloatModel, "run", lambda self, *a: runs.append(self) or run(self, *a))
    data = [{"x": x} for x in samples(60, 1, 8, 8, 4)]
    improved = improve(small_network(), Scheme(), data, corrections=("bias",), method="minmax")
    assert len(runs) == improved.samples == 60
    assert improved.seen is not None
    assert improved.seen.runs == 60
    assert len(improved.first) == 8


def test_rounding_is_not_tried_where_weights_make_no_error() -> None:
    data = [{"x": x} for x in samples(16, 1, 8, 8, 4)]
    (step,) = improve(exact(small_network()), Scheme(), data, corrections=("rounding",)).steps
    assert not step.kept
    assert step.before == step.after
    assert step.state == "not tried"
    assert step.untried.startswith("weights without error would gain 0.")
    (step,) = improve(small_network(), Scheme(int16=("re:.",)), data, corrections=("rounding",)).steps
    assert step.untried == "", "with int16 activations the weights make most of the error"


def test_no_room_for_the_float_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(float_model, "write_into", full)
    with pytest.raises(Exception, match=r"No space left on device.*TMPDIR"):
        FloatModel(small_network())


def test_the_report_says_what_was_not_tried() -> None:
    steps = [{"name": "bias", "state": "kept", "before": 20.0, "after": 21.5, "remark": ""}]
    steps.append(
        {"name": "rounding", "state": "not tried", "before": 21.5, "after": 21.5, "remark": "weights without error would gain 0.1 dB"}
    )
    lines = str(Report(None, b"", "full", 0, corrections=steps)).splitlines()
    assert "bias: 20.0 -> 21.5 dB on held-out samples, kept" in lines
    assert "rounding: not tried: weights without error would gain 0.1 dB" in lines
