# SPDX-License-Identifier: Apache-2.0
"""Device profiles: reading and checking devices/*.toml.

The keys and units are described in devices/README.md.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ConvertError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "Cluster",
    "Core",
    "Device",
    "Memory",
    "Npu",
    "Toolchain",
    "device_names",
    "devices_folder",
    "format_bytes",
    "format_devices",
    "load_device",
    "load_toolchain",
]

_KINDS = ("linux", "mcu", "ascend")
_TARGETS = ("cpu-lite", "ascend310")
_ARCHITECTURES = ("aarch64", "armv7", "x86-64", "riscv64", "thumb")
_FEATURES = ("neon", "dotprod", "i8mm", "sse4.1", "avx2", "avx512", "avx512vnni")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True)
class Core:
    """A processor core (a table of devices/cores.toml): multiply-accumulates per cycle are limits, not measurements."""

    name: str
    architecture: str
    features: tuple[str, ...]
    fused_multiply_add: bool
    int8_macs_per_cycle: float
    float_macs_per_cycle: float
    emulated_as: str


@dataclass(frozen=True)
class Cluster:
    """Equal cores of a device; caches in bytes, 0 = not known or absent."""

    core: Core
    count: int
    mhz: int
    l1d: int
    l2: int
    l3: int

    @property
    def last_level_cache(self) -> int:
        """Bytes of the largest cache."""
        return max(self.l1d, self.l2, self.l3)


@dataclass(frozen=True)
class Memory:
    """Bytes of main memory and flash, and what is kept of them; peak rate in bytes per second."""

    ram: int
    reserved: int
    flash: int
    flash_reserved: int
    peak_bytes_per_second: float


@dataclass(frozen=True)
class Npu:
    """A neural processor, as ATC and the vendor name and count it."""

    soc_version: str
    cores: int
    tops_int8: float
    cann: str


@dataclass(frozen=True)
class Device:
    """A board: what its profile says."""

    name: str
    title: str
    kind: str
    target: str
    note: str
    clusters: tuple[Cluster, ...]
    memory: Memory
    npu: Npu | None
    toolchain: str
    wheel: str
    flags: tuple[str, ...]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Toolchain:
    """How to build for a kind of board (a table of devices/toolchains/toolchains.toml)."""

    name: str
    compiler: str
    packages: tuple[str, ...]
    zig: str
    zig_wheel: str
    emulator: str
    machine: str


def devices_folder() -> Path:
    """The folder of the profiles, in the repository or in the installed package."""
    return Path(__file__).resolve().parent.parent / "devices"


def _fail(where: str, message: str, hint: str = "see devices/README.md") -> ConvertError:
    return ConvertError(message, rule="device.profile", where=where, hint=hint)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConvertError(f"cannot be read: {error.strerror}", rule="device.file", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _fail(str(path), f"not TOML: {error}") from error


class _Table:
    """A TOML table under check: every key must be taken exactly once by name and type, and none may be left over."""

    def __init__(self, where: str, table: object) -> None:
        if not isinstance(table, dict):
            raise _fail(where, "is not a table")
        self.where = where
        self._left = dict(table)

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
        if key not in self._left:
            if default is ...:
                raise _fail(self.where, f"key {key!r} is missing")
            return default
        value = self._left.pop(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            wanted = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
            raise _fail(self.where, f"{key} = {value!r} is not of type {wanted}")
        return value

    def choice(self, key: str, known: Sequence[str]) -> str:
        value = self.take(key, str)
        if value not in known:
            raise _fail(self.where, f"{key} = {value!r} is unknown; known: {', '.join(known)}")
        return str(value)

    def positive(self, key: str, default: Any = ...) -> float:
        value = self.take(key, (int, float), default)
        if not value > 0:
            raise _fail(self.where, f"{key} = {value} is not positive")
        return float(value)

    def size(self, key: str, default: Any = ...) -> int:
        value = self.take(key, str, default)
        if value == default and default is not ...:
            return 0
        found = re.fullmatch(r"([1-9][0-9]*) (B|KiB|MiB|GiB)", value)
        if not found:
            raise _fail(self.where, f'{key} = "{value}" is not a size such as "512 KiB"')
        return int(found.group(1)) * _UNITS[found.group(2)]

    def strings(self, key: str, default: Any = ...) -> tuple[str, ...]:
        value = self.take(key, list, default)
        if not all(isinstance(item, str) for item in value):
            raise _fail(self.where, f"{key} holds something else than strings")
        return tuple(value)

    def end(self) -> None:
        if self._left:
            raise _fail(self.where, f"unknown key {', '.join(map(repr, sorted(self._left)))}")


@functools.cache
def _cores() -> dict[str, Core]:
    path = devices_folder() / "cores.toml"
    cores = {}
    for name, content in _read(path).items():
        table = _Table(f"{path.name}: [{name}]", content)
        features = table.strings("features")
        for feature in features:
            if feature not in _FEATURES:
                raise _fail(table.where, f"feature {feature!r} is unknown; known: {', '.join(_FEATURES)}")
        cores[name] = Core(
            name=name,
            architecture=table.choice("architecture", _ARCHITECTURES),
            features=features,
            fused_multiply_add=table.take("fused_multiply_add", bool, True),
            int8_macs_per_cycle=table.positive("int8_macs_per_cycle"),
            float_macs_per_cycle=table.positive("float_macs_per_cycle"),
            emulated_as=table.take("emulated_as", str),
        )
        if not table.take("source", str).strip():
            raise _fail(table.where, "the source is empty")
        table.end()
    return cores


@functools.cache
def _toolchains() -> dict[str, Toolchain]:
    path = devices_folder() / "toolchains" / "toolchains.toml"
    result = {}
    for name, content in _read(path).items():
        table = _Table(f"{path.name}: [{name}]", content)
        result[name] = Toolchain(
            name=name,
            compiler=table.take("compiler", str),
            packages=table.strings("packages"),
            zig=table.take("zig", str),
            zig_wheel=table.take("zig_wheel", str, ""),
            emulator=table.take("emulator", str),
            machine=table.take("machine", str),
        )
        table.end()
    return result


def load_toolchain(name: str) -> Toolchain:
    """A toolchain by name.

    Raises:
        ConvertError: the name is unknown.
    """
    known = _toolchains()
    if name not in known:
        raise ConvertError(f"toolchain {name!r} is unknown", rule="device.toolchain", hint=f"known: {', '.join(sorted(known))}")
    return known[name]


def _cluster(where: str, content: object) -> Cluster:
    table = _Table(where, content)
    name = table.take("core", str)
    if name not in _cores():
        raise _fail(where, f"core {name!r} is not in cores.toml; known: {', '.join(sorted(_cores()))}")
    cluster = Cluster(
        core=_cores()[name],
        count=int(table.positive("count")),
        mhz=int(table.positive("mhz")),
        l1d=table.size("l1d", ""),
        l2=table.size("l2", ""),
        l3=table.size("l3", ""),
    )
    table.end()
    return cluster


def _memory(where: str, content: object, mcu: bool) -> Memory:
    table = _Table(where, content)
    memory = Memory(
        ram=table.size("ram"),
        reserved=table.size("reserved"),
        flash=table.size("flash") if mcu else 0,
        flash_reserved=table.size("flash_reserved") if mcu else 0,
        peak_bytes_per_second=table.positive("peak_mb_per_s") * 1e6,
    )
    table.end()
    if memory.reserved >= memory.ram or (mcu and memory.flash_reserved >= memory.flash):
        raise _fail(where, "all of the memory is reserved")
    return memory


def _npu(where: str, content: object) -> Npu:
    table = _Table(where, content)
    npu = Npu(table.take("soc_version", str), int(table.positive("cores")), table.positive("tops_int8"), table.take("cann", str))
    table.end()
    return npu


def _figures(path: str, value: object) -> Iterable[str]:
    """Paths of the figures in a profile: numbers and sizes."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _figures(f"{path}.{key}" if path else key, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _figures(path, inner)
    elif isinstance(value, (int, float)) or (isinstance(value, str) and re.fullmatch(r"\d+ [KMG]?i?B", value)):
        yield path


