# SPDX-License-Identifier: Apache-2.0
"""The picture of a comparison: how many times slower than edge8 each rival is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .record import Record, best

__all__ = ["plot"]

COLOURS = {
    "onnxruntime": "#1f77b4", "openvino": "#9467bd", "litert": "#ff7f0e", "ncnn": "#2ca02c", "mnn": "#d62728", "executorch": "#8c564b",
    "tract": "#7f7f7f",
}  # fmt: skip


def _panel(axes: Any, races: list[dict[str, Any]], int8: bool, title: str) -> None:
    for y, race in enumerate(races):
        own = best(race, int8, True)
        if own is None:
            continue
        for row in race["results"]:
            runtime, form = row["contestant"].rsplit(" ", 1)
            if row["reason"] is not None or row["int8"] != int8 or runtime == "edge8":
                continue
            marker = "x" if form == "s8s8" else "o"
            axes.plot(
                row["median_ms"] / own["median_ms"], y, marker, color=COLOURS[runtime], label=f"{runtime} {form}".removesuffix(" int8")
            )
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 5, 10, 20]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(races)), [race["network"] for race in races])
    axes.set_ylim(len(races) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(title, loc="left", fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def plot(record: Record, path: Path) -> None:
    """Write a PNG or SVG: a panel for each number of threads and numeric form."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [(threads, int8) for threads in sorted({r["threads"] for r in record.races}) for int8 in (True, False)]
    rows = [len([r for r in record.races if r["threads"] == threads]) for threads, _ in panels]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(9, 1.2 * len(panels) + 0.28 * sum(rows)), squeeze=False, gridspec_kw={"height_ratios": rows}
    )
    for (threads, int8), panel in zip(panels, axes[:, 0], strict=True):
        races = [r for r in record.races if r["threads"] == threads]
        title = f"{'int8' if int8 else 'float32'}, {threads} thread{'s' if threads > 1 else ''}: median / edge8's (right of 1: slower)"
        _panel(panel, races, int8, title)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
