# SPDX-License-Identifier: Apache-2.0
"""Calibration data: every source gives the same samples, and whatever cannot be used is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge8.converter.calibration import Preprocess, load_preprocess, open_samples
from edge8.converter.errors import ConvertError
from edge8.converter.graph import DType, Graph, Tensor

RNG = np.random.default_rng(5)


def network(**inputs: Any) -> Graph:
    """A graph that has only inputs: name = shape or (shape, dtype)."""
    graph = Graph()
    for name, spec in inputs.items():
        shape, dtype = spec if isinstance(spec[0], tuple) else (spec, DType.FLOAT32)
        graph.add(Tensor(name, shape, dtype))
        graph.inputs.append(name)
    return graph


VECTOR = network(x=(1, 6))
PICTURE = network(image=(1, 3, 8, 10))


def read(*arguments: Any, **options: Any) -> list[dict[str, np.ndarray[Any, Any]]]:
    return list(open_samples(*arguments, **options))


def joined(samples: list[dict[str, np.ndarray[Any, Any]]], name: str) -> np.ndarray[Any, Any]:
    return np.concatenate([s[name] for s in samples])


@pytest.fixture
def rows() -> np.ndarray[Any, Any]:
    return RNG.normal(size=(5, 6)).astype(np.float32)


def write_rows(folder: Path, rows: np.ndarray[Any, Any], kind: str) -> None:
    folder.mkdir(exist_ok=True)
    for i, row in enumerate(rows):
        path = folder / f"{i}.{kind}"
        if kind == "npy":
            np.save(path, row[None])
        elif kind == "npz":
            np.savez(path, x=row[None])
        else:
            row.astype("<f4").tofile(path)


@pytest.mark.parametrize("kind", ["npy", "npz", "bin", "raw"])
def test_folder_of_arrays(tmp_path: Path, rows: np.ndarray[Any, Any], kind: str) -> None:
    write_rows(tmp_path / "data", rows, kind)
    samples = read(tmp_path / "data", VECTOR)
    assert len(samples) == 5
    assert samples[0]["x"].shape == (1, 6)
    np.testing.assert_array_equal(joined(samples, "x"), rows)


def test_single_files_and_memory_give_the_same(tmp_path: Path, rows: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "all.npy", rows.astype(np.float64))
    np.savez(tmp_path / "all.npz", data=rows, labels=np.arange(5))
    rows.tofile(tmp_path / "all.bin")
    sources: list[Any] = [tmp_path / "all.npy", str(tmp_path / "all.npz"), [tmp_path / "all.bin"], rows, list(rows), iter(rows)]
    sources += [{"x": rows}, [{"x": r[None]} for r in rows], {"x": tmp_path / "all.npy"}]
    for source in sources:
        np.testing.assert_array_equal(joined(read(source, VECTOR), "x"), rows)


def test_generator_can_be_read_again_and_part_by_part(rows: np.ndarray[Any, Any]) -> None:
    samples = open_samples(({"x": r[None]} for r in rows), VECTOR)
    first = iter(samples)
    assert np.array_equal(next(first)["x"][0], rows[0])
    np.testing.assert_array_equal(joined(list(samples), "x"), rows)
    np.testing.assert_array_equal(joined(list(samples), "x"), rows)
    assert np.array_equal(next(first)["x"][0], rows[1])


def test_limit(rows: np.ndarray[Any, Any]) -> None:
    samples = open_samples(list(rows), VECTOR, limit=3)
    assert samples.total == 3
    np.testing.assert_array_equal(joined(list(samples), "x"), rows[:3])
    with pytest.raises(ConvertError, match="--samples"):
        open_samples(rows, VECTOR, limit=0)


def test_fixed_batch_takes_groups(rows: np.ndarray[Any, Any]) -> None:
    samples = read(rows, network(x=(2, 6)))
    assert [s["x"].shape for s in samples] == [(2, 6), (2, 6)]
    np.testing.assert_array_equal(joined(samples, "x"), rows[:4])
    with pytest.raises(ConvertError, match="batch of 8"):
        read(rows, network(x=(8, 6)))


def test_several_inputs_pair_by_name(tmp_path: Path, rows: np.ndarray[Any, Any]) -> None:
    two = network(**{"a": (1, 6), "b:0": ((1, 6), DType.INT64)})
    write_rows(tmp_path / "a", rows, "npy")
    (tmp_path / "b").mkdir()
    for i in reversed(range(5)):
        np.save(tmp_path / "b" / f"{i}.npy", np.full((1, 6), i))
    samples = read([f"a={tmp_path / 'a'}", f"b:0={tmp_path / 'b'}"], two)
    np.testing.assert_array_equal(joined(samples, "a"), rows)
    np.testing.assert_array_equal(joined(samples, "b:0")[:, 0], np.arange(5))
    np.savez(tmp_path / "both.npz", **{"a": rows, "b:0": np.ones((5, 6), np.int64)})
    assert len(read(tmp_path / "both.npz", two)) == 5
    with pytest.raises(ConvertError, match=r"no data for input 'b:0'"):
        read([f"a={tmp_path / 'a'}"], two)
    with pytest.raises(ConvertError, match="NAME=FOLDER"):
        read(tmp_path / "a", two)
    (tmp_path / "b" / "0.npy").unlink()
    with pytest.raises(ConvertError, match="numbers of files differ"):
        read([f"a={tmp_path / 'a'}", f"b:0={tmp_path / 'b'}"], two)
    with pytest.raises(ConvertError, match="no input is called 'c'"):
        read([f"c={tmp_path / 'a'}"], two)


def picture_folder(folder: Path, count: int = 3, size: tuple[int, int] = (8, 10)) -> np.ndarray[Any, Any]:
    folder.mkdir(exist_ok=True)
    pixels = RNG.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    for i, p in enumerate(pixels):
        Image.fromarray(p).save(folder / f"p{i}.png")
    return pixels


def test_pictures_are_normalised(tmp_path: Path) -> None:
    pixels = picture_folder(tmp_path / "p")
    steps = Preprocess(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 5.0), channels="bgr")
    samples = open_samples(tmp_path / "p", PICTURE, preprocess=steps)
    assert samples.total == 3
    wanted = (pixels[..., ::-1].astype(np.float32) - np.float32([10, 20, 30])) / np.float32([2, 4, 5])
    np.testing.assert_array_equal(joined(list(samples), "image"), np.moveaxis(wanted, 3, 1))
    assert samples.preprocess == {"image": steps}
    np.savez(tmp_path / "p.npz", images=pixels, labels=np.zeros(3))
    np.testing.assert_array_equal(joined(read(tmp_path / "p.npz", PICTURE, preprocess=steps), "image"), np.moveaxis(wanted, 3, 1))
    np.testing.assert_array_equal(joined(read(list(pixels), PICTURE, preprocess=steps), "image"), np.moveaxis(wanted, 3, 1))
    nhwc = joined(read(tmp_path / "p", network(image=(1, 8, 10, 3)), preprocess=steps), "image")
    np.testing.assert_array_equal(nhwc, wanted)


def test_gray_pictures_and_uint8_inputs(tmp_path: Path) -> None:
    pixels = picture_folder(tmp_path / "p")
    gray = joined(read(tmp_path / "p", network(i=((1, 8, 10, 1), DType.UINT8)), preprocess=Preprocess(channels="gray")), "i")
    assert gray.dtype == np.uint8
    np.testing.assert_array_equal(gray[0, :, :, 0], np.asarray(Image.fromarray(pixels[0]).convert("L")))
    with pytest.raises(ConvertError, match="channels"):
        read(tmp_path / "p", network(i=(1, 8, 10, 1)))
    with pytest.raises(ConvertError, match="mean and std"):
        read(tmp_path / "p", network(i=((1, 8, 10, 3), DType.UINT8)), preprocess=Preprocess(mean=(1.0,)))


def test_resize_and_crop(tmp_path: Path) -> None:
    pixels = picture_folder(tmp_path / "p", 1, (20, 40))
    image = Image.fromarray(pixels[0])
    stretched = joined(read(tmp_path / "p", PICTURE), "image")[0]
    np.testing.assert_array_equal(stretched, np.moveaxis(np.asarray(image.resize((10, 8), Image.Resampling.BILINEAR)), 2, 0))
    steps = Preprocess(resize=(12, 12), keep_aspect=True, crop=(8, 10), interpolation="nearest")
    wanted = image.resize((24, 12), Image.Resampling.NEAREST).crop((7, 2, 17, 10))
    np.testing.assert_array_equal(
        joined(read(tmp_path / "p", PICTURE, preprocess=steps), "image")[0], np.moveaxis(np.asarray(wanted), 2, 0)
    )
    cropped = joined(read(tmp_path / "p", PICTURE, preprocess=Preprocess(crop=(8, 10))), "image")[0]
    np.testing.assert_array_equal(cropped, np.moveaxis(pixels[0, 6:14, 15:25], 2, 0))
    with pytest.raises(ConvertError, match=r"p0.png.*12 x 12.*takes 8 x 10"):
        read(tmp_path / "p", PICTURE, preprocess=Preprocess(resize=(12, 12)))


def test_preprocess_file(tmp_path: Path) -> None:
    file = tmp_path / "pre.toml"
    file.write_text('std = 2.0\n[input.image]\nmean = [1, 2, 3]\nresize = 9\ncrop = [8, 8]\nlayout = "nchw"\n')
    steps = load_preprocess(file)
    assert steps["image"] == Preprocess(std=(2.0,), mean=(1.0, 2.0, 3.0), resize=(9, 9), crop=(8, 8), layout="nchw")
    assert steps[""] == Preprocess(std=(2.0,))
    again = Preprocess.from_dict(steps["image"].to_dict(), "x")
    assert again == steps["image"]
    picture_folder(tmp_path / "p")
    with pytest.raises(ConvertError, match="8 x 8"):
        read(tmp_path / "p", PICTURE, preprocess=file)
    for text, message in [("mean = 1\nmeen = 2", "meen"), ("std = 0", "divide"), ("mean = [1, 2]", "2 numbers"), ("resize = [1]", "size")]:
        file.write_text(text)
        with pytest.raises(ConvertError, match=message):
            load_preprocess(file)
    file.write_text("= broken")
    with pytest.raises(ConvertError, match=r"pre\.toml.*TOML"):
        load_preprocess(file)
    with pytest.raises(ConvertError, match=r"absent\.toml"):
        load_preprocess(tmp_path / "absent.toml")
    file.write_text("[input.other]\nstd = 2\n")
    with pytest.raises(ConvertError, match="'other'"):
        read(tmp_path / "p", PICTURE, preprocess=file)


def test_layout_that_cannot_be_told() -> None:
    pixels = np.zeros((1, 3, 3, 3), np.uint8)
    odd = network(i=(1, 3, 3, 3))
    with pytest.raises(ConvertError, match="layout"):
        read(pixels, odd, preprocess=Preprocess())
    assert len(read(pixels, odd, preprocess=Preprocess(layout="nhwc"))) == 1


BAD_FILES: list[tuple[str, bytes | None, str]] = [
    ("a.bin", b"123", r"3 bytes.*is 24"),
    ("a.bin", b"", r"0 bytes"),
    ("a.npy", b"not an array", r"readable \.npy"),
    ("a.npz", b"PK\x03\x04 cut", r"readable \.npz"),
    ("a.png", b"\x89PNG\r\n\x1a\n....", "readable picture"),
    ("a.txt", b"hello", "no calibration data"),
    ("", None, "no calibration data"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_unusable_files_are_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    if content is not None:
        (folder / name).write_bytes(content)
    wanted = PICTURE if name.endswith("png") else VECTOR
    with pytest.raises(ConvertError, match=message) as caught:
        read(folder, wanted)
    assert "data" in str(caught.value)
    assert caught.value.rule.startswith("calibration.")


def test_values_and_shapes_that_cannot_be_used(tmp_path: Path, rows: np.ndarray[Any, Any]) -> None:
    folder = tmp_path / "data"
    write_rows(folder, rows, "npy")
    bad = rows[:1].copy()
    bad[0, 3] = np.nan
    np.save(folder / "9.npy", bad)
    with pytest.raises(ConvertError, match=r"9\.npy.*NaN"):
        read(folder, VECTOR)
    bad[0, 3] = -np.inf
    np.save(folder / "9.npy", bad)
    with pytest.raises(ConvertError, match=r"9\.npy.*infinity"):
        read(folder, VECTOR)
    np.save(folder / "9.npy", np.zeros((1, 7), np.float32))
    with pytest.raises(ConvertError, match=r"9\.npy.*\[1, 7\].*\[1, 6\]"):
        read(folder, VECTOR)
    np.save(folder / "9.npy", np.zeros((1, 6), np.complex64))
    with pytest.raises(ConvertError, match=r"9\.npy.*complex64"):
        read(folder, VECTOR)
    np.save(folder / "9.npy", np.zeros((1, 6), np.float32))
    Image.new("RGB", (4, 4)).save(folder / "z.png")
    with pytest.raises(ConvertError, match="mixed"):
        read(folder, VECTOR)
    with pytest.raises(ConvertError, match="no such file"):
        read(tmp_path / "absent", VECTOR)


def test_objects_that_cannot_be_used(rows: np.ndarray[Any, Any]) -> None:
    for source, message in [
        ([], "no samples"),
        ([{"y": rows[0]}], "'y'"),
        ([{}], "no data for input 'x'"),
        ([["a", "b"]], "x"),
        ([{"x": object()}], "array of numbers"),
        (iter(()), "no samples"),
        (5, "no calibration data"),
    ]:
        with pytest.raises(ConvertError, match=message):
            read(source, VECTOR)
    with pytest.raises(ConvertError, match="uint8 pictures"):
        read(np.zeros((1, 3, 8, 10), np.uint8), PICTURE)


def test_npz_without_the_inputs_name(tmp_path: Path, rows: np.ndarray[Any, Any]) -> None:
    np.savez(tmp_path / "a.npz", one=rows, two=rows)
    with pytest.raises(ConvertError, match="one, two"):
        read(tmp_path / "a.npz", VECTOR)
