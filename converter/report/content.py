# SPDX-License-Identifier: Apache-2.0
"""The content of a report: plain dictionaries and lists, ready for JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edge8.model import Model, Op, Tensor

from .layers import LayerError, compare_layers, domain_of

__all__ = ["VERSION", "build_report"]

VERSION = 1
"""Of the JSON's form: raised when a key changes its meaning; keys may be added without."""

WORST = 6
"""Histograms are shown of so many layers with the lowest SQNR, and of so many with the most error of their own."""

_DOMAINS = ("int8", "int16", "dynamic", "weight", "float", "other")
_BORDERS = ("Quantize", "Dequantize")


def _summary(model: Model, onnx_bytes: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    tensors, ops, dynamic = model.tensors, model.ops, model.metadata.get("dynamic", [])
    macs, counts = dict.fromkeys(_DOMAINS, 0), dict.fromkeys(_DOMAINS, 0)
    for op in ops:
        if op.kind in _BORDERS:
            continue
        domain = domain_of(op, tensors, dynamic)
        macs[domain] += op.macs
        counts[domain] += 1
    return {
        "model": model.path.name if model.path else str(facts.get("model", "")),
        "quant": facts.get("quant", ""),
        "file_bytes": model.file_bytes,
        "constant_bytes": sum(t.bytes for t in tensors if t.constant),
        "onnx_bytes": onnx_bytes,
        "arena_bytes": model.arena_bytes(1),
        "activation_bytes": model.activation_bytes,
        "macs": sum(macs.values()),
        "macs_by_type": macs,
        "operators": sum(counts.values()),
        "operators_by_type": counts,
        "borders": sum(op.kind in _BORDERS for op in ops),
        "calibration_samples": facts.get("samples", 0),
        "method": facts.get("method", ""),
        "producer": model.producer,
        "crc": f"{model.crc:08x}",
    }


def _operators(model: Model, reasons: Mapping[str, str]) -> list[dict[str, Any]]:
    tensors, dynamic = model.tensors, model.metadata.get("dynamic", [])
    domains = [domain_of(op, tensors, dynamic) for op in model.ops]
    return [
        {
            "index": op.index,
            "kind": op.kind,
            "node": op.name,
            "type": domain,
            "macs": op.macs,
            "reason": reasons.get(op.name, "") if domain != "int8" and op.kind not in _BORDERS else "",
        }
        for op, domain in zip(model.ops, domains, strict=True)
    ]


def _number(value: float) -> float:
    """Shorter numbers: JSON does not need the noise beyond seven digits."""
    return float(f"{value:.7g}")


def _layer(layer: LayerError, ops: Sequence[Op], tensors: list[Tensor], dynamic: Collection[str]) -> dict[str, Any]:
    op, t = ops[layer.op], layer.tensor
    entry: dict[str, Any] = {
        "op": op.index,
        "kind": op.kind,
        "node": op.name,
        "tensor": layer.reference,
        "shape": list(t.shape),
        "type": domain_of(op, tensors, dynamic),
        "macs": op.macs,
        "sqnr": _number(layer.sqnr),
        "cosine": _number(layer.cosine),
        "max_error": _number(layer.largest),
        "rms": _number(float(np.sqrt(layer.signal / max(1, layer.count)))),
    }
    if layer.quantised and layer.observer is not None:
        low, high = layer.observer.extremes()
        entry |= {
            "own_sqnr": _number(layer.own_sqnr),
            "clip_rate": _number(layer.clip_rate),
            "scale": _number(t.scale),
            "zero_point": t.zero_point,
            "range": [_number(v) for v in layer.range()],
            "values": [_number(low), _number(high)],
        }
    return entry


def _worst(layers: Sequence[LayerError]) -> list[tuple[LayerError, str]]:
    """Layers worth a look: the lowest SQNR, then the most error of their own (tensors that share a scale count once)."""
    quantised = [layer for layer in layers if layer.quantised and layer.observer is not None and layer.signal > 0]
    chosen: dict[int, tuple[LayerError, str]] = {}
    criteria: list[tuple[str, Callable[[LayerError], float]]] = [
        ("lowest SQNR", lambda e: e.sqnr),
        ("most rounding and clipping of its own", lambda e: e.own_sqnr),
    ]
    for why, key in criteria:
        seen: set[tuple[float, int, float]] = set()
        for layer in sorted(quantised, key=key):
            mark = (layer.tensor.scale, layer.tensor.zero_point, round(key(layer), 3))
            if mark in seen:
                continue
            seen.add(mark)
            chosen.setdefault(id(layer), (layer, why))
            if len(seen) == WORST:
                break
    return list(chosen.values())


def _histograms(layers: Sequence[LayerError], ops: Sequence[Op]) -> list[dict[str, Any]]:
    result = []
    for layer, why in _worst(layers):
        assert layer.observer is not None
        low, high, shares = layer.observer.histogram()
        if shares:
            result.append(
                {
                    "tensor": layer.reference,
                    "kind": ops[layer.op].kind,
                    "why": why,
                    "sqnr": _number(layer.sqnr),
                    "own_sqnr": _number(layer.own_sqnr),
                    "clip_rate": _number(layer.clip_rate),
                    "low": _number(low),
                    "high": _number(high),
                    "range": [_number(v) for v in layer.range()],
                    "shares": [_number(v) for v in shares],
                }
            )
    return result


def _arena(model: Model) -> dict[str, Any]:
    """Places and lives of the activations, and the bytes alive at each operator."""
    ops = model.ops
    entries: list[dict[str, Any]] = [
        {"tensor": t.name, "offset": t.offset, "bytes": t.bytes, "first": t.first, "last": t.last, "dtype": t.dtype.name}
        for t in model.tensors
        if not t.constant
    ]
    alive = [0] * (len(ops) + 1)
    for e in entries:
        for step in range(e["first"], min(e["last"], len(ops)) + 1):
            alive[step] = max(alive[step], e["offset"] + e["bytes"])
    peak = int(np.argmax(alive[:-1])) if ops else 0
    return {
        "bytes": model.arena_bytes(1),
        "activation_bytes": model.activation_bytes,
        "tensors": entries,
        "used": alive[:-1],
        "peak": {"op": peak, "kind": ops[peak].kind, "node": ops[peak].name, "bytes": alive[peak]} if ops else None,
    }


def _accuracy(layers: Sequence[LayerError], model: Model) -> dict[str, dict[str, float]]:
    """Cosine and SQNR of each float output."""
    found: dict[str, dict[str, float]] = {}
    for t in model.outputs:
        for layer in layers:
            if layer.tensor.name == t.name or layer.reference == t.name:
                found[t.name] = {"cosine": _number(layer.cosine), "sqnr": _number(layer.sqnr), "max_error": _number(layer.largest)}
    return found


def build_report(
    model: Model,
    reference: Model | None,
    samples: Iterable[Mapping[str, Any]] = (),
    *,
    onnx_bytes: int = 0,
    reasons: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    scaled: Collection[str] = (),
    threads: int = 1,
) -> dict[str, Any]:
    """Everything a report says, as JSON-ready values.

    Args:
        model: the file to report on.
        reference: the float file of the same network, or None: the report then has no errors of layers.
        samples: inputs for the comparison; may be a stream of any length.
        onnx_bytes: size of the ONNX model, 0 = unknown.
        reasons: why a node is not int8, by node name; what the file's metadata says is used where this is absent.
        facts: further entries: ``quant``, ``method``, ``samples`` (calibration) go into the summary; ``warnings``, ``device`` (lines),
            ``corrections`` (list of {name, state, before, after, ...}) and ``search`` become sections as they are.
        scaled: names of tensors whose channels the file holds on another scale than the reference (equalisation).
        threads: of the comparison.

    Returns:
        Keys: version, summary, accuracy, layers, histograms, operators, arena, warnings, and those of ``facts``.

    Raises:
        Edge8Error: a sample does not fit the model.
    """
    facts = dict(facts or {})
    known = model.metadata.get("reasons", {})
    reasons = {**(known if isinstance(known, dict) else {}), **(reasons or {})}
    layers, count = ([], 0) if reference is None else compare_layers(reference, model, samples, threads=threads, scaled=scaled)
    ops, tensors, dynamic = model.ops, model.tensors, model.metadata.get("dynamic", [])
    content: dict[str, Any] = {
        "version": VERSION,
        "summary": _summary(model, onnx_bytes, facts),
        "compared_samples": count,
        "accuracy": _accuracy(layers, model) if count else {},
        "layers": [_layer(layer, ops, tensors, dynamic) for layer in layers] if count else [],
        "histograms": _histograms(layers, ops) if count else [],
        "operators": _operators(model, reasons),
        "arena": _arena(model),
        "warnings": list(facts.get("warnings", [])),
    }
    content |= {key: value for key, value in facts.items() if key not in content and key not in ("quant", "method", "samples", "model")}
    return content
