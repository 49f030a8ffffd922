# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline on random graphs: it comes to rest, breaks nothing, and the results stay."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge8.converter.ops.binary import BinaryKind as B
from edge8.converter.ops.unary import UnaryKind as U

from .graphs import Builder, apply_all

NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
STEPS = (
    "conv",
    "unary",
    "clip",
    "vector",
    "binary",
    "concat",
    "slice",
    "pad",
    "transpose",
    "reshape",
    "reduce",
    "softmax",
    "dense",
    "matmul",
)
LARGEST = 2000


class Maker:
    """Adds random steps to a graph; ``made`` are the tensors to go on from, the latest last."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.b = Builder()
        self.made = [self.b.input(1, 3, 4, 6), self.b.input(2, 4, 3, name="y")]

    def shape(self, x: str) -> tuple[int, ...]:
        return self.b.graph.tensors[x].shape

    def pick(self, rank: int = 0) -> str | None:
        fitting = [x for x in self.made if not rank or len(self.shape(x)) == rank]
        return fitting[-1 - self.draw(st.integers(0, min(2, len(fitting) - 1)))] if fitting else None

    def axis(self, x: str) -> int:
        return self.draw(st.integers(0, len(self.shape(x)) - 1))

    def step(self) -> None:
        name = self.draw(st.sampled_from(STEPS))
        x = self.pick(4 if name == "conv" else 0)
        if x is None or not self.shape(x):
            return
        result = getattr(self, name)(x)
        if result is not None and math.prod(self.shape(result)) <= LARGEST:
            self.made.append(result)

    def conv(self, x: str) -> str | None:
        shape = self.shape(x)
        if shape[2] < 2 or shape[3] < 2:
            return None
        inside = self.b.conv(self.b.transpose(x, *NHWC), self.draw(st.integers(1, 4)), size=self.draw(st.sampled_from([1, 3])), pad=1)
        return self.b.transpose(inside, *NCHW)

    def unary(self, x: str) -> str:
        return self.b.op("Unary", x, kind=int(self.draw(st.sampled_from([U.TANH, U.NEG, U.SIGMOID, U.ABS]))))

    def clip(self, x: str) -> str:
        return self.b.op("Unary", x, kind=int(U.CLIP), alpha=0.0, beta=self.draw(st.sampled_from([6.0, math.inf])))

    def vector(self, x: str) -> str:
        shape, axis = self.shape(x), self.axis(x)
        c = self.b.random(shape[axis], *[1] * (len(shape) - axis - 1))
        return self.b.op("Binary", x, c, kind=int(self.draw(st.sampled_from([B.ADD, B.MUL, B.MAX, B.SUB]))))

    def binary(self, x: str) -> str | None:
        same = [y for y in self.made if self.shape(y) == self.shape(x)]
        y = same[self.draw(st.integers(0, len(same) - 1))]
        return self.b.op("Binary", x, y, kind=int(self.draw(st.sampled_from([B.ADD, B.MUL, B.MIN]))))

    def concat(self, x: str) -> str | None:
        axis = self.axis(x)
        shape = self.shape(x)

        def fits(y: str) -> bool:
            other = self.shape(y)
            return len(other) == len(shape) and all(d == e for i, (d, e) in enumerate(zip(shape, other, strict=True)) if i != axis)

        return self.b.op("Concat", x, self.draw(st.sampled_from([y for y in self.made if fits(y)])), axis=axis)

    def slice(self, x: str) -> str:
        shape, axis = self.shape(x), self.axis(x)
        count = self.draw(st.integers(1, shape[axis]))
        back = self.draw(st.booleans())
        start = [0] * len(shape)
        step = [1] * len(shape)
        start[axis] = shape[axis] - 1 if back else shape[axis] - count
        step[axis] = -1 if back and count > 1 else 1
        result = [count if i == axis else d for i, d in enumerate(shape)]
        return self.b.op("Slice", x, result=result, start=start, step=step)

    def pad(self, x: str) -> str:
        before, after = ([self.draw(st.integers(0, 1)) for _ in self.shape(x)] for _ in range(2))
        return self.b.op("Pad", x, before=before, after=after, value=self.draw(st.sampled_from([0.0, 1.0])))

    def transpose(self, x: str) -> str:
        rank = len(self.shape(x))
        known = [NHWC, NCHW] if rank == 4 else []
        return self.b.transpose(x, *self.draw(st.sampled_from([*known, *known, tuple(self.draw(st.permutations(range(rank))))])))

    def reshape(self, x: str) -> str | None:
        parts = [p for d in self.shape(x) for p in ((2, d // 2) if d % 2 == 0 and self.draw(st.booleans()) else (d,))]
        target: list[int] = []
        for part in parts:
            if target and self.draw(st.booleans()):
                target[-1] *= part
            else:
                target.append(part)
        if self.draw(st.booleans()):
            target.insert(self.draw(st.integers(0, len(target))), 1)
        return self.b.reshape(x, *target) if len(target) <= 6 else None

    def reduce(self, x: str) -> str:
        rank = len(self.shape(x))
        axes = sorted(self.draw(st.sets(st.integers(0, rank - 1), min_size=1, max_size=2)))
        return self.b.op("Reduce", x, kind=self.draw(st.integers(0, 3)), axes=axes, keep_dims=self.draw(st.booleans()))

    def softmax(self, x: str) -> str:
        return self.b.op("Softmax", x)

    def dense(self, x: str) -> str:
        return self.b.dense(x, self.draw(st.integers(1, 4)))

    def matmul(self, x: str) -> str | None:
        rank = len(self.shape(x))
        if rank < 2:
            return None
        return self.b.op("MatMul", x, self.b.transpose(x, *range(rank - 2), rank - 1, rank - 2))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_random_graph(data: st.DataObject) -> None:
    maker = Maker(data)
    for _ in range(data.draw(st.integers(3, 14))):
        maker.step()
    outputs = list(dict.fromkeys(x for x in maker.made[2:][-3:] if np.all(np.array(maker.shape(x)) > 0)))
    if outputs:
        apply_all(maker.b.finish(*outputs), rtol=1e-4)
