# SPDX-License-Identifier: Apache-2.0
"""Checks of the three models and the record. Each yields one line per violation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import AttributeProto

from .arq import BiasOverflowError, channels_first, deq_scales, quantise_bias, quantise_weights
from .deploy import unpack_deq_scales
from .factors import record_rules
from .fake_quant import fake_quant_graph
from .folder import ProducedFolder
from .onnx_graph import OnnxGraph, attributes
from .readiness import atc_ops, check_ready
from .simulate import needs_sqrt_mode

__all__ = [
    "accumulators",
    "bias",
    "deq_scale",
    "fake_quant",
    "float16_range",
    "float_model",
    "interface",
    "layer_form",
    "names",
    "operators",
    "opset",
    "quant_attributes",
    "record",
    "weights",
]

Lines = Iterator[str]
_INT8_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def opset(folder: ProducedFolder) -> Lines:
    """One opset import, default domain, 11 to 13; every node in it."""
    for kind in ("deploy", "fake_quant", "float"):
        model = folder.model(kind)
        imports = [(entry.domain, entry.version) for entry in model.opset_import]
        if len(imports) != 1 or imports[0][0] != "":
            yield f"{kind}: opset imports {imports}; ATC takes one, of the default domain (E19999)"
        elif not 11 <= imports[0][1] <= 13:
            yield f"{kind}: opset {imports[0][1]}; 11 to 13 are safe"
        for node in model.graph.node:
            if node.domain:
                yield f"{kind}: node {node.name} lies in domain {node.domain!r}"
    if (
        len({folder.model(kind).opset_import[0].version for kind in ("deploy", "fake_quant", "float") if folder.model(kind).opset_import})
        > 1
    ):
        yield "the models have different opsets"


def names(folder: ProducedFolder) -> Lines:
    """Node names are unique and not empty; every value is made once, before it is read."""
    for kind in ("deploy", "fake_quant", "float"):
        model = folder.model(kind)
        counts = Counter(node.name for node in model.graph.node)
        if counts.get(""):
            yield f"{kind}: {counts['']} node(s) without a name"
        for name, count in counts.items():
            if name and count > 1:
                yield f"{kind}: {count} nodes are named {name}"
        made = [value.name for value in model.graph.input] + [tensor.name for tensor in model.graph.initializer]
        known = set(made)
        for node in model.graph.node:
            for value in node.input:
                if value and value not in known:
                    yield f"{kind}: {node.name} reads {value}, which nothing before it makes"
            for value in node.output:
                if value in known:
                    yield f"{kind}: value {value} is made twice"
                known.add(value)
        for output in model.graph.output:
            if output.name not in known:
                yield f"{kind}: nothing makes output {output.name}"


def operators(folder: ProducedFolder) -> Lines:
    """ATC registers every operator of the deploy model for its opset (E16002, E10501)."""
    model = folder.model("deploy")
    version = model.opset_import[0].version if model.opset_import else 0
    for node in model.graph.node:
        row = atc_ops().get(node.op_type)
        if row is None:
            yield f"{node.name}: ATC does not register {node.op_type}"
        elif not row.opset_min <= version <= row.opset_max:
            yield f"{node.name}: ATC registers {node.op_type} for opset {row.opset_min} to {row.opset_max}, not {version}"


def layer_form(folder: ProducedFolder) -> Lines:
    """Each quantised layer: one AscendQuant in front, one AscendDequant behind, int8 weights, int32 bias, no transposed Gemm."""
    graph = folder.graph("deploy")
    consumers = graph.consumers()
    accepted = set()
    for layer in folder.layers():
        where = layer.name
        readers = consumers.get(layer.last.output[0], [])
        if len(layer.quants) != 1:
            yield f"{where}: no AscendQuant in front"
        if len(layer.dequants) != 1 or len(readers) != 1 or layer.last.output[0] in graph.output_names():
            yield f"{where}: its sums must go to one AscendDequant and nowhere else"
        elif layer.dequants[0].name != f"{where}.dequant" or layer.dequants[0].input[1] != f"{where}.dequant.param":
            yield f"{where}: AscendDequant is not named {where}.dequant with {where}.dequant.param"
        accepted.update(node.name for node in (layer.node, layer.last))
        if layer.node.op_type in _INT8_LAYERS:
            yield from _constants(graph, layer.node, layer.last)
        attrs = attributes(layer.node)
        if layer.node.op_type == "Gemm" and (
            attrs.get("transA", 0) or attrs.get("transB", 0) or attrs.get("alpha", 1.0) != 1.0 or attrs.get("beta", 1.0) != 1.0
        ):
            yield f"{where}: Gemm with transA, transB, alpha or beta"
    for node in graph.nodes:
        if node.op_type == "AscendQuant":
            for reader, index in consumers.get(node.output[0], []):
                own_pad = reader.op_type == "Pad" and reader.name.endswith("_pad")
                if index or not (reader.name in accepted or reader.op_type == "AscendAntiQuant" or own_pad):
                    yield f"{node.name}: {reader.name} ({reader.op_type}) cannot take int8"
            if node.output[0] in graph.output_names():
                yield f"{node.name}: its int8 result is an output of the model"
        if node.op_type == "AscendDequant" and node.name.removesuffix(".dequant") not in accepted:
            yield f"{node.name}: no quantised layer in front"
    seen = Counter((node.input[0], *sorted(attributes(node).items())) for node in graph.nodes if node.op_type == "AscendQuant")
    for key, count in seen.items():
        if count > 1:
            yield f"{count} equal AscendQuant nodes read {key[0]}; they must be one"


def _constants(graph: OnnxGraph, node: onnx.NodeProto, last: onnx.NodeProto) -> Lines:
    weights = graph.inits.get(node.input[1])
    if weights is None or weights.dtype != np.int8:
        yield f"{node.name}: its weights are not an INT8 initialiser"
        return
    name = node.input[2] if len(node.input) > 2 else last.input[1] if last is not node else ""
    if not name:
        return
    bias_array = graph.inits.get(name)
    outputs = _output_channels(node, weights)
    if bias_array is None or bias_array.dtype != np.int32:
        yield f"{node.name}: its bias is not an INT32 initialiser"
    elif bias_array.shape != (outputs,):
        yield f"{node.name}: its bias has shape {list(bias_array.shape)}, not [{outputs}]"


def _output_channels(node: onnx.NodeProto, weights: np.ndarray) -> int:  # type: ignore[type-arg]
    if node.op_type == "Conv":
        return int(weights.shape[0])
    if node.op_type == "ConvTranspose":
        return int(weights.shape[1]) * int(attributes(node).get("group", 1))
    return int(weights.shape[-1])


def quant_attributes(folder: ProducedFolder) -> Lines:
    """AscendQuant and AscendAntiQuant: scale and offset are FLOAT attributes (another type is read as 0), in range."""
    known = {
        "AscendQuant": {"scale", "offset", "dst_type", "sqrt_mode", "round_mode"},
        "AscendAntiQuant": {"scale", "offset", "dtype", "sqrt_mode"},
    }
    for node in folder.model("deploy").graph.node:
        if node.op_type == "AscendDequant":
            kinds = {a.name: a for a in node.attribute}
            if set(kinds) - {"dtype", "relu_flag", "sqrt_mode"} or (
                "dtype" in kinds and (kinds["dtype"].type != AttributeProto.INT or kinds["dtype"].i not in (0, 1))
            ):
                yield f"{node.name}: unknown attribute, or dtype is not INT 0 or 1"
            if len(node.input) != 2 or len(node.output) != 1:
                yield f"{node.name}: it takes 2 inputs and gives 1 output"
        if node.op_type not in known:
            continue
        found = {a.name: a for a in node.attribute}
        if set(found) - known[node.op_type]:
            yield f"{node.name}: unknown attribute(s) {sorted(set(found) - known[node.op_type])}"
        for name in ("scale", "offset"):
            if name not in found or found[name].type != AttributeProto.FLOAT:
                yield f"{node.name}: {name} is missing or not FLOAT; ATC would read 0"
        if "scale" in found and not (np.isfinite(found["scale"].f) and found["scale"].f > 0):
            yield f"{node.name}: scale {found['scale'].f} is not positive"
        offset = found["offset"].f if "offset" in found else 0.0
        if not (-128 <= offset <= 127) or offset != int(offset):
            yield f"{node.name}: offset {offset} is no integer in -128 to 127"
        if node.op_type == "AscendQuant" and (found["dst_type"].s if "dst_type" in found else b"") != b"INT8":
            yield f"{node.name}: dst_type is not INT8"
        if len(node.input) != 1 or len(node.output) != 1:
            yield f"{node.name}: it takes 1 input and gives 1 output"


def deq_scale(folder: ProducedFolder) -> Lines:
    """dequant.param: UINT64, rank 1, 1 or Cout values, bits 32 and up clear, low bits == f32(scale_d * scale_w) exactly."""
    graph = folder.graph("deploy")
    for layer in folder.layers():
        for node in layer.dequants:
            packed = graph.inits.get(node.input[1]) if len(node.input) > 1 else None
            if packed is None or packed.dtype != np.uint64 or packed.ndim != 1:
                yield f"{layer.name}: dequant.param is not a UINT64 initialiser of rank 1"
                continue
            if (packed >> np.uint64(32)).any():
                yield f"{layer.name}: dequant.param has bits above 31 set (shift or weight offset)"
            entry = folder.records.get(layer.name)
            if entry is None:
                continue
            wanted = deq_scales(np.float32(entry.scale_d), np.array(entry.scale_w, dtype=np.float32))
            given = unpack_deq_scales(packed)
            if given.shape != wanted.shape:
                yield f"{layer.name}: dequant.param has {given.size} values, the record gives {wanted.size}"
            elif not np.array_equal(given.view(np.uint32), wanted.view(np.uint32)):
                channel = int(np.argmax(given.view(np.uint32) != wanted.view(np.uint32)))
                yield f"{layer.name}: dequant.param[{channel}] is {given[channel]!r}, scale_d*scale_w is {wanted[channel]!r}"


def record(folder: ProducedFolder) -> Lines:
    """The record keeps AMCT's rules and says the same as the deploy graph."""
    graph = folder.graph("deploy")
    by_name = {layer.name: layer for layer in folder.layers()}
    keys = Counter(entry.key for entry in folder.record.record)
    for key, count in keys.items():
        if count > 1:
            yield f"{key}: {count} records"
    for key, value in folder.records.items():
        layer = by_name.get(key)
        if layer is None:
            yield f"{key}: recorded, but not quantised in the deploy model"
            continue
        channels = 1
        if layer.node.op_type in ("Conv", "ConvTranspose") and len(layer.node.input) > 1 and layer.node.input[1] in graph.inits:
            channels = _output_channels(layer.node, graph.inits[layer.node.input[1]])
        yield from record_rules(key, value, channels)
        for quant in layer.quants:
            attrs = attributes(quant)
            if np.float32(attrs.get("scale", 0)) != np.float32(1.0) / np.float32(value.scale_d):
                yield f"{key}: AscendQuant.scale {attrs.get('scale')} is not 1/scale_d ({1 / value.scale_d if value.scale_d else 0})"
            if attrs.get("offset") != value.offset_d:
                yield f"{key}: AscendQuant.offset {attrs.get('offset')} is not offset_d {value.offset_d}"
    for name in by_name:
        if name not in folder.records:
            yield f"{name}: quantised in the deploy model, but not recorded"
    tensors = {entry.key: entry.value for entry in folder.record.record if entry.value.is_tensor_quantize}
    for node in graph.nodes:
        if node.op_type == "AscendAntiQuant":
            key = node.name.removesuffix(".antiquant").replace(".input", ":")
            attrs = attributes(node)
            if (
                key not in tensors
                or np.float32(tensors[key].scale_d) != np.float32(attrs.get("scale", 0))
                or tensors[key].offset_d != attrs.get("offset")
            ):
                yield f"{node.name}: its factors are not those of the record {key}"


