# SPDX-License-Identifier: Apache-2.0
"""The main job on a real network: convert a Fashion-MNIST classifier to int8, run it on the C runtime, and score it.

`make demo` runs it. The network, 200 calibration pictures and 1,000 labelled test pictures lie beside this file.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import edge8
from edge8.converter import convert

HERE = Path(__file__).resolve().parent / "fashion_mnist"
Array = np.ndarray[Any, Any]


def pictures(name: str) -> tuple[Array, Array]:
    """Inputs [n, 1, 28, 28] float32 and labels [n] of an archive beside this file."""
    with np.load(HERE / name) as archive:
        image = (archive["image"].astype(np.float32) - 127.5) / 127.5
        return np.ascontiguousarray(image.transpose(0, 3, 1, 2)), archive["label"]


def milliseconds(function: Callable[[], Any], repeats: int = 300) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def onnxruntime_latency(path: Path, x: Array) -> str:
    """Float latency of onnxruntime on one thread, or why there is none."""
    try:
        import onnxruntime
    except ImportError:
        return "not installed"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return f"{milliseconds(lambda: session.run(None, {name: x})):.3f} ms"


def main() -> None:
    """Convert, run, score, print."""
    x, labels = pictures("test.npz")
    network, calibration = HERE / "model.onnx", HERE / "calibration.npz"
    with tempfile.TemporaryDirectory() as folder:
        exact = convert(network, Path(folder) / "float.e8", quant="float")
        report = convert(network, Path(folder) / "int8.e8", calibration=calibration, preprocess=HERE / "preprocess.toml", quiet=False)
        sessions = {name: edge8.Model(Path(folder) / f"{name}.e8").session() for name in ("float", "int8")}
        logits = {name: np.asarray(session(x)) for name, session in sessions.items()}
        latency = {name: milliseconds(lambda s=session: s(x[:1])) for name, session in sessions.items()}  # type: ignore[misc]
    print(report, end="\n\n")
    guess = {name: y.argmax(1) for name, y in logits.items()}
    noise = np.sum((logits["float"] - logits["int8"]) ** 2)
    right = {name: 100 * float(np.mean(g == labels)) for name, g in guess.items()}
    print(f"                   {'float':>12} {'int8':>12}")
    print(f"accuracy           {right['float']:11.1f}% {right['int8']:11.1f}%   of {len(x)} labelled pictures")
    print(f"file               {len(exact.data):10,} B {len(report.data):10,} B   the ONNX file has {network.stat().st_size:,} B")
    print(f"arena              {exact.arena_bytes:10,} B {report.arena_bytes:10,} B")
    print(f"latency            {latency['float']:9.3f} ms {latency['int8']:9.3f} ms   one picture, one thread, level {edge8.cpu.level()}")
    print(f"onnxruntime float  {onnxruntime_latency(network, x[:1]):>12}")
    agree, sqnr = 100 * np.mean(guess["float"] == guess["int8"]), 10 * np.log10(np.sum(logits["float"] ** 2) / noise)
    print(f"\nint8 agrees with float on {agree:.1f} % of the pictures; SQNR of the logits {sqnr:.1f} dB")


if __name__ == "__main__":
    main()
