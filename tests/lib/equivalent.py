"""Mutants that are no mistakes: what no test can notice, and why (see tests/torture/mutants.py).

The keys are Mutant.name. One that no longer is a mutant of the sources fails test_mutants.py.
"""

EQUIVALENT: dict[str, str] = {}
