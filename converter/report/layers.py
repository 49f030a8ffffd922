# SPDX-License-Identifier: Apache-2.0
"""Two .e8 files of one network side by side: the error of every activation, streaming over samples.

Both files run on each sample. The float file's activations are kept for the time of that sample and compared with those of the
same name in the other file, which are dequantised first. Files with very large activations are compared in parts of the network,
one run for each part, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge8.model import Model, Op, Session, Tensor

from .histogram import Observer, scratch

__all__ = ["LayerError", "compare_layers", "domain_of", "feeds", "partners", "real"]

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]

MEMORY = 256 << 20
"""Bytes of reference activations that are kept at once."""


@dataclass
class LayerError:
    """The error of one activation, in sums over all samples.

    Attributes:
        op: number of the operator that writes it.
        tensor: in the compared file.
        reference: name of the same tensor in the reference.
        signal, noise, power, product: sums of x², (x - y)², y² and x*y for the reference x and the compared y.
        own: sum of (x - q(x))², q = rounding and clipping to this tensor's codes alone; what remains when all before is exact.
        clipped: values of the reference outside the range of the codes.
        count: values.
        largest: the largest |x - y|.
        observer: of the reference's values, for quantised tensors.
        scaled: the compared file holds this tensor with its channels (last axis) multiplied by numbers that its metadata do not tell
            (equalisation); the reference is brought to the same scale, channel by channel, by least squares.
    """

    op: int
    tensor: Tensor
    reference: str
    signal: float = 0.0
    noise: float = 0.0
    power: float = 0.0
    product: float = 0.0
    own: float = 0.0
    clipped: int = 0
    count: int = 0
    largest: float = 0.0
    observer: Observer | None = field(default=None, repr=False)
    scaled: bool = False

    @property
    def quantised(self) -> bool:
        """Whether the compared tensor holds codes."""
        return self.tensor.scale > 0

    @property
    def sqnr(self) -> float:
        """Signal to noise in dB, at most 300 (no difference)."""
        return decibels(self.signal, self.noise)

    @property
    def own_sqnr(self) -> float:
        """`sqnr` of this tensor's rounding and clipping alone."""
        return decibels(self.signal, self.own)

    @property
    def cosine(self) -> float:
        """Cosine of the angle between reference and compared values."""
        norm = float(np.sqrt(self.signal) * np.sqrt(self.power))
        return self.product / norm if norm > 0 else float(self.signal == self.power)

    @property
    def clip_rate(self) -> float:
        """Share of the reference's values that the codes cannot reach."""
        return self.clipped / max(1, self.count)

    def range(self) -> tuple[float, float]:
        """Real numbers of the lowest and highest code."""
        info = np.iinfo(self.tensor.dtype)
        return tuple(self.tensor.scale * (code - self.tensor.zero_point) for code in (info.min, info.max))  # type: ignore[return-value]

    def add(self, x: Array, values: Array, working: Any) -> None:
        """Take in one run: the reference float32 ``x`` and the compared ``values`` (codes or float32), of one shape."""
        y = real(self.tensor, values)
        if self.scaled and x.ndim:
            x = x * _gains(x, y)
        x, y = x.reshape(-1), y.reshape(-1)
        if self.quantised:
            self._own(x)
            if self.observer is None:
                self.observer = Observer()
            self.observer.add(x, working)
        known = np.isfinite(x) & np.isfinite(y)
        if not known.all():
            x, y = x[known], y[known]
        a, b = x.astype(np.float64), y.astype(np.float64)
        self.signal += float(a @ a)
        self.power += float(b @ b)
        self.product += float(a @ b)
        b -= a
        self.noise += float(b @ b)
        self.count += x.size
        if x.size:
            self.largest = max(self.largest, float(np.abs(b).max()))

    def _own(self, x: Array) -> None:
        t, info = self.tensor, np.iinfo(self.tensor.dtype)
        steps = np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0) / t.scale
        low, high = info.min - t.zero_point, info.max - t.zero_point
        self.clipped += int(np.count_nonzero((steps < low - 0.5) | (steps > high + 0.5)))
        error = (np.clip(np.rint(steps), low, high) - steps) * t.scale
        self.own += float(error @ error)


def feeds(model: Model, sample: Sample) -> dict[str, Array]:
    """A float sample as the model takes it: codes for inputs that take codes (``io="int8"``)."""
    takes = {t.name: t for t in model.inputs}

    def codes(name: str, x: Array) -> Array:
        t = takes.get(name)
        if t is None or t.scale == 0 or x.dtype.kind != "f":
            return x
        info = np.iinfo(t.dtype)
        steps = np.rint(x.astype(np.float32) * (np.float32(1) / np.float32(t.scale)))
        return np.asarray(np.clip(steps + t.zero_point, info.min, info.max).astype(t.dtype))

    return {name: codes(name, np.asarray(x)) for name, x in sample.items()}


def real(tensor: Tensor, values: Array) -> Array:
    """Numbers that a tensor's values stand for, float32 for codes."""
    if tensor.scale == 0:
        return values
    return np.asarray((values.astype(np.float32) - np.float32(tensor.zero_point)) * np.float32(tensor.scale))


