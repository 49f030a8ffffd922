# SPDX-License-Identifier: Apache-2.0
"""The .e8 file for the C runtime."""

from .file import write, write_into
from .plan import Plan, plan_arena

__all__ = ["Plan", "plan_arena", "write", "write_into"]
