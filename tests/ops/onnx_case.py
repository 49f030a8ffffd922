# SPDX-License-Identifier: Apache-2.0
"""Import one ONNX node, run it in the C runtime, and compare with ONNX's reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

from edge8.converter.evaluate import evaluate
from edge8.converter.graph import Graph
from edge8.converter.onnx_in import load
from edge8.converter.targets.cpu_lite import write
from tests.ops.harness import run_file

Array = np.ndarray[Any, Any]

__all__ = ["check_onnx", "check_onnxruntime", "make_model"]


def make_model(
    node: onnx.NodeProto, inputs: Mapping[str, Array], constants: Mapping[str, Any] | None = None, opset: int = 17
) -> onnx.ModelProto:
    """A model of one node whose outputs' shapes are not stated."""
    constants = constants or {}
    infos = [onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in inputs.items()]
    fixed = [onnx.numpy_helper.from_array(np.asarray(x), n) for n, x in constants.items()]
    outputs = [onnx.ValueInfoProto(name=n) for n in node.output if n]
    graph = onnx.helper.make_graph([node], "case", infos, outputs, fixed)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    try:
        return onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        return model  # a wrong node: the import has to say so


def import_onnx(node: onnx.NodeProto, inputs: Mapping[str, Array], constants: Mapping[str, Any] | None = None, *, opset: int = 17) -> Graph:
    """The graph of one node, not run."""
    return load(make_model(node, inputs, constants, opset))


def check_onnx(
    node: onnx.NodeProto,
    inputs: Mapping[str, Array],
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    exact: bool = True,
) -> Graph:
    """Assert that import + C runtime gives ONNX's result, and the numpy evaluator the runtime's bits (``exact``) or a near value; gives
    the graph back."""
    model = make_model(node, inputs, constants, opset)
    wanted = ReferenceEvaluator(model).run(None, dict(inputs))
    graph = load(model)
    found = run_file(write(graph), inputs)
    mirrored = list(evaluate(graph, {n: inputs[n] for n in graph.inputs}).values())
    for expected, actual, mirror in zip(wanted, found, mirrored, strict=True):
        assert actual.shape == np.shape(expected)
        if exact:
            np.testing.assert_array_equal(actual, mirror)
        else:
            np.testing.assert_allclose(actual, mirror, rtol=rtol, atol=atol)
        if np.asarray(expected).dtype.kind == "f":
            np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
        else:
            np.testing.assert_array_equal(actual, expected)
    return graph


def check_onnxruntime(
    node: onnx.NodeProto,
    inputs: Mapping[str, Array],
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> Graph:
    """The same against onnxruntime, where ONNX's evaluator is wrong or does not go; the numpy evaluator must come near, too."""
    model = make_model(node, inputs, constants, opset)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    graph = load(model)
    found = run_file(write(graph), inputs)
    mirrored = list(evaluate(graph, {n: inputs[n] for n in graph.inputs}).values())
    for expected, actual, mirror in zip(session.run(None, dict(inputs)), found, mirrored, strict=True):
        assert actual.shape == np.shape(expected)
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
        np.testing.assert_allclose(mirror, expected, rtol=rtol, atol=atol)
    return graph
