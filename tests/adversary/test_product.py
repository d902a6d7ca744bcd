"""A sample of the product of a service's imagination; torture.py runs all of it.

docs/security.md has the attack tree that it covers.
"""

from collections.abc import Callable

import product
import product_races
import pytest
from product_world import world
from subjects import OURS, Missing, Subject, first, upstream


def test_a_sample_of_the_product() -> None:
    lost = {str(case): why for case, why in product.attempts(OURS, product.sample(300)) if why}
    assert not lost, f"{len(lost)}: {lost}"


def test_with_nothing_planted() -> None:
    """Every work is one that a deployment could ask for: refused is only what is said to be."""
    every = product.controls()[::4]
    lost = {str(case): why for case, why in product.attempts(OURS, every) if why}
    assert not lost, f"{len(lost)}: {lost}"


@pytest.mark.parametrize("other", [first, upstream])
def test_the_product_catches_the_others(other: Callable[[], Subject]) -> None:
    try:
        subject = other()
    except Missing as reason:
        pytest.skip(str(reason))
    assert any(why for _, why in product.attempts(subject, product.sample(20)))


def test_a_sample_of_the_races() -> None:
    """What is the service's own is exchanged for another while the start is stopped."""
    tried = list(product_races.attempts(OURS, product_races.races()[::8], 2))
    lost = {f"{race} at {moment}": why for race, moment, why in tried if why}
    assert len(tried) > 40
    assert not lost, f"{len(lost)}: {lost}"


def test_a_race_catches_upstream() -> None:
    try:
        subject = upstream()
    except Missing as reason:
        pytest.skip(str(reason))
    chosen = [race for race in product_races.races() if race.case.work.section == "permissions"]
    assert any(why for _, _, why in product_races.attempts(subject, chosen[:3], 20))


def test_a_world_is_as_in_the_beginning_after_each_case() -> None:
    """Or the next case would be another one than it says."""
    with world(OURS) as one:
        assert one.reset()
        one.box.chmod("/etc/canary/secret", 0o644)
        one.box.write("/etc/something", "x")
        assert not one.reset()
