# SPDX-License-Identifier: Apache-2.0
"""The rounds of a comparison.

Each contestant is a process of its own. All but the one on turn are stopped, so that no spinning pool runs beside it. Rounds go round
robin from a shifting start. Of the turns of a contestant the half counts in which other processes kept the fewest cores busy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .contestant import Contestant, Unusable
from .network import Network

__all__ = ["Result", "prepare", "race"]

REFERENCE = "onnxruntime fp32"
INNER_MS = 0.2
"""Runs shorter than this are timed in groups."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Result:
    """A row: figures, or the reason why there are none. Times in milliseconds; ``others``: cores that other processes kept busy."""

    contestant: str
    int8: bool
    reason: str | None = None
    median_ms: float = 0.0
    p25_ms: float = 0.0
    best_ms: float = 0.0
    load_ms: float = 0.0
    first_ms: float = 0.0
    memory_bytes: int = 0
    file_bytes: int = 0
    cosine: float | None = None
    others: float = 0.0
    runs: int = 0


def _reason_file(contestant: Contestant, network: Network) -> Path:
    return network.folder / f"{contestant.name}.reason"


def prepare(contestant: Contestant, network: Network, samples: int, seconds: float) -> str | None:
    """Make a contestant's file in a process of its own, unless it is there; edge8's is always made anew.

    Returns:
        The reason why there is none, or None.
    """
    if reason := contestant.missing():
        return reason
    path = contestant.path(network)
    if path.exists() and contestant.runtime != "edge8":
        return None
    settings = {**dataclasses.asdict(network), "path": str(network.path), "folder": str(network.folder), "samples": samples}
    command = [sys.executable, "-m", "edge8.converter.rivals.preparation", json.dumps({**settings, "contestant": contestant.name})]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        reason = f"preparing took more than {seconds:.0f} s"
    else:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        reason = None if result.returncode == 0 else (lines[-1] if lines else f"preparing ended with {result.returncode}")[:300]
    if reason is not None:
        path.unlink(missing_ok=True)
        _reason_file(contestant, network).write_text(reason)
    else:
        _reason_file(contestant, network).unlink(missing_ok=True)
    return reason


def prepared_or_reason(contestant: Contestant, network: Network) -> str | None:
    """Why a contestant has no file, without making one; None if it has."""
    if reason := contestant.missing():
        return reason
    if contestant.path(network).exists():
        return None
    noted = _reason_file(contestant, network)
    return noted.read_text() if noted.exists() else "not prepared: run with --prepare first"


def _busy(process: int | None = None) -> float:
    """CPU seconds of the machine, or of one process."""
    if process is None:
        values = [int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return (sum(values) - values[3] - values[4]) / TICKS
    return sum(int(v) for v in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11:13]) / TICKS


class _Entrant:
    """A contestant's process. It is stopped unless it is on turn."""

    def __init__(self, contestant: Contestant, network: Network, threads: int, folder: Path) -> None:
        self.contestant, self.result = contestant, folder / f"{contestant.name}.npy"
        settings = {
            "contestant": contestant.name, "threads": threads, "result": str(self.result), "name": network.name, "path": str(network.path),
            "folder": str(network.folder), "input": network.input, "shape": network.shape,
        }  # fmt: skip
        # OpenMP runtimes take their number of threads from here.
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.errors = (folder / f"{contestant.name}.errors").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge8.converter.rivals.worker", json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        self.facts: dict[str, Any] = {}
        self.turns: list[list[float]] = []
        self.others: list[float] = []

    def answer(self) -> dict[str, Any]:
        """The next line of the process."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            lines = self.errors.read().strip().splitlines() or [f"the process ended with {self.process.wait()}"]
            raise Unusable(lines[-1][:300])
        values: dict[str, Any] = json.loads(line)
        if "error" in values:
            raise Unusable(values["error"])
        return values

    def send(self, **values: Any) -> None:
        """A line to the process."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(values) + "\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def turn(self, calls: int, inner: int) -> list[float]:
        """Let it run; milliseconds of each group of ``inner`` runs."""
        all_before, own_before, begin = _busy(), _busy(self.process.pid), time.perf_counter()
        self.process.send_signal(signal.SIGCONT)
        self.send(calls=calls, inner=inner)
        times: list[float] = self.answer()["times"]
        self.stop()
        own = _busy(self.process.pid) - own_before
        self.others.append(max(0.0, _busy() - all_before - own) / (time.perf_counter() - begin))
        return times

    def close(self) -> None:
        # Some runtimes leave processes of their own behind: they are in the session that was made for this one.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.errors.close()


