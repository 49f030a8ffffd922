# SPDX-License-Identifier: Apache-2.0
"""Input shapes and ATC's dynamic profiles: parsing, checks, and the shapes the graph inputs get.

ATC takes static shapes, or -1 in some dimensions together with exactly one of three flags that list the sizes to build for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from ...errors import ConvertError
from .onnx_graph import OnnxGraph, shape_of

__all__ = ["Profile", "apply_shapes", "parse_input_shape", "parse_profile"]

_MIN_PROFILES, _MAX_PROFILES = 2, 100


@dataclass(frozen=True)
class Profile:
    """One of ATC's dynamic flags.

    Attributes:
        flag: ``"dynamic_batch_size"``, ``"dynamic_image_size"`` or ``"dynamic_dims"`` (ATC's name).
        ours: the flag of this command, for messages.
        rows: the listed sizes, one tuple a profile.
    """

    flag: str
    ours: str
    rows: tuple[tuple[int, ...], ...]

    def text(self) -> str:
        """The value as ATC takes it."""
        if self.flag == "dynamic_batch_size":
            return ",".join(str(row[0]) for row in self.rows)
        return ";".join(",".join(str(size) for size in row) for row in self.rows)


def parse_input_shape(value: str | Mapping[str, Sequence[int]] | None) -> dict[str, list[int]]:
    """``"a:1,3,224,224;b:1,10"`` or a mapping -> sizes by input name; -1 is a dynamic size.

    Names may contain colons: the last one separates the name from the sizes.

    Raises:
        ConvertError: empty name, missing or malformed sizes, size below -1 or 0, name given twice.
    """
    if value is None:
        return {}
    rows: list[tuple[str, list[int]]] = []
    if isinstance(value, str):
        for part in value.split(";"):
            name, colon, dims = part.strip().rpartition(":")
            if not colon or not name:
                raise ConvertError(
                    f"cannot read {part!r}",
                    rule="shape.format",
                    where="--input-shape",
                    hint='Write "name:1,3,224,224;other:1,10" (ATC: E10002)',
                )
            try:
                rows.append((name, [int(dim) for dim in dims.split(",")] if dims.strip() else []))
            except ValueError:
                raise ConvertError(
                    f"the sizes of input {name!r} are not integers: {dims!r}",
                    rule="shape.format",
                    where="--input-shape",
                    hint='Write "name:1,3,224,224" (ATC: E10002)',
                ) from None
    else:
        rows = [(name, [int(dim) for dim in dims]) for name, dims in value.items()]
    out: dict[str, list[int]] = {}
    for name, sizes in rows:
        if name in out:
            raise ConvertError(f"input {name!r} is given twice", rule="shape.twice", where="--input-shape", hint="Keep one entry an input")
        if any(dim == 0 or dim < -1 for dim in sizes):
            raise ConvertError(
                f"sizes must be positive, or -1 for a dynamic one, not {sizes}",
                rule="shape.range",
                where=f"--input-shape {name}",
                hint="Give the size the board will run with (ATC: E10011)",
            )
        out[name] = sizes
    return out


def _sizes(text: str, flag: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ConvertError(
            f"cannot read {text!r}", rule="dynamic.format", where=flag, hint="Write positive integers: 1,2,4 or 224,224;448,448"
        )
    return sizes


def parse_profile(dynamic_batch: str | None, dynamic_image_size: str | None, dynamic_dims: str | None) -> Profile | None:
    """The one dynamic flag that was given, or None.

    Raises:
        ConvertError: more than one flag, fewer than 2 or more than 100 profiles, duplicates, wrong number of sizes.
    """
    given = [
        ("dynamic_batch_size", "--dynamic-batch", dynamic_batch),
        ("dynamic_image_size", "--dynamic-image-size", dynamic_image_size),
        ("dynamic_dims", "--dynamic-dims", dynamic_dims),
    ]
    used = [(flag, ours, text) for flag, ours, text in given if text]
    if not used:
        return None
    if len(used) > 1:
        raise ConvertError(
            f"{' and '.join(ours for _, ours, _ in used)} exclude each other",
            rule="dynamic.exclusive",
            where=used[0][1],
            hint="ATC builds one kind of profile per model and stops with E10009 otherwise; keep one of them. "
            "--dynamic-dims can express all three",
        )
    flag, ours, text = used[0]
    rows = [(size,) for size in _sizes(text, ours)] if flag == "dynamic_batch_size" else [_sizes(part, ours) for part in text.split(";")]
    if flag == "dynamic_image_size" and any(len(row) != 2 for row in rows):
        raise ConvertError("each profile is a height and a width", rule="dynamic.format", where=ours, hint='Write "224,224;448,448"')
    if len({len(row) for row in rows}) > 1:
        raise ConvertError("the profiles have different numbers of sizes", rule="dynamic.format", where=ours, hint="ATC: E10036")
    if not _MIN_PROFILES <= len(rows) <= _MAX_PROFILES:
        raise ConvertError(
            f"{len(rows)} profiles; ATC takes {_MIN_PROFILES} to {_MAX_PROFILES}",
            rule="dynamic.count",
            where=ours,
            hint="For one size use static shapes (--input-shape, --batch) (ATC: E10035)",
        )
    if len(set(rows)) != len(rows):
        raise ConvertError("a profile is listed twice", rule="dynamic.duplicate", where=ours, hint="List each size once (ATC: E10039)")
    return Profile(flag, ours, tuple(rows))


def _set_shape(value: onnx.ValueInfoProto, sizes: Sequence[int]) -> None:
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for axis, size in enumerate(sizes):
        dim = shape.dim.add()
        if size == -1:
            dim.dim_param = f"{value.name}_d{axis}"
        else:
            dim.dim_value = size


def _resolve(
    value: onnx.ValueInfoProto, wanted: list[int] | None, batch: int | None, profile: Profile | None, notes: list[str]
) -> list[int]:
    """The sizes of one graph input, -1 where a profile decides."""
    declared = shape_of(value)
    if declared is None:
        if wanted is None:
            raise ConvertError(
                "the model does not say this input's shape",
                rule="shape.unknown",
                where=value.name,
                hint=f'Give --input-shape "{value.name}:…"',
            )
        declared = [None] * len(wanted)
    if wanted is not None:
        if len(wanted) != len(declared):
            raise ConvertError(
                f"--input-shape gives {len(wanted)} sizes, the model has {len(declared)}",
                rule="shape.rank",
                where=value.name,
                hint="ATC: E10049",
            )
        for axis, (dim, size) in enumerate(zip(declared, wanted, strict=True)):
            if isinstance(dim, int) and dim > 0 and size not in (dim, -1) and not (axis == 0 and batch is None):
                raise ConvertError(
                    f"--input-shape gives {size} for axis {axis}, the model fixes it at {dim}",
                    rule="shape.conflict",
                    where=value.name,
                    hint="Export the model with this axis dynamic, or give the model's own size",
                )
        sizes = list(wanted)
    else:
        sizes = [dim if isinstance(dim, int) and dim > 0 else -1 for dim in declared]
    if sizes and sizes[0] == -1 and profile is None:
        sizes[0] = batch if batch is not None else 1
        if batch is None:
            notes.append(f"input {value.name}: the dynamic batch was set to 1; --batch N chooses another")
    elif sizes and batch is not None and profile is None and sizes[0] != batch:
        raise ConvertError(
            f"--batch {batch}, but the model fixes the first axis at {sizes[0]}",
            rule="shape.batch",
            where=value.name,
            hint="Leave --batch out",
        )
    return sizes


def _check_profile(inputs: list[tuple[str, list[int]]], profile: Profile) -> None:
    """-1 stands exactly where the flag allows it."""
    open_axes = [(name, axis, len(sizes)) for name, sizes in inputs for axis, size in enumerate(sizes) if size == -1]
    if not open_axes:
        raise ConvertError(
            "no input has a dynamic axis",
            rule="dynamic.static",
            where=profile.ours,
            hint='Mark the axis with -1: --input-shape "name:-1,3,224,224"',
        )
    allowed = {"dynamic_batch_size": (0,), "dynamic_image_size": (2, 3)}.get(profile.flag)
    for name, axis, rank in open_axes:
        if allowed is not None and (axis not in allowed or (profile.flag == "dynamic_image_size" and rank != 4)):
            raise ConvertError(
                f"axis {axis} of input {name!r} is dynamic, which this flag does not cover",
                rule="dynamic.axis",
                where=profile.ours,
                hint="Fix it with --input-shape, or use --dynamic-dims (ATC: E10018/E10019)",
            )
    if profile.flag == "dynamic_dims" and len(profile.rows[0]) != len(open_axes):
        raise ConvertError(
            f"each profile has {len(profile.rows[0])} sizes, the inputs have {len(open_axes)} dynamic axes",
            rule="dynamic.count",
            where=profile.ours,
            hint="Give one size per -1, in the order of the inputs (ATC: E10036)",
        )


def apply_shapes(
    graph: OnnxGraph, input_shape: Mapping[str, list[int]], batch: int | None, profile: Profile | None, notes: list[str]
) -> dict[str, list[int]]:
    """Set the shapes of the graph's inputs and return them (-1 = dynamic).

    Raises:
        ConvertError: unknown input name, contradiction with the model, dynamic axes without a profile.
    """
    names = [value.name for value in graph.inputs]
    for name in input_shape:
        if name not in names:
            raise ConvertError(
                f"the model has no input {name!r}", rule="shape.name", where="--input-shape", hint=f"Inputs: {', '.join(names)}"
            )
    if batch is not None and batch < 1:
        raise ConvertError(f"{batch} is not a batch size", rule="shape.batch", where="--batch", hint="Give a positive integer")
    if batch is not None and profile is not None:
        raise ConvertError(
            "a fixed batch and dynamic profiles exclude each other",
            rule="dynamic.exclusive",
            where="--batch",
            hint=f"Drop --batch or {profile.ours}",
        )
    out: dict[str, list[int]] = {}
    for value in graph.inputs:
        sizes = _resolve(value, input_shape.get(value.name), batch, profile, notes)
        if profile is not None and profile.flag == "dynamic_image_size" and sizes and sizes[0] == -1:
            sizes[0] = 1
            notes.append(f"input {value.name}: the dynamic batch was set to 1")
        if profile is None and -1 in sizes:
            axes = [axis for axis, size in enumerate(sizes) if size == -1]
            raise ConvertError(
                f"axes {axes} have no fixed size",
                rule="shape.dynamic",
                where=value.name,
                hint="ATC needs static shapes or a list of profiles: give --input-shape "
                f'"{value.name}:{",".join("?" if size == -1 else str(size) for size in sizes)}" with numbers for the ?, '
                "or one of --dynamic-batch, --dynamic-image-size, --dynamic-dims",
            )
        _set_shape(value, sizes)
        out[value.name] = sizes
    if profile is not None:
        _check_profile(list(out.items()), profile)
    return out
