# SPDX-License-Identifier: Apache-2.0
"""Files of a bundle: templates with @NAME@ places, and data as C arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["c_array", "fill"]


def fill(name: str, values: Mapping[str, str]) -> str:
    """A template of converter/deploy_templates with its places filled.

    Raises:
        KeyError: a place has no value.
    """
    text = (Path(__file__).resolve().parent / "deploy_templates" / name).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z_]+)@", lambda found: values[found.group(1)], text)


def c_array(folder: Path, arrays: Mapping[str, bytes]) -> None:
    """Write model_data.c and model_data.h: ``<name>_data`` and ``<name>_bytes``, aligned to 64 bytes as e8_model_open wants."""
    header = [
        "/* SPDX-License-Identifier: Apache-2.0 */",
        "#ifndef MODEL_DATA_H",
        "#define MODEL_DATA_H",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
    ]
    source = ["/* SPDX-License-Identifier: Apache-2.0 */", '#include "model_data.h"', "", "#include <stdalign.h>"]
    for name, data in arrays.items():
        header += [f"extern const uint8_t {name}_data[];", f"enum {{ {name}_bytes = {len(data)} }};"]
        rows = [", ".join(str(b) for b in data[i : i + 32]) for i in range(0, len(data), 32)]
        source += ["", f"alignas(64) const uint8_t {name}_data[] = {{", *(f"    {row}," for row in rows), "};"]
    (folder / "model_data.h").write_text("\n".join([*header, "", "#endif", ""]), encoding="utf-8")
    (folder / "model_data.c").write_text("\n".join([*source, ""]), encoding="utf-8")
