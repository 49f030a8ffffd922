# SPDX-License-Identifier: Apache-2.0
"""The command `convert`, and the host-side subcommands of `edge8` (convert, report, devices, deploy, verify of Ascend folders)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from edge8.calibrate import METHODS
from edge8.cli import run_command

from .api import convert
from .commands import COMMANDS
from .errors import ConvertError
from .quant.bounded_weights import CHOICES
from .quant.configs import parse_arguments
from .quant.corrections import CORRECTIONS
from .quant.evaluation import METRICS
from .quant.scheme import ACTIVATIONS, ENTROPY

__all__ = ["convert_main", "host_main"]


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``name:1,3,224,224``; names may contain colons, so the last one counts. -1 is an axis that a dynamic flag lists (ascend310)."""
    name, separator, dims = text.rpartition(":")
    try:
        shape = tuple(int(d) for d in dims.split(","))
    except ValueError:
        shape = ()
    if not separator or not shape or any(d < 1 and d != -1 for d in shape):
        raise argparse.ArgumentTypeError(f"write NAME:1,3,224,224, got {text!r}")
    return name, shape


def _shapes(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """One shape, or several joined by ``;`` as ATC writes them."""
    return [_shape(part) for part in text.split(";") if part.strip()] or [_shape(text)]


def _shape_table(arguments: argparse.Namespace) -> dict[str, tuple[int, ...]] | None:
    """Shapes by input name, or None when none were given.

    Raises:
        ConvertError: an input has two.
    """
    table: dict[str, tuple[int, ...]] = {}
    for name, shape in (pair for pairs in arguments.input_shape for pair in pairs):
        if table.setdefault(name, shape) != shape:
            raise ConvertError(f"input {name!r} is given twice", rule="shape.twice", where="--input-shape", hint="Keep one shape an input")
    return table or None


def _method(text: str) -> str:
    """A range method, or improvements of the Ascend target joined by ``+``; each target checks that the method is its own."""
    if text not in METHODS:
        from .targets.ascend310.methods import METHODS as ASCEND

        if not set(text.split("+")) <= set(ASCEND):
            known = f"{', '.join(METHODS)}; for ascend310 auto, {', '.join(ASCEND)}, joined by +"
            raise argparse.ArgumentTypeError(f"unknown value {text!r}. Known: {known}")
    return text


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"write numbers such as 123.7,116.3,103.5, got {text!r}") from None


def _size(text: str) -> tuple[int, int]:
    values = _numbers(text)
    if len(values) not in (1, 2) or any(v < 1 or v != int(v) for v in values):
        raise argparse.ArgumentTypeError(f"write HEIGHT,WIDTH or one number, got {text!r}")
    return int(values[0]), int(values[-1])


def _bits(text: str) -> int | str:
    if text == "mixed":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"write a number from 1 to 16, or mixed, got {text!r}") from None


