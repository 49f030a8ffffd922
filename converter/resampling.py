# SPDX-License-Identifier: Apache-2.0
"""ONNX Resize and Upsample as tables: which source positions, with which weights, make each output position of an axis.

Positions are computed in float32, but from exact ratios where a model of the modes asymmetric and half_pixel_symmetric gives
sizes: as onnxruntime and ONNX's evaluator do, so that ties fall the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .shapes import axes_of

__all__ = ["Axis", "Rule", "axis_table", "import_resize"]

F = np.float32
Array = np.ndarray[Any, Any]
_KINDS = {"nearest": 0, "linear": 1, "cubic": 2}
_TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")


@dataclass(frozen=True)
class Axis:
    """One axis: sizes, the scale that relates them (float32 when the model states it), the part to crop (tf_crop_and_resize)."""

    size: int
    out: int
    scale: np.floating[Any]
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Rule:
    """How positions are found: the attributes of ONNX Resize. Nearest "simple" is floor, or ceil when the axis shrinks."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False


def positions(axis: Axis, coordinates: str) -> Array:
    """Real source position of each output position, float32 or float64 [out]."""
    real = type(axis.scale) if coordinates in ("asymmetric", "half_pixel_symmetric") else F
    half, one = real(0.5), real(1)
    i, scale, size, out = np.arange(axis.out).astype(real), real(axis.scale), real(axis.size), axis.out
    if coordinates == "asymmetric":
        return np.asarray(i / scale)
    if coordinates == "tf_half_pixel_for_nn":
        return np.asarray((i + half) / scale)
    if coordinates == "align_corners":
        return np.zeros(out, real) if out == 1 else np.asarray(i * (size - one) / real(out - 1))
    if coordinates == "pytorch_half_pixel" and out == 1:
        return np.zeros(1, real)
    if coordinates == "half_pixel_symmetric":
        adjustment = real(out) / (scale * size)
        return np.asarray(size / real(2) * (one - adjustment) + (i + half) / scale - half)
    if coordinates == "tf_crop_and_resize":
        start, end = real(axis.start), real(axis.end)
        if out == 1:
            return np.full(1, half * (start + end) * (size - one), real)
        return np.asarray(start * (size - one) + i * (end - start) * (size - one) / real(out - 1))
    return np.asarray((i + half) / scale - half)


def _nearest_index(x: Array, rule: Rule, scale: np.floating[Any]) -> Array:
    half = x.dtype.type(0.5)
    if rule.nearest == "round_prefer_floor":
        return np.asarray(np.ceil(x - half))
    if rule.nearest == "round_prefer_ceil":
        return np.asarray(np.floor(x + half))
    if rule.nearest == "floor" or (rule.nearest == "simple" and scale >= 1):
        return np.asarray(np.floor(x))
    return np.asarray(np.ceil(x))


def _cubic_weights(t: Array, a: float) -> Array:
    """Weights [out, 4] of the positions -1, 0, 1, 2 for fractions t."""
    t = t.astype(np.float64)

    def near(d: Array) -> Array:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Array) -> Array:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return np.stack([far(t + 1), near(t), near(1 - t), far(2 - t)], axis=1)


def axis_table(axis: Axis, rule: Rule) -> tuple[Array, Array | None]:
    """Source positions int32 [out * taps] and weights float32 of the same length, or None for nearest.

    tf_crop_and_resize beyond the input gives weights of 0 (its extrapolation value is 0); nearest then needs weights, too: two taps.
    """
    x = positions(axis, rule.coordinates)
    outside = (x < 0) | (x > axis.size - 1) if rule.coordinates == "tf_crop_and_resize" else np.zeros(axis.out, bool)
    last = axis.size - 1
    if rule.mode == "nearest":
        index = np.clip(_nearest_index(x, rule, axis.scale), 0, last).astype(np.int32)
        if not outside.any():
            return index, None
        weight = np.stack([np.where(outside, 0, 1), np.zeros(axis.out)], axis=1)
        return np.repeat(index, 2), weight.astype(F).reshape(-1)
    base = np.floor(x)
    t = x - base
    if rule.mode == "linear":
        offsets, weight = np.arange(2), np.stack([1 - t, t], axis=1).astype(np.float64)
    else:
        offsets, weight = np.arange(-1, 3), _cubic_weights(t, rule.cubic)
    places = base.astype(np.int64)[:, None] + offsets
    if rule.exclude_outside:
        weight = np.where((places < 0) | (places > last), 0, weight)
        total = weight.sum(axis=1, keepdims=True)
        weight = weight / np.where(total == 0, 1, total)
    weight = np.where(outside[:, None], 0, weight)
    return np.clip(places, 0, last).astype(np.int32).reshape(-1), weight.astype(F).reshape(-1)