def _float_weight(folder: ProducedFolder, floats: OnnxGraph, name: str, index: int) -> np.ndarray | None:  # type: ignore[type-arg]
    node = next((node for node in floats.nodes if node.name == name), None)
    return floats.inits.get(node.input[index]) if node is not None and len(node.input) > index else None


def weights(folder: ProducedFolder) -> Lines:
    """int8 weights are the float model's, rounded with the recorded scales (within what the chosen method may change)."""
    graph, floats = folder.graph("deploy"), folder.graph("float")
    adapted = "rounding" in str(folder.data.get("method", ""))
    for layer in folder.layers():
        if layer.node.op_type not in _INT8_LAYERS or layer.name not in folder.records:
            continue
        real, codes = _float_weight(folder, floats, layer.name, 1), graph.inits.get(layer.node.input[1])
        scales = np.array(folder.records[layer.name].scale_w, dtype=np.float32)
        group = int(attributes(layer.node).get("group", 1))
        if real is None or codes is None or real.shape != codes.shape:
            yield f"{layer.name}: the float model has no weights of the same shape"
            continue
        if scales.size not in (1, _output_channels(layer.node, codes)) or not (scales > 0).all():
            continue
        wrong = int(np.count_nonzero(quantise_weights(layer.node.op_type, real, scales, group) != codes))
        if wrong and not adapted:
            yield f"{layer.name}: {wrong} int8 weight(s) are not rint(w / scale_w)"
        elif adapted and wrong > 0.9 * codes.size and codes.size > 16:
            yield f"{layer.name}: nearly all int8 weights differ from rint(w / scale_w)"


