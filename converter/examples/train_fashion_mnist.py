# SPDX-License-Identifier: Apache-2.0
"""Train the network of the demo: a depthwise-separable CNN on Fashion-MNIST, exported to ONNX.

    python converter/examples/train_fashion_mnist.py --data /usr/share/datasets/fashion-mnist --output fashion_mnist

The data folder holds the four ``*-ubyte.gz`` files of Fashion-MNIST (Debian package ``dataset-fashion-mnist``). The output folder gets

    model.onnx          float32, opset 17, ``image`` [N,1,28,28] -> ``logits`` [N,10]
    calibration.npz     20 training images of each class
    test.npz            100 test images of each class
    preprocess.toml     how stored pixels become the network's input

Training needs ``torch``, ``numpy`` and ``onnx``; nothing else in edge8 does. It uses one thread and fixed seeds, so that one
version of torch on one kind of processor gives the same weights again. The test images are looked at once, after training: every
choice in this file was made on images held out of the training set (``--holdout 6000``).
"""

from __future__ import annotations

import argparse
import gzip
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch  # type: ignore[import-not-found, unused-ignore]
from torch import nn  # type: ignore[import-not-found, unused-ignore]
from torch.nn import functional as F  # type: ignore[import-not-found, unused-ignore]

Bytes = npt.NDArray[np.uint8]

CLASSES = 10
SEED = 20240817
CALIBRATION_PER_CLASS = 20
TEST_PER_CLASS = 100
OPSET = 17

PREPROCESS = """\
# How a stored image becomes the network's input: float32((pixel - mean) / std), which is pixel / 255 * 2 - 1.
[input.image]
layout = "nchw"
channels = "gray"
resize = [28, 28]
mean = [127.5]
std = [127.5]
"""


def read_idx(path: Path) -> Bytes:
    """Read a gzipped IDX file of unsigned bytes (big-endian header: 0, 0, type 8, rank, then the extents).

    Raises ``ValueError`` if the file is not of that form or holds more or fewer bytes than its header says.
    """
    with gzip.open(path, "rb") as file:
        raw = file.read()
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    rank = raw[3]
    shape = np.frombuffer(raw, dtype=">u4", count=rank, offset=4).astype(np.int64)
    start = 4 + 4 * rank
    if len(raw) - start != int(np.prod(shape)):
        raise ValueError(f"{path}: {len(raw) - start} bytes of data, but the header says {list(shape)}")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape).copy()


def load_split(folder: Path, prefix: str) -> tuple[Bytes, Bytes]:
    """Images [n,28,28] and labels [n], both uint8, of the split ``train`` or ``t10k``."""
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
    if images.shape != (len(labels), 28, 28):
        raise ValueError(f"{folder}: images {images.shape} and labels {labels.shape} of {prefix} do not belong together")
    return images, labels


def first_of_each_class(labels: Bytes, count: int) -> npt.NDArray[np.int64]:
    """Indices of the first ``count`` images of every class, in the order of the file."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(CLASSES)])).astype(np.int64)


def to_input(images: Any) -> Any:
    """uint8 [n,28,28] -> float32 [n,1,28,28] in [-1,1]; the same formula as PREPROCESS."""
    return (images.float().unsqueeze(1) - 127.5) / 127.5


def conv_bn(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[Any]:
    """Convolution without bias, and the batch normalisation that gives it one when the exporter folds it."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


def separable(inputs: int, outputs: int, *, stride: int = 1) -> list[Any]:
    """Depthwise 3x3 and pointwise 1x1, each with batch normalisation and ReLU6."""
    return [
        *conv_bn(inputs, inputs, 3, stride=stride, groups=inputs),
        nn.ReLU6(),
        *conv_bn(inputs, outputs, 1),
        nn.ReLU6(),
    ]


