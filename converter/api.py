# SPDX-License-Identifier: Apache-2.0
"""`convert`: the one function behind the command of that name."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx

from edge8 import Model, Session

from .accuracy import accuracy, compare, outputs_of
from .atomic import write_file
from .calibration import open_samples
from .errors import ConvertError
from .graph import Graph
from .memory import give_back, put_aside
from .passes.base import optimise
from .picture_input import take_pictures
from .progress import track
from .quant.assemble import calibrated, file_with
from .quant.corrections import BOUNDED_STEP, CORRECTIONS, REPORT_SAMPLES, Answers, Improved, Step, improve
from .quant.evaluation import goal_of
from .quant.float_model import FloatModel
from .quant.reach import coded_with_data, fewest_in_float, hold_out, width_for_each
from .quant.scheme import CODED, Decision, Scheme, decide
from .report.page import report_suffix

__all__ = ["Report", "compare", "convert", "convert_graph", "float_file", "load_graph", "outputs_of"]

FEWEST_SAMPLES = 8
"""Corrections need so many samples to hold a quarter out."""

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]


@dataclass
class Report:
    """What a conversion made.

    Attributes:
        output: the file written, or None.
        data: its bytes.
        decisions: how each node runs and why.
        samples: calibration samples used.
        macs, int8_macs, int16_macs: multiply-accumulates of a run, and of these in int8 and int16.
        arena_bytes: memory that a session with one thread needs.
        coding: tensors that are stored entropy-coded, their bytes in the file, and decoded in memory.
        bounded: layers whose weights keep the bound of `quant.bounded_weights`, and layers that would run faster by it; None where it is
            not asked for.
        accuracy: per output: cosine and SQNR in dB against the float model on the first samples; empty without samples.
        device: what the profile of `device` says: fit, predicted latency, warnings.
        corrections: what each correction did: ``name``, ``state``, SQNR ``before`` and ``after``, ``remark``.
        search: the accuracy target: ``target``, ``reached``; empty without one.
        warnings: remarks for the user.
    """

    output: Path | None
    data: bytes
    quant: str
    onnx_bytes: int
    decisions: list[Decision] = field(default_factory=list)
    samples: int = 0
    macs: int = 0
    int8_macs: int = 0
    int16_macs: int = 0
    arena_bytes: int = 0
    coding: tuple[int, int, int] = (0, 0, 0)
    bounded: tuple[int, int] | None = None
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    corrections: list[dict[str, Any]] = field(default_factory=list)
    search: dict[str, Any] = field(default_factory=dict)
    device: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def _share(self, kind: str) -> str:
        return f"{100 * getattr(self, f'{kind}_macs') / max(1, self.macs):.1f} %"

    def __str__(self) -> str:
        """The report as text."""
        wide = [d for d in self.decisions if d.domain == "int16"]
        lines = [
            f"{self.output or 'model'}: {len(self.data):,} bytes ({self.quant}); ONNX {self.onnx_bytes:,} bytes",
            f"memory: {self.arena_bytes:,} bytes of arena for one thread",
            f"work: {self.macs:,} MACs, {self._share('int8')} of them in int8" + (f", {self._share('int16')} in int16" if wide else ""),
        ]
        if self.coding[0]:
            lines.append("entropy-coded: {} tensors, {:,} bytes, decoded to {:,} in memory".format(*self.coding))
        if self.bounded is not None:
            lines.append("bounded weights: in {} of {} layers that the bound makes faster".format(*self.bounded))
        if self.samples:
            lines.append(f"calibrated on {self.samples} samples")
        for c in self.corrections:
            scores = f"{c['before']:.1f} -> {c['after']:.1f} dB on held-out samples, "
            lines.append(f"{c['name']}: {'' if c['remark'] else scores}{c['state']}{c['remark'] and ': '}{c['remark']}")
        lines += [f"{key}: {value}" for key, value in self.search.items() if key != "layers"]
        lines += [f"output {name}: cosine {a['cosine']:.6f}, SQNR {a['sqnr']:.1f} dB against float" for name, a in self.accuracy.items()]
        apart = Counter(d.reason for d in self.decisions if d.domain == "weight" and " instead of groups " in d.reason)
        lines += [f"{count} x {reason}" for reason, count in apart.items()]
        if self.quant in ("full", "dynamic"):
            quantised = {*CODED, "dynamic"}
            other = [d for d in self.decisions if d.domain not in quantised and (self.quant == "full" or d.domain == "weight")]
            if wide:
                lines.append(f"int16: {len(wide)} of {len(self.decisions)} operators")
            lines += [f"not quantised: {d.op} {d.node}: {d.reason}" for d in other[:20]]
            if len(other) > 20:
                lines.append(f"not quantised: {len(other) - 20} more; see the report file")
        return "\n".join([*lines, *self.device, *(f"warning: {text}" for text in self.warnings)])


def load_graph(model: str | Path | onnx.ModelProto, input_shape: Mapping[str, tuple[int, ...]] | None = None) -> Graph:
    """Read an ONNX model, clean it and run the passes: the float graph that is quantised."""
    from .onnx_in import load

    graph = load(model, input_shape=input_shape)
    optimise(graph)
    put_aside(graph.tensors.values())
    return graph


def float_file(graph: Graph) -> bytes:
    """The .e8 file of a float graph as it is: what quantised files are compared with."""
    return file_with(graph, Scheme(mode="float"))[0]


def _coded_macs(model: Model, width: int) -> int:
    """Multiply-accumulates of the operators that write codes of ``width`` bytes; dynamic ones count as int8."""
    tensors, dynamic = model.tensors, set(model.metadata.get("dynamic", []))
    outputs = {op.index: tensors[op.outputs[0]] for op in model.ops}
    coded = {i for i, t in outputs.items() if t.dtype.kind == "i" and t.dtype.itemsize == width and t.scale > 0}
    return sum(op.macs for op in model.ops if op.index in coded or (width == 1 and op.name in dynamic))


def _corrected(
    graph: Graph,
    scheme: Scheme,
    samples: Iterable[Sample],
    corrections: Sequence[str],
    method: str,
    percentile: float,
    threads: int,
    steps: list[Step] | None,
    progress: Callable[[Iterable[Sample]], Iterable[Sample]] = lambda samples: samples,
) -> Improved:
    """The graph after the corrections that help; too few samples to hold some out leave it as it is."""
    unknown = [name for name in corrections if name not in CORRECTIONS]
    if unknown:
        raise ConvertError(
            f"unknown correction {unknown[0]!r}", rule="quant.corrections", where="--corrections", hint=f"Known: {', '.join(CORRECTIONS)}"
        )
    judges = scheme.bounded_weights == "auto"
    if not (corrections or judges) or sum(1 for _ in islice(iter(samples), FEWEST_SAMPLES)) < FEWEST_SAMPLES:
        if judges and steps is not None:
            steps.append(Step(BOUNDED_STEP, 0.0, 0.0, False, f"it takes {FEWEST_SAMPLES} samples to judge them"))
        return Improved(graph, graph, [])
    ranges: dict[str, Any] = {"method": method, "percentile": percentile, "threads": threads}
    improved = improve(graph, scheme, samples, corrections=corrections, progress=progress, **ranges)
    if steps is not None:
        steps += improved.steps
    return improved if corrections else replace(improved, seen=None)  # calibrated then as on the device


def _waits(graph: Graph, scheme: Scheme) -> bool:
    """Whether the graph's file needs ranges: some activations become codes, and the model gives no scales of its own."""
    if scheme.mode != "full" or any(t.scale is not None for t in graph.activations()):
        return scheme.mode == "full" and not Model(file_with(graph, scheme)[0]).calibrated
    return any(d.domain in CODED for d in decide(graph, scheme))