def bias(folder: ProducedFolder) -> Lines:
    """int32 bias is rint(bias / (scale_d*scale_w)) and fits int32."""
    graph, floats = folder.graph("deploy"), folder.graph("float")
    corrected = "bias" in str(folder.data.get("method", ""))
    for layer in folder.layers():
        entry = folder.records.get(layer.name)
        inner = len(layer.node.input) > 2 and bool(layer.node.input[2])
        name = layer.node.input[2] if inner else layer.last.input[1] if layer.last is not layer.node else ""
        if entry is None or not name or layer.node.op_type not in _INT8_LAYERS:
            continue
        real = _float_weight(folder, floats, layer.name if inner else layer.last.name, 2 if inner else 1)
        given = graph.inits.get(name)
        scales = np.array(entry.scale_w, dtype=np.float32)
        if real is None or given is None or real.shape != given.shape or scales.size not in (1, real.size):
            yield f"{layer.name}: the float model has no bias of the same shape"
            continue
        try:
            wanted = quantise_bias(real, np.float32(entry.scale_d), scales)
        except BiasOverflowError as error:
            yield f"{layer.name}: bias beyond int32, {error}; leave the layer in float"
            continue
        wrong = int(np.count_nonzero(wanted != given))
        if wrong and not corrected:
            yield f"{layer.name}: {wrong} int32 bias value(s) are not rint(bias / (scale_d*scale_w))"


