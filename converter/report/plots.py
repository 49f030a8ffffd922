# SPDX-License-Identifier: Apache-2.0
"""The report's plots as SVG text that stands in the page itself: no scripts, no fonts, no files beside it."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullLocator

__all__ = ["COLOURS", "arena_plot", "histogram_plot", "layer_plot"]

Entry = Mapping[str, Any]

COLOURS = {"int8": "#1f6fb4", "int16": "#2b9c6a", "dynamic": "#12a5b0", "weight": "#b07aa1", "float": "#e07b27", "other": "#8a8f98"}
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own font
    "svg.hashsalt": "edge8",  # the same report gives the same bytes
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.7,
    "axes.edgecolor": "#9aa1ab",
    "axes.axisbelow": True,
}


def _figure(width: float, height: float, left: float, bottom: float, top: float = 0.1) -> Figure:
    """A figure with fixed margins in inches: measuring text to lay it out would take most of the time."""
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    figure.subplots_adjust(left=left / width, right=1 - 0.12 / width, bottom=bottom / height, top=1 - top / height, hspace=0.14)
    return figure


def _logarithmic(axis: Any) -> None:
    """A logarithmic axis with ticks at powers of ten only."""
    axis.axes.set_yscale("log")
    axis.set_minor_locator(NullLocator())


def _svg(figure: Figure, title: str) -> str:
    """The <svg> element, with a title for screen readers and identifiers that no other plot of the page has."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    mark = re.sub(r"\W+", "-", title.lower())
    text = re.sub(r'(\bid="|url\(#|href="#)', lambda m: f"{m.group(1)}{mark}-", text)
    head, body = text.split(">", 1)
    head = head.replace("<svg", '<svg role="img"', 1)
    return f"{head}><title>{_escaped(title)}</title>{body}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _with_tips(svg: str, group: str, tips: Sequence[str]) -> str:
    """Give each point of a group (one <use> each, in order) a title, which browsers show under the mouse."""
    start = svg.index(group)
    end = svg.index('<g id="', start)
    left = iter(tips)
    points = re.sub(r"(<use [^>]*?)/>", lambda m: f"{m.group(1)}><title>{_escaped(next(left))}</title></use>", svg[start:end])
    return svg[:start] + points + svg[end:]


def layer_plot(layers: Sequence[Entry]) -> str:
    """SQNR, 1 - cosine and clip rate of every layer in execution order."""
    with mpl.rc_context(_STYLE):
        figure = _figure(10.5, 5.6, 0.75, 0.5, 0.3)
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[2.2, 1.2, 1.0])
        x = np.arange(len(layers))
        colours = [COLOURS[entry["type"]] for entry in layers]
        size = float(np.clip(700 / max(1, len(layers)), 6, 26))
        shown = [min(entry["sqnr"], 80.0) for entry in layers]
        own = [min(entry["own_sqnr"], 80.0) if "own_sqnr" in entry else np.nan for entry in layers]
        top.plot(x, own, color="#9aa1ab", linewidth=0.9, linestyle="--", label="its own rounding and clipping alone")
        top.plot(x, shown, color="#c5cbd3", linewidth=1.0, zorder=2)
        top.scatter(x, shown, c=colours, s=size, zorder=3).set_gid("sqnr-points")
        top.set_ylabel("SQNR, dB")
        types = [Patch(color=COLOURS[name], label=name) for name in COLOURS if name in {entry["type"] for entry in layers}]
        handles = [*types, *top.get_legend_handles_labels()[0]]
        top.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=len(handles), frameon=False, fontsize=8)
        distance = [max(1 - entry["cosine"], 1e-9) for entry in layers]
        middle.plot(x, distance, color="#c5cbd3", linewidth=1.0, zorder=2)
        middle.scatter(x, distance, c=colours, s=size, zorder=3).set_gid("cosine-points")
        _logarithmic(middle.yaxis)
        middle.set_ylabel("1 - cosine")
        bottom.bar(x, [100 * entry.get("clip_rate", 0.0) for entry in layers], color=colours, width=0.8)
        bottom.set_ylabel("clipped, %")
        bottom.set_xlabel("operator, in execution order")
        ticks = np.unique(np.linspace(0, len(layers) - 1, min(len(layers), 14)).astype(int))
        bottom.set_xticks(ticks, [str(layers[i]["op"]) for i in ticks])
        bottom.set_xlim(-0.8, len(layers) - 0.2)
        tips = [f"{e['op']} {e['kind']} {e['tensor']}: SQNR {e['sqnr']:.1f} dB, cosine {e['cosine']:.6f}" for e in layers]
        text = _svg(figure, "Error of every layer in execution order")
        return _with_tips(_with_tips(text, "sqnr-points", tips), "cosine-points", tips)


