# SPDX-License-Identifier: Apache-2.0
"""`edge8 bench NET.onnx [...] --against RIVALS`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from ..errors import ConvertError
from .contestant import Contestant, contestants
from .network import Network, open_network
from .plot import plot
from .race import prepare, race
from .record import Record, markdown

__all__ = ["bench_command"]

SLOW_PREPARATION = 900.0


def _parser() -> argparse.ArgumentParser:
    known = ", ".join(dict.fromkeys(c.runtime for c in contestants().values() if c.runtime != "edge8"))
    parser = argparse.ArgumentParser(
        prog="edge8 bench", description="Measure ONNX models with edge8 and with other runtimes, int8 and float32, in one interleaved run."
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="NET.onnx", help="models with one float32 input")
    parser.add_argument("--against", required=True, help=f"all, or some of {known} (comma-separated; what is absent is listed as such)")
    parser.add_argument("--networks", help="only these of the models, by file name without .onnx (comma-separated)")
    parser.add_argument("--threads", default="1", help="1, or several such as 1,2 (default 1)")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each contestant (default 12)")
    parser.add_argument("--slot", type=float, default=0.15, metavar="SECONDS", help="length of a turn (default 0.15)")
    parser.add_argument("--samples", type=int, default=16, help="calibration samples (default 16)")
    parser.add_argument("--input-shape", help="of the input where the model leaves it open, such as 1,3,224,224")
    parser.add_argument("--cpu", help="let edge8 use only these instruction sets, and OpenVINO nothing above AVX2 unless they name AVX-512")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="folder for converted models (default build/bench)")
    parser.add_argument("--prepare", action="store_true", help="only convert and quantise, which takes minutes the first time")
    parser.add_argument("--prepared", action="store_true", help="convert nothing: measure what an earlier --prepare made")
    parser.add_argument("--resume", action="store_true", help="keep what --out already holds, measure the rest")
    parser.add_argument("--seconds", type=float, help="begin no further network after so many seconds (go on with --resume)")
    parser.add_argument("-o", "--out", type=Path, help="FILE.json: the record; FILE.md and FILE.png are written beside it")
    return parser


def _chosen(text: str) -> list[Contestant]:
    known = contestants()
    runtimes = list(dict.fromkeys(c.runtime for c in known.values()))
    wanted = runtimes if text == "all" else [word.strip() for word in text.split(",") if word.strip()]
    if unknown := sorted(set(wanted) - set(runtimes)):
        raise ConvertError(
            f"unknown runtimes: {', '.join(unknown)}", rule="bench.against", where="--against", hint=f"use all or {', '.join(runtimes)}"
        )
    return [c for c in known.values() if c.runtime in {"edge8", *wanted}]


def _numbers(text: str, option: str) -> list[int]:
    try:
        values = [int(word) for word in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < 1:
        raise ConvertError(f"{option} takes positive numbers such as 1,2; got {text!r}", rule="bench.number", where=option)
    return values


def _macs(network: Network) -> int:
    import edge8

    file = contestants()["edge8 int8"].path(network)
    return edge8.Model(file).macs if file.exists() else 0


def _prepare_all(chosen: list[Contestant], networks: list[Network], samples: int) -> None:
    for network in networks:
        for contestant in chosen:
            begin = time.perf_counter()
            reason = prepare(contestant, network, samples, SLOW_PREPARATION)
            spent = time.perf_counter() - begin
            if reason is not None or spent > 0.5:
                print(f"{network.name}: {contestant.name}: {reason or f'prepared in {spent:.1f} s'}", file=sys.stderr, flush=True)


def _cap(levels: str | None) -> None:
    if levels is None:
        return
    os.environ["EDGE8_BENCH_CPU"] = levels or "reference"
    if "avx512" not in levels:
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"


def bench_command(argv: list[str]) -> int:
    """Parse, prepare, measure, write."""
    arguments = _parser().parse_args(argv)
    chosen, threads = _chosen(arguments.against), _numbers(arguments.threads, "--threads")
    if arguments.rounds < 1 or arguments.slot <= 0 or arguments.samples < 1:
        raise ConvertError("--rounds, --slot and --samples must be positive", rule="bench.number", where="edge8 bench")
    if arguments.resume and arguments.out is None:
        raise ConvertError("--resume needs --out", rule="bench.resume", where="--resume", hint="name the record to go on with")
    shape = tuple(_numbers(arguments.input_shape, "--input-shape")) if arguments.input_shape else None
    models = [path for path in arguments.models if not arguments.networks or path.stem in arguments.networks.split(",")]
    if len({path.stem for path in models}) < len(models):
        raise ConvertError(
            "two models have the same file name", rule="bench.names", where="edge8 bench", hint="compare them in runs of their own"
        )
    if not models:
        raise ConvertError(f"none of the models is called {arguments.networks}", rule="bench.networks", where="--networks")
    _cap(arguments.cpu)
    networks = [open_network(path, arguments.work.resolve(), shape) for path in models]
    if not arguments.prepared:
        _prepare_all(chosen, networks, arguments.samples)
    if arguments.prepare:
        return 0
    settings = {"rounds": arguments.rounds, "slot": arguments.slot, "samples": arguments.samples, "cpu": arguments.cpu}
    out: Path | None = arguments.out
    record = Record.read(out) if arguments.resume and out is not None and out.exists() else Record.begin(chosen, settings)
    begin = time.monotonic()
    for network in networks:
        for count in threads:
            if record.has(network.name, count):
                continue
            if arguments.seconds is not None and time.monotonic() - begin > arguments.seconds:
                print("time is up; --resume goes on", file=sys.stderr)
                return 0
            rows = race([c for c in chosen if c.runtime != "tract" or count == 1], network, count, arguments.rounds, arguments.slot)
            record.add(network.name, count, _macs(network), rows)
            print(
                f"{network.name}, {count} thread(s): " + ", ".join(f"{r.contestant} {r.median_ms:.3g}" for r in rows if not r.reason),
                flush=True,
            )
            if out is not None:
                record.write(out)
    text = markdown(record)
    if out is None:
        print(text)
        return 0
    out.with_suffix(".md").write_text(text)
    plot(record, out.with_suffix(".png"))
    print(f"{out}, {out.with_suffix('.md').name}, {out.with_suffix('.png').name}")
    return 0
