# SPDX-License-Identifier: Apache-2.0
"""How near the outputs of two .e8 files are: cosine and SQNR, over samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edge8 import Model

from .quant.corrections import Answers
from .report.layers import feeds, real

__all__ = ["accuracy", "compare", "outputs_of"]

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]


def _sqnr(reference: Array, other: Array) -> float:
    noise = float(np.sum((reference.astype(np.float64) - other) ** 2))
    signal = float(np.sum(reference.astype(np.float64) ** 2))
    return float(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30 * max(signal, 1.0))))


def _cosine(a: Array, b: Array) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y / norm) if norm > 0 else float(np.array_equal(x, y))


def outputs_of(result: Array | dict[str, Array], model: Model) -> dict[str, Array]:
    """A session's result by output name."""
    return result if isinstance(result, dict) else {model.outputs[0].name: result}


def compare(reference: bytes, other: bytes, samples: Iterable[Sample], *, threads: int = 1) -> dict[str, dict[str, float]]:
    """Cosine and SQNR of each real-valued output of ``other`` against ``reference`` (both .e8 files), over the samples."""
    model = Model(reference)
    session = model.session(threads)
    answers = [(sample, list(outputs_of(session(dict(sample)), model).values())) for sample in samples]
    return accuracy([t.name for t in model.outputs], answers, other, threads)


def accuracy(names: Sequence[str], answers: Answers, other: bytes, threads: int) -> dict[str, dict[str, float]]:
    """As `compare`, where the reference's outputs, called ``names``, are known for each sample."""
    model = Model(other)
    session = model.session(threads)
    codes = {t.name: t for t in model.outputs}
    gathered: dict[str, tuple[list[Array], list[Array]]] = {}
    for sample, expected in answers:
        found = outputs_of(session(feeds(model, sample)), model)
        for name, y in zip(names, expected, strict=True):
            if y.dtype.kind == "f" and name in found:
                pair = gathered.setdefault(name, ([], []))
                pair[0].append(y)
                pair[1].append(real(codes[name], found[name]))
    joined = {name: (np.stack(a), np.stack(b)) for name, (a, b) in gathered.items()}
    return {name: {"cosine": _cosine(a, b), "sqnr": _sqnr(a, b)} for name, (a, b) in joined.items()}
