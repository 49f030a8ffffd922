# SPDX-License-Identifier: Apache-2.0
"""A standard QDQ ONNX model of an .e8 file: the same weights, scales and zero points for other runtimes."""

from .export import export

__all__ = ["export"]