def _check_sources(where: str, content: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
    for key, text in sources.items():
        if not isinstance(text, str) or not text.strip():
            raise _fail(where, f"the source of {key!r} is empty")
    figures = sorted(set(_figures("", {k: v for k, v in content.items() if k != "sources"})))
    for figure in figures:
        if not any(figure == key or figure.startswith(key + ".") for key in sources):
            raise _fail(where, f"the figure {figure} has no source", hint=f'add "{figure}" to [sources]')
    for key in sources:
        if not any(figure == key or figure.startswith(key + ".") for figure in figures):
            raise _fail(where, f"the source {key!r} belongs to no figure")


def _parse(path: Path) -> Device:
    content = _read(path)
    where = path.name
    table = _Table(where, content)
    kind = table.choice("kind", _KINDS)
    build = _Table(f"{where}: [build]", table.take("build", dict, {}))
    sources = table.take("sources", dict)
    clusters = tuple(_cluster(f"{where}: [[cpu]] {i + 1}", item) for i, item in enumerate(table.take("cpu", list, [])))
    npu = table.take("npu", dict, None)
    device = Device(
        name=path.stem,
        title=table.take("title", str),
        kind=kind,
        target=table.choice("target", _TARGETS),
        note=table.take("note", str),
        clusters=clusters,
        memory=_memory(f"{where}: [memory]", table.take("memory", dict), kind == "mcu"),
        npu=None if npu is None else _npu(f"{where}: [npu]", npu),
        toolchain=build.take("toolchain", str, ""),
        wheel=build.take("wheel", str, ""),
        flags=build.strings("flags", []),
        sources=sources,
    )
    build.end()
    table.end()
    if (kind == "ascend") != (device.npu is not None):
        raise _fail(where, "a device of kind ascend, and no other, has a table [npu]")
    if clusters:
        load_toolchain(device.toolchain)
    elif kind != "ascend":
        raise _fail(where, "has no [[cpu]]")
    _check_sources(where, content, sources)
    return device


def device_names() -> list[str]:
    """Names of the profiles that come with edge8."""
    return sorted(path.stem for path in devices_folder().glob("*.toml") if path.stem != "cores")


def load_device(name: str) -> Device:
    """The profile of a device.

    Args:
        name: of a profile in devices/, or the path of a profile file that ends in ``.toml``.

    Raises:
        ConvertError: the device is unknown, or its profile breaks a rule of devices/README.md.
    """
    if name.endswith(".toml"):
        return _parse(Path(name))
    if name not in device_names():
        raise ConvertError(
            f"unknown device {name!r}",
            rule="device.name",
            where="--device",
            hint=f"known: {', '.join(device_names())}; or the path of a profile of your own (devices/README.md)",
        )
    return _parse(devices_folder() / f"{name}.toml")


def format_bytes(size: float) -> str:
    """A size with a binary unit."""
    for unit in ("GiB", "MiB", "KiB"):
        if size >= _UNITS[unit]:
            return f"{size / _UNITS[unit]:.1f} {unit}"
    return f"{size:.0f} B"


def format_devices() -> str:
    """The table that ``edge8 devices`` prints, a line a device."""
    lines = [f"{'device':20} {'processor':44} {'memory':>20}  {'kernels':16} title"]
    for name in device_names():
        device = load_device(name)
        cpu = " + ".join(f"{c.count}x {c.core.name} {c.mhz} MHz" for c in device.clusters)
        if device.npu:
            cpu = f"{device.npu.soc_version} {device.npu.tops_int8:g} TOPS" + (f", {cpu}" if cpu else "")
        memory = format_bytes(device.memory.ram) + (f" + {format_bytes(device.memory.flash)} flash" if device.memory.flash else "")
        kernels = device.clusters[0].core.features[-1:] if device.clusters else ("npu",)
        lines.append(f"{name:20} {cpu:44} {memory:>20}  {(kernels or ('portable',))[0]:16} {device.title}")
    return "\n".join(lines)
