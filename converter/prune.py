# SPDX-License-Identifier: Apache-2.0
"""What a pruned library must hold: the operators of given models, and for each the forms of data that it computes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from edge8 import Model, Tensor

from .errors import ConvertError
from .sources import sources_folder

__all__ = ["FORMS", "Needs", "describe_needs", "needs_of", "operators", "operators_header"]

# As in runtime_c/src/build.h.
FORMS = {"float32": 1, "int8": 2, "int16": 4, "integer": 8}

# Operator (table of schemas/ops.fbs) -> sum of FORMS; ENTROPY -> 1 where a model has entropy-coded weights.
Needs = Mapping[str, int]
ENTROPY = "entropy-coded weights"


def _form(t: Tensor) -> int:
    if t.dtype == np.float32:
        return FORMS["float32"]
    if t.scale > 0 and t.dtype in (np.int8, np.int16):
        return FORMS[t.dtype.name]
    return FORMS["integer"]


def needs_of(models: Iterable[Model]) -> dict[str, int]:
    """The operators of these models with the forms of their activations.

    A model that waits for calibration also needs the forms that it has afterwards.
    """
    needs: dict[str, int] = {}
    for model in models:
        tensors = model.tensors
        if model.decoded_bytes:
            needs[ENTROPY] = 1
        after = 0 if model.calibrated else FORMS["int8"] | FORMS["int16"]
        for op in model.ops:
            needs.setdefault(op.kind, 0)
            for t in (tensors[i] for i in (*op.inputs, *op.outputs) if i is not None):
                if not t.constant:
                    needs[op.kind] |= _form(t) | (after if t.dtype == np.float32 else 0)
    return needs


def describe_needs(needs: Needs) -> str:
    """Words such as ``Conv2D (int8), Softmax (int8, float32)``."""
    rows = []
    for kind in sorted(set(needs) - {ENTROPY}):
        names = [name for name, bit in FORMS.items() if needs[kind] & bit]
        rows.append(f"{kind} ({', '.join(names)})")
    return ", ".join([*rows, ENTROPY] if ENTROPY in needs else rows)


def operators() -> dict[str, tuple[int, str]]:
    """The runtime's operators by table name: number and file name."""
    text = (sources_folder() / "src" / "schema_generated.h").read_text(encoding="utf-8")
    return {table: (int(number), name) for number, table, name in re.findall(r"X\((\d+), (\w+), (\w+)\)", text)}


def operators_header(needs: Needs, folder: Path) -> Path:
    """Write edge8_ops.h, the header of a pruned library, into ``folder``.

    Raises:
        ConvertError: an operator that the runtime does not have.
    """
    known = operators()
    unknown = sorted(set(needs) - set(known) - {ENTROPY})
    if unknown:
        raise ConvertError(f"the runtime has no operator {', '.join(unknown)}", rule="deploy.operators", hint="update edge8")
    used = sorted(set(needs) - {ENTROPY}, key=lambda kind: known[kind][0])
    lines = ["#define E8_OPS_USED(X) " + " ".join(f"X({known[kind][0]}, {kind}, {known[kind][1]})" for kind in used)]
    lines += [f"#define E8_FORMS_{kind} {needs.get(kind, 0)}u" for kind in known]
    lines.append(f"#define E8_HAS_ENTROPY {needs.get(ENTROPY, 0)}")
    path = folder / "edge8_ops.h"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path
