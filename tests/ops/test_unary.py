# SPDX-License-Identifier: Apache-2.0
"""Unary: C against numpy bit for bit, and both against higher precision; int8 tables; integers."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from edge8.converter.graph import DType
from edge8.converter.ops.unary import UnaryKind as K
from edge8.cpu import restrict
from tests.ops.harness import check_node, run_node, tensor, value
from tests.ops.onnx_case import check_onnx

PARAMETERS = {
    K.CLIP: (-1.5, 2.25),
    K.LEAKY_RELU: (0.01, 0.0),
    K.ELU: (1.25, 0.0),
    K.HARD_SIGMOID: (0.2, 0.5),
    K.POW: (1.7, 0.0),
    K.SELU: (1.6732632, 1.050701),
    K.CELU: (0.75, 0.0),
    K.THRESHOLDED_RELU: (0.5, 0.0),
}
KINDS = [k for k in K if k is not K.NOT]
DIGESTS = {
    K.IDENTITY: "e21394d0",
    K.CLIP: "268fd12e",
    K.LEAKY_RELU: "37235e29",
    K.ELU: "b4b564d3",
    K.SIGMOID: "1db480a2",
    K.HARD_SIGMOID: "4d0c3915",
    K.HARD_SWISH: "b3946dd7",
    K.TANH: "b582e679",
    K.GELU: "aa0f647b",
    K.GELU_TANH: "5740dff2",
    K.SILU: "365267ff",
    K.ERF: "cfba6926",
    K.EXP: "15ce11c2",
    K.LOG: "de8ce6a2",
    K.SQRT: "7238d78b",
    K.ABS: "b584c74f",
    K.NEG: "b90d9c9d",
    K.POW: "8a7d0628",
    K.RECIPROCAL: "3705e22d",
    K.FLOOR: "41abe050",
    K.CEIL: "805579cb",
    K.ROUND: "0b387a92",
    K.SIN: "1ac0b172",
    K.COS: "af5f2ad7",
    K.SOFTPLUS: "b4a49e8f",
    K.SELU: "71fd8437",
    K.CELU: "545eafc0",
    K.MISH: "f63f7086",
    K.SOFTSIGN: "ec1afa8b",
    K.SIGN: "b1010e40",
    K.THRESHOLDED_RELU: "8b73c7da",
}


def every_float(step: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Floats of all signs and exponents: every ``step``-th bit pattern, infinities and NaN among them."""
    bits = np.arange(0, 1 << 32, step, dtype=np.uint64).astype(np.uint32)
    edges = np.array([0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 1, 0x80000001, 0x3F800000, 0x3F7FFFFF, 0x3F800001], np.uint32)
    return np.concatenate([bits, edges]).view(np.float32)


def parameters(kind: K) -> dict[str, Any]:
    alpha, beta = PARAMETERS.get(kind, (0.0, 0.0))
    return {"kind": int(kind), "alpha": alpha, "beta": beta}


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_runtime_and_numpy_agree_on_all_kinds_of_floats(kind: K) -> None:
    x = np.concatenate([every_float(9973), np.linspace(-12, 12, 200001, dtype=np.float32)])
    check_node("Unary", parameters(kind), [x], [tensor(x.shape)])


@pytest.mark.parametrize("exponent", [2.0, 0.5, 3.0, -1.0, 0.0, -2.5, 7.0, np.inf, -np.inf, np.nan, 1e9, 16777217.0, 0.333])
def test_pow_agrees_on_all_kinds_of_floats(exponent: float) -> None:
    x = every_float(99991)
    (y,) = check_node("Unary", {"kind": int(K.POW), "alpha": exponent}, [x], [tensor(x.shape)])
    with np.errstate(all="ignore"):
        wanted = np.power(x.astype(np.float64), np.full(x.shape, np.float32(exponent), np.float64)).astype(np.float32)
    assert_ulps(y, wanted, 1, x)


