# SPDX-License-Identifier: Apache-2.0
"""Inputs that take pictures as a camera gives them: uint8, channels last, with mean and standard deviation inside the file."""

from __future__ import annotations

from dataclasses import replace

from .calibration import input_steps
from .errors import ConvertError
from .graph import DType, Graph, Node, Tensor
from .ops import operators
from .passes.base import optimise
from .preprocess import Preprocess, input_layout

__all__ = ["take_pictures"]


def take_pictures(graph: Graph, preprocess: object) -> dict[str, Preprocess]:
    """Let the graph's picture inputs be uint8 ``[N, H, W, C]``; the network normalises them itself.

    An input keeps its name. Resizing, cropping and the order of the channels stay with the caller.

    Args:
        graph: float, as `load_graph` gives it; changed in place.
        preprocess: how pictures become inputs, as `open_samples` takes it; its mean and std move into the graph.

    Returns:
        The rest of the preprocessing by input name.

    Raises:
        ConvertError: no float32 input has the shape of pictures.
    """
    rest: dict[str, Preprocess] = {}
    steps = input_steps(preprocess, graph)
    taken = 0
    for name in list(graph.inputs):
        tensor, given = graph.tensors[name], steps.get(name) or Preprocess()
        if tensor.dtype is DType.FLOAT32 and len(tensor.shape) == 4 and (tensor.shape[1] in (1, 3) or tensor.shape[3] in (1, 3)):
            rest[name] = _take(graph, name, given)
            taken += 1
        elif steps.get(name) is not None:
            rest[name] = given
    if not taken:
        raise ConvertError(
            "no float32 input has the shape of pictures, [N, C, H, W] or [N, H, W, C] with 1 or 3 channels",
            rule="quant.io", where="--io uint8", hint="Leave --io out",
        )  # fmt: skip
    optimise(graph)
    return rest


def _per_channel(values: tuple[float, ...], channels: int, usual: float) -> list[float]:
    return list(values) if len(values) == channels else [values[0] if values else usual] * channels


def _take(graph: Graph, name: str, steps: Preprocess) -> Preprocess:
    """Put NormalizePicture, and a Transpose for a channels-first input, before one input; gives the steps that are left."""
    shape = graph.tensors[name].shape
    layout, height, width, channels = input_layout(shape, steps.layout, name)
    if any(len(v) not in (0, 1, channels) for v in (steps.mean, steps.std)):
        raise ConvertError(
            f"input {name!r} has {channels} channels, mean and std have {len(steps.mean)} and {len(steps.std)} numbers",
            rule="preprocess.channels", where="--mean, --std", hint="Give one number, or one per channel",
        )  # fmt: skip
    params = {"mean": _per_channel(steps.mean, channels, 0.0), "std": _per_channel(steps.std, channels, 1.0)}
    real = graph.fresh(f"{name}_normalized")
    position = graph.inputs.index(name)
    graph.rename(name, real)
    pixels = Tensor(name, (shape[0], height, width, channels), DType.UINT8)
    graph.add(pixels)
    graph.inputs[position] = name
    last = real if layout == "nhwc" else graph.fresh(f"{name}_channels_last")
    node = Node("NormalizePicture", [name], [last], params, f"{name}_normalize")
    ((out_shape, dtype),) = operators()["NormalizePicture"].infer(node, [pixels])
    before = [node]
    if layout == "nchw":
        graph.add(Tensor(last, out_shape, dtype))
        before.append(Node("Transpose", [last], [real], {"perm": [0, 3, 1, 2]}, f"{name}_transpose"))
    graph.nodes[:0] = before
    return replace(steps, mean=(), std=(), layout="nhwc")
