# SPDX-License-Identifier: Apache-2.0
"""Whether a model fits on a device, and a prediction of its latency from the device's profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .devices import Device, device_names, format_bytes, load_device
from .errors import ConvertError
from .graph import DType, Graph, Tensor
from .ops.base import operators

__all__ = ["Prediction", "Work", "check_fit", "device_warnings", "graph_work", "model_work", "predict"]


def check_fit(device: Device, *, model_bytes: int, arena_bytes: int, int8_weights: bool = True) -> str:
    """Check that a model fits on a device.

    Args:
        device: a profile.
        model_bytes: size of the .e8 file.
        arena_bytes: what a session needs.
        int8_weights: whether the weights take 8 bits, for the advice.

    Returns:
        A line that says how much of the memory is used.

    Raises:
        ConvertError: it does not fit; says by how much, and what would fit.
    """
    memory = device.memory
    room = memory.ram - memory.reserved
    if device.kind == "mcu":
        _require_room(device, "flash", model_bytes, memory.flash - memory.flash_reserved, "model", int8_weights)
        _require_room(device, "RAM", arena_bytes, room, "arena", int8_weights)
        flash, ram = 100 * model_bytes / (memory.flash - memory.flash_reserved), 100 * arena_bytes / room
        model, arena = format_bytes(model_bytes), format_bytes(arena_bytes)
        return f"{device.name}: model {model} is {flash:.0f} % of the free flash, arena {arena} is {ram:.0f} % of the free RAM"
    _require_room(device, "RAM", model_bytes + arena_bytes, room, "model and arena", int8_weights)
    total = model_bytes + arena_bytes
    return f"{device.name}: model and arena, {format_bytes(total)}, are {100 * total / room:.1f} % of the free RAM"


def _require_room(device: Device, where: str, needed: int, room: int, what: str, int8_weights: bool) -> None:
    if needed <= room:
        return
    advice = []
    bits = 8 * room // max(1, needed)
    if "model" in what and int8_weights and bits >= 1:
        advice.append(f"weights of at most {bits} bits would fit (--quant weight --bits {bits})")
    if "arena" in what:
        advice.append(f"an input picture of about {100 * (room / needed) ** 0.5:.0f} % of the width and height would fit (--input-shape)")
    others = [name for name in device_names() if _fits_elsewhere(device, name, needed, what)]
    if others:
        advice.append(f"it fits on {', '.join(others[:4])}")
    have, over = format_bytes(room), format_bytes(needed - room)
    raise ConvertError(
        f"the {what} needs {format_bytes(needed)}, and {device.title} has {have} of free {where}: {over} too much",
        rule="device.memory",
        where=device.name,
        hint="; ".join(advice),
    )


def _fits_elsewhere(device: Device, name: str, needed: int, what: str) -> bool:
    other = load_device(name)
    if other.kind != device.kind or other.target != device.target:
        return False
    free = other.memory.flash - other.memory.flash_reserved if what == "model" else other.memory.ram - other.memory.reserved
    return needed <= free


@dataclass(frozen=True)
class Work:
    """One operator's work.

    Attributes:
        kind: table name in schemas/ops.fbs.
        name: of the node, for messages.
        macs: multiply-accumulates (element operations).
        int8: whether it computes in int8.
        weight_bytes: constants that it reads.
        activation_bytes: activations that it reads and writes.
        int16: whether it computes in int16, which takes two int8 multiply-accumulates each.
    """

    kind: str
    name: str
    macs: int
    int8: bool
    weight_bytes: int
    activation_bytes: int
    int16: bool = False


def graph_work(graph: Graph) -> list[Work]:
    """The work of each node of a quantised (or float) graph."""
    result = []
    for node in graph.nodes:
        inputs = [graph.tensors[name] if name else None for name in node.inputs]
        outputs = [graph.tensors[name] for name in node.outputs]
        activations = [t for t in [*inputs, *outputs] if t is not None and not t.constant]
        result.append(
            Work(
                node.op,
                node.name,
                operators()[node.op].macs(node, inputs, outputs),
                _in_codes(activations, DType.INT8),
                sum(_stored_bytes(t) for t in inputs if t is not None and t.constant),
                sum(t.bytes for t in activations),
                _in_codes(activations, DType.INT16),
            )
        )
    return result


def _in_codes(activations: Sequence[Tensor], dtype: DType) -> bool:
    """Whether an operator computes on codes of ``dtype``, of the widest where types meet."""
    codes = {t.dtype for t in activations if t.dtype in (DType.INT8, DType.INT16) and t.scale is not None and t.scale.any()}
    return bool(codes) and max(codes) is dtype and not any(t.dtype == DType.FLOAT32 for t in activations)


def _stored_bytes(tensor: Tensor) -> int:
    return (tensor.elements * tensor.bits + 7) // 8 if tensor.bits else tensor.bytes


def model_work(model: Any) -> list[Work]:
    """The work of each operator of an open `edge8.Model`."""
    tensors = model.tensors
    result = []
    for op in model.ops:
        used = [tensors[i] for i in [*op.inputs, *op.outputs] if i is not None]
        activations = [t for t in used if not t.constant]
        width = max((t.dtype.itemsize for t in activations if t.dtype.kind == "i" and t.scale > 0), default=0)
        real = any(t.dtype.kind == "f" for t in activations)
        result.append(
            Work(
                op.kind,
                op.name,
                op.macs,
                width == 1 and not real,
                sum(t.bytes for t in used if t.constant),
                sum(t.bytes for t in activations),
                width == 2 and not real,
            )
        )
    return result


# Shares of the limit that the kernels are expected to reach, and fixed costs. They come from runs of the AVX2 kernels of this
# project on x86-64 beside that machine's limits (docs/boards.md, "How good is the prediction?"); no Arm board was measured.
_MATRIX = frozenset({"Conv2D", "FullyConnected", "MatMul", "ConvTranspose2D"})
_MATRIX_SHARE = 0.6
_DEPTHWISE_SHARE = 0.25
_ELEMENT_SHARE = 0.5  # element operations per cycle of a core with SIMD, over its int8 multiply-accumulates per cycle
_MEMORY_SHARE = 0.4  # of the peak rate that one core reaches; STREAM on a Raspberry Pi 4 gives 0.43
_OVERHEAD_CYCLES = 1500  # per operator
_SECOND_THREAD = 0.8  # what each further thread adds, as a share of the first


@dataclass(frozen=True)
class Prediction:
    """A calculated latency.

    Attributes:
        milliseconds: expected.
        limit_milliseconds: if every kernel reached the limit of its instructions and nothing waited for memory.
        operators: (work, milliseconds) of each.
        threads: number of threads assumed.
        text: a sentence for people, which says that it is a prediction.
    """

    milliseconds: float
    limit_milliseconds: float
    operators: list[tuple[Work, float]] = field(repr=False)
    threads: int = 1
    text: str = ""

    def __str__(self) -> str:
        return self.text


def predict(device: Device, work: Sequence[Work], *, threads: int = 1) -> Prediction:
    """Calculate the latency of a model on the device's fastest cores.

    ``t(op) = max(macs / (cycles per second * MACs per cycle * share), bytes from memory / memory rate) + overhead``. Activations and
    weights count as coming from memory when they do not fit in the largest cache.

    Raises:
        ConvertError: the device has no CPU that edge8 knows, or too few cores.
    """
    if not device.clusters:
        raise ConvertError("has no CPU that runs edge8, so there is nothing to predict", rule="device.cpu", where=device.name)
    cluster = device.clusters[0]
    if not 1 <= threads <= sum(c.count for c in device.clusters):
        cores = sum(c.count for c in device.clusters)
        raise ConvertError(f"{threads} threads, but {device.title} has {cores} cores", rule="device.threads", where=device.name)
    rate = cluster.mhz * 1e6 * (1 + _SECOND_THREAD * (min(threads, cluster.count) - 1))
    cached = sum(w.weight_bytes for w in work) + max((w.activation_bytes for w in work), default=0) <= cluster.last_level_cache
    times, limit = [], 0.0
    for w in work:
        integer = cluster.core.int8_macs_per_cycle / (1 if w.int8 else 2)
        macs_per_cycle = integer if w.int8 or w.int16 else cluster.core.float_macs_per_cycle
        compute = w.macs / (rate * macs_per_cycle)
        from_memory = 0 if cached else w.weight_bytes + (w.activation_bytes if w.activation_bytes > cluster.last_level_cache else 0)
        memory = from_memory / (device.memory.peak_bytes_per_second * _MEMORY_SHARE)
        times.append(1e3 * (max(compute / _share(w), memory) + _OVERHEAD_CYCLES / (cluster.mhz * 1e6)))
        limit += 1e3 * compute if w.kind in _MATRIX or w.kind == "DepthwiseConv2D" else 0.0
    total = sum(times)
    plural = "" if threads == 1 else "s"
    text = (
        f"predicted latency on {device.title}, {threads} thread{plural}: about {total:.3g} ms, not below {limit:.3g} ms "
        "(calculated from the profile, not measured; measure with edge8 bench on the board)"
    )
    return Prediction(total, limit, list(zip(work, times, strict=True)), threads, text)


def _share(work: Work) -> float:
    if work.kind in _MATRIX:
        return _MATRIX_SHARE
    return _DEPTHWISE_SHARE if work.kind == "DepthwiseConv2D" else _ELEMENT_SHARE


def device_warnings(device: Device, work: Sequence[Work], *, threads: int = 1) -> list[str]:
    """Sentences about operators that would be slow on the device: float ones that take a large part of the predicted time."""
    if not device.clusters:
        return []
    prediction = predict(device, work, threads=threads)
    core = device.clusters[0].core
    slow: dict[str, tuple[float, list[str]]] = {}
    for w, milliseconds in prediction.operators:
        heavy = milliseconds > 0.05 * prediction.milliseconds
        ratio = core.int8_macs_per_cycle / core.float_macs_per_cycle
        if not (w.int8 or w.int16) and w.macs > 0 and (heavy or not core.fused_multiply_add) and ratio > 1.2:
            time, names = slow.get(w.kind, (0.0, []))
            slow[w.kind] = (time + milliseconds, [*names, w.name or "(unnamed)"])
    why = "float is slower than int8 there" if core.fused_multiply_add else "its float unit has no fused multiply-add, so it is emulated"
    return [
        f"{len(names)} {kind} in float32 (first: {names[0]}) would take {100 * time / prediction.milliseconds:.0f} % of the "
        f"predicted time on {device.title}: {why}; full quantisation of them helps"
        for kind, (time, names) in slow.items()
        if time > 0.05 * prediction.milliseconds
    ]
