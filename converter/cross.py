# SPDX-License-Identifier: Apache-2.0
"""Compiling libedge8 for another machine: Debian's cross compilers, zig from PyPI, or a CMake toolchain file of the user's.

The sources are few and need no configuration, so they are compiled directly; only a toolchain file needs CMake.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .devices import Toolchain
from .errors import ConvertError
from .progress import track
from .prune import Needs, operators, operators_header
from .sources import sources_folder

__all__ = [
    "ALONE",
    "Compiler",
    "build_library",
    "build_with_cmake",
    "choose_compiler",
    "library_version",
    "link_alone",
    "link_program",
    "section_sizes",
]

# The flags of runtime_c/CMakeLists.txt. Float arithmetic must be the same everywhere: no contraction, and on s390x no evaluation in
# double (gcc's default in ISO C mode). Nothing throws, so nothing needs unwind tables.
# What runs once per model or operator and leaves the loops to kernels.
_ONCE = {"model.c", "plan.c", "flat.c", "winograd.c"}
_COMMON = [
    "-std=c11",
    "-g0",
    "-Werror=implicit-function-declaration",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables",
    "-DNDEBUG",
    "-ffunction-sections",
    "-fdata-sections",
]
# ARMv7 keeps its base architecture; the files of the NEON and VFPv4 kernels get what they need.
_ARMV7_FILES = {"arm_neon": ("neon", "+neon"), "arm_v7_vfp": ("vfpv4", "+vfp4")}


@dataclass(frozen=True)
class Compiler:
    """A C compiler for a kind of board."""

    command: tuple[str, ...]
    archiver: tuple[str, ...]
    flags: tuple[str, ...]
    machine: str
    bare: bool
    name: str

    @property
    def zig(self) -> bool:
        """Whether it is zig's clang."""
        return "ziglang" in self.command

    @property
    def size_tool(self) -> str | None:
        """A program that tells the sizes of sections, or None."""
        candidate = self.command[0].replace("gcc", "size")
        return shutil.which(candidate) or shutil.which("size")


def library_version() -> str:
    """The version that CMakeLists.txt states."""
    found = re.search(r"project\(edge8 VERSION (\S+)", (sources_folder() / "CMakeLists.txt").read_text(encoding="utf-8"))
    return found.group(1) if found else "0"


def choose_compiler(toolchain: Toolchain, kind: str = "auto", flags: Sequence[str] = ()) -> Compiler:
    """A compiler for a toolchain.

    Args:
        toolchain: of the device.
        kind: ``"gcc"``, ``"zig"`` or ``"auto"`` (gcc if it is installed, else zig).
        flags: more flags, such as the processor of a microcontroller.

    Raises:
        ConvertError: it is not installed; names the packages that bring it.
    """
    bare = toolchain.machine == "arm"
    base = ("-mthumb", *flags) if bare else tuple(flags)
    if toolchain.machine == "s390x":
        base = (*base, "-fexcess-precision=fast")
    packages = " ".join(toolchain.packages)
    gcc = shutil.which(toolchain.compiler)
    if kind in ("auto", "gcc") and gcc:
        archiver = toolchain.compiler.removesuffix("gcc") + "ar"
        return Compiler((gcc,), (shutil.which(archiver) or "ar",), base, toolchain.machine, bare, toolchain.compiler)
    if kind == "gcc" or (kind == "auto" and bare):
        raise ConvertError(
            f"{toolchain.compiler} is not installed", rule="deploy.compiler", where="--toolchain", hint=f"apt install {packages}"
        )
    if bare:
        raise ConvertError(
            "zig brings no C library for microcontrollers", rule="deploy.compiler", where="--toolchain", hint=f"apt install {packages}"
        )
    if importlib.util.find_spec("ziglang") is None:
        missing = f"neither {toolchain.compiler} nor zig is installed" if kind == "auto" else "zig is not installed"
        raise ConvertError(missing, rule="deploy.compiler", where="--toolchain", hint=f"pip install ziglang, or apt install {packages}")
    zig = (sys.executable, "-I", "-m", "ziglang")
    target: tuple[str, ...] = ("-target", toolchain.zig, "-fno-sanitize=undefined")
    if toolchain.machine == "armv7l":
        target = (*target, "-mcpu=generic+v7a-neon")  # zig takes NEON for granted; not every ARMv7 has it
    return Compiler((*zig, "cc"), (*zig, "ar"), (*target, *base), toolchain.machine, bare, f"zig cc -target {toolchain.zig}")


