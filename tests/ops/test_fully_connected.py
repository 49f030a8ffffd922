# SPDX-License-Identifier: Apache-2.0
"""FullyConnected: C against numpy, int8 bit for bit and float within rounding; import of ONNX Gemm."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.errors import ConvertError
from edge8.converter.graph import DType
from edge8.converter.onnx_in import load
from tests.ops.geometry import activation, coded, weights_float, weights_int8
from tests.ops.harness import check_node, node_file, reference_node, run_node, tensor, value
from tests.ops.onnx_case import check_onnxruntime, make_model

seeds = st.integers(0, 2**32 - 1)
leads = st.sampled_from([(), (1,), (3,), (2, 5), (1, 2, 17)])
bounds = st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (-1.0, 1.0)])


@given(lead=leads, k=st.integers(1, 70), n=st.integers(1, 50), act=bounds, seed=seeds, bias=st.booleans(), residual=st.booleans())
@settings(max_examples=120, deadline=None)
def test_float(lead: tuple[int, ...], k: int, n: int, act: Any, seed: int, bias: bool, residual: bool) -> None:
    rng = np.random.default_rng(seed)
    params = {"act_min": act[0], "act_max": act[1]}
    b = rng.normal(0, 2, n).astype(np.float32) if bias else None
    r = rng.normal(0, 2, (*lead, n)).astype(np.float32) if residual else None
    inputs = [rng.normal(0, 1, (*lead, k)).astype(np.float32), weights_float(rng.normal(0, 1, (n, k))), b, None, r]
    out = [tensor((*lead, n))]
    (wanted,) = reference_node("FullyConnected", params, inputs, out, int8=False)
    results = [run_node("FullyConnected", params, inputs, out, constants=(2,), threads=t)[0] for t in (1, 2)]
    np.testing.assert_allclose(results[0], wanted, rtol=1e-5, atol=2e-5)
    np.testing.assert_array_equal(results[0], results[1])


@given(
    lead=leads,
    k=st.integers(1, 300),
    n=st.integers(1, 50),
    act=bounds,
    seed=seeds,
    options=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    zeros=st.tuples(*[st.integers(-128, 127)] * 3),
)
@settings(max_examples=200, deadline=None)
def test_int8(lead: tuple[int, ...], k: int, n: int, act: Any, seed: int, options: Any, zeros: Any) -> None:
    rng = np.random.default_rng(seed)
    w = weights_int8(rng, (n, k), n, options[2])
    assert w.data is not None
    sums = w.data.sum(axis=1, dtype=np.int32)
    b = rng.normal(0, 20, n).astype(np.float32) if options[0] else None
    r = value(activation(rng, (*lead, n)), 0.3, zeros[2]) if options[1] else None
    x, y = value(activation(rng, (*lead, k)), 0.04, zeros[0]), tensor((*lead, n), DType.INT8, 0.5, zeros[1])
    check_node("FullyConnected", {"act_min": act[0], "act_max": act[1]}, [x, w, b, sums, r], [y], constants=(2, 3))


@given(
    lead=leads, k=st.integers(1, 300), n=st.integers(1, 300), seed=seeds, options=st.tuples(*[st.booleans()] * 3), shift=st.floats(-4, 4)
)
@settings(max_examples=120, deadline=None)
def test_dynamic(lead: tuple[int, ...], k: int, n: int, seed: int, options: tuple[bool, ...], shift: float) -> None:
    """Bit for bit the rules of fully_connected.c, and close to float."""
    rng = np.random.default_rng(seed)
    w = weights_int8(rng, (n, k), n, options[0])
    assert w.data is not None
    assert w.scale is not None
    x = rng.normal(shift, 3, (*lead, k)).astype(np.float32)
    b = rng.normal(0, 1, n).astype(np.float32) if options[1] else None
    residual = rng.normal(0, 1, (*lead, n)).astype(np.float32) if options[2] else None
    inputs = [x, w, b, w.data.sum(axis=1, dtype=np.int32), residual]
    (found,) = check_node("FullyConnected", {"dynamic": True, "act_max": 50.0}, inputs, [tensor((*lead, n))], constants=(2, 3), int8=True)
    real = (w.data * w.scale.reshape(-1, 1)).astype(np.float32)
    (wanted,) = reference_node("FullyConnected", {"act_max": 50.0}, [x, real, b, None, residual], [tensor((*lead, n))], int8=False)
    step = (np.maximum(x.max(axis=-1), 0) - np.minimum(x.min(axis=-1), 0)) / 255
    assert (np.abs(found - wanted) <= (1.01 * step[..., None] * np.abs(real).sum(axis=1) + 1e-4)).all()


@pytest.mark.parametrize("mask", [-3.4028235e38, -np.inf, -1e9, np.inf, np.nan])
def test_dynamic_rows_keep_their_range_beside_mask_constants(mask: float) -> None:
    rng = np.random.default_rng(0)
    w = weights_int8(rng, (20, 64), 20, True)
    assert w.data is not None
    assert w.scale is not None
    x = rng.normal(0, 1, (6, 64)).astype(np.float32)
    x[:3, 5:9] = mask
    x[3] = mask
    x[4] = rng.uniform(1e9, 2e9, 64)
    x[5] = 0
    (y,) = check_node(
        "FullyConnected", {"dynamic": True}, [x, w, None, w.data.sum(axis=1, dtype=np.int32)], [tensor((6, 20))], constants=(3,), int8=True
    )
    real = w.data * w.scale.reshape(-1, 1)
    usual = np.where(np.abs(x[:3]) < 1e8, x[:3], 0)
    edge = usual.max(axis=1, keepdims=True) if mask > 0 else usual.min(axis=1, keepdims=True)
    saturated = np.where(np.abs(x[:3]) < 1e8, x[:3], edge)
    assert np.abs(y[:3] - saturated @ real.T).max() < 0.02 * np.abs(real).sum(axis=1).max()
    assert np.isfinite(y).all()
    wanted = x[4].astype(np.float64) @ real.T
    assert np.abs(y[4] - wanted).max() < 0.02 * np.abs(wanted).max()
    assert not y[5].any()


@given(bits=st.integers(1, 16), group=st.sampled_from([0, 4, 8, 32]), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_coded(bits: int, group: int, seed: int) -> None:
    """Weights of any width, with a scale per channel or per group of inputs; float32 activations."""
    rng = np.random.default_rng(seed)
    n, k, limit = 37, 64, max(1, 2 ** (bits - 1) - 1)
    codes = rng.choice([-1, 1], (n, k)) if bits == 1 else rng.integers(-limit, limit + 1, (n, k))
    codes = codes.astype(np.int8 if bits <= 8 else np.int16)
    parts = k // group if group else 1
    scale = rng.uniform(0.01, 0.1, (n, parts)).astype(np.float32)
    w = coded(codes, scale.reshape(-1), bits=0 if bits in (8, 16) else bits)
    w.group = group
    x, b = rng.normal(0, 1, (5, k)).astype(np.float32), rng.normal(0, 1, n).astype(np.float32)
    real = (codes * np.repeat(scale, k // parts, axis=1)).astype(np.float32)
    (wanted,) = reference_node("FullyConnected", {}, [x, real, b], [tensor((5, n))], int8=False)
    (found,) = run_node("FullyConnected", {}, [x, w, b], [tensor((5, n))], constants=(2,))
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6 * float(np.abs(wanted).max()) + 1e-5)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "y_shape", "rule"),
    [
        ((2, 5), (3, 4), (2, 3), "depth"),
        ((2, 4), (3, 4), (2, 4), "output"),
        ((2, 4), (3, 4), (3, 3), "output"),
        ((2, 4), (3, 4), (6,), "rank"),
    ],
)
def test_check_refuses(x_shape: Any, w_shape: Any, y_shape: Any, rule: str) -> None:
    data = node_file("FullyConnected", {}, [np.zeros(x_shape, np.float32), weights_float(np.zeros(w_shape))], [tensor(y_shape)])
    with pytest.raises(edge8.Edge8Error, match=rf"fully_connected\.{rule}"):
        edge8.Model(data)


# ---- ONNX ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("c", [None, (), (1,), (4,), (1, 4), (3, 1), (3, 4)])
@pytest.mark.parametrize("fixed", ["b", "bc", ""])
def test_import_gemm(trans_a: int, trans_b: int, c: tuple[int, ...] | None, fixed: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(0, 1, (5, 3) if trans_a else (3, 5)), "b": rng.normal(0, 1, (4, 5) if trans_b else (5, 4))}
    if c is not None:
        arrays["c"] = rng.normal(0, 1, c)
    arrays = {name: np.asarray(x, np.float32) for name, x in arrays.items()}
    node = onnx.helper.make_node("Gemm", list(arrays), ["y"], transA=trans_a, transB=trans_b, alpha=0.7, beta=1.3)
    graph = check_onnxruntime(
        node, {n: x for n, x in arrays.items() if n not in fixed}, {n: x for n, x in arrays.items() if n in fixed}, atol=1e-5
    )
    assert any(n.op == ("FullyConnected" if "b" in fixed else "MatMul") for n in graph.nodes)
    if fixed == "bc" and c in ((), (1,), (4,), (1, 4)):
        assert all(n.op in ("FullyConnected", "Transpose") for n in graph.nodes)


def test_import_gemm_refuses_other_ranks() -> None:
    node = onnx.helper.make_node("Gemm", ["a", "b"], ["y"], name="gemm")
    model = make_model(node, {"a": np.zeros((2, 3), np.float32)}, {"b": np.zeros((3, 4), np.float32)})
    load(model)
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 3
    with pytest.raises(ConvertError):
        load(model)
