# SPDX-License-Identifier: Apache-2.0
"""int16 activations beside int8, and beside float activations with the same int8 weights: `python tests/e2e/int16.py [NETWORK...]`.

What the weights cost is the limit of int16; the table shows how close it comes. Inputs from tests/samples.py: 24 calibrate, 12 are scored.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

import edge8
from edge8.converter.api import convert_graph, load_graph, outputs_of
from edge8.converter.quant.corrections import CORRECTIONS
from edge8.converter.quant.scheme import Scheme

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.fetch import NETWORKS, Unavailable, network
from tests.samples import samples

Array = np.ndarray[Any, Any]
NAMES = ["fmnist-dscnn", "mobilenetv2", "efficientnet-lite0", "ppocr-direction", "ppocr-recognition", "magika-standard"]
FORMS = {"int8": Scheme(), "int16": Scheme(activations="int16"), "float on int8 weights": Scheme(mode="weight")}


def outputs(data: bytes, inputs: list[dict[str, Any]]) -> Array:
    """All float outputs of all inputs, in a row."""
    model = edge8.Model(data)
    session = model.session(2)
    results = [outputs_of(session(x), model) for x in inputs]
    return np.concatenate([y.astype(np.float64).ravel() for r in results for _, y in sorted(r.items()) if y.dtype.kind == "f"])


def rows(name: str, method: str, corrections: tuple[str, ...]) -> None:
    """Print the lines of a network."""
    graph = load_graph(network(name), NETWORKS[name].shapes)
    calibration, test = samples(name, 24, 1), samples(name, 12, 2)
    reference = outputs(convert_graph(graph, Scheme(mode="float"))[0], test)
    print(name)
    for form, scheme in FORMS.items():
        data, decisions, _, _ = convert_graph(graph, scheme, calibration, method=method, threads=2, corrections=corrections)
        y = outputs(data, test)
        sqnr = 10 * np.log10(np.sum(reference**2) / max(float(np.sum((reference - y) ** 2)), 1e-30))
        model = edge8.Model(data)
        other = sorted({d.op for d in decisions if d.domain == "float" and scheme.mode == "full"})
        print(
            f"  {form:22} {sqnr:6.1f} dB, arena {model.arena_bytes():,} B" + (f"; float: {', '.join(other)}" if other else ""), flush=True
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NAMES)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--corrected", action="store_true", help="with the corrections of the weights")
    arguments = parser.parse_args()
    for name in arguments.networks or NAMES:
        try:
            rows(name, arguments.method, CORRECTIONS if arguments.corrected else ())
        except Unavailable as error:
            print(f"{name}: skipped: {error}")


if __name__ == "__main__":
    main()
