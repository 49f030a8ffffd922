# SPDX-License-Identifier: Apache-2.0
"""Agreement with float on tux114, simulated as Ascend 310: `python -m tests.ascend310.tux114 [NETWORK...] [--method M] [--samples N]`.

Prints one line a network: converted with N of the 114 pictures, spread evenly, scored on the others; float by onnxruntime, the chip by
the simulator (float16). Needs the shared models.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edge8.converter.progress import track
from edge8.converter.targets.ascend310 import convert_ascend310
from edge8.converter.targets.ascend310.simulate import Simulator
from tests.fetch import shared_models

NETWORKS: dict[str, tuple[Any, Any]] = {
    "mobilenetv2": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "efficientnet_lite0": ((127, 127, 127), (128, 128, 128)),
}


def score(name: str, root: Path, method: str, count: int) -> str:
    """The printed line of one network."""
    mean, std = NETWORKS[name]
    pictures = np.load(root / "tux114.npz")["images"].astype(np.float32)
    x = ((pictures - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2).astype(np.float32)
    chosen = np.linspace(0, len(x) - 1, count).astype(int)
    others = np.setdiff1d(np.arange(len(x)), chosen)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / name
        start = time.perf_counter()
        convert_ascend310(root / f"{name}.onnx", folder, calibration=[{"input": x[i : i + 1]} for i in chosen], method=method, quiet=False)
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        chip = Simulator(onnx.load(str(folder / f"{name}_deploy_model.onnx")), "fp16")
    session = onnxruntime.InferenceSession(str(root / f"{name}.onnx"))
    real = np.concatenate([session.run(None, {"input": x[i : i + 1]})[0] for i in others])
    coded = np.concatenate([chip.run({"input": x[i : i + 1]})["logits"] for i in track(others, "simulating", len(others))])
    agreement = float((real.argmax(1) == coded.argmax(1)).mean())
    sqnr = 10 * np.log10((real**2).sum() / ((real - coded) ** 2).sum())
    return (
        f"{name:20} {method:14} agreement {100 * agreement:5.1f} % on {len(others)}, SQNR {sqnr:5.2f} dB, "
        f"converted in {seconds:.0f} s, peak {memory:.0f} MB"
    )


def main() -> None:
    """Parse the arguments and print."""
    parser = argparse.ArgumentParser(description="Agreement with float on tux114, simulated as Ascend 310.")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--method", default="auto")
    parser.add_argument("--samples", type=int, default=32)
    arguments = parser.parse_args()
    root = shared_models()
    if root is None:
        raise SystemExit("the shared models are not here; set EDGE8_MODELS")
    for name in arguments.networks:
        print(score(name, root, arguments.method, arguments.samples), flush=True)


if __name__ == "__main__":
    main()
