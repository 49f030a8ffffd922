# SPDX-License-Identifier: Apache-2.0
"""The record of a comparison: JSON, and Markdown tables made of it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import edge8
from edge8.bench import processor

from ..atomic import write_file
from .contestant import Contestant
from .race import Result

__all__ = ["Record", "best", "geometric_mean", "markdown", "ratios"]

DISTRIBUTIONS = {
    "edge8": "edge8", "onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert", "ncnn": "ncnn", "mnn": "MNN",
    "executorch": "executorch", "tract": "tract",
}  # fmt: skip


@dataclasses.dataclass
class Record:
    """Results by network and number of threads, with what they depend on."""

    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    races: list[dict[str, Any]]

    @classmethod
    def begin(cls, contestants: list[Contestant], settings: dict[str, Any]) -> Record:
        """An empty record of this machine."""
        versions = {}
        for runtime in dict.fromkeys(c.runtime for c in contestants):
            try:
                versions[runtime] = metadata.version(DISTRIBUTIONS[runtime])
            except metadata.PackageNotFoundError:
                versions[runtime] = "absent"
        machine = {
            "processor": processor(), "cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version(),
            "edge8_level": edge8.cpu.level(),
        }  # fmt: skip
        return cls(machine, versions, settings, [])

    @classmethod
    def read(cls, path: Path) -> Record:
        """A record that `write` wrote.

        Raises:
            ValueError: it is none.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is no record of a comparison: {error}") from error

    def has(self, network: str, threads: int) -> bool:
        """These have been measured."""
        return any(r["network"] == network and r["threads"] == threads for r in self.races)

    def add(self, network: str, threads: int, macs: int, results: list[Result]) -> None:
        """Add the rows of one network."""
        rows = [dataclasses.asdict(result) for result in results]
        self.races.append({"network": network, "threads": threads, "macs": macs, "results": rows})

    def write(self, path: Path) -> None:
        """Write as JSON; the old file stays whole until the end."""
        write_file(path, (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode())


def best(race: dict[str, Any], int8: bool, own: bool) -> dict[str, Any] | None:
    """The row of edge8's default, or the fastest of its rivals, in one numeric form."""
    if own:
        return _row(race, "edge8 int8" if int8 else "edge8 fp32")
    rows = [r for r in race["results"] if r["reason"] is None and r["int8"] == int8 and not r["contestant"].startswith("edge8")]
    return min(rows, key=lambda r: float(r["median_ms"]), default=None)


def _row(race: dict[str, Any], contestant: str) -> dict[str, Any] | None:
    return next((r for r in race["results"] if r["contestant"] == contestant and r["reason"] is None), None)


def ratios(races: list[dict[str, Any]], int8: bool) -> list[float]:
    """Median of the best rival over median of edge8, for networks that both ran."""
    pairs = [(best(race, int8, False), best(race, int8, True)) for race in races]
    return [rival["median_ms"] / own["median_ms"] for rival, own in pairs if rival and own]


def geometric_mean(values: list[float]) -> float:
    """1 for no values."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else 1.0


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _summary(races: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| network | MMAC | edge8 int8 ms | best rival int8 ms | ratio | edge8 fp32 ms | best rival fp32 ms | ratio | edge8 fp32 / int8 "
        "| edge8 bounded ms | best rival int8 / it |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    by_bounded = []
    for race in races:
        cells, own = [], {}
        for int8 in (True, False):
            mine, rival = best(race, int8, True), best(race, int8, False)
            own[int8] = mine
            cells.append(_ms(mine["median_ms"]) if mine else "-")
            cells.append(f"{_ms(rival['median_ms'])} {rival['contestant'].rsplit(' ', 1)[0]}" if rival else "-")
            cells.append(f"{rival['median_ms'] / mine['median_ms']:.2f}" if mine and rival else "-")
        mine, real = own[True], own[False]
        cells.append(f"{real['median_ms'] / mine['median_ms']:.2f}" if mine and real else "-")
        bounded, rival = _row(race, "edge8 bounded"), best(race, True, False)
        cells.append(_ms(bounded["median_ms"]) if bounded else "-")
        cells.append(f"{rival['median_ms'] / bounded['median_ms']:.2f}" if bounded and rival else "-")
        if bounded and rival:
            by_bounded.append(rival["median_ms"] / bounded["median_ms"])
        lines.append(f"| {race['network']} | {race['macs'] / 1e6:.4g} | {' | '.join(cells)} |")
    means = [geometric_mean(ratios(races, int8)) for int8 in (True, False)]
    lines.append(f"| geometric mean | | | | {means[0]:.2f} | | | {means[1]:.2f} | | | {geometric_mean(by_bounded):.2f} |")
    return lines


def _details(race: dict[str, Any]) -> list[str]:
    lines = [
        "| contestant | median ms | p25 | best | load ms | first run ms | first / median | memory MB | file MB | cosine |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in race["results"]:
        if r["reason"] is not None:
            lines.append(f"| {r['contestant']} | {r['reason'].replace('|', '/')[:160]} |" + " |" * 8)
            continue
        cosine = "-" if r["cosine"] is None else f"{r['cosine']:.5f}"
        times = " | ".join(_ms(r[key]) for key in ("median_ms", "p25_ms", "best_ms", "load_ms", "first_ms"))
        ratio = f"{r['first_ms'] / r['median_ms']:.1f}"
        lines.append(f"| {r['contestant']} | {times} | {ratio} | {r['memory_bytes'] / 1e6:.1f} | {r['file_bytes'] / 1e6:.2f} | {cosine} |")
    return lines


def markdown(record: Record) -> str:
    """Tables: a summary for each number of threads, then each network."""
    machine = record.machine
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, edge8 level {machine['edge8_level']}. "
        + ", ".join(f"{runtime} {version}" for runtime, version in record.versions.items())
        + ".",
        "Ratios are the best rival's median over edge8's: above 1 edge8 is faster. Memory: peak growth from before the import to after",
        "the run.",
    ]
    for threads in sorted({r["threads"] for r in record.races}):
        races = [r for r in record.races if r["threads"] == threads]
        lines += ["", f"## {threads} thread{'s' if threads > 1 else ''}", "", *_summary(races)]
    for race in record.races:
        lines += ["", f"### {race['network']}, {race['threads']} thread{'s' if race['threads'] > 1 else ''}", "", *_details(race)]
    return "\n".join(lines) + "\n"
