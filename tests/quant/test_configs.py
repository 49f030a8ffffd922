# SPDX-License-Identifier: Apache-2.0
"""`--config`: TOML and MindSpore's files become the command's own flags."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge8.converter import ConvertError
from edge8.converter.cli import _add_convert, convert_main
from edge8.converter.quant.configs import markdown_table, parse_arguments, read_mindspore
from edge8.converter.quant.mindspore_keys import FLAT, KEYS

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "converter" / "examples" / "fashion_mnist"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="convert")
    _add_convert(parser)
    return parser


def parse(path: Path, *argv: str, warnings: list[str] | None = None) -> argparse.Namespace:
    found: list[str] = [] if warnings is None else warnings
    return parse_arguments(make_parser(), ["--config", str(path), *argv], warn=found.append)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_toml_gives_flags(tmp_path: Path) -> None:
    text = """
    model = "a.onnx"
    output = "b.e8"
    calibration = ["x", "y"]
    skip = ["type:Softmax"]
    input-shape = { "in:0" = [1, 3, 8, 8] }
    resize = [24, 32]
    mean = 127.5
    std = [1, 2, 3.5]
    min_elements = 500
    percentile = 99.9
    compression = true
    """
    got = parse(write(tmp_path, "a.toml", text))
    assert (got.model, got.output, got.calibration, got.skip) == ("a.onnx", "b.e8", ["x", "y"], ["type:Softmax"])
    assert got.input_shape == [[("in:0", (1, 3, 8, 8))]]
    assert (got.resize, got.mean, got.std) == ((24, 32), [127.5], [1, 2, 3.5])
    assert (got.min_elements, got.percentile, got.compression) == (500, 99.9, True)
    assert (got.method, got.bits) == ("auto", None), "defaults stay"


@pytest.mark.parametrize(
    ("text", "corrections"),
    [
        ("no-corrections = true", ""),
        ("no-corrections = false", "equalisation,bias,rounding"),
        ('corrections = ["bias", "rounding"]', "bias,rounding"),
    ],
)
def test_flags_without_a_value(tmp_path: Path, text: str, corrections: str) -> None:
    assert parse(write(tmp_path, "a.toml", text)).corrections == corrections


def test_command_line_wins(tmp_path: Path) -> None:
    path = write(tmp_path, "a.toml", 'bits = 4\nskip = ["one"]\nquant = "weight"\n')
    assert parse(path).bits == 4
    assert parse(path, "--bits", "8").bits == 8, "a flag wins even where it says the default"
    assert parse(path, "--skip", "two").skip == ["two"]
    assert parse(path, "--skip", "two").quant == "weight"
    assert make_parser().parse_args([]).skip == [], "the parser's own defaults are untouched"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bitts = 4", r"unknown key 'bitts'\. Did you mean bits\?"),
        ('[quantiser]\nmethod = "kl"', r"unknown key 'quantiser'"),
        ('method = "entropy"', r"a\.toml method: unknown value 'entropy'\. Known: auto, minmax"),
        ("bits = true", r"a\.toml bits: True has no meaning"),
        ('bits = "many"', r"a\.toml bits: write a number from 1 to 16, or mixed, got 'many'"),
        ("compression = 1", r"1 is not true or false"),
        ("resize = [1, 2, 3]", r"a\.toml resize: write HEIGHT,WIDTH"),
        ('config = "b.toml"', r"unknown key 'config'"),
        ("bits = ", r"not TOML"),
    ],
)
def test_bad_toml(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        parse(write(tmp_path, "a.toml", text))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"no\.toml: No such file"):
        parse(tmp_path / "no.toml")
    (tmp_path / "b.cfg").write_bytes(b"\xff\xfe")
    with pytest.raises(ConvertError, match="not text in UTF-8"):
        parse(tmp_path / "b.cfg")


def test_what_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        convert_main(["--config", str(write(tmp_path, "a.toml", "bits = 8"))])
    assert stop.value.code == 2
    assert "required: model, -o/--output" in capsys.readouterr().err


FLAT_FILE = """# r1.3
image_path=/data/left,/data/right
batch_count=50
method_x=RemovalOutlier
thread_num=4
bias_correction=true
disable_fusion=on
"""


def test_flat_file(tmp_path: Path) -> None:
    flags, warnings = read_mindspore(write(tmp_path, "a.cfg", FLAT_FILE), lambda: ["l", "r"])
    assert flags == {"samples": 50, "method": "removal-outlier", "threads": 4, "calibration": ["l=/data/left", "r=/data/right"]}
    assert [w.partition(" is ignored")[0] for w in warnings[:-1]] == ["disable_fusion=on"]
    assert "NHWC" in warnings[-1]
    with pytest.raises(ConvertError, match="image_path lists 2 folders, the model has 1 inputs"):
        read_mindspore(tmp_path / "a.cfg", lambda: ["l"])


SECTIONS = """[common_quant_param]
quant_type=FULL_QUANT
bit_num=8
min_quant_weight_size=0
min_quant_weight_channel=16
skip_quant_node=Conv_1,Conv_2
debug_info_save_path=out/

