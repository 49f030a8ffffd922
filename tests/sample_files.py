# SPDX-License-Identifier: Apache-2.0
"""Small files of many types for magika's file-type network: the real container formats, filled with random words and numbers.

`file_of` makes one; `tokens` turns bytes into the network's input.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import tarfile
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

HALF = 1024
PADDING = 256
BLOCK = 4096
WORDS = (Path(__file__).parent / "data" / "words.txt").read_text(encoding="ascii").split()


class Words:
    """Random words, numbers and sentences of one generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def word(self) -> str:
        return str(self.rng.choice(WORDS))

    def number(self) -> int:
        return int(self.rng.integers(0, 10000))

    def sentence(self) -> str:
        return " ".join(self.word() for _ in range(int(self.rng.integers(5, 14)))).capitalize() + "."

    def lines(self, make: Callable[[], str]) -> str:
        return "\n".join(make() for _ in range(int(self.rng.integers(8, 60)))) + "\n"

    def pixels(self) -> Image.Image:
        """A smooth picture with some noise."""
        coarse = Image.fromarray(self.rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((64, 48), Image.Resampling.BICUBIC), np.float64)
        return Image.fromarray(np.clip(smooth + self.rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8))


def _python(w: Words) -> bytes:
    body = w.lines(
        lambda: (
            f"def {w.word()}_{w.word()}(self, {w.word()}: int) -> str:\n"
            f'    """{w.sentence()}"""\n    if {w.word()} > {w.number()}:\n'
            f'        return "{w.word()}"\n    raise ValueError(f"{w.word()} {{self}}")\n'
        )
    )
    return f"import os\nfrom pathlib import Path\n\n{body}".encode()


def _c(w: Words) -> bytes:
    body = w.lines(
        lambda: (
            f"static int {w.word()}_{w.word()}(const char *{w.word()}, size_t n)\n{{\n"
            f"    for (size_t i = 0; i < n; ++i) {{\n        {w.word()}[i] ^= {w.number()};\n    }}\n    return {w.number()};\n}}\n"
        )
    )
    return f"#include <stdio.h>\n#include <string.h>\n\n{body}".encode()


def _javascript(w: Words) -> bytes:
    body = w.lines(
        lambda: (
            f"function {w.word()}{w.word().capitalize()}({w.word()}) {{\n  const {w.word()} = document.getElementById('{w.word()}');\n"
            f"  return {w.word()}.map((x) => x.{w.word()} + {w.number()});\n}}\n"
        )
    )
    return f"'use strict';\n\n{body}module.exports = {{ {w.word()} }};\n".encode()


def _html(w: Words) -> bytes:
    body = w.lines(lambda: f'<p class="{w.word()}">{w.sentence()} <a href="/{w.word()}.html">{w.word()}</a></p>')
    return f'<!DOCTYPE html>\n<html lang="en">\n<head><title>{w.sentence()}</title></head>\n<body>\n{body}</body>\n</html>\n'.encode()


def _xml(w: Words) -> bytes:
    body = w.lines(lambda: f'  <{(t := w.word())} id="{w.number()}">{w.sentence()}</{t}>')
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{(root := w.word())}>\n{body}</{root}>\n'.encode()


def _css(w: Words) -> bytes:
    return w.lines(
        lambda: f".{w.word()}-{w.word()} {{\n  margin: {w.number() % 40}px;\n  color: #{w.number():06d};\n  display: flex;\n}}\n"
    ).encode()


def _sql(w: Words) -> bytes:
    body = w.lines(lambda: f"INSERT INTO {w.word()} (id, {w.word()}, {w.word()}) VALUES ({w.number()}, '{w.word()}', {w.number()});")
    return f"CREATE TABLE {w.word()} (id INTEGER PRIMARY KEY, {w.word()} TEXT NOT NULL, {w.word()} REAL);\n{body}".encode()


def _shell(w: Words) -> bytes:
    body = w.lines(
        lambda: f'if [ -f "${{{w.word().upper()}}}" ]; then\n    echo "{w.sentence()}"\n    cp -r "$1" /tmp/{w.word()} || exit 1\nfi'
    )
    return f"#!/bin/sh\nset -e\n{body}".encode()


def _ini(w: Words) -> bytes:
    return w.lines(lambda: f"[{w.word()}]\n{w.word()} = {w.number()}\n{w.word()} = {w.word()}\n; {w.sentence()}").encode()


