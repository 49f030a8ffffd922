# SPDX-License-Identifier: Apache-2.0
"""Where tests keep builds for boards and Debian roots: one folder for all processes of a test run, removed by the last of them.

EDGE8_BOARD_BUILDS names a folder that stays instead; what is in it is used again unless a source is newer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["alone_in", "builds_folder", "hold_builds"]


def builds_folder() -> Path:
    """The folder of this test run."""
    kept = os.environ.get("EDGE8_BOARD_BUILDS")
    # Processes of one run of pytest-xdist have its name in common.
    folder = (
        Path(kept) if kept else Path(tempfile.gettempdir()) / f"edge8-boards-{os.environ.get('PYTEST_XDIST_TESTRUNUID') or os.getpid()}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def hold_builds() -> Iterator[None]:
    """Keep the folder while the block runs; whoever leaves last removes it."""
    if os.environ.get("EDGE8_BOARD_BUILDS"):
        yield
        return
    folder = builds_folder()
    path = folder.with_name(folder.name + ".lock")
    with contextlib.ExitStack() as stack:
        while True:
            lock = stack.enter_context(open(path, "w"))
            fcntl.flock(lock, fcntl.LOCK_SH)
            # The last of the others may have removed it between the two lines.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                    break
        try:
            yield
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                path.unlink()


@contextlib.contextmanager
def alone_in(name: str) -> Iterator[Path]:
    """A folder inside that of the run, for one process at a time."""
    folder = builds_folder() / name
    folder.mkdir(exist_ok=True)
    with open(folder.with_name(name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