def _bit_range(text: str) -> tuple[int, int]:
    values = _numbers(text)
    if len(values) != 2 or any(v != int(v) for v in values):
        raise argparse.ArgumentTypeError(f"write LOW,HIGH such as 2,8, got {text!r}")
    return int(values[0]), int(values[1])


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="the trained network, a .onnx file")
    parser.add_argument("-o", "--output", help="file to write (cpu-lite, onnx-qdq) or folder (ascend310)")
    parser.add_argument("--target", default="cpu-lite", choices=["cpu-lite", "ascend310", "onnx-qdq"])
    parser.add_argument("--quant", default="full", choices=["full", "weight", "dynamic", "float"], help="what is quantised (default full)")
    parser.add_argument(
        "--input-shape",
        action="append",
        type=_shapes,
        default=[],
        metavar="NAME:1,3,224,224",
        help="where the model leaves dimensions free",
    )
    parser.add_argument("--skip", action="append", default=[], help="node that stays float: NAME, type:Conv2D or re:EXPRESSION")
    parser.add_argument(
        "--io",
        default="float32",
        choices=["float32", "int8", "int16", "uint8"],
        help="int8, int16: inputs and outputs of that type are codes; uint8: the model takes pictures [N, H, W, C], normalises them itself",
    )
    parser.add_argument("--threads", type=int, default=2, help="for the calibration runs (default 2)")
    parser.add_argument("--report", help="write a report: .html (with the plots) or .json")
    parser.add_argument("--device", help="check that the model fits this board and predict its latency, see `edge8 devices`")
    parser.add_argument("--config", help="TOML file with the names of these flags, or a configuration for MindSpore's converter")
    _add_calibration(parser)
    _add_quantiser(parser)
    _add_target(parser)
    qdq = parser.add_argument_group("ONNX QDQ")
    qdq.add_argument(
        "--codes", default="uint8", choices=["uint8", "int8"], help="type of the codes; int8 needs a CPU with VNNI or ARM in onnxruntime"
    )
    ascend = parser.add_argument_group("Ascend 310")
    ascend.add_argument("--soc", help="chip, such as Ascend310 (default), Ascend310P3 or Ascend310B1")
    ascend.add_argument("--aipp", help="TOML file that describes the camera's pictures")
    ascend.add_argument("--batch", type=int, help="batch size of the model")
    ascend.add_argument("--dynamic-batch", help="batch sizes, such as 1,2,4")
    ascend.add_argument("--dynamic-image-size", help="picture sizes, such as 224,224;448,448")
    ascend.add_argument("--dynamic-dims", help="values of the free dimensions")
    ascend.add_argument("--amct-version", help="key set of the AMCT configuration files")
    ascend.add_argument("--amct-config", help="take the settings of this AMCT configuration (.cfg or .json)")
    ascend.add_argument("--record", help="take scales and offsets from this AMCT record (.txt)")
    ascend.add_argument("--batch-num", type=int, metavar="N", help="calibration batches to use (default all)")
    ascend.add_argument("--opset", type=int, choices=[11, 12, 13], help="operator set of the written models (default 11)")
    ascend.add_argument("--name", help="base name of the written files (default: the model file's)")
    ascend.add_argument(
        "--compression", action="store_true", default=None, help="also write compression_optimize.cfg for ATC's own calibration"
    )


