# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 - one operator a line reads better
"""Preparation keeps the meaning: prepared models give what the originals give, in onnxruntime and in the numpy evaluator."""

from __future__ import annotations

import collections
import contextlib
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.backend.test.case.node import collect_testcases

from edge8.converter.errors import ConvertError
from edge8.converter.targets.ascend310.evaluate import Executor
from edge8.converter.targets.ascend310.prepare import Prepared, prepare
from tests.ascend310 import nets

onnxruntime.set_default_logger_severity(4)


def _run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    return list(onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds))


def _same(model: onnx.ModelProto, feeds: dict[str, Any], **options: Any) -> Prepared:
    """Prepare, compare with the original in both evaluators, return what came out."""
    prepared = prepare(model, **options)
    ready = prepared.graph.to_model()
    onnx.checker.check_model(ready, full_check=True)
    wanted = _run(model, feeds)
    for given in (_run(ready, feeds), list(Executor(ready).run(feeds).values())):
        for a, b in zip(given, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)
    return prepared


def _ops(prepared: Prepared) -> collections.Counter[str]:
    return collections.Counter(node.op_type for node in prepared.graph.nodes)


def _x(*shape: int) -> dict[str, Any]:
    return {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}


def _single(
    op: str, shape: list[int], out: list[int], opset: int, inits: dict[str, Any] | None = None, extra: list[str] | None = None, **attrs: Any
) -> onnx.ModelProto:
    node = helper.make_node(op, ["x", *(extra or list(inits or {}))], ["y"], "node", **attrs)
    return nets.graph_of([node], {"x": shape}, {"y": out}, inits or {}, opset)


C = np.float32

SINGLES: list[tuple[str, onnx.ModelProto, set[str]]] = [
    ("Softmax on an inner axis", _single("Softmax", [2, 5, 3], [2, 5, 3], 13, axis=1), {"Transpose", "Softmax"}),
    ("Softmax on the last axis", _single("Softmax", [2, 5], [2, 5], 13), {"Softmax"}),
    ("HardSwish", _single("HardSwish", [2, 5], [2, 5], 14), {"HardSigmoid", "Mul"}),
    ("Mish", _single("Mish", [2, 5], [2, 5], 18), {"Softplus", "Tanh", "Mul"}),
    ("Gelu", _single("Gelu", [2, 5], [2, 5], 20), {"Erf", "Mul", "Add"}),
    ("Gelu by tanh", _single("Gelu", [2, 5], [2, 5], 20, approximate="tanh"), {"Tanh", "Mul", "Add"}),
    ("Celu", _single("Celu", [2, 5], [2, 5], 12, alpha=2.0), {"Elu", "Mul", "Div"}),
    (
        "LayerNormalization",
        _single("LayerNormalization", [2, 5, 4], [2, 5, 4], 17, {"g": C([1, 2, 3, 4]), "b": C([0, 1, 0, 1])}),
        {"ReduceMean", "Sub", "Mul", "Add", "Sqrt", "Div"},
    ),
    (
        "GroupNormalization",
        _single("GroupNormalization", [2, 4, 3, 3], [2, 4, 3, 3], 21, {"g": C([1, 2, 3, 4]), "b": C([0, 1, 0, 1])}, num_groups=2),
        {"Reshape", "InstanceNormalization", "Mul", "Add"},
    ),
    ("ReduceMean with axes input", _single("ReduceMean", [2, 5, 4], [2, 4], 18, {"a": np.array([1])}, keepdims=0), {"ReduceMean"}),
    ("Unsqueeze with axes input", _single("Unsqueeze", [2, 5], [2, 1, 5], 13, {"a": np.array([1])}), {"Unsqueeze"}),
    ("Pad with axes", _single("Pad", [1, 2, 3, 3], [1, 2, 5, 5], 18, {"p": np.array([1, 1, 1, 1]), "v": C(0), "a": np.array([2, 3])}), {"Pad"}),
    ("Resize without roi", _single("Resize", [1, 2, 3, 3], [1, 2, 6, 6], 13, {"s": C([1, 1, 2, 2])}, ["", "s"], mode="linear"), {"Resize"}),
    ("Resize with axes", _single("Resize", [1, 2, 3, 3], [1, 2, 6, 6], 18, {"s": np.array([6, 6])}, ["", "", "s"], axes=[2, 3]), {"Resize"}),
    ("Conv with auto_pad", _single("Conv", [1, 2, 7, 7], [1, 3, 4, 4], 13, {"w": np.ones((3, 2, 3, 3), C)}, auto_pad="SAME_UPPER", strides=[2, 2]), {"Conv"}),
    ("Conv over one axis", _single("Conv", [1, 2, 9], [1, 3, 9], 13, {"w": np.ones((3, 2, 3), C)}, pads=[1, 1]), {"Unsqueeze", "Conv", "Squeeze"}),
    (
        "ConvTranspose with output_shape",
        _single("ConvTranspose", [1, 2, 5, 5], [1, 3, 10, 10], 13, {"w": np.ones((2, 3, 3, 3), C)}, strides=[2, 2], output_shape=[10, 10]),
        {"ConvTranspose"},
    ),
    (
        "Gemm with everything",
        _single("Gemm", [4, 3], [3, 2], 13, {"w": np.ones((2, 4), C), "c": C([[1, 2]])}, transA=1, transB=1, alpha=0.5, beta=2.0),
        {"Transpose", "Gemm"},
    ),
    ("Einsum", _single("Einsum", [2, 3, 4], [2, 5, 3], 13, {"w": np.ones((2, 5, 4), C)}, equation="bik,bjk->bji"), {"Transpose", "MatMul"}),
    ("Dropout", _single("Dropout", [2, 3], [2, 3], 13), {"Identity"}),
    ("an old model", _single("Upsample", [1, 1, 2, 2], [1, 1, 4, 4], 9, {"s": C([1, 1, 2, 2])}), {"Resize"}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "model", "ops"), SINGLES, ids=[what for what, _, _ in SINGLES])
