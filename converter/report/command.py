# SPDX-License-Identifier: Apache-2.0
"""`edge8 report net.e8 --against net.onnx --data pictures/`: a report on a file that exists already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge8 import Model

from ..errors import ConvertError
from .content import build_report
from .page import report_suffix, write_report

__all__ = ["report_file"]


def report_file(
    model: str | Path,
    *,
    against: str | Path | None = None,
    data: Any = None,
    output: str | Path | None = None,
    input_shape: Mapping[str, tuple[int, ...]] | None = None,
    preprocess: Any = None,
    max_samples: int | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Compare a file with its ONNX model on data, layer by layer.

    Args:
        model: .e8 file.
        against: the ONNX model, or a float .e8 file of the same network; without it the report has no errors.
        data: what `edge8.converter.calibration.open_samples` takes.
        output: .html or .json file to write; None writes nothing.
        input_shape: shapes of inputs by name; by default those of the .e8 file.
        preprocess: how pictures become inputs; by default as the .e8 file remembers.
        max_samples: use at most so many.
        threads: of the runs.

    Returns:
        The report's content, see `build_report`.

    Raises:
        ConvertError, Edge8Error: a file cannot be used, or the files are not of one network.
    """
    from ..calibration import open_samples
    from ..preprocess import Preprocess

    if output is not None:
        report_suffix(output)
    if (against is None) != (data is None):
        raise ConvertError("a comparison needs both the reference and data", rule="report.data", where="--against, --data")
    opened = Model(model)
    remembered = opened.metadata.get("preprocess", {})
    if preprocess is None and remembered:
        preprocess = {name: Preprocess.from_dict(values, f"metadata of {model}") for name, values in remembered.items()}
    reference = None if against is None else _reference(Path(against), opened, input_shape)
    samples = () if reference is None else open_samples(data, reference, preprocess=preprocess, limit=max_samples)
    facts = {"quant": _kind(opened), "warnings": opened.metadata.get("warnings", [])}
    size = Path(against).stat().st_size if against is not None and Path(against).suffix == ".onnx" else 0
    scaled = set() if against is None or Path(against).suffix != ".onnx" else set(opened.metadata.get("equalised", []))
    content = build_report(opened, reference, samples, onnx_bytes=size, facts=facts, scaled=scaled, threads=threads)
    if reference is not None and not content["layers"]:
        raise ConvertError("no activation has the name of one in the other file", rule="report.match", where=f"{model}, {against}")
    if output is not None:
        write_report(content, output)
    return content


def _kind(model: Model) -> str:
    if any(not t.constant and t.scale > 0 for t in model.tensors):
        return "full"
    if "dynamic" in model.metadata:
        return "dynamic"
    return "weight" if any(t.constant and t.scale > 0 for t in model.tensors) else "float"


def _reference(path: Path, model: Model, input_shape: Mapping[str, tuple[int, ...]] | None) -> Model:
    """The float model that a file is compared with."""
    if path.suffix != ".onnx":
        reference = Model(path)
    else:
        from ..api import float_file, load_graph

        reference = Model(float_file(load_graph(path, input_shape or {t.name: t.shape for t in model.inputs})))
    names = [[(t.name, t.shape) for t in m.inputs] for m in (model, reference)]
    if names[0] != names[1]:
        raise ConvertError(
            f"its inputs are {names[1]}, those of the .e8 file are {names[0]}", rule="report.match", where=str(path),
            hint="Give the model that the file was made from",
        )  # fmt: skip
    return reference
