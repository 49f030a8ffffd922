# SPDX-License-Identifier: Apache-2.0
"""An emulated Debian of another architecture: packages extracted into a folder, programs run by qemu-user or a whole qemu-system.

Nothing needs privileges. No maintainer script runs, so BLAS's alternatives links are missing: LD_LIBRARY_PATH names their folders.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.boards.builds import alone_in
from tests.boards.emulated import ROOT, need

__all__ = [
    "AMD64",
    "ARM64",
    "ARMHF",
    "PACKAGES",
    "PYTHON_PACKAGES",
    "RISCV64",
    "Debian",
    "boot",
    "install_wheel",
    "make_root",
    "run_python",
]


@dataclass(frozen=True)
class Debian:
    """A Debian architecture and what belongs to it. Debian 12 has Python 3.11, numpy 1.24 and cffi 1.15."""

    name: str
    triplet: str
    emulator: str
    toolchain: str
    suite: str = "bookworm"
    python: str = "3.11"


# What a board has that runs edge8 from Python, and a shell with its programs.
PYTHON_PACKAGES = ("python3", "python3-numpy", "python3-cffi", "libstdc++6")
PACKAGES = (*PYTHON_PACKAGES, "bash", "coreutils")

AMD64 = Debian("amd64", "x86_64-linux-gnu", "qemu-x86_64-static", "x86_64")
ARM64 = Debian("arm64", "aarch64-linux-gnu", "qemu-aarch64-static", "aarch64")
ARMHF = Debian("armhf", "arm-linux-gnueabihf", "qemu-arm-static", "armv7l")
# Debian 12 has no RISC-V.
RISCV64 = Debian("riscv64", "riscv64-linux-gnu", "qemu-riscv64-static", "riscv64", "trixie", "3.13")


@functools.cache
def make_root(debian: Debian, *packages: str) -> Path:
    """A Debian with these packages, extracted once per test run; tests leave it as it is. EDGE8_BOARD_BUILDS keeps it longer.

    Skips without network.
    """
    need("mmdebstrap", "mmdebstrap")
    with alone_in(f"root-{debian.name}-{'-'.join(p[:20] for p in packages)}") as base:
        made = base / "root"
        if not made.is_dir():
            _extract(debian, packages, base / "partial")
            (base / "partial").rename(made)
        return made


def _extract(debian: Debian, packages: Sequence[str], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--arch={debian.name}", f"--include={','.join(packages)}"]
    if debian.suite != "bookworm":  # whose /bin and /lib are links that mmdebstrap has to make first
        command.append("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr")
    command += [debian.suite, str(folder), *_mirror(debian.suite)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if result.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no Debian root: {result.stderr.strip()[-300:]}")


def _mirror(suite: str) -> list[str]:
    """The main archive that this machine uses: no security archive, whose index is in flux more often."""
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    text = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    found = [line.split()[0] for line in text.splitlines() if line.endswith(" bookworm main")]
    return [f"deb {found[0]} {suite} main"] if found else []


def install_wheel(wheel: Path, debian: Debian, site: Path) -> None:
    """Install a wheel for the board's platform into a folder, as pip on the board would."""
    platform = wheel.stem.split("-")[-1]
    assert platform.endswith(f"_{debian.toolchain}")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site)]
    command += ["--platform", platform, "--only-binary=:all:", "--python-version", debian.python, str(wheel)]
    subprocess.run(command, check=True)


def run_python(root: Path, debian: Debian, cpu: str, site: Path, arguments: list[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run the root's own Python on an emulated processor."""
    emulator = need(debian.emulator, "qemu-user-static")
    libraries = root / "usr" / "lib" / debian.triplet
    command = [
        emulator,
        "-cpu",
        cpu,
        "-L",
        str(root),
        "-E",
        f"LD_LIBRARY_PATH={libraries}/blas:{libraries}/lapack",
        "-E",
        f"PYTHONPATH={site}",
    ]
    command += [str(root / "usr" / "bin" / "python3"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def boot(root: Path, kernel: Path, folder: Path, megabytes: int, arguments: list[str]) -> str:
    """Boot a whole machine with the root in memory, run a program as its first process's child, and give the console's text.

    Args:
        root: of arm64; a copy of it becomes the initial RAM disk.
        kernel: a vmlinuz of arm64.
        folder: for the RAM disk.
        megabytes: memory of the machine.
        arguments: program and arguments, paths inside the root.
    """
    need("qemu-system-aarch64", "qemu-system-arm")
    need("cpio", "cpio")
    compiler = need("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    (root / "command").write_text("\n".join(arguments) + "\n")
    subprocess.run([compiler, "-O1", "-static", str(ROOT / "tests" / "boards" / "board_init.c"), "-o", str(root / "init")], check=True)
    for name in ("proc", "sys", "tmp", "dev"):
        (root / name).mkdir(exist_ok=True)
    disk = folder / "initrd.cpio"
    with open(disk, "wb") as out:
        files = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=files, stdout=out, check=True)
    command = ["qemu-system-aarch64", "-M", "virt", "-nic", "none", "-cpu", "cortex-a53", "-smp", "1", "-m", str(megabytes), "-nographic"]
    command += ["-no-reboot", "-kernel", str(kernel), "-initrd", str(disk), "-append", "console=ttyAMA0 quiet panic=-1 rdinit=/init"]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=500).stdout