def test_operators_become_what_atc_takes(what: str, model: onnx.ModelProto, ops: set[str]) -> None:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    prepared = _same(model, _x(*shape))
    assert prepared.graph.opset == 11
    assert set(_ops(prepared)) == ops


@pytest.mark.parametrize("opset", [11, 12, 13])
def test_target_opsets(opset: int) -> None:
    prepared = _same(nets.cnn(), _x(1, 3, 16, 16), target_opset=opset)
    assert prepared.graph.opset == opset


def test_fusion_and_its_switches() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"], "bn"),
        helper.make_node("Mul", ["n", "k"], ["s"], "mul"),
        helper.make_node("Add", ["o", "s"], ["y"], "add"),
    ]
    rng = np.random.default_rng(1)
    inits = {name: rng.uniform(0.5, 2, 4).astype(np.float32) for name in "gbmv"} | {
        "w": rng.normal(size=(4, 2, 3, 3)).astype(np.float32), "k": rng.normal(size=(4, 1, 1)).astype(np.float32), "o": np.float32(3),
    }  # fmt: skip
    model = nets.graph_of(nodes, {"x": [1, 2, 6, 6]}, {"y": [1, 4, 4, 4]}, inits)
    feeds = _x(1, 2, 6, 6)
    assert _ops(_same(model, feeds)) == {"Conv": 1}
    assert _ops(_same(model, feeds, do_fusion=False)) == {"Conv": 1, "BatchNormalization": 1, "Mul": 1, "Add": 1}
    assert _ops(_same(model, feeds, skip_fusion=["conv"])) == {"Conv": 1, "BatchNormalization": 1}
    with pytest.raises(ConvertError, match="no layer 'convx'"):
        prepare(model, skip_fusion=["convx"])


def test_transposed_convolutions_take_in_their_norm() -> None:
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["c"], "up", group=2, strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"], "bn"),
    ]
    rng = np.random.default_rng(1)
    inits = {name: rng.uniform(0.5, 2, 6).astype(np.float32) for name in "gbmv"} | {"w": rng.normal(size=(4, 3, 2, 2)).astype(np.float32)}
    model = nets.graph_of(nodes, {"x": [1, 4, 3, 3]}, {"y": [1, 6, 6, 6]}, inits)
    assert _ops(_same(model, _x(1, 4, 3, 3))) == {"ConvTranspose": 1}


def test_shared_weights_are_copied_and_names_made_unique() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Conv", ["x", "w"], ["b"], "same"),
        helper.make_node("Sub", ["a", "b"], ["y"], "same"),
    ]
    model = nets.graph_of(nodes, {"x": [1, 2, 4, 4]}, {"y": [1, 2, 4, 4]}, {"w": np.ones((2, 2, 1, 1), np.float32)})
    # onnxruntime refuses the original for its two equal names.
    prepared = prepare(model)
    assert np.all(_run(prepared.graph.to_model(), _x(1, 2, 4, 4))[0] == 0)
    names = [node.name for node in prepared.graph.nodes]
    assert names == ["Conv_0", "same", "same_0"]
    assert prepared.graph.nodes[0].input[1] != prepared.graph.nodes[1].input[1]


