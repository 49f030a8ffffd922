# SPDX-License-Identifier: Apache-2.0
"""Operators that move data: no arithmetic, or interpolation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ...graph import Node, Tensor
from ...ops.pad import PadKind
from ...ops.resize import ResizeKind
from ...resampling import Axis, Rule, axis_table
from .builder import FIRST, FROM_FIRST, LAST, TO_FIRST, Array, Builder, emitter, permuted

__all__: list[str] = []


def _identity(perm: list[int]) -> bool:
    return perm == list(range(len(perm)))


@emitter("Transpose")
def transpose(b: Builder, node: Node) -> None:
    """Transpose; a change of layout only is no node at all."""
    name, out, perm = node.inputs[0], node.outputs[0], [int(p) for p in node.params["perm"]]
    if len(perm) == 4 and not b.tensor(name).constant:
        # From layout to layout: axis i of the result is axis `from_source[perm[to_result[i]]]` of the source.
        for source, result in itertools.product(b.present(name), (LAST, FIRST)):
            inward = FROM_FIRST if source == FIRST else tuple(range(4))
            outward = TO_FIRST if result == FIRST else tuple(range(4))
            if _identity([inward[perm[i]] for i in outward]):
                b.alias(out, b.present(name)[source], result)
                return
    b.bind(out, b.op("Transpose", [b.value(name)], f"{out}.raw", perm=perm))


@emitter("Reshape")
def reshape(b: Builder, node: Node) -> None:
    """Reshape to a constant shape."""
    out = node.outputs[0]
    b.bind(out, b.op("Reshape", [b.value(node.inputs[0]), b.integers(b.tensor(out).shape, "shape")], f"{out}.raw"))


@emitter("Concat")
def concat(b: Builder, node: Node) -> None:
    """Concat."""
    layout, out = b.layout(node.inputs), node.outputs[0]
    if any(len(b.tensor(n).shape) != 4 for n in node.inputs):
        layout = LAST
    axis = int(node.params.get("axis", 0))
    axis = FROM_FIRST[axis] if layout == FIRST else axis
    b.bind(out, b.op("Concat", [b.value(n, layout) for n in node.inputs], f"{out}.raw", axis=axis), layout)


def _four(b: Builder, node: Node) -> str:
    """The layout for an operator with one value per axis."""
    return b.layout(node.inputs[:1]) if len(b.tensor(node.inputs[0]).shape) == 4 else LAST


@emitter("Slice")
def slice_(b: Builder, node: Node) -> None:
    """Slice on the axes that change."""
    name, out, layout = node.inputs[0], node.outputs[0], _four(b, node)
    source, shape, start, step = (
        permuted(list(v), layout) for v in (b.tensor(name).shape, b.tensor(out).shape, node.params["start"], node.params["step"])
    )
    axes = [a for a in range(len(shape)) if (start[a], step[a], shape[a]) != (0, 1, source[a])]
    ends = [start[a] + step[a] * shape[a] for a in axes]
    ends = [-(1 << 31) if end < 0 else end for end in ends]
    lists = ([start[a] for a in axes], ends, axes, [step[a] for a in axes])
    if not axes:
        b.bind(out, b.value(name, layout), layout)
        return
    b.bind(out, b.op("Slice", [b.value(name, layout), *(b.integers(v, "slice") for v in lists)], f"{out}.raw"), layout)


@emitter("Pad")
def pad(b: Builder, node: Node) -> None:
    """Pad."""
    layout, out, kind = _four(b, node), node.outputs[0], PadKind(node.params.get("kind", 0))
    pads = b.integers([*permuted(list(node.params["before"]), layout), *permuted(list(node.params["after"]), layout)], "pads")
    inputs = [b.value(node.inputs[0], layout), pads]
    if kind is PadKind.CONSTANT:
        dtype = b.tensor(node.inputs[0])
        number = np.float32(node.params.get("value", 0.0))
        plain = dtype.dtype.name == "FLOAT32" or b.quantised(dtype) or dtype.scale is not None or dtype.dtype.name == "INT8"
        inputs.append(b.constant(number if plain else np.asarray(number).astype(dtype.dtype.name.lower()), "value"))
    b.bind(out, b.op("Pad", inputs, f"{out}.raw", mode=kind.name.lower()), layout)


@emitter("Expand")
def expand(b: Builder, node: Node) -> None:
    """Expand to a constant shape."""
    out = node.outputs[0]
    b.bind(out, b.op("Expand", [b.value(node.inputs[0]), b.integers(b.tensor(out).shape, "shape")], f"{out}.raw"))


@emitter("Tile")
def tile(b: Builder, node: Node) -> None:
    """Tile."""
    out, layout = node.outputs[0], _four(b, node)
    times = [o // i for o, i in zip(b.tensor(out).shape, b.tensor(node.inputs[0]).shape, strict=True)]
    b.bind(out, b.op("Tile", [b.value(node.inputs[0], layout), b.integers(permuted(times, layout), "repeats")], f"{out}.raw"), layout)


@emitter("Gather")
def gather(b: Builder, node: Node) -> None:
    """Gather; of a table of codes, its numbers."""
    out, table = node.outputs[0], b.tensor(node.inputs[0])
    real = table.data is not None and table.scale is not None and b.tensor(out).scale is None
    x = _table(b, table) if real else b.value(node.inputs[0])
    b.bind(out, b.op("Gather", [x, b.value(node.inputs[1])], f"{out}.raw", axis=int(node.params.get("axis", 0))))


def _table(b: Builder, table: Tensor) -> str:
    """Codes with a scale per row, dequantised."""
    assert table.data is not None
    assert table.scale is not None
    scale = np.broadcast_to(np.asarray(table.scale, np.float32).reshape(-1), (table.shape[0],))
    name = b.constant(b.written(table.data), f"{table.name}.codes")
    zero = b.constant(b.written(np.zeros(scale.shape, table.data.dtype)), f"{table.name}.zero_point")
    return b.op("DequantizeLinear", [name, b.constant(scale, f"{table.name}.scale"), zero], table.name, axis=0)


_COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
_NEAREST = ("round_prefer_floor", "floor", "round_prefer_ceil", "ceil")
_CUBIC = (-0.75, -0.5)


def _rules(kind: ResizeKind) -> list[Rule]:
    """What ONNX can say, the usual first."""
    if kind is ResizeKind.NEAREST:
        return [Rule("nearest", c, n) for c in _COORDINATES for n in _NEAREST]
    if kind is ResizeKind.LINEAR:
        return [Rule("linear", c) for c in _COORDINATES]
    return [Rule("cubic", c, cubic=a) for c in _COORDINATES for a in _CUBIC]


def _tables(node: Node, kind: ResizeKind, axis: str) -> tuple[Array, Array | None]:
    index = np.asarray(node.params[f"{axis}_index"], np.int32)
    return index, None if kind is ResizeKind.NEAREST else np.asarray(node.params[f"{axis}_weight"], np.float32)


def _same(table: tuple[Array, Array | None], axis: Axis, rule: Rule) -> bool:
    """Whether a rule gives this table. Two tables mean the same when weights of 0 stand at other positions."""
    index, weight = axis_table(axis, rule)
    if weight is None or table[1] is None:
        return weight is None and table[1] is None and np.array_equal(index, table[0])
    return np.array_equal(weight, table[1]) and np.array_equal(np.where(weight == 0, 0, index), np.where(weight == 0, 0, table[0]))


def _matrix(table: tuple[Array, Array | None], size: int, taps: int) -> Array:
    """The table as a matrix [out, size]."""
    index, weight = table
    assert weight is not None
    result = np.zeros((index.size // taps, size), np.float32)
    for t in range(taps):
        np.add.at(result, (np.arange(len(result)), index[t::taps]), weight[t::taps])
    return result


def _int8_linear(b: Builder, node: Node, sizes: str, attributes: dict[str, Any]) -> None:
    """Means of neighbours often lie half way between two codes; the device rounds those up."""
    out = node.outputs[0]
    steps = b.op("Resize", [b.steps(node.inputs[0], FIRST), "", "", sizes], f"{out}.raw", **attributes)
    up = b.op("Floor", [b.op("Add", [steps, b.number(0.5, "half")], f"{out}.half_up")], f"{out}.floor")
    b.bind_steps(out, up, FIRST, whole=True)


@emitter("Resize")
def resize(b: Builder, node: Node) -> None:
    """Resize where its attributes describe the table; else Gathers or products with the table's weights."""
    kind, out = ResizeKind(node.params.get("kind", 0)), node.outputs[0]
    (_, h, w, _), (_, oh, ow, _) = b.tensor(node.inputs[0]).shape, b.tensor(out).shape
    tables = [_tables(node, kind, "y"), _tables(node, kind, "x")]
    axes = [Axis(h, oh, np.float64(oh / h)), Axis(w, ow, np.float64(ow / w))]
    x = b.value(node.inputs[0], FIRST)
    for rule in _rules(kind):
        if all(_same(table, axis, rule) for table, axis in zip(tables, axes, strict=True)):
            sizes = b.integers(permuted(list(b.tensor(out).shape), FIRST), "sizes")
            attributes: dict[str, Any] = {"mode": rule.mode, "coordinate_transformation_mode": rule.coordinates}
            if kind is ResizeKind.NEAREST:
                attributes["nearest_mode"] = rule.nearest
            if kind is ResizeKind.CUBIC:
                attributes["cubic_coeff_a"] = rule.cubic
            if kind is ResizeKind.LINEAR and b.quantised(b.tensor(out)):
                _int8_linear(b, node, sizes, attributes)
            else:
                b.bind(out, b.op("Resize", [x, "", "", sizes], f"{out}.raw", **attributes), FIRST)
            return
    if kind is ResizeKind.NEAREST:
        y = b.op("Gather", [x, b.constant(tables[0][0].astype(np.int64), "rows")], f"{out}.rows", axis=2)
        b.bind(out, b.op("Gather", [y, b.constant(tables[1][0].astype(np.int64), "columns")], f"{out}.raw", axis=3), FIRST)
        return
    y = b.op("MatMul", [b.constant(_matrix(tables[0], h, kind.taps), "rows"), x], f"{out}.rows")
    b.bind(out, b.op("MatMul", [y, b.constant(_matrix(tables[1], w, kind.taps).T, "columns")], f"{out}.raw"), FIRST)
