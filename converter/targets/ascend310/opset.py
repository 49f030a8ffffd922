# SPDX-License-Identifier: Apache-2.0
"""Opset conversion down to 11-13: for each operator whose meaning or form changed since, a rule that writes the older form.

An operator without a rule passes when its attributes and inputs exist in the target's schema (most later versions only add element
types). What cannot be expressed is collected, so that one error lists it all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper

from .onnx_graph import OnnxGraph, attributes, make_node

__all__ = ["Problem", "lower_opset"]


@dataclass(frozen=True)
class Problem:
    """A node that cannot be made ready, and why."""

    node: str
    op: str
    reason: str
    hint: str


class ImpossibleError(Exception):
    """Raised by a rule: (reason, hint)."""


Rule = Callable[[OnnxGraph, onnx.NodeProto, int], list[onnx.NodeProto]]


def _constant_input(graph: OnnxGraph, node: onnx.NodeProto, index: int, what: str) -> np.ndarray[Any, Any] | None:
    """The constant array of an input, None when the input is absent.

    Raises:
        ImpossibleError: the input is computed at run time.
    """
    if len(node.input) <= index or not node.input[index]:
        return None
    array = graph.inits.get(node.input[index])
    if array is None:
        raise ImpossibleError(f"its {what} is computed at run time", "Export with fixed values, or give static input shapes")
    return array


def _rebuild(node: onnx.NodeProto, inputs: list[str], attrs: dict[str, Any], op: str | None = None) -> onnx.NodeProto:
    return make_node(op or node.op_type, inputs, list(node.output), node.name, **attrs)


def _axes_to_attribute(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """axes input -> attribute (Squeeze, Unsqueeze, Reduce*)."""
    attrs = attributes(node)
    axes = _constant_input(graph, node, 1, "axes")
    empty = axes is None or axes.size == 0
    if attrs.pop("noop_with_empty_axes", 0) and empty:
        return [make_node("Identity", [node.input[0]], list(node.output), node.name)]
    if not empty and axes is not None:
        attrs["axes"] = [int(axis) for axis in axes.ravel()]
    if node.op_type == "Unsqueeze" and all(axis >= 0 for axis in attrs.get("axes", [-1])):
        attrs["axes"].sort()
    return [_rebuild(node, [node.input[0]], attrs)]


def _split(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    attrs = attributes(node)
    split = _constant_input(graph, node, 1, "split sizes")
    count = attrs.pop("num_outputs", None)
    sizes = None if split is None else [int(size) for size in split]
    if sizes is None and count:
        shape = graph.shape(node.input[0])
        if shape is None:
            raise ImpossibleError("the size of the split axis is unknown", "Give static input shapes")
        total = shape[attrs.get("axis", 0)]
        part = -(-total // count)
        sizes = [part] * (count - 1) + [total - part * (count - 1)]
    if target >= 13:
        inputs = [node.input[0]] + ([] if sizes is None else [graph.constant(f"{node.output[0]}_split", sizes, np.int64)])
        return [_rebuild(node, inputs, attrs)]
    return [_rebuild(node, [node.input[0]], {**attrs, "split": sizes})]


def _softmax(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """Since 13 one axis is normalised; before, everything from ``axis`` on is one axis. Equal on the last axis: move it there."""
    attrs = attributes(node)
    axis = attrs.get("axis", -1)
    rank = graph.rank(node.input[0])
    if rank is None:
        raise ImpossibleError("the rank of its input is unknown", "Give static input shapes")
    axis %= rank
    if axis == rank - 1:
        return [_rebuild(node, [node.input[0]], {"axis": axis})]
    shape = graph.shape(node.input[0])
    if shape is not None and all(size == 1 for size in shape[axis + 1 :]):
        return [_rebuild(node, [node.input[0]], {"axis": axis})]
    order = [*(i for i in range(rank) if i != axis), axis]
    back = [order.index(i) for i in range(rank)]
    moved, result = graph.fresh(f"{node.output[0]}_moved"), graph.fresh(f"{node.output[0]}_last")
    return [
        make_node("Transpose", [node.input[0]], [moved], graph.fresh(f"{node.name}_to_last"), perm=order),
        make_node(node.op_type, [moved], [result], node.name, axis=rank - 1),
        make_node("Transpose", [result], list(node.output), graph.fresh(f"{node.name}_back"), perm=back),
    ]


def _pad(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    attrs = attributes(node)
    if attrs.get("mode", "constant") == "wrap":
        raise ImpossibleError("mode 'wrap' has no older form", "Replace it by Slice and Concat in the model")
    axes = _constant_input(graph, node, 3, "axes")
    inputs = list(node.input[:3])
    if axes is not None:
        pads = _constant_input(graph, node, 1, "pads")
        rank = graph.rank(node.input[0])
        if pads is None or rank is None:
            raise ImpossibleError("the rank of its input is unknown", "Give static input shapes")
        full = np.zeros(2 * rank, dtype=np.int64)
        for index, axis in enumerate(int(a) % rank for a in axes):
            full[axis], full[axis + rank] = pads[index], pads[index + axes.size]
        inputs[1] = graph.constant(f"{node.output[0]}_pads", full)
    return [_rebuild(node, inputs, attrs)]


def _resize(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    attrs = attributes(node)
    if attrs.pop("antialias", 0):
        raise ImpossibleError("antialias has no older form", "Export with antialias=0")
    if attrs.get("coordinate_transformation_mode") == "half_pixel_symmetric":
        raise ImpossibleError("half_pixel_symmetric has no older form", "Export with half_pixel")
    policy = attrs.pop("keep_aspect_ratio_policy", "stretch")
    axes = attrs.pop("axes", None)
    inputs = [*node.input, "", "", ""][:4]
    scales = _constant_input(graph, node, 2, "scales")
    sizes = _constant_input(graph, node, 3, "sizes")
    has_sizes = sizes is not None and sizes.size > 0
    if axes is not None or policy != "stretch":
        shape = graph.shape(node.input[0])
        if shape is None:
            raise ImpossibleError("the shape of its input is unknown", "Give static input shapes")
        where = [axis % len(shape) for axis in axes] if axes is not None else list(range(len(shape)))
        if has_sizes and sizes is not None:
            wanted = [int(size) for size in sizes]
            if policy != "stretch":
                factors = [size / shape[axis] for size, axis in zip(wanted, where, strict=True)]
                factor = min(factors) if policy == "not_larger" else max(factors)
                wanted = [int(np.floor(shape[axis] * factor + 0.5)) for axis in where]
            full = list(shape)
            for axis, size in zip(where, wanted, strict=True):
                full[axis] = size
            inputs[3] = graph.constant(f"{node.output[0]}_sizes", full, np.int64)
        elif scales is not None:
            factors32 = np.ones(len(shape), dtype=np.float32)
            factors32[where] = scales
            inputs[2] = graph.constant(f"{node.output[0]}_scales", factors32)
    # Version 11 requires roi and scales; empty tensors stand for "not given".
    if attrs.get("coordinate_transformation_mode") != "tf_crop_and_resize":
        inputs[1] = graph.constant(f"{node.output[0]}_roi", [], np.float32)
    if has_sizes:
        inputs[2] = graph.constant(f"{node.output[0]}_no_scales", [], np.float32)
    elif not inputs[3] or (sizes is not None and sizes.size == 0):
        inputs = inputs[:3]
    return [_rebuild(node, inputs, attrs)]


def _reshape(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    attrs = attributes(node)
    if attrs.pop("allowzero", 0):
        wanted = _constant_input(graph, node, 1, "shape")
        if wanted is not None and 0 in wanted:
            raise ImpossibleError("allowzero with a zero size has no older form", "Export without empty tensors")
    return [_rebuild(node, list(node.input), attrs)]


def _shape(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    attrs = attributes(node)
    if not attrs:
        return [node]
    start, end = attrs.get("start", 0), attrs.get("end", np.iinfo(np.int32).max)
    full = graph.fresh(f"{node.output[0]}_all")
    names = [graph.constant(f"{node.output[0]}_{what}", [value], np.int64) for what, value in (("start", start), ("end", end))]
    return [
        make_node("Shape", [node.input[0]], [full], graph.fresh(f"{node.name}_all")),
        make_node("Slice", [full, *names], list(node.output), node.name),
    ]


def _batch_norm(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """Training statistics are a leftover: the chip only infers."""
    attrs = attributes(node)
    used = graph.consumers().keys() | graph.output_names()
    if any(name in used for name in node.output[1:]):
        raise ImpossibleError("its training outputs are used", "Export the model in inference mode")
    kept = {key: attrs[key] for key in ("epsilon", "momentum") if key in attrs}
    return [make_node("BatchNormalization", list(node.input), [node.output[0]], node.name, **kept)]


def _hard_swish(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    gate = graph.fresh(f"{node.output[0]}_gate")
    return [
        make_node("HardSigmoid", [node.input[0]], [gate], graph.fresh(f"{node.name}_gate"), alpha=1.0 / 6.0, beta=0.5),
        make_node("Mul", [node.input[0], gate], list(node.output), node.name),
    ]


def _swish(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    alpha = attributes(node).get("alpha", 1.0)
    nodes, x = [], node.input[0]
    if alpha != 1.0:
        x = graph.fresh(f"{node.output[0]}_scaled")
        nodes.append(
            make_node(
                "Mul", [node.input[0], graph.constant(f"{node.output[0]}_alpha", alpha, np.float32)], [x], graph.fresh(f"{node.name}_scale")
            )
        )
    gate = graph.fresh(f"{node.output[0]}_gate")
    nodes.append(make_node("Sigmoid", [x], [gate], graph.fresh(f"{node.name}_gate")))
    nodes.append(make_node("Mul", [node.input[0], gate], list(node.output), node.name))
    return nodes


def _mish(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    soft, gate = graph.fresh(f"{node.output[0]}_soft"), graph.fresh(f"{node.output[0]}_gate")
    return [
        make_node("Softplus", [node.input[0]], [soft], graph.fresh(f"{node.name}_softplus")),
        make_node("Tanh", [soft], [gate], graph.fresh(f"{node.name}_tanh")),
        make_node("Mul", [node.input[0], gate], list(node.output), node.name),
    ]


class _Chain:
    """Builds a run of nodes with derived names."""

    def __init__(self, graph: OnnxGraph, node: onnx.NodeProto) -> None:
        self.graph, self.node = graph, node
        self.nodes: list[onnx.NodeProto] = []

    def add(self, op: str, inputs: list[str], last: bool = False, **attrs: Any) -> str:
        output = self.node.output[0] if last else self.graph.fresh(f"{self.node.output[0]}_{op.lower()}")
        name = self.node.name if last else self.graph.fresh(f"{self.node.name}_{op.lower()}")
        self.nodes.append(make_node(op, inputs, [output], name, **attrs))
        return output

    def number(self, value: Any) -> str:
        return self.graph.constant(f"{self.node.output[0]}_c", np.asarray(value, dtype=np.float32))


def _gelu(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """0.5 x (1 + erf(x / sqrt 2)), or its tanh form."""
    chain, x = _Chain(graph, node), node.input[0]
    if attributes(node).get("approximate", "none") == "tanh":
        cube = chain.add("Mul", [chain.add("Mul", [x, x]), x])
        inner = chain.add("Add", [x, chain.add("Mul", [cube, chain.number(0.044715)])])
        gate = chain.add("Tanh", [chain.add("Mul", [inner, chain.number(np.sqrt(2.0 / np.pi))])])
    else:
        gate = chain.add("Erf", [chain.add("Mul", [x, chain.number(np.sqrt(0.5))])])
    half = chain.add("Mul", [x, chain.number(0.5)])
    chain.add("Mul", [half, chain.add("Add", [gate, chain.number(1.0)])], last=True)
    return chain.nodes


def _normalised(chain: _Chain, x: str, axes: list[int], epsilon: float, centre: bool) -> str:
    if centre:
        x = chain.add("Sub", [x, chain.add("ReduceMean", [x], axes=axes, keepdims=1)])
    variance = chain.add("ReduceMean", [chain.add("Mul", [x, x])], axes=axes, keepdims=1)
    return chain.add("Div", [x, chain.add("Sqrt", [chain.add("Add", [variance, chain.number(epsilon)])])])


def _layer_norm(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    if len([name for name in node.output if name]) > 1:
        raise ImpossibleError("its mean and deviation outputs are used", "Only the first output has a form on the chip")
    rank = graph.rank(node.input[0])
    if rank is None:
        raise ImpossibleError("the rank of its input is unknown", "Give static input shapes")
    attrs, chain = attributes(node), _Chain(graph, node)
    axes = list(range(attrs.get("axis", -1) % rank, rank))
    y = _normalised(chain, node.input[0], axes, attrs.get("epsilon", 1e-5), node.op_type == "LayerNormalization")
    has_bias = len(node.input) > 2 and bool(node.input[2])
    y = chain.add("Mul", [y, node.input[1]], last=not has_bias)
    if has_bias:
        chain.add("Add", [y, node.input[2]], last=True)
    return chain.nodes


def _group_norm(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """[N,C,...] -> [N,G,-1], InstanceNormalization, back, per-channel affine."""
    shape = graph.shape(node.input[0])
    scale, bias = _constant_input(graph, node, 1, "scale"), _constant_input(graph, node, 2, "bias")
    if shape is None or scale is None or bias is None:
        raise ImpossibleError("its input shape is not static", "Give static input shapes")
    attrs, chain = attributes(node), _Chain(graph, node)
    groups, channels = attrs["num_groups"], shape[1]
    if scale.size == groups != channels:
        scale, bias = np.repeat(scale, channels // groups), np.repeat(bias, channels // groups)
    flat = chain.add("Reshape", [node.input[0], graph.constant(f"{node.name}_g", [shape[0], groups, -1], np.int64)])
    unit = chain.add(
        "InstanceNormalization", [flat, chain.number(np.ones(groups)), chain.number(np.zeros(groups))], epsilon=attrs.get("epsilon", 1e-5)
    )
    back = chain.add("Reshape", [unit, graph.constant(f"{node.name}_s", shape, np.int64)])
    affine = (1, channels, *(1,) * (len(shape) - 2))
    scaled = chain.add("Mul", [back, chain.number(scale.reshape(affine))])
    chain.add("Add", [scaled, chain.number(bias.reshape(affine))], last=True)
    return chain.nodes


def _celu(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """alpha * Elu(x / alpha)."""
    alpha, chain = attributes(node).get("alpha", 1.0), _Chain(graph, node)
    scaled = chain.add("Div", [node.input[0], chain.number(alpha)])
    chain.add("Mul", [chain.add("Elu", [scaled], alpha=1.0), chain.number(alpha)], last=True)
    return chain.nodes


def _compare_or_equal(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """a >= b is not(a < b); they differ for NaN only, which the chip never gets."""
    chain = _Chain(graph, node)
    chain.add("Not", [chain.add("Less" if node.op_type == "GreaterOrEqual" else "Greater", list(node.input))], last=True)
    return chain.nodes


def _cast_like(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    kind = graph.elem_type(node.input[1])
    if not kind:
        raise ImpossibleError("the type it casts to is unknown", "Use Cast")
    return [make_node("Cast", [node.input[0]], list(node.output), node.name, to=kind)]


def _pow(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """Before 12 the exponent has the base's type."""
    exponent = graph.inits.get(node.input[1])
    base = graph.elem_type(node.input[0])
    if target >= 12 or exponent is None or not base or graph.elem_type(node.input[1]) == base:
        return [node]
    converted = exponent.astype(helper.tensor_dtype_to_np_dtype(base))
    return [_rebuild(node, [node.input[0], graph.constant(node.input[1], converted)], {})]


