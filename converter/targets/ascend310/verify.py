# SPDX-License-Identifier: Apache-2.0
"""`edge8 verify out/`: every rule as a named check, and with data the accuracy on the simulated chip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConvertError
from ...preprocess import Preprocess
from ...progress import track
from . import rules_files, rules_model
from .calibrate import Batches, join_batches
from .compare import Comparison, compare_models
from .folder import BrokenFileError, ProducedFolder
from .profiles import parse_profile
from .samples import open_data

__all__ = ["CHECKS", "Check", "VerifyReport", "verify_folder"]

# The largest relative difference between the fake-quant model and the simulation without float16.
_SAME = 1e-5


@dataclass(frozen=True)
class Check:
    """Result of one rule.

    Attributes:
        name: stable, as in CHECKS.
        level: ``"error"`` or ``"warning"``: what a violation means.
        findings: one line per violation; empty when the rule holds.
    """

    name: str
    level: str
    findings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the folder may be used as far as this rule goes."""
        return not self.findings or self.level == "warning"


@dataclass
class VerifyReport:
    """Result of ``verify_folder``.

    Attributes:
        folder: what was checked.
        checks: one per rule.
        comparison: accuracy on the given data, or on a calibration batch.
    """

    folder: Path
    checks: list[Check] = field(default_factory=list)
    comparison: Comparison | None = None

    @property
    def ok(self) -> bool:
        """Whether every rule holds."""
        return all(check.ok for check in self.checks)

    @property
    def failed(self) -> list[str]:
        """Names of the broken rules."""
        return [check.name for check in self.checks if not check.ok]

    def __str__(self) -> str:
        lines = []
        for check in self.checks:
            mark = "ok" if not check.findings else "WARN" if check.level == "warning" else "FAIL"
            lines.append(f"{mark:4} {check.name}")
            lines += [f"       {text}" for text in check.findings[:5]]
            if len(check.findings) > 5:
                lines.append(f"       ... {len(check.findings) - 5} more")
        if self.comparison is not None and self.comparison.batches:
            lines.append(f"accuracy against the float model, {self.comparison.batches} batch(es):")
            for name, kinds in self.comparison.outputs.items():
                for kind, accuracy in kinds.items():
                    figures = accuracy.to_dict()
                    agreement = f", top-1 agreement {100 * figures['top1_agreement']:.1f} %" if "top1_agreement" in figures else ""
                    sqnr = "exact" if figures["sqnr_db"] is None else f"SQNR {figures['sqnr_db']} dB"
                    lines.append(f"  {name} ({kind}): {sqnr}, cosine {figures['cosine']}{agreement}")
            worst = sorted(self.comparison.layers.items(), key=lambda item: item[1].sqnr)[:5]
            lines += [f"  layer {name}: SQNR {accuracy.sqnr:.2f} dB" for name, accuracy in worst]
        lines.append(f"{sum(check.ok for check in self.checks)} of {len(self.checks)} checks passed: {self.folder}")
        return "\n".join(lines)


Rule = Callable[[ProducedFolder], Iterator[str]]

# Name -> (level, rule). The numbers of reference rules: see docs/ascend310.md.
CHECKS: dict[str, tuple[str, Rule]] = {
    "files": ("error", rules_files.files),
    "opset": ("error", rules_model.opset),
    "names": ("error", rules_model.names),
    "operators": ("error", rules_model.operators),
    "layer-form": ("error", rules_model.layer_form),
    "quant-attributes": ("error", rules_model.quant_attributes),
    "deq-scale": ("error", rules_model.deq_scale),
    "record": ("error", rules_model.record),
    "weights": ("error", rules_model.weights),
    "bias": ("error", rules_model.bias),
    "accumulators": ("error", rules_model.accumulators),
    "float16-range": ("warning", rules_model.float16_range),
    "fake-quant": ("error", rules_model.fake_quant),
    "float-model": ("error", rules_model.float_model),
    "interface": ("error", rules_model.interface),
    "configuration": ("error", rules_files.configuration),
    "json-config": ("error", rules_files.json_config),
    "calibration-files": ("error", rules_files.calibration_files),
    "aipp": ("error", rules_files.aipp),
    "atc-command": ("error", rules_files.atc_command),
    "paths": ("error", rules_files.paths),
    "reports": ("error", rules_files.reports),
}


