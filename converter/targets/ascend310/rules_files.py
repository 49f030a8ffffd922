# SPDX-License-Identifier: Apache-2.0
"""Checks of everything beside the models: configuration, calibration data, AIPP, the atc command. Each yields one line per violation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np
from google.protobuf import text_format

from ...errors import ConvertError
from . import configs, report, schemas_pb2
from .aipp import aipp_rules
from .commands import PATH_RULE, parse_atc
from .compression import parse_compression
from .folder import BrokenFileError, ProducedFolder
from .profiles import parse_input_shape, parse_profile
from .socs import known_socs

__all__ = ["aipp", "atc_command", "calibration_files", "configuration", "files", "json_config", "paths", "reports"]

Lines = Iterator[str]
_DYNAMIC = ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims")
_KNOWN_FLAGS = {
    "model", "framework", "output", "input_format", "input_shape", "soc_version", "log", "insert_op_conf", "enable_small_channel",
    "out_nodes", "output_type", "precision_mode", "op_select_implmode", "optypelist_for_implmode", "fusion_switch_file", "input_fp16_nodes",
    "buffer_optimize", "keep_dtype", "op_precision_mode", *_DYNAMIC,
}  # fmt: skip


def files(folder: ProducedFolder) -> Lines:
    """Every file is there, none was added, and all are byte for byte what was written."""
    written = folder.data.get("files", {})
    found = report.digests(folder.path)
    for name in sorted(set(written) | set(found)):
        if name not in found:
            yield f"{name} is missing"
        elif name not in written:
            yield f"{name} was added"
        elif written[name] != found[name]:
            yield f"{name} was changed after it was written"


def reports(folder: ProducedFolder) -> Lines:
    """report.json is complete and report.html shows it."""
    for key in ("net", "soc", "dequant", "opset", "batch_num", "inputs", "outputs", "layers", "float_layers", "files"):
        if key not in folder.data:
            yield f"report.json has no {key}"
            return
    soc = known_socs().get(str(folder.data["soc"]))
    if soc is None or soc.dequant != folder.data["dequant"]:
        yield f"report.json: chip {folder.data['soc']} with {folder.data['dequant']} dequantisation is unknown"
    if folder.text("report.html") != report.page(folder.data):
        yield "report.html does not show report.json"
    recorded, listed = set(folder.records), {row["name"] for row in folder.data["layers"]}
    if recorded != listed:
        yield f"report.json and the record name different layers: {sorted(recorded ^ listed)[:3]}"


def configuration(folder: ProducedFolder) -> Lines:
    """NET_quant.cfg parses as proto text, keeps AMCT's limits and fits the model."""
    name = f"{folder.net}_quant.cfg"
    try:
        config = configs.read_cfg(folder.text(name), name)
    except ConvertError as error:
        yield str(error)
        return
    yield from _config_fits(folder, config, name)
    quantised = set(folder.records)
    nodes = {node.name for node in folder.model("float").graph.node}
    for layer in config.skip_layers:
        if layer in quantised:
            yield f"{name}: {layer} is skipped, but quantised in the record"
        if layer not in nodes:
            yield f"{name}: skip_layers names {layer}, which the model does not have"


def _config_fits(folder: ProducedFolder, config: configs.QuantConfig, name: str) -> Lines:
    wanted = max(int(folder.data.get("batch_num", 0)), 1)
    if config.batch_num != wanted:
        yield f"{name}: batch_num {config.batch_num}, but {wanted} batch(es) were used"
    nodes = {node.name for node in folder.model("float").graph.node}
    for layer in config.by_name:
        if layer not in nodes:
            yield f"{name}: it names {layer}, which the model does not have"


def json_config(folder: ProducedFolder) -> Lines:
    """config.json parses, keeps AMCT's limits, and enables exactly the recorded layers."""
    text = folder.text("config.json")
    try:
        config = configs.read_json(text, "config.json")
    except ConvertError as error:
        yield str(error)
        return
    yield from _config_fits(folder, config, "config.json")
    enabled = {name for name, entry in json.loads(text).items() if isinstance(entry, dict) and entry.get("quant_enable")}
    if enabled != set(folder.records):
        yield f"config.json enables other layers than the record holds: {sorted(enabled ^ set(folder.records))[:3]}"
    for name, entry in json.loads(text).items():
        if isinstance(entry, dict) and entry.get("weight_quant_params", {}).get("channel_wise"):
            record = folder.records.get(name)
            node = next((n for n in folder.model("float").graph.node if n.name == name), None)
            if node is not None and node.op_type not in ("Conv", "ConvTranspose"):
                yield f"config.json: channel_wise is true for {name} ({node.op_type})"
            elif record is not None and not record.scale_w:
                yield f"config.json: {name} has no weight scales"