def accumulators(folder: ProducedFolder) -> Lines:
    """No sum of a layer can leave int32: max|q-offset| * sum|w| + |bias| < 2^31."""
    graph = folder.graph("deploy")
    for layer in folder.layers():
        codes = graph.inits.get(layer.node.input[1]) if len(layer.node.input) > 1 else None
        if codes is None or codes.dtype != np.int8 or layer.node.op_type not in _INT8_LAYERS:
            continue
        rows = channels_first(layer.node.op_type, codes, int(attributes(layer.node).get("group", 1))).astype(np.int64)
        offset = int(attributes(layer.quants[0]).get("offset", 0)) if layer.quants else 0
        name = layer.node.input[2] if len(layer.node.input) > 2 else layer.last.input[1] if layer.last is not layer.node else ""
        extra = np.abs(graph.inits[name].astype(np.int64)) if name in graph.inits else np.zeros(rows.shape[0], dtype=np.int64)
        if extra.size != rows.shape[0]:
            continue
        worst = int((np.abs(rows).sum(axis=1) * max(128 + offset, 127 - offset) + extra).max())
        if worst >= 1 << 31:
            yield f"{layer.name}: a sum could reach {worst}, beyond int32"


def float16_range(folder: ProducedFolder) -> Lines:
    """V100 only, a warning: scales outside float16's normal numbers go through sqrt_mode."""
    if folder.data.get("dequant") != "fp16":
        return
    small, layers = [], folder.layers()
    graph = folder.graph("deploy")
    for layer in layers:
        scales = [unpack_deq_scales(graph.inits[node.input[1]]) for node in layer.dequants if node.input[1] in graph.inits]
        quant = [np.float32(attributes(node).get("scale", 1.0)) for node in layer.quants]
        if any(needs_sqrt_mode(value).any() for value in [*scales, *quant]):
            small.append(layer.name)
    if small:
        yield f"{len(small)} of {len(layers)} layers have a scale outside float16's normal numbers (sqrt_mode)"


