# SPDX-License-Identifier: Apache-2.0
"""Accuracy targets: what a quantised file must still reach, measured by a metric of ours or by the user's own function.

`--eval script.py:function` names a function that gets a model and gives a number, the higher the better:

    def accuracy(model):                    # an edge8.Session: call it with arrays
        right = sum(model(x).argmax() == label for x, label in data)
        return 100 * right / len(data)

`--max-drop 0.5` then allows 0.5 less than the float model. Without a function, `--metric` compares on validation data: `top1` in
percent (labels, or else the float model's own answers), `cosine`, or `sqnr` in dB for `--target-sqnr`.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge8 import Model, Session

from ..errors import ConvertError
from ..report.layers import decibels, feeds, real

__all__ = ["METRICS", "Goal", "goal_of", "load_evaluator", "make_goal", "read_labels"]

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]

METRICS = ("top1", "cosine", "sqnr")


@dataclass(frozen=True)
class Goal:
    """What a file must reach.

    Attributes:
        name: of the metric, for messages and the report.
        unit: behind its numbers, such as ``" dB"``.
        reference: what the float model reaches; infinity for SQNR.
        needed: what a file must reach.
        score: measures a file; higher is better.
        steady: compares files where one sample must not decide: SQNR as the mean of the samples' dB; otherwise the score.
    """

    name: str
    unit: str
    reference: float
    needed: float
    score: Callable[[bytes], float]
    steady: Callable[[bytes], float] | None = None

    def compared(self, data: bytes) -> float:
        """A file's ``steady`` score; higher is better."""
        return (self.steady or self.score)(data)

    def reached(self, score: float) -> bool:
        """Whether a score is good enough; rounding of the last digits does not decide."""
        return score >= self.needed - 1e-9 * max(1.0, abs(self.needed))

    @property
    def flag(self) -> str:
        """The flag that asked for it."""
        return "--target-sqnr" if self.name == "SQNR" else "--max-drop"

    def say(self, score: float) -> str:
        """A score with its unit."""
        return f"{score:.6g}{self.unit}"

    def check(self, data: bytes, *, best_effort: bool = False) -> dict[str, Any]:
        """Measure a file; what a report says of it.

        Raises:
            ConvertError: it does not reach the target, unless ``best_effort``.
        """
        score = self.score(data)
        found = {"target": str(self), "reached": self.say(score)}
        if not self.reached(score):
            if not best_effort:
                raise ConvertError(
                    f"the target is {self}, the best is {self.say(score)}; nothing is written",
                    rule="goal.reached",
                    where=self.flag,
                    hint="Ask for less, give more calibration data, or take it as it is with --best-effort",
                )
            found["reached"] += ", which is less"
        return found

    def __str__(self) -> str:
        """Such as ``top1 at least 90.4 % (float 90.9 %)``."""
        float_score = "" if math.isinf(self.reference) else f" (float {self.reference:.6g}{self.unit})"
        return f"{self.name} at least {self.needed:.6g}{self.unit}{float_score}"