def convert_graph(
    graph: Graph,
    scheme: Scheme,
    samples: Iterable[Sample] | None = None,
    *,
    method: str = "auto",
    percentile: float = 99.99,
    threads: int = 1,
    quiet: bool = True,
    total: int | None = None,
    corrections: Sequence[str] = (),
    steps: list[Step] | None = None,
) -> tuple[bytes, list[Decision], int, list[Sample]]:
    """Quantise a float graph.

    Args:
        graph: float, as `load_graph` gives it.
        scheme: what is quantised.
        samples: calibration data; gone through once more for the corrections.
        method, percentile: how activation ranges are chosen.
        threads: of the runs.
        quiet: no progress bar.
        total: number of samples, for the progress bar.
        corrections: which of `quant.corrections.CORRECTIONS` to try.
        steps: receives what each correction did.

    Returns:
        The file, a decision per node, the number of samples, and the first few samples (for a comparison).

    Raises:
        ConvertError: full quantisation without samples.
    """
    graph = graph.copy()
    graph.prune()  # what nobody needs must not decide about the rest
    data, decisions, count, first, _ = _converted(
        graph, scheme, samples, method=method, percentile=percentile, threads=threads, quiet=quiet, total=total, corrections=corrections,
        steps=steps,
    )  # fmt: skip
    return data, decisions, count, first