def _enter(contestants: Sequence[Contestant], network: Network, threads: int, folder: Path) -> tuple[list[_Entrant], list[Result]]:
    """Start the processes, all importing at once; then load one after the other."""
    starting, entrants, failed = [], [], []
    for contestant in contestants:
        if reason := prepared_or_reason(contestant, network):
            failed.append(Result(contestant.name, contestant.int8, reason))
            continue
        starting.append(_Entrant(contestant, network, threads, folder))
    waiting = []
    for entrant in starting:
        try:
            entrant.answer()
            waiting.append(entrant)
        except Unusable as error:
            failed.append(Result(entrant.contestant.name, entrant.contestant.int8, str(error)))
            entrant.close()
    for entrant in waiting:
        try:
            entrant.send(load=True)
            entrant.facts = entrant.answer()
            entrant.stop()
            entrants.append(entrant)
        except (Unusable, BrokenPipeError) as error:
            failed.append(Result(entrant.contestant.name, entrant.contestant.int8, str(error)))
            entrant.close()
    return entrants, failed


def _cosine(folder: Path, entrant: _Entrant) -> float | None:
    reference = folder / f"{REFERENCE}.npy"
    if not reference.exists() or not entrant.result.exists():
        return None
    a, b = np.load(reference).astype(np.float64), np.load(entrant.result).astype(np.float64)
    if a.size != b.size:
        return None
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-30))


def _row(entrant: _Entrant, folder: Path) -> Result:
    # The first turn found out how long a run takes.
    others = entrant.others[1:]
    quiet = sorted(range(len(others)), key=lambda i: others[i])[: max(1, (len(others) + 1) // 2)]
    times = sorted(t for i in quiet for t in entrant.turns[i])
    own = entrant.contestant
    return Result(
        own.name, own.int8, None, statistics.median(times), times[len(times) // 4], times[0], cosine=_cosine(folder, entrant),
        others=statistics.mean(others[i] for i in quiet), runs=len(times), **entrant.facts,
    )  # fmt: skip


def race(contestants: Sequence[Contestant], network: Network, threads: int, rounds: int, slot: float) -> list[Result]:
    """Measure contestants on a network.

    Args:
        contestants: whose files are prepared.
        network: what they run.
        threads: of each.
        rounds: turns of each contestant.
        slot: seconds of a turn.

    Returns:
        A row for each, the fastest first, those that failed last.
    """
    with tempfile.TemporaryDirectory(prefix="edge8-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        entrants, failed = _enter(contestants, network, threads, folder)
        for entrant in entrants:
            stack.callback(entrant.close)
        shapes = {}
        for entrant in entrants:
            one = statistics.median(entrant.turn(5, 1))
            inner = max(1, int(INNER_MS / max(one, 1e-4))) if one < INNER_MS else 1
            shapes[entrant.contestant.name] = min(100, max(2, int(slot * 1e3 / (one * inner)))), inner
        for r in range(rounds):
            start = r % max(1, len(entrants))
            for entrant in entrants[start:] + entrants[:start]:
                entrant.turns.append(entrant.turn(*shapes[entrant.contestant.name]))
        return sorted((_row(e, folder) for e in entrants), key=lambda row: row.median_ms) + failed
