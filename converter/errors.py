# SPDX-License-Identifier: Apache-2.0
"""Errors that a user of the converter can meet. Each names what is wrong, where, and what to do."""

from __future__ import annotations

__all__ = ["ConvertError"]


class ConvertError(Exception):
    """The conversion cannot go on.

    Attributes:
        rule: stable name of the broken rule, such as ``"conv.weights"`` or ``"calibration.empty"``.
        where: the ONNX node, tensor, file or flag concerned; empty when it is the whole model.
        hint: what the user can do about it.
    """

    def __init__(self, message: str, *, rule: str, where: str = "", hint: str = "") -> None:
        self.rule = rule
        self.where = where
        self.hint = hint
        parts = [f"{where}: {message}" if where else message]
        if hint:
            parts.append(hint)
        super().__init__(". ".join(parts))
