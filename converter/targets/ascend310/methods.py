# SPDX-License-Identifier: Apache-2.0
"""`--method`: improvements over AMCT's search whose result the deploy form can carry, joined by ``+``.

auto      equalise+rounding with calibration data (rounding alone where a record or QDQ model fixes the factors), else amct
amct      IFMR/HFMG and ARQ as AMCT defines them, nothing else
equalise  channels of one activation are brought to ranges of the same order first, see equalise.py
mse       ranges and weight scales that minimise the mean squared error: both ends of the activation range move, and each channel's
          scale is searched from 0.5 to 1.0 of the largest weight
rounding  weights are rounded one input after the other; each rounding error is spread over the inputs still to come, weighted by how
          they vary together on the calibration data (second-order error feedback)
bias      the bias takes up the mean shift that quantisation has caused in each channel up to there, see correction.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ...errors import ConvertError
from . import kernels
from .arq import channels_first
from .configs import LayerConfig
from .factors import Factors
from .hfmg import HfmgHistogram, asymmetric_factors, symmetric_factors
from .layers import Layer
from .observe import Activations
from .onnx_graph import OnnxGraph, attributes

__all__ = ["METHODS", "apply_methods", "parse_method"]

Array = npt.NDArray[Any]
METHODS = ("amct", "equalise", "mse", "rounding", "bias")

_BINS = 8192
_RATIOS = np.linspace(0.5, 1.0, 26)
# Output positions that feed the second moments, over all batches, and the largest matrix that is kept.
_SAMPLES, _LARGEST = 8192, 2304
# Weight columns that are rounded between two matrix products.
_COLUMNS = 32


def parse_method(text: str, has_data: bool) -> tuple[str, frozenset[str]]:
    """(canonical name, set of methods) of ``"mse+bias"``; the set is empty for ``"amct"``.

    Raises:
        ConvertError: an unknown name.
    """
    if text == "auto":
        text = "equalise+rounding" if has_data else "amct"
    names = {name for name in text.split("+") if name}
    unknown = sorted(names - set(METHODS))
    if unknown or not names:
        raise ConvertError(
            f"unknown method {text!r}", rule="method.unknown", where="--method", hint=f"Known: auto, {', '.join(METHODS)}, joined by +"
        )
    chosen = frozenset(names - {"amct"})
    return "+".join(name for name in METHODS if name in chosen) or "amct", chosen


def apply_methods(
    methods: frozenset[str],
    graph: OnnxGraph,
    layers: Sequence[Layer],
    factors: dict[str, Factors],
    resolved: Mapping[str, LayerConfig],
    activations: Activations | None,
    notes: list[str],
) -> tuple[dict[str, Factors], dict[str, Array]]:
    """Better factors, and int8 weights by layer name where they are not plainly rounded. ``bias`` comes later: see correction.py.

    Raises:
        ConvertError: a method without calibration data.
    """
    if not methods:
        return factors, {}
    if activations is None:
        raise ConvertError(
            "this method needs calibration data", rule="method.data", where="--method", hint="Give --calibration, or --method amct"
        )
    if "mse" in methods:
        factors = _mse(graph, layers, factors, resolved, activations)
        notes.append("method mse: activation ranges and weight scales minimise the squared error")
    nodes = {node.name: node for node in graph.nodes}
    if "rounding" not in methods:
        return factors, {}
    moments = _Moments(graph, nodes, layers, max(64, _SAMPLES // activations.count))
    activations.each("statistics", moments.add, {layer.x for layer in layers})
    rounded = moments.round(factors)
    notes.append(f"method rounding: {len(rounded)} of {len(layers)} layers (those with at most {_LARGEST} inputs a channel)")
    return factors, rounded


# -- mse ---------------------------------------------------------------------------------------------------------------------------


def _mse(
    graph: OnnxGraph, layers: Sequence[Layer], factors: dict[str, Factors], resolved: Mapping[str, LayerConfig], activations: Activations
) -> dict[str, Factors]:
    ranges: dict[str, tuple[np.float32, np.float32]] = {}

    def widen(name: str, x: Array) -> None:
        low, high = ranges.get(name, (np.float32(0), np.float32(0)))
        ranges[name] = (min(low, np.float32(x.min())), max(high, np.float32(x.max())))

    names = {layer.x for layer in layers}
    activations.each("ranges (mse)", widen, names)
    histograms = {name: HfmgHistogram(_BINS, low, high) for name, (low, high) in ranges.items()}
    activations.each("histograms (mse)", lambda name, x: histograms[name].add(x), names)
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


def _geometry(node: onnx.NodeProto, rank: int) -> tuple[list[int], list[int], list[int]]:
    attrs = attributes(node)
    return attrs.get("strides", [1] * rank), attrs.get("dilations", [1] * rank), attrs.get("pads", [0] * 2 * rank)


class _Moments:
    """Second moments of what each weight row is multiplied with, over a sample of output positions."""

    def __init__(self, graph: OnnxGraph, nodes: Mapping[str, onnx.NodeProto], layers: Sequence[Layer], samples: int) -> None:
        self._graph, self._nodes, self._samples = graph, nodes, samples
        self._layers = [
            layer
            for layer in layers
            if layer.op in ("Conv", "Gemm", "MatMul")
            and channels_first(layer.op, graph.inits[layer.weight], layer.group).shape[1] <= _LARGEST
        ]
        self._sums: dict[str, Array] = {}

    def add(self, name: str, x: Array) -> None:
        """Take in one batch of one value."""
        for layer in self._layers:
            if layer.x == name:
                columns = self._columns(layer, x)
                product = np.matmul(columns, columns.transpose(0, 2, 1)).astype(np.float64)
                self._sums[layer.name] = self._sums[layer.name] + product if layer.name in self._sums else product

    def _columns(self, layer: Layer, x: Array) -> Array:
        """[group, inputs of one output, samples], float32."""
        if layer.op in ("Gemm", "MatMul"):
            flat = x.reshape(-1, x.shape[-1])
            return np.ascontiguousarray(flat[:: max(1, flat.shape[0] // self._samples)].T[None])
        kernel = self._graph.inits[layer.weight].shape[2:]
        strides, dilations, pads = _geometry(self._nodes[layer.name], len(kernel))
        # Every so-manyth output position: larger strides give just those.
        area = float(np.prod(x.shape[2:])) / float(np.prod(strides)) * x.shape[0]
        factor = max(1, int((area / self._samples) ** (1 / len(kernel))))
        patches = kernels.patches(x, kernel, [s * factor for s in strides], dilations, pads)
        flat = patches.reshape(x.shape[0], layer.group, x.shape[1] // layer.group * int(np.prod(kernel)), -1)
        return np.ascontiguousarray(flat.transpose(1, 2, 0, 3).reshape(layer.group, flat.shape[2], -1))

    def round(self, factors: Mapping[str, Factors]) -> dict[str, Array]:
        """int8 weights by layer name."""
        return {
            layer.name: _feedback(self._graph.inits[layer.weight], layer, factors[layer.name], self._sums[layer.name])
            for layer in self._layers
        }


def _feedback(weights: Array, layer: Layer, factors: Factors, moments: Array) -> Array:
    """int8 weights; the error of column k moves to the later columns along the rows of the inverse moment's Cholesky factor."""
    rows = channels_first(layer.op, weights.astype(np.float64), layer.group)
    size = rows.shape[1]
    w = rows.reshape(layer.group, -1, size).copy()
    s = np.broadcast_to(factors.scale_w.astype(np.float64), (rows.shape[0],)).reshape(layer.group, -1)
    # One per cent of the mean moment on the diagonal keeps unused inputs from taking up arbitrary amounts.
    damp = 0.01 * np.einsum("gkk->g", moments) / size
    damp = np.where(damp > 0, damp, 1.0)
    upper = np.linalg.cholesky(np.linalg.inv(moments + damp[:, None, None] * np.eye(size))).transpose(0, 2, 1)
    out = np.empty(w.shape, dtype=np.int8)
    for start in range(0, size, _COLUMNS):
        # Errors reach the columns of their block at once, and the columns behind it in one product.
        end = min(start + _COLUMNS, size)
        errors = np.empty((*w.shape[:2], end - start))
        for k in range(start, end):
            q = np.clip(np.rint(w[:, :, k] / s), -128, 127)
            out[:, :, k] = q
            error = errors[:, :, k - start] = (w[:, :, k] - q * s) / upper[:, k, k][:, None]
            w[:, :, k + 1 : end] -= error[:, :, None] * upper[:, None, k, k + 1 : end]
        w[:, :, end:] -= errors @ upper[:, start:end, end:]
    flat = out.reshape(rows.shape)
    return flat.reshape(weights.shape) if layer.op == "Conv" else np.ascontiguousarray(flat.T).reshape(weights.shape)
