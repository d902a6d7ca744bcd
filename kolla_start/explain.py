"""Everything that is wrong with a document, at once, with line and column.

Imported by a container start only where the document is YAML or is refused: PyYAML is needed here,
and the models (pydantic) where a document that can be read is refused. It judges nothing itself.
"""

import difflib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from kolla_start import forms
from kolla_start.document import is_yaml, read
from kolla_start.errors import Fault, Loc, Refused

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Place = tuple[int, int]  # line and column, from 1


class Placed(Fault):
    """A fault whose place in the text is known."""

    __slots__ = ("place",)

    def __init__(self, loc: Loc, message: str, place: Place) -> None:
        super().__init__(loc, message)
        self.place = place


class _Unreadable(ValueError):
    """Text that is no JSON or YAML."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def examine(path: str, text: str, strict: bool = False) -> list[Fault]:
    """The faults of a document's text; none where it is good.

    `strict` counts unknown keys in every section, which a start only warns of.
    """
    try:
        node = _nodes(path, text)
        # Before it is constructed: that resolves `<<`, where a key may rightly stand again.
        faults: list[Fault] = [] if node is None else list(_duplicates(node))
        document = _construct(node) if node is not None and is_yaml(path) else _json(text)
    except _Unreadable as error:
        return [error.fault]
    if node is None and (again := _json_duplicate(text)):
        faults.append(again)
    for loc, message, at_key in _judged(document, node, strict):
        place = _place(node, loc, at_key)
        faults.append(Placed(loc, message, place) if place else Fault(loc, message))
    return faults


def lines(path: str, faults: list[Fault]) -> list[str]:
    """`PATH:LINE:COLUMN: config_files[1].perm: what; what to do`, in the document's order."""
    try:
        node = _nodes(path, read(path))
    except (Refused, _Unreadable):
        node = None
    placed = []
    for fault in faults:
        place = fault.place if isinstance(fault, Placed) else _place(node, fault.loc)
        placed.append((place or (0, 0), str(fault)))
    placed.sort(key=lambda item: item[0])
    return [
        f"{path}:{place[0]}:{place[1]}: {text}" if place != (0, 0) else f"{path}: {text}"
        for place, text in placed
    ]


def not_utf8(data: bytes, position: int) -> Fault:
    """The fault of a document that is not UTF-8 from this byte on."""
    before = data[:position].decode()
    return Placed(
        (),
        f"byte 0x{data[position]:02x} is not UTF-8; save the file as UTF-8",
        _counted(before, len(before)),
    )


# --- JSON --------------------------------------------------------------------------------------

# What json.JSONDecoder says, by its beginning, and what a person needs to hear.
_JSON_ERRORS = {
    "Expecting property name": "a key in double quotes must stand here; a comma too many?",
    "Illegal trailing comma": "a comma before a closing bracket; remove it",
    "Expecting ',' delimiter": "a comma or a closing bracket must stand here; add it",
    "Expecting ':' delimiter": "a colon must stand here, after a key; add it",
    "Expecting value": "a value must stand here; a comma too many, or quotes missing?",
    "Extra data": "the document ended before this; remove what follows, or a bracket too many",
    "Unterminated string": 'this string does not end; close it with "',
    "Invalid control character": r"a line end or tab inside a string; write \n or \t",
    "Invalid \\": r"a backslash that begins no escape; write it twice: \\",
}


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        said, position = error.msg, error.pos
        # Up to Python 3.12 what follows such a comma is pointed at.
        before = text[:position].rstrip()
        if before.endswith(",") and text[position : position + 1] in {"]", "}"}:
            said, position = "Illegal trailing comma", len(before) - 1
        octal = re.match("0[oO]?([0-7]+)", text[max(0, position - 1) :])
        message = next(
            (ours for theirs, ours in _JSON_ERRORS.items() if said.startswith(theirs)),
            f"{said}; mend it",
        )
        if octal:  # the number ended at its 0
            position -= 1
            message = f'{octal[0]} is no number; write a mode as a string: "{octal[1].zfill(4)}"'
        raise _Unreadable(Placed((), f"no JSON: {message}", _counted(text, position))) from None
    except (ValueError, RecursionError) as error:
        raise _Unreadable(_without_place(error)) from None