def _converted(
    graph: Graph,
    scheme: Scheme,
    samples: Iterable[Sample] | None,
    *,
    method: str,
    percentile: float,
    threads: int,
    quiet: bool,
    corrections: Sequence[str],
    steps: list[Step] | None,
    total: int | None = None,
) -> tuple[bytes, list[Decision], int, list[Sample], Answers]:
    """As `convert_graph`; where the float model ran, the first samples come with its outputs, too."""
    if not _waits(graph, scheme):
        return *file_with(graph, scheme)[:2], 0, [], []
    if samples is None:
        raise ConvertError(
            "full quantisation needs data to calibrate on", rule="calibration.missing", where="--calibration", hint="Or use --quant weight"
        )
    again = list(samples) if (corrections or scheme.bounded_weights == "auto") and isinstance(samples, Iterator) else samples
    kept: list[Sample] = []

    def progress(items: Iterable[Sample]) -> Iterable[Sample]:
        return track(items, "calibrating", total, quiet=quiet)

    def watched() -> Iterable[Sample]:
        for sample in progress(again):
            if len(kept) < REPORT_SAMPLES:
                kept.append({name: np.array(x) for name, x in sample.items()})
            yield sample

    improved = _corrected(graph, scheme, again, corrections, method, percentile, threads, steps, progress)
    data, decisions, _ = file_with(improved.graph, improved.settle(scheme))
    data, count = calibrated(data, watched(), improved, method=method, percentile=percentile, threads=threads)
    if count == 0:
        raise ConvertError("there are no samples", rule="calibration.empty", where="--calibration")
    return data, decisions, count, kept or [sample for sample, _ in improved.first], improved.first