class Residual(nn.Module):  # type: ignore[misc, unused-ignore]
    """x + body(x); the body ends without an activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*separable(channels, channels)[:-1])

    def forward(self, x: Any) -> Any:
        return x + self.body(x)


def build_network() -> Any:
    """The demo network: 47,416 weights and 3.6 million multiply-accumulates an image."""
    return nn.Sequential(
        *conv_bn(1, 16, 3),
        nn.ReLU6(),
        *separable(16, 40, stride=2),  # 14x14
        *separable(40, 64),
        Residual(64),
        *separable(64, 112, stride=2),  # 7x7
        Residual(112),
        *separable(112, 136),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(136, CLASSES),
    )


def augment(x: Any, generator: Any) -> Any:
    """Mirror half of the images and shift each by up to one pixel. Stronger changes cost accuracy in so small a network."""
    n, _, height, width = x.shape
    mirror = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    x = torch.where(mirror, x.flip(3), x)
    padded = F.pad(x, (1, 1, 1, 1), value=-1.0)
    dy, dx = torch.randint(0, 3, (2, n, 1, 1), generator=generator)
    rows = (torch.arange(height).view(1, height, 1) + dy).expand(n, height, width)
    columns = (torch.arange(width).view(1, 1, width) + dx).expand(n, height, width)
    return padded[torch.arange(n).view(n, 1, 1), 0, rows, columns].unsqueeze(1)


def accuracy(network: Any, images: Any, labels: Any) -> float:
    """Share of images whose largest logit is the label."""
    network.eval()
    with torch.no_grad():
        hits = sum(int((network(to_input(i)).argmax(1) == t).sum()) for i, t in zip(images.split(500), labels.split(500), strict=True))
    return hits / len(labels)


def train(network: Any, images: Any, labels: Any, *, epochs: int, batch: int, peak_rate: float) -> None:
    """SGD with Nesterov momentum, linear warm-up and cosine decay, and label smoothing."""
    generator = torch.Generator().manual_seed(SEED)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.SGD([{"params": decayed, "weight_decay": 3e-4}, {"params": plain}], lr=0.1, momentum=0.9, nesterov=True)
    steps_per_epoch = len(images) // batch
    total = epochs * steps_per_epoch
    warm_up = total // 10
    step = 0
    for epoch in range(epochs):
        network.train()
        started, loss_sum = time.monotonic(), 0.0
        order = torch.randperm(len(images), generator=generator)
        for chosen in order[: steps_per_epoch * batch].split(batch):
            progress = (step - warm_up) / max(1, total - warm_up)
            rate = peak_rate * (step + 1) / warm_up if step < warm_up else peak_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
            for group in optimiser.param_groups:
                group["lr"] = rate
            x = augment(to_input(images[chosen]), generator)
            loss = F.cross_entropy(network(x.contiguous(memory_format=torch.channels_last)), labels[chosen], label_smoothing=0.05)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            loss_sum += float(loss.detach())
            step += 1
        print(f"epoch {epoch + 1}/{epochs}: loss {loss_sum / steps_per_epoch:.4f}, {time.monotonic() - started:.1f} s", flush=True)


def export(network: Any, path: Path) -> None:
    """Write the network as ONNX with a free batch axis; batch normalisation is folded into the convolutions."""
    network.eval()
    torch.onnx.export(
        network,
        (torch.zeros(1, 1, 28, 28),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        opset_version=OPSET,
        dynamo=False,
    )


def save_examples(folder: Path, train_set: tuple[Bytes, Bytes], test_set: tuple[Bytes, Bytes]) -> None:
    """Write calibration.npz and test.npz: ``image`` uint8 [n,28,28,1] and ``label`` uint8 [n]; and preprocess.toml."""
    for name, (images, labels), count in (("calibration", train_set, CALIBRATION_PER_CLASS), ("test", test_set, TEST_PER_CLASS)):
        chosen = first_of_each_class(labels, count)
        np.savez_compressed(folder / f"{name}.npz", image=images[chosen][..., np.newaxis], label=labels[chosen])
    (folder / "preprocess.toml").write_text(PREPROCESS, encoding="utf-8")


def main() -> None:
    """Command line: train, score, write."""
    parser = argparse.ArgumentParser(description="Train the depthwise-separable CNN of the edge8 demo on Fashion-MNIST.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the four *-ubyte.gz files")
    parser.add_argument("--output", type=Path, required=True, help="folder to write model, images and preprocess.toml into")
    parser.add_argument("--epochs", type=int, default=13)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--peak-rate", type=float, default=0.15, help="largest learning rate")
    parser.add_argument(
        "--holdout", type=int, default=0, help="score on the last N training images instead of the test images; write nothing"
    )
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    train_set, test_set = load_split(args.data, "train"), load_split(args.data, "t10k")
    fit_on, score_on = train_set, test_set
    if args.holdout:
        fit_on = (train_set[0][: -args.holdout], train_set[1][: -args.holdout])
        score_on = (train_set[0][-args.holdout :], train_set[1][-args.holdout :])

    network = build_network().to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in network.parameters())} parameters, {len(fit_on[0])} training images")
    images, labels = torch.from_numpy(fit_on[0]), torch.from_numpy(fit_on[1]).long()
    train(network, images, labels, epochs=args.epochs, batch=args.batch, peak_rate=args.peak_rate)
    score = accuracy(network, torch.from_numpy(score_on[0]), torch.from_numpy(score_on[1]).long())
    print(f"accuracy on {len(score_on[0])} {'held-out training' if args.holdout else 'test'} images: {100 * score:.2f} %")
    if not args.holdout:
        args.output.mkdir(parents=True, exist_ok=True)
        export(network, args.output / "model.onnx")
        save_examples(args.output, train_set, test_set)
        print(f"wrote {args.output}: model.onnx has {(args.output / 'model.onnx').stat().st_size} bytes")


if __name__ == "__main__":
    main()