def calibration_files(folder: ProducedFolder) -> Lines:
    """One folder per input; as many files as batch_num; each of exactly shape * itemsize bytes; numbers only."""
    count = int(folder.data.get("batch_num", 0))
    for entry in folder.data.get("inputs", []):
        if not count:
            continue
        root = folder.path / "calibration" / entry["calibration"]
        present = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
        wanted = [f"{index:04d}.bin" for index in range(count)]
        if present != wanted:
            yield f"{entry['name']}: {len(present)} file(s) in calibration/{entry['calibration']}, expected {count} named 0000.bin and on"
            continue
        dtype = np.dtype(entry["dtype"])
        for index, name in enumerate(wanted):
            shapes = folder.data.get("batch_shapes") or []
            shape = shapes[index][entry["name"]] if shapes else entry["shape"]
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            given = (root / name).stat().st_size
            if given != size:
                yield f"{entry['name']}: {name} has {given} bytes, {list(shape)} of {dtype} has {size}"
            elif dtype.kind == "f" and not np.isfinite(np.fromfile(root / name, dtype=dtype.newbyteorder("<"))).all():
                yield f"{entry['name']}: {name} holds NaN or infinity"


def aipp(folder: ProducedFolder) -> Lines:
    """insert_op.cfg parses as proto text, stays in the image unit's ranges, and belongs to an input that can have it."""
    if folder.data.get("aipp") is None:
        if (folder.path / "insert_op.cfg").exists():
            yield "insert_op.cfg is there, but the report knows no AIPP"
        return
    message = schemas_pb2.InsertNewOps()
    try:
        text_format.Parse(folder.text("insert_op.cfg"), message)
    except text_format.ParseError as error:
        yield f"insert_op.cfg: {error}"
        return
    inputs = folder.data.get("inputs", [])
    if len(message.aipp_op) != 1:
        yield f"insert_op.cfg has {len(message.aipp_op)} operators, expected 1"
    for op in message.aipp_op:
        yield from (f"insert_op.cfg: {text}" for text in aipp_rules(op))
        if op.related_input_rank >= len(inputs):
            yield f"insert_op.cfg: the model has no input {op.related_input_rank}"
            continue
        entry = inputs[op.related_input_rank]
        layout = folder.data["aipp"]["layout"]
        if len(entry["shape"]) != 4 or entry["dtype"] != "float32":
            yield f"insert_op.cfg: input {entry['name']} of {entry['dtype']}{entry['shape']} cannot have AIPP (E10034)"
            continue
        sizes = dict(zip(layout, entry["shape"], strict=True))
        width = (op.crop_size_w if op.crop else op.src_image_size_w) + op.left_padding_size + op.right_padding_size
        height = (op.crop_size_h if op.crop else op.src_image_size_h) + op.top_padding_size + op.bottom_padding_size
        if (height, width) != (sizes["H"], sizes["W"]):
            yield f"insert_op.cfg gives {height}x{width}, input {entry['name']} is {sizes['H']}x{sizes['W']}"
        channels = {1: 3, 2: 3, 3: 3, 4: 1}.get(op.input_format, 0)
        if channels != sizes["C"]:
            yield f"insert_op.cfg gives {channels} channel(s), input {entry['name']} has {sizes['C']}"


