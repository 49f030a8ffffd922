# SPDX-License-Identifier: Apache-2.0
"""The pipeline of `convert --target ascend310`: prepare, calibrate, quantise, write the folder, look at it once more."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...errors import ConvertError
from ...preprocess import Preprocess, load_preprocess
from ...progress import track
from . import aipp as aipp_module
from . import commands, configs, report
from .calibrate import Batches, Search, folder_names, search_ranges, write_batches
from .compare import Comparison, compare_models
from .compression import compression_config
from .configs import LayerConfig, QuantConfig
from .correction import correct_biases
from .deploy import deploy_graph, save_model
from .equalise import equalise
from .factors import Factors, Quantised, TensorFactors, read_record, write_record
from .fake_quant import fake_quant_graph
from .layers import Layer, find_layers
from .methods import apply_methods, parse_method
from .observe import Activations, FloatRunner, NumpyRunner
from .prepare import Prepared, prepare
from .profiles import Profile, parse_input_shape, parse_profile
from .quantise import fixed_weight_scales, quantise_layers, range_warnings, weight_scales
from .samples import open_data
from .socs import Soc, find_soc

__all__ = ["convert_ascend310"]

# Batches that are simulated for the report.
_COMPARED = 2
# Batches whose channels are looked at by --method equalise.
_EQUALISED = 16


@dataclass
class _Plan:
    """Everything decided before data is read."""

    prepared: Prepared
    layers: list[Layer]
    resolved: dict[str, LayerConfig]
    float_layers: dict[str, str]
    config: QuantConfig
    profile: Profile | None
    soc: Soc
    fixed: dict[str, Factors]
    batch: int | None


def convert_ascend310(
    model: str | Path | onnx.ModelProto,
    output: str | Path,
    *,
    calibration: Any = None,
    preprocess: Any = None,
    soc: str = "Ascend310",
    input_shape: str | Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
    dynamic_batch: str | None = None,
    dynamic_image_size: str | None = None,
    dynamic_dims: str | None = None,
    aipp: str | Path | Mapping[str, Any] | None = None,
    opset: int = 11,
    skip: Sequence[str] = (),
    method: str = "auto",
    amct_version: str = "7",
    amct_config: str | Path | QuantConfig | None = None,
    record: str | Path | None = None,
    batch_num: int | None = None,
    max_samples: int | None = None,
    compression: bool = False,
    name: str | None = None,
    quiet: bool = True,
    runner: FloatRunner | None = None,
) -> report.AscendReport:
    """Convert an ONNX model for the Ascend 310: the ATC-ready folder with model, records, data and commands.

    Args:
        model: path of an .onnx file (float, or quantised with Q/DQ pairs), or a model in memory.
        output: folder to write; one that an earlier conversion wrote is replaced.
        calibration, preprocess: what `edge8.converter.calibration.open_samples` takes. May be left out when a record or a QDQ model
            brings the factors.
        soc: value of --soc_version, see socs.toml.
        input_shape: ``"name:1,3,224,224;…"`` or a mapping; -1 marks an axis that a dynamic flag lists.
        batch: size of each input's free first axis (1 when left out).
        dynamic_batch, dynamic_image_size, dynamic_dims: profiles as ATC writes them, at most one.
        aipp: camera description, see aipp.py.
        opset: 11, 12 or 13.
        skip: layers that stay float: names, ``type:Conv``, ``re:expression``.
        method: ``"auto"``, ``"amct"``, or improvements joined by ``+``: see methods.py.
        amct_version: a key of configs.AMCT_VERSIONS.
        amct_config: AMCT's .cfg or config.json. record: AMCT's record.txt, made for this model.
        batch_num: calibration batches to use; all by default.
        max_samples: read at most so many samples.
        compression: also write compression_optimize.cfg for ATC's own calibration.
        name: base name of the files; the model file's by default.
        quiet: no progress bars.
        runner: runs the float model for calibration; numpy by default.

    Raises:
        ConvertError: anything that the caller can mend; the output folder is left as it was.
    """
    folder = Path(output)
    commands.check_path(str(output), "--output")
    net = _net_name(model, name)
    _check_folder(folder)
    if amct_version not in configs.AMCT_VERSIONS:
        raise ConvertError(
            f"unknown version {amct_version!r}",
            rule="amct.version",
            where="--amct-version",
            hint=f"Known: {', '.join(configs.AMCT_VERSIONS)}",
        )
    automatic = method == "auto"
    method, methods = parse_method(method, calibration is not None)
    plan = _plan(model, soc, input_shape, batch, (dynamic_batch, dynamic_image_size, dynamic_dims), opset, skip, amct_config, record)
    if batch_num is not None:
        plan.config = replace(plan.config, batch_num=batch_num)
    _check_calibration(plan, calibration)
    if automatic and plan.fixed:  # scales that are given belong to the weights as they are
        method, methods = parse_method(method.removeprefix("equalise+"), calibration is not None)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.resolve().parent))
    try:
        content = partial / folder.name
        content.mkdir()
        data = _fill(
            plan, content, net, calibration, preprocess, aipp, methods, method, amct_version, max_samples, compression, quiet, runner
        )
        _swap(content, folder)
    except OSError as error:
        raise ConvertError(
            f"cannot write ({error.strerror or error})", rule="output.write", where=str(folder), hint="Check rights and free space"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report.AscendReport(folder, net, data)


def _net_name(model: Any, name: str | None) -> str:
    net = name or (model.graph.name or "model" if isinstance(model, onnx.ModelProto) else Path(model).stem)
    commands.check_path(net.replace("/", "?"), "the model's name" if name is None else "--name")
    return net


def _check_folder(folder: Path) -> None:
    if not folder.resolve().parent.is_dir():
        raise ConvertError("the folder does not exist", rule="output.folder", where=str(folder.resolve().parent), hint="Create it first")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and report.read_report(folder) is None)):
        raise ConvertError(
            "it exists and no earlier conversion wrote it",
            rule="output.exists",
            where=str(folder),
            hint="Choose another folder, or remove it yourself",
        )


def _swap(content: Path, folder: Path) -> None:
    """Put the finished folder in place; an older one goes only then."""
    if folder.exists():
        old = content.parent / "replaced"
        os.replace(folder, old)
    os.replace(content, folder)


def _plan(
    model: Any,
    soc: str,
    input_shape: Any,
    batch: int | None,
    dynamic: tuple[str | None, str | None, str | None],
    opset: int,
    skip: Sequence[str],
    amct_config: Any,
    record: Any,
) -> _Plan:
    chip = find_soc(soc)
    profile = parse_profile(*dynamic)
    config = (
        QuantConfig() if amct_config is None else amct_config if isinstance(amct_config, QuantConfig) else configs.read_config(amct_config)
    )
    prepared = prepare(
        model,
        target_opset=opset,
        input_shape=parse_input_shape(input_shape),
        batch=batch,
        profile=profile,
        do_fusion=config.do_fusion,
        skip_fusion=config.skip_fusion_layers,
    )
    layers, reasons = find_layers(prepared.graph)
    types = {node.name: node.op_type for node in prepared.graph.nodes}
    config = _with_skips(config, skip, layers, types)
    config.check_names(layers, types)
    if config.joint_quant:
        prepared.warnings.append(
            "joint_quant is on in the configuration, but shared scales of Add inputs are not applied: layers are quantised one by one"
        )
    float_layers = dict(reasons)
    chosen = []
    for layer in layers:
        why = config.skipped(layer)
        if why:
            float_layers[layer.name] = why
        else:
            chosen.append(layer)
    fixed = _fixed_factors(prepared, chosen, record, float_layers)
    if fixed:
        chosen = [layer for layer in chosen if layer.name in fixed]
    if not chosen:
        raise ConvertError(
            "no layer can be quantised",
            rule="layers.none",
            hint="Reasons: " + "; ".join(f"{n}: {r}" for n, r in list(float_layers.items())[:5]) or "the model has no Conv, Gemm or MatMul",
        )
    resolved = {layer.name: config.resolve(layer) for layer in layers}
    return _Plan(prepared, chosen, resolved, float_layers, config, profile, chip, fixed, batch)


def _with_skips(config: QuantConfig, skip: Sequence[str], layers: Sequence[Layer], types: Mapping[str, str]) -> QuantConfig:
    """Add the --skip flags: names, ``type:`` and ``re:``."""
    names, kinds = list(config.skip_layers), list(config.skip_layer_types)
    for entry in skip:
        if entry.startswith("type:"):
            kinds.append(entry[5:])
        elif entry.startswith("re:"):
            try:
                pattern = re.compile(entry[3:])
            except re.error as error:
                raise ConvertError(f"not a regular expression: {error}", rule="config.layer", where=f"--skip {entry}") from error
            found = [layer.name for layer in layers if pattern.search(layer.name)]
            if not found:
                raise ConvertError(
                    "no quantisable layer matches", rule="config.layer", where=f"--skip {entry}", hint="Layer names are ONNX node names"
                )
            names += found
        else:
            names.append(entry)
    return replace(config, skip_layers=tuple(dict.fromkeys(names)), skip_layer_types=tuple(dict.fromkeys(kinds)))


def _fixed_factors(prepared: Prepared, layers: Sequence[Layer], record: Any, float_layers: dict[str, str]) -> dict[str, Factors]:
    """Factors that need no calibration: of a record file or a QDQ model."""
    out: dict[str, Factors] = {}
    if record is not None:
        path = Path(record)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConvertError(
                f"cannot read the record: {error}", rule="record.missing", where=str(path), hint="Give AMCT's record.txt"
            ) from error
        out = read_record(text, layers, str(path))
        missing = "the record does not hold it"
    elif prepared.is_qdq:
        for layer in layers:
            found = prepared.factors.get(layer.name)
            if found is not None:
                scales = fixed_weight_scales(layer, found.scale_w, prepared.graph, prepared.warnings)
                out[layer.name] = Factors(found.scale_d, found.offset_d, scales)
        missing = "the QDQ model does not quantise it"
    else:
        return out
    for layer in layers:
        if layer.name not in out:
            float_layers[layer.name] = missing
    return out


def _check_calibration(plan: _Plan, calibration: Any) -> None:
    if calibration is None and not plan.fixed:
        raise ConvertError(
            "full quantisation needs data to calibrate on, and it is the only kind on this target",
            rule="calibration.missing",
            where="--calibration",
            hint="Give a folder of pictures or arrays (about 32 samples), or a record or QDQ model that brings the factors",
        )


def _fill(
    plan: _Plan,
    folder: Path,
    net: str,
    calibration: Any,
    preprocess: Any,
    aipp: Any,
    methods: frozenset[str],
    method: str,
    amct_version: str,
    max_samples: int | None,
    compression: bool,
    quiet: bool,
    runner: FloatRunner | None,
) -> dict[str, Any]:
    """Write every file; returns the content of report.json."""
    graph, shapes = plan.prepared.graph, plan.prepared.shapes
    notes, warnings = plan.prepared.notes, plan.prepared.warnings
    camera = _aipp_plan(plan, aipp, preprocess)
    batches, steps = None, {}
    if calibration is not None:
        data = open_data(calibration, graph, shapes, plan.profile, preprocess, max_samples, plan.batch)
        batches = write_batches(data, graph, shapes, folder / "calibration", plan.config.batch_num, plan.profile)
        steps = {name: value.to_dict() for name, value in getattr(data, "preprocess", {}).items()}
    if "equalise" in methods:
        _equalise(plan, batches, runner, quiet)
    model = graph.to_model()
    searches, extra = _searches(plan)
    activations = None
    if batches is not None:
        values = {search.value for search in [*searches.values(), *extra.values()]} | {layer.x for layer in plan.layers}
        activations = Activations(runner or NumpyRunner(model), batches.load, len(batches), values, quiet=quiet)
    factors, tensors = _factors(plan, searches, extra, activations)
    factors, rounded = apply_methods(methods, graph, plan.layers, factors, plan.resolved, activations, notes)
    del activations
    quantised = quantise_layers(graph, factors, plan.layers)
    quantised = [replace(entry, weights=rounded.get(entry.layer.name, entry.weights)) for entry in quantised]
    if "bias" in methods and batches is not None:
        largest = max((size or 0 for size in _sizes(plan).values()), default=0)
        quantised = correct_biases(graph, quantised, tensors, batches, largest, quiet=quiet)
        notes.append(f"method bias: {sum(entry.bias is not None for entry in quantised)} of {len(quantised)} layers (those with a bias)")
    warnings += range_warnings(quantised, plan.soc.dequant)
    if any(entry.layer.op == "AveragePool" for entry in quantised):
        warnings.append(
            "AveragePool in int8: how the chip rounds its mean is not published; leave it in float with --skip type:AveragePool if in doubt"
        )
    deploy = deploy_graph(graph, quantised, tensors)
    fake = fake_quant_graph(deploy)
    for kind, content in (("float", graph), ("deploy", deploy), ("fake_quant", fake)):
        save_model(content, folder / f"{net}_{kind}_model.onnx")
    comparison = Comparison()
    if batches is not None:
        some = (batches.load(index) for index in range(min(_COMPARED, len(batches))))
        comparison = compare_models(model, deploy.to_model(), fake.to_model(), some, plan.soc.dequant)
        warnings += comparison.warnings()
    _write_texts(plan, folder, net, quantised, tensors, batches, camera, amct_version, compression)
    content = _report(plan, net, method, amct_version, quantised, tensors, batches, camera, comparison)
    content["preprocess"] = steps
    content["files"] = report.digests(folder)
    (folder / report.REPORT_NAME).write_text(report.dump(content), encoding="utf-8")
    (folder / "report.html").write_text(report.page(content), encoding="utf-8")
    return content


def _equalise(plan: _Plan, batches: Batches | None, runner: FloatRunner | None, quiet: bool) -> None:
    """Scale the channels of the float graph; the layers stay what they are."""
    graph = plan.prepared.graph
    if plan.fixed or batches is None:
        raise ConvertError(
            "equalise changes the weights, which a record or QDQ model has fixed scales for"
            if plan.fixed
            else "this method needs calibration data",
            rule="method.data",
            where="--method",
            hint="Leave equalise out, or give calibration data instead of a record",
        )
    count = min(len(batches), _EQUALISED)

    def gather(visit: Callable[[str, Any], None], names: set[str]) -> None:
        network = runner or NumpyRunner(graph.to_model())
        for index in track(range(count), "equalising", count, quiet=quiet):
            network.run(batches.load(index), names, visit)

    changed = equalise(graph, gather)
    plan.prepared.notes.append(f"method equalise: channels of {changed} group(s) of activations were brought to like ranges")


def _aipp_plan(plan: _Plan, aipp: Any, preprocess: Any) -> aipp_module.AippPlan | None:
    if aipp is None:
        return None
    camera, own = aipp_module.read_camera(aipp)
    steps = own
    if steps is None:
        table = load_preprocess(Path(preprocess)) if isinstance(preprocess, (str, Path)) else preprocess
        if isinstance(table, Mapping):
            table = table.get(camera.get("input", plan.prepared.graph.inputs[0].name), table.get(""))
        steps = table if isinstance(table, Preprocess) else Preprocess()
    elif isinstance(preprocess, Preprocess) and (preprocess.mean, preprocess.std, preprocess.channels) != (own.mean, own.std, own.channels):
        raise ConvertError(
            "the camera file and the preprocessing disagree about mean, std or channels",
            rule="aipp.preprocess",
            where="--aipp",
            hint="Say it in one place",
        )
    made = aipp_module.make_aipp(plan.prepared.graph, plan.prepared.shapes, camera, steps or Preprocess(), plan.profile)
    plan.prepared.notes += made.notes
    plan.prepared.notes.append(f"AIPP computes with float16 coefficients: at most {made.deviation:.3g} off in the normalised input")
    return made


def _sizes(plan: _Plan) -> dict[str, int | None]:
    graph = plan.prepared.graph
    out: dict[str, int | None] = {}
    for node in graph.nodes:
        for value in [*node.input, *node.output]:
            shape = graph.shape(value) if value else None
            out[value] = int(np.prod(shape, dtype=np.int64)) if shape is not None else None
    return out


def _searches(plan: _Plan) -> tuple[dict[str, Search], dict[tuple[str, int], Search]]:
    """Ranges to find: by layer name, and by (node, input) of tensor_quantize entries."""
    graph = plan.prepared.graph
    by_name = {node.name: node for node in graph.nodes}
    layers = {} if plan.fixed else {layer.name: Search(layer.x, plan.resolved[layer.name]) for layer in plan.layers}
    extra: dict[tuple[str, int], Search] = {}
    for tensor in plan.config.tensors:
        node = by_name[tensor.name]
        if tensor.index >= len(node.input) or node.input[tensor.index] in graph.inits:
            raise ConvertError(f"it has no computed input {tensor.index}", rule="config.tensor", where=tensor.name, hint="Give 0 or 1")
        asymmetric = plan.config.activation_offset if tensor.config.asymmetric is None else tensor.config.asymmetric
        extra[(tensor.name, tensor.index)] = Search(node.input[tensor.index], replace(tensor.config, asymmetric=asymmetric))
    return layers, extra


def _factors(
    plan: _Plan, searches: Mapping[str, Search], extra: Mapping[tuple[str, int], Search], activations: Activations | None
) -> tuple[dict[str, Factors], list[TensorFactors]]:
    """Factors of all layers and tensor_quantize entries by AMCT's definitions."""
    found = {}
    if searches or extra:
        if activations is None:
            raise ConvertError(
                "tensor_quantize needs calibration data", rule="calibration.missing", where="--calibration", hint="Give data"
            )
        found = search_ranges([*searches.values(), *extra.values()], activations, _sizes(plan))
    factors = dict(plan.fixed)
    for layer in plan.layers:
        if layer.name in searches:
            scale, offset = found[searches[layer.name]]
            factors[layer.name] = Factors(scale, offset, weight_scales(plan.prepared.graph, layer, plan.resolved[layer.name]))
    tensors = [TensorFactors(name, index, *found[search]) for (name, index), search in extra.items()]
    return factors, tensors


