# SPDX-License-Identifier: Apache-2.0
"""Run one operator in the C runtime: a graph of one node is written as an .e8 file, opened and run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import edge8
from edge8.converter.graph import DType, Graph, Node, Tensor, numpy_dtype
from edge8.converter.ops import Value, operators
from edge8.converter.targets.cpu_lite import write

Array = np.ndarray[Any, Any]
Input = Value | Array | Tensor | None

_DTYPES = {numpy_dtype(d): d for d in DType}

__all__ = ["check_node", "node_file", "reference_node", "run_file", "run_node", "tensor", "value"]


def tensor(shape: Sequence[int], dtype: DType = DType.FLOAT32, scale: float | None = None, zero_point: int = 0) -> Tensor:
    """Description of an output (or of an input without content)."""
    return Tensor("", tuple(shape), dtype, scale=None if scale is None else np.array([scale], np.float32), zero_point=zero_point)


def value(array: Array, scale: float, zero_point: int = 0) -> Value:
    """Codes with their scale."""
    return Value(array, np.array([scale], np.float32), zero_point)


def _input_tensor(name: str, given: Input, constant: bool) -> tuple[Tensor, Array]:
    if isinstance(given, Tensor):
        assert given.data is not None
        copy = Tensor(name, given.shape, given.dtype, given.data, given.scale, given.zero_point, given.bits, given.group)
        return copy, given.data
    array = given.array if isinstance(given, Value) else np.asarray(given)
    dtype = _DTYPES[array.dtype.newbyteorder("<")]
    made = Tensor(name, array.shape, dtype, np.ascontiguousarray(array).reshape(array.shape) if constant else None)
    if isinstance(given, Value):
        made.scale, made.zero_point = given.scale, given.zero_point
    return made, array


def _graph(
    op: str, params: Mapping[str, Any], inputs: Sequence[Input], outputs: Sequence[Tensor], constants: Iterable[int]
) -> tuple[Graph, dict[str, Array]]:
    graph, feeds, names = Graph(), {}, []
    fixed = set(constants)
    for i, given in enumerate(inputs):
        if given is None:
            names.append("")
            continue
        made, array = _input_tensor(f"input{i}", given, i in fixed)
        names.append(graph.add(made))
        if not made.constant:
            graph.inputs.append(made.name)
            feeds[made.name] = array
    for i, t in enumerate(outputs):
        graph.add(Tensor(f"output{i}", t.shape, t.dtype, scale=t.scale, zero_point=t.zero_point))
        graph.outputs.append(f"output{i}")
    graph.nodes.append(Node(op, names, list(graph.outputs), dict(params), "node"))
    return graph, feeds


def node_file(
    op: str, params: Mapping[str, Any], inputs: Sequence[Input], outputs: Sequence[Tensor], constants: Iterable[int] = ()
) -> bytes:
    """The .e8 file of one node; see `run_node`."""
    return write(_graph(op, params, inputs, outputs, constants)[0])


def run_file(data: bytes, feeds: Mapping[str, Array], threads: int = 1) -> list[Array]:
    """Outputs of a file, in order."""
    session = edge8.Model(data).session(threads)
    for i, t in enumerate(session.inputs):
        session.input_view(i)[...] = feeds[t.name]
    session.run()
    return [session.output_view(i).copy() for i in range(len(session.outputs))]


def run_node(
    op: str,
    params: Mapping[str, Any],
    inputs: Sequence[Input],
    outputs: Sequence[Tensor],
    *,
    constants: Iterable[int] = (),
    threads: int = 1,
) -> list[Array]:
    """Run one operator in the C runtime.

    Args:
        op: table of schemas/ops.fbs.
        params: its fields.
        inputs: `Value` (codes with a scale), an array (plain numbers), a `Tensor` with data (weights: a constant with scales per
            channel, packed by the operator), or None where an optional input is absent.
        outputs: shapes, types and scales of the results (`tensor`).
        constants: numbers of the inputs that are stored in the file instead of fed.
        threads: of the session.

    Returns:
        The outputs' contents: codes for quantised ones.
    """
    graph, feeds = _graph(op, params, inputs, outputs, constants)
    return run_file(write(graph), feeds, threads)


def reference_node(op: str, params: Mapping[str, Any], inputs: Sequence[Input], outputs: Sequence[Tensor], *, int8: bool) -> list[Array]:
    """The same by the operator's numpy reference."""
    node = Node(op, [f"input{i}" for i in range(len(inputs))], [f"output{i}" for i in range(len(outputs))], dict(params), "node")
    plain = [_input_tensor(f"input{i}", x, False) if x is not None else None for i, x in enumerate(inputs)]
    if not int8:
        return operators()[op].reference(node, [None if p is None else p[1] for p in plain], outputs)
    values = [None if p is None else Value(p[1], p[0].scale, p[0].zero_point) for p in plain]
    codes = [x.array.dtype for x in inputs if isinstance(x, Value)] + [numpy_dtype(t.dtype) for t in outputs]
    if np.dtype("<i2") in codes:
        return operators()[op].int16_reference(node, values, outputs)
    return operators()[op].int8_reference(node, values, outputs)


def check_node(
    op: str,
    params: Mapping[str, Any],
    inputs: Sequence[Input],
    outputs: Sequence[Tensor],
    *,
    constants: Iterable[int] = (),
    threads: Iterable[int] = (1, 2),
    int8: bool | None = None,
) -> list[Array]:
    """Assert that the C runtime gives the bytes of the numpy reference, with every number of threads; gives the outputs back.

    The int8 reference is taken when an activation has a scale, or as ``int8`` says. NaN equals NaN.
    """
    if int8 is None:
        int8 = any(isinstance(x, Value) for x in inputs) or any(t.scale is not None for t in outputs)
    expected = reference_node(op, params, inputs, outputs, int8=int8)
    fixed = tuple(constants)
    for count in threads:
        found = run_node(op, params, inputs, outputs, constants=fixed, threads=count)
        for t, a, b in zip(outputs, expected, found, strict=True):
            assert a.dtype == numpy_dtype(t.dtype), f"{op}: the reference gives {a.dtype}, not {t.dtype.name}"
            np.testing.assert_array_equal(b, a, err_msg=f"{op} {dict(params)} with {count} threads")
    return expected