def test_integers_become_int32_behind_topk() -> None:
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["v", "i"], "top"),
        helper.make_node("Add", ["i", "one"], ["j"], "shift"),
        helper.make_node("Gather", ["table", "j"], ["y"], "look"),
    ]
    inits = {"k": np.array([2]), "one": np.array([1]), "table": np.arange(9, dtype=np.float32)}
    model = nets.graph_of(nodes, {"x": [1, 6]}, {"y": [1, 2]}, inits)
    prepared = _same(model, _x(1, 6))
    types = {node.name: [prepared.graph.elem_type(name) for name in node.output] for node in prepared.graph.nodes}
    assert types["shift"] == [TensorProto.INT32]
    assert prepared.graph.elem_type(next(n for n in prepared.graph.nodes if n.name == "top").output[1]) == TensorProto.INT64
    assert any("TopK" in warning for warning in prepared.warnings)


def test_negative_gather_indices_become_positive() -> None:
    model = _single("Gather", [1, 4, 3], [1, 3], 13, {"i": np.array(-1)}, axis=1)
    prepared = _same(model, _x(1, 4, 3))
    node = prepared.graph.nodes[0]
    assert prepared.graph.inits[node.input[1]] == 3


def test_limits_of_the_cube_unit_are_errors() -> None:
    model = _single("Conv", [1, 1, 4, 300], [1, 1, 4, 1], 13, {"w": np.ones((1, 1, 1, 300), np.float32)})
    with pytest.raises(ConvertError, match=r"kernel \[1, 300\] outside 1 to 255"):
        prepare(model)


def _bound(case: Any) -> tuple[onnx.ModelProto, dict[str, Any], list[Any]] | None:
    """A node test of onnx with every input but the first bound as a constant, or None where it is not about plain numbers."""
    ins, outs = case.data_sets[0]
    arrays = [*ins, *outs]
    if not ins or not all(
        isinstance(a, np.ndarray) and a.dtype.kind in "fiub" and not (a.dtype.kind == "f" and a.itemsize == 2) for a in arrays
    ):
        return None
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs = list(model.graph.input)
    if len(inputs) != len(ins):
        return None
    for value, array in zip(inputs[1:], ins[1:], strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), value.name))
    del model.graph.input[1:]
    x = ins[0].astype(np.float32) if ins[0].dtype == np.float64 else ins[0]
    return model, {inputs[0].name: x}, list(outs)


# The older form of these follows another convention than the reference of the newest version, in onnxruntime as well.
_OTHER_CONVENTION = {
    "test_resize_downsample_scales_linear_align_corners", "test_resize_downsample_scales_cubic_align_corners",
    "test_bernoulli_double_expanded", "test_bernoulli_seed_expanded", "test_reduce_max_empty_set_bool",
}  # fmt: skip


def test_node_tests_of_onnx_keep_their_results(capsys: pytest.CaptureFixture[str]) -> None:
    """All operator tests of the onnx wheel: lowered to opset 11 and evaluated, or refused by name; never wrong."""
    counts: collections.Counter[str] = collections.Counter()
    wrong = []
    for case in collect_testcases(None):
        bound = _bound(case)
        if bound is None:
            counts["not numeric"] += 1
            continue
        model, feeds, wanted = bound
        try:
            prepared = prepare(model, input_shape={name: list(array.shape) for name, array in feeds.items()})
        except ConvertError as error:
            counts[f"refused ({error.rule})"] += 1
            continue
        with np.errstate(all="ignore"):
            given = list(Executor(prepared.graph.to_model()).run(feeds).values())
        right = len(given) == len(wanted) and all(
            np.shape(a) == np.shape(b)
            and np.allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=1e-3, atol=1e-5, equal_nan=True)
            for a, b in zip(given, wanted, strict=True)
        )
        counts["right" if right else "wrong"] += 1
        if not right:
            wrong.append(case.name)
    with capsys.disabled(), contextlib.suppress(OSError):
        print(f"\nonnx node tests for Ascend: {dict(counts)}; wrong: {wrong}")
    assert set(wrong) <= _OTHER_CONVENTION
    assert counts["right"] > 880