def _write_texts(
    plan: _Plan,
    folder: Path,
    net: str,
    quantised: Sequence[Quantised],
    tensors: Sequence[TensorFactors],
    batches: Batches | None,
    camera: aipp_module.AippPlan | None,
    amct_version: str,
    compression: bool,
) -> None:
    graph, shapes = plan.prepared.graph, plan.prepared.shapes
    dtypes = {v.name: str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type))) for v in graph.inputs}
    folders = batches.folders if batches is not None else folder_names(list(shapes))
    count = len(batches) if batches is not None else 1
    quantised_names = {entry.layer.name for entry in quantised}
    all_layers, _ = find_layers(graph)
    skipped = [layer.name for layer in all_layers if layer.name not in quantised_names]
    texts = {
        f"{net}_record.txt": write_record(quantised, tensors),
        f"{net}_quant.cfg": configs.write_cfg(
            replace(plan.config, by_name={n: c for n, c in plan.config.by_name.items() if n in quantised_names}),
            count,
            skipped,
            amct_version,
        ),
        "config.json": configs.write_json(
            plan.config, count, [(layer, plan.resolved[layer.name], layer.name in quantised_names) for layer in all_layers], amct_version
        ),
        "atc.sh": commands.atc_script(net, shapes, plan.soc, plan.profile, camera),
        "run_on_board.md": commands.board_page(
            net, shapes, dtypes, folders, [v.name for v in graph.outputs], plan.soc, plan.profile, camera
        ),
    }
    if camera is not None:
        texts["insert_op.cfg"] = camera.text
    if compression:
        if batches is None or plan.profile is not None:
            raise ConvertError(
                "ATC's own calibration needs data and static shapes",
                rule="compression.data",
                where="--compression",
                hint="Give --calibration and a static shape",
            )
        texts["compression_optimize.cfg"] = compression_config(net, shapes, folders, plan.soc)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    os.chmod(folder / "atc.sh", 0o755)


