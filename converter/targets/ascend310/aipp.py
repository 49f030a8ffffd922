# SPDX-License-Identifier: Apache-2.0
"""insert_op.cfg: the chip's image unit (AIPP) does crop, colour conversion and normalisation of camera pictures.

The camera file (TOML) says what the camera delivers; mean, std and channel order are those of the preprocessing description that
made the calibration data (its keys may stand in the camera file too):

  input_format = "YUV420SP_U8"      # or RGB888_U8, XRGB8888_U8, YUV400_U8
  src_image_size = [480, 640]       # height, width the camera delivers; the model's own size when left out
  crop_start = [0, 0]               # top, left of the cut; centred when left out
  order = "rgb"                     # byte order of RGB888/XRGB8888; "bgr" swaps
  nv21 = false                      # YUV420SP with V before U
  color = "bt601-full"              # or bt601-narrow, bt709-narrow: how YUV encodes RGB
  padding = [0, 0, 0, 0]            # left, right, top, bottom, each 0 to 32, with padding_value
  input = "image"                   # which input; needed when the model has several
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from onnx import TensorProto

from ...errors import ConvertError
from ...preprocess import Preprocess
from . import schemas_pb2
from .onnx_graph import OnnxGraph
from .profiles import Profile

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library has it from 3.11 on
    import tomli as tomllib

__all__ = ["AippPlan", "aipp_rules", "make_aipp", "read_camera"]

_CHANNELS = {"YUV420SP_U8": 3, "RGB888_U8": 3, "XRGB8888_U8": 4, "YUV400_U8": 1}
_CAMERA_KEYS = ("input_format", "src_image_size", "crop_start", "order", "nv21", "color", "padding", "padding_value", "input")
_HALF_MAX = 65504.0


@dataclass(frozen=True)
class AippPlan:
    """The file's text and what it means for the atc command.

    Attributes:
        text: insert_op.cfg.
        input_name: the input it belongs to.
        layout: ``"NCHW"`` or ``"NHWC"`` of that input.
        source: (height, width) of the camera picture.
        input_format: what the camera delivers.
        deviation: largest difference, in units of the normalised input, that the float16 coefficients cause.
        notes: for the report.
    """

    text: str
    input_name: str
    layout: str
    source: tuple[int, int]
    input_format: str
    deviation: float
    notes: tuple[str, ...]


def read_camera(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], Preprocess | None]:
    """(camera keys, preprocessing keys that stand beside them or None).

    Raises:
        ConvertError: unreadable file, unknown key, missing input_format.
    """
    where = "--aipp" if isinstance(source, Mapping) else str(source)
    if isinstance(source, Mapping):
        data = dict(source)
    else:
        try:
            data = tomllib.loads(Path(source).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConvertError(
                f"cannot read the camera description: {error}", rule="aipp.file", where=where, hint="Give a TOML file"
            ) from error
    camera = {key: data.pop(key) for key in _CAMERA_KEYS if key in data}
    known = {field.name for field in fields(Preprocess)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ConvertError(
            f"unknown key(s) {unknown}",
            rule="aipp.key",
            where=where,
            hint=f"Known: {', '.join(_CAMERA_KEYS)}; and of preprocessing: {', '.join(sorted(known))}",
        )
    if camera.get("input_format") not in _CHANNELS:
        raise ConvertError(
            f"input_format {camera.get('input_format')!r}", rule="aipp.format", where=where, hint=f"Choose one of {', '.join(_CHANNELS)}"
        )
    return camera, Preprocess.from_dict(data, where) if data else None


def _target(
    graph: OnnxGraph, camera: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], steps: Preprocess
) -> tuple[str, int, str, int, int, int]:
    """(name, rank among the inputs, layout, height, width, channels) of the input that gets AIPP."""
    names = [value.name for value in graph.inputs]
    name = camera.get("input") or (names[0] if len(names) == 1 else "")
    if name not in names:
        raise ConvertError(
            f"input {name!r} does not exist" if name else "the model has several inputs",
            rule="aipp.input",
            where="--aipp",
            hint=f'Say input = "…", one of {", ".join(names)}',
        )
    index = names.index(name)
    kind = graph.inputs[index].type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        raise ConvertError(
            f"input {name!r} has type {TensorProto.DataType.Name(kind)}",
            rule="aipp.type",
            where="--aipp",
            hint="AIPP gives pictures to a float input (ATC: E10034)",
        )
    shape = list(shapes[name])
    channels = 3 if _CHANNELS[camera["input_format"]] == 4 else _CHANNELS[camera["input_format"]]
    if len(shape) != 4:
        raise ConvertError(
            f"input {name!r} of shape {shape} is no picture", rule="aipp.rank", where="--aipp", hint="AIPP needs a 4-D input, NCHW or NHWC"
        )
    wanted = {"nchw": ["NCHW"], "nhwc": ["NHWC"]}.get(steps.layout, ["NCHW", "NHWC"])
    layout = next((lay for lay in wanted if shape[lay.index("C")] == channels), "")
    if not layout:
        raise ConvertError(
            f"input {name!r} of shape {shape} has no axis of {channels} channels",
            rule="aipp.channels",
            where="--aipp",
            hint=f"{camera['input_format']} gives {channels}",
        )
    return name, index, layout, shape[layout.index("H")], shape[layout.index("W")], channels


def make_aipp(
    graph: OnnxGraph,
    shapes: Mapping[str, Sequence[int]],
    camera: Mapping[str, Any],
    steps: Preprocess,
    profile: Profile | None,
) -> AippPlan:
    """Build insert_op.cfg.

    Raises:
        ConvertError: the input cannot have AIPP, or values outside the unit's ranges.
    """
    if profile is not None and profile.flag != "dynamic_batch_size":
        raise ConvertError(
            f"AIPP and {profile.ours} exclude each other", rule="aipp.dynamic", where="--aipp", hint="Use static shapes or --dynamic-batch"
        )
    name, index, layout, height, width, channels = _target(graph, camera, shapes, steps)
    form = camera["input_format"]
    message = schemas_pb2.InsertNewOps()
    op = message.aipp_op.add()
    op.aipp_mode = op.AippMode.Value("static")
    op.related_input_rank = index
    op.input_format = op.InputFormat.Value(form)
    notes: list[str] = []
    source = _geometry(op, camera, height, width, steps, notes)
    _colours(op, camera, form, steps)
    deviation = _normalisation(op, steps, channels)
    problems = aipp_rules(op)
    if problems:
        raise ConvertError("; ".join(problems), rule="aipp.range", where="--aipp", hint="The image unit has no such value (ATC: E10052)")
    return AippPlan(str(text_format.MessageToString(message)), name, layout, source, form, deviation, tuple(notes))


def _geometry(op: Any, camera: Mapping[str, Any], height: int, width: int, steps: Preprocess, notes: list[str]) -> tuple[int, int]:
    padding = list(camera.get("padding", [0, 0, 0, 0]))
    if len(padding) != 4 or any(not isinstance(p, int) for p in padding):
        raise ConvertError(f"padding {padding}", rule="aipp.padding", where="--aipp", hint="Give left, right, top, bottom")
    left, right, top, bottom = padding
    inner_h, inner_w = height - top - bottom, width - left - right
    size = list(camera.get("src_image_size", [inner_h, inner_w]))
    if len(size) != 2 or any(not isinstance(s, int) for s in size):
        raise ConvertError(f"src_image_size {size}", rule="aipp.size", where="--aipp", hint="Give height and width")
    op.src_image_size_h, op.src_image_size_w = size
    if size != [inner_h, inner_w]:
        if size[0] < inner_h or size[1] < inner_w or inner_h < 1 or inner_w < 1:
            raise ConvertError(
                f"the camera picture {size} is smaller than what the model takes, {[inner_h, inner_w]}", rule="aipp.size", where="--aipp",
                hint="AIPP cuts and pads but does not resize: resize with DVPP first, or add padding",
            )  # fmt: skip
        start = list(camera.get("crop_start", [(size[0] - inner_h) // 2 & ~1, (size[1] - inner_w) // 2 & ~1]))
        op.crop = True
        op.load_start_pos_h, op.load_start_pos_w = start
        op.crop_size_h, op.crop_size_w = inner_h, inner_w
        if start[0] < 0 or start[1] < 0 or start[0] + inner_h > size[0] or start[1] + inner_w > size[1]:
            raise ConvertError(
                f"crop_start {start} leaves the picture",
                rule="aipp.crop",
                where="--aipp",
                hint=f"The cut is {[inner_h, inner_w]} of {size}",
            )
        notes.append(f"AIPP cuts {inner_h}x{inner_w} from {size[0]}x{size[1]} at top {start[0]}, left {start[1]}; it does not resize")
    if any(padding):
        op.padding = True
        op.left_padding_size, op.right_padding_size, op.top_padding_size, op.bottom_padding_size = padding
        op.padding_value = float(camera.get("padding_value", 0.0))
    if steps.resize is not None:
        notes.append(
            f"the calibration pictures were resized to {list(steps.resize)}; on the board DVPP or the camera must do that before AIPP"
        )
    return size[0], size[1]


def _matrix(color: str, bgr: bool) -> tuple[list[list[int]], list[int]]:
    """YUV -> RGB in 1/256 units from the luma weights of the standard."""
    weights = {
        "bt601-full": (0.299, 0.114, 1.0, 1.0, 0),
        "bt601-narrow": (0.299, 0.114, 255 / 219, 255 / 224, 16),
        "bt709-narrow": (0.2126, 0.0722, 255 / 219, 255 / 224, 16),
    }
    if color not in weights:
        raise ConvertError(f"color {color!r}", rule="aipp.color", where="--aipp", hint=f"Choose one of {', '.join(weights)}")
    red, blue, gain_y, gain_c, black = weights[color]
    green = 1 - red - blue
    rows = [
        [gain_y, 0.0, gain_c * 2 * (1 - red)],
        [gain_y, -gain_c * 2 * (1 - blue) * blue / green, -gain_c * 2 * (1 - red) * red / green],
        [gain_y, gain_c * 2 * (1 - blue), 0.0],
    ]
    table = [[round(256 * value) for value in row] for row in rows]
    return (table[::-1] if bgr else table), [black, 128, 128]


def _colours(op: Any, camera: Mapping[str, Any], form: str, steps: Preprocess) -> None:
    bgr = steps.channels == "bgr"
    order = camera.get("order", "rgb")
    if order not in ("rgb", "bgr"):
        raise ConvertError(f"order {order!r}", rule="aipp.order", where="--aipp", hint="Choose rgb or bgr")
    if form == "YUV400_U8":
        op.csc_switch = False
    elif form == "YUV420SP_U8":
        op.csc_switch = True
        op.rbuv_swap_switch = bool(camera.get("nv21", False))
        table, bias = _matrix(camera.get("color", "bt601-full"), bgr)
        for r, row in enumerate(table):
            for c, value in enumerate(row):
                setattr(op, f"matrix_r{r}c{c}", value)
        for i, value in enumerate(bias):
            setattr(op, f"input_bias_{i}", value)
    else:
        op.csc_switch = False
        op.rbuv_swap_switch = (order == "bgr") != bgr
        if form == "XRGB8888_U8":
            op.ax_swap_switch = True


def _normalisation(op: Any, steps: Preprocess, channels: int) -> float:
    """(in - mean) / std = (in - mean_chn - min_chn) * var_reci_chn. Returns the deviation that float16 coefficients cause."""
    mean = list(steps.mean or (0.0,))
    std = list(steps.std or (1.0,))
    mean = mean * channels if len(mean) == 1 else mean
    std = std * channels if len(std) == 1 else std
    whole = all(float(m).is_integer() and 0 <= m <= 255 for m in mean)
    worst = 0.0
    for i in range(channels):
        if whole:
            setattr(op, f"mean_chn_{i}", int(mean[i]))
        else:
            setattr(op, f"min_chn_{i}", mean[i])
        setattr(op, f"var_reci_chn_{i}", 1.0 / std[i])
        rounded_mean = mean[i] if whole else float(np.float16(mean[i]))
        rounded = float(np.float16(1.0 / std[i]))
        for pixel in (0.0, 255.0):
            worst = max(worst, abs((pixel - rounded_mean) * rounded - (pixel - mean[i]) / std[i]))
    return worst


def aipp_rules(op: Any) -> list[str]:
    """Violations of the image unit's ranges in one AippOpParams."""
    out = []

    def between(names: Sequence[str], low: float, high: float) -> None:
        for name in names:
            if op.HasField(name) and not low <= getattr(op, name) <= high:
                out.append(f"{name} {getattr(op, name)} is outside {low:g} to {high:g}")

    if op.aipp_mode != 1:
        out.append("aipp_mode is not static")
    if op.input_format == 0:
        out.append("input_format is missing")
    between(["src_image_size_w"], 2, 4096)
    between(["src_image_size_h"], 1, 4096)
    between(["left_padding_size", "right_padding_size", "top_padding_size", "bottom_padding_size"], 0, 32)
    between([f"mean_chn_{i}" for i in range(4)], 0, 255)
    between([f"min_chn_{i}" for i in range(4)], 0, 255)
    between([f"var_reci_chn_{i}" for i in range(4)], -_HALF_MAX, _HALF_MAX)
    between([f"matrix_r{r}c{c}" for r in range(3) for c in range(3)], -32677, 32676)
    between([f"{side}_bias_{i}" for side in ("input", "output") for i in range(3)], 0, 255)
    if op.input_format == 1 and (op.src_image_size_w % 2 or op.src_image_size_h % 2):
        out.append("YUV420SP pictures need even sizes")
    if op.input_format == 1 and op.crop and (op.load_start_pos_w % 2 or op.load_start_pos_h % 2):
        out.append("a cut of a YUV420SP picture starts at even positions")
    if op.crop and (
        op.load_start_pos_w + op.crop_size_w > op.src_image_size_w or op.load_start_pos_h + op.crop_size_h > op.src_image_size_h
    ):
        out.append("the cut leaves the picture")
    width = (op.crop_size_w if op.crop else op.src_image_size_w) + op.left_padding_size + op.right_padding_size
    if op.padding and width > 1080:
        out.append(f"padded width {width} is above 1080")
    return out
