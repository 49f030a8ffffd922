# SPDX-License-Identifier: Apache-2.0
"""Two records of `edge8 bench --json`, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import Edge8Error

__all__ = ["compare_records"]

_NEEDED = ("model", "latency_ms", "ops", "level", "threads", "macs")


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Edge8Error(f"{path}: cannot be read as a record ({getattr(error, 'strerror', None) or error})") from error
    missing = [key for key in _NEEDED if not isinstance(record, dict) or key not in record]
    if missing:
        raise Edge8Error(f"{path}: not a record of edge8 bench --json (no {missing[0]!r})")
    return dict(record)


def compare_records(first: Path, second: Path) -> str:
    """A table of latencies and of the operators that differ most, as text.

    Raises:
        Edge8Error: a file cannot be read or is not a record.
    """
    a, b = _read(first), _read(second)
    lines = [f"A {first}: {a['model']}, level {a['level']}, {a['threads']} thread(s), {a.get('machine', {}).get('processor', '')}"]
    lines += [f"B {second}: {b['model']}, level {b['level']}, {b['threads']} thread(s), {b.get('machine', {}).get('processor', '')}"]
    if a.get("crc") != b.get("crc"):
        lines.append("note: the records are of different model files")
    lines += ["", f"{'latency':12} {'A ms':>10} {'B ms':>10} {'B / A':>7}"]
    for key in a["latency_ms"]:
        if key in b["latency_ms"]:
            x, y = float(a["latency_ms"][key]), float(b["latency_ms"][key])
            lines.append(f"{key:12} {x:10.3f} {y:10.3f} {y / x if x else float('nan'):7.2f}")
    if [op["kind"] for op in a["ops"]] != [op["kind"] for op in b["ops"]]:
        return "\n".join([*lines, "", "the operators differ: no table of them"])
    rows = sorted(zip(a["ops"], b["ops"], strict=True), key=lambda pair: -abs(pair[1]["ms"] - pair[0]["ms"]))
    lines += ["", f"{'operator':20} {'A ms':>10} {'B ms':>10} {'B / A':>7}  node (largest differences first)"]
    for x, y in rows[:15]:
        ratio = y["ms"] / x["ms"] if x["ms"] else float("nan")
        lines.append(f"{x['kind']:20} {x['ms']:10.4f} {y['ms']:10.4f} {ratio:7.2f}  {x['name']}")
    return "\n".join(lines)
