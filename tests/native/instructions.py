# SPDX-License-Identifier: Apache-2.0
"""Instructions of one run of a network at level avx2, counted by callgrind, beside the record in instructions.json.

    python tests/native/instructions.py [NAME ...]             # count, and print what changed
    python tests/native/instructions.py --record [NAME ...]    # rewrite these rows of the record

The count is the same on every run; it depends on the compiler, which the record therefore names. Time it does not tell: a rise says that
something runs that did not run before, and a commit that raises a row says why.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge8 import _edge8_cffi
from edge8.converter.api import convert_graph, load_graph
from edge8.converter.quant.scheme import Scheme

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.fetch import NETWORKS, Unavailable, bench_networks, network  # noqa: E402

__all__ = ["CASES", "LEVEL", "RECORD", "Case", "Missing", "compiler", "count", "read_record", "risen"]

RECORD = Path(__file__).with_suffix(".json")
LEVEL = "avx2"
RISE = 0.03
DEMO = ROOT / "converter" / "examples" / "fashion_mnist" / "model.onnx"


class Missing(Exception):  # noqa: N818  (a reason to skip, not a failure)
    """What is needed to count is not here."""


def _built(name: str) -> onnx.ModelProto:
    model: onnx.ModelProto = bench_networks().build(name)
    return model


@dataclass(frozen=True)
class Case:
    """A network in one of its forms. ``slow``: more than a few seconds under valgrind, whose fused multiply-adds are slow."""

    name: str
    mode: str
    model: Callable[[], onnx.ModelProto | Path]
    slow: bool = False
    shapes: Mapping[str, tuple[int, ...]] | None = None

    def __str__(self) -> str:
        return f"{self.name} {'int8' if self.mode == 'full' else 'float'}"


def _cases() -> list[Case]:
    cases = [Case("demo", mode, lambda: DEMO) for mode in ("full", "float")]
    for name in ("dscnn_kws", "mobilenetv1_025_vww", "resnet8_cifar"):
        cases += [Case(name, mode, lambda name=name: _built(name)) for mode in ("full", "float")]  # type: ignore[misc]
    for name in ("squeezenet11", "mobilenetv1", "mobilenetv2", "minilm6", "resnet18", "resnet50"):
        cases.append(Case(name, "full", lambda name=name: _built(name), slow=name.startswith("resnet")))  # type: ignore[misc]
    cases.append(Case("mobilenetv2", "float", lambda: _built("mobilenetv2"), slow=True))
    heavy = ("efficientnet-lite0", "esrgan-slim-x2")
    for name in ("fer-mini-xception", "mp-face-detection", "mtcnn-onet", "efficientnet-lite0", "ppocr-direction", "esrgan-slim-x2"):
        case = Case(name, "full", lambda name=name: network(name), slow=name in heavy, shapes=NETWORKS[name].shapes)  # type: ignore[misc]
        cases.append(case)
    return cases


def library() -> Path:
    """The installed libedge8.so."""
    return Path(_edge8_cffi.__file__).parent / "libedge8.so"


def compiler() -> str:
    """Compiler and major version that the library's .comment section states.

    Raises:
        Missing: there is no such section, or no readelf.
    """
    if shutil.which("readelf") is None:
        raise Missing("readelf is absent (Debian: binutils)")
    text = subprocess.run(["readelf", "-p", ".comment", str(library())], capture_output=True, text=True, check=True).stdout
    if found := re.search(r"GCC: .*?(\d+)\.\d+\.\d+$", text, re.M):
        return f"gcc {found.group(1)}"
    if found := re.search(r"clang version (\d+)", text):
        return f"clang {found.group(1)}"
    raise Missing("the library does not say what compiled it")


def _program(folder: Path) -> Path:
    for name in ("gcc", "valgrind"):
        if shutil.which(name) is None:
            raise Missing(f"{name} is absent (Debian: {name})")
    made = folder / "count_run"
    source = str(Path(__file__).parent / "count_run.c")
    options = ["-std=c11", "-O1", f"-I{ROOT / 'runtime_c' / 'include'}", f"-Wl,-rpath,{library().parent}"]
    subprocess.run(["gcc", *options, source, str(library()), "-o", str(made)], check=True)
    return made


def count(case: Case, folder: Path) -> int:
    """Instructions within e8_session_run, for a file calibrated on one seeded sample.

    Raises:
        Missing: a program or a network is absent, or the level of this CPU under valgrind is another one.
    """
    program = _program(folder)
    made = case.model()
    graph = load_graph(made, case.shapes)
    random = np.random.default_rng(0)
    shapes = {name: graph.tensors[name].shape for name in graph.inputs}
    sample = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    data = convert_graph(graph, Scheme(mode=case.mode), [sample], method="minmax")[0]
    path = folder / "net.e8"
    path.write_bytes(data)
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=e8_session_run", str(program), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{case}: exit code {result.returncode}: {result.stderr[-500:]}")
    if result.stdout.strip() != LEVEL:
        raise Missing(f"valgrind shows a CPU of level {result.stdout.strip()}, not {LEVEL}")
    found = re.search(r"Collected : (\d+)", result.stderr)
    assert found is not None, result.stderr
    return int(found.group(1))


def read_record() -> dict[str, Any]:
    """The record: ``compiler``, ``level`` and ``instructions`` by case."""
    record: dict[str, Any] = json.loads(RECORD.read_text())
    return record


def risen(counted: int, recorded: int) -> bool:
    """More than the tolerated rise."""
    return counted > recorded * (1 + RISE)


CASES = _cases()


def main() -> int:
    """Count and compare, or record; exit code 1 when a count rose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (all)")
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {case.name for case in CASES}:
        parser.error(f"unknown networks: {', '.join(sorted(unknown))}; there are {', '.join(sorted({c.name for c in CASES}))}")
    record = read_record() if RECORD.exists() else {"compiler": compiler(), "level": LEVEL, "instructions": {}}
    if record["compiler"] != compiler() and not (arguments.record and not arguments.names):
        print(f"the record is of {record['compiler']}, this library of {compiler()}: record all networks anew, or build with the other")
        return 2
    record["compiler"], rows, failed = compiler(), record["instructions"], False
    for case in CASES:
        if arguments.names and case.name not in arguments.names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                counted = count(case, Path(folder))
            except (Missing, Unavailable) as error:
                print(f"skipped {case}: {error}")
                continue
        before = rows.get(str(case))
        failed |= before is not None and risen(counted, before)
        print(f"{case!s:36} {counted:13,}" + ("" if before is None else f"  {100 * (counted / before - 1):+.2f} %"), flush=True)
        rows[str(case)] = counted
    if arguments.record:
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        return 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