def _apply(name: str, level: str, rule: Rule, folder: ProducedFolder) -> Check:
    found: list[str] = []
    try:
        found.extend(rule(folder))
    except BrokenFileError as error:
        found.append(str(error))
    except Exception as error:  # a file broken in a way no rule foresees is a finding, not a crash
        found.append(f"cannot be checked: {type(error).__name__}: {error}")
    # What cannot be read is an error even under a rule that only warns.
    return Check(name, level if not any(text.startswith("cannot be checked") for text in found) else "error", tuple(found))


def verify_folder(
    folder: str | Path, *, data: Any = None, preprocess: Any = None, max_samples: int | None = None, quiet: bool = True, run: bool = True
) -> VerifyReport:
    """Check a folder that ``convert_ascend310`` wrote.

    Args:
        data, preprocess, max_samples: test data as for calibration; without data the first calibration batch is run. Pictures are
            prepared as the calibration pictures were unless ``preprocess`` says otherwise.
        quiet: no progress bar.
        run: False leaves out everything that executes the models.

    Raises:
        ConvertError: the folder is missing or not of this target, or the data cannot be read. Violations are no exceptions: see the result.
    """
    opened = ProducedFolder.open(folder)
    result = VerifyReport(opened.path)
    result.checks = [_apply(name, level, rule, opened) for name, (level, rule) in CHECKS.items()]
    if not run:
        return result
    try:
        result.comparison = _run(opened, data, preprocess, max_samples, quiet)
    except ConvertError:
        if data is not None:
            raise
        result.checks.append(Check("numerics", "error", ("the models cannot be run on the first calibration batch",)))
        return result
    except Exception as error:
        result.checks.append(Check("numerics", "error", (f"the models cannot be run: {type(error).__name__}: {error}",)))
        return result
    result.checks.append(Check("numerics", "error", tuple(_numerics(result.comparison))))
    return result


def _numerics(comparison: Comparison) -> Iterator[str]:
    """fake quant == simulation, no overflow, finite outputs."""
    if not comparison.fake_difference <= _SAME:
        yield f"the fake-quant model differs from the simulated deploy model by {comparison.fake_difference:.2g} of the largest output"
    beyond = [name for name, largest in comparison.ranges.sums.items() if largest > 2**31 - 1]
    if beyond:
        yield f"int32 overflow on the data in {', '.join(beyond[:3])}"
    for name, kinds in comparison.outputs.items():
        if not np.isfinite(kinds["chip"].noise):
            yield f"output {name} is not finite"


def _run(folder: ProducedFolder, data: Any, preprocess: Any, max_samples: int | None, quiet: bool) -> Comparison:
    graph = folder.graph("float")
    inputs = folder.data["inputs"]
    shapes = {entry["name"]: list(entry["shape"]) for entry in inputs}
    feeds: Iterable[Mapping[str, Any]]
    if data is None:
        count = min(1, int(folder.data["batch_num"]))
        stored = folder.data.get("batch_shapes") or [shapes]
        batches = Batches(
            folder.path / "calibration",
            {e["name"]: e["calibration"] for e in inputs},
            {e["name"]: np.dtype(e["dtype"]) for e in inputs},
            stored,
        )
        feeds = (batches.load(index) for index in range(count))
    else:
        stored_profile = folder.data.get("profile")
        texts = {stored_profile["flag"]: stored_profile["value"]} if stored_profile else {}
        profile = parse_profile(texts.get("dynamic_batch_size"), texts.get("dynamic_image_size"), texts.get("dynamic_dims"))
        if preprocess is None and folder.data.get("preprocess"):
            preprocess = {name: Preprocess.from_dict(steps, "report.json") for name, steps in folder.data["preprocess"].items()}
        samples = open_data(data, graph, shapes, profile, preprocess, max_samples, folder.data.get("batch"))
        shown = track(samples, "simulating", getattr(samples, "total", None), quiet=quiet)
        feeds = join_batches(shown, graph, shapes, "sample")
    return compare_models(folder.model("float"), folder.model("deploy"), folder.model("fake_quant"), feeds, str(folder.data["dequant"]))
