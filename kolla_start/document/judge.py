"""Hold a parsed document against the table: everything that is wrong with it; nothing is accepted.

On the container-start path: the standard library alone, of it difflib only on the way to a refusal.
Accepting and refusing are this one walk. It makes no rule of its own (rules.py), knows no text and
no filesystem, and looks into nothing but what the table describes, so that a document whose lists
hold themselves (YAML) has an end all the same.
"""

from __future__ import annotations

from kolla_start.document import rules
from kolla_start.document.table import DOCUMENT
from kolla_start.errors import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from kolla_start.document.table import Kinds, Section
    from kolla_start.errors import Loc


class Verdict:
    """`faults` refuse the document; `remarks` name what a start takes all the same: keys that no
    version knows, and what should be written otherwise.
    """

    __slots__ = ("faults", "remarks", "strict")

    def __init__(self, strict: bool) -> None:
        self.faults: list[Fault] = []
        self.remarks: list[Fault] = []
        self.strict = strict


def judge(document: object, strict: bool = False) -> Verdict:
    """The verdict on a parsed document, whatever it is.

    `strict` is for people, to whom remarks are faults: one on an unknown key says more.
    """
    verdict = Verdict(strict)
    if type(document) is dict:
        _object(document, DOCUMENT, (), verdict)
    else:
        verdict.faults.append(Fault((), f"the document {_kind(document)}; write an object"))
    return verdict


def _object(value: dict[Any, Any], section: Section, loc: Loc, verdict: Verdict) -> None:
    _, keys, required, together = section
    wrong: set[str] = set()
    for key, item in value.items():
        if key not in keys:
            _stranger(key, section, loc, verdict)
            continue
        kinds = keys[key]
        if kinds is not None and not _value(item, kinds, loc, key, verdict):
            wrong.add(key)
    for key in required:
        if key not in value:
            verdict.faults.append(Fault((*loc, key), "is missing; add it"))
            wrong.add(key)
    for key, rule, needed in together:
        if not wrong or wrong.isdisjoint(needed):
            problem = rule(*map(value.get, needed))
            if problem is not None:
                verdict.faults.append(Fault((*loc, key), problem))
                wrong.add(key)


def _value(value: Any, kinds: Kinds, loc: Loc, part: str | int, verdict: Verdict) -> bool:
    """Whether a value is good in itself; for a list: and all that it holds."""
    kind = kinds.get(type(value))
    if kind is None:
        verdict.faults.append(_wrong_kind(value, kinds, (*loc, part)))
        return False
    rule, remark, inside = kind
    if inside is not None:
        before = len(verdict.faults)
        place = (*loc, part)
        if type(value) is dict:
            _object(value, inside, place, verdict)
        else:
            for index, item in enumerate(value):
                _value(item, inside, place, index, verdict)
        if len(verdict.faults) != before:
            return False
    if rule is not None and (problem := rule(value)) is not None:
        verdict.faults.append(Fault((*loc, part), problem))
        return False
    if remark is not None and (said := remark(value)) is not None:
        verdict.remarks.append(Fault((*loc, part), said))
    return True


def _stranger(key: Any, section: Section, loc: Loc, verdict: Verdict) -> None:
    """What is to be said of a key that the section does not have."""
    closed, keys = section[:2]
    if type(key) is not str:
        place = (*loc, key if type(key) is int else str(key))
        message = "is no string, as a key must be; put it in quotes"
        verdict.faults.append(Fault(place, message, at_key=True))
    elif rules.comment(key):
        pass
    elif closed:
        verdict.faults.append(Fault((*loc, key), _unknown(key, keys), at_key=True))
    elif (problem := rules.key(key)) is not None:
        verdict.faults.append(Fault((*loc, key), problem, at_key=True))
    else:
        message = _unknown(key, keys) if verdict.strict else "no such key, ignored"
        verdict.remarks.append(Fault((*loc, key), message, at_key=True))


def _unknown(key: str, keys: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(key, keys, 1)
    if near:
        return f"unknown key; did you mean {near[0]}?"
    return f"unknown key; the known ones are {', '.join(keys)}"


# What a person can be told to write, beside true or false.
_WORDS: dict[type, str] = {str: "a string", list: "a list", dict: "an object"}


def _wrong_kind(value: Any, kinds: Kinds, loc: Loc) -> Fault:
    found = type(value)
    if str in kinds and kinds[str][0] is rules.perm and found in (bool, int, float):
        return Fault(loc, rules.octal_perm(value))
    if bool in kinds:
        # What else a start takes is nothing to be written.
        quoted = ", without quotes" if found is str else ""
        return Fault(loc, f"{_kind(value)}; write true or false{quoted}")
    if str in kinds and found not in (dict, list, type(None)):
        return Fault(loc, f"{_kind(value)}; put it in quotes", unquoted=True)
    wanted = " or ".join(words for kind, words in _WORDS.items() if kind in kinds)
    # In an entry null is as good as no key.
    optional = value is None and len(loc) == 1 and loc[0] not in DOCUMENT[2]
    left_out = ", or leave the key out" if optional else ""
    return Fault(loc, f"{_kind(value)}; write {wanted}{left_out}")


def _kind(value: object) -> str:
    """What a value is, in the words of JSON."""
    if value is None:
        return "is null"
    names = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    names |= {int: "a number", float: "a number"}
    return f"is {names.get(type(value)) or 'a ' + type(value).__name__}"
