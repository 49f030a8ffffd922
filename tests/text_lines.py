# SPDX-License-Identifier: Apache-2.0
"""Labelled text lines for the PP-OCR recognition and direction networks, rendered from Debian's DejaVu fonts.

    python -m tests.text_lines --count 300 --seed 1      # how well the float networks read them (onnxruntime)

Line ``i`` of a seed is the same whatever the count, so that calibration and scoring sets are disjoint when their seeds differ.
Lines vary in font, size, colours, contrast, background gradient, tilt, blur, noise and JPEG quality, as photographed labels do.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tests.fetch import fetch, network

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

HEIGHT = 48
DIRECTION_WIDTH = 192
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold")
WORDS = (Path(__file__).parent / "data" / "words.txt").read_text(encoding="ascii").split()


def random_text(rng: np.random.Generator) -> str:
    """A word or two, a date, a price, a telephone number or a product code: 5 to 17 characters.

    No spaces: the float network often drops them, which would make a rendered text a wrong label.
    """

    def word() -> str:
        return str(rng.choice(WORDS))

    def digits(count: int) -> str:
        return "".join(str(d) for d in rng.integers(0, 10, count))

    kind = int(rng.integers(0, 7))
    if kind == 0:
        return word().capitalize()
    if kind == 1:
        return f"{word()}-{word()}"
    if kind == 2:
        return word().upper() + digits(2)
    if kind == 3:
        return f"{int(rng.integers(1990, 2040))}-{int(rng.integers(1, 13)):02d}-{int(rng.integers(1, 29)):02d}"
    if kind == 4:
        return f"{int(rng.integers(1, 1000))}.{digits(2)}EUR"
    if kind == 5:
        return f"{word()[:3].upper()}-{digits(5)}"
    return f"+{int(rng.integers(2, 10))}{digits(1)}-{digits(3)}-45{digits(2)}"


def _colours(rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Ink and paper, RGB, at least 90 levels of luminance apart; dark on light three times in four."""
    weights = np.array([0.299, 0.587, 0.114])
    while True:
        ink, paper = rng.uniform(0, 255, (2, 3))
        difference = float(weights @ (paper - ink))
        if abs(difference) >= 90 and (difference > 0) == bool(rng.random() < 0.75):
            return ink, paper


def render_line(text: str, rng: np.random.Generator) -> Pixels:
    """A picture of one line, as a text detector would cut it out: uint8 [height, width, 3], RGB."""
    size = int(rng.integers(22, 44))
    font = ImageFont.truetype(str(fetch("dejavu-fonts") / f"{rng.choice(FONTS)}.ttf"), size)
    left, top, right, bottom = font.getbbox(text)
    margin_x, margin_y = (int(size * rng.uniform(0.12, 0.45)) for _ in range(2))
    width, height = math.ceil(right - left) + 2 * margin_x, math.ceil(bottom - top) + 2 * margin_y
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).text((margin_x - left, margin_y - top), text, fill=255, font=font)
    mask = mask.rotate(float(rng.uniform(-1.5, 1.5)), resample=Image.Resampling.BICUBIC)
    mask = mask.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.0, 0.035) * size)))

    ink, paper = _colours(rng)
    across, down = np.linspace(-1.0, 1.0, width)[None, :, None], np.linspace(-1.0, 1.0, height)[:, None, None]
    light = across * rng.uniform(-25, 25) + down * rng.uniform(-12, 12)
    coverage = np.asarray(mask, dtype=np.float64)[:, :, None] / 255.0
    picture = paper * (1.0 - coverage) + ink * coverage + light + rng.normal(0.0, rng.uniform(0.0, 12.0), (height, width, 3))
    stored = io.BytesIO()
    Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8)).save(stored, "JPEG", quality=int(rng.integers(45, 96)))
    return np.asarray(Image.open(stored).convert("RGB"))


