"""Races with the service, and secrets that another user waits for: for seconds.

torture.py runs the same for minutes; docs/security.md says which promise each test holds.
"""

import hostile
import peer
import pytest
import race
import secrets_watch


def test_a_race_with_the_service() -> None:
    result = race.race(race.ours, runs=60, seconds=4)
    print(result)
    assert not result.odd
    assert result.changed == 0
    assert result.swaps > 1000 and result.applied > 10


def test_the_race_catches_upstream() -> None:
    if peer.missing() is not None:
        pytest.skip(str(peer.missing()))
    assert race.race(hostile.run_upstream, runs=10, seconds=0, upstream=True).changed > 0


def test_a_secret_is_never_readable_by_another_user() -> None:
    result = secrets_watch.watch(replacements=100)
    print(result)
    assert result.replacements >= 100
    assert result.tried > 100
    assert result.leaks == []
    assert result.logged == []


def test_the_watch_catches_upstream() -> None:
    if peer.missing() is not None:
        pytest.skip(str(peer.missing()))
    result = secrets_watch.watch(replacements=60, program=hostile.run_upstream, upstream=True)
    assert result.leaks
