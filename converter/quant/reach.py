# SPDX-License-Identifier: Apache-2.0
"""What an accuracy target makes of a conversion: which samples score, and which search looks for a file that reaches it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .evaluation import read_labels

__all__ = ["FEWEST_HELD", "Part", "hold_out"]

Sample = Mapping[str, np.ndarray[Any, Any]]

FEWEST_HELD = 8
"""Calibration samples of which a quarter is held out for the score when there are no validation data; fewer do both."""


class Part:
    """Every fourth of the samples, or all others; can be gone through again when the samples can."""

    def __init__(self, samples: Iterable[Sample], *, held: bool) -> None:
        self._samples, self._held = samples, held

    def __iter__(self) -> Iterator[Sample]:
        """Samples in their order."""
        return (s for i, s in enumerate(self._samples) if (i % 4 == 3) == self._held)


def hold_out(samples: Iterable[Sample], labels: Any) -> tuple[Iterable[Sample], Iterable[Sample], Any, str]:
    """Split calibration samples into those that calibrate and those that score.

    Args:
        samples: can be gone through more than once.
        labels: None, class numbers or their file, in the order of the samples.

    Returns:
        Samples to calibrate on, samples to score, the labels of the latter, and a warning ("" = none).
    """
    if sum(1 for _ in islice(iter(samples), FEWEST_HELD)) < FEWEST_HELD:
        text = f"fewer than {FEWEST_HELD} calibration samples: the same ones calibrate and score, which flatters; give --validation"
        return samples, samples, labels, text
    if labels is not None:
        labels = read_labels(labels) if isinstance(labels, (str, Path)) else np.asarray(labels)
        count = sum(1 for _ in samples)
        if len(labels) % count == 0:
            labels = labels.reshape(count, -1)[3::4].reshape(-1)
    return Part(samples, held=False), Part(samples, held=True), labels, ""