def _report(
    plan: _Plan,
    net: str,
    method: str,
    amct_version: str,
    quantised: Sequence[Quantised],
    tensors: Sequence[TensorFactors],
    batches: Batches | None,
    camera: aipp_module.AippPlan | None,
    comparison: Comparison,
) -> dict[str, Any]:
    graph = plan.prepared.graph
    accuracy = comparison.to_dict() if comparison.batches else {}
    per_layer = accuracy.pop("layers", {})
    inputs = []
    folders = batches.folders if batches is not None else {}
    for value in graph.inputs:
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        inputs.append(
            {"name": value.name, "shape": plan.prepared.shapes[value.name], "dtype": str(kind), "calibration": folders.get(value.name, "")}
        )
    return {
        **report.MARK,
        "format": 1,
        "net": net,
        "soc": plan.soc.name,
        "dequant": plan.soc.dequant,
        "opset": graph.opset,
        "method": method,
        "amct_version": amct_version,
        "batch": plan.batch,
        "batch_num": len(batches) if batches is not None else 0,
        "batch_shapes": batches.shapes if batches is not None and plan.profile is not None else [],
        "inputs": inputs,
        "outputs": [value.name for value in graph.outputs],
        "profile": None if plan.profile is None else {"flag": plan.profile.flag, "value": plan.profile.text()},
        "aipp": None if camera is None else {"input": camera.input_name, "layout": camera.layout},
        "layers": report.layer_rows(quantised, per_layer),
        "tensors": [{"name": t.name, "input": t.index, "scale_d": float(t.scale_d), "offset_d": t.offset_d} for t in tensors],
        "float_layers": plan.float_layers,
        "accuracy": accuracy,
        "notes": plan.prepared.notes,
        "warnings": plan.prepared.warnings,
    }
