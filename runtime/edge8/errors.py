# SPDX-License-Identifier: Apache-2.0
"""Errors of the runtime."""

from __future__ import annotations

__all__ = ["Edge8Error", "FormatError"]


class Edge8Error(Exception):
    """Something the caller can act on: a file that cannot be read, an input of the wrong shape, an option out of range."""


class FormatError(Edge8Error):
    """A model file was refused.

    Attributes:
        status: the library's status number (`e8_status` in edge8.h).
        rule: stable name of the broken rule, such as ``"file.crc"`` or ``"conv2d.stride"``.
        op: index of the operator concerned, or None.
        tensor: index of the tensor concerned, or None.
    """

    def __init__(self, message: str, status: int, rule: str, op: int | None, tensor: int | None) -> None:
        super().__init__(message)
        self.status = status
        self.rule = rule
        self.op = op
        self.tensor = tensor
