# SPDX-License-Identifier: Apache-2.0
"""`edge8 wheel`: the wheel of each platform, as docs/boards.md has the commands, installed in an emulated Debian, runs a model there."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge8 import Model
from edge8.cli import main
from edge8.converter.deploy import check_inputs, run_on_host
from edge8.converter.wheel import first_error
from tests.boards.emulated import LEVELS, ROOT, need
from tests.boards.root import AMD64, ARM64, ARMHF, PYTHON_PACKAGES, RISCV64, Debian, install_wheel, make_root, run_python

MODEL = ROOT / "tests" / "golden" / "v1" / "depthwise_conv2d.full.e8"
PROGRAM = """
import sys
import numpy as np
import edge8

model = edge8.Model(sys.argv[1])
np.save(sys.argv[3], model.session(2)(np.load(sys.argv[2])))
print("level", edge8.cpu.level())
"""
# Device, the wheel's platform, its C library, and processors it runs on.
WHEELS = [
    ("generic-x86-64", "manylinux_2_17_x86_64", "2.17", AMD64, ["Nehalem", "Haswell"]),
    ("raspberry-pi-4", "manylinux_2_17_aarch64", "2.17", ARM64, ["cortex-a72", "cortex-a76", "max,sve=off"]),
    ("raspberry-pi-2", "manylinux_2_17_armv7l", "2.17", ARMHF, ["cortex-a7", "cortex-a15,neon=off"]),
    ("visionfive-2", "linux_riscv64", "2.27", RISCV64, ["rv64"]),
]


@pytest.mark.skipif(
    not os.environ.get("EDGE8_SLOW") or importlib.util.find_spec("ziglang") is None, reason="EDGE8_SLOW=1 and ziglang: a minute each"
)
@pytest.mark.parametrize(("device", "platform", "glibc", "debian", "processors"), WHEELS, ids=[wheel[0] for wheel in WHEELS])
def test_wheel_runs_in_its_debian(
    device: str, platform: str, glibc: str, debian: Debian, processors: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"    edge8 wheel --device {device} " in (ROOT / "docs" / "boards.md").read_text()
    assert main(["wheel", "--device", device, "-o", str(tmp_path)]) == 0
    wheel = Path(capsys.readouterr().out.strip().splitlines()[-1])
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    site = tmp_path / "site"
    install_wheel(wheel, debian, site)
    wanted = subprocess.run(
        [need("readelf", "binutils"), "-V", str(site / "edge8" / "libedge8.so")], capture_output=True, text=True, check=True
    )
    versions = [tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", wanted.stdout)]
    assert max(versions) <= tuple(map(int, glibc.split(".")))

    root = make_root(debian, *PYTHON_PACKAGES)
    model = Model(MODEL)
    inputs = check_inputs(model)
    [expected] = run_on_host(model, inputs)
    np.save(tmp_path / "x.npy", inputs[0])
    (tmp_path / "program.py").write_text(PROGRAM)
    for cpu in processors:
        result = run_python(root, debian, cpu, site, [tmp_path / "program.py", MODEL, tmp_path / "x.npy", tmp_path / "y.npy"])
        assert result.returncode == 0, f"{cpu}: {result.stderr}"
        [level] = [known.level for known in LEVELS if (known.toolchain, known.cpu) == (debian.toolchain, cpu)]
        assert result.stdout.strip() == f"level {level}"
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
        (tmp_path / "y.npy").unlink()


def test_a_failing_build_says_where() -> None:
    output = (
        "  error: subprocess-exited-with-error\n  a.c:9:5: error: no such type\n  2 errors\nERROR: Failed to build one or more wheels\n"
    )
    assert first_error(output) == "a.c:9:5: error: no such type"
    assert first_error("one\ntwo\n") == "two"
    assert first_error("") == "no output"


@pytest.mark.parametrize(
    "command",
    [["gcc"], ["clang"], ["clang-19"], [sys.executable, "-I", "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.17"]],
    ids=lambda c: c[-1],
)
def test_every_compiler_knows_the_instructions_of_the_checksum(command: list[str], tmp_path: Path) -> None:
    """clang 16 and later want the feature crc32 beside sse4.2."""
    if "ziglang" in command and importlib.util.find_spec("ziglang") is None:
        pytest.skip("zig is absent (pip install ziglang)")
    need(command[0], command[0])
    source = ROOT / "runtime_c"
    options = ["-std=c11", "-O2", "-Wall", "-Werror", f"-I{source / 'include'}", f"-I{source / 'src'}", "-c"]
    subprocess.run([*command, *options, str(source / "src" / "crc32c.c"), "-o", str(tmp_path / "crc32c.o")], check=True)
