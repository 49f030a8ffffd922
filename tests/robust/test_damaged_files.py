# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile .e8 files: refused, or run within their bounds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import edge8

GOLDEN = sorted((Path(__file__).resolve().parents[1] / "golden" / "v1").glob("*.e8"))
SMALL = [path for path in GOLDEN if path.stat().st_size < 3000]


@pytest.mark.parametrize("path", SMALL, ids=lambda p: p.stem)
def test_every_truncation_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for length in range(len(data)):
        with pytest.raises(edge8.Edge8Error):
            edge8.Model(data[:length])


@pytest.mark.parametrize("path", SMALL[:6], ids=lambda p: p.stem)
def test_every_changed_byte_is_refused(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(len(data)):
        for change in (0x01, 0x80, 0xFF):
            data[at] ^= change
            with pytest.raises(edge8.FormatError):
                edge8.Model(data)
            data[at] ^= change


@pytest.mark.parametrize("path", SMALL, ids=lambda p: p.stem)
def test_changes_behind_the_checksum_stay_in_bounds(mutate: Path, path: Path) -> None:
    done = subprocess.run([str(mutate), str(path), "3"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_rules_are_named() -> None:
    data = bytearray(GOLDEN[0].read_bytes())
    cases = {
        "file.magic": (0, 0x00),
        "file.version": (12, 0xFF),
        "file.size": (16, data[16] ^ 1),
        "file.reserved": (40, 1),
        "file.crc": (100, data[100] ^ 1),
    }
    for rule, (at, value) in cases.items():
        changed = bytearray(data)
        changed[at] = value
        with pytest.raises(edge8.FormatError) as caught:
            edge8.Model(changed)
        assert caught.value.rule == rule


def test_limits() -> None:
    data = GOLDEN[0].read_bytes()
    for name, rule in (("ops", "limit.ops"), ("tensors", "limit.tensors"), ("macs", "limit.macs"), ("arena", "limit.arena")):
        with pytest.raises(edge8.FormatError) as caught:
            edge8.Model(data, limits={name: 0})
        assert caught.value.rule == rule


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    empty, folder = tmp_path / "empty.e8", tmp_path / "folder"
    empty.write_bytes(b"")
    folder.mkdir()
    for path in (tmp_path / "missing.e8", empty, folder):
        with pytest.raises(edge8.Edge8Error, match=path.name):
            edge8.Model(path)
    text = tmp_path / "text.e8"
    text.write_text("not a model\n" * 20)
    with pytest.raises(edge8.FormatError, match=r"file\.magic"):
        edge8.Model(text)
