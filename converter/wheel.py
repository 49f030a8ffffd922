# SPDX-License-Identifier: Apache-2.0
"""The Python package for a board: one wheel per platform, cross-compiled."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .devices import Device, devices_folder, load_toolchain
from .errors import ConvertError

__all__ = ["add_wheel", "build_wheel", "first_error"]


def build_wheel(device: Device, folder: Path, toolchain: str = "auto") -> Path:
    """Cross-compile the wheel of a device's platform, from a checkout of the repository.

    Args:
        device: a profile with a wheel tag.
        folder: where the wheel goes.
        toolchain: ``"zig"`` (old C libraries, so the profile's manylinux tag), ``"gcc"`` (tag ``linux_<machine>``), or ``"auto"``: zig
            if it is installed.

    Raises:
        ConvertError: no checkout, no compiler, or pip fails.
    """
    root = Path(__file__).resolve().parent.parent
    chain = load_toolchain(device.toolchain)
    if not (root / "pyproject.toml").is_file():
        raise ConvertError(
            "a wheel is built from a checkout of the repository", rule="deploy.wheel", where="--wheel", hint="give the path of a wheel"
        )
    if not device.wheel:
        raise ConvertError(f"{device.title} takes no wheel", rule="deploy.wheel", where="--wheel")
    zig = importlib.util.find_spec("ziglang") is not None
    if toolchain == "auto":
        toolchain = "zig" if zig else "gcc"
    if toolchain == "gcc" and shutil.which(chain.compiler) is None:
        raise ConvertError(
            f"{chain.compiler} is not installed", rule="deploy.compiler", where="--wheel", hint=f"apt install {' '.join(chain.packages)}"
        )
    tag = device.wheel if toolchain == "zig" else f"linux_{chain.machine}"
    file = devices_folder() / "toolchains" / ("zig.cmake" if toolchain == "zig" else f"{chain.name}-gcc.cmake")
    arguments = f"-DCMAKE_TOOLCHAIN_FILE={file};-DZIG_PYTHON={sys.executable}"
    with tempfile.TemporaryDirectory(prefix="edge8-wheel-") as build:
        command = [sys.executable, "-m", "pip", "wheel", str(root), "--no-deps", "-q", "-w", str(folder), "-C", f"build-dir={build}"]
        command += ["-C", f"cmake.args={arguments}", "-C", f"wheel.tags=py3-none-{tag}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "ZIG_TARGET": chain.zig_wheel})
    if result.returncode != 0:
        raise ConvertError(
            f"pip wheel failed: {first_error(result.stdout + result.stderr)}", rule="deploy.wheel", hint="command: " + " ".join(command)
        )
    return next(folder.glob(f"edge8-*{tag}.whl"))


def first_error(output: str) -> str:
    """The first line of a build's output that a compiler, CMake or pip reports as an error; the last one if none does."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # pip's own lines only say that a program failed.
    found = [line for line in lines if re.search(r"error:|CMake Error|^ERROR", line) and "subprocess-exited-with-error" not in line]
    return (found or lines or ["no output"])[0 if found else -1]


def add_wheel(folder: Path, device: Device, wheel: str) -> str:
    """Put a wheel into a bundle; gives its name, or nothing for ``"none"``."""
    if wheel == "none":
        return ""
    if wheel == "build":
        return build_wheel(device, folder).name
    path = Path(wheel)
    if not path.is_file():
        raise ConvertError("the wheel does not exist", rule="deploy.wheel", where=str(path))
    machine = load_toolchain(device.toolchain).machine
    if machine not in path.name:
        raise ConvertError(f"the wheel is not for {machine}", rule="deploy.wheel", where=path.name)
    shutil.copyfile(path, folder / path.name)
    return path.name
