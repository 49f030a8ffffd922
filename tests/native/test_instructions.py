# SPDX-License-Identifier: Apache-2.0
"""No network executes more instructions than the record in instructions.json says (3 % are tolerated)."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from tests.fetch import Unavailable
from tests.native.instructions import CASES, Case, Missing, compiler, count, read_record, risen

RECORD = read_record()
SLOW = os.environ.get("EDGE8_SLOW") == "1"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_instructions_did_not_rise(case: Case, tmp_path: Path) -> None:
    if case.slow and not SLOW:
        pytest.skip("takes long under valgrind; EDGE8_SLOW=1 runs it")
    try:
        if compiler() != RECORD["compiler"]:
            pytest.skip(f"the record is of {RECORD['compiler']}, the library was compiled by {compiler()}")
        counted = count(case, tmp_path)
    except (Missing, Unavailable) as error:
        pytest.skip(str(error))
    recorded = RECORD["instructions"][str(case)]
    command = f"python tests/native/instructions.py --record {case.name}"
    change = f"{case}: {counted:,} instructions, {100 * (counted / recorded - 1):+.1f} % against the record of {recorded:,}"
    assert not risen(counted, recorded), f"{change}. If that is meant: {command}"
    if risen(recorded, counted):
        warnings.warn(f"{change}. Keep the gain: {command}", stacklevel=1)


def test_every_case_is_recorded() -> None:
    assert {str(case) for case in CASES} == set(RECORD["instructions"])
    assert risen(1031, 1000)
    assert not risen(1029, 1000)