def _no_constant(name: str) -> Any:
    raise _Unreadable(Fault((), f"{name} is no JSON; write a number, or null"))


def _json_duplicate(text: str) -> Fault | None:
    """A duplicate key in JSON whose places cannot be told."""
    found: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in pairs]
        found.extend(key for key in keys if keys.count(key) > 1)

    json.loads(text, object_pairs_hook=note)
    return (
        Fault((), f"the key {found[0]!r} stands twice in an object; remove one") if found else None
    )


def _without_place(error: Exception) -> Fault:
    if isinstance(error, _Unreadable):
        return error.fault
    if isinstance(error, RecursionError):
        return Fault((), "is nested too deep; no document needs more than four levels")
    if "digits" in str(error):
        return Fault((), "holds a number of thousands of digits; write it shorter, or as a string")
    return Fault((), f"{error}; mend it")


# --- YAML, and the places of things in both ----------------------------------------------------


class _Loader(yaml.SafeLoader):
    """The safe loader, but for `<<` inside `<<`: what it merges is not copied over and over."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        last: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            last[(key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)] = key, value
        node.value = list(last.values())


def yaml_value(text: str) -> Any:
    """What a YAML text says. Raises ValueError, also for a duplicate key."""
    node = _compose(text)
    if next(_duplicates(node), None) is not None:
        raise ValueError("a duplicate key")
    return _construct(node)


def _compose(text: str) -> yaml.Node:
    """The nodes of one YAML document. Raises _Unreadable."""
    try:
        node = yaml.compose(text, _Loader)
    except yaml.reader.ReaderError as error:
        place = _counted(text, error.position)
        message = f"the character {error.character!r} cannot stand in YAML; remove it"
        raise _Unreadable(Placed((), message, place)) from None
    except yaml.MarkedYAMLError as error:
        raise _Unreadable(_marked(error)) from None
    except (ValueError, RecursionError) as error:
        raise _Unreadable(_without_place(error)) from None
    if node is None:
        raise _Unreadable(Fault((), "is empty; write at least `command: PROGRAM`"))
    return node


def _construct(node: yaml.Node) -> Any:
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise _Unreadable(_marked(error)) from None
    except Exception as error:
        # A tag that does not fit its text ends PyYAML in any of a handful of ways.
        raise _Unreadable(_without_place(error)) from None
    finally:
        loader.dispose()


def _marked(error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    what = ", ".join(part for part in (error.context, error.problem) if part)
    hint = "mend it"
    if "single document" in what:
        what, hint = "a second document begins", "keep one"
    elif r"'\t'" in what:
        hint = "indent with spaces"
    message = f"no YAML: {what}; {hint}"
    return Placed((), message, (mark.line + 1, mark.column + 1)) if mark else Fault((), message)


def _nodes(path: str, text: str) -> yaml.Node | None:
    """The nodes of a document, for their places; None for JSON that PyYAML cannot read."""
    if is_yaml(path):
        return _compose(text)
    # What JSON allows in a string and YAML does not, or takes for a line end; one for one, so
    # that columns hold.
    plain = yaml.reader.Reader.NON_PRINTABLE.sub("?", text.replace("\t", " "))
    for char in "\x85\u2028\u2029\ufeff":
        plain = plain.replace(char, "?")
    try:
        return _compose(plain)
    except _Unreadable:
        return None


def _duplicates(top: yaml.Node) -> Iterator[Fault]:
    """Keys that stand twice in an object, in the order of the text."""
    seen = set()
    waiting: list[tuple[yaml.Node, Loc]] = [(top, ())]
    while waiting:
        node, loc = waiting.pop()
        if id(node) in seen:
            continue  # an alias
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(inner, (*loc, index)) for index, inner in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            first: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                waiting.append((value, (*loc, key.value if _is_text(key) else "?")))
                if not isinstance(key, yaml.ScalarNode):
                    continue
                line = first.setdefault((key.tag, key.value), id(key))
                if line != id(key):
                    mark = key.start_mark
                    yield Placed(
                        (*loc, key.value),
                        "the key stands twice in this object; remove one",
                        (mark.line + 1, mark.column + 1),
                    )


def _is_text(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode)


def _find(node: yaml.Node | None, loc: Loc) -> tuple[yaml.Node | None, yaml.Node | None, bool]:
    """The value at a place, the key before it, and whether it is there; else what lacks it."""
    key = None
    for part in loc:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            key, node = None, node.value[part]
        elif isinstance(node, yaml.MappingNode):
            # The last one: of two it is the one that counts.
            pairs = [pair for pair in node.value if _is_text(pair[0]) and pair[0].value == part]
            if not pairs:
                return node, key, False
            key, node = pairs[-1]
        else:
            return node, key, False
    return node, key, True


def _place(node: yaml.Node | None, loc: Loc, at_key: bool = False) -> Place | None:
    value, key, _ = _find(node, loc)
    chosen = key if at_key and key is not None else value
    return (chosen.start_mark.line + 1, chosen.start_mark.column + 1) if chosen else None


def _counted(text: str, position: int) -> Place:
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


# --- what the models say -----------------------------------------------------------------------

_WANTED = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a number",
    "list_type": "a list",
    "model_type": "an object",
}


def _judged(document: Any, node: yaml.Node | None, strict: bool) -> Iterator[tuple[Loc, str, bool]]:
    """Place, message, and whether it is about the key, of all that the models find."""
    from pydantic import ValidationError

    from kolla_start import models

    errors: list[ErrorDetails] = []
    try:
        models.Document.model_validate(document)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    by_place: dict[Loc, list[ErrorDetails]] = {}
    for item in errors:
        by_place.setdefault(_real(document, item["loc"]), []).append(item)
    for loc, items in by_place.items():
        others = [item for item in items if item["type"] not in _WANTED]
        if others:
            for item in others:
                at_key = item["type"] == "extra_forbidden"
                yield loc, _message(item, models.ConfigFile), at_key
        # Of the types that a value may have, one fitted, and what is inside it is wrong.
        elif not any(len(other) > len(loc) and other[: len(loc)] == loc for other in by_place):
            yield loc, _wrong_type(items, loc, node), False
    if strict:
        for loc, section in models.unknown(document):
            yield loc, _unknown(str(loc[-1]), list(section.model_fields)), True
        for loc, message in forms.tolerated(document):
            yield loc, message, False


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


def _message(item: "ErrorDetails", section: Any) -> str:
    kind = item["type"]
    if kind == "form":
        return item["msg"]
    if kind == "missing":
        return "is missing; add it"
    if kind == "extra_forbidden":
        return _unknown(str(item["loc"][-1]), list(section.model_fields))
    if kind == "invalid_key":
        return "is no string, as a key must be; put it in quotes"
    if kind == "string_unicode":
        return r"has a key with half a surrogate pair (\ud800 to \udfff); write the character"
    return f"{item['msg']}; mend it"


def _wrong_type(items: "list[ErrorDetails]", loc: Loc, node: yaml.Node | None) -> str:
    value = items[0]["input"]
    kinds = {item["type"] for item in items}
    if "bool_type" in kinds:
        kinds = {"bool_type"}  # what else a start takes is nothing to be written
    elif "int_type" in kinds:
        kinds.remove("int_type")  # likewise
    wanted = " or ".join(words for kind, words in _WANTED.items() if kind in kinds)
    what = f"{_kind(value)}; write {wanted}"
    if wanted == "true or false" and type(value) is str:
        what += ", without quotes"
    elif loc and loc[-1] == "perm" and type(value) in (bool, float):
        what = f'{_kind(value)}; write 3 or 4 octal digits in quotes, as in "0640"'
    elif loc and loc[-1] == "perm" and type(value) is int:
        what = forms.number_as_perm(value)
    elif "string" in wanted and type(value) not in (dict, list, type(None)):
        found, _, there = _find(node, loc)
        written = str(found.value) if there and isinstance(found, yaml.ScalarNode) else ""
        what = f"{_kind(value)}; put it in quotes" + (f': "{written}"' if written else "")
    elif value is None and len(loc) == 1 and loc[0] != "command":
        what += ", or leave the key out"
    return what if loc else f"the document {what}"


def _kind(value: Any) -> str:
    """What a value is, in the words of JSON."""
    if value is None:
        return "is null"
    names = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    names |= {int: "a number", float: "a number"}
    return f"is {names.get(type(value)) or 'a ' + type(value).__name__}"


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return (
        f"unknown key; did you mean {near[0]}?"
        if near
        else (f"unknown key; the known ones are {', '.join(known)}")
    )
