# SPDX-License-Identifier: Apache-2.0
"""Graph passes; base.py lists the pipeline."""
