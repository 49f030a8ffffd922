# SPDX-License-Identifier: Apache-2.0
"""Permutations of axes, and how the operators that do not care about the order of axes follow one.

A permutation ``p`` stands for the view ``y = x.transpose(p)``: axis i of y is axis p[i] of x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..graph import Node
from .edit import Editor, marked

__all__ = ["Perm", "compose", "data_inputs", "flexible", "identity", "inverse", "permuted", "permuted_params", "trivial"]

Perm = tuple[int, ...]

_ELEMENTWISE = frozenset({"Unary", "Binary", "Where", "Cast", "Quantize", "Dequantize"})
_SHAPED = frozenset({"Concat", "Slice", "Pad", "Tile", "Expand"})


def identity(rank: int) -> Perm:
    """The permutation that changes nothing."""
    return tuple(range(rank))


def inverse(p: Sequence[int]) -> Perm:
    """The permutation that undoes ``p``."""
    result = [0] * len(p)
    for i, axis in enumerate(p):
        result[axis] = i
    return tuple(result)


def compose(first: Sequence[int], then: Sequence[int]) -> Perm:
    """``x.transpose(first).transpose(then)`` as one permutation."""
    return tuple(first[axis] for axis in then)


def permuted(values: Sequence[Any], p: Sequence[int]) -> list[Any]:
    """Values per axis in the new order."""
    return [values[axis] for axis in p]


def trivial(shape: Sequence[int], p: Sequence[int]) -> bool:
    """Whether only axes of size 1 move, so that the elements keep their order. ``shape`` is the one before."""
    kept = [axis for axis in p if shape[axis] != 1]
    return kept == sorted(kept)


def flexible(editor: Editor, node: Node) -> bool:
    """Whether the node computes the same on permuted axes: elementwise, Concat, Slice, Pad, Tile, Expand of equal rank."""
    if len(node.outputs) != 1 or node.op not in _ELEMENTWISE | _SHAPED:
        return False
    rank = len(editor.shape(node.outputs[0]))
    if rank < 2:
        return False
    if node.op in _SHAPED:
        return all(len(editor.shape(name)) == rank for name in node.inputs)
    return all(len(editor.shape(name)) <= rank for name in node.inputs if name)


def data_inputs(node: Node) -> list[str]:
    """The inputs that are permuted with the output."""
    return [name for name in node.inputs if name]


def permuted_params(node: Node, p: Perm) -> dict[str, Any]:
    """The parameters of a flexible node whose inputs and output are permuted by ``p``."""
    params = dict(node.params)
    if node.op == "Concat":
        params["axis"] = p.index(int(params.get("axis", 0)))
    elif node.op == "Slice":
        params["start"], params["step"] = permuted(params["start"], p), permuted(params["step"], p)
    elif node.op == "Pad":
        params["before"], params["after"] = permuted(params["before"], p), permuted(params["after"], p)
    return params


@dataclass(frozen=True)
class Moved:
    """A transpose that a layout needs: of which tensor, by which permutation."""

    source: str
    perm: Perm


def through(editor: Editor, name: str, p: Perm) -> Moved:
    """``name.transpose(p)``, looking through the Transpose that may have made ``name``."""
    before = editor.made_by(name, "Transpose")
    if before is None or marked(editor.tensor(name)):
        return Moved(name, p)
    return Moved(before.inputs[0], compose(before.params["perm"], p))
