# SPDX-License-Identifier: Apache-2.0
"""Latency of a model on this machine: percentiles, a table per operator, memory; a record that can be compared elsewhere."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import cpu
from .model import Model, Session

__all__ = ["benchmark", "fill_random", "format_record", "pin", "processor"]

PERCENTILES = (50, 90, 99)


def pin(cores: str | None) -> list[int]:
    """Restrict this process to cores.

    Args:
        cores: numbers such as ``"0,2"``, ``"big"`` or ``"little"`` (by the maximal frequency that the system shows), or None.

    Returns:
        The cores in use.

    Raises:
        ValueError: a core does not exist, or the system shows no difference between big and little cores.
    """
    if cores is None:
        return sorted(os.sched_getaffinity(0))
    if cores in ("big", "little"):
        frequencies = {c: f for c in sorted(os.sched_getaffinity(0)) if (f := _frequency(c, "cpuinfo_max_freq")) is not None}
        if len(set(frequencies.values())) < 2:
            raise ValueError("the system shows no big and little cores; give numbers, such as --cores 0,1")
        wanted = max(frequencies.values()) if cores == "big" else min(frequencies.values())
        chosen = [c for c, f in frequencies.items() if f == wanted]
    else:
        try:
            chosen = [int(part) for part in cores.split(",")]
        except ValueError:
            raise ValueError(f"--cores takes numbers such as 0,1, or big, or little; got {cores!r}") from None
    try:
        os.sched_setaffinity(0, chosen)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot run on cores {cores}: {error}") from error
    return chosen


def _frequency(core: int, what: str) -> int | None:
    try:
        return int(Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/{what}").read_text())
    except (OSError, ValueError):
        return None


def _temperature() -> float | None:
    """Degrees Celsius of the hottest zone that the system shows."""
    zones = []
    for path in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            zones.append(int(path.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    return max(zones, default=None)


def _resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def fill_random(session: Session, seed: int = 0) -> None:
    """Write seeded noise to the inputs: standard normal floats, codes over the whole range, zeros for indices."""
    random = np.random.default_rng(seed)
    for i, t in enumerate(session.inputs):
        view = session.input_view(i)
        if t.dtype.kind == "f":
            view[...] = random.standard_normal(t.shape).astype(np.float32)
        elif t.dtype in (np.dtype("i1"), np.dtype("u1")):
            view[...] = random.integers(0, 256, t.shape).astype(np.uint8).view(t.dtype)
        else:
            view[...] = 0


def _time_runs(session: Session, seconds: float, runs: int | None) -> list[float]:
    times: list[float] = []
    keep = [session.input_view(i).copy() for i in range(len(session.inputs))]
    start = time.perf_counter()
    while len(times) < 3 or (len(times) < runs if runs else time.perf_counter() - start < seconds):
        for i, values in enumerate(keep):
            session.input_view(i)[...] = values
        begin = time.perf_counter()
        session.run()
        times.append(time.perf_counter() - begin)
    return times


def benchmark(
    path: str | os.PathLike[str], *, threads: int = 1, seconds: float = 2.0, runs: int | None = None, cores: str | None = None
) -> dict[str, Any]:
    """Measure a model.

    Args:
        path: the .e8 file.
        threads: of the session.
        seconds: how long to measure, unless ``runs`` says how often.
        runs: number of timed runs.
        cores: see `pin`.

    Returns:
        A record (JSON-ready): latencies in milliseconds, per-operator times, memory in bytes, the machine.
    """
    used = pin(cores)
    before = _resident_bytes()
    begin = time.perf_counter()
    model = Model(path)
    opened = time.perf_counter() - begin
    session = model.session(threads)
    fill_random(session)
    begin = time.perf_counter()
    session.run()
    first = time.perf_counter() - begin
    times = np.array(_time_runs(session, seconds, runs)) * 1e3
    fill_random(session)
    op_seconds = session.op_times(max(3, min(50, len(times) // 4)))
    return {
        "model": Path(path).name,
        "crc": f"{model.crc:08x}",
        "file_bytes": model.file_bytes,
        "macs": model.macs,
        "calibrated": model.calibrated,
        "threads": threads,
        "cores": used,
        "level": cpu.level(),
        "machine": {
            "system": platform.platform(),
            "processor": processor(),
            "temperature_c": _temperature(),
            "frequency_khz": _frequency(used[0], "scaling_cur_freq"),
        },
        "open_ms": opened * 1e3,
        "first_run_ms": first * 1e3,
        "runs": len(times),
        "latency_ms": {
            "min": float(times.min()),
            "mean": float(times.mean()),
            **{f"p{p}": float(np.percentile(times, p)) for p in PERCENTILES},
            "max": float(times.max()),
        },
        "arena_bytes": model.arena_bytes(threads),
        "resident_growth_bytes": _resident_bytes() - before,
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "ops": [{"kind": op.kind, "name": op.name, "macs": op.macs, "ms": s * 1e3} for op, s in zip(model.ops, op_seconds, strict=True)],
    }


def processor() -> str:
    """The name that the system gives the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    for key in ("model name", "Model", "Hardware"):
        for line in lines:
            if line.startswith(key):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def format_record(record: dict[str, Any], *, ops: bool = True) -> str:
    """A record as text for people."""
    lat = record["latency_ms"]
    head = f"{record['model']}: {record['macs'] / 1e6:.1f} MMAC, {record['file_bytes'] / 1e6:.2f} MB"
    growth, peak = (record[key] / 1e6 for key in ("resident_growth_bytes", "peak_resident_bytes"))
    lines = [
        f"{head}, level {record['level']}, {record['threads']} thread(s)",
        f"latency ms: {'  '.join(f'{name} {value:.3f}' for name, value in lat.items())}  ({record['runs']} runs)",
        f"open {record['open_ms']:.2f} ms, first run {record['first_run_ms']:.2f} ms, arena {record['arena_bytes'] / 1e3:.1f} kB, "
        f"resident growth {growth:.2f} MB, peak {peak:.1f} MB",
    ]
    if not ops:
        return "\n".join(lines)
    total = sum(op["ms"] for op in record["ops"]) or 1.0
    lines += ["", f"{'operator':20} {'ms':>9} {'%':>6} {'GMAC/s':>8}  node"]
    for op in record["ops"]:
        rate = op["macs"] / op["ms"] / 1e6 if op["ms"] > 0 else 0.0
        lines.append(f"{op['kind']:20} {op['ms']:9.4f} {100 * op['ms'] / total:6.1f} {rate:8.2f}  {op['name']}")
    return "\n".join(lines)
