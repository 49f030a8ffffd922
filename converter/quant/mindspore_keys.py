# SPDX-License-Identifier: Apache-2.0
"""The keys of MindSpore's quantisation configurations, and what edge8 makes of each.

r1.3 has a flat file of key=value lines; since r1.5 there are INI sections. A row's ``apply`` takes the value's text and gives flags
(by their names, without dashes), or a string: why the value is ignored. It raises ValueError where the value is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .corrections import CORRECTIONS

__all__ = ["FLAT", "KEYS", "MIXED", "MIXED_TARGET", "Key"]

FLAT = "flat"
MIXED = "mixed"
MIXED_TARGET = "mixed-target"
"""Flags that hold only where a width is found for each layer; `configs` puts them in or drops them."""

Apply = Callable[[str], "dict[str, Any] | str"]


@dataclass(frozen=True)
class Key:
    """One key: what the table in the docs says of it, and the function that does it."""

    text: str
    apply: Apply


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "on", "off"):
        raise ValueError("write true or false")
    return text.lower() in ("true", "on")


def _integer(text: str, low: int, high: int = 2**31 - 1) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ValueError("write a whole number") from None
    if not low <= value <= high:
        raise ValueError(f"it must be {low} to {high}" if high < 2**31 - 1 else f"it must be at least {low}")
    return value


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in _list(text.strip("[]"))]
    except ValueError:
        raise ValueError("write numbers separated by commas") from None


# ---- kinds of rows ---------------------------------------------------------------------------------------------------------------------


def _number(flag: str, note: str = "", low: int = 1, high: int = 2**31 - 1) -> Key:
    return Key(f"`--{flag}`{note and f'; {note}'}", lambda text: {flag: _integer(text, low, high)})


def _choice(flag: str, values: Mapping[str, str | None], note: str = "") -> Key:
    """Words to a flag's values; None: this is how edge8 does it anyway. Upper and lower case are equal."""
    words = ", ".join(f"{theirs} = {ours}" for theirs, ours in values.items() if ours is not None)

    def apply(text: str) -> dict[str, Any]:
        lowered = {theirs.lower(): ours for theirs, ours in values.items()}
        if text.lower() not in lowered:
            raise ValueError(f"known are {', '.join(values)}")
        ours = lowered[text.lower()]
        return {} if ours is None else {flag: ours}

    return Key(f"`--{flag}`: {words}{note and f'; {note}'}", apply)


def _ignored(reason: str) -> Key:
    return Key(f"ignored with a warning: {reason}", lambda text: reason)


def _refused(reason: str) -> Key:
    def apply(text: str) -> dict[str, Any]:
        raise ValueError(f"is refused: {reason}")

    return Key(f"refused: {reason}", apply)


def _switch(on: str = "", off: str = "") -> Key:
    """A boolean: the reason why true or false is ignored; empty: it is how edge8 works anyway."""
    parts = [
        f"{word}: {f'ignored with a warning: {reason}' if reason else 'as edge8 does it'}"
        for word, reason in (("true", on), ("false", off))
    ]
    return Key("; ".join(parts), lambda text: (on if _boolean(text) else off) or {})


def _words(usual: tuple[str, ...], others: Mapping[str, str], refused: bool = False) -> Key:
    """Words: the usual ones need nothing, each other one is ignored (or refused) for a reason."""
    text = "; ".join(
        [
            f"{', '.join(usual)}: as edge8 does it",
            *(f"{w}: {'refused' if refused else 'ignored with a warning'}: {r}" for w, r in others.items()),
        ]
    )

    def apply(value: str) -> dict[str, Any] | str:
        reasons = {word.lower(): reason for word, reason in others.items()}
        if value.lower() in (word.lower() for word in usual):
            return {}
        if value.lower() not in reasons:
            raise ValueError(f"known are {', '.join([*usual, *others])}")
        if refused:
            raise ValueError(f"is refused: {reasons[value.lower()]}")
        return reasons[value.lower()]

    return Key(text, apply)


def _folders(text: str) -> dict[str, Any]:
    found = _list(text)
    if not found:
        raise ValueError("it names no folder")
    return {"folders": found}


