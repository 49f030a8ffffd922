# SPDX-License-Identifier: Apache-2.0
"""The commands as a user types them: every flag of the target reaches the folder, and none is ignored."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge8.converter.cli import convert_main, host_main
from tests.ascend310 import nets


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.onnx with a free batch, free.onnx with free sides too, and a folder of six samples."""
    root = tmp_path_factory.mktemp("cli")
    onnx.save(nets.cnn(), str(root / "net.onnx"))
    free = nets.cnn("N", side="S")
    free.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "T"
    onnx.save(free, str(root / "free.onnx"))
    (root / "data").mkdir()
    for index, sample in enumerate(nets.feeds(6)):
        np.save(root / "data" / f"{index}.npy", sample["x"])
    return root


def _run(place: Path, out: Path, *flags: Any, model: str = "net.onnx") -> dict[str, Any]:
    """Convert, verify, and give report.json."""
    words = ["--target", "ascend310", str(place / model), "--calibration", str(place / "data"), "-o", str(out), *map(str, flags)]
    assert convert_main(words) == 0
    assert host_main(["verify", str(out)]) == 0
    return json.loads((out / "report.json").read_text())  # type: ignore[no-any-return]


def test_flags_reach_the_folder(place: Path, tmp_path: Path) -> None:
    (tmp_path / "camera.toml").write_text(
        'input_format = "RGB888_U8"\nsrc_image_size = [20, 24]\nmean = [123, 116, 103]\nstd = [58, 57, 57]\n'
    )
    out = tmp_path / "out"
    data = _run(
        place, out, "--soc", "Ascend310P3", "--batch", 2, "--batch-num", 2, "--opset", 13, "--name", "other", "--amct-version", 8,
        "--method", "mse+bias", "--skip", "fc", "--skip", "type:AveragePool", "--samples", 5, "--compression",
        "--aipp", tmp_path / "camera.toml",
    )  # fmt: skip
    assert (data["soc"], data["dequant"], data["opset"], data["method"]) == ("Ascend310P3", "fp32", 13, "mse+bias")
    assert (data["batch_num"], data["inputs"][0]["shape"], data["amct_version"]) == (2, [2, 3, 16, 16], "8")
    assert {"fc", "pool1"} <= set(data["float_layers"])
    assert (out / "other_deploy_model.onnx").exists()
    assert (out / "compression_optimize.cfg").exists()
    assert "--insert_op_conf=./insert_op.cfg" in (out / "atc.sh").read_text()


@pytest.mark.parametrize("opset", [11, 12, 13])
def test_opsets(opset: int, place: Path, tmp_path: Path) -> None:
    _run(place, tmp_path / "out", "--opset", opset)
    for kind in ("deploy", "fake_quant", "float"):
        assert [e.version for e in onnx.load(str(tmp_path / "out" / f"net_{kind}_model.onnx")).opset_import] == [opset]


@pytest.mark.parametrize(
    ("model", "flags", "shape", "atc"),
    [
        ("net.onnx", ["--input-shape", "x:1,3,16,16"], "x:1,3,16,16", None),
        ("net.onnx", ["--dynamic-batch", "1,2,4"], "x:-1,3,16,16", "dynamic_batch_size=1,2,4"),
        ("net.onnx", ["--dynamic-batch", "1,2", "--input-shape", "x:-1,3,16,16"], "x:-1,3,16,16", "dynamic_batch_size=1,2"),
        ("free.onnx", ["--dynamic-image-size", "16,16;32,24"], "x:1,3,-1,-1", 'dynamic_image_size="16,16;32,24"'),
        ("free.onnx", ["--dynamic-dims", "1,16;2,32", "--input-shape", "x:-1,3,-1,16"], "x:-1,3,-1,16", 'dynamic_dims="1,16;2,32"'),
    ],
)
def test_shapes(model: str, flags: list[str], shape: str, atc: str | None, place: Path, tmp_path: Path) -> None:
    _run(place, tmp_path / "out", *flags, model=model)
    script = (tmp_path / "out" / "atc.sh").read_text()
    assert f'--input_shape="{shape}"' in script
    assert ("--dynamic" in script) == (atc is not None)
    assert atc is None or f"--{atc}" in script


