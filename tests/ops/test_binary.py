# SPDX-License-Identifier: Apache-2.0
"""Binary: C against numpy bit for bit over generated shapes; integers; the ONNX operators that become it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge8
from edge8.converter.errors import ConvertError
from edge8.converter.graph import DType, Node
from edge8.converter.ops import Value, operators
from edge8.converter.ops.binary import BinaryKind as K
from tests.ops.harness import check_node, run_node, tensor, value
from tests.ops.onnx_case import check_onnx, import_onnx

ARITHMETIC = [K.ADD, K.SUB, K.MUL, K.DIV, K.POW, K.MIN, K.MAX, K.PRELU, K.MOD]
COMPARISONS = [K.EQUAL, K.LESS, K.LESS_EQUAL, K.GREATER, K.GREATER_EQUAL]
INT8 = [K.ADD, K.SUB, K.MUL, K.DIV, K.MIN, K.MAX, K.PRELU]
INTEGERS = {np.int32: DType.INT32, np.int64: DType.INT64, np.uint8: DType.UINT8}


@st.composite
def broadcast_pairs(draw: st.DrawFn, rank: int = 8) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast, and their result; at most about 5,000 elements."""
    shape = draw(st.lists(st.integers(1, 7), min_size=0, max_size=rank))
    while int(np.prod(shape)) > 5000:
        shape[int(np.argmax(shape))] = 1
    pair = []
    for _ in range(2):
        cut = draw(st.integers(0, len(shape)))
        pair.append(tuple(1 if draw(st.booleans()) and draw(st.booleans()) else d for d in shape[cut:]))
    return pair[0], pair[1], tuple(np.broadcast_shapes(*pair))


seeds = st.integers(0, 2**32 - 1)
scales = st.floats(2.0**-20, 2.0**20)
zeros = st.integers(-128, 127)


@given(kind=st.sampled_from(ARITHMETIC + COMPARISONS), shapes=broadcast_pairs(), seed=seeds, bounds=st.booleans())
@settings(max_examples=250, deadline=None)
def test_float(kind: K, shapes: Any, seed: int, bounds: bool) -> None:
    rng = np.random.default_rng(seed)
    a, b = (
        rng.choice(np.array([0, -0.0, 1, -1, 2, 3.5, -7.25, np.inf, -np.inf, np.nan, 1e-40, 3e38, *rng.normal(0, 3, 20)]), s)
        for s in shapes[:2]
    )
    params: dict[str, Any] = {"kind": int(kind)}
    if bounds and kind in ARITHMETIC:
        params.update(act_min=-1.0, act_max=2.5)
    dtype = DType.BOOL if kind in COMPARISONS else DType.FLOAT32
    check_node("Binary", params, [a.astype(np.float32), b.astype(np.float32)], [tensor(shapes[2], dtype)])


@given(
    kind=st.sampled_from(INT8),
    shapes=broadcast_pairs(),
    seed=seeds,
    scale=st.tuples(scales, scales, scales),
    zero=st.tuples(zeros, zeros, zeros),
)
@settings(max_examples=400, deadline=None)
def test_int8(kind: K, shapes: Any, seed: int, scale: Any, zero: Any) -> None:
    rng = np.random.default_rng(seed)
    a, b = (value(rng.integers(-128, 128, s, dtype=np.int8), scale[i], zero[i]) for i, s in enumerate(shapes[:2]))
    params: dict[str, Any] = {"kind": int(kind)}
    if seed % 3 == 0:
        params.update(act_min=-20.0 * scale[2], act_max=float(30.0 * scale[2]))
    check_node("Binary", params, [a, b], [tensor(shapes[2], DType.INT8, scale[2], zero[2])], constants=(1,) if seed % 2 else ())


