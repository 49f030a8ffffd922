# SPDX-License-Identifier: Apache-2.0
"""Instructions per inference of edge8 and of the aarch64 wheels of LiteRT, onnxruntime and ncnn, on emulated processors.

    python runtime_c/bench/peers.py FOLDER [--cpu cortex-a53 --cpu cortex-a76] [mobilenetv1 mobilenetv2 resnet50 dscnn_kws]

The networks come from networks.py; the host quantises them with each runtime's own tools (pip install 'edge8[rivals]'). The board is a
Debian root for arm64 (Debian: mmdebstrap, qemu-user) with the runtimes' wheels from PyPI. Everything stays in FOLDER for the next call.

instructions.py counts: one thread, the difference of two numbers of runs. The runtimes choose their kernels by what /proc/cpuinfo of
the root says, and that describes the emulated processor. ncnn runs float32: its quantiser's programs are in no wheel. Vector
instructions that only multiply and accumulate are given as well, as MACs / 16 with dot product and 3 MACs / 16 without: no program
needs fewer, whatever else it does.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import networks
from instructions import build_plugin, build_runner, per_inference

NETWORKS = ["mobilenetv1", "mobilenetv2", "resnet50", "dscnn_kws"]
MACS = {"mobilenetv1": 568_740_352, "mobilenetv2": 300_774_272, "resnet50": 4_089_184_256, "dscnn_kws": 2_656_768}
WHEELS = ["ai-edge-litert", "onnxruntime", "ncnn", "numpy"]
RUNTIMES = {"litert int8": "litert", "onnxruntime int8": "onnxruntime", "onnxruntime s8s8": "onnxruntime", "ncnn fp32": "ncnn"}

# What the kernel of such a board says in /proc/cpuinfo: features, part number; and instructions per 16 multiply-accumulates.
FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
CPUS = {
    "cortex-a53": (FEATURES, 0xD03, 3),
    "cortex-a72": (FEATURES, 0xD08, 3),
    "cortex-a76": (FEATURES + " atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp", 0xD0B, 1),
}


def make_root(folder: Path) -> Path:
    """A Debian root with Python."""
    root = folder / "root"
    if not (root / "usr" / "bin" / "python3").exists():
        include = "--include=python3,libstdc++6,libgomp1"
        subprocess.run(["mmdebstrap", "--quiet", "--variant=extract", "--arch=arm64", include, "bookworm", str(root)], check=True)
    cpu = root / "sys" / "devices" / "system" / "cpu"
    topology = cpu / "cpu0" / "topology"
    topology.mkdir(parents=True, exist_ok=True)
    (root / "proc").mkdir(exist_ok=True)
    for path, text in [
        *((cpu / name, "0") for name in ("possible", "present", "online", "kernel_max")),
        *((topology / name, "0") for name in ("core_id", "physical_package_id", "core_siblings_list", "thread_siblings_list")),
    ]:
        path.write_text(text + "\n")
    return root


def install_wheels(folder: Path) -> Path:
    """The runtimes for aarch64 and Python 3.11, which Debian 12 has."""
    site = folder / "site"
    if not site.is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(site), "--only-binary=:all:", "--python-version", "3.11"]
        for platform in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"):
            command += ["--platform", f"{platform}_aarch64"]
        subprocess.run([*command, *WHEELS], check=True)
    return site


def prepare(folder: Path, name: str) -> dict[str, Path]:
    """The network in the form of each runtime; what cannot be made is said and left out."""
    from edge8.converter.rivals import contestants
    from edge8.converter.rivals.network import open_network

    network = open_network(networks.write(name, folder / "networks"), folder / "made")
    made: dict[str, Path] = {}
    for contestant in ["edge8 int8", *RUNTIMES]:
        who = contestants()[contestant]
        if not who.path(network).exists():
            try:
                who.prepare(network, 4)
            except Exception as error:
                print(f"{name}: {contestant} cannot be prepared: {error}", file=sys.stderr)
                continue
        np.save(who.path(network).with_suffix(".shape.npy"), np.array(network.shape))
        made[contestant] = who.path(network)
    return made


def describe(root: Path, cpu: str) -> None:
    """Write the root's /proc/cpuinfo."""
    features, part, _ = CPUS[cpu]
    (root / "proc" / "cpuinfo").write_text(
        f"processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x0\nCPU part\t: {part:#x}\nCPU revision\t: 4\n\n"
    )


def measure(folder: Path, plugin: Path, runner: Path, cpu: str, made: dict[str, Path], more: int) -> dict[str, float]:
    """Instructions per inference of each contestant."""
    root, site = make_root(folder), install_wheels(folder)
    describe(root, cpu)
    python, script = root / "usr" / "bin" / "python3", Path(__file__).resolve().parent / "peer_run.py"
    found: dict[str, float] = {}
    for who, path in made.items():
        if who == "edge8 int8":
            found[who] = per_inference(plugin, cpu, [str(runner), str(path), "--bench", "{runs}"])
            continue
        try:
            found[who] = per_inference(plugin, cpu, [str(python), str(script), RUNTIMES[who], str(path), "{runs}"], root, site, more)
        except RuntimeError as error:
            print(f"{who} on {cpu}: {error}", file=sys.stderr)
    return found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare instructions per inference with other runtimes on emulated boards.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="network", help=", ".join(NETWORKS))
    parser.add_argument("--cpu", action="append", choices=list(CPUS), help="may be given several times; default: cortex-a53, cortex-a76")
    arguments = parser.parse_args()
    for program, package in (("qemu-aarch64", "qemu-user"), ("mmdebstrap", "mmdebstrap")):
        if shutil.which(program) is None:
            print(f"peers: {program} is absent (Debian: {package})", file=sys.stderr)
            return 2
    folder = arguments.folder.resolve()
    columns = ["edge8 int8", *RUNTIMES]
    print("| network | processor | " + " | ".join(columns) + " | edge8 / best | multiplying alone / best |")
    print("| --- | --- |" + " --- |" * (len(columns) + 2))
    with tempfile.TemporaryDirectory() as text:
        plugin, runner = build_plugin(Path(text)), build_runner(Path(text))
        for name in arguments.networks:
            made = prepare(folder, name)
            for cpu in arguments.cpu or ["cortex-a53", "cortex-a76"]:
                # Python's start differs by tens of millions of instructions from one time to the next.
                found = measure(folder, plugin, runner, cpu, made, 2 if MACS[name] > 10**8 else 1500)
                best = min((v for who, v in found.items() if who != "edge8 int8"), default=float("nan"))
                cells = [f"{found[who] / 1e6:,.2f}" if who in found else "-" for who in columns]
                least = MACS[name] / 16 * CPUS[cpu][2] / best
                print(f"| {name} | {cpu} | {' | '.join(cells)} | {found['edge8 int8'] / best:.2f} | {least:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
