# SPDX-License-Identifier: Apache-2.0
"""An operator has a place in every room: schema, converter, runtime, tests."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("generate", ROOT / "schemas" / "generate.py")
assert _spec is not None
assert _spec.loader is not None
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)
OPS = generate.parse((ROOT / "schemas" / "ops.fbs").read_text() + (ROOT / "schemas" / "model.fbs").read_text())[2]


@pytest.mark.parametrize("table", OPS)
def test_operator_has_every_room(table: str) -> None:
    name = generate.snake(table)
    rooms = [f"converter/ops/{name}.py", f"runtime_c/src/ops/{name}.c", f"tests/ops/test_{name}.py"]
    assert [room for room in rooms if not (ROOT / room).exists()] == []


def test_no_foreign_operator_files() -> None:
    from edge8.converter.ops import operators

    assert sorted(operators()) == sorted(OPS)


def test_enums_are_the_schemas() -> None:
    from edge8.converter import graph, schema_generated
    from edge8.converter.ops import binary, pad, pool2d, reduce, resize, unary

    own = [binary.BinaryKind, pad.PadKind, pool2d.PoolKind, reduce.ReduceKind, resize.ResizeKind, unary.UnaryKind]
    for enum, name in [*((e, e.__name__) for e in own), (graph.DType, "Type")]:
        there = {key: value for key, value in vars(getattr(schema_generated, name)).items() if not key.startswith("_")}
        assert {member.name: member.value for member in enum} == there, name


def test_generated_code_is_fresh() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "schemas" / "generate.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if "skipped" in done.stderr:
        pytest.skip(done.stderr.strip())