def _add_calibration(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("calibration data")
    data.add_argument(
        "--calibration", nargs="+", metavar="PATH", help="folders or files (.npy .npz .bin, pictures); NAME=FOLDER for several inputs"
    )
    _add_preprocessing(data)


def _add_preprocessing(data: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    data.add_argument("--preprocess", help="TOML file that says how pictures become inputs")
    data.add_argument("--resize", type=_size, metavar="H,W")
    data.add_argument("--crop", type=_size, metavar="H,W", help="centre crop after resizing")
    data.add_argument("--mean", type=_numbers, help="subtracted from each channel (0..255)")
    data.add_argument("--std", type=_numbers, help="each channel is divided by it")
    data.add_argument("--channels", choices=["rgb", "bgr", "gray"])
    data.add_argument("--interpolation", choices=["linear", "nearest", "cubic", "area", "lanczos"], help="of --resize (default linear)")
    data.add_argument("--samples", type=int, help="use at most so many")


def _add_quantiser(parser: argparse.ArgumentParser) -> None:
    quant = parser.add_argument_group("quantiser")
    quant.add_argument(
        "--method",
        default="auto",
        type=_method,
        help=f"how ranges are chosen: {', '.join(METHODS)}; for ascend310 amct, or mse, rounding, bias joined by + (default auto)",
    )
    quant.add_argument("--percentile", type=float, default=99.99)
    every = ",".join(CORRECTIONS)
    quant.add_argument("--corrections", default=every, help=f"which to try (default {every})")
    quant.add_argument(
        "--no-corrections",
        action="store_const",
        const="",
        default=every,
        dest="corrections",
        help="none, as on the device",
    )
    quant.add_argument("--activations", default="int8", choices=list(ACTIVATIONS), help="type of quantised activations (default int8)")
    quant.add_argument(
        "--int16", action="append", default=[], help="node with int16 activations: NAME, type:Conv2D, re:EXPRESSION or tensor:NAME"
    )
    quant.add_argument("--bits", type=_bits, metavar="N", help="width of weights, 1 to 16 or mixed with --quant weight (default 8)")
    quant.add_argument("--bit-range", type=_bit_range, default=(2, 8), metavar="LOW,HIGH", help="widths for --bits mixed (default 2,8)")
    quant.add_argument(
        "--min-elements", type=int, default=0, metavar="N", help="weights with no more elements stay float (--quant weight, dynamic)"
    )
    quant.add_argument(
        "--min-channels", type=int, default=0, metavar="N", help="weights with no more channels stay float (--quant weight, dynamic)"
    )
    quant.add_argument(
        "--entropy",
        default="off",
        choices=list(ENTROPY),
        help="entropy-code weights: on where they get smaller, auto where clearly so; they are decoded when a session starts (default off)",
    )
    quant.add_argument(
        "--bounded-weights",
        choices=list(CHOICES),
        help="raise weight scales until sums of bytes fit 16 bits, for speed on AVX2 without VNNI: auto where that costs little accuracy"
        " (default off; auto with a --device that gains)",
    )
    quant.add_argument("--group", type=int, default=0, help="inputs that share a weight scale with --quant weight (0 = all of a channel)")


def _add_target(parser: argparse.ArgumentParser) -> None:
    target = parser.add_argument_group("accuracy target")
    target.add_argument("--max-drop", type=float, metavar="X", help="allow X less than the float model (top1: percentage points)")
    target.add_argument("--target-sqnr", type=float, metavar="DB", help="signal to noise that every output must reach")
    target.add_argument(
        "--target-size", metavar="SIZE", help="of a --quant weight file: 200k, 1.5M, or a part of the float one: 0.25, 25%%"
    )
    target.add_argument("--metric", choices=METRICS, help="what --max-drop is about (default: top1 with --labels, else cosine)")
    target.add_argument(
        "--validation", nargs="+", metavar="PATH", help="data for the metric, as --calibration (default: some of it, held out)"
    )
    target.add_argument("--labels", metavar="FILE", help="class of each validation sample: .npy, .npz or one number per line")
    target.add_argument("--eval", dest="evaluate", metavar="SCRIPT.py:FUNCTION", help="the metric: gets a session, gives a number")
    target.add_argument("--no-search", action="store_true", help="only check the target, look for no file that reaches it")
    target.add_argument("--min-int8", type=float, default=50.0, metavar="PERCENT", help="MACs that the search leaves in int8 (default 50)")
    target.add_argument("--best-effort", action="store_true", help="write the file even where the target is not reached")


def _preprocess(arguments: argparse.Namespace) -> Any:
    from .calibration import Preprocess, load_preprocess

    names = ("resize", "crop", "mean", "std", "channels", "interpolation")
    flags = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.preprocess:
        if flags:
            raise ConvertError(f"--{next(iter(flags))} and --preprocess exclude each other", rule="preprocess.flags", where="--preprocess")
        return load_preprocess(Path(arguments.preprocess))
    return Preprocess(**flags) if flags else None


# Flags of the Ascend target, named as its arguments.
_ASCEND = (
    "soc", "aipp", "batch", "batch_num", "dynamic_batch", "dynamic_image_size", "dynamic_dims", "opset", "name", "amct_version",
    "amct_config", "record", "compression",
)  # fmt: skip


def _warn(text: str) -> None:
    print(f"edge8: warning: {text}", file=sys.stderr)


def _convert(arguments: argparse.Namespace) -> int:
    options = {name: getattr(arguments, name) for name in _ASCEND if getattr(arguments, name) is not None}
    if options and arguments.target != "ascend310":
        flag = "--" + next(iter(options)).replace("_", "-")
        raise ConvertError(f"it belongs to --target ascend310, not {arguments.target}", rule="flag.target", where=flag, hint="Leave it out")
    if arguments.target == "onnx-qdq":
        options["codes"] = arguments.codes
    report = convert(
        arguments.model,
        arguments.output,
        target=arguments.target,
        quant=arguments.quant,
        calibration=arguments.calibration,
        input_shape=_shape_table(arguments),
        preprocess=_preprocess(arguments),
        method=arguments.method,
        percentile=arguments.percentile,
        bits=arguments.bits,
        bit_range=arguments.bit_range,
        group=arguments.group,
        min_elements=arguments.min_elements,
        min_channels=arguments.min_channels,
        skip=arguments.skip,
        corrections=[name for name in arguments.corrections.split(",") if name],
        io=arguments.io,
        activations=arguments.activations,
        int16=arguments.int16,
        entropy=arguments.entropy,
        bounded_weights=arguments.bounded_weights,
        device=arguments.device,
        max_samples=arguments.samples,
        max_drop=arguments.max_drop,
        target_sqnr=arguments.target_sqnr,
        target_size=arguments.target_size,
        metric=arguments.metric,
        validation=arguments.validation,
        labels=arguments.labels,
        evaluate=arguments.evaluate,
        search=not arguments.no_search,
        min_int8=arguments.min_int8,
        best_effort=arguments.best_effort,
        threads=arguments.threads,
        report=arguments.report,
        quiet=False,
        **options,
    )
    print(report)
    return 0


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="an .e8 file")
    parser.add_argument("--against", help="the ONNX model that it was made from, or a float .e8 file of it")
    parser.add_argument("--data", nargs="+", metavar="PATH", help="inputs to compare on, as --calibration of convert")
    parser.add_argument("-o", "--output", help="report to write, .html or .json (default: MODEL.report.html, in this folder)")
    parser.add_argument("--input-shape", action="append", type=_shapes, default=[], metavar="NAME:1,3,224,224")
    parser.add_argument("--threads", type=int, default=2)
    _add_preprocessing(parser)


def _report(arguments: argparse.Namespace) -> int:
    from .report.command import report_file
    from .report.text import as_text

    output = arguments.output or f"{Path(arguments.model).stem}.report.html"
    content = report_file(
        arguments.model,
        against=arguments.against,
        data=arguments.data,
        output=output,
        input_shape=_shape_table(arguments),
        preprocess=_preprocess(arguments),
        max_samples=arguments.samples,
        threads=arguments.threads,
    )
    print(as_text(content))
    print(f"written: {output}")
    return 0


def convert_main(argv: list[str] | None = None) -> int:
    """Entry point of `convert`; returns the exit code."""
    return host_main(["convert", *(sys.argv[1:] if argv is None else argv)])


def host_main(argv: list[str], debug: bool = False) -> int:
    """Run a host-side command of `edge8`: its name and arguments."""
    debug = debug or "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    name, rest = argv[0], argv[1:]
    if name == "convert":
        parser = argparse.ArgumentParser(prog="convert", description="Quantise a trained ONNX model for a device.")
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        _add_convert(parser)
        return run_command(lambda: _convert(parse_arguments(parser, rest, needed=("model", "output"), warn=_warn)), debug)
    if name == "report":
        parser = argparse.ArgumentParser(prog="edge8 report", description="Compare an .e8 file with its ONNX model, layer by layer.")
        _add_report(parser)
        arguments = parser.parse_args(rest)
        return run_command(lambda: _report(arguments), debug)
    if name in COMMANDS:
        return run_command(lambda: COMMANDS[name](rest), debug)
    raise ConvertError(f"unknown command {name!r}", rule="command", hint="See edge8 --help")
