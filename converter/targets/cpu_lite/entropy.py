# SPDX-License-Identifier: Apache-2.0
"""Entropy coding of weights: rANS with a table per tensor, as schemas/README.md describes the bytes.

Codes are 1 to 8 bits wide and lie in the packed order. Segments and the 8 states of each are independent, so that numpy works on all of
them at once, one code of each at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["SHARE", "coded_size", "decode", "encode", "stored_size", "worth_coding"]

Array = np.ndarray[Any, Any]

SHARE = 0.1
"""Part of a tensor's bytes that coding must save with ``auto``: less is not worth the memory of the decoded weights."""

_SLOTS, _LANES, _LOWEST = 4096, 8, 1 << 16
_SEGMENT_STEPS = 2048


def _codes(packed: bytes, bits: int) -> Array:
    """Codes of a bit string as unsigned numbers, ``[steps, 8]`` uint8."""
    data = np.frombuffer(packed, np.uint8)
    if bits == 8:
        return data.reshape(-1, _LANES)
    digits = np.unpackbits(data, bitorder="little").reshape(-1, bits)
    return np.packbits(digits, axis=1, bitorder="little").reshape(-1, _LANES)


def _packed(codes: Array, bits: int) -> bytes:
    if bits == 8:
        return codes.astype(np.uint8).tobytes()
    digits = np.unpackbits(codes.astype(np.uint8).reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return bytes(np.packbits(digits.reshape(-1), bitorder="little").tobytes())


def _frequencies(counts: Array) -> Array:
    """Frequencies that add up to 4096, at least 1 where a count is, at most 4095; near the least bits for these counts."""
    present = counts > 0
    frequency = np.where(present, np.maximum(1, np.rint(counts * (_SLOTS / max(1, counts.sum())))), 0).astype(np.int64)
    if present.sum() < 2:  # a lone code takes all but one slot
        frequency[np.flatnonzero(~present)[0]] = 1
        frequency[present] = _SLOTS - 1
        return frequency
    while (excess := int(frequency.sum()) - _SLOTS) != 0:
        step = -1 if excess > 0 else 1
        changed = np.maximum(frequency + step, 0.5)
        # Bits that one slot more or less costs.
        cost = np.where(present & (frequency + step > 0), -counts * np.log2(changed / np.maximum(frequency, 1)), np.inf)
        frequency[np.argmin(cost)] += step
    return frequency


def _table(codes: Array, bits: int) -> tuple[Array, Array]:
    """Counts and frequencies of all values."""
    counts = np.bincount(codes.reshape(-1), minlength=1 << bits)
    return counts, _frequencies(counts)


def _frequency_bytes(frequency: Array) -> bytes:
    return b"".join(bytes([f]) if f < 128 else bytes([128 + (f >> 8), f & 255]) for f in frequency.tolist())


def _segments(steps: int) -> tuple[int, int]:
    """Steps of a segment and number of segments."""
    count = -(-steps // _SEGMENT_STEPS)
    each = -(-steps // count)
    return each, -(-steps // each)


def coded_size(packed: bytes, bits: int) -> int:
    """Bytes of `encode`, a few per segment more or less."""
    codes = _codes(packed, bits)
    counts, frequency = _table(codes, bits)
    used = counts > 0
    content = float(np.sum(counts[used] * (12 - np.log2(frequency[used])))) / 8
    return int(content) + 4 + len(_frequency_bytes(frequency)) + _segments(len(codes))[1] * (4 + 4 * _LANES)


def worth_coding(packed: bytes, bits: int, mode: str) -> bool:
    """Whether these codes are stored entropy-coded: with ``on`` where they get smaller, with ``auto`` where they lose `SHARE`."""
    most = {"off": 0.0, "auto": 1 - SHARE, "on": 1.0}[mode]
    return 1 <= bits <= 8 and most > 0 and coded_size(packed, bits) < most * len(packed)


def stored_size(packed: bytes, bits: int, mode: str) -> int:
    """Bytes that a file holds of these codes, a few more or less."""
    return coded_size(packed, bits) if worth_coding(packed, bits, mode) else len(packed)


def encode(packed: bytes, bits: int) -> bytes:
    """Code the bit string of a tensor.

    Args:
        packed: codes of ``bits`` each, a multiple of 8 of them.
        bits: 1 to 8.

    Returns:
        What `decode`, and the runtime, make ``packed`` of.
    """
    codes = _codes(packed, bits)
    _, frequency = _table(codes, bits)
    steps = len(codes)
    each, segments = _segments(steps)
    whole = np.zeros((segments * each, _LANES), np.uint8)
    whole[:steps] = codes
    lanes = whole.reshape(segments, each, _LANES)
    begin = (np.cumsum(frequency) - frequency).astype(np.uint32)
    share = frequency.astype(np.uint32)
    states = np.full((segments, _LANES), _LOWEST, np.uint32)
    words = np.zeros((each, segments, _LANES), "<u2")
    written = np.zeros((each, segments, _LANES), bool)
    last = steps - (segments - 1) * each
    for step in range(each - 1, -1, -1):
        n = segments if step < last else segments - 1
        if n == 0:
            continue
        code, x = lanes[:n, step], states[:n]
        f = share[code]
        full = x >= f << np.uint32(20)
        words[step, :n] = x & np.uint32(0xFFFF)
        written[step, :n] = full
        x = np.where(full, x >> np.uint32(16), x)
        quotient = x // f
        states[:n] = (quotient << np.uint32(12)) + (x - quotient * f) + begin[code]
    lists = [words[:, i][written[:, i]].tobytes() for i in range(segments)]
    head = np.uint32(each).astype("<u4").tobytes() + _frequency_bytes(frequency)
    sizes = np.array([len(part) // 2 for part in lists], "<u4").tobytes()
    return bytes(head + sizes + b"".join(states[i].astype("<u4").tobytes() + part for i, part in enumerate(lists)))


def _read_frequencies(data: bytes, bits: int) -> tuple[Array, int]:
    """The frequencies, and where they end."""
    at, result = 4, []
    for _ in range(1 << bits):
        first, at = data[at], at + 1
        if first >= 128:
            first, at = (first - 128) << 8 | data[at], at + 1
        result.append(first)
    return np.array(result, np.uint32), at


def decode(data: bytes, bits: int, size: int) -> bytes:
    """The bit string of ``size`` bytes that `encode` coded.

    Raises:
        ValueError: a segment does not end where it should.
    """
    steps, each = size // bits, int.from_bytes(data[:4], "little")
    segments = -(-steps // each)
    frequency, at = _read_frequencies(data, bits)
    value = np.repeat(np.arange(1 << bits, dtype=np.uint32), frequency)
    begin = (np.cumsum(frequency) - frequency).astype(np.uint32)
    counts = np.frombuffer(data, "<u4", segments, at).astype(np.int64)
    starts = at + 4 * segments + np.arange(segments) * (4 * _LANES) + 2 * (np.cumsum(counts) - counts)
    states = np.stack([np.frombuffer(data, "<u4", _LANES, start) for start in starts]).astype(np.uint32)
    room = int(counts.max(initial=0)) + _LANES
    words = np.zeros((segments, room), np.uint32)
    for i, start in enumerate(starts):
        words[i, : counts[i]] = np.frombuffer(data, "<u2", counts[i], start + 4 * _LANES)
    codes = np.zeros((segments, each, _LANES), np.uint8)
    place, last = np.zeros(segments, np.int64), steps - (segments - 1) * each
    for step in range(each):
        n = segments if step < last else segments - 1
        slot = states[:n] & np.uint32(_SLOTS - 1)
        code = value[slot]
        codes[:n, step] = code
        x = frequency[code] * (states[:n] >> np.uint32(12)) + slot - begin[code]
        more = x < _LOWEST
        order = place[:n, None] + np.cumsum(more, axis=1) - 1
        word = np.take_along_axis(words[:n], np.clip(order, 0, room - 1), axis=1)
        states[:n] = np.where(more, x << np.uint32(16) | word, x)
        place[:n] += more.sum(axis=1)
    if np.any(states != _LOWEST) or np.any(place != counts):
        raise ValueError("the entropy-coded weights do not end where they should")
    return _packed(codes.reshape(-1, _LANES)[:steps], bits)
