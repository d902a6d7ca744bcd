"""Races with the service, and secrets that another user waits for: for seconds.

torture.py runs the same for minutes; docs/security.md says which promise each test holds.
"""

import pytest
import race
import secrets_watch
from subjects import OURS, Missing, Subject, upstream


@pytest.fixture(name="upstream")
def _upstream() -> Subject:
    try:
        return upstream()
    except Missing as reason:
        pytest.skip(str(reason))


def test_a_race_with_the_service() -> None:
    result = race.race(OURS, runs=60, seconds=4)
    print(result)
    assert not result.odd
    assert result.changed == 0
    assert result.swaps > 1000 and result.applied > 10


def test_the_race_catches_upstream(upstream: Subject) -> None:
    assert race.race(upstream, runs=10).changed > 0


def test_a_secret_is_never_readable_by_another_user() -> None:
    result = secrets_watch.watch(OURS, replacements=100)
    print(result)
    assert result.replacements >= 100
    assert result.tried > 100
    assert result.leaks == []
    assert result.logged == []


def test_the_watch_catches_upstream(upstream: Subject) -> None:
    assert secrets_watch.watch(upstream, replacements=60).leaks