def histogram_plot(entry: Entry) -> str:
    """Distribution of one tensor in the float model, on a logarithmic axis, and the range of its codes."""
    with mpl.rc_context(_STYLE):
        figure = _figure(3.5, 2.2, 0.68, 0.32)
        axes = figure.subplots()
        shares = np.asarray(entry["shares"])
        edges = np.linspace(entry["low"], entry["high"], len(shares) + 1)
        floor = max(float(shares[shares > 0].min()) / 2, 1e-9)
        axes.stairs(np.maximum(shares, floor), edges, baseline=floor, fill=True, color="#1f6fb4", alpha=0.75)
        _logarithmic(axes.yaxis)
        low, high = entry["range"]
        axes.axvspan(low, high, color="#2b9c6a", alpha=0.12, zorder=0)
        for end in (low, high):
            axes.axvline(end, color="#2b9c6a", linewidth=1.2)
        margin = 0.04 * (max(high, entry["high"]) - min(low, entry["low"]))
        axes.set_xlim(min(low, entry["low"]) - margin, max(high, entry["high"]) + margin)
        axes.set_ylabel("share of values")
        return _svg(figure, f"Values of {entry['tensor']} and the range of its codes")


def arena_plot(arena: Entry, operators: Sequence[Entry]) -> str:
    """Every activation as a rectangle: its life across, its place in the arena upwards."""
    with mpl.rc_context(_STYLE):
        figure = _figure(10.5, 3.4, 0.75, 0.5, 0.35)
        axes = figure.subplots()
        unit, factor = ("kB", 1e3) if arena["activation_bytes"] < 3e6 else ("MB", 1e6)
        palette = {"int8": COLOURS["int8"], "int16": COLOURS["int16"], "float32": COLOURS["float"]}
        for dtype in sorted({entry["dtype"] for entry in arena["tensors"]}):
            boxes = [
                Rectangle((e["first"] - 0.5, e["offset"] / factor), e["last"] - e["first"] + 1, max(e["bytes"], 1) / factor)
                for e in arena["tensors"]
                if e["dtype"] == dtype
            ]
            colour = palette.get(dtype, COLOURS["other"])
            axes.add_collection(PatchCollection(boxes, facecolor=colour, edgecolor="white", linewidth=0.5, alpha=0.7, label=dtype))
        handles = [Patch(color=palette.get(d, COLOURS["other"]), label=d) for d in sorted({e["dtype"] for e in arena["tensors"]})]
        axes.axhline(arena["activation_bytes"] / factor, color="#c0392b", linewidth=1.0, linestyle="--")
        axes.legend(handles=handles, loc="upper right", frameon=False, fontsize=8, ncols=len(handles), bbox_to_anchor=(1.0, 1.14))
        axes.set_xlim(-0.7, len(operators) - 0.3)
        axes.set_ylim(0, 1.06 * arena["activation_bytes"] / factor)
        axes.set_ylabel(f"place in the arena, {unit}")
        axes.set_xlabel("operator, in execution order")
        return _svg(figure, "Arena over time")
