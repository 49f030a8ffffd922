# SPDX-License-Identifier: Apache-2.0
"""Whole networks: the passes leave transposes only where the user's layout meets NHWC, and the float file computes what the model says.

Networks that cannot be had here are skipped, each by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge8 import Model
from edge8.converter.onnx_in import load
from edge8.converter.passes.base import optimise
from edge8.converter.targets.cpu_lite import write
from tests.fetch import NETWORKS, Unavailable, network
from tests.samples import samples

# Transposes that stay. NCHW images are transposed once at the input, feature maps that leave the network once each;
# attention needs four of its own, and the norm of magika runs along another axis than its neighbours.
TRANSPOSES = {
    "efficientnet-lite0": 1,
    "esrgan-slim-x2": 2,
    "magika-standard": 2,
    "mobilenetv2": 1,
    "mtcnn-onet": 1,
    "mtcnn-pnet": 3,
    "mtcnn-rnet": 1,
    "ppocr-detection": 1,
    "ppocr-direction": 1,
    "ppocr-recognition": 5,
}

# Largest difference from onnxruntime, as a part of the largest value. basic-pitch takes the logarithm of near silence, which
# magnifies float32 rounding: onnxruntime itself is 3e-2 away from float64 there, edge8 2e-4.
LIMIT = {"basic-pitch-nmp": 5e-2}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_network(name: str) -> None:
    ort: Any = pytest.importorskip("onnxruntime")
    try:
        path, [sample] = network(name), samples(name, 1, seed=5)
    except Unavailable as reason:
        pytest.skip(str(reason))
    graph = load(path, input_shape={key: tuple(array.shape) for key, array in sample.items()})
    optimise(graph)
    moved = [node.name for node in graph.nodes if node.op == "Transpose"]
    result = Model(write(graph)).session()(sample)
    outputs = result if isinstance(result, dict) else {graph.outputs[0]: result}
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for key, wanted in zip([o.name for o in session.get_outputs()], session.run(None, sample), strict=True):
        assert outputs[key].shape == wanted.shape
        error = float(np.abs(outputs[key] - wanted).max() / max(float(np.abs(wanted).max()), 1e-3))
        print(f"{name} {key}: largest difference {error:.1e} of the largest value, {len(graph.nodes)} nodes, {len(moved)} transposes")
        assert error < LIMIT.get(name, 1e-4)
    assert len(moved) <= TRANSPOSES.get(name, 0), moved
