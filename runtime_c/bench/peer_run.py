# SPDX-License-Identifier: Apache-2.0
"""Run a model so many times in LiteRT, onnxruntime or ncnn, one thread; peers.py starts it on the emulated board.

python3 peer_run.py litert|onnxruntime|ncnn MODEL RUNS
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np


def litert(path: str) -> Callable[[], object]:
    """LiteRT's interpreter with XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    return interpreter.invoke


def onnxruntime(path: str) -> Callable[[], object]:
    """onnxruntime's CPU provider."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = np.zeros(session.get_inputs()[0].shape, np.float32)
    return lambda: session.run(None, {session.get_inputs()[0].name: x})


def ncnn(path: str) -> Callable[[], object]:
    """ncnn; the input's shape is in a file beside the model."""
    import ncnn as library

    net = library.Net()
    net.opt.num_threads, net.opt.use_vulkan_compute = 1, False
    if net.load_param(path) != 0 or net.load_model(str(Path(path).with_suffix(".bin"))) != 0:
        raise SystemExit(f"ncnn does not load {path}")
    x = library.Mat(np.zeros(np.load(Path(path).with_suffix(".shape.npy"))[1:], np.float32))
    first, last = net.input_names()[0], net.output_names()[0]

    def run() -> object:
        extractor = net.create_extractor()
        extractor.input(first, x)
        status, y = extractor.extract(last)
        if status != 0:
            raise SystemExit(f"ncnn's extract returns {status}")
        return np.array(y)

    return run


if __name__ == "__main__":
    runtime, model, runs = sys.argv[1:4]
    once = {"litert": litert, "onnxruntime": onnxruntime, "ncnn": ncnn}[runtime](model)
    for _ in range(int(runs)):
        once()
