# SPDX-License-Identifier: Apache-2.0
"""Helpers of the passes that recognise a formula over some axes: see through Reshapes, put the axes last, put them back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..graph import Node
from .edit import Editor, marked
from .layout import identity, inverse, permuted
from .merge_transposes import groups

__all__ = ["along_last", "axes_map", "strip"]


def strip(editor: Editor, name: str) -> str:
    """The tensor behind Reshapes."""
    while (node := editor.made_by(name, "Reshape")) is not None and not marked(editor.tensor(name)):
        name = node.inputs[0]
    return name


def axes_map(outer: Sequence[int], inner: Sequence[int]) -> dict[int, int]:
    """Axes of a reshaped tensor that exist unchanged in the tensor before, with their number there."""
    found = {}
    for left, right in groups(outer, inner) or []:
        big = [i for i in left if outer[i] != 1], [i for i in right if inner[i] != 1]
        if len(big[0]) == len(big[1]) == 1:
            found[big[0][0]] = big[1][0]
    return found


def along_last(editor: Editor, node: Node, x: str, axes: Sequence[int], make: Callable[[str], str]) -> None:
    """Replace ``node``'s output by ``make(view)`` where the view of ``x`` has ``axes`` joined as its last axis.

    Args:
        editor: the graph.
        node: its output has the shape that ``axes`` refer to; ``x`` has as many elements in the same order.
        x: the tensor that the formula is applied to.
        axes: ascending.
        make: adds an operator over the last axis and gives its output back; the shape does not change.
    """
    out = editor.tensor(node.outputs[0])
    shape, dtype = out.shape, out.dtype
    rank = len(shape)
    if editor.shape(x) != shape:
        x = editor.add("Reshape", [x], hint=f"{out.name}.view", label=node.name, result=(shape, dtype))
    perm = (*[a for a in range(rank) if a not in axes], *axes)
    if perm != identity(rank):
        x = editor.add("Transpose", [x], {"perm": list(perm)}, hint=f"{out.name}.view", label=node.name)
    moved = permuted(shape, perm)
    if len(axes) > 1:
        joined = (*moved[: rank - len(axes)], int(np.prod([shape[a] for a in axes])))
        x = editor.add("Reshape", [x], hint=f"{out.name}.view", label=node.name, result=(joined, dtype))
    name = make(x)
    if len(axes) > 1:
        name = editor.add("Reshape", [name], hint=out.name, label=node.name, result=(moved, dtype))
    if perm != identity(rank):
        name = editor.add("Transpose", [name], {"perm": list(inverse(perm))}, hint=out.name, label=node.name)
    editor.replace(out.name, name)
