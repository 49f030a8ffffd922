# SPDX-License-Identifier: Apache-2.0
"""The chips that `--soc` knows, read from socs.toml."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from ...errors import ConvertError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library has it from 3.11 on
    import tomli as tomllib

__all__ = ["Soc", "find_soc", "known_socs"]


@dataclass(frozen=True)
class Soc:
    """One value of --soc_version.

    Attributes:
        name: as ATC wants it, such as ``"Ascend310"``.
        family: products that carry the chip.
        dequant: ``"fp16"`` or ``"fp32"``, see socs.toml.
        last_cann: newest CANN release known to support the chip; empty when no end is known.
    """

    name: str
    family: str
    dequant: str
    last_cann: str


@lru_cache(maxsize=1)
def known_socs() -> dict[str, Soc]:
    """All chips by name."""
    text = resources.files(__package__).joinpath("socs.toml").read_text(encoding="utf-8")
    return {name: Soc(name, row["family"], row["dequant"], row.get("last_cann", "")) for name, row in tomllib.loads(text).items()}


def find_soc(name: str) -> Soc:
    """The chip called ``name``.

    Raises:
        ConvertError: unknown name; the message lists the known ones.
    """
    socs = known_socs()
    if name not in socs:
        raise ConvertError(
            f"unknown chip {name!r}",
            rule="soc.unknown",
            where="--soc",
            hint=f"Known: {', '.join(socs)}. The value is 'Ascend' and the name that `npu-smi info` shows",
        )
    return socs[name]
