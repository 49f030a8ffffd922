# SPDX-License-Identifier: Apache-2.0
"""Quantisers side by side, on the same pictures: accuracy, and the time and memory of a calibration.

    python tests/e2e/quantisers.py accuracy [NETWORK ...]     # mobilenetv2, efficientnet_lite0 on tux114, fashion_mnist
    python tests/e2e/quantisers.py speed [--samples 100]      # ResNet-50 of runtime_c/bench/networks.py

Beside edge8: onnxruntime's static quantisation, NNCF (default, and with full bias correction), LiteRT's ai-edge-quantizer, MNN, and ncnn
where its programs are on PATH. What is not installed is skipped and said so; `pip install edge8[rivals]` brings it. Each quantiser, and
each run of what it made, is a process of its own.

On CPUs without VNNI onnxruntime and OpenVINO compute with instructions that saturate. So their models are scored twice: as they run here,
and with the quantised model computed in float32, which is what the quantiser decided.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from edge8.converter.api import convert  # noqa: E402
from edge8.converter.quant.corrections import CORRECTIONS  # noqa: E402
from edge8.converter.rivals import Contestant, Network  # noqa: E402
from edge8.converter.rivals.desktop import Edge8Int8, OpenVinoInt8, OrtInt8  # noqa: E402
from edge8.converter.rivals.mobile import LiteRtInt8, MnnInt8, NcnnInt8  # noqa: E402
from edge8.converter.rivals.network import open_network  # noqa: E402
from tests.e2e.accuracy import Task, scores, tasks  # noqa: E402
from tests.fetch import bench_networks  # noqa: E402

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class PictureNetwork(Network):
    """A network with real calibration inputs instead of noise; ``mean`` and ``scale`` make pictures of them again."""

    inputs: tuple[Array, ...] = ()
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def sample(self, seed: int) -> Array:
        return self.inputs[seed]

    def pixels(self, seed: int) -> Array:
        x = self.inputs[seed][0].transpose(1, 2, 0) / np.float32(self.scale) + np.float32(self.mean)
        return np.rint(x).astype(np.uint8)

    def normalisation(self) -> tuple[list[float], list[float]]:
        return list(self.mean), list(self.scale)


class Edge8Corrected(Edge8Int8):
    """The defaults of `convert`."""

    name = "edge8 default"
    corrections: tuple[str, ...] = CORRECTIONS
    method = "auto"

    def prepare(self, network: Network, samples: int) -> None:
        data = Inputs(network, samples)
        made = str(self.path(network))
        convert(str(network.path), made, calibration=data, corrections=self.corrections, method=self.method, threads=2)


class Edge8Plain(Edge8Corrected):
    """Ranges only."""

    name, corrections = "edge8 auto, no corrections", ()


class Edge8MinMax(Edge8Corrected):
    """Like the rivals' fastest."""

    name, corrections, method = "edge8 minmax, no corrections", (), "minmax"


class Inputs:
    """Calibration inputs, made when they are asked for."""

    def __init__(self, network: Network, count: int) -> None:
        self.network, self.count = network, count

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return ({self.network.input: self.network.sample(i)} for i in range(self.count))


class OrtMinMax(OrtInt8):
    name = "onnxruntime min-max"


class OrtPercentile(OrtInt8):
    name, method = "onnxruntime percentile", "Percentile"


class OrtEntropy(OrtInt8):
    name, method = "onnxruntime entropy", "Entropy"


class Nncf(OpenVinoInt8):
    name = "nncf default"


class NncfFullCorrection(OpenVinoInt8):
    name, fast = "nncf full bias correction", False


class LiteRt(LiteRtInt8):
    name = "litert min-max"


class MnnKl(MnnInt8):
    name = "mnn KL"


class MnnEma(MnnInt8):
    name, method = "mnn EMA", "EMA"


class NcnnKl(NcnnInt8):
    name = "ncnn KL"


class NcnnAciq(NcnnInt8):
    name, method = "ncnn ACIQ", "aciq"


QUANTISERS: list[Contestant] = [
    Edge8Corrected(), Edge8Plain(), Edge8MinMax(), OrtMinMax(), OrtPercentile(), OrtEntropy(), Nncf(),
    NncfFullCorrection(), LiteRt(), MnnKl(), MnnEma(), NcnnKl(), NcnnAciq(),
]  # fmt: skip
SPEED = "resnet50"
NORMALISED = {
    "mobilenetv2": ((123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375)),
    "efficientnet_lite0": ((127.0,) * 3, (1 / 128,) * 3),
    "fashion_mnist": ((127.5,), (1 / 127.5,)),
}


def _task(name: str) -> Task | None:
    return next(iter(tasks([name])), None)


def _network(task: Task, work: Path) -> PictureNetwork:
    base = open_network(task.path, work)
    mean, scale = NORMALISED[task.name]
    inputs = tuple(x[base.input] for x in task.calibration)
    return PictureNetwork(task.name, base.path, base.folder, base.input, base.shape, inputs, mean, scale)


def _speed_network(work: Path) -> Network:
    network = open_network(bench_networks().write(SPEED, work), work)
    plain = {**dataclasses.asdict(network), "path": str(network.path), "folder": str(network.folder)}
    (work / "speed.json").write_text(json.dumps(plain))
    return network


def _known_network(work: Path) -> Network:
    """The network of `_speed_network` without opening it, which would count as the quantiser's memory."""
    s = json.loads((work / "speed.json").read_text())
    return Network(s["name"], Path(s["path"]), Path(s["folder"]), s["input"], tuple(s["shape"]))


