# SPDX-License-Identifier: Apache-2.0
"""report.json and report.html: what was made, how good it is, what to look at. Nothing in them depends on time or place."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .arq import deq_scales
from .factors import Quantised
from .quantise import worst_sum
from .simulate import needs_sqrt_mode

__all__ = ["MARK", "REPORT_NAME", "AscendReport", "digests", "layer_rows", "page", "read_report"]

MARK = {"tool": "edge8", "target": "ascend310"}
REPORT_NAME = "report.json"
_UNHASHED = (REPORT_NAME, "report.html")


@dataclass
class AscendReport:
    """Result of a conversion.

    Attributes:
        folder: what was written.
        net: base name of the files.
        data: content of report.json.
    """

    folder: Path
    net: str
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """What may go wrong on the board."""
        return list(self.data["warnings"])

    @property
    def layers(self) -> list[dict[str, Any]]:
        """One row per quantised layer."""
        return list(self.data["layers"])

    def __str__(self) -> str:
        data = self.data
        lines = [
            f"{self.net} for {data['soc']} in {self.folder}",
            f"  {len(data['layers'])} layers in int8, {len(data['float_layers'])} quantisable ones in float, opset {data['opset']}, "
            f"{data['batch_num']} calibration batch(es)",
        ]
        for name, kinds in data.get("accuracy", {}).get("outputs", {}).items():
            for kind, figures in kinds.items():
                sqnr = "exact" if figures["sqnr_db"] is None else f"SQNR {figures['sqnr_db']} dB"
                lines.append(f"  {name} ({kind}): {sqnr}, cosine {figures['cosine']}")
        lines += [f"  note: {note}" for note in data["notes"][:12]]
        if len(data["notes"]) > 12:
            lines.append(f"  note: {len(data['notes']) - 12} more in {REPORT_NAME}")
        lines += [f"  warning: {text}" for text in data["warnings"]]
        lines.append("  next: sh atc.sh on a machine with CANN, then run_on_board.md")
        return "\n".join(lines)


def layer_rows(layers: Sequence[Quantised], accuracy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per quantised layer for report.json."""
    rows = []
    for entry in layers:
        scales = deq_scales(entry.factors.scale_d, entry.factors.scale_w)
        row: dict[str, Any] = {
            "name": entry.layer.name,
            "op": entry.layer.op,
            "scale_d": float(entry.factors.scale_d),
            "offset_d": entry.factors.offset_d,
            "weight_scales": int(entry.factors.scale_w.size),
            "deq_scale_min": float(scales.min()),
            "deq_scale_max": float(scales.max()),
            "sqrt_mode": bool(needs_sqrt_mode(scales).any() or needs_sqrt_mode(np.float32(1.0) / entry.factors.scale_d).any()),
            "worst_sum": worst_sum(entry),
        }
        row.update(accuracy.get(entry.layer.name, {}))
        rows.append(row)
    return rows


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the folder except the reports, by relative path."""
    out = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in _UNHASHED:
            with open(path, "rb") as file:
                out[name] = (
                    hashlib.file_digest(file, "sha256").hexdigest()
                    if hasattr(hashlib, "file_digest")
                    else hashlib.sha256(file.read()).hexdigest()
                )
    return out


def dump(data: Mapping[str, Any]) -> str:
    """JSON text with a stable layout."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(folder: Path) -> dict[str, Any] | None:
    """report.json of a folder that this target wrote, else None."""
    try:
        data = json.loads((folder / REPORT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and all(data.get(key) == value for key, value in MARK.items()) else None


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>none</p>"
    keys = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th>{html.escape(key)}</th>" for key in keys)
    body = "".join("<tr>" + "".join(f"<td>{_cell(row.get(key, ''))}</td>" for key in keys) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None:
        return "exact"
    return html.escape(str(value))


def _items(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in texts) + "</ul>" if texts else "<p>none</p>"


def page(data: Mapping[str, Any]) -> str:
    """report.html."""
    accuracy = data.get("accuracy", {})
    outputs = [
        {"output": name, "against float": kind, **figures}
        for name, kinds in accuracy.get("outputs", {}).items()
        for kind, figures in kinds.items()
    ]
    skipped = [{"layer": name, "reason": reason} for name, reason in data["float_layers"].items()]
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(data["net"])} for {html.escape(data["soc"])}</title>
<style>body{{font:15px sans-serif;max-width:75em;margin:2em auto;padding:0 1em}}
table{{border-collapse:collapse;margin:1em 0;font-size:13px}}
td,th{{border:1px solid #ccc;padding:3px 8px;text-align:left}}th{{background:#f2f2f2}}</style></head><body>
<h1>{html.escape(data["net"])} for {html.escape(data["soc"])}</h1>
<p>{len(data["layers"])} layers in int8, opset {data["opset"]}, {data["batch_num"]} calibration batch(es),
method {html.escape(data["method"])}.
Nobody ran ATC or the chip for this page: rules were checked and the chip was simulated.</p>
<h2>Accuracy on {accuracy.get("batches", 0)} batch(es), chip simulated</h2>{_table(outputs)}
<h2>Warnings</h2>{_items(data["warnings"])}
<h2>Layers in int8</h2>{_table(data["layers"])}
<h2>Quantisable layers left in float</h2>{_table(skipped)}
<h2>What was changed in the model</h2>{_items(data["notes"])}
</body></html>
"""
