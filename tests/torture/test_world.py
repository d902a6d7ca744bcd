"""The world refuses: a sample of what torture.py does in full.

docs/security.md says which promise each test holds.
"""

import os
import random

import faults
import pytest
import world
from documents import document, entry
from outcomes import applied
from sandbox import Sandbox


def test_a_sample_of_worlds() -> None:
    chosen = random.Random(12).sample(world.worlds(), 16)
    normal = {name: faults.reference(name) for name in {one.case for one in chosen}}
    endings = [(one.name, one.case, end) for one, end in world.attempts(chosen, normal)]
    assert not [ending for ending in endings if ending[-1].how == faults.LOST]
    assert {end.how for *_, end in endings} >= {faults.DONE, faults.REFUSED}


@pytest.mark.parametrize("seconds", [-3600, 3600, -40 * 365 * 86400])
def test_a_source_that_is_edited_after_the_clock_was_set(sandbox: Sandbox, seconds: int) -> None:
    """Its time says that it is older than the copy, or the copy that it is from the future."""
    source = sandbox.source("a", "one")
    applied(sandbox, document(entry("a", "/etc/a")))
    edited = sandbox.stat(source).st_mtime + seconds
    sandbox.source("a", "two")
    os.utime(sandbox.host(source), (edited, edited))
    applied(sandbox)
    assert sandbox.read("/etc/a") == "two"
