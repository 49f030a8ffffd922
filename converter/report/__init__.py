# SPDX-License-Identifier: Apache-2.0
"""The report: what a conversion made, layer by layer, as JSON and as one HTML page that opens offline."""

from .content import build_report
from .page import write_report

__all__ = ["build_report", "write_report"]
