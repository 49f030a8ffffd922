# SPDX-License-Identifier: Apache-2.0
"""The bundle of a microcontroller: firmware that runs under QEMU, with its flash, RAM and stack figures."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cross import Compiler, section_sizes
from .devices import Device, load_toolchain
from .errors import ConvertError
from .prediction import check_fit
from .sources import sources_folder
from .templates import c_array, fill

__all__ = ["MACHINES", "Firmware", "add_firmware", "link_firmware", "run_firmware"]

# Code and data memory of QEMU's machines: (ROM origin, ROM bytes, RAM origin, RAM bytes).
MACHINES: dict[str, tuple[int, int, int, int]] = {
    "mps2-an385": (0x00000000, 4 << 20, 0x20000000, 4 << 20),
    "mps2-an386": (0x00000000, 4 << 20, 0x20000000, 4 << 20),
    "mps2-an500": (0x00000000, 4 << 20, 0x20000000, 4 << 20),
    "mps2-an505": (0x10000000, 4 << 20, 0x38000000, 4 << 20),
    "mps3-an547": (0x10000000, 512 << 10, 0x30000000, 512 << 10),
}


@dataclass(frozen=True)
class Firmware:
    """Figures of a firmware, in bytes; `code` is all flash but the model and the sample data.

    Attributes:
        fit: words on how much of the device is used.
        machine: of QEMU.
        code, model, sample, data: parts of the flash; None where no tool tells the sections.
        arena, ram: the arena, and the arena with all other variables but without the stack.
        stack: the deepest stack of opening the model and one run; None where QEMU is absent (then the arena is an upper bound).
        output: what the firmware said of its output.
    """

    fit: str
    machine: str
    model: int
    sample: int
    arena: int
    code: int | None
    data: int
    ram: int
    stack: int | None
    output: str

    def sentences(self) -> list[str]:
        """The figures for people."""
        lines = [self.fit + "."]
        if self.stack is None:
            lines.append("qemu-system-arm is absent: the arena is an upper bound, and the firmware was not run.")
        else:
            lines.append(f"Under QEMU ({self.machine}): stack {self.stack} bytes, output {self.output}.")
        if self.code is not None:
            flash = self.code + self.model + self.sample + self.data
            lines.append(f"Flash {flash} bytes: code {self.code}, model {self.model}, sample data {self.sample}.")
            lines.append(f"RAM {self.ram} bytes and the stack: arena {self.arena}.")
        return lines


def write_link_script(folder: Path, machine: str) -> Path:
    """link.ld for one of QEMU's machines."""
    rom, rom_bytes, ram, ram_bytes = MACHINES[machine]
    values = {
        "MACHINE": machine,
        "ROM_ORIGIN": hex(rom),
        "ROM_LENGTH": hex(rom_bytes),
        "RAM_ORIGIN": hex(ram),
        "RAM_LENGTH": hex(ram_bytes),
    }
    path = folder / "link.ld"
    path.write_text(fill("bare/link.ld", values), encoding="utf-8")
    return path


def link_firmware(compiler: Compiler, sources: list[Path], library: Path, script: Path, output: Path) -> Path:
    """Compile and link a program for bare metal.

    Raises:
        ConvertError: it does not build; a model too large for the machine's memory is the usual reason.
    """
    flags = ["-O2", "-std=c11", "-ffunction-sections", "-fdata-sections", f"-I{sources_folder() / 'include'}"]
    link = ["-nostartfiles", "-Wl,--gc-sections", f"-Wl,-Map={output}.map", "-T", str(script)]
    command = [*compiler.command, *compiler.flags, *flags, *map(str, sources), str(library), *link, "-o", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if "error" in line or "overflowed" in line] or result.stderr.splitlines()
        raise ConvertError(
            f"linking the firmware failed: {lines[0] if lines else ''}", rule="deploy.build", hint="command: " + shlex.join(command)
        )
    return output


