# SPDX-License-Identifier: Apache-2.0
"""Pruned libraries: they compute what they were pruned to, refuse the rest, and the keyword network fits a microcontroller."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edge8 import Model
from edge8.converter import convert
from edge8.converter.cross import build_library
from edge8.converter.errors import ConvertError
from edge8.converter.prune import FORMS, needs_of, operators, operators_header
from edge8.converter.sizes import format_sizes, measure_sizes
from edge8.converter.sources import sources_folder
from tests.boards.emulated import bare_library, need
from tests.boards.test_bare_metal import GOLDEN, run_suite
from tests.fetch import bench_networks

# Files of ops/ that are not named after an operator, and the operators that they serve.
SHARED = {
    "linear": {"Conv2D", "DepthwiseConv2D", "FullyConnected"},
    "winograd": {"Conv2D"},
    "binary_int8": {"Binary"},
}


@pytest.mark.parametrize("form", ["full", "float", "int16"])
def test_library_pruned_to_golden_files_runs_them_and_no_others(form: str, tmp_path: Path) -> None:
    compiler, _ = bare_library("cortex-m4")
    mine = [path for path in GOLDEN if f".{form}." in path.name]
    library = build_library(compiler, tmp_path, needs_of(map(Model, mine)))
    result = run_suite("cortex-m4", compiler, library, mine, tmp_path)
    assert result.returncode == 0, result.stdout
    if form == "full":
        others = [path for path in GOLDEN if ".float." in path.name and "conv" in path.name]
        result = run_suite("cortex-m4", compiler, library, others, tmp_path)
        assert result.stdout.count(": refused") == len(others) > 2


def _conditions() -> dict[str, str]:
    """Kernel -> the condition under which a pruned build holds its reference."""
    found: dict[str, str] = {}
    source = sources_folder() / "src"
    macros = dict(re.findall(r"#define (E8_\w+_HAS)\(forms\) (.*)", (source / "kernels" / "kernel.h").read_text()))
    for path in [*(source / "kernels").glob("reference*.c"), source / "row_loops.h"]:
        text = path.read_text()
        names = dict(re.findall(r"bool (\w+) = (.*);", text))
        for kernel, condition in re.findall(r"k->(\w+) = (.*?) \? \w+ : NULL;", text):
            for _ in range(2):
                condition = re.sub(r"\b[a-z]\w*\b", lambda m, known=names: known.get(m.group(0), m.group(0)), condition)
            for macro, body in macros.items():
                condition = condition.replace(macro, body)
            found[kernel] = condition
    return found


def test_every_kernel_that_an_operator_calls_is_kept_for_it() -> None:
    conditions = _conditions()
    files = {name: {table} for table, (_, name) in operators().items()} | SHARED
    calls = 0
    for path in (sources_folder() / "src" / "ops").glob("*.c"):
        for kernel in set(re.findall(r"\b(?:kernels|k)->(\w+)\(", path.read_text())):
            if kernel not in conditions:
                continue
            kept = set(re.findall(r"E8_HAS\((\w+),", conditions[kernel]))
            mine = files[path.stem] & set(operators())
            # A depthwise convolution has no matrix kernel: the shared file reaches those by Conv2D and FullyConnected only.
            assert mine - {"DepthwiseConv2D"} <= kept, f"{path.name} calls {kernel}, which is kept for {sorted(kept)}"
            calls += 1
    assert calls >= 30
    assert len(conditions) >= 20


def test_unknown_operator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="the runtime has no operator Warp"):
        operators_header({"Warp": 1}, tmp_path)


def test_model_before_calibration_keeps_the_forms_it_will_have() -> None:
    waiting = next(path for path in GOLDEN if path.name == "conv2d.weight.e8")
    assert needs_of([Model(waiting)])["Conv2D"] & (FORMS["float32"] | FORMS["int8"]) == FORMS["float32"] | FORMS["int8"]


@pytest.fixture(scope="module")
def keywords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DS-CNN for keywords, of MLPerf Tiny's sizes, with int8 inputs and outputs."""
    folder = tmp_path_factory.mktemp("keywords")
    np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((8, 1, 49, 10)).astype(np.float32))
    convert(bench_networks().build("dscnn_kws"), folder / "kws.e8", calibration=folder / "x.npy", io="int8", corrections=())
    return folder / "kws.e8"


def test_keyword_network_fits_a_microcontroller(keywords: Path) -> None:
    need("arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi")
    need("qemu-system-arm", "qemu-system-arm")
    figures = measure_sizes(keywords, "cortex-m4")
    assert figures.output == "as on the host"
    assert figures.code is not None
    assert figures.code < 40_000
    assert figures.stack is not None
    assert figures.stack <= 4096


def test_sizes_of_a_microcontroller_only(keywords: Path) -> None:
    with pytest.raises(ConvertError, match="is no microcontroller"):
        format_sizes([keywords], "raspberry-pi-4")