def digest(kind: K) -> str:
    """CRC-32 of the results for all kinds of floats, every NaN taken as the same one."""
    x = every_float(99991)
    (y,) = run_node("Unary", parameters(kind), [x], [tensor(x.shape)])
    return f"{zlib.crc32(np.where(np.isnan(y), np.float32(np.nan), y).astype('<f4').tobytes()):08x}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_results_are_those_of_every_other_machine(kind: K) -> None:
    """The stored digests were the same on x86-64 (gcc, clang, with and without AVX2), aarch64, armhf, riscv64 and s390x."""
    assert digest(kind) == DIGESTS[kind]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_every_level_gives_the_same_bits(kind: K) -> None:
    best = digest(kind)
    restrict([])
    try:
        assert digest(kind) == best
    finally:
        restrict(None)


def assert_ulps(y: Any, wanted: Any, ulps: int, x: Any, absolute: float = 0.0) -> None:
    """``y`` is within so many units in the last place of ``wanted``; infinities and NaN are the same."""
    assert np.array_equal(np.isnan(y), np.isnan(wanted))
    both = np.isfinite(y) & np.isfinite(wanted)
    edge = ~both & ~np.isnan(wanted)
    assert np.array_equal(y[edge], wanted[edge]), (x[edge][y[edge] != wanted[edge]][:5], y[edge][:5])
    distance = np.abs(y[both].astype(np.float64) - wanted[both].astype(np.float64))
    limit = np.maximum(ulps * np.spacing(np.abs(wanted[both])).astype(np.float64), absolute)
    worst = int(np.argmax(distance - limit)) if distance.size else 0
    assert (distance <= limit).all(), f"x = {x[both][worst]!r}: {y[both][worst]!r}, not {wanted[both][worst]!r}"


ACCURACY: dict[K, tuple[Callable[[Any], Any], int, float]] = {
    K.EXP: (np.exp, 2, 0.0),
    K.LOG: (np.log, 2, 0.0),
    K.TANH: (np.tanh, 3, 0.0),
    K.SIGMOID: (scipy.special.expit, 3, 0.0),
    K.ERF: (scipy.special.erf, 2, 0.0),
    K.SQRT: (np.sqrt, 0, 0.0),
    K.SIN: (np.sin, 1, 0.0),
    K.COS: (np.cos, 1, 0.0),
    K.SOFTPLUS: (lambda x: np.logaddexp(0, x), 3, 0.0),
    K.SILU: (lambda x: x * scipy.special.expit(x), 3, 1e-40),
    K.GELU: (lambda x: 0.5 * x * (1 + scipy.special.erf(x / np.sqrt(2))), 4, 3e-7),
    K.MISH: (lambda x: x * np.tanh(np.logaddexp(0, x)), 6, 1e-40),
    K.ELU: (lambda x: np.where(x < 0, 1.25 * np.expm1(x), x), 3, 0.0),
}


@pytest.mark.parametrize("kind", ACCURACY, ids=lambda k: k.name)
def test_error_is_a_few_units_in_the_last_place(kind: K) -> None:
    function, ulps, absolute = ACCURACY[kind]
    x = np.concatenate([every_float(49999), np.linspace(-20, 20, 300001, dtype=np.float32)])
    (y,) = run_node("Unary", parameters(kind), [x], [tensor(x.shape)])
    with np.errstate(all="ignore"):
        wanted = function(x.astype(np.float64))
    finite = np.isfinite(x)  # x * tanh(x) and the like are inf * 0 at the ends
    with np.errstate(over="ignore"):
        assert_ulps(y[finite], wanted[finite].astype(np.float32), ulps, x[finite], absolute)