def atc_command(folder: ProducedFolder) -> Lines:
    """atc.sh: parses, flags known and consistent, files there, names and sizes those of the model."""
    try:
        flags = parse_atc(folder.text("atc.sh"))
    except ValueError as error:
        yield f"atc.sh: {error}"
        return
    for name in sorted(set(flags) - _KNOWN_FLAGS):
        yield f"atc.sh: unknown flag --{name}"
    for name in ("model", "framework", "output", "input_shape", "soc_version", "input_format"):
        if not flags.get(name):
            yield f"atc.sh: --{name} is missing or empty (E10007, E10054)"
    if flags.get("framework", "5") != "5":
        yield f"atc.sh: --framework={flags['framework']}; ONNX is 5"
    if flags.get("soc_version") not in known_socs():
        yield f"atc.sh: --soc_version={flags.get('soc_version')} is unknown"
    elif flags["soc_version"] != folder.data.get("soc"):
        yield f"atc.sh: --soc_version={flags['soc_version']}, but the folder was made for {folder.data.get('soc')}"
    if flags.get("log", "null") not in ("debug", "info", "warning", "error", "null"):
        yield f"atc.sh: --log={flags['log']}"
    for name in ("model", "output", "insert_op_conf"):
        value = flags.get(name, "")
        if value and not PATH_RULE.match(value):
            yield f"atc.sh: --{name}={value} has characters that ATC refuses"
        if value and name != "output" and not (folder.path / value).is_file():
            yield f"atc.sh: --{name}={value} does not exist (E10410)"
    if flags.get("model") != f"./{folder.net}_deploy_model.onnx":
        yield f"atc.sh: --model={flags.get('model')} is not the deploy model"
    if (flags.get("insert_op_conf") is not None) != (folder.data.get("aipp") is not None):
        yield "atc.sh: --insert_op_conf and insert_op.cfg do not go together"
    yield from _atc_shapes(folder, flags)


def _atc_shapes(folder: ProducedFolder, flags: dict[str, str]) -> Lines:
    inputs = folder.data.get("inputs", [])
    try:
        shapes = parse_input_shape(flags.get("input_shape"))
        profile = parse_profile(*(flags.get(name) for name in _DYNAMIC))
    except ConvertError as error:
        yield f"atc.sh: {error}"
        return
    wanted = {entry["name"]: entry["shape"] for entry in inputs}
    if shapes != wanted:
        yield f"atc.sh: --input_shape gives {shapes}, the model has {wanted} (E10016, E10049)"
    stored = folder.data.get("profile")
    given = None if profile is None else {"flag": profile.flag, "value": profile.text()}
    if stored != given:
        yield f"atc.sh: dynamic profile {given}, the folder was made for {stored}"
    if any(-1 in sizes for sizes in shapes.values()) != (profile is not None):
        yield "atc.sh: -1 sizes and a dynamic flag go together (E10018, E10019)"
    images = all(len(sizes) == 4 for sizes in shapes.values())
    if flags.get("input_format") not in ("NCHW", "NHWC", "ND", "NCDHW"):
        yield f"atc.sh: --input_format={flags.get('input_format')}"
    elif flags["input_format"] in ("NCHW", "NHWC") and not images:
        yield f"atc.sh: --input_format={flags['input_format']} for inputs that are no images"
    if profile is not None and profile.flag == "dynamic_dims" and "insert_op_conf" in flags:
        yield "atc.sh: --insert_op_conf and --dynamic_dims exclude each other"
    if folder.data.get("aipp") and flags.get("input_format") != folder.data["aipp"]["layout"]:
        yield f"atc.sh: --input_format={flags.get('input_format')}, AIPP needs {folder.data['aipp']['layout']}"


def paths(folder: ProducedFolder) -> Lines:
    """No text of the folder holds an absolute path; ATC takes the file names; the optional compression file fits."""
    for path in sorted(folder.path.iterdir()):
        if path.is_file() and path.suffix in (".sh", ".md", ".cfg", ".json", ".html", ".txt"):
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                yield f"{path.name} is not UTF-8"
                continue
            for match in re.finditer(r"(?:^|[\s\"'=:(])(/(?:home|root|tmp|work|usr|opt|mnt|data|Users|var)/[^\s\"']*)", text):
                if not _is_name(folder, match.group(1)):
                    yield f"{path.name} holds the absolute path {match.group(1)}"
        if path.suffix == ".onnx" and not PATH_RULE.match(path.name):
            yield f"{path.name} has characters that ATC refuses"
    if (folder.path / "compression_optimize.cfg").exists():
        try:
            keys = parse_compression(folder.text("compression_optimize.cfg"))
        except ValueError as error:
            yield f"compression_optimize.cfg: {error}"
            return
        for key in ("input_data_dir", "input_shape", "infer_soc"):
            if key not in keys:
                yield f"compression_optimize.cfg has no {key}"
        for name in keys.get("input_data_dir", "").split(","):
            if not (folder.path / name).is_file():
                yield f"compression_optimize.cfg: {name} does not exist"


def _is_name(folder: ProducedFolder, text: str) -> bool:
    """Layer names of some exporters start with a slash."""
    try:
        return any(text.startswith(node.name) for node in folder.model("float").graph.node if node.name.startswith("/"))
    except BrokenFileError:
        return False