def convert(
    model: str | Path | onnx.ModelProto,
    output: str | Path | None = None,
    *,
    target: str = "cpu-lite",
    quant: str = "full",
    calibration: Any = None,
    input_shape: Mapping[str, tuple[int, ...]] | None = None,
    preprocess: Any = None,
    method: str = "auto",
    percentile: float = 99.99,
    bits: int | str | None = None,
    bit_range: tuple[int, int] = (2, 8),
    group: int = 0,
    min_elements: int = 0,
    min_channels: int = 0,
    skip: Sequence[str] = (),
    io: str = "float32",
    activations: str = "int8",
    int16: Sequence[str] = (),
    entropy: str = "off",
    bounded_weights: str | None = None,
    device: str | None = None,
    corrections: Sequence[str] = CORRECTIONS,
    calibratable: bool = True,
    max_samples: int | None = None,
    max_drop: float | None = None,
    target_sqnr: float | None = None,
    target_size: int | str | None = None,
    metric: str | None = None,
    validation: Any = None,
    labels: Any = None,
    evaluate: str | Callable[[Session], float] | None = None,
    search: bool = True,
    min_int8: float = 50.0,
    best_effort: bool = False,
    threads: int = 1,
    report: str | Path | None = None,
    quiet: bool = True,
    **target_options: Any,
) -> Report:
    """Convert an ONNX model.

    Args:
        model: path of a .onnx file, or a model in memory.
        output: file (cpu-lite, onnx-qdq) or folder (ascend310) to write; None keeps the result in memory.
        target: ``"cpu-lite"``, ``"ascend310"`` or ``"onnx-qdq"`` (the same quantisation as a QDQ ONNX model).
        quant: ``"full"``, ``"weight"``, ``"dynamic"`` or ``"float"``.
        calibration: what `edge8.converter.calibration.open_samples` takes: folder, files, or an iterable of arrays or dicts.
        input_shape: shapes of inputs by name where the model leaves dimensions free.
        preprocess: how pictures become inputs, see `edge8.converter.calibration`.
        method: how activation ranges are chosen, a key of `edge8.calibrate.METHODS`.
        percentile: for the method of that name.
        bits: width of weights, 1 to 16 with ``quant="weight"``, or ``"mixed"``: a width for each layer, found from a target. None is
            ``"mixed"`` where there is a target, else 8.
        bit_range: narrowest and widest width for ``"mixed"``.
        group: inputs that share a weight scale, 0 = one scale per output channel.
        min_elements, min_channels: weights with no more elements or output channels than this stay float with ``quant="weight"``.
        skip: nodes that stay float: names, ``type:Conv2D``, ``re:expression``.
        io: ``"int8"`` or ``"int16"`` leaves the model's inputs and outputs of that type as codes; ``"uint8"`` lets picture inputs be
            uint8 ``[N, H, W, C]``, with mean and standard deviation from ``preprocess`` inside the file.
        activations: ``"int8"`` or ``"int16"``, the type of quantised activations; operators without an int16 form stay float then.
        int16: nodes whose activations take int16 where ``activations`` is int8: as ``skip``, or ``tensor:NAME`` for the nodes that write
            and read a tensor.
        entropy: which weights the file holds entropy-coded: ``"off"`` none, ``"on"`` those that get smaller, ``"auto"`` those that get
            clearly smaller. Sessions decode them into memory when they start.
        bounded_weights: which scales `quant.bounded_weights` may raise so that CPUs with AVX2 but without VNNI multiply faster: ``"off"``,
            ``"on"``, or ``"auto"``: where that costs little on held-out samples. None is ``"auto"`` for a ``device`` with such a CPU, else
            ``"off"``.
        device: name of a profile in devices/: the model must fit it; its latency is predicted.
        corrections: which of `quant.corrections.CORRECTIONS` to try; each is kept where it helps on held-out samples.
        calibratable: a weights-quantised file can be calibrated later, on the device.
        max_samples: use at most so many samples.
        max_drop: how much less than the float model the metric may be, see `edge8.converter.quant.evaluation`.
        target_sqnr: dB that every output must reach.
        target_size: bytes that a weights-quantised file may have: a number, ``"200k"``, or a part of the float file: ``"0.25"``, ``"25%"``.
        metric: ``"top1"``, ``"cosine"`` or ``"sqnr"``.
        validation: data for the metric, as ``calibration``; by default every fourth calibration sample is held out for it.
        labels: class numbers for ``"top1"``: a list, or a file.
        evaluate: the metric as a function of a session, or ``"script.py:function"``.
        search: look for a file that reaches the target; otherwise the target is only checked.
        min_int8: percent of the multiply-accumulates that the search must leave in int8.
        best_effort: write the file even where the target is not reached.
        threads: for calibration runs.
        report: .html or .json file to write: every layer's error, ranges, types and reasons, memory.
        quiet: no progress bar.
        target_options: of the Ascend target, see `edge8.converter.targets.ascend310`; of onnx-qdq ``codes``: ``"uint8"`` or ``"int8"``,
            see `edge8.converter.targets.onnx_qdq`.

    Returns:
        What was made; for ascend310 that target's own report.

    Raises:
        ConvertError: anything that the caller can mend; no output is left behind.
    """
    if target == "ascend310":
        from .targets.ascend310 import convert_ascend310

        foreign: dict[str, Any] = {
            "quant": quant, "percentile": percentile, "bits": bits, "group": group, "min_elements": min_elements,
            "min_channels": min_channels, "io": io, "activations": activations, "int16": int16, "entropy": entropy,
            "bounded_weights": bounded_weights,
            "corrections": corrections, "max_drop": max_drop, "target_sqnr": target_sqnr, "metric": metric, "validation": validation,
            "labels": labels, "evaluate": evaluate, "search": search, "min_int8": min_int8, "best_effort": best_effort, "report": report,
        }  # fmt: skip
        _refuse_foreign(foreign)
        options: dict[str, Any] = {"calibration": calibration, "input_shape": input_shape, "preprocess": preprocess, "skip": skip}
        options.update(target_options, method=method, max_samples=max_samples, quiet=quiet)
        if device is not None:
            options["soc"] = _soc_of(device, options.get("soc"))
        return cast(Report, convert_ascend310(model, output or ".", **options))
    if target not in ("cpu-lite", "onnx-qdq"):
        raise ConvertError(f"unknown target {target!r}", rule="target", where="--target", hint="Known: cpu-lite, ascend310, onnx-qdq")
    codes = target_options.pop("codes", "uint8") if target == "onnx-qdq" else ""
    if target == "onnx-qdq" and entropy != "off":
        raise ConvertError("an ONNX model has no entropy-coded weights", rule="flag.target", where="--entropy", hint="Leave it out")
    if target_options:
        raise TypeError(f"convert() got unexpected arguments for {target}: {', '.join(sorted(target_options))}")
    if not 0 <= min_int8 <= 100:
        raise ConvertError(f"{min_int8:g} is not a percentage", rule="search.share", where="--min-int8", hint="Choose 0 to 100")
    weight = quant == "weight"
    mixed = bits == "mixed" or target_size is not None
    _check_widths(weight, bits, target_size, search=search)
    scheme = Scheme(
        mode=quant,
        bits=bits if isinstance(bits, int) else 8,
        group=group,
        min_elements=min_elements,
        min_channels=min_channels,
        skip=tuple(skip),
        io="float32" if io == "uint8" else io,
        activations=activations,
        int16=tuple(int16),
        entropy=entropy,
        bounded_weights=bounded_weights or ("auto" if quant == "full" and device is not None and _gains_by_bound(device) else "off"),
        calibratable=weight and calibratable and bits in (8, None) and not group,
    )
    if output is not None and not Path(output).parent.is_dir():
        raise ConvertError("the folder does not exist", rule="output.folder", where=str(Path(output).parent), hint="Create it first")
    if report is not None:
        report_suffix(report)
    graph = load_graph(model, input_shape)
    if io == "uint8":
        preprocess = take_pictures(graph, preprocess)
    opened_samples = None if calibration is None else open_samples(calibration, graph, preprocess=preprocess, limit=max_samples)
    if opened_samples is not None and opened_samples.preprocess:
        graph.metadata["preprocess"] = {name: steps.to_dict() for name, steps in opened_samples.preprocess.items()}
    samples: Iterable[Sample] | None = opened_samples
    asked = {"max_drop": max_drop, "target_sqnr": target_sqnr, "metric": metric, "labels": labels, "evaluate": evaluate}
    goal = None
    if any(value is not None for value in asked.values()):
        checked: Iterable[Sample] | None = samples if validation is None else open_samples(validation, graph, preprocess=preprocess)
        if validation is None and samples is not None and evaluate is None:
            samples, checked, asked["labels"], remark = hold_out(samples, labels)
            graph.metadata.setdefault("warnings", []).extend([remark] if remark else [])
        goal = goal_of(float_file(graph), checked, threads=threads, **asked)
    steps: list[Step] = []
    ranges: dict[str, Any] = {"method": method, "percentile": percentile, "threads": threads}
    searched: dict[str, Any] = {}
    count = 0
    kept: list[Sample] = []
    answers: Answers = []

    def say(text: str) -> None:
        if not quiet:
            print(f"edge8: {text}", file=sys.stderr, flush=True)

    if mixed or (weight and search and bits is None and goal is not None and samples is not None):
        data, decisions, searched = width_for_each(
            graph, scheme, samples, goal=goal, size=str(target_size or ""), float_bytes=len(float_file(graph)), bit_range=bit_range,
            corrections=corrections, threads=threads, best_effort=best_effort, say=say,
        )  # fmt: skip
    elif weight and scheme.bits < 8 and samples is not None:
        data, decisions, steps = coded_with_data(graph, scheme, float_file(graph), samples, corrections, threads)
    elif goal is not None and search and quant == "full" and samples is not None:
        improved = _corrected(graph, scheme, samples, corrections, steps=steps, **ranges)
        calibrating = samples
        rules = {"min_int8": min_int8 / 100, "best_effort": best_effort, "say": say}
        data, decisions, count, searched = fewest_in_float(improved, improved.settle(scheme), goal, lambda: calibrating, **rules, **ranges)
        kept, answers = [sample for sample, _ in improved.first], improved.first
    else:
        data, decisions, count, kept, answers = _converted(
            graph, scheme, samples, corrections=corrections, steps=steps, quiet=quiet, **ranges
        )
    if samples is not None and not kept and quant != "float":
        kept = list(itertools.islice(samples, REPORT_SAMPLES))
    opened = Model(data)
    made = Report(
        output=None if output is None else Path(output),
        data=data,
        quant=quant,
        onnx_bytes=Path(model).stat().st_size if not isinstance(model, onnx.ModelProto) else model.ByteSize(),
        decisions=decisions,
        samples=count,
        corrections=[{"name": s.name, "state": s.state, "before": s.before, "after": s.after, "remark": s.untried} for s in steps],
        macs=opened.macs,
        int8_macs=_coded_macs(opened, 1),
        int16_macs=_coded_macs(opened, 2),
        arena_bytes=opened.arena_bytes(1),
        coding=_coding(opened),
        bounded=_bounded(opened),
        warnings=list(graph.metadata.get("warnings", [])),
    )
    give_back()
    reference = b"" if report is None else float_file(graph)
    if kept and not answers:
        floating = FloatModel(graph, threads)
        answers = [(sample, floating.run(sample)) for sample in kept]
    if answers:
        made.accuracy = accuracy(graph.outputs, answers, data, threads)
    if device is not None:
        made.device = _device_lines(device, opened)
    made.search = searched
    if goal is not None and not searched:
        made.search = goal.check(data, best_effort=best_effort)
    if report is not None:
        _write_report(made, report, reference, kept or itertools.islice(samples or (), REPORT_SAMPLES), method=method, threads=threads)
    if target == "onnx-qdq":
        made.data = _as_onnx(data, codes)
    if output is not None:
        write_file(Path(output), made.data)
    return made