def _named_folders(text: str) -> dict[str, Any]:
    """``name:folder,name:folder``; names may contain colons, folders not."""
    pairs = []
    for part in _list(text):
        name, colon, folder = part.rpartition(":")
        if not colon or not name or not folder:
            raise ValueError("write input:folder, several separated by commas")
        pairs.append(f"{name}={folder}")
    if not pairs:
        raise ValueError("it names no folder")
    return {"calibration": pairs}


def _bit_num(text: str) -> dict[str, Any]:
    bits = _integer(text, 0, 16)
    return {"bits": bits or MIXED}


def _error_threshold(text: str) -> dict[str, Any]:
    """A mean relative error of the outputs, as SQNR."""
    try:
        error = float(text)
    except ValueError:
        raise ValueError("write a number") from None
    if not 0 < error < 1:
        raise ValueError("it must be between 0 and 1")
    return {MIXED_TARGET: {"target-sqnr": round(-20 * math.log10(error), 2)}}


def _auto_tune(text: str) -> dict[str, Any]:
    return {MIXED_TARGET: {"max-drop": 0.005, "metric": "cosine"}} if _boolean(text) else {}


def _quant_type(text: str) -> dict[str, Any]:
    kinds = {"weight_quant": "weight", "full_quant": "full", "dynamic_quant": "dynamic"}
    if text.lower() not in kinds:
        raise ValueError("known are WEIGHT_QUANT, FULL_QUANT, DYNAMIC_QUANT")
    return {"quant": kinds[text.lower()]}


def _bias_correction(text: str) -> dict[str, Any]:
    return {} if _boolean(text) else {"corrections": ",".join(name for name in CORRECTIONS if name != "bias")}


_METHODS = {"MAX_MIN": "minmax", "KL": "kl", "REMOVAL_OUTLIER": "removal-outlier"}
_BIAS_TEXT = "true: as edge8 does it; false: `--corrections` without bias"
_PER_LAYER = "weights have a scale per output channel, which is never less accurate"
_TARGETS = {
    "ASCEND": "use --target ascend310",
    "NVGPU": "edge8 has no GPU target; --target onnx-qdq makes a model for TensorRT",
    "DSP": "edge8 has no such target; --target onnx-qdq makes a standard model",
    "KIRIN": "edge8 has no such target; --target onnx-qdq makes a standard model",
}