def test_int8_add_over_every_pair_of_codes() -> None:
    """All 65,536 pairs, both orders of scale, also where a sum lies in the middle of two codes."""
    a, b = (m.reshape(-1).astype(np.int8) for m in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    for scale, zero in (((0.1, 0.1, 0.2), (0, 0, 0)), ((0.013, 0.4, 0.35), (-128, 17, 3)), ((1e-6, 2.0, 1.9), (127, -128, -5))):
        for kind in (K.ADD, K.SUB, K.MUL):
            out = tensor(a.shape, DType.INT8, scale[2], zero[2])
            (y,) = check_node("Binary", {"kind": int(kind)}, [value(a, scale[0], zero[0]), value(b, scale[1], zero[1])], [out])
            real = {K.ADD: np.add, K.SUB: np.subtract, K.MUL: np.multiply}[kind](
                (a.astype(float) - zero[0]) * scale[0], (b.astype(float) - zero[1]) * scale[1]
            )
            exact = np.clip(real / scale[2] + zero[2], -128, 127)
            assert np.abs(y - exact).max() <= 0.53  # half a code, and the 15-bit multipliers


@pytest.mark.parametrize("elements", [1, 63, 64, 1000, 400_003])
@pytest.mark.parametrize("kind", [K.ADD, K.MUL, K.MAX])
def test_int8_in_parts_of_threads(kind: K, elements: int) -> None:
    rng = np.random.default_rng(elements)
    a = value(rng.integers(-128, 128, (3, elements), dtype=np.int8), 0.1, 3)
    for shape in ((3, elements), (1,), (3, 1), (elements,)):
        b = value(rng.integers(-128, 128, shape, dtype=np.int8), 0.07, -9)
        check_node("Binary", {"kind": int(kind)}, [a, b], [tensor((3, elements), DType.INT8, 0.2, 1)], threads=(1, 2, 5))
        check_node("Binary", {"kind": int(kind)}, [b, a], [tensor((3, elements), DType.INT8, 0.2, 1)], threads=(1, 3))


@given(
    kind=st.sampled_from(ARITHMETIC + COMPARISONS),
    dtype=st.sampled_from(list(INTEGERS)),
    shapes=broadcast_pairs(4),
    seed=seeds,
    fmod=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_integers(kind: K, dtype: Any, shapes: Any, seed: int, fmod: bool) -> None:
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    pool = np.array([info.min, info.max, 0, 1, 2, 3, 7, 100, info.max - 1, *([] if info.min == 0 else [-1, -2, -7, -100])], dtype)
    a, b = (rng.choice(pool, s) for s in shapes[:2])
    out = DType.BOOL if kind in COMPARISONS else INTEGERS[dtype]
    check_node("Binary", {"kind": int(kind), "fmod": fmod}, [a, b], [tensor(shapes[2], out)])


def test_integer_rules() -> None:
    a, b = np.array([7, -7, 7, -7, 5, np.iinfo(np.int64).min]), np.array([2, 2, -2, -2, 0, -1])
    wanted = {
        (K.DIV, False): [3, -3, -3, 3, 0, np.iinfo(np.int64).min],
        (K.MOD, False): [1, 1, -1, -1, 0, 0],
        (K.MOD, True): [1, -1, 1, -1, 0, 0],
        (K.POW, False): [49, 49, 0, 0, 1, 0],
    }
    for (kind, fmod), expected in wanted.items():
        (y,) = check_node("Binary", {"kind": int(kind), "fmod": fmod}, [a, b], [tensor((6,), DType.INT64)])
        assert y.tolist() == expected


@pytest.mark.parametrize("kind", [K.AND, K.OR, K.XOR, K.EQUAL])
def test_logic(kind: K) -> None:
    a, b = np.array([[True], [False]]), np.array([True, False])
    check_node("Binary", {"kind": int(kind)}, [a, b], [tensor((2, 2), DType.BOOL)])


def test_operands_of_different_types_are_refused() -> None:
    with pytest.raises(edge8.FormatError, match=r"binary\.type"):
        run_node("Binary", {"kind": 0}, [np.zeros(4, np.float32), np.zeros(4, np.int32)], [tensor((4,))])
    with pytest.raises(edge8.FormatError, match=r"op\.broadcast"):
        run_node("Binary", {"kind": 0}, [np.zeros(4, np.float32), np.zeros(3, np.float32)], [tensor((4,))])
    with pytest.raises(edge8.FormatError, match=r"binary\.activation"):
        run_node("Binary", {"kind": 0, "act_min": 1.0, "act_max": 0.0}, [np.zeros(4, np.float32)] * 2, [tensor((4,))])


def test_int8_multiplication_is_exact_at_halves() -> None:
    """2.5 rounds to the even code."""
    a, b = value(np.array([5, 7, -5], np.int8), 1.0), value(np.array([1, 1, 1], np.int8), 1.0)
    node = Node("Binary", ["a", "b"], ["y"], {"kind": int(K.MUL)})
    (y,) = operators()["Binary"].int8_reference(node, [a, b], [tensor((3,), DType.INT8, 2.0)])
    assert y.tolist() == [2, 4, -2]
    assert isinstance(a, Value)


ONNX_CASES = [
    (n, np.float32) for n in ("Add", "Sub", "Mul", "Div", "PRelu", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Pow")
]
ONNX_CASES += [(n, np.int64) for n in ("Add", "Sub", "Mul", "Div", "Equal", "Less", "Greater")]
ONNX_CASES += [(n, np.bool_) for n in ("And", "Or", "Xor", "Equal")]


@pytest.mark.parametrize(("name", "dtype"), ONNX_CASES)
def test_import(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.5, 5, (2, 3, 4)) * (1 if name == "Pow" else rng.choice([-1, 1], (2, 3, 4))), rng.uniform(1, 5, (3, 1))
    a, b = (x.astype(dtype) if dtype != np.bool_ else x > 2.5 for x in (a, b))
    node = onnx.helper.make_node(name, ["a", "b"], ["y"])
    check_onnx(node, {"a": a, "b": b})
    check_onnx(node, {"a": a}, {"b": b})


@pytest.mark.parametrize("types", [("f4", "i8"), ("i4", "f4"), ("i8", "f4"), ("i4", "i8")])
def test_import_pow_of_mixed_types(types: tuple[str, str]) -> None:
    a, b = np.array([1, 2, 3], types[0]), np.array([4, 2, 3], types[1])
    check_onnx(onnx.helper.make_node("Pow", ["a", "b"], ["y"]), {"a": a, "b": b})


@pytest.mark.parametrize("name", ["Sum", "Mean", "Min", "Max"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_import_variadic(name: str, count: int) -> None:
    rng = np.random.default_rng(count)
    inputs = {f"x{i}": rng.normal(0, 1, (3,) if i % 2 else (2, 3)).astype(np.float32) for i in range(count)}
    check_onnx(onnx.helper.make_node(name, list(inputs), ["y"]), inputs)


def test_import_mod() -> None:
    a, b = np.array([-4, 7, 5, 4, -7, 8], np.int64), np.array([2, -3, 8, -2, 3, 5], np.int64)
    check_onnx(onnx.helper.make_node("Mod", ["a", "b"], ["y"]), {"a": a, "b": b})
    check_onnx(onnx.helper.make_node("Mod", ["a", "b"], ["y"], fmod=1), {"a": a, "b": b})
    check_onnx(onnx.helper.make_node("Mod", ["a", "b"], ["y"], fmod=1), {"a": a.astype("f4") / 3, "b": b.astype("f4")})


def test_float_mod_without_fmod_is_an_error() -> None:
    x = np.ones(3, np.float32)
    with pytest.raises(ConvertError, match="fmod"):
        import_onnx(onnx.helper.make_node("Mod", ["a", "b"], ["y"], name="m"), {"a": x, "b": x})
