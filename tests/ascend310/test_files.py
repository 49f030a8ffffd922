# SPDX-License-Identifier: Apache-2.0
"""Text files of the target: AIPP, configuration, records, commands, generated schemas."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from edge8.converter.errors import ConvertError
from edge8.converter.preprocess import Preprocess
from edge8.converter.targets.ascend310 import convert_ascend310, schemas_pb2, verify_folder
from edge8.converter.targets.ascend310.commands import parse_atc
from edge8.converter.targets.ascend310.configs import QuantConfig, read_cfg, read_json, write_cfg
from edge8.converter.targets.ascend310.profiles import parse_input_shape
from tests.ascend310 import nets

ROOT = Path(__file__).resolve().parents[2]


def test_generated_schemas_are_fresh() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    run = subprocess.run(
        [sys.executable, str(ROOT / "schemas" / "generate_protos.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def _aipp(tmp_path: Path, **camera: Any) -> Any:
    convert_ascend310(nets.cnn(), tmp_path / "net", calibration=nets.feeds(1), aipp=camera, name="net")
    assert verify_folder(tmp_path / "net", run=False).ok
    message = schemas_pb2.InsertNewOps()
    text_format.Parse((tmp_path / "net" / "insert_op.cfg").read_text(), message)
    (op,) = message.aipp_op
    return op


def _apply(op: Any, pixel: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """What the image unit makes of one pixel, by its published order: swap, colour conversion, normalisation in float16."""
    value = pixel.astype(np.float64)
    if op.rbuv_swap_switch:
        value = value[::-1] if op.input_format != 1 else value[[0, 2, 1]]
    if op.csc_switch:
        matrix = np.array([[getattr(op, f"matrix_r{r}c{c}") for c in range(3)] for r in range(3)])
        bias = np.array([getattr(op, f"input_bias_{i}") for i in range(3)])
        value = np.clip(np.rint(matrix @ (value - bias) / 256), 0, 255)
    offset = np.array([getattr(op, f"mean_chn_{i}") + float(np.float16(getattr(op, f"min_chn_{i}"))) for i in range(3)])
    return (value - offset) * np.array([float(np.float16(getattr(op, f"var_reci_chn_{i}"))) for i in range(3)])


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_aipp_gives_what_preprocessing_gives(channels: str, order: str, tmp_path: Path) -> None:
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    op = _aipp(tmp_path, input_format="RGB888_U8", order=order, channels=channels, mean=mean, std=std)
    rgb = np.array([200, 120, 30])
    camera = rgb if order == "rgb" else rgb[::-1]
    model = rgb if channels == "rgb" else rgb[::-1]
    np.testing.assert_allclose(_apply(op, camera), (model - np.array(mean)) / std, atol=4e-3)


@pytest.mark.parametrize(("color", "black", "white"), [("bt601-full", 0, 255), ("bt601-narrow", 16, 235), ("bt709-narrow", 16, 235)])
def test_yuv_pictures(color: str, black: int, white: int, tmp_path: Path) -> None:
    op = _aipp(tmp_path, input_format="YUV420SP_U8", color=color, src_image_size=[20, 24])
    assert op.csc_switch
    assert op.crop
    np.testing.assert_allclose(_apply(op, np.array([black, 128, 128])), 0, atol=0.5)
    np.testing.assert_allclose(_apply(op, np.array([white, 128, 128])), 255, atol=1.5)
    if color == "bt601-full":
        assert [getattr(op, f"matrix_r{r}c{c}") for r in range(3) for c in range(3)] == [256, 0, 359, 256, -88, -183, 256, 454, 0]
        np.testing.assert_allclose(_apply(op, np.array([76, 85, 255])), [254, 0, 0], atol=2)


def test_whole_means_use_the_integer_field(tmp_path: Path) -> None:
    op = _aipp(tmp_path, input_format="RGB888_U8", mean=[127.0], std=[128.0])
    assert [op.mean_chn_0, op.mean_chn_1, op.mean_chn_2] == [127, 127, 127]
    assert not op.HasField("min_chn_0")
    assert op.var_reci_chn_0 == 1 / 128


def test_preprocessing_of_the_calibration_counts_for_aipp(tmp_path: Path) -> None:
    steps = Preprocess(mean=(100.0,), std=(50.0,))
    camera: dict[str, Any] = {"input_format": "RGB888_U8"}
    convert_ascend310(nets.cnn(), tmp_path / "net", calibration=nets.feeds(1), preprocess=steps, aipp=camera, name="net")
    assert "mean_chn_0: 100" in (tmp_path / "net" / "insert_op.cfg").read_text()
    with pytest.raises(ConvertError, match="disagree"):
        convert_ascend310(
            nets.cnn(), tmp_path / "net", calibration=nets.feeds(1), preprocess=steps, aipp={**camera, "mean": 1.0}, name="net"
        )


def test_pictures_with_their_preprocessing(tmp_path: Path) -> None:
    """A folder of pictures calibrates, and verify prepares its own pictures the same way."""
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(tmp_path / "pictures" / f"{index}.png")
    steps = Preprocess(mean=(120.0, 110.0, 100.0), std=(60.0,))
    convert_ascend310(nets.cnn(), tmp_path / "net", calibration=tmp_path / "pictures", preprocess=steps, batch=2, name="net")
    stored = np.fromfile(tmp_path / "net" / "calibration" / "x" / "0000.bin", "<f4")
    assert stored.size == 2 * 3 * 16 * 16
    assert stored.min() < -1
    result = verify_folder(tmp_path / "net", data=tmp_path / "pictures")
    assert result.ok, str(result)
    assert result.comparison is not None
    assert result.comparison.outputs["logits"]["chip"].cosine > 0.99


def test_configuration_survives_a_round_trip() -> None:
    text = """
    batch_num : 2 activation_offset : false joint_quant : true do_fusion : false
    skip_layers : "a" skip_layers : "b" skip_layer_types : "Gemm" skip_fusion_layers : "c"
    common_config : { arq_quantize : { channel_wise : true } ifmr_quantize : { search_range_start : 0.8 search_range_end : 1.2
      search_step : 0.02 max_percentile : 0.9999 min_percentile : 0.99 asymmetric : true } }
    override_layer_types : { layer_type : "Conv" calibration_config : { hfmg_quantize : { num_of_bins : 2048 } } }
    override_layer_configs : { layer_name : "d" calibration_config : { arq_quantize : { channel_wise : false } } }
    tensor_quantize { layer_name : "pool" input_index : 0 }
    """
    config = read_cfg(text)
    assert config.common.ifmr.max_percentile == 0.9999
    assert config.common.ifmr.search_step == 0.02
    again = read_cfg(write_cfg(config, 2, config.skip_layers, "7"))
    assert again.common == config.common
    assert again.by_type["Conv"].bins == 2048
    assert again.by_name["d"].channel_wise is False
    assert again.skip_layers == ("a", "b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch_num : 0", "at least 1"),
        ("batch_num : two", "cannot parse"),
        ("common_config { ifmr_quantize { max_percentile : 0.4 } }", "percentiles"),
        ("common_config { ifmr_quantize { search_step : 0.9 } }", "search step"),
        ("common_config { ifmr_quantize { search_range_start : 1.4 } }", "search range"),
        ("common_config { ifmr_quantize { dst_type : INT16 } }", "INT8"),
        ("common_config { hfmg_quantize { num_of_bins : 100 } }", "num_of_bins"),
        ("common_config { arq_quantize { quant_bits : 4 } }", "4-bit"),
        ("common_config { ifmr_quantize {} hfmg_quantize {} }", "both"),
        ("common_config { dmq_balancer {} }", "dmq_balancer"),
        ('nuq_config { mapping_file : "x" }', "nuq_config"),
    ],
)
def test_wrong_configurations_are_named(text: str, words: str) -> None:
    with pytest.raises(ConvertError, match=words):
        read_cfg(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "not an object"),
        ('{"version":2}', "version 2"),
        ('{"batch_number":1}', "batch_number"),
        ('{"a":{"activation_quant_params":{"bits":8}}}', "unknown key"),
        ('{"a":{"activation_quant_params":{"act_algo":"kl"}}}', "act_algo"),
        ('{"a":{"weight_quant_params":{"wts_algo":"nuq_quantize"}}}', "arq_quantize"),
        ('{"a":{"dmq_balancer_param":0.5}}', "dmq_balancer"),
    ],
)
def test_wrong_json_is_named(text: str, words: str) -> None:
    with pytest.raises(ConvertError, match=words):
        read_json(text)


def test_empty_configuration_is_amcts_default() -> None:
    assert read_cfg("") == QuantConfig()


def test_input_shapes_with_colons_in_names() -> None:
    assert parse_input_shape("serving_default_input_2:0:1,10;b:") == {"serving_default_input_2:0": [1, 10], "b": []}


def test_the_command_is_one_that_a_shell_reads(produced: Path) -> None:
    """sh itself runs atc.sh; a stand-in for atc prints its arguments."""
    folder = produced.parent / "bin"
    folder.mkdir(exist_ok=True)
    stub = folder / "atc"
    stub.write_text('#!/bin/sh\nfor a in "$@"; do printf "%s\\n" "$a"; done\n')
    stub.chmod(0o755)
    run = subprocess.run(
        ["sh", str(produced / "atc.sh")], env={"PATH": f"{folder}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    flags = parse_atc((produced / "atc.sh").read_text())
    assert run.stdout.splitlines() == [f"--{key}={value}" for key, value in flags.items()]
    assert flags["input_shape"] == "x:1,3,16,16"
    assert flags["soc_version"] == "Ascend310"


def test_python_of_the_board_page_compiles(produced: Path) -> None:
    text = (produced / "run_on_board.md").read_text()
    blocks = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "run_on_board.md", "exec")
    assert len(blocks[0].strip().splitlines()) <= 45
    for part in text.split("```sh\n")[1:]:
        assert shlex.split(part.split("```")[0])
