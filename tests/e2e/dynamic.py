# SPDX-License-Identifier: Apache-2.0
"""Dynamic quantisation beside onnxruntime's `quantize_dynamic`: `python tests/e2e/dynamic.py`.

Cosine and SQNR against float, and file sizes. Of onnxruntime each combination of weights per tensor or per channel and signed or
unsigned, on MatMul and Gemm; "products alone" leaves other weights in float here too.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxslim

from edge8.converter.api import convert_graph, load_graph
from edge8.converter.quant.scheme import Scheme
from edge8.converter.quant.weights import WEIGHTS_INPUT

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "runtime_c" / "bench")]
import networks as bench  # noqa: E402

from tests.e2e.networks import Outputs, distance, run_edge8, run_onnxruntime  # noqa: E402
from tests.fetch import NETWORKS, network  # noqa: E402
from tests.samples import samples  # noqa: E402


def rivals(path: Path, test: list[Outputs], reference: Outputs, folder: Path) -> None:
    """Print onnxruntime's lines."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    made = folder / "dynamic.onnx"
    onnx.save(onnxslim.slim(str(path)), folder / "slim.onnx")
    for per_channel in (False, True):
        for kind in (QuantType.QInt8, QuantType.QUInt8):
            quantize_dynamic(folder / "slim.onnx", made, op_types_to_quantize=["MatMul", "Gemm"], per_channel=per_channel, weight_type=kind)
            name = f"{kind.name} per {'channel' if per_channel else 'tensor'}"
            print(f"  onnxruntime {name:19} {distance(run_onnxruntime(made, test), reference)}  {made.stat().st_size:>11,} B", flush=True)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        random = np.random.default_rng(3)
        noise = [{"input": random.normal(size=(1, 128, 384)).astype(np.float32)} for _ in range(12)]
        cases = [("minilm6 (random weights)", bench.write("minilm6", folder), None, noise)]
        for name in ("ppocr-recognition", "magika-standard"):
            cases.append((name, Path(network(name)), NETWORKS[name].shapes, samples(name, 12, 2)))
        for name, path, shapes, test in cases:
            print(name)
            reference = run_onnxruntime(path, test)
            graph = load_graph(path, shapes)
            others = tuple(f"type:{op}" for op in sorted({n.op for n in graph.nodes} & set(WEIGHTS_INPUT)) if op != "FullyConnected")
            for title, mode, skip in (*((m, m, ()) for m in ("float", "weight", "dynamic")), ("products alone", "dynamic", others)):
                data, decisions, _, _ = convert_graph(graph, Scheme(mode=mode, skip=skip))
                took = sum(d.domain == "dynamic" for d in decisions)
                print(f"  edge8 {title:25} {distance(run_edge8(data, test), reference)}  {len(data):>11,} B  {took} products", flush=True)
            rivals(path, test, reference, folder)


if __name__ == "__main__":
    main()
