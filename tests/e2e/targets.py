# SPDX-License-Identifier: Apache-2.0
"""What accuracy targets reach, and what they cost: `python tests/e2e/targets.py [NETWORK...]`.

Full quantisation of networks that plain int8 does not suit: int8 with its corrections, then the file that the search finds for the
target, both against float on samples that neither calibration nor search have seen. `fashion-mnist` is weights quantisation in
mixed widths, scored on the 10,000 test pictures.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edge8 import Model
from edge8.converter import ConvertError, convert
from edge8.converter.api import compare, float_file, load_graph, outputs_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.fetch import NETWORKS, Unavailable, fetch, network
from tests.samples import samples
from tests.text_lines import characters, ctc_decode, direction_set, recognition_set

Array = np.ndarray[Any, Any]
Sample = dict[str, Array]

COSINE = {"max_drop": 0.005, "metric": "cosine"}
TARGETS: dict[str, dict[str, Any]] = {
    "ppocr-direction": {"target_sqnr": 25.0, "min_int8": 85},
    "ppocr-recognition": {"target_sqnr": 22.0, "min_int8": 85, "best_effort": True},
    **dict.fromkeys(("magika-standard", "basic-pitch-nmp", "blazeface-front", "blazeface-back", "mp-face-detection"), COSINE),
    **dict.fromkeys(("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet", "esrgan-slim-x2"), COSINE),
}
VALIDATION = {"ppocr-recognition": 36}
"""Samples that score in the search, beside all calibration samples: answers that flip on a few lines need many to be counted."""
WIDTHS = (("4 bits", {"bits": 4}), ("mixed, at most 36 kB", {"target_size": "36k"}), ("mixed, at most 33 kB", {"target_size": "33k"}))


def _answers(data: bytes, inputs: Array) -> Array:
    session = Model(data).session(2)
    return np.concatenate([np.asarray(session(x[None])) for x in inputs])


def lines_alike(data: bytes, reference: bytes, name: str, count: int) -> str:
    """Lines read, or turned, as the float model does, in percent."""
    if name == "ppocr-recognition":
        inputs, _ = recognition_set(count, seed=9)
        classes = characters(network(name))
        read = [ctc_decode(_answers(d, inputs), classes) for d in (data, reference)]
        same = [a == b for a, b in zip(*read, strict=True)]
    elif name == "ppocr-direction":
        turned, _ = direction_set(count, seed=9)
        answers = [_answers(d, turned).argmax(axis=1) for d in (data, reference)]
        same = list(answers[0] == answers[1])
    else:
        return ""
    return f", {100 * np.mean(same):.1f} % of {count} lines as float"


def describe(data: bytes, reference: bytes, test: list[Sample], name: str, lines: int) -> str:
    """Cosine and SQNR of the outputs, and lines."""
    accuracy = compare(reference, data, test, threads=2)
    figures = " | ".join(f"{a['cosine']:.4f} {a['sqnr']:.1f} dB" for a in accuracy.values())
    return figures + lines_alike(data, reference, name, lines)


def row(name: str, calibration: int, count: int, lines: int) -> None:
    """Print a network's lines."""
    path, shapes = network(name), NETWORKS[name].shapes
    data, test = samples(name, calibration, 1), samples(name, count, 9)
    reference = float_file(load_graph(path, shapes))
    options: dict[str, Any] = {"calibration": data, "input_shape": shapes, "threads": 2}
    plain = convert(path, **options)
    if name in VALIDATION:
        options["validation"] = samples(name, VALIDATION[name], 5)
    print(f"{name}\n  int8: {describe(plain.data, reference, test, name, lines)}", flush=True)
    start = time.perf_counter()
    try:
        made = convert(path, **options, **TARGETS[name])
    except ConvertError as error:
        print(f"  {error}", flush=True)
        return
    print(
        f"  {made.search['target']}: {describe(made.data, reference, test, name, lines)}; {made.search['MACs in int8']} of the MACs in int8"
    )
    moved = Counter((layer["level"], layer["op"]) for layer in made.search["layers"])
    print(f"  {made.search['files tried']} files, {time.perf_counter() - start:.0f} s; left int8: {_listed(moved)}", flush=True)


def _listed(moved: Counter[tuple[str, str]]) -> str:
    return ", ".join(f"{count} {op} in {level}" for (level, op), count in sorted(moved.items())) or "nothing"


def fashion_mnist() -> None:
    """Top-1 of weights in 4 bits and in mixed widths on the 10,000 test pictures."""
    from tests.test_fashion_mnist import FOLDER, network_input, split

    fetch("fashion-mnist")
    images, labels = split("t10k")
    inputs = network_input(images)
    with np.load(FOLDER / "calibration.npz") as archive:
        calibration = [{"image": x[None]} for x in network_input(archive["image"])]

    def top1(data: bytes) -> float:
        model = Model(data)
        (logits,) = outputs_of(model.session(2)(inputs), model).values()
        return float(100 * np.mean(logits.argmax(axis=1) == labels))

    reference = float_file(load_graph(FOLDER / "model.onnx"))
    print(f"fashion-mnist, 10,000 pictures\n  float: {top1(reference):.2f} %, {len(reference):,} bytes", flush=True)
    for text, options in WIDTHS:
        made = convert(FOLDER / "model.onnx", quant="weight", calibration=calibration, threads=2, **options)
        average = made.search.get("bits per weight", "4.00")
        print(f"  {text}: {top1(made.data):.2f} %, {len(made.data):,} bytes, {average} bits per weight", flush=True)


def main() -> None:
    """Print the table; says what is skipped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--calibration", type=int, default=48, help="samples")
    parser.add_argument("--count", type=int, default=48, help="samples that are scored")
    parser.add_argument("--lines", type=int, default=300, help="text lines that are scored")
    arguments = parser.parse_args()
    for name in arguments.networks or ["fashion-mnist", *TARGETS]:
        try:
            if name == "fashion-mnist":
                fashion_mnist()
            else:
                row(name, arguments.calibration, arguments.count, arguments.lines)
        except Unavailable as error:
            print(f"skipped {name}: {error}")


if __name__ == "__main__":
    main()
