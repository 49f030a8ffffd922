# SPDX-License-Identifier: Apache-2.0
"""Full quantisation for the Ascend 310: ATC-ready models, AMCT's files, a simulator of the chip, and checks by rule."""

from __future__ import annotations

from .convert import convert_ascend310
from .report import AscendReport
from .verify import VerifyReport, verify_folder

__all__ = ["AscendReport", "VerifyReport", "convert_ascend310", "verify_folder"]
