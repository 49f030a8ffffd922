# SPDX-License-Identifier: Apache-2.0
"""Host-side subcommands of `edge8` beside convert: bench against other runtimes, devices, deploy, and verify of an Ascend 310 folder."""

from __future__ import annotations

import argparse

__all__ = ["COMMANDS", "bench_command", "deploy_command", "devices_command", "sizes_command", "verify_command", "wheel_command"]


def devices_command(argv: list[str]) -> int:
    """`edge8 devices`: the table of profiles."""
    argparse.ArgumentParser(prog="edge8 devices", description="List the boards and CPUs that edge8 has profiles of.").parse_args(argv)
    from .devices import format_devices

    print(format_devices())
    return 0


def deploy_command(argv: list[str]) -> int:
    """`edge8 deploy`: a folder that runs a model on a board."""
    parser = argparse.ArgumentParser(prog="edge8 deploy", description="Make a folder that runs a model on a board with nothing else.")
    parser.add_argument("model", help="the .e8 file")
    parser.add_argument("--device", required=True, help="name of a profile (`edge8 devices`), or path of a .toml")
    parser.add_argument("-o", "--output", required=True, help="folder to make; it must not exist")
    parser.add_argument("--toolchain", default="auto", help="auto, gcc, zig, or path of a CMake toolchain file")
    parser.add_argument(
        "--ops-from", nargs="*", metavar="NET.e8", help="hold only the operators and number formats that the model, and these files, need"
    )
    parser.add_argument("--array", action="store_true", help="add the model as a C array")
    parser.add_argument("--wheel", default="none", help="none, build, or path of a wheel to add")
    arguments = parser.parse_args(argv)
    from .deploy import deploy

    options = {"toolchain": arguments.toolchain, "ops_from": arguments.ops_from, "array": arguments.array, "wheel": arguments.wheel}
    print(deploy(arguments.model, arguments.device, arguments.output, quiet=False, **options))
    return 0


def sizes_command(argv: list[str]) -> int:
    """`edge8 sizes`: flash, RAM and stack of models on a microcontroller."""
    text = "Print the flash, RAM and stack that models take on a microcontroller, each with a library pruned to its operators."
    parser = argparse.ArgumentParser(prog="edge8 sizes", description=text)
    parser.add_argument("models", nargs="+", metavar="NET.e8")
    parser.add_argument("--device", default="cortex-m4", help="name of a profile (`edge8 devices`), or path of a .toml")
    parser.add_argument("--whole", action="store_true", help="with all operators and number formats instead")
    arguments = parser.parse_args(argv)
    from .sizes import format_sizes

    print(format_sizes(arguments.models, arguments.device, whole=arguments.whole))
    return 0


def wheel_command(argv: list[str]) -> int:
    """`edge8 wheel`: the Python package for a board, cross-compiled."""
    parser = argparse.ArgumentParser(prog="edge8 wheel", description="Build the Python package for a board from a checkout of edge8.")
    parser.add_argument("--device", required=True, help="name of a profile (`edge8 devices`), or path of a .toml")
    parser.add_argument("-o", "--output", default="dist", help="folder for the wheel (default dist)")
    parser.add_argument(
        "--toolchain",
        choices=("auto", "gcc", "zig"),
        default="auto",
        help="zig: for old C libraries, so a manylinux wheel; gcc: for Debian 12 or newer; auto: zig if it is installed",
    )
    arguments = parser.parse_args(argv)
    from pathlib import Path

    from .devices import load_device
    from .wheel import build_wheel

    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    print(build_wheel(load_device(arguments.device), folder, arguments.toolchain))
    return 0


def verify_command(argv: list[str]) -> int:
    """`edge8 verify FOLDER`: every rule of the Ascend 310 target, and with data a simulated run."""
    parser = argparse.ArgumentParser(prog="edge8 verify", description="Check a folder that was made for Ascend 310.")
    parser.add_argument("folder")
    parser.add_argument("--data", nargs="+", help="samples: run deploy and fake_quant model on them beside float")
    parser.add_argument("--samples", type=int, help="use at most so many")
    arguments = parser.parse_args(argv)
    from .targets.ascend310 import verify_folder

    report = verify_folder(arguments.folder, data=arguments.data, max_samples=arguments.samples, quiet=False)
    print(report)
    return 0 if report.ok else 1


def bench_command(argv: list[str]) -> int:
    """`edge8 bench NET.onnx --against RIVALS`: edge8 beside other runtimes."""
    from .rivals.command import bench_command as compare

    return compare(argv)


COMMANDS = {
    "bench": bench_command,
    "devices": devices_command,
    "deploy": deploy_command,
    "sizes": sizes_command,
    "verify": verify_command,
    "wheel": wheel_command,
}