def run_firmware(machine: str, program: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a program under qemu-system-arm; its exit code is the program's.

    Raises:
        FileNotFoundError: qemu-system-arm is absent.
    """
    options = ["-nographic", "-semihosting-config", "enable=on,target=native", "-icount", "shift=0"]
    command = ["qemu-system-arm", "-M", machine, *options, "-kernel", str(program)]
    # Semihosting writes to stderr.
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL, check=False, timeout=timeout
    )


def add_firmware(folder: Path, build: Path, model: Any, path: Path, device: Device, compiler: Compiler, pruned: str) -> Firmware:
    """Fill a bundle: model as an array, main.c, start-up, Makefile, README and firmware.elf.

    Args:
        folder: the bundle; holds libedge8.a and edge8.h.
        build: a folder for files that do not stay.
        model: the open `edge8.Model`; it has one input.
        path: of the .e8 file.
        device: a profile of kind ``mcu``.
        compiler: for it.
        pruned: words for the README.

    Raises:
        ConvertError: the model does not fit.
    """
    from .deploy import check_inputs, run_on_host

    if len(model.inputs) != 1 or len(model.outputs) < 1:
        raise ConvertError(
            f"the example takes models with one input, this one has {len(model.inputs)}", rule="deploy.inputs", where=str(path)
        )
    inputs = check_inputs(model)
    outputs = run_on_host(model, inputs)
    c_array(folder, {"model": path.read_bytes(), "input": inputs[0].tobytes(), "expected": outputs[0].tobytes()})
    machine = device.clusters[0].core.emulated_as
    script = write_link_script(folder, machine)
    for name in ("start.c", "start.h"):
        (folder / name).write_text(fill(f"bare/{name}", {}), encoding="utf-8")
    arena = model.arena_bytes(1, least=True)
    check_fit(device, model_bytes=model.file_bytes, arena_bytes=model.activation_bytes)
    firmware = folder / "firmware.elf"

    def make(arena_bytes: int) -> None:
        text = fill("bare/main.c", {"NAME": path.name, "ARENA_BYTES": str(arena_bytes)})
        (folder / "main.c").write_text(text, encoding="utf-8")
        sources = [folder / name for name in ("main.c", "start.c", "model_data.c")]
        link_firmware(compiler, sources, folder / "libedge8.a", script, build / "firmware.elf")
        shutil.copyfile(build / "firmware.elf", firmware)

    # The arena of this machine's layout is an upper bound: wider pointers, larger tiles. QEMU tells the exact number.
    make(arena)
    stack, output = None, ""
    if shutil.which("qemu-system-arm"):
        printed = run_firmware(machine, firmware).stdout
        found = re.search(r"arena (\d+) bytes, stack (\d+) bytes, output (.*)", printed)
        if not found:
            raise ConvertError(f"the firmware does not run under QEMU: {printed.strip()[:200]}", rule="deploy.firmware", where=machine)
        arena = int(found.group(1))
        make(arena)
        stack, output = int(found.group(2)), found.group(3).strip()
    sizes = section_sizes(compiler, build / "firmware.elf")
    sample = inputs[0].nbytes + outputs[0].nbytes
    figures = Firmware(
        fit=check_fit(device, model_bytes=model.file_bytes, arena_bytes=arena),
        machine=machine,
        model=model.file_bytes,
        sample=sample,
        arena=arena,
        code=sizes[0] - model.file_bytes - sample if sizes else None,
        data=sizes[1] if sizes else 0,
        ram=sizes[1] + sizes[2] if sizes else 0,
        stack=stack,
        output=output,
    )
    values = {
        "NAME": path.name,
        "TITLE": device.title,
        "MACHINE": machine,
        "PRUNED": pruned,
        "FLAGS": shlex.join(["-mthumb", *device.flags]),
        "FIGURES": "\n".join(figures.sentences()),
        "ARENA_BYTES": str(arena),
        "COMPILER": load_toolchain(device.toolchain).compiler,
    }
    for name in ("Makefile", "README.md"):
        (folder / name).write_text(fill(f"bare/{name}", values), encoding="utf-8")
    return figures
