# SPDX-License-Identifier: Apache-2.0
"""From a laptop to a running program, on an emulated board: the wheel under the board's own Python, and the static program."""

from __future__ import annotations

import functools
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from edge8 import Model
from edge8.converter.deploy import check_inputs, digests, run_on_host
from edge8.converter.devices import load_device
from edge8.converter.wheel import build_wheel
from tests.boards.emulated import ROOT, Level, need, rehearsal, run_static
from tests.boards.root import ARM64, ARMHF, PACKAGES, PYTHON_PACKAGES, Debian, boot, install_wheel, make_root, run_python

MODEL = ROOT / "tests" / "golden" / "v1" / "depthwise_conv2d.full.e8"
PROGRAM = """
import sys
import numpy as np
import edge8

model = edge8.Model(sys.argv[1])
np.save(sys.argv[3], model.session(2)(np.load(sys.argv[2])))
print("level", edge8.cpu.level(), "numpy", np.__version__)
"""


@functools.cache
def wheel(debian: Debian, device: str, folder: Path) -> Path:
    profile = load_device(device)
    need({"aarch64": "aarch64-linux-gnu-gcc", "armv7l": "arm-linux-gnueabihf-gcc"}[debian.toolchain], f"a cross compiler for {debian.name}")
    site = folder / f"site-{debian.name}"
    install_wheel(build_wheel(profile, folder, "gcc"), debian, site)
    return site


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


@pytest.mark.parametrize(
    ("debian", "device", "cpu", "level"),
    [
        (ARM64, "raspberry-pi-3", "cortex-a53", "neon"),
        (ARM64, "raspberry-pi-5", "cortex-a76", "dotprod-wide"),
        (ARMHF, "raspberry-pi-2", "cortex-a7", "neon-vfpv4"),
    ],
    ids=["arm64-a53", "arm64-a76", "armhf-a7"],
)
def test_wheel_and_static_program_give_the_hosts_bytes(
    debian: Debian, device: str, cpu: str, level: str, folder: Path, tmp_path: Path
) -> None:
    root = make_root(debian, *PACKAGES)
    site = wheel(debian, device, folder)
    model = Model(MODEL)
    inputs = check_inputs(model)
    np.save(tmp_path / "x.npy", inputs[0])
    (tmp_path / "program.py").write_text(PROGRAM)
    result = run_python(root, debian, cpu, site, [tmp_path / "program.py", MODEL, tmp_path / "x.npy", tmp_path / "y.npy"])
    assert result.returncode == 0, result.stderr
    assert f"level {level} numpy 1.24" in result.stdout
    expected = run_on_host(model, inputs)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected[0])

    static = run_static(Level(debian.toolchain, cpu, level), [MODEL, tmp_path / "x.npy"])
    assert static.stdout.splitlines() == digests(model, expected)


def test_board_side_needs_numpy_and_cffi_only(folder: Path) -> None:
    root = make_root(ARM64, *PACKAGES)
    site = wheel(ARM64, "raspberry-pi-3", folder)
    result = run_python(root, ARM64, "cortex-a53", site, ["-c", "import edge8.converter"])
    assert result.returncode != 0
    assert "edge8[convert]" in result.stderr


def test_wheel_holds_what_deploy_compiles(folder: Path) -> None:
    site = wheel(ARM64, "raspberry-pi-3", folder) / "edge8"
    for source, name in ((ROOT / "devices", "devices"), (ROOT / "runtime_c", "runtime_c")):
        files = [
            p.relative_to(source)
            for pattern in ("*.toml", "*.cmake", "*.c", "*.h")
            for p in source.rglob(pattern)
            if "bench" not in p.parts
        ]
        missing = [str(p) for p in files if not (site / name / p).is_file()]
        assert len(files) > 20
        assert missing == []


@rehearsal("a minute, and 400 MB for a kernel")
def test_whole_machine_with_512_megabytes(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    source = make_root(ARM64, *PYTHON_PACKAGES)  # no more: the RAM disk and what comes out of it share the 512 MB
    # Not the device nodes: reading /dev/full never ends.
    shutil.copytree(source, root, symlinks=True, ignore=lambda folder, names: ["dev"] if Path(folder) == source else [])
    kernel = next((make_root(ARM64, "linux-image-arm64") / "boot").glob("vmlinuz-*"))
    shutil.copytree(wheel(ARM64, "raspberry-pi-3", folder), root / "site")
    model = Model(MODEL)
    inputs = check_inputs(model)
    np.save(root / "x.npy", inputs[0])
    shutil.copyfile(MODEL, root / "model.e8")
    (root / "program.py").write_text(PROGRAM + "print('bytes', np.load(sys.argv[3]).tobytes().hex())\n")
    text = boot(root, kernel, tmp_path, 512, ["/usr/bin/python3", "/program.py", "/model.e8", "/x.npy", "/tmp/y.npy"])
    assert "board: ended with 0" in text, text[-2000:]
    assert "level neon" in text
    found = re.search(r"bytes ([0-9a-f]+)", text)
    assert found is not None
    assert found.group(1) == run_on_host(model, inputs)[0].tobytes().hex()
    assert sys.byteorder == "little"