def load_evaluator(spec: str) -> Callable[[Session], float]:
    """The function of ``script.py:function``.

    Raises:
        ConvertError: no such file or function, or the script raises when it is loaded.
    """
    where = f"--eval {spec}"
    file, colon, name = spec.rpartition(":")
    if not colon or not file or not name:
        raise ConvertError("write script.py:function", rule="eval.spec", where=where)
    path = Path(file)
    if not path.is_file():
        raise ConvertError("no such script", rule="eval.file", where=where)
    module_spec = importlib.util.spec_from_file_location(f"edge8_eval_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise ConvertError("is not a Python script", rule="eval.file", where=where, hint="Its name must end in .py")
    module = importlib.util.module_from_spec(module_spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise ConvertError(f"the script raises {type(error).__name__}: {error}", rule="eval.load", where=where) from error
    finally:
        sys.path.pop(0)
    function = getattr(module, name, None)
    if not callable(function):
        known = ", ".join(n for n, v in vars(module).items() if callable(v) and not n.startswith("_")) or "none"
        raise ConvertError(f"the script has no function {name!r}", rule="eval.function", where=where, hint=f"It has: {known}")
    return _guarded(function, where)


def _guarded(function: Callable[[Session], Any], where: str) -> Callable[[Session], float]:
    """The user's function with its result checked."""

    def call(session: Session) -> float:
        try:
            result = function(session)
        except Exception as error:
            raise ConvertError(f"the function raises {type(error).__name__}: {error}", rule="eval.raises", where=where) from error
        if isinstance(result, bool) or np.ndim(result) != 0:
            raise ConvertError(f"the function gives {result!r}, not a number", rule="eval.result", where=where)
        try:
            score = float(result)
        except (TypeError, ValueError) as error:
            raise ConvertError(f"the function gives {result!r}, not a number", rule="eval.result", where=where) from error
        if not math.isfinite(score):
            raise ConvertError(f"the function gives {score}", rule="eval.result", where=where, hint="It must give a finite number")
        return score

    return call


def read_labels(path: str | Path) -> Array:
    """Class numbers, int64 ``[n]``, from .npy, .npz (the array ``labels``, ``label`` or ``y``, or the only one) or text (one per line).

    Raises:
        ConvertError: the file cannot be read or does not hold whole numbers.
    """
    where = f"--labels {path}"
    try:
        if Path(path).suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                names = [n for n in ("labels", "label", "y") if n in archive.files] or (archive.files if len(archive.files) == 1 else [])
                if not names:
                    raise ConvertError(f"no array called labels; it has {', '.join(archive.files)}", rule="labels.name", where=where)
                labels = archive[names[0]]
        elif Path(path).suffix == ".npy":
            labels = np.load(path, allow_pickle=False)
        else:
            labels = np.array([int(line) for line in Path(path).read_text(encoding="utf-8").split()], np.int64)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ConvertError(f"cannot be read: {error}", rule="labels.file", where=where) from error
    if labels.dtype.kind not in "iu" or labels.size != max(labels.shape, default=0) or not labels.size:
        raise ConvertError(f"holds {labels.dtype}{list(labels.shape)}, not a list of class numbers", rule="labels.type", where=where)
    return np.asarray(labels.reshape(-1), np.int64)


class _Reference:
    """The float model's answers on the validation samples, kept: every candidate is compared with them. The samples are gone through
    again for each, so that they need not fit in memory."""

    def __init__(self, data: bytes, samples: Iterable[Sample], threads: int) -> None:
        self.model = Model(data)
        self.threads = threads
        session = self.model.session(threads)
        self.samples = list(samples) if isinstance(samples, Iterator) else samples
        self.outputs = [_answers(session, sample) for sample in self.samples]
        if not self.outputs:
            raise ConvertError("there are no samples", rule="validation.empty", where="--validation")
        self.kept = [i for i, t in enumerate(self.model.outputs) if t.dtype.kind == "f"]
        if not self.kept:
            raise ConvertError("the model has no output of real numbers to compare", rule="metric.outputs", where="--metric")

    def candidate(self, data: bytes) -> list[list[Array]]:
        """Answers of another file, output by output as the float model has them."""
        session = Model(data).session(self.threads)
        return [_answers(session, sample) for sample in self.samples]


def _answers(session: Session, sample: Sample) -> list[Array]:
    result = session(feeds(session.model, sample))
    by_name = result if isinstance(result, dict) else {session.outputs[0].name: result}
    return [real(t, by_name[t.name]) for t in session.outputs]


def _top1(reference: _Reference, labels: Array | None) -> Callable[[list[list[Array]]], float]:
    """Percent of rows whose largest value stands where the label (or the float model's) says."""
    first = reference.kept[0]
    right: Array = np.concatenate([_rows(outputs[first]).argmax(axis=1) for outputs in reference.outputs])
    if labels is not None:
        if len(labels) != len(right):
            raise ConvertError(f"{len(labels)} labels for {len(right)} answers", rule="labels.count", where="--labels")
        right = labels
    return lambda answers: float(100 * np.mean(np.concatenate([_rows(a[first]).argmax(axis=1) for a in answers]) == right))


def _rows(y: Array) -> Array:
    if y.ndim == 0 or y.shape[-1] < 2:
        raise ConvertError(f"an output of shape {list(y.shape)} has no classes", rule="metric.top1", where="--metric top1")
    return y.reshape(-1, y.shape[-1])


def _worst(reference: _Reference, measure: Callable[[Array, Array], float]) -> Callable[[list[list[Array]]], float]:
    """The worst output's figure over all samples."""

    def score(answers: list[list[Array]]) -> float:
        figures = []
        for i in reference.kept:
            x = np.concatenate([outputs[i].reshape(-1) for outputs in reference.outputs]).astype(np.float64)
            y = np.concatenate([outputs[i].reshape(-1) for outputs in answers]).astype(np.float64)
            figures.append(measure(x, y))
        return min(figures)

    return score


def _sqnr(x: Array, y: Array) -> float:
    return decibels(float(x @ x), float((x - y) @ (x - y))) if np.isfinite(y).all() else -300.0


def _mean_sqnr(reference: _Reference) -> Callable[[list[list[Array]]], float]:
    """The mean dB of all samples and outputs; an answer that flips makes more noise than all other samples, but is one sample here."""

    def score(answers: list[list[Array]]) -> float:
        figures = []
        for i in reference.kept:
            real_ones = [np.asarray(outputs[i], np.float64).reshape(-1) for outputs in reference.outputs]
            usual = 1e-3 * float(np.mean([x @ x for x in real_ones])) + 1e-30
            for x, outputs in zip(real_ones, answers, strict=True):
                y = np.asarray(outputs[i], np.float64).reshape(-1)
                noise = float((x - y) @ (x - y)) if np.isfinite(y).all() else math.inf
                signal = max(float(x @ x), usual)
                figures.append(-300.0 if math.isinf(noise) else 10 * math.log10(signal / max(noise, 1e-12 * signal)))
        return float(np.mean(figures))

    return score


def _cosine(x: Array, y: Array) -> float:
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm > 0 and math.isfinite(norm) else float(np.array_equal(x, y))


def make_goal(
    reference: bytes,
    samples: Iterable[Sample],
    *,
    metric: str | None = None,
    labels: Sequence[int] | Array | None = None,
    max_drop: float | None = None,
    target_sqnr: float | None = None,
    evaluator: Callable[[Session], float] | None = None,
    threads: int = 1,
) -> Goal:
    """The accuracy target that the flags describe.

    Args:
        reference: the float .e8 file.
        samples: validation data for metrics of ours; not read for ``evaluator``.
        metric: one of `METRICS`; by default ``"top1"`` with labels, ``"sqnr"`` with ``target_sqnr``, else ``"cosine"``.
        labels: class number of each answer, for ``"top1"``.
        max_drop: how much less than the float model is allowed, in the metric's unit (top1: percentage points).
        target_sqnr: dB that every output must reach.
        evaluator: of `load_evaluator`.
        threads: of the runs.

    Raises:
        ConvertError: flags that do not go together, or numbers out of range.
    """
    if (max_drop is None) == (target_sqnr is None):
        raise ConvertError("give one of --max-drop and --target-sqnr", rule="goal.flags", where="--max-drop, --target-sqnr")
    for flag, value in (("--max-drop", max_drop), ("--target-sqnr", target_sqnr)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ConvertError(f"{value} is not a number from 0 on", rule="goal.number", where=flag)
    if evaluator is not None:
        if max_drop is None or metric is not None or labels is not None:
            raise ConvertError("--eval goes with --max-drop alone: its function is the metric", rule="goal.flags", where="--eval")
        base = evaluator(Model(reference).session(threads))
        return Goal("--eval", "", base, base - max_drop, lambda data: evaluator(Model(data).session(threads)))
    metric = metric or ("sqnr" if target_sqnr is not None else "top1" if labels is not None else "cosine")
    if metric not in METRICS:
        raise ConvertError(f"unknown metric {metric!r}", rule="goal.metric", where="--metric", hint=f"Known: {', '.join(METRICS)}")
    if (metric == "sqnr") != (target_sqnr is not None):
        other = "--target-sqnr" if metric == "sqnr" else "--max-drop"
        raise ConvertError(f"the metric {metric} goes with {other}", rule="goal.flags", where="--metric")
    if labels is not None and metric != "top1":
        raise ConvertError(f"the metric {metric} takes no labels", rule="goal.flags", where="--labels")
    answers = _Reference(reference, samples, threads)
    return _metric_goal(answers, metric, None if labels is None else np.asarray(labels, np.int64), max_drop, target_sqnr)


def _metric_goal(answers: _Reference, metric: str, labels: Array | None, max_drop: float | None, target_sqnr: float | None) -> Goal:
    if metric == "sqnr":
        assert target_sqnr is not None
        sqnr, mean = _worst(answers, _sqnr), _mean_sqnr(answers)
        return Goal(
            "SQNR", " dB", math.inf, target_sqnr, lambda data: sqnr(answers.candidate(data)), lambda data: mean(answers.candidate(data))
        )
    assert max_drop is not None
    measure = _top1(answers, labels) if metric == "top1" else _worst(answers, _cosine)
    base = measure(answers.outputs)
    name = metric if metric == "cosine" or labels is not None else "agreement with float"
    return Goal(name, " %" if metric == "top1" else "", base, base - max_drop, lambda data: measure(answers.candidate(data)))


def goal_of(
    reference: bytes,
    samples: Iterable[Sample] | None,
    *,
    evaluate: str | Callable[[Session], float] | None = None,
    labels: Any = None,
    threads: int = 1,
    **options: Any,
) -> Goal:
    """`make_goal` from what `convert` is given: a script or a function, labels or their file.

    Raises:
        ConvertError: as `make_goal`; no data for a metric of ours.
    """
    if evaluate is None and samples is None:
        raise ConvertError("an accuracy target needs data", rule="goal.data", where="--validation", hint="Or --calibration, or --eval")
    if isinstance(evaluate, str):
        evaluate = load_evaluator(evaluate)
    elif evaluate is not None:
        evaluate = _guarded(evaluate, "evaluate")
    if isinstance(labels, (str, Path)):
        labels = read_labels(labels)
    return make_goal(reference, samples or (), evaluator=evaluate, labels=labels, threads=threads, **options)