def _run(command: Sequence[str], what: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
        raise ConvertError(
            f"{what} failed: {lines[0] if lines else result.returncode}", rule="deploy.build", hint="command: " + " ".join(command)
        )
    return result.stdout


def _sources(compiler: Compiler, needs: Needs | None, calibration: bool) -> list[Path]:
    source = sources_folder() / "src"
    # A pruned library has no other operators, and calibration only where it is wanted; files that operators share stay.
    folders = [source, source / "ops", source / "kernels"] + ([source / "quant"] if needs is None or calibration else [])
    unused = {f"{name}.c" for table, (_, name) in operators().items() if needs is not None and table not in needs}
    # The thread pool needs an operating system.
    left_out = {"pool.c"} if compiler.bare else set()
    return sorted(
        p for folder in folders for p in folder.glob("*.c") if p.name not in left_out and not (folder.name == "ops" and p.name in unused)
    )


def _file_flags(compiler: Compiler, path: Path) -> list[str]:
    # On AArch64 every kernel that matters has a variant beside the reference.
    hot = path.parent.name == "kernels" and not (compiler.machine == "aarch64" and path.name.startswith("reference"))
    flags = ["-O2" if hot else "-Os"] if compiler.bare else ["-O3" if hot else "-Os" if path.name in _ONCE else "-O2", "-fPIC"]
    if compiler.machine == "armv7l":
        for prefix, (fpu, feature) in _ARMV7_FILES.items():
            if path.name.startswith(prefix):
                flags += ["-Xclang", "-target-feature", "-Xclang", feature] if compiler.zig else [f"-mfpu={fpu}"]
    return flags


def build_library(compiler: Compiler, folder: Path, needs: Needs | None = None, *, calibration: bool = False, quiet: bool = True) -> Path:
    """Compile libedge8.a into ``folder``.

    Args:
        compiler: see `choose_compiler`.
        folder: an existing folder, for objects and the library.
        needs: operators and forms of a pruned library (`prune.needs_of`), or None for all of them.
        calibration: a pruned library holds calibration too.
        quiet: no progress bar.

    Raises:
        ConvertError: a file does not compile; names it and the command.
    """
    source = sources_folder()
    common = [*compiler.flags, *_COMMON, f'-DE8_VERSION="{library_version()}"', f"-I{source / 'src'}", f"-I{source / 'include'}"]
    if needs is not None:
        common.append(f'-DE8_OPS_HEADER="{operators_header(needs, folder)}"')

    def compile_one(path: Path) -> str:
        out = folder / f"{path.parent.name}_{path.stem}.o"
        _run([*compiler.command, *common, *_file_flags(compiler, path), "-c", str(path), "-o", str(out)], f"compiling {path.name}")
        return str(out)

    files = _sources(compiler, needs, calibration)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(track(pool.map(compile_one, files), "compiling", len(files), quiet=quiet))
    library = folder / "libedge8.a"
    library.unlink(missing_ok=True)
    _run([*compiler.archiver, "rcs", str(library), *objects], "archiving libedge8.a")
    return library


# Files that belong to one program of cli/ alone; all others are parts of each.
_PROGRAMS = {"edge8-run": {"main.c", "measure.c"}, "edge8-calibrate": {"calibrate.c", "samples.c"}}


# Machines whose programs are linked without a C library (cli/alone): a static glibc would bring half a megabyte to each.
ALONE = frozenset({"x86_64", "aarch64", "armv7l", "riscv64"})
# The functions that a C library would have: no call may become a call of themselves.
_ALONE_FLAGS = ["-O2", "-ffreestanding", "-fno-builtin", "-fno-tree-loop-distribute-patterns", "-fno-stack-protector"]


def _program_flags(compiler: Compiler) -> list[str]:
    warnings = "-Werror=implicit-function-declaration"
    include = f"-I{sources_folder() / 'include'}"
    return [*compiler.flags, "-std=c11", "-g0", warnings, "-ffunction-sections", "-fdata-sections", include]


def link_alone(compiler: Compiler, sources: Sequence[Path], libraries: Sequence[Path], output: Path) -> None:
    """Compile and link a static program for one of the machines `ALONE` without a C library.

    Raises:
        ConvertError: it does not build.
    """
    common = _program_flags(compiler)
    alone = sorted(str(p) for p in (sources_folder() / "cli" / "alone").glob("*.c"))
    part = output.with_name(f"{output.name}-alone.o")
    _run([*compiler.command, *common, *_ALONE_FLAGS, "-r", "-nostdlib", *alone, "-o", str(part)], f"compiling the start of {output.name}")
    link = ["-static", "-s", "-nostdlib", "-fno-stack-protector", "-Wl,--gc-sections", "-Wl,-z,max-page-size=4096"]
    files = [*map(str, sources), str(part), *map(str, libraries), "-lgcc"]
    _run([*compiler.command, *common, "-Os", *files, *link, "-o", str(output)], f"linking {output.name}")


def link_program(compiler: Compiler, library: Path, output: Path) -> Path:
    """Compile and link a static program, ``edge8-run`` or ``edge8-calibrate`` by the output's name.

    Raises:
        ConvertError: it does not build.
    """
    others = set().union(*(files for name, files in _PROGRAMS.items() if name != output.name))
    files = sorted(p for p in (sources_folder() / "cli").glob("*.c") if p.name not in others)
    # zig's C library is small.
    if compiler.machine in ALONE and not compiler.zig:
        link_alone(compiler, files, [library], output)
        return output
    link = ["-static", "-s", "-Wl,--gc-sections", "-lpthread"]
    command = [*compiler.command, *_program_flags(compiler), "-Os", *map(str, files), str(library), *link, "-o", str(output)]
    _run(command, f"linking {output.name}")
    return output


def build_with_cmake(
    toolchain_file: Path, folder: Path, needs: Needs | None = None, programs: Sequence[str] = ("edge8-run",)
) -> tuple[Path, list[Path]]:
    """Build libedge8.a and programs with a CMake toolchain file; gives their paths.

    Raises:
        ConvertError: the file or cmake is missing, or the build fails.
    """
    if not toolchain_file.is_file():
        raise ConvertError("the toolchain file does not exist", rule="deploy.toolchain", where=str(toolchain_file))
    cmake = shutil.which("cmake")
    if cmake is None:
        raise ConvertError(
            "a toolchain file needs cmake", rule="deploy.compiler", where="--toolchain", hint="pip install cmake, or apt install cmake"
        )
    options = [
        f"-DCMAKE_TOOLCHAIN_FILE={toolchain_file.resolve()}",
        "-DE8_CLI=ON",
        f"-DE8_OPS_HEADER={operators_header(needs, folder) if needs is not None else ''}",
    ]
    _run([cmake, "-S", str(sources_folder()), "-B", str(folder), *options], "cmake")
    _run([cmake, "--build", str(folder), "--parallel", str(os.cpu_count() or 1), "--target", "edge8_static", *programs], "the build")
    return folder / "libedge8.a", [folder / "cli" / name for name in programs]


def section_sizes(compiler: Compiler, path: Path) -> tuple[int, int, int] | None:
    """Bytes of text, data and bss of a program, or None where no tool tells."""
    tool = compiler.size_tool
    if tool is None:
        return None
    text, data, bss = (int(n) for n in _run([tool, str(path)], "size").splitlines()[1].split()[:3])
    return text, data, bss
