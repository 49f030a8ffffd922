# SPDX-License-Identifier: Apache-2.0
"""A report as a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..quant.scheme import CODED

__all__ = ["as_text"]

_WORST = 8


def as_text(content: Mapping[str, Any]) -> str:
    """Sizes, outputs, the layers with the lowest SQNR, and what is not quantised."""
    s = content["summary"]
    shares = {kind: 100 * s["macs_by_type"][kind] / max(1, s["macs"]) for kind in CODED}
    lines = [
        f"{s['model'] or 'model'}: {s['file_bytes']:,} bytes, arena {s['arena_bytes']:,} bytes, {s['macs']:,} MACs, "
        f"{shares['int8']:.1f} % of them in int8" + (f", {shares['int16']:.1f} % in int16" if shares["int16"] else "")
    ]
    lines += [f"output {name}: cosine {a['cosine']:.6f}, SQNR {a['sqnr']:.1f} dB against float" for name, a in content["accuracy"].items()]
    if content["layers"]:
        lines.append(f"layers with the lowest SQNR, of {len(content['layers'])} ({content['compared_samples']} samples):")
        for e in sorted(content["layers"], key=lambda e: float(e["sqnr"]))[:_WORST]:
            own = f", own {e['own_sqnr']:.1f} dB, clipped {100 * e['clip_rate']:.3g} %" if "own_sqnr" in e else ""
            lines.append(f"  {e['op']:4} {e['kind']} {e['tensor']}: {e['sqnr']:.1f} dB{own}, {e['type']}")
    other = [o for o in content["operators"] if o["type"] not in CODED and o["reason"]]
    lines += [f"not quantised: {o['kind']} {o['node']}: {o['reason']}" for o in other[:20]]
    if len(other) > 20:
        lines.append(f"not quantised: {len(other) - 20} more")
    return "\n".join(lines)
