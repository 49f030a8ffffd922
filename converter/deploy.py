# SPDX-License-Identifier: Apache-2.0
"""`deploy`: a folder that runs a model on a board with nothing else: program, library, header, example, model, README."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge8 import Model

from .bare_metal import Firmware, add_firmware
from .crc32c import crc32c
from .cross import Compiler, build_library, build_with_cmake, choose_compiler, link_program
from .devices import Device, load_device, load_toolchain
from .errors import ConvertError
from .prediction import check_fit
from .prune import Needs, describe_needs, needs_of
from .sources import sources_folder
from .templates import c_array, fill
from .wheel import add_wheel

__all__ = ["Deployment", "check_inputs", "deploy", "digests"]


@dataclass(frozen=True)
class Deployment:
    """What `deploy` made.

    Attributes:
        folder: the bundle.
        built_with: the compiler.
        sizes: bytes of each file, by name.
        notes: sentences for the user (fit, figures).
        firmware: figures of a microcontroller's firmware.
    """

    folder: Path
    built_with: str
    sizes: dict[str, int]
    notes: list[str]
    firmware: Firmware | None = None

    def __str__(self) -> str:
        files = [f"  {size:>10,}  {name}" for name, size in sorted(self.sizes.items())]
        return "\n".join([f"{self.folder}: built with {self.built_with}", *files, *self.notes])


def check_inputs(model: Model) -> list[np.ndarray[Any, Any]]:
    """Seeded inputs for a self-test: standard normal floats, any codes, zeros for indices."""
    random = np.random.default_rng(8)
    inputs: list[np.ndarray[Any, Any]] = []
    for t in model.inputs:
        if t.dtype.kind == "f":
            inputs.append(random.standard_normal(t.shape).astype(t.dtype))
        elif t.dtype.itemsize == 1 and t.dtype.kind in "iu":
            inputs.append(random.integers(0, 256, t.shape).astype(np.uint8).view(t.dtype))
        else:
            inputs.append(np.zeros(t.shape, t.dtype))
    return inputs


def run_on_host(model: Model, inputs: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The model's outputs here, which every board must repeat."""
    session = model.session()
    for i, x in enumerate(inputs):
        session.input_view(i)[...] = x
    session.run()
    return [session.output_view(i).copy() for i in range(len(model.outputs))]


def digests(model: Model, outputs: list[np.ndarray[Any, Any]]) -> list[str]:
    """The lines that edge8-run prints for these outputs."""
    lines = []
    for t, y in zip(model.outputs, outputs, strict=True):
        little = np.ascontiguousarray(y.astype(y.dtype.newbyteorder("<"))).tobytes()
        lines.append(f"output {t.name} {y.dtype.name} {list(y.shape)} crc32c {crc32c(little):08x}")
    return lines


def _licence(folder: Path) -> None:
    beside = Path(__file__).resolve().parent.parent / "LICENSE"
    if beside.is_file():
        shutil.copyfile(beside, folder / "LICENSE")
        return
    for name in ("licenses/LICENSE", "LICENSE"):
        text = importlib.metadata.distribution("edge8").read_text(name)
        if text:
            (folder / "LICENSE").write_text(text, encoding="utf-8")
            return
    raise ConvertError("the licence text is missing from the installation", rule="deploy.sources", hint="reinstall edge8")


def _build(
    device: Device, toolchain: str, folder: Path, needs: Needs | None, calibration: bool, quiet: bool
) -> tuple[Path, list[Path], Compiler | None, str]:
    """The library, the programs (none for bare metal), the compiler (None with a toolchain file), and its name for people."""
    names = ["edge8-run", "edge8-calibrate"] if calibration else ["edge8-run"]
    if toolchain.endswith(".cmake"):
        library, programs = build_with_cmake(Path(toolchain), folder, needs, names)
        return library, programs, None, f"cmake and {Path(toolchain).name}"
    compiler = choose_compiler(load_toolchain(device.toolchain), toolchain, device.flags)
    library = build_library(compiler, folder, needs, calibration=calibration and not compiler.bare, quiet=quiet)
    made = [] if compiler.bare else [link_program(compiler, library, folder / name) for name in names]
    return library, made, compiler, compiler.name


def _write_example(bundle: Path, device: Device, model_path: Path, values: Mapping[str, str], array: bool) -> None:
    for name in ("main.c", "Makefile", "CMakeLists.txt", "README.md"):
        more = {
            "INCLUDE": '#include "model_data.h"\n' if array else "",
            "LOAD": fill("linux/load_array.c" if array else "linux/load_file.c", {}).lstrip("\n"),
            "ARRAY_SOURCE": "model_data.c" if array else "",
        }
        (bundle / name).write_text(fill(f"linux/{name}", {**values, **more}), encoding="utf-8")
    if array:
        c_array(bundle, {"model": model_path.read_bytes()})


