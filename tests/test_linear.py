# SPDX-License-Identifier: Apache-2.0
"""Packing of weights: the layout by hand, and pack followed by unpack for every width and operator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge8.converter.graph import DType, Node, Tensor
from edge8.converter.linear import pack_codes, pack_matrix, stored_width, unpack_codes, unpack_matrix
from edge8.converter.ops import operators


def _codes(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> np.ndarray:
    if bits == 1:
        return rng.choice(np.array([-1, 1], np.int8), shape)
    limit = 2 ** (bits - 1) - 1
    return rng.integers(-limit, limit + 1, shape).astype(np.int8 if bits <= 8 else np.int16)


def test_bit_string_by_hand() -> None:
    assert pack_codes(np.array([1, -1, 2, -2]), 3) == bytes([0b10_111_001, 0b0000_110_0])
    assert pack_codes(np.array([1, -1, -1, 1]), 1) == bytes([0b0110])
    assert pack_codes(np.array([-2, 5]), 8) == b"\xfe\x05"
    assert pack_codes(np.array([-2, 300]), 16) == b"\xfe\xff\x2c\x01"
    assert pack_codes(np.array([7, -8]), 4) == b"\x87"


def test_blocks_by_hand() -> None:
    matrix = np.arange(17 * 5).reshape(17, 5) - 40
    data = np.frombuffer(pack_matrix(matrix, 8), np.int8).reshape(2, 2, 16, 4)
    assert data[0, 0, 3, 2] == matrix[3, 2]
    assert data[0, 1, 3, 0] == matrix[3, 4]
    assert data[1, 1, 0, 0] == matrix[16, 4]
    assert not data[1, :, 1:].any()
    assert not data[:, 1, :, 1:].any()
    real = np.frombuffer(pack_matrix(matrix.astype(np.float32), 0), "<f4").reshape(2, 5, 16)
    assert real[0, 4, 3] == matrix[3, 4]
    assert real[1, 2, 0] == matrix[16, 2]
    assert not real[1, :, 1:].any()


@given(n=st.integers(1, 40), k=st.integers(1, 40), bits=st.integers(1, 16), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_matrix_round_trip(n: int, k: int, bits: int, seed: int) -> None:
    codes = _codes(np.random.default_rng(seed), (n, k), bits)
    data = pack_matrix(codes, bits)
    assert len(data) == stored_width(n, k, bits) == -(-n // 16) * -(-k // 4) * 8 * bits
    np.testing.assert_array_equal(unpack_matrix(data, n, k, bits), codes)
    np.testing.assert_array_equal(unpack_codes(pack_codes(codes, bits), bits, n * k), codes.reshape(-1))


def test_unpack_refuses_other_lengths() -> None:
    with pytest.raises(ValueError, match="not a packed"):
        unpack_matrix(bytes(63), 16, 4, 8)


@given(
    op=st.sampled_from(["Conv2D", "DepthwiseConv2D", "ConvTranspose2D", "FullyConnected"]),
    dims=st.lists(st.integers(1, 6), min_size=4, max_size=4),
    group=st.integers(1, 3),
    bits=st.integers(0, 16),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=200, deadline=None)
def test_operator_round_trip(op: str, dims: list[int], group: int, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = {"FullyConnected": (dims[0] * 7, dims[1] * 3), "DepthwiseConv2D": (dims[0], dims[1], dims[2] * 7)}
    shape = shapes.get(op, (dims[0] * group, *dims[1:]))
    params = {"group": group} if op in ("Conv2D", "ConvTranspose2D") else {}
    data = rng.normal(0, 1, shape).astype(np.float32) if bits == 0 else _codes(rng, shape, bits)
    dtype = DType.FLOAT32 if bits == 0 else DType.INT8 if bits <= 8 else DType.INT16
    weights = Tensor("w", shape, dtype, data, None if bits == 0 else np.ones(1, np.float32), bits=0 if bits in (0, 8, 16) else bits)
    node = Node(op, ["x", "w"], ["y"], params)
    operator = operators()[op]
    stored = operator.pack(node, 1, weights)
    np.testing.assert_array_equal(operator.unpack(node, weights, stored), data)  # type: ignore[attr-defined]
    assert operator.pack(node, 2, Tensor("b", (2,), DType.FLOAT32, np.ones(2, np.float32))) == np.ones(2, "<f4").tobytes()
