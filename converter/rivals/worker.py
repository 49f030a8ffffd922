# SPDX-License-Identifier: Apache-2.0
"""The process of one contestant: `python -m edge8.converter.rivals.worker SETTINGS`, driven by lines of JSON.

It imports the runtime, says so, loads when told to, and then answers each ``{"calls": n, "inner": k}`` with the times of n groups of k
runs. Everything else that libraries print goes to stderr.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .contestant import contestants
from .network import Network

__all__ = ["main"]

UNSEEN = 9999
"""Seed of the input that is timed; calibration does not see it."""


def _memory(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


def _import_growth(modules: tuple[str, ...]) -> int:
    """What importing modules adds to a process that has numpy, in bytes, for modules that this process imported long ago."""
    code = (
        "import sys, numpy\n"
        "size = lambda: next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmRSS:'))\n"
        f"before = size()\nfor name in {modules!r}: __import__(name)\nprint(size() - before)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(result.stdout) * 1024


def _say(out: TextIO, **values: Any) -> None:
    out.write(json.dumps(values) + "\n")
    out.flush()


def _serve(out: TextIO, settings: dict[str, Any]) -> None:
    network = Network(
        settings["name"], Path(settings["path"]), Path(settings["folder"]), settings["input"], tuple(settings["shape"])
    )  # fmt: skip
    contestant, threads = contestants()[settings["contestant"]], int(settings["threads"])
    x = network.sample(UNSEEN)
    before = _memory("VmRSS")
    if all(module in sys.modules for module in contestant.modules):
        before -= _import_growth(contestant.modules)
    for module in contestant.modules:
        importlib.import_module(module)
    _say(out, ready=True)
    sys.stdin.readline()
    begin = time.perf_counter()
    run = contestant.load(network, threads)
    loaded = time.perf_counter()
    y = np.array(run(x))
    first = time.perf_counter()
    np.save(settings["result"], y.astype(np.float32).ravel())
    call, argument = contestant.unpack(run, x)
    for _ in range(3):
        call(argument)
    _say(
        out, load_ms=(loaded - begin) * 1e3, first_ms=(first - loaded) * 1e3, memory_bytes=_memory("VmHWM") - before,
        file_bytes=contestant.file_bytes(network),
    )  # fmt: skip
    gc.disable()
    for line in sys.stdin:
        order = json.loads(line)
        times = []
        for _ in range(order["calls"] + 1):
            begin = time.perf_counter()
            for _ in range(order["inner"]):
                call(argument)
            times.append((time.perf_counter() - begin) / order["inner"] * 1e3)
        _say(out, times=times[1:])  # the first one fills the caches again


def main() -> None:
    """Serve until stdin ends; an exception is the last line."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = json.loads(sys.argv[1])
    if settings["threads"] == 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with contextlib.suppress(OSError):
        os.nice(-20)
    try:
        _serve(out, settings)
    except Exception as error:
        _say(out, error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


if __name__ == "__main__":
    main()