def deploy(
    model: str | os.PathLike[str],
    device: str,
    output: str | os.PathLike[str],
    *,
    toolchain: str = "auto",
    ops_from: Iterable[str | os.PathLike[str]] | None = None,
    array: bool = False,
    wheel: str = "none",
    quiet: bool = True,
) -> Deployment:
    """Make a folder that runs a model on a device.

    Args:
        model: an .e8 file.
        device: name of a profile, or path of a .toml.
        output: the folder to make; it must not exist.
        toolchain: ``"auto"``, ``"gcc"``, ``"zig"``, or the path of a CMake toolchain file (``.cmake``).
        ops_from: hold only the operators that the model and these .e8 files need, in the forms they need; None: all operators.
        array: add the model as a C array and use it in the example.
        wheel: ``"none"``, ``"build"`` (from the repository), or the path of a wheel to add.
        quiet: no progress bar.

    Raises:
        ConvertError: unknown device, a model that does not fit or cannot be opened, no compiler, a folder that exists.
    """
    profile, bundle, path = load_device(device), Path(output), Path(model)
    if not profile.clusters:
        raise ConvertError(
            f"{profile.title} has no CPU that runs edge8", rule="deploy.device", where=device, hint="use convert --target ascend310"
        )
    if bundle.exists():
        raise ConvertError("exists already", rule="output.exists", where=str(bundle), hint="choose another folder, or remove it first")
    if not bundle.absolute().parent.is_dir():
        raise ConvertError("the folder does not exist", rule="output.folder", where=str(bundle.absolute().parent), hint="create it first")
    opened = Model(path)
    notes = [check_fit(profile, model_bytes=opened.file_bytes, arena_bytes=opened.arena_bytes(1))] if profile.kind != "mcu" else []
    firmware = None
    needs = None if ops_from is None else needs_of([opened, *map(Model, ops_from)])
    with (
        tempfile.TemporaryDirectory(prefix="edge8-deploy-") as build,
        tempfile.TemporaryDirectory(prefix=".edge8-", dir=bundle.absolute().parent) as partial,
    ):
        folder = Path(partial) / "bundle"
        folder.mkdir()
        library, programs, compiler, built_with = _build(profile, toolchain, Path(build), needs, not opened.calibrated, quiet)
        shutil.copyfile(library, folder / "libedge8.a")
        shutil.copyfile(sources_folder() / "include" / "edge8.h", folder / "edge8.h")
        _licence(folder)
        pruned = "" if needs is None else f", pruned to {describe_needs(needs)}"
        if profile.kind == "mcu":
            if compiler is None:
                raise ConvertError(
                    "a toolchain file makes no firmware", rule="deploy.toolchain", where="--toolchain", hint="use --toolchain gcc"
                )
            firmware = add_firmware(folder, Path(build), opened, path, profile, compiler, pruned)
            notes += firmware.sentences()
        else:
            _fill_linux(folder, opened, path, profile, programs, built_with, pruned, array, wheel, bundle.name)
        os.rename(folder, bundle)
    sizes = {p.name: p.stat().st_size for p in bundle.iterdir()}
    return Deployment(bundle, built_with, sizes, notes, firmware)


def _fill_linux(
    folder: Path,
    opened: Model,
    path: Path,
    profile: Device,
    programs: list[Path],
    built_with: str,
    pruned: str,
    array: bool,
    wheel: str,
    name: str,
) -> None:
    for program in programs:
        shutil.copyfile(program, folder / program.name)
        os.chmod(folder / program.name, 0o755)
    shutil.copyfile(sources_folder() / "include" / "edge8_pool.h", folder / "edge8_pool.h")
    shutil.copyfile(path, folder / path.name)
    inputs = check_inputs(opened)
    names = ["check-input.npy"] if len(inputs) == 1 else [f"check-input-{i}.npy" for i in range(len(inputs))]
    for file, x in zip(names, inputs, strict=True):
        np.save(folder / file, x)
    made = add_wheel(folder, profile, wheel)
    extra = [f"| `{', '.join(names)}` | the sample input |"]
    if not opened.calibrated:
        extra.append(f"| `edge8-calibrate` | makes a full int8 model here: `./edge8-calibrate {path.name} samples/ -o int8.e8` |")
    if array:
        extra.append("| `model_data.c`, `model_data.h` | the model as a C array |")
    if made:
        extra.append(f"| `{made}` | the Python package for this board: `pip install ./{made}` |")
    values = {
        "MODEL": path.name,
        "TITLE": profile.title,
        "FOLDER": name,
        "EXPECTED": "\n    ".join(digests(opened, run_on_host(opened, inputs))),
        "PRUNED": pruned,
        "EXTRA_FILES": "\n".join(extra) + "\n",
        "BUILT_WITH": built_with,
        "COMPILER": load_toolchain(profile.toolchain).compiler,
    }
    _write_example(folder, profile, path, values, array)
    readme = folder / "README.md"
    readme.write_text(re.sub(r"check-input\.npy(?=   #)", " ".join(names), readme.read_text(encoding="utf-8")), encoding="utf-8")
