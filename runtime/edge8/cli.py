# SPDX-License-Identifier: Apache-2.0
"""The command `edge8`. What a board needs works with numpy and cffi alone; the rest comes with `pip install edge8[convert]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import __version__, cpu
from .bench import benchmark, format_record
from .data import read_inputs, write_outputs
from .errors import Edge8Error
from .inspect import describe
from .model import Model

__all__ = ["main", "run_command"]

# Commands of the converter: name, help. Their parsers live in edge8.converter.cli, so that a board needs none of its packages.
HOST_COMMANDS = {
    "convert": "make an .e8 file (or an Ascend 310 folder) from an ONNX model",
    "report": "compare an .e8 file with its ONNX model, layer by layer",
    "devices": "list the boards and CPUs that edge8 has profiles of",
    "deploy": "make a folder that runs a model on a board",
    "sizes": "flash, RAM and stack of models on a microcontroller",
    "wheel": "build the Python package for a board",
}


def run_command(function: Callable[[], int], debug: bool) -> int:
    """Run a command; an error becomes one line on stderr and exit code 1 (2 for wrong arguments, 130 for Ctrl-C)."""
    try:
        return function()
    except KeyboardInterrupt:
        if debug:
            raise
        print("edge8: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141
    except Exception as error:
        if debug:
            raise
        print(f"edge8: {error if str(error) else type(error).__name__}", file=sys.stderr)
        return 2 if isinstance(error, argparse.ArgumentError) else 1


def _restrict(arguments: argparse.Namespace) -> None:
    if arguments.cpu is not None:
        cpu.restrict([name for name in arguments.cpu.split(",") if name])


def _run(arguments: argparse.Namespace) -> int:
    _restrict(arguments)
    model = Model(arguments.model)
    session = model.session(arguments.threads)
    result = session(_read(arguments.input, model))
    outputs = result if isinstance(result, dict) else {model.outputs[0].name: result}
    if arguments.output:
        write_outputs(Path(arguments.output), outputs)
    for name, y in outputs.items():
        flat = y.reshape(-1)
        shown = ", ".join(f"{v:.6g}" for v in flat[:8]) + (", ..." if flat.size > 8 else "")
        print(f"{name} {y.dtype}{list(y.shape)}: {shown}")
        if y.ndim == 2 and y.shape[0] == 1 and y.shape[1] > 2:
            top = np.argsort(-y[0].astype(np.float64), kind="stable")[:5]
            print("  top: " + ", ".join(f"{i} ({y[0, i]:.4g})" for i in top))
    return 0


def _read(inputs: list[str], model: Model) -> dict[str, np.ndarray]:
    """Arrays; pictures go through the preprocessing that the model's file remembers, which needs the converter's packages."""
    if all(Path(text.partition("=")[2] or text).suffix in (".npy", ".npz", ".bin", ".raw") for text in inputs):
        return read_inputs(inputs, model.inputs)
    try:
        from .converter.calibration import read_pictures
    except ImportError as error:
        raise Edge8Error(f"reading {inputs[0]} needs Pillow: pip install edge8[convert], or pass a .npy file") from error
    return read_pictures(inputs, model)


def _bench(arguments: argparse.Namespace) -> int:
    _restrict(arguments)
    if arguments.compare:
        from .compare import compare_records

        print(compare_records(*(Path(p) for p in arguments.compare)))
        return 0
    if not arguments.model:
        raise Edge8Error("give a model, or --compare A.json B.json")
    record = benchmark(arguments.model, threads=arguments.threads, seconds=arguments.seconds, runs=arguments.runs, cores=arguments.cores)
    print(format_record(record, ops=not arguments.no_ops))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    model = Model(arguments.model)
    if arguments.json:
        print(
            json.dumps(
                {"metadata": model.metadata, "producer": model.producer, "macs": model.macs, "arena": model.arena_bytes(1)}, indent=1
            )
        )
    else:
        print(describe(model))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    path = Path(arguments.model)
    if path.is_dir():
        return _host(["verify", *([arguments.model, *arguments.rest])], arguments.debug)
    model = Model(path)
    session = model.session(1)
    session.run()
    print(f"{path}: valid; {len(model.ops)} operators, arena {model.arena_bytes(1):,} bytes, crc {model.crc:08x}")
    return 0


def _host(argv: list[str], debug: bool) -> int:
    try:
        from .converter.cli import host_main
    except ImportError as error:
        raise Edge8Error(f"edge8 {argv[0]} needs the converter's packages ({error}): pip install edge8[convert]") from error
    return int(host_main(argv, debug=debug))


def _calibrate(arguments: argparse.Namespace) -> int:
    from .calibrate import calibrate_file

    output = Path(arguments.output or arguments.model)
    state = Path(arguments.state) if arguments.state else None
    samples = [Path(p) for p in arguments.samples]
    print(
        calibrate_file(
            Path(arguments.model),
            samples,
            output,
            method=arguments.method,
            percentile=arguments.percentile,
            threads=arguments.threads,
            state=state,
            merge=[Path(p) for p in arguments.merge],
        )
    )
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments, without those of HOST_COMMANDS."""
    top = argparse.ArgumentParser(prog="edge8", description="Run, measure and calibrate int8 models on small machines.")
    top.add_argument("--version", action="version", version=f"edge8 {__version__}")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a model on data")
    run.add_argument("model")
    run.add_argument("input", nargs="+", help="FILE or NAME=FILE: .npy, .npz, raw .bin, or a picture")
    run.add_argument("-o", "--output", help="write the outputs: .npy, .npz or raw")
    run.set_defaults(function=_run)
    bench = commands.add_parser("bench", help="measure latency, memory and each operator")
    bench.add_argument("model", nargs="?")
    bench.add_argument("--seconds", type=float, default=2.0, help="how long to measure (default 2)")
    bench.add_argument("--runs", type=int, help="how many runs, instead of --seconds")
    bench.add_argument("--cores", help="run on these cores: 0,1 or big or little")
    bench.add_argument("--json", help="write the record to this file")
    bench.add_argument("--no-ops", action="store_true", help="leave the table of operators out")
    bench.add_argument("--compare", nargs=2, metavar=("A.json", "B.json"), help="compare two records")
    bench.add_argument("--against", metavar="RIVALS", help="compare ONNX models with other runtimes: edge8 bench --against all --help")
    bench.set_defaults(function=_bench)
    for command in (run, bench):
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("--cpu", help="use only these instruction sets, such as sse41,avx2 ('' = the portable reference)")
    inspect = commands.add_parser("inspect", help="show graph, types, scales, arena plan and sizes")
    inspect.add_argument("model")
    inspect.add_argument("--json", action="store_true", help="metadata as JSON")
    inspect.set_defaults(function=_inspect)
    verify = commands.add_parser("verify", help="check a file (or a folder made for Ascend 310)")
    verify.add_argument("model")
    verify.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    verify.set_defaults(function=_verify)
    calibrate = commands.add_parser("calibrate", help="make a weights-quantised file a full int8 one, on the device")
    calibrate.add_argument("model")
    calibrate.add_argument("samples", nargs="*", help="folders or files: .npy, .npz, raw .bin")
    calibrate.add_argument("-o", "--output", help="file to write (default: the model itself, replaced when all is done)")
    calibrate.add_argument("--method", default="auto", help="minmax, moving-average, percentile, removal-outlier, kl, mse or auto")
    calibrate.add_argument("--percentile", type=float, default=99.99, help="for --method percentile (default 99.99)")
    calibrate.add_argument("--state", help="file that keeps what the observers saw, so that several calls add up")
    calibrate.add_argument(
        "--merge", action="append", default=[], metavar="FILE", help="add what another board saw (a file of its --state)"
    )
    calibrate.add_argument("--threads", type=int, default=1)
    calibrate.set_defaults(function=_calibrate)
    for name, text in HOST_COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return top


def main(argv: list[str] | None = None) -> int:
    """Entry point of `edge8`; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    debug = "--debug" in argv
    words = [word for word in argv if word != "--debug"]
    compares = bool(words) and words[0] == "bench" and any(word.split("=")[0] == "--against" for word in words)
    if words and (words[0] in HOST_COMMANDS or compares):
        return run_command(lambda: _host(words, debug), debug)
    arguments = parser().parse_args(words)
    arguments.debug = debug
    return run_command(lambda: int(arguments.function(arguments)), debug)


if __name__ == "__main__":
    sys.exit(main())
