"""What is accepted at the first start is accepted at the second, and that one changes nothing.

By then the directories that the document gives away belong to others.
"""

from collections.abc import Iterator

import pytest
from documents import document
from outcomes import applied
from sandbox import Sandbox

ALPHA, BETA = 4301, 4302


@pytest.fixture
def box(sandbox: Sandbox) -> Iterator[Sandbox]:
    for name, uid in (("alpha", ALPHA), ("beta", BETA)):
        sandbox.adduser(name, uid)
    sandbox.source("x.conf", "x")
    yield sandbox


def given(path: str, owner: str, perm: str = "0755") -> dict[str, str]:
    return {"path": path, "owner": owner, "perm": perm}


def test_the_last_of_two_entries_for_a_directory_has_the_say(box: Sandbox) -> None:
    box.mkdir("/srv/a")
    content = document(
        directories=[given("/srv/a", "alpha"), given("/srv/a/b", "alpha", "0700")],
        permissions=[{"path": "/srv/a/b", "owner": "beta"}],
    )
    applied(box, content)
    assert box.owner("/srv/a/b") == (BETA, BETA)
    twice = document(
        directories=[
            given("/srv/a", "alpha"),
            given("/srv/a/b", "alpha", "0700"),
            given("/srv/a/b", "beta", "0700"),
        ]
    )
    applied(box, twice)
    assert box.owner("/srv/a/b") == (BETA, BETA)
