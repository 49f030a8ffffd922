# SPDX-License-Identifier: Apache-2.0
"""A report as a file: JSON, or one HTML page with everything in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..atomic import write_file
from ..errors import ConvertError

__all__ = ["render_html", "report_suffix", "write_report"]

_SUFFIXES = (".html", ".htm", ".json")


def report_suffix(path: str | Path) -> str:
    """The kind of report that a file name asks for.

    Raises:
        ConvertError: neither HTML nor JSON, or the folder does not exist.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise ConvertError("a report is an .html or a .json file", rule="report.suffix", where=f"--report {path}")
    if not Path(path).parent.is_dir():
        raise ConvertError("the folder does not exist", rule="output.folder", where=str(Path(path).parent), hint="Create it first")
    return suffix


def _bytes(value: float) -> str:
    """Bytes with a unit that people read."""
    if value < 1000:
        return f"{value:.0f} bytes"
    value, unit = (value / 1e3, "kB") if value < 1e6 else (value / 1e6, "MB")
    return f"{value:,.1f} {unit}" if value < 100 else f"{value:,.0f} {unit}"


def _count(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f}"


def _decibel(value: float) -> str:
    return "exact" if value >= 299 else f"{value:.1f}"


def _percent(value: float) -> str:
    return "0" if value == 0 else f"{100 * value:.3g}" if value >= 1e-5 else f"{100 * value:.0e}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:
    """JSON has no infinities: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value


def render_html(content: Mapping[str, Any]) -> str:
    """The page: text, tables and plots inside, nothing to fetch.

    Raises:
        ConvertError: jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2

        from . import plots
    except ImportError as error:
        raise ConvertError(
            f"an HTML report needs {error.name}", rule="report.packages", where="--report",
            hint="pip install edge8[convert], or ask for a .json report",
        ) from error  # fmt: skip
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"size": _bytes, "amount": _count, "decibel": _decibel, "percent": _percent, "short": _short}
    template = environment.from_string((Path(__file__).parent / "page.html.j2").read_text(encoding="utf-8"))
    drawn = {
        "layers": plots.layer_plot(content["layers"]) if content["layers"] else "",
        "histograms": [plots.histogram_plot(entry) for entry in content["histograms"]],
        "arena": plots.arena_plot(content["arena"], content["operators"]) if content["arena"]["tensors"] else "",
    }
    return template.render(**{**_OPTIONAL, **content}, plots=drawn, colours=plots.COLOURS)


_OPTIONAL: dict[str, Any] = {"device": [], "corrections": [], "search": {}}


def write_report(content: Mapping[str, Any], path: str | Path) -> None:
    """Write a report of `build_report`: .html or .json by the name; whole or not at all.

    Raises:
        ConvertError: another suffix, or the file cannot be written.
    """
    as_json = report_suffix(path) == ".json"
    text = json.dumps(_finite(content), indent=1, allow_nan=False) + "\n" if as_json else render_html(content)
    write_file(Path(path), text.encode("utf-8"))
