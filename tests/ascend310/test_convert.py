# SPDX-License-Identifier: Apache-2.0
"""The conversion as a user meets it: what is written, what is accepted, what is refused."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from edge8.converter.errors import ConvertError
from edge8.converter.targets.ascend310 import convert_ascend310, verify_folder
from tests.ascend310 import nets


def _convert(folder: Path, model: Any = None, **options: Any) -> Any:
    options.setdefault("calibration", nets.feeds(3))
    options.setdefault("name", "net")
    return convert_ascend310(nets.cnn() if model is None else model, folder, **options)


def _digest(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_two_runs_are_byte_identical(produced: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "net", tmp_path / "b" / "net"]
    for folder in folders:
        folder.parent.mkdir()
        _convert(folder, method="equalise+mse+rounding+bias")
    assert _digest(folders[0]) == _digest(folders[1])
    for path in folders[0].rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes()


def test_calibration_files_are_what_amct_reads(produced: Path) -> None:
    for index, sample in enumerate(nets.feeds(3)):
        stored = np.fromfile(produced / "calibration" / "x" / f"{index:04d}.bin", "<f4").reshape(1, 3, 16, 16)
        assert np.array_equal(stored, sample["x"])
    assert re.search(r"^batch_num: 3$", (produced / "net_quant.cfg").read_text(), re.M)


def test_batches_join_samples(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    _convert(folder, batch=2, calibration=nets.feeds(5))
    report = json.loads((folder / "report.json").read_text())
    assert (report["batch_num"], report["inputs"][0]["shape"]) == (2, [2, 3, 16, 16])
    assert verify_folder(folder).ok


@pytest.mark.parametrize("method", ["mse", "bias", "rounding", "equalise", "equalise+mse+rounding+bias"])
def test_methods_do_no_harm(method: str, tmp_path: Path) -> None:
    _convert(tmp_path / "plain", calibration=nets.feeds(8), method="amct")
    _convert(tmp_path / "better", calibration=nets.feeds(8), method=method)
    noise = {}
    for name in ("plain", "better"):
        result = verify_folder(tmp_path / name, data=nets.feeds(30, seed=77))
        assert result.ok, str(result)
        assert result.comparison is not None
        noise[name] = result.comparison.outputs["logits"]["fake_quant"].noise
    # Shrunk ranges clip values that calibration never saw, so mse alone may lose a little on other data.
    assert noise["better"] < (1.3 if method == "mse" else 1.1) * noise["plain"]


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"dynamic_batch": "1,2,4"}, '--dynamic_batch_size="?1,2,4"?'),
        ({"dynamic_dims": "1;2", "input_shape": "x:-1,3,16,16"}, '--dynamic_dims="1;2"'),
    ],
)
def test_dynamic_profiles(options: dict[str, Any], flag: str, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    _convert(folder, calibration=nets.feeds(2), **options)
    assert re.search(flag, (folder / "atc.sh").read_text())
    assert "x:-1,3,16,16" in (folder / "atc.sh").read_text()
    assert verify_folder(folder).ok


def test_dynamic_image_size(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    model = nets.cnn(1, side="S")
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "T"
    _convert(folder, model, calibration=[*nets.feeds(1), *nets.feeds(1, (1, 3, 32, 24))], dynamic_image_size="16,16;32,24")
    assert '--dynamic_image_size="16,16;32,24"' in (folder / "atc.sh").read_text()
    assert verify_folder(folder).ok
    with pytest.raises(ConvertError, match="match no profile"):
        _convert(folder, model, calibration=nets.feeds(1, (1, 3, 20, 20)), dynamic_image_size="16,16;32,24")


def test_a_config_and_record_are_accepted_again(produced: Path, tmp_path: Path) -> None:
    """What one conversion writes, another one takes: the same numbers come out."""
    original = (produced / "net_record.txt").read_text()
    for options in (
        {"amct_config": produced / "net_quant.cfg", "method": "amct"},
        {"amct_config": produced / "config.json", "method": "amct"},
        {"record": produced / "net_record.txt", "calibration": None},
    ):
        folder = tmp_path / "again"
        _convert(folder, **options)
        assert (folder / "net_record.txt").read_text() == original
        assert verify_folder(folder, run="calibration" not in options).ok


def test_configuration_decides(tmp_path: Path) -> None:
    config = tmp_path / "amct.cfg"
    config.write_text(
        """batch_num: 2
        activation_offset: false
        skip_layers: "fc"
        skip_layer_types: ["AveragePool"]
        skip_fusion_layers: "conv1"
        override_layer_types { layer_type: "ConvTranspose" calibration_config { arq_quantize { channel_wise: false } } }
        override_layer_configs : {
            layer_name : "depthwise" calibration_config : { hfmg_quantize : { num_of_bins : 1024 asymmetric: true } }
        }
        """
    )
    folder = tmp_path / "net"
    report = _convert(folder, amct_config=config, method="amct")
    rows = {row["name"]: row for row in report.layers}
    assert set(rows) == {"conv1", "depthwise", "up"}
    assert report.data["float_layers"] == {"fc": "skip_layers", "pool1": "skip_layer_types"}
    assert rows["conv1"]["offset_d"] == 0
    assert rows["up"]["weight_scales"] == 1
    assert any(node.name == "bn1" for node in onnx.load(str(folder / "net_deploy_model.onnx")).graph.node)
    assert json.loads((folder / "config.json").read_text())["depthwise"]["activation_quant_params"]["act_algo"] == "hfmg"
    assert report.data["batch_num"] == 2
    assert verify_folder(folder).ok


def test_older_amct_gets_fewer_keys(tmp_path: Path) -> None:
    _convert(tmp_path / "old", amct_version="5")
    params = json.loads((tmp_path / "old" / "config.json").read_text())["conv1"]
    assert set(params["activation_quant_params"]) == {"max_percentile", "min_percentile", "search_range", "search_step"}
    assert set(params["weight_quant_params"]) == {"wts_algo", "channel_wise"}
    assert "asymmetric" not in (tmp_path / "old" / "net_quant.cfg").read_text()


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.samples = iter(nets.feeds(4))

    def get_next(self) -> Any:
        return next(self.samples, None)


@pytest.mark.parametrize("activation", [QuantType.QUInt8, QuantType.QInt8])
def test_qdq_models_are_mapped(activation: Any, tmp_path: Path) -> None:
    onnx.save(nets.cnn(1), str(tmp_path / "float.onnx"))
    quantize_static(
        str(tmp_path / "float.onnx"), str(tmp_path / "qdq.onnx"), _Reader(), quant_format=QuantFormat.QDQ, per_channel=False,
        activation_type=activation, weight_type=QuantType.QInt8, extra_options={"WeightSymmetric": True},
    )  # fmt: skip
    folder = tmp_path / "net"
    report = _convert(folder, tmp_path / "qdq.onnx", calibration=None)
    model = onnx.load(str(tmp_path / "qdq.onnx"))
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "x")
    row = next(row for row in report.layers if row["name"] == "conv1")
    assert np.float32(row["scale_d"]) == arrays[first.input[1]]
    assert row["offset_d"] == int(arrays[first.input[2]]) - (128 if activation == QuantType.QUInt8 else 0)
    result = verify_folder(folder, data=nets.feeds(20, seed=3))
    assert result.ok, str(result)
    assert result.comparison is not None
    assert result.comparison.outputs["logits"]["chip"].cosine > 0.99


def test_float16_and_double_models(tmp_path: Path) -> None:
    model = nets.mlp()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    _convert(tmp_path / "half", model, calibration=nets.feeds(2, (1, 5, 12)))
    assert verify_folder(tmp_path / "half").ok


def test_several_inputs(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["a", "w"], ["h"], "fc"), helper.make_node("Add", ["h", "b/in:0"], ["y"], "sum")]
    model = nets.graph_of(nodes, {"a": [1, 4], "b/in:0": [1, 3]}, {"y": [1, 3]}, {"w": np.eye(4, 3, dtype=np.float32)})
    samples = [{"a": np.ones((1, 4), np.float32), "b/in:0": np.zeros((1, 3), np.float32)}]
    folder = tmp_path / "two"
    report = _convert(folder, model, calibration=samples)
    assert [entry["calibration"] for entry in report.data["inputs"]] == ["a", "b_in_0"]
    assert '"a:1,4;b/in:0:1,3"' in (folder / "atc.sh").read_text()
    assert verify_folder(folder).ok


def _bad(folder: Path, rule: str, words: str, model: Any = None, **options: Any) -> None:
    before = _digest(folder) if folder.is_dir() else None
    with pytest.raises(ConvertError, match=words) as error:
        _convert(folder, model, **options)
    assert error.value.rule == rule
    assert (_digest(folder) if folder.is_dir() else None) == before
    assert not list(folder.parent.glob(".*.partial"))


def _aipp_model(shape: list[Any], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    nodes = [helper.make_node("Cast", ["x"], ["f"], "cast", to=TensorProto.FLOAT), helper.make_node("Conv", ["f", "w"], ["y"], "conv")]
    return nets.graph_of(nodes, {"x": (shape, kind)}, {"y": [1, 2, 8, 8]}, {"w": np.ones((2, shape[1], 1, 1), np.float32)})


@pytest.mark.parametrize(
    ("rule", "words", "options"),
    [
        ("calibration.missing", "only kind on this target", {"calibration": None}),
        ("calibration.empty", "no samples|type", {"calibration": []}),
        ("calibration.empty", "do not fill one batch", {"calibration": nets.feeds(2), "batch": 4}),
        ("calibration.shape", "sample|shape", {"calibration": nets.feeds(1, (1, 3, 8, 8))}),
        ("calibration.finite", "NaN", {"calibration": [{"x": np.full((1, 3, 16, 16), np.nan, np.float32)}]}),
        ("calibration.count", "batch_num is 9", {"batch_num": 9}),
        ("dynamic.exclusive", "E10009", {"dynamic_batch": "1,2", "dynamic_dims": "1;2"}),
        ("dynamic.exclusive", "exclude each other", {"dynamic_batch": "1,2", "batch": 2}),
        ("dynamic.count", "1 profiles", {"dynamic_batch": "4"}),
        ("dynamic.duplicate", "twice", {"dynamic_batch": "4,4"}),
        ("dynamic.format", "cannot read", {"dynamic_batch": "1,x"}),
        ("dynamic.format", "height and a width", {"dynamic_image_size": "16;32"}),
        ("shape.format", "E10002", {"input_shape": "x-1,3"}),
        ("shape.name", "no input", {"input_shape": "image:1,3,16,16"}),
        ("shape.rank", "E10049", {"input_shape": "x:1,3,16"}),
        ("shape.conflict", "fixes it at 16", {"input_shape": "x:1,3,32,32"}),
        ("shape.range", "positive", {"input_shape": "x:0,3,16,16"}),
        ("soc.unknown", "Ascend310P3", {"soc": "Ascend999"}),
        ("opset.range", "11, 12 or 13", {"opset": 17}),
        ("amct.version", "Known", {"amct_version": "99"}),
        ("method.unknown", "Known", {"method": "magic"}),
        ("config.layer", "no layer 'convl'.*conv1", {"skip": ["convl"]}),
        ("config.layer", "no quantisable layer matches", {"skip": ["re:nothing"]}),
        ("config.type", "not a quantisable type", {"skip": ["type:Relu"]}),
        ("layers.none", "no layer can be quantised", {"skip": ["re:."]}),
        ("aipp.format", "input_format", {"aipp": {"input_format": "RAW10"}}),
        ("aipp.key", "unknown key", {"aipp": {"input_format": "RGB888_U8", "colour": 1}}),
        ("aipp.channels", "no axis of 1 channels", {"aipp": {"input_format": "YUV400_U8"}}),
        ("aipp.size", "smaller", {"aipp": {"input_format": "RGB888_U8", "src_image_size": [8, 8]}}),
        ("aipp.range", "min_chn_0", {"aipp": {"input_format": "RGB888_U8", "mean": [300.5, 1, 1]}}),
        ("aipp.dynamic", "exclude each other", {"aipp": {"input_format": "RGB888_U8"}, "dynamic_dims": "1;2"}),
        ("aipp.input", "does not exist", {"aipp": {"input_format": "RGB888_U8", "input": "camera"}}),
    ],
)
def test_bad_input_is_named(rule: str, words: str, options: dict[str, Any], tmp_path: Path) -> None:
    _bad(tmp_path / "net", rule, words, **options)


def test_bad_models_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    (tmp_path / "text.onnx").write_text("not a model")
    _bad(folder, "model.missing", "no such file", tmp_path / "none.onnx")
    _bad(folder, "model.parse", "not an ONNX model", tmp_path / "text.onnx")
    _bad(folder, "shape.dynamic", "no fixed size", nets.cnn(1, side="S"))
    _bad(
        folder,
        "aipp.type",
        "UINT8",
        _aipp_model([1, 3, 8, 8], TensorProto.UINT8),
        aipp={"input_format": "RGB888_U8"},
        calibration=[{"x": np.zeros((1, 3, 8, 8), np.uint8)}],
    )
    big = nets.mlp()
    for tensor in big.graph.initializer:
        if tensor.name == "b1":
            tensor.CopyFrom(numpy_helper.from_array(np.full(16, 1e9, np.float32), "b1"))
    _bad(folder, "bias.overflow", "mat1.*--skip mat1", big, calibration=nets.feeds(1, (1, 5, 12)))
    _convert(folder, big, calibration=nets.feeds(1, (1, 5, 12)), skip=["mat1"])
    bad = nets.cnn()
    next(n for n in bad.graph.node if n.name == "relu1").op_type = "Det2"
    _bad(tmp_path / "x", "atc.unsupported", "relu1", bad)


def test_every_unsupported_node_is_listed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("CumSum", ["x", "axis"], ["a"], "fine"),
        helper.make_node("GridSample", ["img", "grid"], ["g"], "warp"),
        helper.make_node("Hann", ["a"], ["h"], "vendor", domain="com.vendor"),
    ]
    model = nets.graph_of(
        nodes,
        {"x": [1, 4], "img": [1, 1, 4, 4], "grid": [1, 4, 4, 2]},
        {"g": [1, 1, 4, 4], "h": [1, 4]},
        {"axis": np.array(1)},
        opset=16,
        domains=("com.vendor",),
    )
    with pytest.raises(ConvertError) as error:
        _convert(tmp_path / "net", model)
    assert "warp (GridSample" in str(error.value)
    assert "vendor (com.vendor.Hann" in str(error.value)


def test_a_record_that_does_not_fit(produced: Path, tmp_path: Path) -> None:
    text = (produced / "net_record.txt").read_text()
    for old, new, words in (
        ('key: "conv1"', 'key: "conv9"', "conv9: the model has no quantisable layer"),
        ("offset_w: 0", "offset_w: 1", "offset_w is not 0"),
        ("scale_d:", "scale_q:", "cannot parse"),
    ):
        (tmp_path / "bad.txt").write_text(text.replace(old, new, 1))
        with pytest.raises(ConvertError, match=words):
            _convert(tmp_path / "net", record=tmp_path / "bad.txt", calibration=None)


@pytest.mark.parametrize("name", ["my net", "net(1)", "nèt"])
def test_paths_that_atc_refuses(name: str, tmp_path: Path) -> None:
    _bad(tmp_path / "net", "path.characters", "ATC refuses", name=name)
    _bad(tmp_path / name, "path.characters", "ATC refuses")


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("important")
    _bad(folder, "output.exists", "no earlier conversion wrote it")
    (folder / "thesis.txt").unlink()
    _convert(folder)
    _convert(folder)
    _bad(tmp_path / "no" / "parent", "output.folder", "does not exist")


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path) -> None:
    def samples() -> Any:
        yield nets.feeds(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _convert(tmp_path / "net", calibration=samples())
    assert list(tmp_path.iterdir()) == []


def test_product_does_not_import_onnxruntime() -> None:
    import subprocess
    import sys

    code = "import sys, edge8.converter.targets.ascend310; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert onnxruntime.__version__