def _coding(model: Model) -> tuple[int, int, int]:
    coded = [t for t in model.tensors if t.stored < t.bytes and t.constant]
    return len(coded), sum(t.stored for t in coded), sum(t.bytes for t in coded)


def _bounded(model: Model) -> tuple[int, int] | None:
    layers = model.metadata.get("bounded_weights")
    return None if layers is None else (layers[0], layers[1])


def _check_widths(weight: bool, bits: int | str | None, target_size: int | str | None, *, search: bool) -> None:
    """Refuse widths and sizes that do not go together."""
    if isinstance(bits, str) and bits != "mixed":
        raise ConvertError(f"unknown width {bits!r}", rule="quant.bits", where="--bits", hint="Choose 1 to 16, or mixed")
    if (bits == "mixed" or target_size is not None) and not weight:
        where = "--bits mixed" if bits == "mixed" else "--target-size"
        raise ConvertError("full quantisation has 8-bit weights only", rule="search.kind", where=where, hint="Use --quant weight")
    if target_size is not None and isinstance(bits, int):
        raise ConvertError(
            "one width for all layers leaves nothing to search", rule="search.bits", where="--target-size", hint="Leave --bits out"
        )
    if (bits == "mixed" or target_size is not None) and not search:
        raise ConvertError("a width for each layer is found by a search", rule="search.bits", where="--no-search", hint="Leave it out")


