"""Patterns of `exclude` that need no regular expression mean what `re` says all the same."""

import re

import pytest

from kolla_start.document import rules
from kolla_start.plan import permissions


@pytest.mark.parametrize(
    "patterns",
    [
        ("^/var/lib/nova/instances/",),
        ("/instances/", "^/srv"),
        ("instances", "_disk-1"),
        ("^ä",),
        ("^",),
        ("a.c",),
        ("$",),
        ("^^/x",),
        (r"\.log",),
        ("a|b", "/var"),
    ],
)
def test_a_literal_pattern_means_what_re_says(patterns: tuple[str, ...]) -> None:
    holds = permissions.compiled(patterns)
    assert holds is not None
    for path in (
        "/var/lib/nova/instances/x",
        "/var/lib/nova/instances",
        "/srv/var/lib/nova/instances/",
        "/x/instances_disk-1",
        "/a.c",
        "/abc.log",
        "ä",
        "/ä",
        "/",
        "",
    ):
        assert holds(path) == any(re.search(pattern, path) for pattern in patterns)


def test_what_counts_as_literal() -> None:
    assert rules.literal("^/var/lib/nova/instances/")
    for pattern in ("", "^", "a.c", "a+", "^^a", "a$", "(a)", "[a]", "a\\d", "a{2}", "a?", "a*"):
        assert not rules.literal(pattern)