def to_input(picture: Pixels, width: int) -> Floats:
    """What PP-OCR's networks take: float32 [3, 48, width], BGR, pixel / 127.5 - 1.

    The line is scaled to 48 rows keeping its aspect ratio (squeezed if it is then wider than ``width``), and padded with 0 at the right.
    """
    scaled_width = min(width, math.ceil(HEIGHT * picture.shape[1] / picture.shape[0]))
    scaled = Image.fromarray(picture).resize((scaled_width, HEIGHT), Image.Resampling.BILINEAR)
    result = np.zeros((3, HEIGHT, width), np.float32)
    result[:, :, :scaled_width] = np.asarray(scaled, dtype=np.float32)[:, :, ::-1].transpose(2, 0, 1) / np.float32(127.5) - np.float32(1)
    return result


def pictures(count: int, seed: int) -> list[tuple[Pixels, str]]:
    """``count`` pictures of lines with their texts."""
    made = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        text = random_text(rng)
        made.append((render_line(text, rng), text))
    return made


def recognition_set(count: int, seed: int, width: int = 320) -> tuple[Floats, list[str]]:
    """Inputs [count, 3, 48, width] for text recognition, and the texts."""
    lines = pictures(count, seed)
    return np.stack([to_input(picture, width) for picture, _ in lines]), [text for _, text in lines]


def direction_set(count: int, seed: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Inputs [count, 3, 48, 192] for the direction classifier, and labels: 0 upright, 1 turned by 180 degrees (every other line)."""
    lines = pictures(count, seed)
    labels = np.arange(count, dtype=np.int64) % 2
    turned = [picture[::-1, ::-1] if label else picture for (picture, _), label in zip(lines, labels, strict=True)]
    return np.stack([to_input(np.ascontiguousarray(picture), DIRECTION_WIDTH) for picture in turned]), labels


def characters(model: Path) -> list[str]:
    """The classes of a PP-OCR recognition network: blank (empty string), the lines of its metadata entry ``character``, space."""
    import onnx

    loaded = onnx.load(str(model), load_external_data=False)
    listed = [entry.value for entry in loaded.metadata_props if entry.key == "character"]
    if not listed:
        raise ValueError(f"{model} has no metadata entry 'character'")
    return ["", *listed[0].splitlines(), " "]


def ctc_decode(scores: Floats, classes: Sequence[str]) -> list[str]:
    """Greedy CTC: the best class of each step, repeats merged, blanks (class 0) dropped. scores: [n, steps, classes]."""
    if scores.shape[2] != len(classes):
        raise ValueError(f"{scores.shape[2]} scores a step, but {len(classes)} classes")
    best = scores.argmax(axis=2)
    first = np.concatenate([np.ones((len(best), 1), bool), best[:, 1:] != best[:, :-1]], axis=1)
    return ["".join(classes[c] for c in row[keep]) for row, keep in zip(best, first, strict=True)]


def main() -> None:
    """Score the float networks on rendered lines."""
    import onnxruntime

    parser = argparse.ArgumentParser(description="Accuracy of the float PP-OCR networks on rendered lines.")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="folder to write the pictures into, named by index and text")
    args = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def run(name: str, inputs: Floats) -> Floats:
        session = onnxruntime.InferenceSession(str(network(name)), options, providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {"x": inputs[i : i + 8]})[0] for i in range(0, len(inputs), 8)])

    if args.save:
        args.save.mkdir(parents=True, exist_ok=True)
        for index, (picture, text) in enumerate(pictures(args.count, args.seed)):
            Image.fromarray(picture).save(args.save / f"{index:04d} {text}.png")
    lines, texts = recognition_set(args.count, args.seed)
    read = ctc_decode(run("ppocr-recognition", lines), characters(network("ppocr-recognition")))
    right = sum(a == b for a, b in zip(read, texts, strict=True))
    print(f"recognition: {right} of {len(texts)} lines read exactly")
    for got, wanted in [pair for pair in zip(read, texts, strict=True) if pair[0] != pair[1]][:15]:
        print(f"  {wanted!r} read as {got!r}")
    turned, labels = direction_set(args.count, args.seed)
    hits = int((run("ppocr-direction", turned).argmax(axis=1) == labels).sum())
    print(f"direction: {hits} of {len(labels)} lines right")


if __name__ == "__main__":
    main()
