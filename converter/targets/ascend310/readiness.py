# SPDX-License-Identifier: Apache-2.0
"""What ATC takes: operator table, opset ranges, limits of the cube unit, types. Errors are collected; doubts are warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import onnx
from onnx import TensorProto

from ...errors import ConvertError
from .onnx_graph import OnnxGraph, attributes
from .opset import Problem

__all__ = ["AtcOp", "atc_ops", "check_ready", "engine_warnings", "raise_problems", "unique_names"]

_QUANTISED = frozenset(
    ["QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"]
)
_TYPES = {
    TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32,
    TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64, TensorProto.BOOL,
}  # fmt: skip


@dataclass(frozen=True)
class AtcOp:
    """One row of atc_ops.tsv."""

    name: str
    opset_min: int
    opset_max: int
    engine: str


@lru_cache(maxsize=1)
def atc_ops() -> dict[str, AtcOp]:
    """Operators that ATC's ONNX parser registers, by name."""
    text = resources.files(__package__).joinpath("atc_ops.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")][1:]
    return {row[0]: AtcOp(row[0], int(row[1]), int(row[2]), row[3]) for row in rows}


def _operator(node: onnx.NodeProto, opset: int) -> Problem | None:
    row = atc_ops().get(node.op_type)
    if row is None:
        if node.op_type in _QUANTISED:
            return Problem(node.name, node.op_type, "ATC does not take this quantised form", "Convert from the QDQ or the float model")
        return Problem(
            node.name, node.op_type, "ATC does not register this operator", "Replace it in the model, or cut the model before it"
        )
    if not row.opset_min <= opset <= row.opset_max:
        return Problem(
            node.name, node.op_type, f"ATC registers it for opset {row.opset_min} to {row.opset_max}, not {opset}", "Choose another --opset"
        )
    return None


def _between(node: onnx.NodeProto, what: str, values: Sequence[int], low: int, high: int) -> Problem | None:
    if all(low <= value <= high for value in values):
        return None
    return Problem(
        node.name,
        node.op_type,
        f"{what} {list(values)} outside {low} to {high}",
        "The cube unit has no larger form; split the layer in the model",
    )


def _convolution(graph: OnnxGraph, node: onnx.NodeProto) -> list[Problem]:
    attrs = attributes(node)
    found = [
        _between(node, "kernel", attrs.get("kernel_shape", []), 1, 255),
        _between(node, "strides", attrs.get("strides", []), 1, 63),
        _between(node, "dilations", attrs.get("dilations", []), 1, 255),
        _between(node, "pads", attrs.get("pads", []), 0, 255),
    ]
    shape = graph.shape(node.input[0])
    if shape is not None and len(shape) == 4:
        found.append(_between(node, "input height", [shape[2]], 1, 100000))
        found.append(_between(node, "input width", [shape[3]], 1, 4096))
    return [problem for problem in found if problem is not None]


def check_ready(graph: OnnxGraph, allow_dynamic: bool) -> list[Problem]:
    """Everything in the graph that ATC would refuse. Needs ``graph.infer()`` before."""
    problems: list[Problem] = []
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
        problem = _operator(node, graph.opset)
        if problem is not None:
            problems.append(problem)
            continue
        if node.op_type in ("Conv", "ConvTranspose"):
            problems += _convolution(graph, node)
        if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
            problems.append(Problem(node.name, node.op_type, "its index output is used", "Use MaxPool without indices"))
        if node.op_type == "Resize" and attributes(node).get("coordinate_transformation_mode") == "tf_crop_and_resize":
            problems.append(Problem(node.name, node.op_type, "tf_crop_and_resize has no form on the chip", "Use Slice and Resize"))
        if node.op_type == "BatchNormalization" and len(node.output) > 1:
            problems.append(Problem(node.name, node.op_type, "it is in training mode", "Export the model in inference mode"))
        for name in node.output:
            kind = graph.elem_type(name)
            if name and kind and kind not in _TYPES:
                text = TensorProto.DataType.Name(kind)
                problems.append(
                    Problem(node.name, node.op_type, f"output {name} has type {text}", "The chip has no such type; cast to float32")
                )
        if not allow_dynamic and any(name and graph.shape(name) is None for name in node.output):
            problems.append(
                Problem(
                    node.name,
                    node.op_type,
                    "its output shape depends on the data",
                    "Remove data-dependent shapes (NonZero, dynamic Slice, ...)",
                )
            )
    return problems


def raise_problems(problems: Sequence[Problem]) -> None:
    """One error that lists every node.

    Raises:
        ConvertError: there is at least one problem.
    """
    if not problems:
        return
    lines = []
    for problem in problems:
        row = atc_ops().get(problem.op)
        span = f", ATC opset {row.opset_min}-{row.opset_max}" if row else ""
        lines.append(f"  {problem.node or '(unnamed)'} ({problem.op}{span}): {problem.reason}. {problem.hint}")
    raise ConvertError(
        f"{len(problems)} node(s) cannot be made ready for ATC:\n" + "\n".join(lines) + "\n",
        rule="atc.unsupported",
        where=problems[0].node,
        hint="Each line says what to do",
    )


def engine_warnings(graph: OnnxGraph) -> list[str]:
    """Operators that the chip's AI Core does not list: they run on its CPU, if at all."""
    by_op: dict[str, list[str]] = {}
    for node in graph.nodes:
        row = atc_ops().get(node.op_type)
        if row is not None and row.engine != "core":
            by_op.setdefault(node.op_type, []).append(node.name)
    out = []
    for op, names in sorted(by_op.items()):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        out.append(
            f"{op} ({len(names)}x: {shown}) is not in the AI Core list of the Ascend 310; it runs on the chip's CPU, or ATC refuses it"
        )
    cubic = [node.name for node in graph.nodes if node.op_type == "Resize" and attributes(node).get("mode") == "cubic"]
    if cubic:
        out.append(f"Resize with mode cubic ({len(cubic)}x: {', '.join(cubic[:3])}): ATC's Resize knows nearest and linear kernels")
    return out


def unique_names(graph: OnnxGraph) -> int:
    """Name unnamed nodes ``{op_type}_{index}`` and number duplicates, as AMCT's updated_model does. Returns the number of changes."""
    taken: set[str] = set()
    count = 0
    reserved = {node.name for node in graph.nodes if node.name}
    for index, node in enumerate(graph.nodes):
        name = node.name
        if not name:
            name = f"{node.op_type}_{index}"
            while name in taken or name in reserved:
                name += "_0"
        elif name in taken:
            number = 0
            while f"{name}_{number}" in taken or f"{name}_{number}" in reserved:
                number += 1
            name = f"{name}_{number}"
        count += name != node.name
        node.name = name
        taken.add(name)
    return count
