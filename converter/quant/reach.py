# SPDX-License-Identifier: Apache-2.0
"""What a target makes of a conversion: which samples score, and which search looks for a file that reaches it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError
from ..graph import Graph
from .assemble import file_with
from .corrections import Improved, Step
from .evaluation import Goal, make_goal, read_labels
from .layer_widths import LayerCodes, coded_nodes, weights_file
from .mixed_widths import find_widths, target_bytes
from .scheme import Decision, Scheme
from .search import search_levels

__all__ = ["FEWEST_HELD", "Part", "coded_with_data", "fewest_in_float", "hold_out", "width_for_each"]

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


def fewest_in_float(
    improved: Improved, scheme: Scheme, goal: Goal, samples: Callable[[], Iterable[Sample]], **options: Any
) -> tuple[bytes, list[Decision], int, dict[str, Any]]:
    """`search_levels`: the file, a decision per node, the number of calibration samples, and what a report says of the search."""
    found = search_levels(improved, scheme, goal, samples, **options)
    searched = {
        "target": str(goal),
        "reached": goal.say(found.score) + ("" if goal.reached(found.score) else ", which is less"),
        "files tried": found.tried,
        f"MACs in {scheme.activations}": f"{100 * found.int8_share:.1f} %",
        **({"correction of the weights": found.correction} if found.correction else {}),
        "layers": found.layers,
    }
    return found.data, found.decisions, found.samples, searched


def width_for_each(
    graph: Graph,
    scheme: Scheme,
    samples: Iterable[Sample] | None,
    *,
    goal: Goal | None,
    size: str,
    float_bytes: int,
    bit_range: tuple[int, int],
    corrections: Sequence[str],
    threads: int,
    best_effort: bool,
    say: Callable[[str], None],
) -> tuple[bytes, list[Decision], dict[str, Any]]:
    """`find_widths`: the file, a decision per node, and what a report says of the search.

    Args:
        graph: float.
        scheme: of weights quantisation.
        samples: calibration data.
        goal: an accuracy target, or None.
        size: as `target_bytes` takes it, "" = none.
        float_bytes: of the float file.
        bit_range: narrowest and widest width.
        corrections: which may be made on the weights.
        threads, best_effort, say: as for `find_widths`.

    Raises:
        ConvertError: no target, no data, or a target that cannot be met.
    """
    low, high = bit_range
    if not 1 <= low <= high <= 16:
        raise ConvertError(f"{low},{high} are no widths", rule="search.bits", where="--bit-range", hint="Choose LOW,HIGH from 1 to 16")
    if goal is None and not size:
        hint = "Give --target-size, --target-sqnr or --max-drop"
        raise ConvertError("a width for each layer needs a target", rule="search.target", where="--bits mixed", hint=hint)
    if samples is None:
        where = "--target-size" if size else "--bits mixed"
        raise ConvertError("a width for each layer is found on data", rule="calibration.missing", where=where, hint="Give --calibration")
    wanted = target_bytes(size, float_bytes) if size else None
    codes = LayerCodes(graph, replace(scheme, calibratable=False), samples, corrections, threads)
    found = find_widths(
        codes,
        list(islice(iter(samples), 64)),
        goal=goal,
        size=wanted,
        low=low,
        high=high,
        best_effort=best_effort,
        threads=threads,
        say=say,
    )
    targets = ([f"at most {wanted:,} bytes"] if wanted else []) + ([str(goal)] if goal else [])
    reached = [f"{len(found.data):,} bytes"]
    if goal is not None and found.score is not None:
        reached.append(goal.say(found.score) + ("" if goal.reached(found.score) else ", which is less"))
    counted = Counter(layer["bits"] for layer in found.layers)
    searched = {
        "target": ", ".join(targets),
        "reached": ", ".join(reached),
        "files tried": found.tried,
        "bits per weight": f"{found.average:.2f}",
        "widths": ", ".join(f"{bits} bits: {counted[bits]} layers" for bits in sorted(counted)),
        "layers": found.layers,
    }
    return found.data, found.decisions, searched


def coded_with_data(
    graph: Graph, scheme: Scheme, float_file: bytes, samples: Iterable[Sample], corrections: Sequence[str], threads: int
) -> tuple[bytes, list[Decision], list[Step]]:
    """Weights of one width below 8 bits, rounded for the layers' outputs where that helps on held-out samples.

    Returns:
        The file, a decision per node, and what the correction did.
    """
    data, decisions, _ = file_with(graph, scheme)
    wanted = [name for name in corrections if name in ("bias", "rounding")]
    first = list(islice(iter(samples), 64))
    if len(first) < FEWEST_HELD or not wanted:
        return data, decisions, []
    codes = LayerCodes(graph, scheme, Part(first, held=False), wanted, threads)
    corrected, _ = weights_file(codes, {node.outputs[0]: scheme.bits for node in coded_nodes(graph, scheme)})
    judge = make_goal(float_file, Part(first, held=True), target_sqnr=0, threads=threads)
    before, after = judge.score(data), judge.score(corrected)
    return corrected if after > before else data, decisions, [Step(wanted[-1], before, after, after > before)]
