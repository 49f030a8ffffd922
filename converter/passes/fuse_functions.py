# SPDX-License-Identifier: Apache-2.0
"""Functions of one variable that a model spells out (HardSwish, SiLU, GELU, Mish ...) become one Unary.

Exporters write these functions in many ways, so they are recognised by their values instead of their spelling: a set of elementwise
nodes with constant numbers that depends on one tensor only is a function R -> R. It is evaluated at some thousand points and compared
with each function that Unary knows, up to a constant factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..graph import DType, Graph, Node, Tensor
from ..ops.base import Array, operators
from ..ops.binary import BinaryKind as B
from ..ops.unary import UnaryKind as U
from .base import Pass
from .edit import Editor, marked

__all__ = ["FuseFunctions"]

_LIMIT = 16
"""Most nodes of one function."""

_KINDS = (B.ADD, B.SUB, B.MUL, B.DIV, B.POW, B.MIN, B.MAX)
_FEW = np.array([-30.0, -7.5, -3.0, -2.0, -1.0, -0.5, -0.01, 0.0, 0.01, 0.5, 1.0, 2.0, 3.0, 7.5, 30.0], np.float32)
_TAIL = np.logspace(1, 3.5, 150)
_MANY = np.concatenate([-_TAIL[::-1], np.linspace(-10, 10, 4001), _TAIL]).astype(np.float32)
_TOLERANCE = 5e-6


@dataclass(frozen=True)
class _Cut:
    """A function: ``nodes`` in execution order compute ``result`` from ``source``."""

    source: str
    nodes: tuple[Node, ...]


class FuseFunctions(Pass):
    """Replace the largest sets of nodes first."""

    name = "fuse_functions"

    def run(self, graph: Graph) -> bool:
        """See `Pass.run`."""
        editor = Editor(graph)
        order = {id(node): i for i, node in enumerate(graph.nodes)}
        for node in reversed(list(graph.nodes)):
            if not _elementwise(editor, node):
                continue
            for cut in sorted(_cuts(editor, node, order), key=lambda c: -len(c.nodes)):
                if len(cut.nodes) > 1 and _replace(editor, node, cut):
                    break
        return editor.close()


def _elementwise(editor: Editor, node: Node) -> bool:
    """A float function whose constant operands are numbers and whose other operands have the result's shape."""
    if len(node.outputs) != 1 or node.outputs[0] not in editor.producer or node.op not in ("Unary", "Binary"):
        return False
    out = editor.tensor(node.outputs[0])
    if out.dtype != DType.FLOAT32 or (node.op == "Binary" and node.params.get("kind", 0) not in _KINDS):
        return False
    return all(editor.scalar(n) is not None or editor.shape(n) == out.shape for n in node.inputs)


def _cuts(editor: Editor, last: Node, order: dict[int, int]) -> Iterator[_Cut]:
    """Sets of nodes that end in ``last``, depend on one tensor, and are not read elsewhere but through ``last``."""
    chosen = {id(last): last}
    frontier = {n for n in last.inputs if editor.scalar(n) is None}
    while len(chosen) <= _LIMIT:
        if len(frontier) == 1 and not editor.tensor(next(iter(frontier))).constant:
            yield _Cut(next(iter(frontier)), tuple(sorted(chosen.values(), key=lambda n: order[id(n)])))
        candidates = [
            (order[id(maker)], name, maker)
            for name in frontier
            if (maker := editor.producer.get(name)) is not None
            and id(maker) in order
            and _elementwise(editor, maker)
            and not editor.is_output(name)
            and not marked(editor.tensor(name))
            and all(id(user) in chosen for user in editor.users[name])
        ]
        if not candidates:
            return
        _, name, maker = max(candidates, key=lambda c: (c[0], c[1]))
        chosen[id(maker)] = maker
        frontier.discard(name)
        frontier.update(n for n in maker.inputs if editor.scalar(n) is None)


def _evaluate(editor: Editor, cut: _Cut, x: Array) -> Array:
    """The function's values at ``x``."""
    values = {cut.source: x}
    for node in cut.nodes:
        inputs = [values[n] if n in values else np.full(x.shape, editor.scalar(n), np.float32) for n in node.inputs]
        with np.errstate(all="ignore"):
            [y] = operators()[node.op].reference(node, inputs, [Tensor("", x.shape)])
        values[node.outputs[0]] = y
    return values[cut.nodes[-1].outputs[0]]