def _widen(table: tuple[Array, Array | None]) -> tuple[Array, Array]:
    """A nearest table in the two-tap form."""
    index, weight = table
    if weight is not None:
        return index, weight
    return np.repeat(index, 2), np.tile(np.array([1, 0], F), len(index))


def _identity(size: int, mode: str) -> tuple[Array, Array | None]:
    taps = _TAPS[mode]
    index = np.repeat(np.arange(size, dtype=np.int32), taps)
    return index, None if taps == 1 else np.tile(np.eye(1, taps, dtype=F)[0], size)


def _is_identity(table: tuple[Array, Array | None], mode: str, size: int) -> bool:
    index, weight = table
    if index.size != size * _TAPS[mode] or (weight is None) != (mode == "nearest"):
        return False
    if weight is None:
        return bool(np.array_equal(index, np.arange(size)))
    rows, parts = index.reshape(size, -1), weight.reshape(size, -1)
    single = (parts == 1).sum(axis=1) == 1
    return bool(single.all() and (np.count_nonzero(parts) == size) and np.array_equal(rows[parts == 1], np.arange(size)))


def _params(mode: str, y: tuple[Array, Array | None], x: tuple[Array, Array | None]) -> dict[str, Any]:
    """Parameters of a Resize node. Two nearest tables stay nearest unless one of them has weights."""
    kind = _KINDS[mode]
    if mode == "nearest" and (y[1] is not None or x[1] is not None):
        kind, y, x = _KINDS["linear"], _widen(y), _widen(x)
    params: dict[str, Any] = {"kind": kind, "y_index": y[0].tolist(), "x_index": x[0].tolist()}
    if y[1] is not None and x[1] is not None:
        params.update(y_weight=y[1].tolist(), x_weight=x[1].tolist())
    return params


# ---- ONNX ------------------------------------------------------------------------------------------------------------------------------


def _rule(ctx: Any) -> Rule:
    mode = ctx.attr("mode", "nearest")
    if ctx.op_type == "Upsample" or ctx.opset < 11:
        if mode not in ("nearest", "linear", "bilinear"):
            ctx.fail(f"mode '{mode}' is not supported", "Known: nearest, linear")
        return Rule("linear" if mode == "bilinear" else mode, "asymmetric", "simple")
    rule = Rule(
        mode,
        ctx.attr("coordinate_transformation_mode", "half_pixel"),
        ctx.attr("nearest_mode", "round_prefer_floor"),
        float(ctx.attr("cubic_coeff_a", -0.75)),
        bool(ctx.attr("exclude_outside", 0)),
    )
    if mode not in _KINDS:
        ctx.fail(f"mode '{mode}' is not supported", f"Known: {', '.join(_KINDS)}")
    if rule.coordinates not in _COORDINATES:
        ctx.fail(f"coordinate_transformation_mode '{rule.coordinates}' is not supported", f"Known: {', '.join(_COORDINATES)}")
    if rule.nearest not in _NEAREST[:4]:
        ctx.fail(f"nearest_mode '{rule.nearest}' is not supported", f"Known: {', '.join(_NEAREST[:4])}")
    if ctx.attr("antialias", 0):
        ctx.fail("antialias = 1 is not supported", "Export the model with antialias = 0")
    return rule


def _numbers(ctx: Any, i: int, what: str) -> list[float]:
    """Constant input ``i`` as a list, empty when absent or without elements."""
    if not ctx.has_input(i) or 0 in ctx.shape(i):
        return []
    return [float(v) for v in ctx.require_constant(i, what).reshape(-1)]


