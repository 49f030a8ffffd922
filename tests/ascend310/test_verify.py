# SPDX-License-Identifier: Apache-2.0
"""`verify_folder` passes what conversion writes and catches every rule's own corruption."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edge8.converter.errors import ConvertError
from edge8.converter.targets.ascend310 import verify_folder
from edge8.converter.targets.ascend310.verify import CHECKS

Corruption = Callable[[Path], None]


def _model(kind: str, change: Callable[[onnx.ModelProto], None]) -> Corruption:
    def corrupt(folder: Path) -> None:
        path = folder / f"net_{kind}_model.onnx"
        model = onnx.load(str(path))
        change(model)
        path.write_bytes(model.SerializeToString())

    return corrupt


def _text(name: str, old: str, new: str) -> Corruption:
    def corrupt(folder: Path) -> None:
        text = (folder / name).read_text()
        assert re.search(old, text), old
        (folder / name).write_text(re.sub(old, lambda _: new, text, count=1))

    return corrupt


def _node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def _attribute(model: onnx.ModelProto, node: str, name: str) -> onnx.AttributeProto:
    return next(a for a in _node(model, node).attribute if a.name == name)


def _edit_array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[onnx.ModelProto], None]:  # type: ignore[type-arg]
    def edit(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))

    return edit


def _weight(model: onnx.ModelProto, node: str, index: int = 1) -> str:
    return str(_node(model, node).input[index])


def _bump(array: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    flat = array.reshape(-1)
    flat[0] = flat[0] + 1 if flat[0] < 100 else flat[0] - 1
    return array


def _int_scale(model: onnx.ModelProto) -> None:
    _attribute(model, "conv1.quant", "scale").CopyFrom(helper.make_attribute("scale", 32))


def _rename(model: onnx.ModelProto, node: str, name: str) -> None:
    _node(model, node).name = name


def _drop_dequant(model: onnx.ModelProto) -> None:
    node = _node(model, "conv1.dequant")
    for other in model.graph.node:
        for i, value in enumerate(other.input):
            if value == node.output[0]:
                other.input[i] = node.input[0]
    model.graph.node.remove(node)


def _second_import(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.vendor", 1))


def _bits(array: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    array[0] |= np.uint64(1 << 33)
    return array


def _swap_op(model: onnx.ModelProto) -> None:
    _node(model, "relu1").op_type = "Gelu"


def _huge_bias(model: onnx.ModelProto) -> None:
    _edit_array(_weight(model, "fc", 2), lambda a: np.full_like(a, 2**31 - 5))(model)


def _float_weights(model: onnx.ModelProto) -> None:
    _edit_array(_weight(model, "conv1"), lambda a: a.astype(np.float32))(model)


def _trans_b(model: onnx.ModelProto) -> None:
    _node(model, "fc").attribute.append(helper.make_attribute("transB", 1))


def _duplicate_quant(model: onnx.ModelProto) -> None:
    twin = onnx.NodeProto()
    twin.CopyFrom(_node(model, "conv1.quant"))
    twin.name, twin.output[0] = "other.quant", "other.quant.output0"
    model.graph.node.insert(0, twin)


def _truncate(name: str) -> Corruption:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-4]) and None


def _nan(folder: Path) -> None:
    path = folder / "calibration" / "x" / "0001.bin"
    data = np.fromfile(path, np.float32)
    data[7] = np.nan
    data.tofile(path)


def _report(change: Callable[[dict], None]) -> Corruption:  # type: ignore[type-arg]
    def corrupt(folder: Path) -> None:
        data = json.loads((folder / "report.json").read_text())
        change(data)
        (folder / "report.json").write_text(json.dumps(data))

    return corrupt


# (rule that must catch it, what is done)
def _drop_scale(model: onnx.ModelProto) -> None:
    _node(model, "conv1.quant").attribute.remove(_attribute(model, "conv1.quant", "scale"))


def _change_stride(model: onnx.ModelProto) -> None:
    _attribute(model, "depthwise", "strides").ints[0] = 1


CORRUPTIONS: list[tuple[str, str, Corruption]] = [
    ("files", "a file changed", _text("run_on_board.md", "Build", "Bild")),
    ("files", "a file added", lambda folder: (folder / "extra.txt").write_text("x") and None),
    ("files", "a file removed", lambda folder: (folder / "calibration" / "x" / "0002.bin").unlink()),
    ("opset", "a second opset import", _model("deploy", _second_import)),
    ("opset", "opset 15", _model("deploy", lambda m: setattr(m.opset_import[0], "version", 15))),
    ("opset", "a node of another domain", _model("deploy", lambda m: setattr(_node(m, "conv1.quant"), "domain", "amct"))),
    ("names", "a node without name", _model("deploy", lambda m: _rename(m, "relu1", ""))),
    ("names", "two nodes of one name", _model("deploy", lambda m: _rename(m, "relu1", "conv1"))),
    ("operators", "an operator ATC lacks", _model("deploy", _swap_op)),
    ("layer-form", "AscendDequant removed", _model("deploy", _drop_dequant)),
    ("layer-form", "float weights in an int8 layer", _model("deploy", _float_weights)),
    ("layer-form", "transB set", _model("deploy", _trans_b)),
    ("layer-form", "equal quantisers not merged", _model("deploy", _duplicate_quant)),
    ("layer-form", "int64 bias", _model("deploy", lambda m: _edit_array(_weight(m, "fc", 2), lambda a: a.astype(np.int64))(m))),
    ("quant-attributes", "scale as INT", _model("deploy", _int_scale)),
    ("quant-attributes", "scale missing", _model("deploy", _drop_scale)),
    ("quant-attributes", "scale misspelt", _model("deploy", lambda m: setattr(_attribute(m, "conv1.quant", "scale"), "name", "scales"))),
    ("quant-attributes", "offset with a fraction", _model("deploy", lambda m: setattr(_attribute(m, "conv1.quant", "offset"), "f", -12.5))),
    ("quant-attributes", "offset out of range", _model("deploy", lambda m: setattr(_attribute(m, "conv1.quant", "offset"), "f", 200.0))),
    ("quant-attributes", "dst_type INT4", _model("deploy", lambda m: setattr(_attribute(m, "conv1.quant", "dst_type"), "s", b"INT4"))),
    ("deq-scale", "one bit of a scale", _model("deploy", lambda m: _edit_array("conv1.dequant.param", lambda a: a ^ np.uint64(1))(m))),
    ("deq-scale", "shift bits set", _model("deploy", lambda m: _edit_array("conv1.dequant.param", _bits)(m))),
    ("deq-scale", "wrong length", _model("deploy", lambda m: _edit_array("conv1.dequant.param", lambda a: a[:3])(m))),
    ("deq-scale", "wrong type", _model("deploy", lambda m: _edit_array("conv1.dequant.param", lambda a: a.astype(np.int64))(m))),
    ("record", "scale_d changed", _text("net_record.txt", r"scale_d: [0-9.e-]+", "scale_d: 0.125")),
    ("record", "offset_w not 0", _text("net_record.txt", r"offset_w: 0", "offset_w: 3")),
    ("record", "another key", _text("net_record.txt", r'key: "conv1"', 'key: "conv9"')),
    ("record", "not proto text", _text("net_record.txt", r"value \{", "value [")),
    ("weights", "one int8 weight", _model("deploy", lambda m: _edit_array(_weight(m, "conv1"), _bump)(m))),
    ("bias", "one int32 bias", _model("deploy", lambda m: _edit_array(_weight(m, "fc", 2), _bump)(m))),
    ("accumulators", "a bias near 2^31", _model("deploy", _huge_bias)),
    ("fake-quant", "one fake weight", _model("fake_quant", lambda m: _edit_array(_weight(m, "conv1"), _bump)(m))),
    ("fake-quant", "one fake scale", _model("fake_quant", lambda m: _edit_array("fc.fakedequant.dqscale", lambda a: a * 2)(m))),
    ("float-model", "float graph broken", _model("float", lambda m: setattr(_node(m, "relu1"), "op_type", "Nonsense"))),
    ("interface", "output renamed", _model("float", lambda m: setattr(m.graph.output[0], "name", "other"))),
    ("interface", "stride changed in the deploy model", _model("deploy", _change_stride)),
    ("configuration", "batch_num lowered", _text("net_quant.cfg", r"batch_num: 3", "batch_num: 1")),
    ("configuration", "unknown field", _text("net_quant.cfg", r"batch_num", "batch_count")),
    ("configuration", "unknown layer skipped", _text("net_quant.cfg", r"do_fusion: true", 'do_fusion: true skip_layers: "nowhere"')),
    ("json-config", "layer disabled", _text("config.json", r'"quant_enable":true', '"quant_enable":false')),
    ("json-config", "percentile out of range", _text("config.json", r'"max_percentile":0.999999', '"max_percentile":0.2')),
    ("json-config", "not JSON", _text("config.json", r"\{", "")),
    ("calibration-files", "truncated .bin", _truncate("calibration/x/0000.bin")),
    ("calibration-files", "NaN in a .bin", _nan),
    ("calibration-files", "a .bin missing", lambda folder: (folder / "calibration" / "x" / "0000.bin").unlink()),
    ("aipp", "mean beyond 255", _text("insert_op.cfg", r"min_chn_0: [0-9.]+", "min_chn_0: 300")),
    ("aipp", "cut leaves the picture", _text("insert_op.cfg", r"load_start_pos_w: \d+", "load_start_pos_w: 20")),
    ("aipp", "input that does not exist", _text("insert_op.cfg", r"related_input_rank: 0", "related_input_rank: 4")),
    ("aipp", "unknown format", _text("insert_op.cfg", r"RGB888_U8", "RGB777_U8")),
    ("atc-command", "framework of another tool", _text("atc.sh", r"--framework=5", "--framework=3")),
    ("atc-command", "unknown chip", _text("atc.sh", r"--soc_version=Ascend310", "--soc_version=Ascend999")),
    ("atc-command", "wrong input name", _text("atc.sh", r'"x:1', '"image:1')),
    ("atc-command", "wrong size", _text("atc.sh", r"3,16,16", "3,32,32")),
    ("atc-command", "missing quote", _text("atc.sh", r'16"', "16")),
    ("atc-command", "two dynamic flags", _text("atc.sh", r"--log=error", "--log=error --dynamic_batch_size=1,2 --dynamic_dims=1,2")),
    ("atc-command", "model that does not exist", _text("atc.sh", r"net_deploy", "met_deploy")),
    ("atc-command", "space behind =", _text("atc.sh", r"--log=error", "--log= error")),
    ("paths", "an absolute path", _text("run_on_board.md", r"sh atc.sh", "sh /opt/net/atc.sh")),
    ("reports", "report.html changed", _text("report.html", "<h2>Warnings</h2>", "<h2>All is well</h2>")),
    ("reports", "report.json without layers", _report(lambda data: data.pop("layers"))),
    ("reports", "report.json of another chip", _report(lambda data: data.update(dequant="fp32"))),
]  # fmt: skip


def test_a_produced_folder_passes(produced: Path, produced_mlp: Path) -> None:
    for folder in (produced, produced_mlp):
        result = verify_folder(folder)
        assert result.ok, str(result)
        assert result.comparison is not None
        assert result.comparison.fake_difference == 0.0


def test_a_moved_folder_passes(copy: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "other name"
    moved.parent.mkdir()
    shutil.move(copy, moved)
    assert verify_folder(moved).ok


@pytest.mark.parametrize(("rule", "what", "corrupt"), CORRUPTIONS, ids=[f"{rule}: {what}" for rule, what, _ in CORRUPTIONS])
def test_corruption_is_caught_by_its_rule(rule: str, what: str, corrupt: Corruption, copy: Path) -> None:
    corrupt(copy)
    result = verify_folder(copy, run=False)
    assert not result.ok
    assert rule in result.failed, f"{what}: {result.failed}"


def test_every_rule_has_a_corruption() -> None:
    warnings = {name for name, (level, _) in CHECKS.items() if level == "warning"}
    assert {rule for rule, _, _ in CORRUPTIONS} == set(CHECKS) - warnings


def test_float16_range_is_one_warning_line(produced: Path) -> None:
    check = next(check for check in verify_folder(produced, run=False).checks if check.name == "float16-range")
    assert check.ok
    assert len(check.findings) <= 1


def test_seeded_byte_flips_are_caught(produced: Path, tmp_path: Path) -> None:
    """Any single changed byte of any file but the reports: caught by the digest at least."""
    rng = np.random.default_rng(11)
    names = [name for name in json.loads((produced / "report.json").read_text())["files"] if not name.endswith(".bin")]
    for seed in range(25):
        folder = Path(shutil.copytree(produced, tmp_path / str(seed)))
        path = folder / names[int(rng.integers(len(names)))]
        data = bytearray(path.read_bytes())
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        assert not verify_folder(folder, run=False).ok


def test_numerics_notice_another_model(copy: Path) -> None:
    """A fake-quant model that computes something else is caught by running it, too."""
    _model("fake_quant", lambda m: _edit_array("fc.fakedequant.dqscale", lambda a: a * 2)(m))(copy)
    assert "numerics" in verify_folder(copy).failed


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"report\.json"):
        verify_folder(tmp_path)
    with pytest.raises(ConvertError, match="no such folder"):
        verify_folder(tmp_path / "missing")
