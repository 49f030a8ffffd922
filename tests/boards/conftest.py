# SPDX-License-Identifier: Apache-2.0
"""Builds for boards live as long as the test run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.boards.builds import hold_builds


@pytest.fixture(scope="session", autouse=True)
def _builds() -> Iterator[None]:
    with hold_builds():
        yield
