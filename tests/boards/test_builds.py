# SPDX-License-Identifier: Apache-2.0
"""Builds are shared by the processes of a test run and leave nothing behind."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from tests.boards.builds import alone_in, builds_folder, hold_builds


def hold(held: Event, end: Event) -> None:
    with hold_builds():
        with alone_in("thing") as folder:
            (folder / "made").touch()
        held.set()
        end.wait(60)


def test_last_process_removes_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE8_BOARD_BUILDS", raising=False)
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", tmp_path.name)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fork = multiprocessing.get_context("fork")
    held, end = fork.Event(), fork.Event()
    other = fork.Process(target=hold, args=(held, end))
    other.start()
    assert held.wait(60)
    with hold_builds(), alone_in("thing") as folder:
        assert (folder / "made").exists()
    assert builds_folder().parent == tmp_path
    assert (builds_folder() / "thing" / "made").exists()
    end.set()
    other.join(60)
    assert other.exitcode == 0
    assert list(tmp_path.iterdir()) == []


def test_named_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE8_BOARD_BUILDS", str(tmp_path / "kept"))
    with hold_builds(), alone_in("thing") as folder:
        (folder / "made").touch()
    assert (tmp_path / "kept" / "thing" / "made").exists()