KEYS: dict[tuple[str, str], Key] = {
    (FLAT, "image_path"): Key("`--calibration`, one folder per input in their order", _folders),
    (FLAT, "batch_count"): _number("samples", "without it all samples are used"),
    (FLAT, "method_x"): _choice("method", {"KL": "kl", "MAX_MIN": "minmax", "RemovalOutlier": "removal-outlier"}, "without it `auto`"),
    (FLAT, "thread_num"): _number("threads"),
    (FLAT, "bias_correction"): Key(_BIAS_TEXT, _bias_correction),
    (FLAT, "plugin_path"): _refused("plugins of MindSpore's converter cannot be loaded"),
    (FLAT, "disable_fusion"): _switch(on="fusions do not change results here"),
    (FLAT, "input_shapes"): _refused("all samples have the network's shape, which --input-shape gives"),
    (FLAT, "mixed"): Key(
        "true: `--quant weight --bits mixed`, which needs a target; false: as edge8 does it",
        lambda text: {"quant": "weight", "bits": MIXED} if _boolean(text) else {},
    ),
    (FLAT, "mean_error_threshold"): Key(
        "with `mixed=true` `--target-sqnr` of a relative error of this size (0.04: 27.96 dB); else ignored with a warning",
        _error_threshold,
    ),
    ("common_quant_param", "quant_type"): Key("`--quant`: WEIGHT_QUANT = weight, FULL_QUANT = full, DYNAMIC_QUANT = dynamic", _quant_type),
    ("common_quant_param", "bit_num"): Key("`--bits` 1 to 16; 0 = mixed, which needs a target", _bit_num),
    ("common_quant_param", "min_quant_weight_size"): _number("min-elements", low=0, high=65535),
    ("common_quant_param", "min_quant_weight_channel"): _number("min-channels", "0 without it, MindSpore has 16", low=0, high=65535),
    ("common_quant_param", "skip_quant_node"): Key("`--skip`, names separated by commas", lambda text: {"skip": _list(text)}),
    ("common_quant_param", "debug_info_save_path"): Key(
        "`--report` FOLDER/report.html", lambda text: {"report": f"{text.rstrip('/')}/report.html"}
    ),
    ("common_quant_param", "enable_encode"): _switch(off="weights are always stored in as many bits as they have"),
    ("common_quant_param", "workspace"): _ignored("nothing is written beside the output"),
    ("weight_quant_param", "per_channel"): _switch(off=_PER_LAYER),
    ("weight_quant_param", "bias_correction"): _switch(on="dequantised weights need no correction of mean and variance here"),
    ("weight_quant_param", "dequant_strategy"): _words(("ON_THE_FLY",), {}),
    ("weight_quant_param", "quant_strategy"): _words(("MAX_MIN",), {"GPTQ": "rounding is optimised where it helps"}),
    ("weight_quant_param", "update_mindir"): _ignored("there is no MindIR file"),
    ("weight_quant_param", "max_segments"): _ignored("weights are decoded where they are used"),
    ("mixed_bit_weight_quant_param", "init_scale"): _ignored("the target of mixed widths is --target-sqnr, --target-size or --max-drop"),
    ("mixed_bit_weight_quant_param", "auto_tune"): Key(
        "true: `--max-drop 0.005 --metric cosine` where `bit_num=0`, else ignored with a warning; false: give a target", _auto_tune
    ),
    ("mixed_bit_weight_quant_param", "use_cv_data"): _switch(on="give --calibration"),
    ("mixed_bit_weight_quant_param", "max_iterations"): _ignored("the search ends by itself"),
    ("full_quant_param", "activation_quant_method"): _choice("method", _METHODS, "without it `auto`"),
    ("full_quant_param", "bias_correction"): Key(_BIAS_TEXT, _bias_correction),
    ("full_quant_param", "per_channel"): _switch(off=_PER_LAYER),
    ("full_quant_param", "target_device"): _words(("CPU",), _TARGETS, refused=True),
    ("full_quant_param", "smooth_alpha"): _ignored("channels are equalised from what calibration sees"),
    ("full_quant_param", "enable_smooth_shift"): _ignored("channels are equalised from what calibration sees"),
    ("data_preprocess_param", "calibrate_path"): Key("`--calibration` input=folder", _named_folders),
    ("data_preprocess_param", "calibrate_size"): _number("samples", high=65535),
    ("data_preprocess_param", "input_type"): _words(("IMAGE", "BIN"), {}),
    ("data_preprocess_param", "image_to_format"): _choice("channels", {"RGB": "rgb", "BGR": "bgr", "GRAY": "gray"}),
    ("data_preprocess_param", "normalize_mean"): Key("`--mean`", lambda text: {"mean": _numbers(text)}),
    ("data_preprocess_param", "normalize_std"): Key("`--std`", lambda text: {"std": _numbers(text)}),
    ("data_preprocess_param", "resize_width"): Key(
        "`--resize`, with resize_height", lambda text: {"resize-width": _integer(text, 1, 16384)}
    ),
    ("data_preprocess_param", "resize_height"): Key(
        "`--resize`, with resize_width", lambda text: {"resize-height": _integer(text, 1, 16384)}
    ),
    ("data_preprocess_param", "resize_method"): _choice("interpolation", {"LINEAR": "linear", "NEAREST": "nearest", "CUBIC": "cubic"}),
    ("data_preprocess_param", "center_crop_width"): Key(
        "`--crop`, with center_crop_height", lambda text: {"crop-width": _integer(text, 1, 16384)}
    ),
    ("data_preprocess_param", "center_crop_height"): Key(
        "`--crop`, with center_crop_width", lambda text: {"crop-height": _integer(text, 1, 16384)}
    ),
    ("dynamic_quant_param", "quant_strategy"): _ignored("every row of activations and every output channel has a scale of its own"),
    ("transform_quant_param", "export_precision_mode"): _words(("QUANT",), {"FLOAT32": "use --quant float"}, refused=True),
    ("cpu_option_cfg_param", "architecture"): _ignored("one file runs on every CPU"),
    ("cpu_option_cfg_param", "instruction"): _ignored("the runtime chooses the instructions when it starts"),
    **{
        ("micro_param", name): _ignored("microcontrollers run .e8 files with libedge8; no code is generated")
        for name in (
            "enable_micro",
            "target",
            "support_parallel",
            "save_path",
            "project_name",
            "inputs_shape",
            "dynamic_dim_params",
            "debug_mode",
            "codegen_mode",
            "download_model",
        )
    },
}
