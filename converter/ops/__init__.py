# SPDX-License-Identifier: Apache-2.0
"""One file per operator; see base.py."""

from .base import Operator, Quantisation, Scales, Value, import_handlers, operators

__all__ = ["Operator", "Quantisation", "Scales", "Value", "import_handlers", "operators"]
