"""Histories that nobody thought of, held against an independent answer (tests/lib/oracle.py).

The same ones each time; `make torture` makes others.
"""

import pytest
from sandbox import unusable
from state_machine import LONGEST, SHORTEST, live
from subjects import OURS


@pytest.mark.parametrize("steps", range(SHORTEST, LONGEST + 1))
def test_histories(steps: int) -> None:
    reason = unusable()
    if reason:
        pytest.skip(reason)
    tally = live(OURS, steps - SHORTEST, 10)
    assert tally.histories >= 10
