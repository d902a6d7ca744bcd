"""What the models find wrong with a document, to hold against what the judge finds.

The judge never sees pydantic; here it is the second opinion. Only places are compared: the words
are the judge's alone.
"""

from typing import Any

from pydantic import ValidationError

from kolla_start.document import models, rules
from kolla_start.document.judge import judge
from kolla_start.errors import Fault, Loc

# A value of a wrong type, whatever the members of a union of types say of it.
_TYPES = {"string_type", "bool_type", "int_type", "list_type", "model_type"}
_NO_STRING = "a key that is no string"


def agree(document: Any) -> bool:
    """Whether judge and models accept a document. AssertionError where they differ in any place."""
    judged = {_without_key(fault) for fault in judge(document).faults}
    modelled, undecodable = _modelled(document)
    for loc in undecodable:
        # pydantic cannot read the object at all; the judge names the key.
        named = [place[-1] for place in judged if place[:-1] == loc]
        assert any(isinstance(key, str) and rules.key(key) for key in named), (judged, document)
    beside = {place for place in judged if not any(place[: len(loc)] == loc for loc in undecodable)}
    assert beside == modelled, (judged, modelled, document)
    return not judged


def _modelled(document: Any) -> tuple[set[Loc], set[Loc]]:
    """The places of all that the models refuse, and those of objects that they cannot read."""
    by_place: dict[Loc, set[str]] = {}
    try:
        models.Document.model_validate(document)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            loc = _real(document, item["loc"])
            if item["type"] == "invalid_key":
                loc = (*loc[:-1], _NO_STRING)
            by_place.setdefault(loc, set()).add(item["type"])
    refused = {
        loc
        for loc, kinds in by_place.items()
        # Of the types that a value may have, one fitted, and what is inside it is wrong.
        if kinds - _TYPES
        or not any(len(other) > len(loc) and other[: len(loc)] == loc for other in by_place)
    }
    undecodable = {loc for loc in refused if by_place[loc] == {"string_unicode"}}
    return refused - undecodable, undecodable


def _without_key(fault: Fault) -> Loc:
    """The place; a key that is no string is called something else by each of the two."""
    return (*fault.loc[:-1], _NO_STRING) if "as a key must be" in fault.message else fault.loc


def _real(document: Any, loc: Loc) -> Loc:
    """A place of pydantic's without the names that it gives to the members of a union."""
    real: list[str | int] = []
    value = document
    for part in loc:
        inside = type(value) is list and type(part) is int and part < len(value)
        if inside or (type(value) is dict and part in value):
            value = value[part]
        elif type(value) is dict and len(real) in (0, 2):
            value = None  # a key that is missing from the document or an entry
        else:
            continue
        real.append(part)
    return tuple(real)