# What else to do where an argument of the other targets is given for ascend310.
_INSTEAD = {
    "quant": "Full quantisation is the only kind on this target; --skip leaves layers in float16",
    "corrections": "--method says which corrections are made",
    "percentile": "An AMCT configuration holds the percentiles: --amct-config",
    "report": "report.html and report.json are written into the folder",
    "io": "--aipp lets the chip take uint8 pictures",
    "activations": "The Ascend 310 computes quantised layers in int8",
    "int16": "The Ascend 310 computes quantised layers in int8",
}


def _refuse_foreign(given: Mapping[str, Any]) -> None:
    """Nothing that the caller asks for is ignored: ConvertError for each argument that has no meaning on ascend310."""
    defaults = inspect.signature(convert).parameters
    for name, value in given.items():
        default = defaults[name].default
        if (list(value) != list(default)) if name in ("corrections", "int16") else value != default:
            hint = _INSTEAD.get(name, "Leave it out; `edge8 verify` measures the accuracy of the folder")
            raise ConvertError("it has no meaning on ascend310", rule="flag.target", where=f"--{name.replace('_', '-')}", hint=hint)


def _gains_by_bound(device: str) -> bool:
    """Whether a device's profile names a CPU whose kernels are those of AVX2."""
    from .devices import load_device

    cores = [c.core.features for c in load_device(device).clusters]
    return any("avx2" in features and "avx512vnni" not in features for features in cores)


