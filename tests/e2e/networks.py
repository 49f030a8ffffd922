# SPDX-License-Identifier: Apache-2.0
"""Every third-party network in both modes beside onnxruntime: `python tests/e2e/networks.py [NETWORK...]`.

Float: the largest difference from onnxruntime, relative to the largest output. Int8: cosine and SQNR against float, ours and
onnxruntime's static quantisation (uint8 activations, int8 weights per channel, min-max) with the same calibration inputs, on other inputs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import edge8
from edge8.converter.api import convert_graph, load_graph, outputs_of
from edge8.converter.quant.corrections import CORRECTIONS
from edge8.converter.quant.scheme import Scheme

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.e2e.accuracy import quantise_onnxruntime
from tests.fetch import NETWORKS, Unavailable, network
from tests.samples import samples

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]


def run_edge8(data: bytes, inputs: list[Outputs]) -> Outputs:
    """Outputs by name, over all inputs."""
    model = edge8.Model(data)
    session = model.session(2)
    results = [outputs_of(session(x), model) for x in inputs]
    return {name: np.stack([r[name] for r in results]) for name in results[0]}


def run_onnxruntime(path: str | Path, inputs: list[Outputs]) -> Outputs:
    """Outputs by name, over all inputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    results = [session.run(None, x) for x in inputs]
    return {name: np.stack([r[i] for r in results]) for i, name in enumerate(names)}


def distance(y: Outputs, reference: Outputs) -> str:
    """Cosine and SQNR of each output."""
    parts = []
    for name, r in reference.items():
        a, b = y[name].astype(np.float64), r.astype(np.float64)
        cosine = float(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-30))
        sqnr = 10 * np.log10(np.sum(b * b) / max(float(np.sum((a - b) ** 2)), 1e-30))
        parts.append(f"{cosine:.4f} {sqnr:5.1f} dB")
    return " | ".join(parts)


def row(name: str, method: str, rivals: bool) -> None:
    """Print a network's lines."""
    path = network(name)
    shapes = NETWORKS[name].shapes
    calibration, test = samples(name, 24, 1), samples(name, 12, 2)
    reference = run_onnxruntime(path, test)
    graph = load_graph(path, shapes)
    own = run_edge8(convert_graph(graph, Scheme(mode="float"))[0], test)
    worst = max(float(np.abs(own[n] - r).max() / max(np.abs(r).max(), 1e-30)) for n, r in reference.items())
    print(f"{name}: float within {worst:.1e} of onnxruntime", flush=True)
    data, decisions, _, _ = convert_graph(graph, Scheme(), calibration, method=method, threads=2, corrections=CORRECTIONS)
    model = edge8.Model(data)
    other = sorted({f"{d.op}" for d in decisions if d.domain != "int8"})
    print(f"  edge8 int8 {method:12} {distance(run_edge8(data, test), reference)}  ({len(data):,} B, arena {model.arena_bytes():,} B)")
    if other:
        print(f"  not in int8: {', '.join(other)}")
    if rivals:
        with tempfile.TemporaryDirectory() as folder:
            try:
                quantise_onnxruntime(path, calibration, f"{folder}/q.onnx", "MinMax")
                print(f"  onnxruntime int8 MinMax {distance(run_onnxruntime(f'{folder}/q.onnx', test), reference)}", flush=True)
            except Exception as error:
                print(f"  onnxruntime int8: {type(error).__name__} {str(error)[:120]}", flush=True)


def main() -> None:
    """Print the table; says what is skipped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--method", default="auto")
    parser.add_argument("--no-rivals", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.networks or NETWORKS:
        try:
            row(name, arguments.method, not arguments.no_rivals)
        except Unavailable as error:
            print(f"skipped {name}: {error}")


if __name__ == "__main__":
    main()
