# SPDX-License-Identifier: Apache-2.0
"""A produced folder, opened for checking: everything is read from the files, nothing is taken on trust."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf import text_format

from ...errors import ConvertError
from . import report, schemas_pb2
from .onnx_graph import OnnxGraph

__all__ = ["BrokenFileError", "ProducedFolder", "QuantLayer"]


class BrokenFileError(Exception):
    """A file cannot be read at all; the check that needed it reports this text."""


@dataclass(frozen=True)
class QuantLayer:
    """A layer between AscendQuant and AscendDequant, as the deploy graph has it.

    Attributes:
        name: of the layer.
        quants: AscendQuant nodes in front (exactly one in a right model).
        dequants: AscendDequant nodes behind (exactly one in a right model).
        node: the layer; last: the node whose sums are dequantised (its bias Add, or the layer itself).
    """

    name: str
    node: onnx.NodeProto
    last: onnx.NodeProto
    quants: tuple[onnx.NodeProto, ...]
    dequants: tuple[onnx.NodeProto, ...]


@dataclass
class ProducedFolder:
    """Files of one folder, parsed on demand.

    Attributes:
        path: the folder.
        data: report.json.
    """

    path: Path
    data: dict[str, Any]
    _models: dict[str, onnx.ModelProto] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path) -> ProducedFolder:
        """Open a folder.

        Raises:
            ConvertError: it is missing or was not written by this target.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise ConvertError(
                "no such folder", rule="verify.folder", where=str(folder), hint="Give the folder that convert --target ascend310 wrote"
            )
        data = report.read_report(folder)
        if data is None:
            raise ConvertError(
                f"{report.REPORT_NAME} is missing or not of this target",
                rule="verify.folder",
                where=str(folder),
                hint="Give the folder that convert --target ascend310 wrote",
            )
        return cls(folder, data)

    @property
    def net(self) -> str:
        """Base name of the files."""
        return str(self.data.get("net", ""))

    def text(self, name: str) -> str:
        """A text file. Raises BrokenFileError."""
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BrokenFileError(f"{name}: {error}") from error

    def model(self, kind: str) -> onnx.ModelProto:
        """``"float"``, ``"deploy"`` or ``"fake_quant"``. Raises BrokenFileError."""
        if kind not in self._models:
            name = f"{self.net}_{kind}_model.onnx"
            try:
                self._models[kind] = onnx.load(str(self.path / name))
            except Exception as error:
                raise BrokenFileError(f"{name}: not readable ({type(error).__name__})") from error
        return self._models[kind]

    def graph(self, kind: str) -> OnnxGraph:
        """The same as an OnnxGraph. Raises BrokenFileError."""
        try:
            return OnnxGraph(self.model(kind))
        except ConvertError as error:
            raise BrokenFileError(str(error)) from error

    @cached_property
    def record(self) -> Any:
        """ScaleOffsetRecord. Raises BrokenFileError."""
        name = f"{self.net}_record.txt"
        message = schemas_pb2.ScaleOffsetRecord()
        try:
            text_format.Parse(self.text(name), message)
        except text_format.ParseError as error:
            raise BrokenFileError(f"{name}: {error}") from error
        return message

    @cached_property
    def records(self) -> dict[str, Any]:
        """SingleLayerRecord by layer name, tensor_quantize entries left out."""
        return {record.key: record.value for record in self.record.record if not record.value.is_tensor_quantize}

    def layers(self) -> list[QuantLayer]:
        """Every node that has an AscendQuant or AscendDequant neighbour, or an int8 weight."""
        graph = self.graph("deploy")
        producers, consumers = graph.producers(), graph.consumers()
        out = []
        for node in graph.nodes:
            if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul", "AveragePool"):
                continue
            source = producers.get(node.input[0])
            if source is not None and source.op_type == "Pad":
                source = producers.get(source.input[0])
            quants = (source,) if source is not None and source.op_type == "AscendQuant" else ()
            last = node
            readers = [reader for reader, _ in consumers.get(node.output[0], [])]
            if node.op_type == "MatMul" and len(readers) == 1 and readers[0].op_type == "Add":
                constant = graph.inits.get(readers[0].input[1])
                if constant is not None and constant.dtype == np.int32:
                    last = readers[0]
                    readers = [reader for reader, _ in consumers.get(last.output[0], [])]
            dequants = tuple(reader for reader in readers if reader.op_type == "AscendDequant")
            weights = graph.inits.get(node.input[1]) if len(node.input) > 1 else None
            if quants or dequants or (weights is not None and weights.dtype == np.int8):
                out.append(QuantLayer(node.name, node, last, quants, dequants))
        return out
