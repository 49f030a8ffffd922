# SPDX-License-Identifier: Apache-2.0
"""`edge8 bench --against`: the demo's network beside onnxruntime. No figure is looked at for its size."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge8.cli import main
from edge8.converter.errors import ConvertError
from edge8.converter.rivals import contestants
from edge8.converter.rivals.network import open_network
from edge8.converter.rivals.record import Record, geometric_mean, markdown, ratios

DEMO = Path(__file__).resolve().parents[2] / "converter" / "examples" / "fashion_mnist" / "model.onnx"


def bench(*arguments: str | Path) -> int:
    return main(["bench", *map(str, arguments)])


def test_demo_beside_onnxruntime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--rounds", "2", "--slot", "0.02", "--samples", "4", "--work", tmp_path / "work", "--out", tmp_path / "r.json"]
    assert bench(DEMO, "--against", "onnxruntime,tract", *options) == 0
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["machine"]["processor"]
    assert record["versions"]["onnxruntime"] != "absent"
    (race,) = record["races"]
    rows = {row["contestant"]: row for row in race["results"]}
    own, ort = {f"edge8 {form}" for form in ("int8", "bounded", "fp32")}, {f"onnxruntime {form}" for form in ("int8", "s8s8", "fp32")}
    assert set(rows) == own | ort | {"tract fp32"}
    for name, row in rows.items():
        if row["reason"] is not None:
            assert name == "tract fp32", row["reason"]
            assert "pip install tract" in row["reason"]
            continue
        assert 0 < row["best_ms"] <= row["p25_ms"] <= row["median_ms"]
        assert row["load_ms"] > 0
        assert row["first_ms"] > 0
        assert row["memory_bytes"] > 0
        assert row["file_bytes"] > 10000
        assert row["runs"] >= 2
        # onnxruntime's int8 kernels saturate on CPUs without VNNI.
        assert row["cosine"] > (0.999 if name.startswith("edge8") else 0.8)
    text = (tmp_path / "r.md").read_text()
    assert "| model |" in text
    assert text.count("| edge8 int8 |") == 1
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    # Nothing is measured twice.
    before = (tmp_path / "r.json").read_bytes()
    capsys.readouterr()
    assert bench(DEMO, "--against", "onnxruntime,tract", *options, "--resume", "--prepared") == 0
    assert (tmp_path / "r.json").read_bytes() == before


def test_every_contestant_says_what_it_needs() -> None:
    for name, contestant in contestants().items():
        assert contestant.name == name
        assert contestant.runtime == "edge8" or contestant.packages
        reason = contestant.missing()
        assert reason is None or reason == f"not installed: pip install {contestant.packages}"
    assert contestants()["edge8 int8"].missing() is None
    assert {c.runtime for c in contestants().values()} == {
        "edge8",
        "onnxruntime",
        "openvino",
        "tract",
        "litert",
        "ncnn",
        "mnn",
        "executorch",
    }


def race(name: str, own: float, rival: float) -> dict[str, object]:
    row = {"reason": None, "int8": True, "load_ms": 1.0, "first_ms": 2.0, "memory_bytes": 1, "file_bytes": 1, "cosine": None}
    rows = [{**row, "contestant": c, "median_ms": ms, "p25_ms": ms, "best_ms": ms} for c, ms in (("edge8 int8", own), ("ncnn int8", rival))]
    if name == "a":
        rows.append({**row, "contestant": "edge8 bounded", "median_ms": 1.6, "p25_ms": 1.6, "best_ms": 1.6})
    return {"network": name, "threads": 1, "macs": 10, "results": [*rows, {**row, "contestant": "mnn int8", "reason": "a | b"}]}


def test_tables() -> None:
    races = [race("a", 2.0, 1.0), race("b", 1.0, 8.0)]
    assert ratios(races, True) == [0.5, 8.0]
    assert ratios(races, False) == []
    assert math.isclose(geometric_mean([0.5, 8.0]), 2.0)
    text = markdown(Record({"processor": "p", "cores": 1, "edge8_level": "avx2"}, {}, {}, races))
    assert "| a | 1e-05 | 2 | 1 ncnn | 0.50 | - | - | - | - | 1.6 | 0.62 |" in text
    assert "| geometric mean | | | | 2.00 | | | 1.00 | | | 0.62 |" in text
    assert "| mnn int8 | a / b |" in text


def write_model(path: Path, shape: list[int | str], kind: int = TensorProto.FLOAT) -> Path:
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    outputs = [helper.make_tensor_value_info("y", kind, None)]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", inputs, outputs)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    return path


def test_shapes_are_fixed(tmp_path: Path) -> None:
    network = open_network(write_model(tmp_path / "n.onnx", ["N", 3, 8, 6]), tmp_path / "work")
    assert network.shape == (1, 3, 8, 6)
    assert network.pixels(0).shape == (8, 6, 3)
    x = network.sample(0)
    assert x.shape == network.shape
    assert np.array_equal(x[0, :, 2, 3], (network.pixels(0)[2, 3].astype(np.float32) - 127.5) / 64)
    assert [d.dim_value for d in onnx.load(network.path).graph.input[0].type.tensor_type.shape.dim] == [1, 3, 8, 6]
    last = open_network(write_model(tmp_path / "l.onnx", [1, 8, 6, 1]), tmp_path / "work")
    assert last.channels_last
    assert last.sample(0).shape == (1, 8, 6, 1)
    assert not open_network(write_model(tmp_path / "t.onnx", [1, 128, 384]), tmp_path / "work").is_picture


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConvertError, match="--input-shape"):
        open_network(write_model(tmp_path / "open.onnx", ["N", 3, "H", "W"]), tmp_path / "work")
    with pytest.raises(ConvertError, match="one float32 input"):
        open_network(write_model(tmp_path / "ints.onnx", [1, 4], TensorProto.INT64), tmp_path / "work")
    for arguments, text in (
        ((DEMO, "--against", "caffe"), "unknown runtimes: caffe"),
        ((DEMO, "--against", "all", "--threads", "0"), "--threads takes positive numbers"),
        ((DEMO, "--against", "all", "--resume"), "--resume needs --out"),
        ((DEMO, "--against", "all", "--networks", "other"), "none of the models is called other"),
        ((tmp_path / "no.onnx", "--against", "all"), "cannot read"),
        ((DEMO, tmp_path / "model.onnx", "--against", "all"), "two models have the same file name"),
    ):
        assert bench(*arguments) == 1
        assert text in capsys.readouterr().err
