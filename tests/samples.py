# SPDX-License-Identifier: Apache-2.0
"""Realistic inputs for every network of fetch.py: for calibration, for comparison with float, for benchmarks.

    python -m tests.samples                  # what the float networks make of them (onnxruntime)
    from tests.samples import samples
    calibration = samples("magika-standard", 100, seed=1)      # list of {input name: array of the shape in NETWORKS}

Sample ``i`` of a seed is the same whatever the count. Photographs are random crops of foolbox's 20 ImageNet pictures (none shows a
frontal face, so face networks see only background); text lines, files and music are made here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests import sample_files, text_lines
from tests.fetch import NETWORKS, Unavailable, imagenet_pictures, network

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

CLOTHING = Path(__file__).resolve().parents[1] / "converter" / "examples" / "fashion_mnist" / "calibration.npz"

RATE = 22050
"""Samples a second of basic-pitch's input."""


def photograph(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A random crop of a picture, perhaps mirrored: uint8 [height, width, 3], RGB."""
    pictures = imagenet_pictures()
    picture = Image.open(pictures[int(rng.integers(len(pictures)))][0]).convert("RGB")
    share = float(rng.uniform(0.4, 1.0))
    crop_width = share * min(picture.width, picture.height * width / height)
    crop_height = crop_width * height / width
    left, top = float(rng.uniform(0, picture.width - crop_width)), float(rng.uniform(0, picture.height - crop_height))
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, left + crop_width, top + crop_height))
    pixels = np.asarray(scaled)
    return np.ascontiguousarray(pixels[:, ::-1]) if rng.random() < 0.5 else pixels


def page(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A photograph with four to seven text lines pasted on: uint8 [height, width, 3], RGB, for text detection."""
    result = photograph(rng, height, width).copy()
    top = int(rng.integers(2, 20))
    for _ in range(int(rng.integers(4, 8))):
        line = text_lines.render_line(text_lines.random_text(rng), rng)[: height - top, :width]
        left = int(rng.integers(0, width - line.shape[1] + 1))
        result[top : top + line.shape[0], left : left + line.shape[1]] = line
        top += line.shape[0] + int(rng.integers(4, 24))
        if top >= height - 24:
            break
    return result


def music(rng: np.random.Generator, length: int) -> tuple[Floats, list[int]]:
    """Some piano-like notes, float32 [length] within [-1,1], and the MIDI numbers of the notes played."""
    t = np.arange(length) / RATE
    sound: npt.NDArray[np.float64] = rng.normal(0.0, 0.002, length)
    notes = [int(n) for n in rng.choice(np.arange(40, 85), int(rng.integers(2, 6)), replace=False)]
    for note in notes:
        start, held = float(rng.uniform(0.0, 1.2)), float(rng.uniform(0.3, 0.9))
        age = t - start
        envelope = np.where((age >= 0) & (age < held), np.minimum(age / 0.01, 1.0) * np.exp(-2.5 * np.maximum(age, 0.0)), 0.0)
        pitch = 440.0 * 2.0 ** ((note - 69) / 12)
        strengths = [(k, float(rng.uniform(0.5, 1.0)) / k**1.3) for k in range(1, 9) if k * pitch < RATE / 2]
        for k, strength in strengths:
            sound += 0.25 * strength * envelope * np.sin(2 * np.pi * k * pitch * age)
    return sound.clip(-1.0, 1.0).astype(np.float32), notes


def normalised(pixels: Pixels, mean: tuple[float, ...], std: tuple[float, ...]) -> Floats:
    """(pixel - mean) / std, channels last."""
    return np.divide(pixels.astype(np.float32) - np.asarray(mean, np.float32), np.asarray(std, np.float32), dtype=np.float32)


def _photo_nchw(mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[np.random.Generator, tuple[int, ...]], Floats]:
    return lambda rng, shape: normalised(photograph(rng, shape[2], shape[3]), mean, std).transpose(2, 0, 1)[None]


def _photo_nhwc(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return normalised(photograph(rng, shape[1], shape[2]), (127.5,), (127.5,))[None]


def _gray_photo(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    pixels = np.asarray(Image.fromarray(photograph(rng, shape[1], shape[2])).convert("L"))
    return normalised(pixels[None, :, :, None], (127.5,), (127.5,))


def _clothing(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """A picture of Fashion-MNIST's training set as it stands in the demo's calibration file."""
    stored = np.load(CLOTHING)["image"]
    return normalised(stored[int(rng.integers(len(stored)))].transpose(2, 0, 1)[None], (127.5,), (127.5,))


def _line(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return text_lines.to_input(text_lines.render_line(text_lines.random_text(rng), rng), shape[3])[None]


def _turned_line(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    picture = text_lines.render_line(text_lines.random_text(rng), rng)
    return text_lines.to_input(np.ascontiguousarray(np.rot90(picture, 2 * int(rng.integers(2)))), shape[3])[None]


def _page(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    pixels = page(rng, shape[2], shape[3])[:, :, ::-1]
    return normalised(pixels, (127.5,), (127.5,)).transpose(2, 0, 1)[None]


def _music(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return music(rng, shape[1])[0][None, :, None]


def _file(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    return sample_files.tokens(sample_files.file_of(str(rng.choice(list(sample_files.MAKERS))), rng))[None]


_GENERATORS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], npt.NDArray[np.generic]]] = {
    "ppocr-direction": _turned_line,
    "ppocr-recognition": _line,
    "ppocr-detection": _page,
    "magika-standard": _file,
    "basic-pitch-nmp": _music,
    "blazeface-front": _photo_nhwc,
    "blazeface-back": _photo_nhwc,
    "mp-face-detection": _photo_nhwc,
    "fer-mini-xception": _gray_photo,
    "mobilenetv2": _photo_nchw((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "efficientnet-lite0": _photo_nchw((127.0,), (128.0,)),
    "mtcnn-pnet": _photo_nchw((127.5,), (128.0,)),
    "mtcnn-rnet": _photo_nchw((127.5,), (128.0,)),
    "mtcnn-onet": _photo_nchw((127.5,), (128.0,)),
    "esrgan-slim-x2": _photo_nchw((0.0,), (255.0,)),
    "fmnist-dscnn": _clothing,
}


def samples(name: str, count: int, seed: int) -> list[dict[str, npt.NDArray[np.generic]]]:
    """``count`` inputs for a network of `NETWORKS`, each of the shape written there.

    Raises `Unavailable` where the pictures or fonts cannot be had, ``KeyError`` for an unknown network.
    """
    ((input_name, shape),) = NETWORKS[name].shapes.items()
    made = []
    for index in range(count):
        array = np.ascontiguousarray(_GENERATORS[name](np.random.default_rng((seed, index)), shape))
        if array.shape != shape:
            raise AssertionError(f"{name}: sample of shape {array.shape}, expected {shape}")
        made.append({input_name: array})
    return made


def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def files_recognised(count: int) -> tuple[int, list[str]]:
    """How many of ``count`` files the float magika network names rightly, and what it made of the others."""
    model = network("magika-standard")
    labels = json.loads((model.parent / "config.min.json").read_text(encoding="utf-8"))["target_labels_space"]
    session = _session(model)
    wrong = []
    for index in range(count):
        rng = np.random.default_rng((1, index))
        kind = str(rng.choice(list(sample_files.MAKERS)))
        got = labels[int(session.run(None, {"bytes": sample_files.tokens(sample_files.file_of(kind, rng))[None]})[0].argmax())]
        if got != kind:
            wrong.append(f"{kind} as {got}")
    return count - len(wrong), wrong


def notes_heard(count: int) -> tuple[int, int, int]:
    """Notes that float basic-pitch finds in ``count`` pieces, notes played, and notes found that were not played."""
    session = _session(network("basic-pitch-nmp"))
    found = played = invented = 0
    for index in range(count):
        sound, notes = music(np.random.default_rng((1, index)), 43844)
        heard = session.run(["StatefulPartitionedCall:1"], {"serving_default_input_2:0": sound[None, :, None]})[0][0]
        pitches = {int(p) + 21 for p in np.flatnonzero((heard > 0.3).sum(axis=0) >= 11)}
        found, played, invented = found + len(pitches & set(notes)), played + len(notes), invented + len(pitches - set(notes))
    return found, played, invented


def main() -> int:
    """Print how the float networks answer, as far as samples have labels, and the ranges of the outputs of all."""
    for name, entry in NETWORKS.items():
        try:
            session = _session(network(name))
            outputs = [session.run(None, sample) for sample in samples(name, 4, seed=1)]
        except Unavailable as reason:
            print(f"{name}: unavailable: {reason}")
            continue
        ranges = [f"{min(float(o.min()) for o in one):.3g}..{max(float(o.max()) for o in one):.3g}" for one in zip(*outputs, strict=True)]
        print(f"{name} {next(iter(entry.shapes.values()))}: outputs {', '.join(ranges)}", flush=True)
    recognised, wrong = files_recognised(200)
    print(f"magika-standard: {recognised} of 200 files recognised; wrong: {wrong}")
    heard, played, invented = notes_heard(40)
    print(f"basic-pitch-nmp: {heard} of {played} notes heard, {invented} invented")
    return 0


if __name__ == "__main__":
    sys.exit(main())
