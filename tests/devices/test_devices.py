# SPDX-License-Identifier: Apache-2.0
"""devices/*.toml and their loader: every profile is sound, and every broken one is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge8.converter.devices import device_names, format_devices, load_device, load_toolchain
from edge8.converter.errors import ConvertError

REQUIRED = {
    "generic-x86-64",
    "raspberry-pi-zero-2",
    "raspberry-pi-2",
    "raspberry-pi-3",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "jetson-nano",
    "rock-5b",
    "imx8m-plus",
    "imx93",
    "beaglebone-black",
    "intel-n100",
    "cortex-m55",
    "atlas-200-dk",
    "atlas-300i",
    "atlas-300i-pro",
    "atlas-200i-dk-a2",
}

GOOD = """
title = "Board"
kind = "linux"
target = "cpu-lite"
note = "A board."
[[cpu]]
core = "cortex-a53"
count = 4
mhz = 1000
l2 = "512 KiB"
[memory]
ram = "512 MiB"
reserved = "128 MiB"
peak_mb_per_s = 3200
[build]
toolchain = "aarch64"
wheel = "manylinux_2_17_aarch64"
[sources]
cpu = "data sheet"
memory = "data sheet"
"""


def write(folder: Path, text: str) -> str:
    path = folder / "board.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", device_names())
def test_profile_is_sound(name: str) -> None:
    device = load_device(name)
    assert device.name == name
    assert device.memory.ram > device.memory.reserved > 0
    for cluster in device.clusters:
        assert cluster.core.int8_macs_per_cycle >= cluster.core.float_macs_per_cycle
    if device.kind == "linux":
        assert load_toolchain(device.toolchain).machine in device.wheel


def test_the_boards_of_the_documentation_exist() -> None:
    assert set(device_names()) >= REQUIRED


def test_list_has_a_line_for_each_device() -> None:
    lines = format_devices().splitlines()[1:]
    assert [line.split()[0] for line in lines] == device_names()


def test_profile_from_a_file(tmp_path: Path) -> None:
    device = load_device(write(tmp_path, GOOD))
    assert device.name == "board"
    assert device.clusters[0].l2 == 512 * 1024
    assert device.memory.peak_bytes_per_second == 3.2e9


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('core = "cortex-a53"', 'core = "cortex-z1"', "'cortex-z1' is not in cores.toml"),
        ("count = 4", "count = 0", "count = 0 is not positive"),
        ("count = 4", 'count = "4"', "is not of type int or float"),
        ("count = 4", "count = true", "is not of type int or float"),
        ("count = 4", "cores = 4", "key 'count' is missing"),
        ("mhz = 1000", "mhz = 1000\nghz = 1", "unknown key 'ghz'"),
        ('"512 KiB"', '"512 KB"', "is not a size"),
        ('"512 MiB"', '"64 MiB"', "all of the memory is reserved"),
        ('kind = "linux"', 'kind = "windows"', "'windows' is unknown; known: linux, mcu, ascend"),
        ('kind = "linux"', 'kind = "ascend"', "has a table \\[npu\\]"),
        ('cpu = "data sheet"', "", "the figure cpu.count has no source"),
        ('cpu = "data sheet"', 'cpu = " "', "the source of 'cpu' is empty"),
        ('cpu = "data sheet"', 'cpu = "data sheet"\nnpu = "data sheet"', "the source 'npu' belongs to no figure"),
        ('toolchain = "aarch64"', 'toolchain = "z80"', "toolchain 'z80' is unknown"),
        ("[memory]", "[memory", "not TOML"),
        ("[[cpu]]", "[other]", "has no \\[\\[cpu\\]\\]|unknown key 'other'"),
    ],
)
def test_broken_profile_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConvertError, match=message):
        load_device(write(tmp_path, GOOD.replace(old, new)))


def test_unknown_device_lists_the_known() -> None:
    with pytest.raises(ConvertError, match=r"unknown device 'raspberry'.*raspberry-pi-4"):
        load_device("raspberry")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"none\.toml: cannot be read: No such file"):
        load_device(str(tmp_path / "none.toml"))
