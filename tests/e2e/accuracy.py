# SPDX-License-Identifier: Apache-2.0
"""Accuracy of full int8 beside onnxruntime's static quantisation, with the same pictures: `python tests/e2e/accuracy.py [NETWORK...]`.

Labelled pictures: `tux114.npz` of the shared models (the first 50 calibrate, the rest are scored) and the demo's Fashion-MNIST. Other
networks are scored on what tests/samples.py makes for them. Prints top-1 of float and int8, agreement with float, SQNR and cosine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edge8
from edge8.converter.api import convert_graph, load_graph, outputs_of
from edge8.converter.quant.bounded_weights import CHOICES
from edge8.converter.quant.corrections import CORRECTIONS
from edge8.converter.quant.scheme import Scheme

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.fetch import shared_models

Array = np.ndarray[Any, Any]
Sample = dict[str, Array]
DEMO = Path(__file__).resolve().parents[2] / "converter" / "examples" / "fashion_mnist"


@dataclass
class Task:
    """A network with pictures to calibrate on and labelled pictures to score."""

    name: str
    path: Path
    calibration: list[Sample]
    test: list[Sample]
    labels: Array | None


def tux_task(models: Path, name: str, mean: list[float], std: list[float]) -> Task:
    """An ImageNet classifier on tux114: every other picture calibrates (50 of them), the rest is scored."""
    with np.load(models / "tux114.npz") as archive:
        images, labels = archive["images"], archive["labels"]
    x = ((images.astype(np.float32) - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2)
    order = np.random.default_rng(0).permutation(len(x))
    calibration, test = order[:50], order[50:]
    return Task(
        name, models / f"{name}.onnx", [{"input": x[i : i + 1]} for i in calibration], [{"input": x[i : i + 1]} for i in test], labels[test]
    )


def demo_task() -> Task:
    """The demo's network: 200 pictures calibrate, 1,000 are scored."""

    def read(name: str) -> tuple[Array, Array]:
        with np.load(DEMO / name) as archive:
            return ((archive["image"].astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2), archive["label"]

    (c, _), (x, labels) = read("calibration.npz"), read("test.npz")
    return Task(
        "fashion_mnist",
        DEMO / "model.onnx",
        [{"image": c[i : i + 1]} for i in range(len(c))],
        [{"image": x[i : i + 1]} for i in range(len(x))],
        labels,
    )


def tasks(wanted: list[str]) -> Iterator[Task]:
    """The tasks whose data is here; says what is skipped."""
    models = shared_models()
    makers = {
        "fashion_mnist": demo_task,
        "mobilenetv2": lambda: tux_task(models, "mobilenetv2", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),  # type: ignore[arg-type]
        "efficientnet_lite0": lambda: tux_task(models, "efficientnet_lite0", [127.0] * 3, [128.0] * 3),  # type: ignore[arg-type]
    }
    for name, make in makers.items():
        if wanted and name not in wanted:
            continue
        if name != "fashion_mnist" and models is None:
            print(f"skipped {name}: the shared models are not here")
            continue
        task = make()
        # The one input may have another name.
        own = load_graph(task.path).inputs[0]
        for samples in (task.calibration, task.test):
            samples[:] = [{own: next(iter(s.values()))} for s in samples]
        yield task


def run_edge8(data: bytes, samples: list[Sample]) -> Array:
    """First output for each sample, stacked."""
    model = edge8.Model(data)
    session = model.session(2)
    return np.concatenate([next(iter(outputs_of(session(s), model).values())) for s in samples])


def run_onnxruntime(path: str, samples: list[Sample], *, exact: bool = False) -> Array:
    """First output for each sample, stacked. `exact` computes QuantizeLinear and DequantizeLinear in float as they stand: on CPUs without
    VNNI onnxruntime's integer kernels saturate in VPMADDUBSW, which costs many dB."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, s)[0] for s in samples])


def quantise_onnxruntime(path: Path, samples: list[Sample], output: str, method: str) -> None:
    """onnxruntime's static quantisation: uint8 activations, int8 weights per channel, after quant_pre_process."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> Sample | None:
            return next(self.left, None)

    quant_pre_process(str(path), output + ".pre")
    quantize_static(
        output + ".pre", output, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, calibrate_method=getattr(CalibrationMethod, method),
    )  # fmt: skip


def scores(name: str, y: Array, reference: Array, labels: Array | None) -> str:
    """A row of the table."""
    noise = np.sum((reference.astype(np.float64) - y) ** 2)
    sqnr = 10 * np.log10(np.sum(reference.astype(np.float64) ** 2) / max(noise, 1e-30))
    cosine = float(np.sum(reference * y) / (np.linalg.norm(reference) * np.linalg.norm(y)))
    top = "    -" if labels is None else f"{100 * np.mean(y.argmax(-1) == labels):5.1f}"
    agreement = 100 * np.mean(y.argmax(-1) == reference.argmax(-1))
    return f"  {name:28} top-1 {top} %  agreement {agreement:5.1f} %  SQNR {sqnr:5.1f} dB  cosine {cosine:.5f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--methods", default="minmax,percentile,auto")
    parser.add_argument("--bounded-weights", default="off", choices=list(CHOICES))
    parser.add_argument("--rivals", default="MinMax,Percentile")
    arguments = parser.parse_args()
    for task in tasks(arguments.networks):
        reference = run_onnxruntime(str(task.path), task.test)
        print(f"{task.name}: {len(task.calibration)} pictures calibrate, {len(task.test)} are scored")
        print(scores("float (onnxruntime)", reference, reference, task.labels))
        graph = load_graph(task.path)
        print(scores("edge8 float", run_edge8(convert_graph(graph, Scheme(mode="float"))[0], task.test), reference, task.labels))
        for method in filter(None, arguments.methods.split(",")):
            start = time.perf_counter()
            corrections = CORRECTIONS if method == "auto" else ()
            scheme = Scheme(bounded_weights=arguments.bounded_weights)
            data = convert_graph(graph, scheme, task.calibration, method=method, threads=2, corrections=corrections)[0]
            name = f"edge8 int8 {method}{', corrected' if corrections else ''}"
            print(scores(name, run_edge8(data, task.test), reference, task.labels), f" {time.perf_counter() - start:.1f} s")
        with tempfile.TemporaryDirectory() as folder:
            for method in filter(None, arguments.rivals.split(",")):
                path = f"{folder}/{method}.onnx"
                quantise_onnxruntime(task.path, task.calibration, path, method)
                print(scores(f"onnxruntime int8 {method}", run_onnxruntime(path, task.test), reference, task.labels))
                print(scores("  the same, without saturation", run_onnxruntime(path, task.test, exact=True), reference, task.labels))


if __name__ == "__main__":
    main()