def _soc_of(device: str, soc: str | None) -> str:
    """The chip of a device profile; ConvertError when it has none or another one was asked for."""
    from .devices import load_device

    profile = load_device(device)
    if profile.npu is None:
        raise ConvertError(f"{profile.title} has no Ascend chip", rule="device.kind", where="--device", hint="Use --target cpu-lite")
    if soc not in (None, profile.npu.soc_version):
        raise ConvertError(
            f"{profile.title} has an {profile.npu.soc_version}, not {soc}", rule="device.soc", where="--soc", hint="Give one of the two"
        )
    return profile.npu.soc_version


def _as_onnx(data: bytes, codes: str) -> bytes:
    """The QDQ ONNX model of an .e8 file."""
    from .targets.onnx_qdq import export

    if codes not in ("uint8", "int8"):
        raise ConvertError(f"unknown type {codes!r}", rule="onnx_qdq.codes", where="--codes", hint="Known: uint8, int8")
    return bytes(export(data, unsigned=codes == "uint8").SerializeToString())


def _write_report(made: Report, path: str | Path, reference: bytes, samples: Iterable[Sample], *, method: str, threads: int) -> None:
    """Compare layer by layer and write the report file."""
    from .report import build_report, write_report

    facts = {
        "model": "" if made.output is None else made.output.name,
        "quant": made.quant,
        "samples": made.samples,
        "method": method if made.samples else "",
        "warnings": made.warnings,
        "device": made.device,
        "corrections": made.corrections,
        "search": made.search,
    }
    reasons = {d.node: d.reason for d in made.decisions if d.reason and made.quant != "float"}
    file = Model(made.data)
    scaled = set(file.metadata.get("equalised", []))
    content = build_report(
        file, Model(reference), samples, onnx_bytes=made.onnx_bytes, reasons=reasons, facts=facts, scaled=scaled, threads=threads
    )
    write_report(content, path)


def _device_lines(name: str, model: Model) -> list[str]:
    """What a device profile says of a model; raises ConvertError when it does not fit."""
    from .devices import load_device
    from .prediction import check_fit, device_warnings, model_work, predict

    device = load_device(name)
    work = model_work(model)
    arena = model.arena_bytes(1, least=device.kind == "mcu")
    fit = check_fit(device, model_bytes=model.file_bytes, arena_bytes=arena, int8_weights=True)
    return [fit, str(predict(device, work)), *device_warnings(device, work)]
