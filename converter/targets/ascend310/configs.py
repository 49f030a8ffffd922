# SPDX-License-Identifier: Apache-2.0
"""AMCT's configuration: the simplified .cfg (proto text) and config.json, read, checked and written; settings resolved per layer."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

from ...errors import ConvertError
from . import schemas_pb2
from .ifmr import IfmrParams
from .layers import QUANTISABLE, Layer

__all__ = [
    "AMCT_VERSIONS", "LayerConfig", "QuantConfig", "TensorConfig", "read_cfg", "read_config", "read_json", "write_cfg", "write_json",
]  # fmt: skip

# Key sets of config.json. Releases before 6 refuse the later keys ("Unknown parameter").
AMCT_VERSIONS = {"5": False, "6": True, "7": True, "8": True}
_BINS = (1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class LayerConfig:
    """How one layer is quantised.

    Attributes:
        algorithm: ``"ifmr"`` or ``"hfmg"``.
        ifmr: the search of IFMR; bins: the histogram of HFMG.
        asymmetric: activation offset allowed; None leaves it to ``activation_offset``.
        channel_wise: weight scales per output channel; None is the default of the layer type.
    """

    algorithm: str = "ifmr"
    ifmr: IfmrParams = field(default_factory=IfmrParams)
    bins: int = 4096
    asymmetric: bool | None = None
    channel_wise: bool | None = None


@dataclass(frozen=True)
class TensorConfig:
    """One tensor_quantize entry: the input ``index`` of layer ``name`` is quantised and restored."""

    name: str
    index: int
    config: LayerConfig


@dataclass(frozen=True)
class QuantConfig:
    """The whole configuration, as AMCT has it. Priority: by name > by type > common > activation_offset."""

    batch_num: int | None = None
    activation_offset: bool = True
    do_fusion: bool = True
    joint_quant: bool = False
    skip_layers: tuple[str, ...] = ()
    skip_layer_types: tuple[str, ...] = ()
    skip_fusion_layers: tuple[str, ...] = ()
    common: LayerConfig = LayerConfig()
    by_type: Mapping[str, LayerConfig] = field(default_factory=dict)
    by_name: Mapping[str, LayerConfig] = field(default_factory=dict)
    tensors: tuple[TensorConfig, ...] = ()
    listed: frozenset[str] | None = None

    def resolve(self, layer: Layer) -> LayerConfig:
        """Settings of one layer with every default filled in.

        Raises:
            ConvertError: per-channel scales asked for where the chip has none.
        """
        config = self.by_name.get(layer.name) or self.by_type.get(layer.op) or self.common
        asymmetric = self.activation_offset if config.asymmetric is None else config.asymmetric
        explicit = layer.name in self.by_name or layer.op in self.by_type
        channel_wise = layer.channel_wise if config.channel_wise is None else config.channel_wise
        if channel_wise and not layer.channel_wise:
            if explicit:
                raise ConvertError(
                    f"channel_wise is true, but {layer.op} takes one weight scale",
                    rule="config.channel_wise",
                    where=layer.name,
                    hint="Set it to false",
                )
            channel_wise = False
        return replace(config, asymmetric=asymmetric and not layer.symmetric_only, channel_wise=channel_wise)

    def check_names(self, layers: Sequence[Layer], node_types: Mapping[str, str]) -> None:
        """Every name and type in the configuration exists in the model.

        Raises:
            ConvertError: with the closest names.
        """
        known = {layer.name for layer in layers}
        for where, names in (("skip_layers", self.skip_layers), ("override_layer_configs", tuple(self.by_name))):
            for name in names:
                if name not in node_types:
                    raise ConvertError(
                        f"the model has no layer {name!r}", rule="config.layer", where=where, hint=_closest(name, node_types)
                    )
                if name not in known and where != "skip_layers":
                    raise ConvertError(
                        f"{name!r} ({node_types[name]}) is not quantisable",
                        rule="config.layer",
                        where=where,
                        hint=f"Quantisable: {', '.join(sorted(known)[:8])}",
                    )
        for where, types in (("skip_layer_types", self.skip_layer_types), ("override_layer_types", tuple(self.by_type))):
            for kind in types:
                if kind not in QUANTISABLE:
                    raise ConvertError(
                        f"{kind!r} is not a quantisable type", rule="config.type", where=where, hint=f"Types: {', '.join(QUANTISABLE)}"
                    )
        for tensor in self.tensors:
            if tensor.name not in node_types:
                raise ConvertError(
                    f"the model has no layer {tensor.name!r}",
                    rule="config.layer",
                    where="tensor_quantize",
                    hint=_closest(tensor.name, node_types),
                )
            if node_types[tensor.name] not in ("MaxPool", "Add"):
                raise ConvertError(
                    f"{tensor.name!r} is a {node_types[tensor.name]}",
                    rule="config.tensor",
                    where="tensor_quantize",
                    hint="Only MaxPool and Add take it",
                )

    def skipped(self, layer: Layer) -> str:
        """Why the configuration leaves the layer in float; empty when it does not."""
        if layer.name in self.skip_layers:
            return "skip_layers"
        if layer.op in self.skip_layer_types:
            return "skip_layer_types"
        if self.listed is not None and layer.name not in self.listed:
            return "quant_enable is not set in config.json"
        return ""


def _closest(name: str, names: Collection[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(names), 3, 0.5)
    return f"Did you mean {' or '.join(repr(c) for c in close)}?" if close else "Layer names are ONNX node names; see report.json"


def _short(value: float) -> float:
    """A float32 field as the decimal number that was written."""
    return float(str(np.float32(value)))


def _checked_ifmr(params: IfmrParams, where: str) -> IfmrParams:
    def fail(text: str) -> None:
        raise ConvertError(
            text, rule="config.range", where=where, hint="AMCT's limits: percentiles in (0.5, 1], 0 < start < end, 0 < step <= end - start"
        )

    if not (0.5 < params.max_percentile <= 1.0 and 0.5 < params.min_percentile <= 1.0):
        fail(f"percentiles {params.max_percentile}, {params.min_percentile} outside (0.5, 1]")
    if not 0 < params.search_start < params.search_end:
        fail(f"search range {params.search_start} to {params.search_end}")
    if not 0 < params.search_step <= params.search_end - params.search_start:
        fail(f"search step {params.search_step}")
    if math.ceil((params.search_end - params.search_start) / params.search_step) > 10000:
        fail(f"search step {params.search_step} gives more than 10000 candidates")
    return params


def _calibration(message: Any, where: str) -> LayerConfig:
    """LayerConfig of a CalibrationConfig message."""
    for name in ("nuq_quantize", "ada_quantize", "dmq_balancer"):
        if message.HasField(name):
            raise ConvertError(
                f"{name} has no form here",
                rule="config.algorithm",
                where=where,
                hint="Remove it; --method rounding adapts the rounding of weights",
            )
    if message.HasField("ifmr_quantize") and message.HasField("hfmg_quantize"):
        raise ConvertError("both ifmr_quantize and hfmg_quantize", rule="config.algorithm", where=where, hint="Keep one")
    config = LayerConfig()
    if message.HasField("arq_quantize"):
        arq = message.arq_quantize
        if arq.quant_bits != 8:
            raise ConvertError(f"{arq.quant_bits}-bit weights", rule="config.bits", where=where, hint="The Ascend 310 computes with 8 bits")
        if arq.HasField("channel_wise"):
            config = replace(config, channel_wise=arq.channel_wise)
    return _activation(config, message, where)


def _activation(config: LayerConfig, message: Any, where: str) -> LayerConfig:
    if message.HasField("hfmg_quantize"):
        hfmg = message.hfmg_quantize
        if hfmg.num_of_bins not in _BINS:
            raise ConvertError(f"num_of_bins {hfmg.num_of_bins}", rule="config.bins", where=where, hint=f"Choose one of {_BINS}")
        config = replace(config, algorithm="hfmg", bins=hfmg.num_of_bins)
        source = hfmg
    elif message.HasField("ifmr_quantize"):
        source = message.ifmr_quantize
        params = IfmrParams(
            _short(source.max_percentile), _short(source.min_percentile), _short(source.search_range_start),
            _short(source.search_range_end), _short(source.search_step),
        )  # fmt: skip
        config = replace(config, ifmr=_checked_ifmr(params, where))
    else:
        return config
    if source.HasField("dst_type") and source.dst_type != 0:
        raise ConvertError("dst_type is not INT8", rule="config.bits", where=where, hint="The Ascend 310 computes with 8 bits")
    return replace(config, asymmetric=source.asymmetric) if source.HasField("asymmetric") else config


def read_cfg(text: str, where: str = "--amct-config") -> QuantConfig:
    """Parse a simplified configuration.

    Raises:
        ConvertError: not proto text of AMCTConfig, values outside AMCT's limits, features without a form on the chip.
    """
    message = schemas_pb2.AMCTConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ConvertError(
            f"cannot parse the configuration: {error}",
            rule="config.parse",
            where=where,
            hint="Fields are those of AMCT's calibration_config",
        ) from error
    if message.HasField("nuq_config"):
        raise ConvertError("nuq_config has no form here", rule="config.algorithm", where=where, hint="Remove it")
    if message.batch_num < 1:
        raise ConvertError("batch_num must be at least 1", rule="config.range", where=where, hint="Give the number of calibration batches")
    return QuantConfig(
        batch_num=message.batch_num if message.HasField("batch_num") else None,
        activation_offset=message.activation_offset,
        do_fusion=message.do_fusion,
        joint_quant=message.joint_quant,
        skip_layers=tuple(message.skip_layers),
        skip_layer_types=tuple(message.skip_layer_types),
        skip_fusion_layers=tuple(message.skip_fusion_layers),
        common=_calibration(message.common_config, f"{where} common_config"),
        by_type={o.layer_type: _calibration(o.calibration_config, f"{where} {o.layer_type}") for o in message.override_layer_types},
        by_name={o.layer_name: _calibration(o.calibration_config, f"{where} {o.layer_name}") for o in message.override_layer_configs},
        tensors=tuple(
            TensorConfig(t.layer_name, t.input_index, _activation(LayerConfig(), t, f"{where} {t.layer_name}"))
            for t in message.tensor_quantize
        ),
    )


_GLOBAL_KEYS = {"version", "batch_num", "activation_offset", "joint_quant", "do_fusion", "skip_fusion_layers", "tensor_quantize"}
_ACT_KEYS = {"num_bits", "max_percentile", "min_percentile", "search_range", "search_step", "act_algo", "asymmetric", "num_of_bins"}
_WTS_KEYS = {"num_bits", "wts_algo", "channel_wise"}


def _json_activation(params: Mapping[str, Any], where: str) -> LayerConfig:
    unknown = set(params) - _ACT_KEYS
    if unknown:
        raise ConvertError(f"unknown key(s) {sorted(unknown)}", rule="config.parse", where=where, hint=f"Known: {sorted(_ACT_KEYS)}")
    if params.get("num_bits", 8) != 8:
        raise ConvertError(
            f"{params['num_bits']}-bit activations", rule="config.bits", where=where, hint="The Ascend 310 computes with 8 bits"
        )
    algorithm = params.get("act_algo", "ifmr")
    if algorithm not in ("ifmr", "hfmg"):
        raise ConvertError(f"act_algo {algorithm!r}", rule="config.algorithm", where=where, hint="Choose ifmr or hfmg")
    config = LayerConfig(algorithm=algorithm, asymmetric=params.get("asymmetric"))
    if algorithm == "hfmg":
        bins = params.get("num_of_bins", 4096)
        if bins not in _BINS:
            raise ConvertError(f"num_of_bins {bins}", rule="config.bins", where=where, hint=f"Choose one of {_BINS}")
        return replace(config, bins=bins)
    default = IfmrParams()
    start, end = params.get("search_range", [default.search_start, default.search_end])
    ifmr = IfmrParams(
        params.get("max_percentile", default.max_percentile), params.get("min_percentile", default.min_percentile), start, end,
        params.get("search_step", default.search_step),
    )  # fmt: skip
    return replace(config, ifmr=_checked_ifmr(ifmr, where))


def read_json(text: str, where: str = "--amct-config") -> QuantConfig:
    """Parse a config.json of AMCT: layers with quant_enable are quantised, all others stay in float.

    Raises:
        ConvertError: not JSON, unknown keys, values outside AMCT's limits.
    """
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise ConvertError(
            f"cannot parse the configuration: {error}", rule="config.parse", where=where, hint="Give AMCT's config.json"
        ) from error
    if data.get("version", 1) != 1:
        raise ConvertError(f"version {data['version']}", rule="config.parse", where=where, hint="AMCT's config.json has version 1")
    batch_num = data.get("batch_num")
    if batch_num is not None and (not isinstance(batch_num, int) or batch_num < 1):
        raise ConvertError(
            "batch_num must be a positive integer", rule="config.range", where=where, hint="Give the number of calibration batches"
        )
    by_name, listed = {}, set()
    for name, entry in data.items():
        if name in _GLOBAL_KEYS:
            continue
        if not isinstance(entry, dict):
            raise ConvertError(f"unknown key {name!r}", rule="config.parse", where=where, hint=f"Global keys: {sorted(_GLOBAL_KEYS)}")
        if entry.get("dmq_balancer_param") is not None:
            raise ConvertError("dmq_balancer_param has no form here", rule="config.algorithm", where=f"{where} {name}", hint="Remove it")
        if not entry.get("quant_enable", True):
            continue
        config = _json_activation(entry.get("activation_quant_params", {}), f"{where} {name}")
        weights = entry.get("weight_quant_params", {})
        if set(weights) - _WTS_KEYS or weights.get("num_bits", 8) != 8 or weights.get("wts_algo", "arq_quantize") != "arq_quantize":
            raise ConvertError(
                f"weight_quant_params {weights}",
                rule="config.algorithm",
                where=f"{where} {name}",
                hint="8-bit arq_quantize is the only form here",
            )
        by_name[name] = replace(config, channel_wise=weights.get("channel_wise"))
        listed.add(name)
    tensors = tuple(
        TensorConfig(
            t["layer_name"], t["input_index"], _json_activation(t.get("activation_quant_params", {}), f"{where} {t['layer_name']}")
        )
        for t in data.get("tensor_quantize", [])
    )
    return QuantConfig(
        batch_num=batch_num,
        activation_offset=bool(data.get("activation_offset", True)),
        do_fusion=bool(data.get("do_fusion", True)),
        joint_quant=bool(data.get("joint_quant", False)),
        skip_fusion_layers=tuple(data.get("skip_fusion_layers", [])),
        by_name=by_name,
        tensors=tensors,
        listed=frozenset(listed),
    )


def read_config(path: str | Path) -> QuantConfig:
    """A configuration file, .json by its suffix, else proto text.

    Raises:
        ConvertError: missing file or anything ``read_cfg`` and ``read_json`` refuse.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConvertError(
            f"cannot read the file: {error}", rule="config.missing", where=str(path), hint="Give AMCT's .cfg or config.json"
        ) from error
    return read_json(text, str(path)) if path.suffix == ".json" else read_cfg(text, str(path))