@given(
    kind=st.sampled_from(KINDS),
    scales=st.tuples(st.floats(1e-4, 10.0), st.floats(1e-4, 10.0)),
    zeros=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    shape=st.lists(st.integers(1, 9), min_size=0, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=200, deadline=None)
def test_int8_table_is_what_the_runtime_computes(kind: K, scales: Any, zeros: Any, shape: list[int], seed: int) -> None:
    x = np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8)
    check_node("Unary", parameters(kind), [value(x, scales[0], zeros[0])], [tensor(x.shape, DType.INT8, scales[1], zeros[1])])


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_int8_table_is_dequantise_function_quantise(kind: K) -> None:
    """Every code, by three operators of the runtime and by the table that the converter makes with numpy."""
    codes = np.arange(-128, 128).astype(np.int8)
    (real,) = run_node("Dequantize", {}, [value(codes, 0.05, -7)], [tensor(codes.shape)])
    (done,) = run_node("Unary", parameters(kind), [real], [tensor(codes.shape)])
    (wanted,) = run_node("Quantize", {}, [done], [tensor(codes.shape, DType.INT8, 0.03, 5)])
    (found,) = run_node("Unary", parameters(kind), [value(codes, 0.05, -7)], [tensor(codes.shape, DType.INT8, 0.03, 5)])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("kind", [K.IDENTITY, K.ABS, K.NEG, K.SIGN], ids=lambda k: k.name)
def test_integers(kind: K, dtype: Any) -> None:
    info = np.iinfo(dtype)
    x = np.array([info.min, info.max, 0, 1, 2, 77, info.max - 1], dtype)
    of = {np.int32: DType.INT32, np.int64: DType.INT64, np.uint8: DType.UINT8}[dtype]
    check_node("Unary", {"kind": int(kind)}, [x], [tensor(x.shape, of)])


def test_not() -> None:
    x = np.array([True, False, True])
    (y,) = check_node("Unary", {"kind": int(K.NOT)}, [x], [tensor((3,), DType.BOOL)])
    assert y.tolist() == [False, True, False]


ATTRIBUTES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ("Relu", "Tanh", "Sigmoid", "Erf", "Exp", "Abs", "Neg", "Floor", "Ceil", "Round", "Sin", "Cos")),
    *((name, {}) for name in ("Softplus", "Softsign", "Mish", "Sign", "HardSwish", "Reciprocal", "Elu", "Selu", "Celu", "LeakyRelu")),
    ("Elu", {"alpha": 2.0}),
    ("Selu", {"alpha": 2.0, "gamma": 0.5}),
    ("Celu", {"alpha": 1.5}),
    ("LeakyRelu", {"alpha": 0.3}),
    ("HardSigmoid", {}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("ThresholdedRelu", {}),
    ("ThresholdedRelu", {"alpha": -0.5}),
    ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}),
]


@pytest.mark.parametrize(("name", "attributes"), ATTRIBUTES, ids=str)
def test_import(name: str, attributes: dict[str, Any]) -> None:
    x = np.random.default_rng(3).normal(0, 2, (2, 3, 5)).astype(np.float32)
    check_onnx(onnx.helper.make_node(name, ["x"], ["y"], **attributes), {"x": x}, opset=20)


@pytest.mark.parametrize("bounds", [(-0.5, 0.75), (None, 0.5), (0.0, None), (1.0, -1.0)])
def test_import_clip(bounds: tuple[float | None, float | None]) -> None:
    x = np.random.default_rng(4).normal(0, 2, (2, 9)).astype(np.float32)
    constants = {n: np.float32(v) for n, v in zip(("low", "high"), bounds, strict=True) if v is not None}
    names = [n if n in constants else "" for n in ("low", "high")]
    check_onnx(onnx.helper.make_node("Clip", ["x", *names], ["y"]), {"x": x}, constants, opset=13)
    attributes = {k: float(v) for k, v in zip(("min", "max"), bounds, strict=True) if v is not None}
    if bounds != (1.0, -1.0):
        check_onnx(onnx.helper.make_node("Clip", ["x"], ["y"], **attributes), {"x": x}, opset=9)


def test_import_pow_with_one_exponent() -> None:
    x = np.random.default_rng(5).uniform(0.1, 4, (3, 4)).astype(np.float32)
    for exponent in (0.5, 2.0, 3.0, -1.5):
        graph = check_onnx(onnx.helper.make_node("Pow", ["x", "e"], ["y"]), {"x": x}, {"e": np.float32(exponent)}, opset=13)
        assert [n.op for n in graph.nodes] == ["Unary"]
