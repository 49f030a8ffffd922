# SPDX-License-Identifier: Apache-2.0
"""`--method`: improvements over AMCT's search whose result the deploy form can carry, joined by ``+``.

amct      IFMR/HFMG and ARQ as AMCT defines them, nothing else (default)
mse       ranges and weight scales that minimise the mean squared error: both ends of the activation range move, and each channel's
          scale is searched from 0.5 to 1.0 of the largest weight
rounding  weights are rounded one input after the other; each rounding error is spread over the inputs still to come, weighted by how
          they vary together on the calibration data (second-order error feedback)
bias      the bias takes up the mean shift that quantisation causes in each channel
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ConvertError
from ...progress import track
from . import kernels
from .arq import channels_first, deq_scales, quantise_weights, spread
from .calibrate import Batches
from .configs import LayerConfig
from .factors import Factors, Quantised
from .hfmg import HfmgHistogram, asymmetric_factors, symmetric_factors
from .layers import Layer
from .observe import FloatRunner
from .onnx_graph import OnnxGraph, attributes

__all__ = ["METHODS", "apply_methods", "parse_method"]

Array = npt.NDArray[Any]
Override = Callable[[Quantised], Quantised]
METHODS = ("amct", "mse", "rounding", "bias")

_BINS = 8192
_RATIOS = np.linspace(0.5, 1.0, 26)
# Columns of the layer's input that feed the second moments, per batch, and the largest matrix that is kept.
_COLUMNS, _LARGEST = 2048, 2304


def parse_method(text: str) -> frozenset[str]:
    """The set of methods of ``"mse+bias"``; empty for ``"amct"``.

    Raises:
        ConvertError: an unknown name.
    """
    names = {name for name in text.split("+") if name}
    unknown = sorted(names - set(METHODS))
    if unknown or not names:
        raise ConvertError(
            f"unknown method {text!r}", rule="method.unknown", where="--method", hint=f"Known: {', '.join(METHODS)}, joined by +"
        )
    return frozenset(names - {"amct"})


def apply_methods(
    methods: frozenset[str],
    graph: OnnxGraph,
    layers: Sequence[Layer],
    factors: dict[str, Factors],
    resolved: Mapping[str, LayerConfig],
    runner: FloatRunner,
    batches: Batches | None,
    notes: list[str],
    *,
    quiet: bool = True,
) -> tuple[dict[str, Factors], dict[str, Override]]:
    """Better factors, and for each layer a function that improves its integers."""
    if not methods:
        return factors, {}
    if batches is None:
        raise ConvertError(
            "this method needs calibration data", rule="method.data", where="--method", hint="Give --calibration, or --method amct"
        )
    overrides: dict[str, Override] = {}

    def passes(text: str, visit: Callable[[str, Array], None]) -> None:
        names = {layer.x for layer in layers}
        for index in track(range(len(batches)), text, len(batches), quiet=quiet):
            runner.run(batches.load(index), names, visit)

    if "mse" in methods:
        factors = _mse(graph, layers, factors, resolved, passes)
        notes.append("method mse: activation ranges and weight scales minimise the squared error")
    rounded: dict[str, Array] = {}
    if "rounding" in methods:
        rounded = _rounded(graph, layers, factors, passes)
        notes.append(f"method rounding: {len(rounded)} of {len(layers)} layers (those with at most {_LARGEST} inputs a channel)")
    shifts: dict[str, Array] = {}
    if "bias" in methods:
        shifts = _shifts(graph, layers, factors, rounded, passes)
        notes.append(f"method bias: {len(shifts)} of {len(layers)} layers (those with a bias and static shapes)")
    for layer in layers:
        if layer.name in rounded or layer.name in shifts:
            overrides[layer.name] = _override(rounded.get(layer.name), shifts.get(layer.name))
    return factors, overrides


def _override(weights: Array | None, shift: Array | None) -> Override:
    def change(entry: Quantised) -> Quantised:
        if weights is not None:
            entry = replace(entry, weights=weights)
        if shift is not None and entry.bias is not None:
            steps = np.rint(shift / deq_scales(entry.factors.scale_d, entry.factors.scale_w).astype(np.float64))
            bias = entry.bias.astype(np.int64) + steps.astype(np.int64)
            if np.abs(bias).max() <= 2**31 - 1:
                entry = replace(entry, bias=bias.astype(np.int32))
        return entry

    return change


# -- mse ---------------------------------------------------------------------------------------------------------------------------


def _mse(
    graph: OnnxGraph, layers: Sequence[Layer], factors: dict[str, Factors], resolved: Mapping[str, LayerConfig], passes: Any
) -> dict[str, Factors]:
    ranges: dict[str, tuple[np.float32, np.float32]] = {}

    def widen(name: str, x: Array) -> None:
        low, high = ranges.get(name, (np.float32(0), np.float32(0)))
        ranges[name] = (min(low, np.float32(x.min())), max(high, np.float32(x.max())))

    passes("ranges (mse)", widen)
    histograms = {name: HfmgHistogram(_BINS, low, high) for name, (low, high) in ranges.items()}
    passes("histograms (mse)", lambda name, x: histograms[name].add(x))
    out = {}
    for layer in layers:
        scale, offset = _best_range(histograms[layer.x], bool(resolved[layer.name].asymmetric))
        old = factors[layer.name]
        scales = _best_weight_scales(graph, layer, old.scale_w) if layer.weight else old.scale_w
        out[layer.name] = Factors(scale, offset, scales)
    return out


def _best_range(histogram: HfmgHistogram, asymmetric: bool) -> tuple[np.float32, int]:
    """Smallest squared error over a grid of shrunk ends, each bin at its centre."""
    low, high = np.float32(min(histogram.low, 0)), np.float32(max(histogram.high, 0))
    width = (float(histogram.high) - float(histogram.low)) / histogram.bins
    used = np.flatnonzero(histogram.counts)
    centre, count = float(histogram.low) + (used + 0.5) * width, histogram.counts[used].astype(np.float64)
    lows = [low] if low == 0 or not asymmetric else [np.float32(low * r) for r in _RATIOS]
    best: tuple[float, np.float32, int] | None = None
    for a in lows:
        for ratio in _RATIOS:
            b = np.float32(high * ratio)
            scale, offset = asymmetric_factors(a, b) if asymmetric else symmetric_factors(np.float32(low * ratio), b)
            q = np.clip(np.rint(centre / float(scale)) + offset, -128, 127)
            error = float((count * ((q - offset) * float(scale) - centre) ** 2).sum())
            if best is None or error < best[0]:
                best = (error, scale, offset)
    assert best is not None
    return best[1], best[2]


def _best_weight_scales(graph: OnnxGraph, layer: Layer, start: Array) -> Array:
    rows = channels_first(layer.op, graph.inits[layer.weight].astype(np.float64), layer.group)
    if start.size == 1:
        rows = rows.reshape(1, -1)
    best, error = start.astype(np.float32).copy(), np.full(start.size, np.inf)
    for ratio in _RATIOS[::-1]:
        scale = (start * np.float32(ratio)).astype(np.float32)
        scale = np.where(scale < 1.2e-7, start, scale).astype(np.float32)
        q = np.clip(np.rint(rows / scale[:, None]), -128, 127)
        here = ((q * scale[:, None] - rows) ** 2).sum(axis=1)
        better = here < error
        best[better], error[better] = scale[better], here[better]
    return best


# -- rounding ----------------------------------------------------------------------------------------------------------------------


def _columns(graph: OnnxGraph, layer: Layer, x: Array) -> Array:
    """[group, inputs of one output, samples] of the layer's input: what each weight row is multiplied with."""
    if layer.op in ("Gemm", "MatMul"):
        flat = x.reshape(-1, x.shape[-1])
        return flat[:: max(1, flat.shape[0] // _COLUMNS)].T[None]
    node = next(node for node in graph.nodes if node.name == layer.name)
    attrs, kernel = attributes(node), graph.inits[layer.weight].shape[2:]
    rank = len(kernel)
    strides, dilations, pads = attrs.get("strides", [1] * rank), attrs.get("dilations", [1] * rank), attrs.get("pads", [0] * 2 * rank)
    patches = kernels.patches(x, kernel, strides, dilations, pads)
    flat = patches.reshape(x.shape[0], layer.group, x.shape[1] // layer.group * int(np.prod(kernel)), -1)
    flat = flat[..., :: max(1, flat.shape[-1] * x.shape[0] // _COLUMNS)]
    return flat.transpose(1, 2, 0, 3).reshape(layer.group, flat.shape[2], -1)


def _rounded(graph: OnnxGraph, layers: Sequence[Layer], factors: Mapping[str, Factors], passes: Any) -> dict[str, Array]:
    fitting = [
        layer
        for layer in layers
        if layer.op in ("Conv", "Gemm", "MatMul") and channels_first(layer.op, graph.inits[layer.weight], layer.group).shape[1] <= _LARGEST
    ]
    moments: dict[str, Array] = {}

    def gather(name: str, x: Array) -> None:
        for layer in fitting:
            if layer.x == name:
                columns = _columns(graph, layer, x).astype(np.float32)
                product = np.matmul(columns, columns.transpose(0, 2, 1)).astype(np.float64)
                moments[layer.name] = moments[layer.name] + product if layer.name in moments else product

    passes("second moments", gather)
    return {layer.name: _feedback(graph, layer, factors[layer.name], moments[layer.name]) for layer in fitting}


def _feedback(graph: OnnxGraph, layer: Layer, factors: Factors, moments: Array) -> Array:
    """int8 weights; the error of column k moves to the later columns along the rows of the inverse moment's Cholesky factor."""
    weights = graph.inits[layer.weight]
    rows = channels_first(layer.op, weights.astype(np.float64), layer.group)
    per_group = rows.shape[0] // layer.group
    scales = np.broadcast_to(factors.scale_w.astype(np.float64), (rows.shape[0],))
    out = np.empty(rows.shape, dtype=np.int8)
    for group in range(layer.group):
        part = slice(group * per_group, (group + 1) * per_group)
        h = moments[group]
        damp = 0.01 * float(np.mean(np.diag(h))) or 1.0
        upper = np.linalg.cholesky(np.linalg.inv(h + damp * np.eye(h.shape[0]))).T
        w, s = rows[part].copy(), scales[part]
        for k in range(w.shape[1]):
            q = np.clip(np.rint(w[:, k] / s), -128, 127)
            out[part, k] = q
            error = (w[:, k] - q * s) / upper[k, k]
            w[:, k + 1 :] -= error[:, None] * upper[k, k + 1 :]
    return out.reshape(weights.shape) if layer.op == "Conv" else np.ascontiguousarray(out.T).reshape(weights.shape)


# -- bias --------------------------------------------------------------------------------------------------------------------------


def _shifts(
    graph: OnnxGraph, layers: Sequence[Layer], factors: Mapping[str, Factors], rounded: Mapping[str, Array], passes: Any
) -> dict[str, Array]:
    """Mean over data and positions of (float output - quantised output), per channel. Layers are linear: the mean input is enough."""
    fitting = [layer for layer in layers if layer.bias and graph.shape(layer.x) is not None]
    sums: dict[str, tuple[Array, Array]] = {}
    counts: dict[str, int] = {}

    def gather(name: str, x: Array) -> None:
        for layer in fitting:
            if layer.x != name:
                continue
            f = factors[layer.name]
            q = np.clip(np.rint(x * (np.float32(1) / f.scale_d)) + np.float32(f.offset_d), -128, 127) - np.float32(f.offset_d)
            # Axes of samples are averaged at once: the first of images, all but the last of matrices.
            axes = (0,) if layer.op in ("Conv", "ConvTranspose") else tuple(range(x.ndim - 1))
            a, b = x.mean(axis=axes, dtype=np.float64), (q * f.scale_d).mean(axis=axes, dtype=np.float64)
            old = sums.get(layer.name)
            sums[layer.name] = (a, b) if old is None else (old[0] + a, old[1] + b)
            counts[layer.name] = counts.get(layer.name, 0) + 1

    passes("bias", gather)
    out = {}
    for layer in fitting:
        real, coded = (part[None] / counts[layer.name] for part in sums[layer.name])
        weights = graph.inits[layer.weight].astype(np.float64)
        codes = rounded.get(layer.name)
        if codes is None:
            codes = quantise_weights(layer.op, graph.inits[layer.weight], factors[layer.name].scale_w, layer.group)
        restored = codes.astype(np.float64) * spread(layer.op, factors[layer.name].scale_w.astype(np.float64), weights, layer.group)
        difference = _linear(graph, layer, real, weights) - _linear(graph, layer, coded, restored)
        out[layer.name] = difference.mean(
            axis=tuple(i for i in range(difference.ndim) if i != (1 if difference.ndim > 2 else difference.ndim - 1))
        )
    return out


def _linear(graph: OnnxGraph, layer: Layer, x: Array, weights: Array) -> Array:
    if layer.op in ("Gemm", "MatMul"):
        return np.asarray(x @ weights)
    node = next(node for node in graph.nodes if node.name == layer.name)
    attrs, rank = attributes(node), weights.ndim - 2
    strides, dilations, pads = attrs.get("strides", [1] * rank), attrs.get("dilations", [1] * rank), attrs.get("pads", [0] * 2 * rank)
    if layer.op == "Conv":
        return kernels.conv(x, weights, layer.group, strides, dilations, pads)
    return kernels.conv_transpose(x, weights, layer.group, strides, dilations, pads, attrs.get("output_padding", [0] * rank))