def test_several_shapes_in_atcs_form(tmp_path: Path) -> None:
    model = nets.graph_of(
        [onnx.helper.make_node("Gemm", ["a", "w"], ["h"], "fc"), onnx.helper.make_node("Add", ["h", "b:0"], ["y"], "sum")],
        {"a": ["N", "K"], "b:0": ["N", 3]}, {"y": ["N", 3]}, {"w": np.eye(4, 3, dtype=np.float32)},
    )  # fmt: skip
    onnx.save(model, str(tmp_path / "two.onnx"))
    np.savez(tmp_path / "data.npz", **{"a": np.ones((2, 4), np.float32), "b:0": np.ones((2, 3), np.float32)})
    words = ["--target", "ascend310", str(tmp_path / "two.onnx"), "--calibration", str(tmp_path / "data.npz"), "-o", str(tmp_path / "out")]
    assert convert_main([*words, "--input-shape", "a:1,4;b:0:1,3"]) == 0
    assert '--input_shape="a:1,4;b:0:1,3"' in (tmp_path / "out" / "atc.sh").read_text()


def test_configuration_files_are_taken(place: Path, tmp_path: Path) -> None:
    """.cfg, config.json and record.txt of one run give its numbers in the next; a record needs no data."""
    first = tmp_path / "first"
    _run(place, first, "--method", "amct")
    record = (first / "net_record.txt").read_text()
    for name in ("net_quant.cfg", "config.json"):
        _run(place, tmp_path / "again", "--method", "amct", "--amct-config", first / name)
        assert (tmp_path / "again" / "net_record.txt").read_text() == record
    words = ["--target", "ascend310", str(place / "net.onnx"), "--record", str(first / "net_record.txt"), "-o", str(tmp_path / "again")]
    assert convert_main(words) == 0
    assert (tmp_path / "again" / "net_record.txt").read_text() == record


def test_a_device_names_its_chip(place: Path, tmp_path: Path) -> None:
    assert _run(place, tmp_path / "out", "--device", "atlas-300i-pro")["soc"] == "Ascend310P3"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--soc", "Ascend999"], r"Known.*Ascend310P3"),
        (["--method", "kl"], "--method: unknown method 'kl'.*amct"),
        (["--quant", "weight"], "--quant: it has no meaning on ascend310.*only kind"),
        (["--no-corrections"], "--corrections: it has no meaning on ascend310"),
        (["--bits", "4"], "--bits: it has no meaning on ascend310"),
        (["--max-drop", "1"], "--max-drop: it has no meaning on ascend310"),
        (["--device", "raspberry-pi-4"], "no Ascend chip"),
        (["--device", "atlas-300i-pro", "--soc", "Ascend310"], "not Ascend310"),
        (["--input-shape", "x:-1,3,16,16;x:2,3,16,16"], "given twice"),
        (["--dynamic-batch", "1,2", "--dynamic-dims", "1;2"], "E10009"),
        (["--skip", "nothing"], "no layer 'nothing'"),
    ],
)
def test_refused_flags(flags: list[str], words: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--target", "ascend310", str(place / "net.onnx"), "--calibration", str(place / "data"), "-o", str(tmp_path / "out")]
    assert convert_main([*base, *flags]) == 1
    assert re.search(words, capsys.readouterr().err, re.S)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "words"), [(["--soc", "Ascend310"], "--soc"), (["--method", "amct"], "amct"), (["--opset", "13"], "--opset")]
)
def test_other_targets_refuse_them(flags: list[str], words: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = [str(place / "net.onnx"), "--calibration", str(place / "data"), "-o", str(tmp_path / "net.e8")]
    assert convert_main([*base, *flags]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
