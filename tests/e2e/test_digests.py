# SPDX-License-Identifier: Apache-2.0
"""Whole networks give one digest for every CPU level and thread count, in float, with coded weights, in full int8 and in int16."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge8
from edge8.converter.api import convert_graph, load_graph, outputs_of
from edge8.converter.quant.scheme import Scheme
from tests.fetch import NETWORKS, Unavailable, network

DEMO = Path(__file__).resolve().parents[2] / "converter" / "examples" / "fashion_mnist" / "model.onnx"
# A few heavy, a few with unusual operators; the portable reference takes seconds on the large ones.
NAMES = ["demo", "mobilenetv2", "fer-mini-xception", "mtcnn-onet", "mp-face-detection", "ppocr-direction", "magika-standard"]


def load(name: str) -> Any:
    """The float graph of a network, or a skip that says what is missing."""
    if name == "demo":
        return load_graph(DEMO)
    try:
        return load_graph(network(name), NETWORKS[name].shapes)
    except Unavailable as error:
        pytest.skip(f"{name}: {error}")


def digest(model: edge8.Model, sample: dict[str, Any], threads: int) -> str:
    outputs = outputs_of(model.session(threads)(sample), model)
    return hashlib.sha256(b"".join(y.tobytes() for _, y in sorted(outputs.items()))).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_one_digest_for_levels_and_threads(name: str) -> None:
    graph = load(name)
    random = np.random.default_rng(0)

    def sample() -> dict[str, Any]:
        made = {}
        for tensor in (graph.tensors[n] for n in graph.inputs):
            integer = tensor.dtype.name.startswith("INT")
            made[tensor.name] = (
                random.integers(0, 256, tensor.shape).astype(np.int32)
                if integer
                else random.standard_normal(tensor.shape).astype(np.float32)
            )
        return made

    data, x = [sample() for _ in range(2)], sample()
    features = edge8.cpu.features()
    levels = [features[:count] for count in range(len(features) + 1)]
    for scheme in (Scheme(mode="float"), Scheme(mode="weight"), Scheme(), Scheme(activations="int16")):
        model = edge8.Model(convert_graph(graph, scheme, data, method="minmax")[0])
        seen = {}
        try:
            for level in levels:
                edge8.cpu.restrict(level)
                for threads in (1, 2, 3):
                    seen[(tuple(level), threads)] = digest(model, x, threads)
        finally:
            edge8.cpu.restrict(None)
        assert len(set(seen.values())) == 1, f"{scheme.mode} {scheme.activations}: {seen}"
