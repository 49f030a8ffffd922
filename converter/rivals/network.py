# SPDX-License-Identifier: Apache-2.0
"""A network to measure: an ONNX model with one float32 input, and seeded noise that looks like pictures to it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from ..errors import ConvertError

__all__ = ["Network", "open_network"]

Array = np.ndarray[Any, Any]
MIDDLE, STEP = 127.5, 1 / 64
"""input = (pixel - MIDDLE) * STEP"""


@dataclass(frozen=True)
class Network:
    """A model file with fixed shapes, in the folder that also takes what is made of it."""

    name: str
    path: Path
    folder: Path
    input: str
    shape: tuple[int, ...]

    @property
    def channels_last(self) -> bool:
        """The input is a picture [N, H, W, C]."""
        return len(self.shape) == 4 and self.shape[1] not in (1, 3) and self.shape[3] in (1, 3)

    @property
    def is_picture(self) -> bool:
        """The input is one picture of 1 or 3 channels."""
        return len(self.shape) == 4 and self.shape[0] == 1 and (self.channels_last or self.shape[1] in (1, 3))

    def pixels(self, seed: int) -> Array:
        """Seeded noise as a picture, uint8 [H, W, C]."""
        _, a, b, c = self.shape
        size = (a, b, c) if self.channels_last else (b, c, a)
        return np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)

    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and scale of each channel: input = (pixel - mean) * scale."""
        channels = self.shape[3] if self.channels_last else self.shape[1]
        return [MIDDLE] * channels, [STEP] * channels

    def sample(self, seed: int) -> Array:
        """Seeded noise for the input, float32: normalised pixels, or a normal distribution where the input is no picture."""
        if not self.is_picture:
            return np.random.default_rng(seed).standard_normal(self.shape).astype(np.float32)
        x = (self.pixels(seed).astype(np.float32) - np.float32(MIDDLE)) * np.float32(STEP)
        made = np.empty(self.shape, np.float32)
        made[0] = x if self.channels_last else x.transpose(2, 0, 1)
        return made

    def samples(self, count: int) -> list[Array]:
        """Calibration samples."""
        return [self.sample(seed) for seed in range(count)]


def open_network(path: Path, work: Path, shape: tuple[int, ...] | None = None) -> Network:
    """Take an ONNX model; a copy with fixed shapes goes to a folder of its own in ``work``.

    Args:
        path: the model. A batch dimension that is not fixed becomes 1.
        work: folder for everything that is made.
        shape: of the input, where the model leaves more than the batch open.

    Raises:
        ConvertError: the model is unreadable, has several inputs, another type than float32, or sizes that are not fixed.
    """
    try:
        model = onnx.load(path)
    except Exception as error:
        raise ConvertError(f"cannot read {path}: {error}", rule="bench.model", where=str(path)) from error
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ConvertError(
            f"{path.name} does not have one float32 input, which a comparison needs", rule="bench.input", where=str(path),
            hint="measure it alone: convert it, then `edge8 bench net.e8`",
        )  # fmt: skip
    own = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
    fixed = tuple(shape) if shape is not None else (own[0] or 1, *own[1:])
    if any(size < 1 for size in fixed) or len(fixed) != len(own):
        raise ConvertError(
            f"input {inputs[0].name!r} of {path.name} is {own or 'of unknown rank'}; its sizes must be fixed", rule="bench.shape",
            where=str(path), hint="pass --input-shape, such as --input-shape 1,3,224,224",
        )  # fmt: skip
    for dimension, size in zip(inputs[0].type.tensor_type.shape.dim, fixed, strict=True):
        dimension.dim_value = size
    if tuple(own) != fixed:
        del model.graph.value_info[:]
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    data = model.SerializeToString()
    folder = work / f"{path.stem}-{zlib.crc32(data):08x}"
    copy = folder / "network.onnx"
    if not copy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
    return Network(path.stem, copy, folder, inputs[0].name, fixed)