def _yaml(w: Words) -> bytes:
    return (
        b"---\n" + w.lines(lambda: f"{w.word()}:\n  - {w.word()}: {w.number()}\n    {w.word()}: {w.word()}\n  - {w.word()}: true").encode()
    )


def _markdown(w: Words) -> bytes:
    return w.lines(
        lambda: (
            f"## {w.word().capitalize()} {w.word()}\n\n{w.sentence()} See [{w.word()}]({w.word()}.md).\n\n* `{w.word()}`: {w.sentence()}\n"
        )
    ).encode()


def _json(w: Words) -> bytes:
    rows = [{"id": w.number(), "name": w.word(), w.word(): [w.number(), w.number()]} for _ in range(int(w.rng.integers(3, 40)))]
    return json.dumps({w.word(): rows, "version": w.number()}, indent=int(w.rng.integers(0, 3)) or None).encode()


def _csv(w: Words) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["id", w.word(), w.word(), w.word()])
    writer.writerows([i, w.word(), w.number(), w.number() / 8] for i in range(int(w.rng.integers(10, 90))))
    return out.getvalue().encode()


def _picture(form: str) -> Callable[[Words], bytes]:
    def make(w: Words) -> bytes:
        out = io.BytesIO()
        w.pixels().save(out, form)
        return out.getvalue()

    return make


def _gzip(w: Words) -> bytes:
    return gzip.compress(w.lines(w.sentence).encode(), mtime=0)


def _zip(w: Words) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for _ in range(int(w.rng.integers(1, 6))):
            archive.writestr(zipfile.ZipInfo(f"{w.word()}/{w.word()}{w.number()}.txt"), w.lines(w.sentence))
    return out.getvalue()


def _tar(w: Words) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for _ in range(int(w.rng.integers(1, 5))):
            content = w.lines(w.sentence).encode()
            info = tarfile.TarInfo(f"{w.word()}/{w.word()}{w.number()}.txt")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _wav(w: Words) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        t = np.arange(8000) / 16000
        tone = np.sin(2 * np.pi * float(w.rng.uniform(100, 2000)) * t) * 9000 + w.rng.normal(0, 300, t.shape)
        sound.writeframes(tone.astype("<i2").tobytes())
    return out.getvalue()


def _npy(w: Words) -> bytes:
    out = io.BytesIO()
    np.save(out, w.rng.standard_normal((16, int(w.rng.integers(8, 64)))).astype(np.float32))
    return out.getvalue()


def _pickle(w: Words) -> bytes:
    return pickle.dumps({w.word(): [w.word() for _ in range(40)], "values": [w.number() for _ in range(60)]}, protocol=4)


MAKERS: dict[str, Callable[[Words], bytes]] = {
    "python": _python,
    "c": _c,
    "javascript": _javascript,
    "html": _html,
    "xml": _xml,
    "css": _css,
    "sql": _sql,
    "shell": _shell,
    "ini": _ini,
    "yaml": _yaml,
    "markdown": _markdown,
    "json": _json,
    "csv": _csv,
    "png": _picture("PNG"),
    "jpeg": _picture("JPEG"),
    "gif": _picture("GIF"),
    "bmp": _picture("BMP"),
    "tiff": _picture("TIFF"),
    "gzip": _gzip,
    "zip": _zip,
    "tar": _tar,
    "wav": _wav,
    "npy": _npy,
    "pickle": _pickle,
    "txt": lambda w: w.lines(w.sentence).encode(),
    "randombytes": lambda w: w.rng.bytes(int(w.rng.integers(600, 5000))),
}


def file_of(kind: str, rng: np.random.Generator) -> bytes:
    """One random file of a type in `MAKERS`; the names are magika's labels."""
    return MAKERS[kind](Words(rng))


def tokens(content: bytes) -> npt.NDArray[np.int32]:
    """magika's input, int32 [2048]: the first and the last 1,024 bytes without outer white space, filled up with 256."""
    first = content[:BLOCK].lstrip()[:HALF]
    last = content[-BLOCK:].rstrip()[-HALF:]
    result = np.full(2 * HALF, PADDING, np.int32)
    result[: len(first)] = np.frombuffer(first, np.uint8)
    if last:
        result[-len(last) :] = np.frombuffer(last, np.uint8)
    return result