def _fill(message: Any, config: LayerConfig, layer_type: str | None) -> None:
    """Write a resolved LayerConfig into a CalibrationConfig message."""
    if layer_type != "AveragePool" and config.channel_wise is not None:
        message.arq_quantize.channel_wise = config.channel_wise
    if config.algorithm == "hfmg":
        message.hfmg_quantize.num_of_bins = config.bins
        target = message.hfmg_quantize
    else:
        target = message.ifmr_quantize
        target.search_range_start, target.search_range_end = config.ifmr.search_start, config.ifmr.search_end
        target.search_step = config.ifmr.search_step
        target.max_percentile, target.min_percentile = config.ifmr.max_percentile, config.ifmr.min_percentile
    if config.asymmetric is not None:
        target.asymmetric = config.asymmetric


def write_cfg(config: QuantConfig, batch_num: int, skipped: Sequence[str], version: str) -> str:
    """The .cfg with which AMCT would do the same again. ``skipped``: all layers left in float by choice."""
    message = schemas_pb2.AMCTConfig()
    message.batch_num = batch_num
    message.activation_offset = config.activation_offset
    message.do_fusion = config.do_fusion
    message.skip_layers.extend(skipped)
    message.skip_fusion_layers.extend(config.skip_fusion_layers)
    later = AMCT_VERSIONS[version]

    def fill(target: Any, source: LayerConfig, kind: str | None) -> None:
        _fill(target, source if later else replace(source, asymmetric=None), kind)

    fill(message.common_config, config.common, None)
    for kind in sorted(config.by_type):
        entry = message.override_layer_types.add()
        entry.layer_type = kind
        fill(entry.calibration_config, config.by_type[kind], kind)
    for name in config.by_name:
        entry = message.override_layer_configs.add()
        entry.layer_name = name
        fill(entry.calibration_config, config.by_name[name], None)
    for tensor in config.tensors:
        entry = message.tensor_quantize.add()
        entry.layer_name, entry.input_index = tensor.name, tensor.index
        _fill(entry, tensor.config, "AveragePool")
    return str(text_format.MessageToString(message))