def _gains(x: Array, y: Array) -> Array:
    """Per channel (last axis) the factor by which ``x`` comes closest to ``y``, float32; 1 where x is 0."""
    a, b = x.reshape(-1, x.shape[-1]).astype(np.float64), y.reshape(-1, x.shape[-1]).astype(np.float64)
    power = np.einsum("ij,ij->j", a, a)
    return np.asarray(np.where(power > 0, np.einsum("ij,ij->j", a, b) / np.where(power > 0, power, 1), 1), np.float32)


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), between -300 and 300; a signal of nothing but zeros without noise counts as exact."""
    if noise <= 0:
        return 300.0
    if signal <= 0:
        return -300.0
    return float(np.clip(10 * np.log10(signal / noise), -300, 300))


def domain_of(op: Op, tensors: list[Tensor], dynamic: Collection[str] = ()) -> str:
    """How an operator computes: ``"int8"``, ``"int16"``, ``"dynamic"`` (int8 within the operator: its name is in ``dynamic``),
    ``"weight"`` (coded weights, float compute), ``"float"`` or ``"other"`` (whole numbers, booleans)."""
    out = tensors[op.outputs[0]]
    inputs = [tensors[i] for i in op.inputs if i is not None]
    if op.kind == "Dequantize" or (out.dtype.kind == "i" and out.scale > 0):
        code = inputs[0] if op.kind == "Dequantize" else out
        return "float" if code.dtype.kind == "f" else f"int{8 * code.dtype.itemsize}"
    if any(t.constant and t.scale > 0 for t in inputs):
        return "dynamic" if op.name in dynamic else "weight"
    return "float" if out.dtype.kind == "f" or any(t.dtype.kind == "f" and not t.constant for t in inputs) else "other"


def partners(model: Model, reference: Model) -> dict[int, str]:
    """Activations of ``model`` by number to the name of the same tensor in ``reference``: the same name, or across a border of
    Quantize and Dequantize the name on its other side."""
    tensors = model.tensors
    known = {t.name: t for t in reference.tensors if not t.constant and t.dtype.kind == "f"}
    found = {t.index: t.name for t in tensors if not t.constant and t.name in known and known[t.name].shape == t.shape}
    for op in model.ops:
        if op.kind not in ("Quantize", "Dequantize") or op.inputs[0] is None:
            continue
        source, result = op.inputs[0], op.outputs[0]
        if source in found and result not in found:
            found[result] = found[source]
        elif result in found and source not in found:
            found[source] = found[result]
    return {i: name for i, name in found.items() if tensors[i].dtype.kind == "f" or tensors[i].scale > 0}


def compare_layers(
    reference: Model, other: Model, samples: Iterable[Sample], *, threads: int = 1, memory: int = MEMORY, scaled: Collection[str] = ()
) -> tuple[list[LayerError], int]:
    """Errors of the activations of ``other`` in execution order, and the number of samples.

    Args:
        reference: the float file.
        other: a file of the same network.
        samples: inputs by name, each of the network's shape.
        threads: of both sessions.
        memory: bytes of reference activations that may be kept at once.
        scaled: names of tensors whose channels ``other`` holds on another scale.

    Raises:
        Edge8Error: a sample does not fit.
    """
    pairs = partners(other, reference)
    tensors = other.tensors
    layers = [
        LayerError(op.index, tensors[i], pairs[i], scaled=pairs[i] in scaled)
        for op in other.ops
        if op.kind != "Dequantize"
        for i in op.outputs
        if i in pairs
    ]
    named = {t.name: t for t in reference.tensors}
    parts = [_Part(part, reference) for part in _parts(layers, named, memory)]
    sessions = reference.session(threads), other.session(threads)
    working, count = scratch(), 0
    for sample in samples:
        count += 1
        for part in parts:
            part.run(sessions, sample, working)
    return layers, count


def _parts(layers: list[LayerError], tensors: Mapping[str, Tensor], memory: int) -> Iterator[list[LayerError]]:
    """Split the layers into parts whose reference tensors fit in ``memory``; a single larger one is a part of its own."""
    part: list[LayerError] = []
    used = 0
    for layer in layers:
        size = tensors[layer.reference].bytes
        if part and used + size > memory:
            yield part
            part, used = [], 0
        part.append(layer)
        used += size
    if part:
        yield part


class _Part:
    """Layers that are compared in one run."""

    def __init__(self, layers: list[LayerError], reference: Model) -> None:
        wanted = {layer.reference for layer in layers}
        tensors = reference.tensors
        self.wanted = wanted
        self.kept_by_op = {op.index: [t for t in op.outputs if tensors[t].name in wanted] for op in reference.ops}
        self.names = {t: tensors[t].name for outs in self.kept_by_op.values() for t in outs}
        self.layers_by_op: dict[int, list[LayerError]] = {}
        for layer in layers:
            self.layers_by_op.setdefault(layer.op, []).append(layer)

    def run(self, sessions: tuple[Session, Session], sample: Sample, working: Any) -> None:
        """Run both sessions on a sample and add up the errors."""
        first, second = sessions
        kept: dict[str, Array] = {name: np.asarray(x, np.float32).copy() for name, x in sample.items() if name in self.wanted}

        def keep(op: int) -> None:
            for t in self.kept_by_op[op]:
                kept[self.names[t]] = first.tensor(t).copy()

        def compare(op: int) -> None:
            for layer in self.layers_by_op.get(op, ()):
                layer.add(kept[layer.reference], second.tensor(layer.tensor.index), working)

        with first.hook(after=keep):
            first(sample)
        with second.hook(after=compare):
            second(feeds(second.model, sample))
