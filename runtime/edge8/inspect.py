# SPDX-License-Identifier: Apache-2.0
"""A model as text: graph, types, scales, arena plan, sizes."""

from __future__ import annotations

from .model import Model, Op, Tensor

__all__ = ["describe"]


def _type(t: Tensor) -> str:
    text = f"{t.dtype.name}[{','.join(map(str, t.shape))}]"
    if t.scale:
        text += f" s={t.scale:.6g} z={t.zero_point}" if not t.constant else f" s[0]={t.scale:.4g}"
    return text


def _op_lines(op: Op, tensors: list[Tensor]) -> list[str]:
    lines = [f"{op.index:4} {op.kind}" + (f"  {op.name}" if op.name else "") + (f"  {op.macs:,} MACs" if op.macs else "")]
    for arrow, numbers in (("<-", op.inputs), ("->", op.outputs)):
        for number in numbers:
            if number is None:
                continue
            t = tensors[number]
            coded = f", {t.bytes:,} decoded" if t.stored < t.bytes else ""
            stored = f"{t.stored:,} bytes stored{coded}"
            place = stored if t.constant else f"arena {t.offset:,}..{t.offset + t.bytes:,} life {t.first}-{t.last}"
            lines.append(f"       {arrow} {number:4} {t.name}  {_type(t)}  {place}")
    return lines


def describe(model: Model) -> str:
    """Everything that a model file says of itself, as text."""
    tensors, ops = model.tensors, model.ops
    constants = sum(t.stored for t in tensors if t.constant)
    decoded = f", {model.decoded_bytes:,} weights that are stored entropy-coded" if model.decoded_bytes else ""
    state = "activations calibrated" if model.calibrated else "activations not calibrated: float32 compute on quantised weights"
    head = [
        f"{model.path or 'model'}: {model.file_bytes:,} bytes, {constants:,} of them constants, crc {model.crc:08x}, by {model.producer}",
        f"{len(ops)} operators, {model.macs:,} MACs, {state}",
        f"arena: {model.arena_bytes(1):,} bytes with one thread, {model.activation_bytes:,} of them activations{decoded}",
    ]
    if bounded := model.metadata.get("bounded_weights"):
        head.append("bounded weights: in {} of {} layers that the bound makes faster".format(*bounded))
    for label, side in (("input", model.inputs), ("output", model.outputs)):
        free = " (batch free in the ONNX model)" if model.dynamic_batch else ""
        head += [f"{label} {t.name}: {_type(t)}{free}" for t in side]
    body = [line for op in ops for line in _op_lines(op, tensors)]
    counts: dict[str, int] = {}
    for op in ops:
        kind = f"{op.kind} {tensors[op.outputs[0]].dtype.name}"
        counts[kind] = counts.get(kind, 0) + 1
    return "\n".join([*head, "", *body, "", "operators: " + ", ".join(f"{n} x {kind}" for kind, n in sorted(counts.items()))])