def write_json(config: QuantConfig, batch_num: int, layers: Sequence[tuple[Layer, LayerConfig, bool]], version: str) -> str:
    """config.json in AMCT's own formatting; ``layers``: (layer, resolved settings, quantised) in graph order."""
    later = AMCT_VERSIONS[version]
    out: dict[str, Any] = {"version": 1, "batch_num": batch_num, "activation_offset": config.activation_offset}
    out["do_fusion"] = config.do_fusion
    out["skip_fusion_layers"] = list(config.skip_fusion_layers)
    if config.tensors:
        out["tensor_quantize"] = [
            {"layer_name": t.name, "input_index": t.index, "activation_quant_params": _json_params(t.config, later)} for t in config.tensors
        ]
    for layer, resolved, enabled in layers:
        weights: dict[str, Any] = {"num_bits": 8} if later else {}
        weights |= {"wts_algo": "arq_quantize", "channel_wise": bool(resolved.channel_wise)}
        out[layer.name] = {
            "quant_enable": enabled,
            "activation_quant_params": _json_params(resolved, later),
            "weight_quant_params": weights,
        }
    return json.dumps(out, indent=4, separators=(",", ":"), ensure_ascii=False) + "\n"


def _json_params(config: LayerConfig, later: bool) -> dict[str, Any]:
    params: dict[str, Any] = {"num_bits": 8} if later else {}
    if config.algorithm == "hfmg":
        if not later:
            raise ConvertError(
                "hfmg needs AMCT 6 or newer", rule="config.version", where="--amct-version", hint="Choose a newer version or ifmr"
            )
        return {
            **params,
            "act_algo": "hfmg",
            "num_of_bins": config.bins,
            **({} if config.asymmetric is None else {"asymmetric": config.asymmetric}),
        }
    params |= {"max_percentile": config.ifmr.max_percentile, "min_percentile": config.ifmr.min_percentile}
    params |= {"search_range": [config.ifmr.search_start, config.ifmr.search_end], "search_step": config.ifmr.search_step}
    if later:
        params["act_algo"] = "ifmr"
        if config.asymmetric is not None:
            params["asymmetric"] = config.asymmetric
    return params
