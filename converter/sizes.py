# SPDX-License-Identifier: Apache-2.0
"""`edge8 sizes`: flash and RAM that models take on a microcontroller, each with the library pruned to it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from edge8 import Model

from .bare_metal import Firmware
from .deploy import deploy
from .devices import load_device
from .errors import ConvertError
from .prune import describe_needs, needs_of

__all__ = ["format_sizes", "measure_sizes"]


def measure_sizes(model: str | os.PathLike[str], device: str, *, whole: bool = False) -> Firmware:
    """Build the firmware of a model for a microcontroller in a folder that does not stay.

    Args:
        model: an .e8 file.
        device: name of a profile of kind ``mcu``, or path of a .toml.
        whole: link the library with all operators instead of a pruned one.

    Raises:
        ConvertError: what `deploy` raises, or a device that is no microcontroller.
    """
    if load_device(device).kind != "mcu":
        raise ConvertError("is no microcontroller", rule="sizes.device", where=device, hint="edge8 deploy prints the sizes of its bundle")
    with tempfile.TemporaryDirectory(prefix="edge8-sizes-") as folder:
        made = deploy(model, device, Path(folder) / "bundle", ops_from=None if whole else [])
    assert made.firmware is not None
    return made.firmware


def format_sizes(models: Iterable[str | os.PathLike[str]], device: str, *, whole: bool = False) -> str:
    """The table that `edge8 sizes` prints, then the operators and number formats of each model."""
    lines = [f"{'bytes':28} {'code':>9} {'model':>9} {'arena':>9} {'RAM':>9} {'stack':>7}  operators"]
    for path in models:
        f = measure_sizes(path, device, whole=whole)
        numbers = [(f.code, 9), (f.model, 9), (f.arena, 9), (f.ram, 9), (f.stack, 7)]
        columns = " ".join(f"{'?' if n is None else format(n, ',')!s:>{width}}" for n, width in numbers)
        operators = "all" if whole else describe_needs(needs_of([Model(path)]))
        lines.append(f"{Path(path).name:28} {columns}  {operators}")
    return "\n".join(lines)
