"""The instrument of mutants.py, and that each reason in its table belongs to a mutant."""

import ast
import dataclasses

import mutants
import pytest
from equivalent import EQUIVALENT
from mutation import mutants as of_source

MISTAKES = {
    "x = a < b": ["a < b -> a <= b"],
    "x = a is not None": ["a is not None -> a is None"],
    "x = a and b": ["a and b -> a or b", "a and b -> b", "a and b -> a"],
    "x = O_CREAT | O_EXCL": [
        "O_CREAT | O_EXCL -> O_CREAT & O_EXCL",
        "O_CREAT | O_EXCL -> O_CREAT",
        "O_CREAT | O_EXCL -> O_EXCL",
    ],
    "x = True": ["True -> False"],
    "x = 3": ["3 -> 4"],
    "x = f(a, b=c)": ["f(a, b=c) -> f(a)"],
    "f()": ["f() -> pass"],
    "if a:\n    b = c": ["a -> not a"],
    "def f():\n    raise E('wrong')": ["raise E('wrong') -> pass"],
    "def f():\n    return a": ["return a -> return None"],
    "try:\n    a = b\nexcept (C, D):\n    e = f": [
        "except (C, D) -> except (D,)",
        "except (C, D) -> except (C,)",
    ],
    "try:\n    a = b\nexcept C:\n    e = f": ["except C -> except ()"],
}


@pytest.mark.parametrize("source", MISTAKES)
def test_mistakes(source: str) -> None:
    found = list(of_source("a.py", source))
    assert [mutant.name.partition(": ")[2] for mutant in found] == MISTAKES[source]
    for mutant in found:
        assert mutant.counts()
        assert ast.unparse(mutant.tree) == ast.unparse(ast.parse(source))  # as if nothing was


FOR_PEOPLE = [
    '"""What it is for."""',
    "from a import b",
    "TYPE_CHECKING = False",
    'def f(a: "B" = None) -> "C | D":\n    assert a == 3',
    'log.info(f"{a} was set")',
    'x = f"{a}: {b}"',
    'x = "a sentence"',
]


@pytest.mark.parametrize("source", FOR_PEOPLE)
def test_what_is_for_people_is_left_alone(source: str) -> None:
    assert [mutant.name for mutant in of_source("a.py", source)] == []


def test_what_is_no_program_or_the_same_one_does_not_count() -> None:
    (mutant,) = of_source("a.py", "x = a < b")
    assert not dataclasses.replace(mutant, new=mutant.old).counts()
    assert not dataclasses.replace(mutant, new=ast.Name("no name")).counts()


def test_every_reason_is_given_for_a_mutant() -> None:
    names = {mutant.name for mutant in mutants.every()} if EQUIVALENT else set()
    assert EQUIVALENT.keys() - names == set()