def _import_axes(ctx: Any, rule: Rule) -> list[Axis]:
    """Every axis of the input with its output size and scale."""
    shape = ctx.shape(0)
    wide = ctx.op_type == "Resize" and ctx.opset >= 11
    roi = _numbers(ctx, 1, "the region of interest") if wide and rule.coordinates == "tf_crop_and_resize" else []
    scales = ctx.attr("scales") if ctx.opset < 9 else None
    scales = list(scales) if scales else _numbers(ctx, 2 if wide else 1, "the list of scales")
    sizes = _numbers(ctx, 3, "the list of sizes") if wide else []
    named = ctx.attr("axes") or list(range(len(shape)))
    axes = axes_of(ctx, named, len(shape))
    if bool(scales) == bool(sizes):
        ctx.fail("exactly one of scales and sizes must be given")
    for name, values, count in (("scales", scales, len(axes)), ("sizes", sizes, len(axes)), ("roi", roi, 2 * len(axes))):
        if values and len(values) != count:
            ctx.fail(f"{name} has {len(values)} values for {len(axes)} axes")
    if rule.coordinates == "tf_crop_and_resize" and not roi:
        ctx.fail("tf_crop_and_resize needs the region of interest (input 1)")
    result = [Axis(n, n, F(1)) for n in shape]
    pairs = _from_scales(ctx, [shape[a] for a in axes], scales) if scales else _from_sizes(ctx, [shape[a] for a in axes], sizes)
    for k, (a, (out, scale)) in enumerate(zip(axes, pairs, strict=True)):
        if rule.coordinates == "align_corners" and scales and F(shape[a]) * F(scale) != out:
            ctx.fail(
                f"align_corners with scale {scale:g} of a side of {shape[a]} means different things to different runtimes",
                f"Export the node with sizes (here {out}) instead of scales",
            )
        crop = (roi[k], roi[k + len(axes)]) if roi else (0.0, 1.0)
        result[a] = Axis(shape[a], out, scale, *crop)
    return result


def _from_scales(ctx: Any, shape: list[int], scales: list[float]) -> list[tuple[int, np.floating[Any]]]:
    pairs: list[tuple[int, np.floating[Any]]] = []
    for n, scale in zip(shape, scales, strict=True):
        out = int(np.floor(F(n) * F(scale))) if np.isfinite(scale) and 0 < scale < 2**20 else 0
        if not 1 <= out < 2**24:
            ctx.fail(f"scale {scale:g} of a side of {n} is not possible")
        pairs.append((out, F(scale)))
    return pairs


def _from_sizes(ctx: Any, shape: list[int], sizes: list[float]) -> list[tuple[int, np.floating[Any]]]:
    if any(not 1 <= s < 2**24 for s in sizes):
        ctx.fail(f"sizes {[int(s) for s in sizes]} must be positive")
    policy = ctx.attr("keep_aspect_ratio_policy", "stretch")
    ratios = [s / n for s, n in zip(sizes, shape, strict=True)]
    if policy == "stretch":
        return [(int(s), np.float64(s / n)) for s, n in zip(sizes, shape, strict=True)]
    if policy not in ("not_larger", "not_smaller"):
        ctx.fail(f"keep_aspect_ratio_policy '{policy}' is not supported", "Known: stretch, not_larger, not_smaller")
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    # The sizes follow the common ratio, rounded half up.
    return [(max(int(np.floor(ratio * n + 0.5)), 1), np.float64(ratio)) for n in shape]


def import_resize(ctx: Any) -> None:
    """Resize and Upsample: along H and W where the model's layout has them, along any other axis one after the other."""
    rule = _rule(ctx)
    axes = _import_axes(ctx, rule)
    if rule.coordinates == "tf_crop_and_resize" and float(ctx.attr("extrapolation_value", 0.0)) != 0.0:
        places = [(positions(a, rule.coordinates), a.size) for a in axes]
        if any((x < 0).any() or (x > size - 1).any() for x, size in places):
            ctx.fail("an extrapolation_value other than 0 is not supported where the region reaches beyond the input")
    tables = [axis_table(a, rule) for a in axes]
    changed = [i for i, (a, t) in enumerate(zip(axes, tables, strict=True)) if not _is_identity(t, rule.mode, a.size)]
    x, rank = ctx.input(0), len(axes)
    if rank in (3, 4) and changed and min(changed) >= 2:
        same = _identity(1, rule.mode)
        y_table = tables[2] if rank == 4 else same
        ctx.finish(ctx.from_nhwc(ctx.emit("Resize", [ctx.to_nhwc(x)], _params(rule.mode, y_table, tables[-1])), rank))
        return
    for i in changed:
        shape = ctx.tensor(x).shape
        flat = (int(np.prod(shape[:i])), shape[i], 1, int(np.prod(shape[i + 1 :])))
        y = ctx.emit("Resize", [ctx.reshape(x, flat)], _params(rule.mode, tables[i], _identity(1, rule.mode)))
        x = ctx.reshape(y, (*shape[:i], axes[i].out, *shape[i + 1 :]))
    ctx.finish(x if changed else ctx.reshape(x, ctx.shape(0)))