def _score(quantiser: Contestant, task: Task, network: Network, exact: bool) -> Array:
    if isinstance(quantiser, OrtInt8 | OpenVinoInt8):
        quantiser.in_float = exact
    run = quantiser.load(network, 2)
    rows = [np.array(run(x[network.input]), np.float32).reshape(1, -1) for x in task.test]
    return np.concatenate(rows)


def _step(arguments: argparse.Namespace) -> int:
    """One step in a process of its own: prepare, or run and save the outputs."""
    quantiser = next(q for q in QUANTISERS if q.name == arguments.quantiser)
    work = Path(arguments.work)
    if arguments.network == SPEED:
        network = _known_network(work)
    else:
        task = _task(arguments.network)
        assert task is not None
        network = _network(task, work)
    try:
        if arguments.step == "prepare":
            quantiser.prepare(network, arguments.samples)
        else:
            np.save(arguments.out, _score(quantiser, task, network, arguments.step == "exact"))
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", file=sys.stderr)
        return 1
    status = Path("/proc/self/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    (work / "peak").write_text(str(1024 * max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)))
    return 0


@dataclasses.dataclass
class Cost:
    """What a step took, or why it failed."""

    reason: str | None
    wall: float
    processor: float
    peak_bytes: int


def _run(step: str, quantiser: Contestant, network: str, work: Path, samples: int, out: Path | None = None) -> Cost:
    command = [sys.executable, __file__, "step", step, quantiser.name, network, str(work), "--samples", str(samples)]
    command += ["--out", str(out)] if out else []
    with tempfile.TemporaryFile("w+") as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if line.strip()] or [f"exit code {process.returncode}"]
    reason = None if process.returncode == 0 else lines[-1][:160]
    # The process tells its peak itself: the system's figure would begin at that of its parent.
    peak = 0 if reason else int((work / "peak").read_text())
    return Cost(reason, wall, usage.ru_utime + usage.ru_stime, peak)


def _chosen(wanted: str) -> list[Contestant]:
    words = [word for word in wanted.split(",") if word]
    return [q for q in QUANTISERS if not words or any(word in q.name for word in words)]


def accuracy(arguments: argparse.Namespace) -> int:
    """Print top-1, agreement and SQNR of every quantiser on every network."""
    import onnxruntime

    for task in tasks(arguments.networks):
        session = onnxruntime.InferenceSession(str(task.path), providers=["CPUExecutionProvider"])
        reference = np.concatenate([session.run(None, s)[0] for s in task.test]).reshape(len(task.test), -1)
        print(f"{task.name}: {len(task.calibration)} pictures calibrate, {len(task.test)} are scored", flush=True)
        print(scores("float (onnxruntime)", reference, reference, task.labels))
        with tempfile.TemporaryDirectory() as name:
            work, out = Path(name), Path(name) / "y.npy"
            for quantiser in _chosen(arguments.quantisers):
                reason = quantiser.missing() or _run("prepare", quantiser, task.name, work, len(task.calibration)).reason
                for step in ["run"] + (["exact"] if isinstance(quantiser, OrtInt8 | OpenVinoInt8) else []):
                    reason = reason or _run(step, quantiser, task.name, work, 0, out).reason
                    label = quantiser.name if step == "run" else "  computed in float32"
                    print(f"  {label:28} skipped: {reason}" if reason else scores(label, np.load(out), reference, task.labels), flush=True)
    return 0


def speed(arguments: argparse.Namespace) -> int:
    """Print wall time, processor time and peak memory of quantising ResNet-50, the whole tool in a fresh process."""
    print(f"| quantiser | {arguments.samples} images, s | processor s | images/s | peak MB |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        work = Path(arguments.work or name)
        network = _speed_network(work)
        for quantiser in _chosen(arguments.quantisers):
            reason = quantiser.missing() or quantiser.prepare_source(network)
            cost = Cost(reason, 0, 0, 0) if reason else _run("prepare", quantiser, SPEED, work, arguments.samples)
            if cost.reason:
                print(f"| {quantiser.name} | skipped: {cost.reason} | | | |", flush=True)
                continue
            rate = arguments.samples / cost.wall
            print(f"| {quantiser.name} | {cost.wall:.1f} | {cost.processor:.1f} | {rate:.1f} | {cost.peak_bytes / 1e6:.0f} |", flush=True)
    return 0


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("accuracy")
    command.add_argument("networks", nargs="*")
    command.set_defaults(function=accuracy)
    other = commands.add_parser("speed")
    other.add_argument("--samples", type=int, default=100)
    other.add_argument("--work", help="folder for models (a temporary one)")
    other.set_defaults(function=speed)
    fast = "edge8,onnxruntime min-max,nncf default,litert,mnn KL,ncnn"  # onnxruntime's histograms keep every activation of every image
    for c, default in ((command, ""), (other, fast)):
        c.add_argument("--quantisers", default=default, help="those whose names hold one of these words (comma-separated)")
    step = commands.add_parser("step")
    step.add_argument("step", choices=["prepare", "run", "exact"])
    for name in ("quantiser", "network", "work"):
        step.add_argument(name)
    step.add_argument("--samples", type=int, default=0)
    step.add_argument("--out")
    step.set_defaults(function=_step)
    arguments = parser.parse_args()
    function: Callable[[argparse.Namespace], int] = arguments.function
    return function(arguments)


if __name__ == "__main__":
    sys.exit(main())
