# SPDX-License-Identifier: Apache-2.0
"""fuse_functions, fuse_layer_norm, fuse_softmax, fuse_prelu, fuse_matmul: spelled-out formulas become one operator."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from edge8.converter.ops.binary import BinaryKind as B
from edge8.converter.ops.reduce import ReduceKind as R
from edge8.converter.ops.unary import UnaryKind as U

from .graphs import Builder, apply, apply_all, counts, mark, only


def binary(b: Builder, kind: B, x: str, y: str | float) -> str:
    return b.op("Binary", x, b.const(np.float32(y)) if isinstance(y, float) else y, kind=int(kind))


def unary(b: Builder, kind: U, x: str, **params: float) -> str:
    return b.op("Unary", x, kind=int(kind), **params)


def clip(b: Builder, x: str, low: float, high: float) -> str:
    return unary(b, U.CLIP, x, alpha=low, beta=high)


def hard_swish(b: Builder, x: str) -> str:
    return binary(b, B.MUL, binary(b, B.MUL, x, clip(b, binary(b, B.ADD, x, 3.0), 0.0, 6.0)), 1 / 6)


def hard_swish_divided_first(b: Builder, x: str) -> str:
    return binary(b, B.MUL, x, binary(b, B.DIV, clip(b, binary(b, B.ADD, x, 3.0), 0.0, 6.0), 6.0))


def hard_swish_of_hard_sigmoid(b: Builder, x: str) -> str:
    return binary(b, B.MUL, x, unary(b, U.HARD_SIGMOID, x, alpha=1 / 6, beta=0.5))


def silu(b: Builder, x: str) -> str:
    return binary(b, B.MUL, unary(b, U.SIGMOID, x), x)


def silu_by_exp(b: Builder, x: str) -> str:
    return binary(b, B.DIV, x, binary(b, B.ADD, unary(b, U.EXP, unary(b, U.NEG, x)), 1.0))


def gelu(b: Builder, x: str) -> str:
    inner = binary(b, B.ADD, unary(b, U.ERF, binary(b, B.DIV, x, math.sqrt(2))), 1.0)
    return binary(b, B.MUL, binary(b, B.MUL, x, inner), 0.5)


def gelu_halved_first(b: Builder, x: str) -> str:
    inner = binary(b, B.ADD, unary(b, U.ERF, binary(b, B.MUL, x, math.sqrt(0.5))), 1.0)
    return binary(b, B.MUL, binary(b, B.MUL, x, 0.5), inner)


def gelu_tanh(b: Builder, x: str) -> str:
    cube = unary(b, U.POW, x, alpha=3.0)
    inner = binary(b, B.MUL, binary(b, B.ADD, x, binary(b, B.MUL, cube, 0.044715)), math.sqrt(2 / math.pi))
    return binary(b, B.MUL, binary(b, B.MUL, x, 0.5), binary(b, B.ADD, unary(b, U.TANH, inner), 1.0))


def gelu_tanh_factored(b: Builder, x: str) -> str:
    inner = binary(b, B.ADD, binary(b, B.MUL, binary(b, B.MUL, x, 0.044715 * math.sqrt(2 / math.pi)), x), math.sqrt(2 / math.pi))
    outer = binary(b, B.ADD, unary(b, U.TANH, binary(b, B.MUL, x, inner)), 1.0)
    return binary(b, B.MUL, x, binary(b, B.MUL, outer, 0.5))


def mish(b: Builder, x: str) -> str:
    return binary(b, B.MUL, x, unary(b, U.TANH, unary(b, U.SOFTPLUS, x)))


def mish_spelled(b: Builder, x: str) -> str:
    return binary(b, B.MUL, x, unary(b, U.TANH, unary(b, U.LOG, binary(b, B.ADD, unary(b, U.EXP, x), 1.0))))


def leaky_by_max(b: Builder, x: str) -> str:
    return binary(b, B.MAX, x, binary(b, B.MUL, x, 0.1))


def hard_sigmoid(b: Builder, x: str) -> str:
    return clip(b, binary(b, B.ADD, binary(b, B.MUL, x, 0.2), 0.5), 0.0, 1.0)


def absolute(b: Builder, x: str) -> str:
    return binary(b, B.MAX, x, unary(b, U.NEG, x))


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [
        (hard_swish, U.HARD_SWISH),
        (hard_swish_divided_first, U.HARD_SWISH),
        (hard_swish_of_hard_sigmoid, U.HARD_SWISH),
        (silu, U.SILU),
        (silu_by_exp, U.SILU),
        (gelu, U.GELU),
        (gelu_halved_first, U.GELU),
        (gelu_tanh, U.GELU_TANH),
        (gelu_tanh_factored, U.GELU_TANH),
        (mish, U.MISH),
        (mish_spelled, U.MISH),
        (leaky_by_max, U.LEAKY_RELU),
        (hard_sigmoid, U.HARD_SIGMOID),
        (absolute, U.ABS),
    ],
)
def test_function_is_recognised(spelling: Callable[[Builder, str], str], kind: U) -> None:
    b = Builder()
    graph = apply(b.finish(spelling(b, b.input(4, 100))), "fuse_functions")
    assert [node.op for node in graph.nodes] == ["Unary"]
    assert graph.nodes[0].params["kind"] == kind


def test_constant_factor_is_kept() -> None:
    b = Builder()
    x = b.input(4, 100)
    y = binary(b, B.MUL, x, clip(b, binary(b, B.ADD, x, 3.0), 0.0, 6.0))
    graph = apply(b.finish(y), "fuse_functions")
    assert [n.op for n in graph.nodes] == ["Unary", "Binary"]
    assert graph.nodes[0].params["kind"] == U.HARD_SWISH


@pytest.mark.parametrize(("offset", "limit"), [(3.001, 6.0), (3.0, 6.001)])
def test_nearly_hard_swish_is_not_hard_swish(offset: float, limit: float) -> None:
    b = Builder()
    x = b.input(4, 100)
    y = binary(b, B.MUL, binary(b, B.MUL, x, clip(b, binary(b, B.ADD, x, offset), 0.0, limit)), 1 / 6)
    apply(b.finish(y), "fuse_functions", changes=False)


def test_sigmoid_gelu_is_not_gelu() -> None:
    b = Builder()
    x = b.input(4, 100)
    apply(b.finish(binary(b, B.MUL, x, unary(b, U.SIGMOID, binary(b, B.MUL, x, 1.702)))), "fuse_functions", changes=False)


def test_small_sum_behind_a_function_stays() -> None:
    b = Builder()
    graph = apply(b.finish(binary(b, B.ADD, hard_swish(b, b.input(4, 100)), 2e-5)), "fuse_functions")
    assert [n.op for n in graph.nodes] == ["Unary", "Binary"]


def test_function_with_a_reader_inside_stays() -> None:
    b = Builder()
    x = b.input(4, 100)
    inner = unary(b, U.SIGMOID, x)
    apply(b.finish(binary(b, B.MUL, x, inner), inner), "fuse_functions", changes=False)


def test_function_over_a_scale_of_the_model_stays() -> None:
    b = Builder()
    x = b.input(4, 100)
    inner = unary(b, U.SIGMOID, x)
    mark(b.graph, inner, 1 / 256, -128)
    apply(b.finish(binary(b, B.MUL, x, inner)), "fuse_functions", changes=False)


def layer_norm(b: Builder, x: str, axes: list[int], spelling: str, epsilon: float = 1e-3) -> str:
    """(x - mean) / sqrt(var + epsilon) in the spelling of an exporter."""
    count = float(np.prod([b.graph.tensors[x].shape[a] for a in axes]))

    def mean(y: str) -> str:
        if spelling == "jax":
            return binary(b, B.MUL, b.op("Reduce", y, kind=int(R.SUM), axes=axes), 1 / count)
        return b.op("Reduce", y, kind=int(R.MEAN), axes=axes)

    m = mean(x)
    centred = binary(b, B.SUB, x, m)
    if spelling == "jax":
        variance = clip(b, binary(b, B.SUB, mean(unary(b, U.POW, x, alpha=2.0)), unary(b, U.POW, m, alpha=2.0)), 0.0, math.inf)
    else:
        square = unary(b, U.POW, centred, alpha=2.0) if spelling != "product" else binary(b, B.MUL, centred, centred)
        variance = mean(square)
    shifted = binary(b, B.ADD, variance, epsilon)
    if spelling == "torch":
        return binary(b, B.DIV, centred, unary(b, U.SQRT, shifted))
    inverse = unary(b, U.POW, shifted, alpha=-0.5) if spelling == "power" else unary(b, U.RECIPROCAL, unary(b, U.SQRT, shifted))
    return binary(b, B.MUL, centred, inverse)


@pytest.mark.parametrize("spelling", ["torch", "jax", "power", "product"])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(spelling: str, affine: bool) -> None:
    b = Builder()
    y = layer_norm(b, b.input(2, 5, 16), [2], spelling)
    if affine:
        y = binary(b, B.ADD, binary(b, B.MUL, y, b.random(16)), b.random(16))
    graph = apply(b.finish(y), "fuse_layer_norm", rtol=2e-4)
    assert counts(graph) == {"LayerNorm": 1}
    assert len(only(graph, "LayerNorm").inputs) == (3 if affine else 1)


def test_layer_norm_with_folded_scale() -> None:
    b = Builder()
    x, gamma, beta = b.input(2, 5, 16), b.random(16), b.random(16)
    m = b.op("Reduce", x, kind=int(R.MEAN), axes=[2])
    variance = b.op("Reduce", unary(b, U.POW, binary(b, B.SUB, x, m), alpha=2.0), kind=int(R.MEAN), axes=[2])
    s = binary(b, B.MUL, unary(b, U.RECIPROCAL, unary(b, U.SQRT, binary(b, B.ADD, variance, 1e-3))), gamma)
    y = binary(b, B.ADD, binary(b, B.MUL, x, s), binary(b, B.SUB, beta, binary(b, B.MUL, m, s)))
    assert counts(apply(b.finish(y), "fuse_layer_norm", rtol=2e-4)) == {"LayerNorm": 1}


def test_instance_norm_is_a_layer_norm_over_joined_axes() -> None:
    b = Builder()
    y = layer_norm(b, b.input(2, 3, 4, 5), [2, 3], "torch")
    assert counts(apply_all(b.finish(y), rtol=2e-4)) == {"Reshape": 2, "LayerNorm": 1}


def test_norm_over_channels_first_finds_the_last_axis() -> None:
    b = Builder()
    x = b.transpose(b.conv(b.input(1, 4, 4, 3), 6), 0, 3, 1, 2)
    y = layer_norm(b, x, [1], "torch")
    y = binary(b, B.ADD, binary(b, B.MUL, y, b.random(6, 1, 1)), b.random(6, 1, 1))
    graph = apply_all(b.finish(b.conv(b.transpose(y, 0, 2, 3, 1), 2)), rtol=2e-4)
    assert counts(graph) == {"Conv2D": 2, "LayerNorm": 1}


def test_norm_with_another_mean_stays() -> None:
    b = Builder()
    x = b.input(2, 5, 16)
    centred = binary(b, B.SUB, x, b.op("Reduce", x, kind=int(R.MEAN), axes=[1]))
    variance = b.op("Reduce", unary(b, U.POW, centred, alpha=2.0), kind=int(R.MEAN), axes=[2])
    y = binary(b, B.DIV, centred, unary(b, U.SQRT, binary(b, B.ADD, variance, 1e-3)))
    apply(b.finish(y), "fuse_layer_norm", changes=False)


@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize("axis", [1, 2])
def test_softmax(axis: int, shifted: bool) -> None:
    b = Builder()
    x = b.input(2, 5, 7)
    z = binary(b, B.SUB, x, b.op("Reduce", x, kind=int(R.MAX), axes=[axis])) if shifted else x
    e = unary(b, U.EXP, z)
    graph = apply(b.finish(binary(b, B.DIV, e, b.op("Reduce", e, kind=int(R.SUM), axes=[axis]))), "fuse_softmax")
    assert counts(graph) == ({"Softmax": 1} if axis == 2 else {"Softmax": 1, "Transpose": 2})


def test_log_softmax() -> None:
    b = Builder()
    x = b.input(2, 5, 7)
    z = binary(b, B.SUB, x, b.op("Reduce", x, kind=int(R.MAX), axes=[2]))
    total = unary(b, U.LOG, b.op("Reduce", unary(b, U.EXP, z), kind=int(R.SUM), axes=[2]))
    graph = apply(b.finish(binary(b, B.SUB, z, total)), "fuse_softmax")
    assert counts(graph) == {"Softmax": 1}
    assert only(graph, "Softmax").params["log"]


def test_quotient_by_another_sum_stays() -> None:
    b = Builder()
    e = unary(b, U.EXP, b.input(2, 5, 7))
    other = unary(b, U.EXP, b.input(2, 5, 7, name="y"))
    apply(b.finish(binary(b, B.DIV, e, b.op("Reduce", other, kind=int(R.SUM), axes=[2]))), "fuse_softmax", changes=False)


@pytest.mark.parametrize("spelling", ["min", "keras", "absolute"])
def test_prelu(spelling: str) -> None:
    b = Builder()
    x, slope = b.input(2, 4, 4, 3), b.random(3)
    positive = clip(b, x, 0.0, math.inf)
    if spelling == "min":
        y = binary(b, B.ADD, binary(b, B.MUL, clip(b, x, -math.inf, 0.0), slope), positive)
    elif spelling == "keras":
        y = binary(b, B.SUB, positive, binary(b, B.MUL, clip(b, unary(b, U.NEG, x), 0.0, math.inf), slope))
    else:
        y = binary(b, B.ADD, positive, binary(b, B.MUL, binary(b, B.SUB, x, unary(b, U.ABS, x)), slope))
    graph = apply(b.finish(y), "fuse_prelu")
    assert counts(graph) == {"Binary": 1}
    assert only(graph, "Binary").params["kind"] == B.PRELU


def test_positive_part_of_another_tensor_is_no_prelu() -> None:
    b = Builder()
    x, z = b.input(2, 3), b.input(2, 3, name="z")
    y = binary(b, B.ADD, clip(b, x, 0.0, math.inf), binary(b, B.MUL, clip(b, z, -math.inf, 0.0), b.random(3)))
    apply(b.finish(y), "fuse_prelu", changes=False)


@pytest.mark.parametrize("transposed", [True, False])
def test_matmul_with_a_constant(transposed: bool) -> None:
    b = Builder()
    weights = b.random(5, 4) if transposed else b.random(4, 5)
    y = b.op("MatMul", b.input(2, 3, 4), weights, transpose_b=transposed)
    graph = apply_all(b.finish(binary(b, B.ADD, y, b.random(5))))
    assert counts(graph) == {"FullyConnected": 1}
    assert len(only(graph, "FullyConnected").inputs) == 3
