# SPDX-License-Identifier: Apache-2.0
"""How a picture becomes an input of the network: resize, crop, channel order, mean and standard deviation, layout."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ConvertError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["PICTURE_SUFFIXES", "Preprocess", "load_preprocess", "picture_array", "prepare", "read_picture"]

Array = np.ndarray[Any, Any]

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".pnm", ".webp", ".tif", ".tiff", ".gif"})
_CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}
_INTERPOLATIONS = {"linear": "BILINEAR", "nearest": "NEAREST", "cubic": "BICUBIC", "area": "BOX", "lanczos": "LANCZOS"}
_LAYOUTS = ("auto", "nchw", "nhwc")


@dataclass(frozen=True)
class Preprocess:
    """Steps from a picture to an input, in this order.

    Attributes:
        resize: (height, width); None = to the network's size, unless ``crop`` is given.
        keep_aspect: resize so that the picture covers ``resize`` and keeps its proportions (the shorter side fits), instead of
            stretching it.
        crop: (height, width) cut from the centre after resizing.
        channels: ``"rgb"``, ``"bgr"`` or ``"gray"``.
        mean: subtracted, one number or one per channel, for values 0..255.
        std: divides, one number or one per channel.
        layout: order of the network's input: ``"nchw"``, ``"nhwc"``, or ``"auto"`` = where its shape has the channels.
        interpolation: ``"linear"``, ``"nearest"``, ``"cubic"``, ``"area"`` or ``"lanczos"``; all but nearest smooth when they
            shrink, as Pillow does.
    """

    resize: tuple[int, int] | None = None
    keep_aspect: bool = False
    crop: tuple[int, int] | None = None
    channels: str = "rgb"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str = "auto"
    interpolation: str = "linear"

    def __post_init__(self) -> None:
        """Turn lists into tuples and refuse what has no meaning."""
        for name in ("resize", "crop"):
            object.__setattr__(self, name, _size(name, getattr(self, name)))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        for name, known in (("channels", _CHANNELS), ("layout", _LAYOUTS), ("interpolation", _INTERPOLATIONS)):
            if getattr(self, name) not in known:
                raise _bad(name, f"unknown value {getattr(self, name)!r}", f"Known: {', '.join(known)}")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (0, 1, _CHANNELS[self.channels]):
                raise _bad(name, f"{len(getattr(self, name))} numbers for {self.channels}", "Give one, or one per channel")
        if any(value == 0 or not np.isfinite(value) for value in self.std):
            raise _bad("std", "0 cannot divide", "Give positive numbers")
        if self.crop and self.resize and not self.keep_aspect and (self.crop[0] > self.resize[0] or self.crop[1] > self.resize[1]):
            raise _bad("crop", f"{list(self.crop)} is larger than resize {list(self.resize)}", "Crop less or resize to more")

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults, for the file's metadata."""
        usual = {f.name: f.default for f in fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items() if v != usual[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Preprocess:
        """The inverse of `to_dict`, for tables of a TOML file too.

        Raises:
            ConvertError: an unknown key or a bad value; names ``where``.
        """
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise ConvertError(f"unknown key {key!r}", rule="preprocess.key", where=where, hint=f"Known: {', '.join(known)}")
        try:
            return cls(**values)
        except ConvertError as error:
            raise ConvertError(str(error), rule=error.rule, where=where) from error


def _bad(name: str, message: str, hint: str) -> ConvertError:
    return ConvertError(message, rule=f"preprocess.{name}", where=f"preprocessing {name}", hint=hint)


def _size(name: str, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value, value)
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(isinstance(v, int) and 1 <= v <= 16384 for v in value):
        raise _bad(name, f"{value!r} is not a size", "Give [height, width], each 1 to 16384")
    return int(value[0]), int(value[1])


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    values = (value,) if isinstance(value, (int, float)) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(v, (int, float)) and np.isfinite(v) for v in values):
        raise _bad(name, f"{value!r} is not a number or a list of numbers", "Give one, or one per channel")
    return tuple(float(v) for v in values)


def load_preprocess(path: Path) -> dict[str, Preprocess]:
    """Preprocessing by input name from a TOML file; the key ``""`` holds what is said outside of ``[input.<name>]`` tables.

    Raises:
        ConvertError: the file cannot be read or says something unknown.
    """
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConvertError(error.strerror or str(error), rule="preprocess.file", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConvertError(f"not TOML: {error}", rule="preprocess.file", where=str(path)) from error
    tables = content.pop("input", {})
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise ConvertError("write tables [input.NAME]", rule="preprocess.key", where=f"{path} input")
    result = {name: Preprocess.from_dict({**content, **table}, f"{path} [input.{name}]") for name, table in tables.items()}
    result[""] = Preprocess.from_dict(content, str(path))
    return result


def read_picture(path: Path) -> Any:
    """Open and decode a picture with Pillow.

    Raises:
        ConvertError: Pillow is missing, or the file is not a readable picture.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ConvertError(
            "reading pictures needs Pillow", rule="calibration.pillow", where=str(path), hint="pip install edge8[convert]"
        ) from error
    try:
        picture = Image.open(path)
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConvertError(f"not a readable picture: {error}", rule="calibration.picture", where=str(path)) from error
    return picture


def picture_array(pixels: Array, where: str) -> Any:
    """A Pillow picture of an array ``(h, w)``, ``(h, w, 1)`` or ``(h, w, 3)``, uint8.

    Raises:
        ConvertError: another shape or type.
    """
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise ConvertError(
            f"{pixels.dtype}{list(pixels.shape)} is not a picture",
            rule="calibration.picture",
            where=where,
            hint="Give uint8 [h, w, 3] or [h, w]",
        )
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def input_layout(shape: tuple[int, ...], layout: str, name: str) -> tuple[str, int, int, int]:
    """Layout, height, width and channels of a picture input ``[N, ...]`` or without N.

    Raises:
        ConvertError: the input is no picture, or its layout cannot be told from its shape.
    """
    dims = shape[1:] if len(shape) == 4 else shape
    if len(dims) != 3:
        raise ConvertError(
            f"input {name!r} of shape {list(shape)} does not take pictures", rule="preprocess.shape", where=f"input {name}",
            hint="Give .npy, .npz or .bin files",
        )  # fmt: skip
    first, last = dims[0] in (1, 3), dims[2] in (1, 3)
    if layout == "auto":
        if first == last:
            raise ConvertError(
                f"cannot tell the layout of shape {list(shape)}", rule="preprocess.layout", where=f"input {name}",
                hint='Say layout = "nchw" or "nhwc" in the preprocessing file',
            )  # fmt: skip
        layout = "nchw" if first else "nhwc"
    if layout == "nchw":
        return layout, dims[1], dims[2], dims[0]
    return layout, dims[0], dims[1], dims[2]


def _resized(picture: Any, steps: Preprocess, height: int, width: int) -> Any:
    from PIL import Image

    target = steps.resize or (None if steps.crop else (height, width))
    if target is not None:
        if steps.keep_aspect:
            factor = max(target[0] / picture.height, target[1] / picture.width)
            target = (max(target[0], round(picture.height * factor)), max(target[1], round(picture.width * factor)))
        if (picture.height, picture.width) != target:
            picture = picture.resize((target[1], target[0]), getattr(Image.Resampling, _INTERPOLATIONS[steps.interpolation]))
    if steps.crop:
        top, left = round((picture.height - steps.crop[0]) / 2), round((picture.width - steps.crop[1]) / 2)
        picture = picture.crop((left, top, left + steps.crop[1], top + steps.crop[0]))
    return picture


def prepare(picture: Any, steps: Preprocess, shape: tuple[int, ...], dtype: np.dtype[Any], name: str, where: str) -> Array:
    """One sample from a picture.

    Args:
        picture: a Pillow image.
        steps: what to do with it.
        shape: of the network's input, ``[N, C, H, W]``, ``[N, H, W, C]`` or the same without N.
        dtype: of the network's input: float32, or uint8/int8 without mean and std.
        name: of the input, for messages.
        where: file of the picture, for messages.

    Returns:
        ``[C, H, W]`` or ``[H, W, C]`` in the input's type.

    Raises:
        ConvertError: the result does not fit the input.
    """
    layout, height, width, channels = input_layout(shape, steps.layout, name)
    if channels != _CHANNELS[steps.channels]:
        raise ConvertError(
            f"input {name!r} has {channels} channels, {steps.channels} has {_CHANNELS[steps.channels]}",
            rule="preprocess.channels", where=where, hint='Set channels to "gray" for one and "rgb" or "bgr" for three',
        )  # fmt: skip
    picture = _resized(picture.convert("L" if steps.channels == "gray" else "RGB"), steps, height, width)
    if (picture.height, picture.width) != (height, width):
        raise ConvertError(
            f"the picture is {picture.height} x {picture.width} after resize and crop, input {name!r} takes {height} x {width}",
            rule="preprocess.size", where=where, hint=f"Set crop or resize to [{height}, {width}]",
        )  # fmt: skip
    pixels: Array = np.asarray(picture, np.uint8).reshape(height, width, channels)
    if steps.channels == "bgr":
        pixels = pixels[:, :, ::-1]
    if dtype.kind == "f":
        pixels = pixels.astype(np.float32)
        if steps.mean:
            pixels = pixels - np.asarray(steps.mean, np.float32)
        if steps.std:
            pixels = pixels / np.asarray(steps.std, np.float32)
    elif steps.mean or steps.std:
        raise ConvertError(
            f"input {name!r} is {dtype}, mean and std give float32", rule="preprocess.type", where=where, hint="Leave mean and std out"
        )
    if layout == "nchw":
        pixels = np.moveaxis(pixels, 2, 0)
    return np.ascontiguousarray(pixels.astype(dtype, copy=False))
