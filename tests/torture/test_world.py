"""The world refuses: a sample of what torture.py does in full.

docs/security.md says which promise each test holds.
"""

import random

import cases
import faults
import world


def test_a_sample_of_worlds() -> None:
    everything = world.worlds()
    chosen = random.Random(12).sample(everything, 24)
    lost, endings = {}, set()
    for one in chosen:
        ending = world.attempt(one, faults.reference(one.case))
        endings.add(ending.how)
        if ending.how == faults.LOST:
            lost[one.name, one.case] = ending.why
    assert not lost
    assert {faults.DONE, faults.REFUSED} <= endings, cases.CASES.keys()