def _unary(kind: U, x: Array, alpha: float = 0.0, beta: float = 0.0) -> Array:
    node = Node("Unary", ["x"], ["y"], {"kind": int(kind), "alpha": alpha, "beta": beta})
    with np.errstate(all="ignore"):
        return operators()["Unary"].reference(node, [x], [Tensor("", x.shape)])[0]


def _leaky(f: Callable[[Array], Array]) -> list[tuple[float, float]]:
    return [(float(-f(np.array([-1.0], np.float32))[0]), 0.0)]


def _hard_sigmoid(f: Callable[[Array], Array]) -> list[tuple[float, float]]:
    low, middle, high = (float(v) for v in f(np.array([-0.01, 0.0, 0.01], np.float32)))
    alpha = (high - low) / 0.02
    return [(alpha, middle)] if 0 < middle < 1 and alpha > 0 else []


def _clip(f: Callable[[Array], Array]) -> list[tuple[float, float]]:
    low, high = (float(v) for v in f(np.array([-3e3, 3e3], np.float32)))
    return [(low, high), (low, np.inf), (-np.inf, high)] if np.isfinite(low) and np.isfinite(high) and low <= high else []


def _elu(f: Callable[[Array], Array]) -> list[tuple[float, float]]:
    return [(float(-f(np.array([-20.0], np.float32))[0]), 0.0)]


def _none(f: Callable[[Array], Array]) -> list[tuple[float, float]]:
    return [(0.0, 0.0)]


# The cheap ones first: a function equal to two of them becomes the first.
_KNOWN: tuple[tuple[U, Callable[[Callable[[Array], Array]], list[tuple[float, float]]]], ...] = (
    (U.CLIP, _clip),
    (U.ABS, _none),
    (U.HARD_SIGMOID, _hard_sigmoid),
    (U.HARD_SWISH, _none),
    (U.LEAKY_RELU, _leaky),
    (U.SIGMOID, _none),
    (U.SILU, _none),
    (U.TANH, _none),
    (U.GELU, _none),
    (U.GELU_TANH, _none),
    (U.ELU, _elu),
    (U.SOFTPLUS, _none),
    (U.MISH, _none),
    (U.SOFTSIGN, _none),
)
_SCALED = (U.HARD_SWISH, U.SILU, U.GELU, U.GELU_TANH)


def _equal(f: Array, g: Array) -> bool:
    """Whether two functions agree wherever the first one is finite (a spelled-out function may overflow at the ends)."""
    finite = np.isfinite(f)
    if np.count_nonzero(finite) < 0.8 * f.size:
        return False
    return bool(np.all(np.abs(f[finite] - g[finite]) <= _TOLERANCE * np.maximum(1, np.abs(g[finite]))))


def _recognise(f: Callable[[Array], Array]) -> tuple[dict[str, float], float] | None:
    """Parameters of the Unary that equals f, and the constant factor of it."""
    few = f(_FEW)
    many: Array | None = None
    for kind, parameters in _KNOWN:
        for alpha, beta in parameters(f):
            factors = [1.0]
            reference = _unary(kind, _FEW, alpha, beta)
            if kind in _SCALED and np.isfinite(few[-2]) and few[-2] != 0:
                factors.append(float(few[-2] / reference[-2]))
            for factor in factors:
                if not _equal(few / np.float32(factor), reference):
                    continue
                many = f(_MANY) if many is None else many
                if _equal(many / np.float32(factor), _unary(kind, _MANY, alpha, beta)):
                    return {"kind": int(kind), "alpha": alpha, "beta": beta}, factor
    return None


def _replace(editor: Editor, last: Node, cut: _Cut) -> bool:
    found = _recognise(lambda x: _evaluate(editor, cut, x))
    if found is None:
        return False
    params, factor = found
    if factor != 1.0 and len(cut.nodes) < 3:
        return False
    out = editor.tensor(last.outputs[0])
    params = {key: value for key, value in params.items() if key == "kind" or value != 0.0 or params["kind"] == U.CLIP}
    name = editor.add("Unary", [cut.source], params, hint=out.name, label=last.name)
    if factor != 1.0:
        constant = editor.constant(np.array(factor, np.float32), f"{out.name}.factor")
        name = editor.add("Binary", [name, constant], {"kind": int(B.MUL)}, hint=out.name, label=last.name)
    editor.replace(out.name, name)
    return True