def _roi_align(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """Version 16 moved the grid by half a pixel; the older form is the one called output_half_pixel."""
    attrs = attributes(node)
    if attrs.pop("coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        raise ImpossibleError("aligned sampling (half_pixel) has no older form", "Export with aligned=False")
    return [_rebuild(node, list(node.input), attrs)]


def _einsum(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """Two operands that share leading batch letters and one summed letter: MatMul with transposes."""
    equation = attributes(node)["equation"].replace(" ", "")
    left, _, result = equation.partition("->")
    terms = left.split(",")
    if len(terms) != 2 or "." in equation or not result or any(len(set(t)) != len(t) for t in [*terms, result]):
        raise ImpossibleError(f"equation {equation!r} is not a batched product of two matrices", "Write it with MatMul and Transpose")
    a, b = terms
    batch = [c for c in a if c in b and c in result]
    summed = [c for c in a if c in b and c not in result]
    rows = [c for c in a if c not in b]
    columns = [c for c in b if c not in a]
    if len(summed) != 1 or len(rows) != 1 or len(columns) != 1 or set(result) != set(batch + rows + columns):
        raise ImpossibleError(f"equation {equation!r} is not a batched product of two matrices", "Write it with MatMul and Transpose")
    chain = _Chain(graph, node)

    def arranged(name: str, letters: str, wanted: list[str]) -> str:
        perm = [letters.index(c) for c in wanted]
        return name if perm == list(range(len(perm))) else chain.add("Transpose", [name], perm=perm)

    x = arranged(node.input[0], a, batch + rows + summed)
    y = arranged(node.input[1], b, batch + summed + columns)
    natural = batch + rows + columns
    perm = [natural.index(c) for c in result]
    straight = perm == list(range(len(perm)))
    product = chain.add("MatMul", [x, y], last=straight)
    if not straight:
        chain.add("Transpose", [product], last=True, perm=perm)
    return chain.nodes


def _dropout(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """Inference: the identity. A used mask is all true."""
    if len(node.output) > 1 and node.output[1] and (graph.consumers().get(node.output[1]) or node.output[1] in graph.output_names()):
        raise ImpossibleError("its mask output is used", "Export the model in inference mode")
    return [make_node("Identity", [node.input[0]], [node.output[0]], node.name)]


# Operator -> (opset versions at which its form or meaning changed, rule). The rule applies when the target lies before such a version
# that the model has reached; 0 means always.
_ALWAYS = (0,)
_REDUCTIONS = tuple(f"Reduce{name}" for name in ("Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"))
RULES: dict[str, tuple[tuple[int, ...], Rule]] = {
    **dict.fromkeys(("Squeeze", "Unsqueeze", "ReduceSum"), ((13,), _axes_to_attribute)),
    **dict.fromkeys(_REDUCTIONS, ((18,), _axes_to_attribute)),
    "Split": ((13, 18), _split),
    "Softmax": ((13,), _softmax),
    "LogSoftmax": ((13,), _softmax),
    "Hardmax": ((13,), _softmax),
    "Pad": ((18,), _pad),
    "Resize": ((13, 18), _resize),
    "Reshape": ((14,), _reshape),
    "Shape": ((15,), _shape),
    "BatchNormalization": (_ALWAYS, _batch_norm),
    "Dropout": (_ALWAYS, _dropout),
    "HardSwish": ((14,), _hard_swish),
    "LayerNormalization": ((17,), _layer_norm),
    "RMSNormalization": ((23,), _layer_norm),
    "Mish": ((18,), _mish),
    "GroupNormalization": ((18,), _group_norm),
    "Gelu": ((20,), _gelu),
    "Swish": ((24,), _swish),
    "Celu": ((12,), _celu),
    "GreaterOrEqual": (_ALWAYS, _compare_or_equal),
    "LessOrEqual": (_ALWAYS, _compare_or_equal),
    "CastLike": ((15,), _cast_like),
    "Pow": ((12,), _pow),
    "Einsum": (_ALWAYS, _einsum),
    "RoiAlign": ((16,), _roi_align),
}


def _generic(graph: OnnxGraph, node: onnx.NodeProto, target: int) -> list[onnx.NodeProto]:
    """Keep the node if the target's schema can express it; attributes at their default are dropped when the target lacks them."""
    try:
        schema = defs.get_schema(node.op_type, target, "")
    except defs.SchemaError:
        first = defs.get_schema(node.op_type, graph.opset, "").since_version
        raise ImpossibleError(f"the operator appeared in opset {first}", _opset_hint(first)) from None
    source = defs.get_schema(node.op_type, graph.opset, "")
    if schema.since_version == source.since_version:
        return [node]
    if len(node.input) > schema.max_input or len(node.output) > schema.max_output:
        raise ImpossibleError(f"it uses inputs or outputs that came after opset {target}", _opset_hint(source.since_version))
    _check_types(graph, node, schema, target)
    kept = onnx.NodeProto()
    kept.CopyFrom(node)
    del kept.attribute[:]
    for attribute in node.attribute:
        if attribute.name in schema.attributes:
            kept.attribute.append(attribute)
            continue
        default = source.attributes[attribute.name].default_value if attribute.name in source.attributes else None
        if default is None or not default.name or helper.get_attribute_value(default) != helper.get_attribute_value(attribute):
            raise ImpossibleError(f"attribute {attribute.name} came after opset {target}", _opset_hint(source.since_version))
    return [kept]


def _check_types(graph: OnnxGraph, node: onnx.NodeProto, schema: Any, target: int) -> None:
    """Later versions mostly add element types."""
    allowed = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}
    for index, name in enumerate(node.input):
        kind = graph.elem_type(name)
        formal = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
        text = f"tensor({onnx.TensorProto.DataType.Name(kind).lower()})" if kind else ""
        if name and kind and formal in allowed and text not in allowed[formal]:
            source = defs.get_schema(node.op_type, graph.opset, "")
            raise ImpossibleError(
                f"input {name} has type {text[7:-1]}, which it does not take in opset {target}", _opset_hint(source.since_version)
            )


def _opset_hint(version: int) -> str:
    if version <= 13:
        return f"--opset {version} would keep it"
    return "Rewrite this part of the model with operators of opset 13"


def lower_opset(graph: OnnxGraph, target: int) -> list[Problem]:
    """Rewrite every node for opset ``target`` (11-13) in place; returns what has no form there. Needs ``graph.infer()`` before."""
    problems: list[Problem] = []
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx"):
            problems.append(
                Problem(
                    node.name,
                    f"{node.domain}.{node.op_type}",
                    "operators of other domains are unknown to ATC",
                    "Export with standard operators only",
                )
            )
            continue
        versions, rule = RULES.get(node.op_type, ((), _generic))
        try:
            if not defs.has(node.op_type, ""):
                raise ImpossibleError("this operator is not part of ONNX", "Export with standard operators only")
            changed = any(version == 0 or target < version <= graph.opset for version in versions)
            nodes += (rule if changed else _generic)(graph, node, target)
        except ImpossibleError as error:
            problems.append(Problem(node.name, node.op_type, str(error.args[0]), str(error.args[1])))
    if not problems:
        graph.nodes = nodes
        graph.opset = target
        graph.sort()
    return problems