def fake_quant(folder: ProducedFolder) -> Lines:
    """The fake-quant model is the deploy model in plain operators, number for number."""
    wanted, given = fake_quant_graph(folder.graph("deploy")).to_model(), folder.graph("fake_quant").to_model()
    try:
        onnx.checker.check_model(folder.model("fake_quant"))
    except onnx.checker.ValidationError as error:
        yield f"onnx.checker refuses it: {str(error).splitlines()[0]}"
    a = {node.name: node for node in wanted.graph.node}
    b = {node.name: node for node in given.graph.node}
    for name in sorted(set(a) ^ set(b)):
        yield f"node {name} is {'missing' if name in a else 'not in the deploy model'}"
    for name in a:
        if name in b and a[name] != b[name]:
            yield f"node {name} differs from the deploy model"
    x = {tensor.name: tensor for tensor in wanted.graph.initializer}
    y = {tensor.name: tensor for tensor in given.graph.initializer}
    for name in sorted(set(x) | set(y)):
        if name not in x or name not in y or x[name] != y[name]:
            yield f"constant {name} differs from the deploy model"


def float_model(folder: ProducedFolder) -> Lines:
    """The float model is valid ONNX and ready for ATC."""
    try:
        onnx.checker.check_model(folder.model("float"), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        yield f"onnx.checker refuses it: {str(error).splitlines()[0]}"
        return
    graph = folder.graph("float")
    graph.infer()
    for problem in check_ready(graph, allow_dynamic=folder.data.get("profile") is not None):
        yield f"{problem.node} ({problem.op}): {problem.reason}"


def interface(folder: ProducedFolder) -> Lines:
    """The three models have the same inputs and outputs, and those of the report."""
    wanted = folder.model("float").graph
    for kind in ("deploy", "fake_quant"):
        graph = folder.model(kind).graph
        inits = {tensor.name for tensor in graph.initializer}
        if [v for v in graph.input if v.name not in inits] != list(wanted.input):
            yield f"{kind}: its inputs differ from the float model's"
        if [v.name for v in graph.output] != [v.name for v in wanted.output]:
            yield f"{kind}: its outputs differ from the float model's"
    listed = [entry["name"] for entry in folder.data.get("inputs", [])]
    if listed != [v.name for v in wanted.input]:
        yield f"report.json lists inputs {listed}"
    float_nodes = {node.name: node for node in wanted.node}
    deployed = {node.name: node for node in folder.model("deploy").graph.node}
    for name, node in float_nodes.items():
        other = deployed.get(name)
        if other is None:
            yield f"deploy: node {name} is missing"
        elif other.op_type != node.op_type or list(other.attribute) != list(node.attribute):
            yield f"deploy: node {name} is not the float model's"
    for name, node in deployed.items():
        if name not in float_nodes and not node.op_type.startswith("Ascend"):
            yield f"deploy: node {name} ({node.op_type}) is not in the float model"
    constants = folder.graph("float").inits
    for name, array in folder.graph("deploy").inits.items():
        if name in constants and array.dtype == constants[name].dtype and not np.array_equal(array, constants[name]):
            yield f"deploy: constant {name} is not the float model's"