[full_quant_param]
activation_quant_method=MAX_MIN
bias_correction=false
target_device=CPU
smooth_alpha=0.5

[data_preprocess_param]
calibrate_path=a:b:/data/x,mask:/data/m
calibrate_size=100
input_type=IMAGE
image_to_format=BGR
normalize_mean=127.5,127.5,127.5
normalize_std=[58.4, 57.1, 57.4]
resize_width=32
resize_height=24
resize_method=CUBIC
center_crop_width=30
center_crop_height=20
"""


def test_sections(tmp_path: Path) -> None:
    warnings: list[str] = []
    got = parse(write(tmp_path, "a.cfg", SECTIONS), warnings=warnings)
    assert (got.quant, got.bits, got.min_elements, got.min_channels, got.method) == ("full", 8, 0, 16, "minmax")
    assert (got.skip, got.report, got.samples) == (["Conv_1", "Conv_2"], "out/report.html", 100)
    assert got.calibration == ["a:b=/data/x", "mask=/data/m"]
    assert (got.resize, got.crop, got.interpolation, got.channels) == ((24, 32), (20, 30), "cubic", "bgr")
    assert (got.mean, got.std) == ([127.5] * 3, [58.4, 57.1, 57.4])
    assert got.corrections == "equalisation,rounding"
    assert len(warnings) == 1
    assert "[full_quant_param] smooth_alpha=0.5 is ignored" in warnings[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mixed=true\nmean_error_threshold=0.04", {"quant": "weight", "bits": "mixed", "target_sqnr": 27.96, "max_drop": None}),
        ("mixed=true", {"quant": "weight", "bits": "mixed", "target_sqnr": None}),
        ("mixed=false\nmean_error_threshold=0.04", {"bits": None, "target_sqnr": None}),
        (
            "[common_quant_param]\nquant_type=WEIGHT_QUANT\nbit_num=0\n[mixed_bit_weight_quant_param]\nauto_tune=true",
            {"quant": "weight", "bits": "mixed", "max_drop": 0.005, "metric": "cosine"},
        ),
        ("[common_quant_param]\nbit_num=4\n[mixed_bit_weight_quant_param]\nauto_tune=true", {"bits": 4, "max_drop": None}),
    ],
)
def test_mixed_widths_of_mindspore(tmp_path: Path, text: str, wanted: dict[str, Any]) -> None:
    warnings: list[str] = []
    got = vars(parse(write(tmp_path, "a.cfg", text), warnings=warnings))
    assert {name: got[name] for name in wanted} == wanted
    dropped = wanted["bits"] != "mixed"
    assert any("the target of mixed widths is ignored" in w for w in warnings) == dropped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method_x=ENTROPY", r"method_x=ENTROPY: known are KL, MAX_MIN, RemovalOutlier"),
        ("plugin_path=/x.so", r"plugin_path=/x.so: is refused: plugins"),
        ("input_shapes=1,2", r"--input-shape"),
        ("batch_count=0", r"at least 1"),
        ("batch_count=ten", r"whole number"),
        ("image_path=", r"names no folder"),
        ("methodx=KL", r"unknown key 'methodx'\. Did you mean method_x\?"),
        ("calibrate_size=100", r"unknown key 'calibrate_size'\. It belongs in \[data_preprocess_param\]"),
        ("just words", r"not a configuration of MindSpore"),
        ("bits = 8\nbits = 9", r"not a configuration of MindSpore.*already exists"),
        ("[common_quant_param]\nbit_num=17", r"bit_num=17: it must be 0 to 16"),
        ("mean_error_threshold=2", r"mean_error_threshold=2: it must be between 0 and 1"),
        ("mean_error_threshold=x", r"write a number"),
        ("[common_quant_param]\nquant_type=QAT", r"known are WEIGHT_QUANT"),
        ("[common_quant_param]\nmethod_x=KL", r"belongs in the flat form of r1\.3"),
        ("[comon_quant_param]\nbit_num=8", r"unknown section \[comon_quant_param\]\. Did you mean \[common_quant_param\]\?"),
        ("[full_quant_param]\ntarget_device=ASCEND", r"is refused: use --target ascend310"),
        ("[full_quant_param]\nper_channel=yes", r"write true or false"),
        ("[data_preprocess_param]\nresize_width=32", r"resize_height is missing"),
        ("[data_preprocess_param]\ncenter_crop_height=32", r"center_crop_width is missing"),
        ("[data_preprocess_param]\ncalibrate_path=/data", r"write input:folder"),
        ("[data_preprocess_param]\nnormalize_mean=a,b", r"numbers separated by commas"),
    ],
)
def test_bad_mindspore(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        read_mindspore(write(tmp_path, "a.cfg", text))


def test_table_in_the_docs_is_the_code() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert markdown_table() in text, "print it with python -m edge8.converter.quant.configs"


def test_examples_in_the_docs_work(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    toml = text.split("```toml\n")[1].split("```")[0]
    got = parse(write(tmp_path, "net.toml", toml))
    assert (got.model, got.resize, got.input_shape) == ("net.onnx", (224, 224), [[("pixels:0", (1, 3, 224, 224))]])
    ini = "\n".join(line[4:] for line in text.split("    # full_quant.cfg")[1].split("    convert")[0].splitlines())
    warnings: list[str] = []
    got = parse(write(tmp_path, "full_quant.cfg", ini), warnings=warnings)
    assert (got.calibration, got.resize, got.samples, got.method, warnings) == (["image=pictures/"], (224, 224), 100, "minmax", [])


def test_every_mapped_flag_exists() -> None:
    flags = {option for action in make_parser()._actions for option in action.option_strings}
    named = {flag for key in KEYS.values() for flag in re.findall(r"`(--[a-z-]+)`", key.text)}
    assert named
    assert named <= flags


def test_every_key_does_something() -> None:
    """Whatever the value: a flag of ours, a reason, or a refusal; never silence about a number or a word."""
    values = [
        "true",
        "false",
        "1",
        "8",
        "0.5",
        "KL",
        "MAX_MIN",
        "FULL_QUANT",
        "a:b",
        "a",
        "RGB",
        "LINEAR",
        "IMAGE",
        "CPU",
        "QUANT",
        "ON_THE_FLY",
    ]
    for (section, name), key in KEYS.items():
        outcomes: list[Any] = []
        for value in values:
            try:
                outcomes.append(key.apply(value))
            except ValueError as error:
                outcomes.append(str(error))
        assert any(outcomes), f"{section} {name}"
        assert (section == FLAT) or "_" in section


def test_conversion_with_a_file_of_2_x(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(DEMO / "calibration.npz") as archive:
        pictures = archive["image"][:6]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(pictures):
        np.save(folder / f"{i}.npy", picture)
    text = f"""[common_quant_param]
quant_type=FULL_QUANT
[full_quant_param]
activation_quant_method=MAX_MIN
[data_preprocess_param]
calibrate_path=image:{folder}
calibrate_size=5
input_type=IMAGE
image_to_format=GRAY
normalize_mean=127.5
normalize_std=127.5
"""
    path = write(tmp_path, "full_quant.cfg", text)
    assert convert_main(["--config", str(path), str(DEMO / "model.onnx"), "-o", str(tmp_path / "a.e8")]) == 0
    captured = capsys.readouterr()
    assert "calibrated on 5 samples" in captured.out
    assert captured.err == ""
    flags = [
        "--calibration",
        str(folder),
        "--samples",
        "5",
        "--channels",
        "gray",
        "--mean",
        "127.5",
        "--std",
        "127.5",
        "--method",
        "minmax",
    ]
    assert convert_main([*flags, str(DEMO / "model.onnx"), "-o", str(tmp_path / "b.e8")]) == 0
    assert (tmp_path / "a.e8").read_bytes() == (tmp_path / "b.e8").read_bytes()
