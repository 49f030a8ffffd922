# SPDX-License-Identifier: Apache-2.0
"""From factors to integers: weights and bias of each layer, with every overflow named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ConvertError
from .arq import BiasOverflowError, arq_scales, channels_first, deq_scales, quantise_bias, quantise_weights
from .configs import LayerConfig
from .factors import Factors, Quantised
from .layers import Layer
from .onnx_graph import OnnxGraph
from .simulate import needs_sqrt_mode

__all__ = ["fixed_weight_scales", "quantise_layer", "quantise_layers", "range_warnings", "weight_scales"]

Array = npt.NDArray[Any]
# ATC refuses larger scales ("Not support scale greater than 1 / FLT_EPSILON").
_SCALE_LIMIT = 1.0 / 1.1920928955078125e-07
_INT32_MAX = (1 << 31) - 1


def weight_scales(graph: OnnxGraph, layer: Layer, config: LayerConfig) -> Array:
    """scale_w of a layer by ARQ; AveragePool has the single scale 1.

    Raises:
        ConvertError: NaN or infinity in the weights.
    """
    if not layer.weight:
        return np.ones(1, dtype=np.float32)
    weights = graph.inits[layer.weight]
    if not np.isfinite(weights).all():
        raise ConvertError("NaN or infinity in the weights", rule="weights.finite", where=layer.name, hint="Check the trained model")
    return arq_scales(layer.op, weights, layer.group, bool(config.channel_wise))


def quantise_layer(graph: OnnxGraph, layer: Layer, factors: Factors) -> Quantised:
    """Integer weights and bias of one layer.

    Raises:
        ConvertError: bias beyond int32, or a scale ATC refuses.
    """
    if float(factors.scale_w.max()) > _SCALE_LIMIT or float(factors.scale_d) > _SCALE_LIMIT:
        raise ConvertError(
            f"a scale is above {_SCALE_LIMIT:.0f}",
            rule="scale.limit",
            where=layer.name,
            hint=f"Leave the layer in float: --skip {layer.name}",
        )
    if not layer.weight:
        return Quantised(layer, factors, None, None)
    weights = quantise_weights(layer.op, graph.inits[layer.weight], factors.scale_w, layer.group)
    bias = None
    if layer.bias:
        try:
            bias = quantise_bias(graph.inits[layer.bias], factors.scale_d, factors.scale_w)
        except BiasOverflowError as error:
            raise ConvertError(
                f"the quantised bias of channel {error.channel} is {error.value:.4g}, beyond int32",
                rule="bias.overflow",
                where=layer.name,
                hint=f"Leave the layer in float: --skip {layer.name} (AMCT: add it to skip_layers)",
            ) from None
    return Quantised(layer, factors, weights, bias)


def quantise_layers(graph: OnnxGraph, factors: Mapping[str, Factors], layers: Sequence[Layer]) -> list[Quantised]:
    """All layers that have factors, in graph order."""
    return [quantise_layer(graph, layer, factors[layer.name]) for layer in layers if layer.name in factors]


def fixed_weight_scales(layer: Layer, scales: Array, graph: OnnxGraph, warnings: list[str]) -> Array:
    """Weight scales of a QDQ model or record in a form the chip takes: per channel for convolutions, else one.

    A Gemm or MatMul quantised per output channel gets the scale that covers all channels.
    """
    if scales.size == 1 or (layer.channel_wise and scales.size == layer.channels):
        return scales
    warnings.append(f"{layer.name}: {layer.op} takes one weight scale; its weights were quantised anew per tensor")
    return arq_scales(layer.op, graph.inits[layer.weight], layer.group, channel_wise=False)


def worst_sum(entry: Quantised) -> int:
    """Largest magnitude an accumulator of the layer can reach: 255 * sum|w| + |bias| of its worst channel."""
    if entry.weights is None:
        return 0
    rows = channels_first(entry.layer.op, entry.weights, entry.layer.group).astype(np.int64)
    bias = np.zeros(rows.shape[0], dtype=np.int64) if entry.bias is None else np.abs(entry.bias.astype(np.int64))
    low, high = -128 - entry.factors.offset_d, 127 - entry.factors.offset_d
    return int((np.abs(rows).sum(axis=1) * max(abs(low), abs(high)) + bias).max())


def range_warnings(layers: Sequence[Quantised], mode: str) -> list[str]:
    """Accumulators beyond int32 or float32's integers, scales beyond float16: one line each kind."""
    out = []
    over = [e.layer.name for e in layers if worst_sum(e) > _INT32_MAX]
    inexact = [e.layer.name for e in layers if (1 << 24) < worst_sum(e) <= _INT32_MAX]
    if over:
        out.append(f"{len(over)} layer(s) could overflow int32 in the worst case ({_some(over)}); watch the largest sums of the simulation")
    if inexact:
        out.append(
            f"{len(inexact)} layer(s) could reach sums above 2^24 in the worst case ({_some(inexact)}): there the fake-quant model, "
            "which adds in float32, may differ in the last bit"
        )
    if mode == "fp16":
        small = [e.layer.name for e in layers if needs_sqrt_mode(deq_scales(e.factors.scale_d, e.factors.scale_w)).any()]
        quant = [e.layer.name for e in layers if needs_sqrt_mode(np.float32(1.0) / e.factors.scale_d).any()]
        if small:
            out.append(
                f"{len(small)} of {len(layers)} layers have a dequantisation scale below 2^-14, outside float16's normal numbers: "
                "ATC switches them to sqrt_mode (the scale's root, applied twice); the simulation does the same"
            )
        if quant:
            out.append(f"{len(quant)} layer(s) have an AscendQuant scale outside float16's normal numbers ({_some(quant)})")
    return out


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
