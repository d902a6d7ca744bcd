"""Say everything that is wrong with a document, with line and column.

Imported by a start only when its document is YAML or is refused: here are yaml and, one step
later, pydantic.
"""

import difflib
import json
from collections.abc import Iterator
from typing import Any

import yaml

from kolla_start import forms
from kolla_start.errors import Fault, Loc, Refused, dotted

# A YAML alias costs nothing to write and doubles what has to be read: no real document comes near.
_LARGEST = 200_000  # values, aliases counted each time

_DUPLICATE = "a duplicate of the key at line {line}; remove one"


class _Syntax(Exception):
    """Text that is no document: what, and where (lines and columns count from 1)."""

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        place = f":{line}:{column}" if line else ""
        self.text = f"{place}: {message}"


def is_yaml(path: str) -> bool:
    return path.endswith((".yaml", ".yml"))


def parse_yaml(path: str, data: bytes) -> Any:
    """The value of a YAML document. Raises Refused where it is no YAML, or has duplicate keys."""
    try:
        node = _compose(_decode(data), True)
        if _duplicates(node):
            return None  # refusal() will say so among everything else
        return _construct(node)
    except _Syntax as error:
        raise Refused([Fault((), f"{path}{error.text}")]) from None


def refusal(path: str, data: bytes) -> Refused:
    """Everything that is wrong with a document that was not accepted."""
    try:
        found = all_faults(path, data, strict=False)
    except _Syntax as error:
        return Refused([Fault((), f"{path}{error.text}")])
    if not found:
        raise AssertionError(f"{path} was not accepted, and nothing is wrong with it")
    return Refused(found, path)


def all_faults(path: str, data: bytes, strict: bool = True) -> list[Fault]:
    """The faults of a document's text; `strict` counts unknown keys in all sections."""
    text = _decode(data)
    if is_yaml(path):
        node: yaml.Node | None = _compose(text, True)
        assert node is not None
        value = _construct(node)
    else:
        value = _json(text)
        node = _positions(text)
    return _duplicates(node) + faults(value, strict)


def faults(value: object, strict: bool) -> list[Fault]:
    """What the models say of a parsed document; `strict` counts unknown keys everywhere."""
    from pydantic import ValidationError

    from kolla_start import models

    found: dict[tuple[Loc, str], Fault] = {}

    def add(loc: Loc, message: str) -> None:
        found.setdefault((loc, message), Fault(loc, message))

    try:
        models.Document.model_validate(value)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            if not _other_branch(item):
                add(_of_value(item["loc"], value), _message(item))
    if strict and isinstance(value, dict):
        sections: dict[str, type[models.Section]] = {
            "directories": models.Directory,
            "files": models.File,
            "permissions": models.Permission,
        }
        parts: list[tuple[Loc, dict[Any, Any], type[models.Section]]] = [
            ((), value, models.Document),
            *(
                ((name, index), entry, model)
                for name, model in sections.items()
                if isinstance(value.get(name), list)
                for index, entry in enumerate(value[name])
                if isinstance(entry, dict)
            ),
        ]
        for loc, entry, model in parts:
            for key in entry:
                if isinstance(key, str) and key not in model.model_fields:
                    if not forms.comment(key):
                        add((*loc, key), _unknown(key, list(model.model_fields)))
    return list(found.values())


def _other_branch(item: Any) -> bool:
    """Whether an error only says that `command` is not of the kind it was not meant to be."""
    if item["loc"][0:1] != ("command",) or len(item["loc"]) != 2:
        return False
    return item["type"] == "list_type" or (
        item["type"] == "string_type" and isinstance(item["input"], list)
    )


def _of_value(loc: Loc, value: Any) -> Loc:
    """pydantic's place without what only pydantic knows: the branch of a union."""
    kept: list[str | int] = []
    for number, part in enumerate(loc):
        last = number == len(loc) - 1
        if isinstance(value, dict) and (part in value or last):
            kept.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            kept.append(part)
            value = value[part] if part < len(value) else None
    return tuple(kept)


def _message(item: Any) -> str:
    """One of pydantic's errors in this program's words: what; what to do."""
    kind, given = item["type"], _type_name(item["input"])
    if kind == "form":
        return str(item["msg"])
    if kind == "string_type":
        if item["loc"][-1] == "perm" and type(item["input"]) is int:
            return f'{given} is another number than it looks; quote it: "{_quoted(item["input"])}"'
        if item["loc"][0] == "command" and len(item["loc"]) <= 2:
            return f"{given} where the command belongs; write a string, or a list of strings"
        return f"{given} where a string belongs; put it in quotes"
    if kind == "missing":
        return "is missing; add it"
    if kind == "bool_type":
        return f"{given} where true or false belongs; write it without quotes"
    if kind == "list_type":
        return f"{given} where a list belongs; put it in [ ]"
    if kind in {"model_type", "dict_type", "model_attributes_type"}:
        return f"{given} where an object belongs; put it in {{ }}"
    if kind == "extra_forbidden":
        from kolla_start.models import ConfigFile

        return _unknown(str(item["loc"][-1]), list(ConfigFile.model_fields))
    if kind == "invalid_key":
        return "a key that is no string; put it in quotes"
    return f"{item['msg']}; mend it"


def _quoted(number: int) -> str:
    """An integer mode as its author meant it: 600 in JSON, 0600 (octal, so 384) in YAML."""
    plain = f"{number:04d}"
    return plain if len(plain) == 4 and not plain.strip("01234567") else f"{number & 0o7777:04o}"


def _type_name(value: object) -> str:
    """What JSON calls a value of this type."""
    names = {
        type(None): "null",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"unknown key; {hint}"


def lines(path: str, found: list[Fault]) -> list[str]:
    """`PATH:LINE:COLUMN: config_files[1].perm: what; what to do`, in the document's order."""
    try:
        with open(path, "rb") as file:
            text = _decode(file.read())
        node = _compose(text, True) if is_yaml(path) else _positions(text)
    except (OSError, _Syntax):
        node = None
    placed = []
    for fault in found:
        line, column = _place(node, fault)
        where = dotted(fault.loc)
        placed.append((line, column, f"{where}: {fault.message}" if where else fault.message))
    placed.sort(key=lambda item: item[:2])
    return [
        f"{path}:{line}:{column}: {text}" if line else f"{path}: {text}"
        for line, column, text in placed
    ]


def _place(node: yaml.Node | None, fault: Fault) -> tuple[int, int]:
    """Line and column of a fault: of the value, of an unknown key, or of what lacks a key."""
    if node is None:
        return 0, 0
    mark = node.start_mark
    for part in fault.loc:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
        elif isinstance(node, yaml.MappingNode):
            # The last one: of duplicate keys it is the one that the parser would have kept.
            pairs = [(key, value) for key, value in node.value if key.value == part]
            if not pairs:
                break
            key, node = pairs[-1]
            about_key = fault.message.startswith(("unknown key", "a duplicate"))
            mark = key.start_mark if about_key else node.start_mark
        else:
            break
    return mark.line + 1, mark.column + 1


def _decode(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        line = before.count("\n") + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise _Syntax(
            f"not UTF-8: {error.reason} (byte {data[error.start]:#04x}); save it as UTF-8",
            line,
            column,
        ) from None
    if text.startswith("\ufeff"):
        raise _Syntax("begins with a byte order mark; save it as UTF-8 without one", 1, 1)
    if not text.strip():
        raise _Syntax("the document is empty; write at least a command")
    return text


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg}; mend it"
        raise _Syntax(message, error.lineno, error.colno) from None
    except RecursionError:
        raise _Syntax("nested too deeply; no document needs that") from None
    except ValueError as error:
        raise _Syntax(f"{error}; write another value") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _positions(text: str) -> yaml.Node | None:
    """The places of everything in a JSON text; None where YAML cannot read it."""
    try:
        # A tab is a blank to JSON and an error to YAML; one for one, so that columns hold.
        return _compose(text.replace("\t", " "), False)
    except _Syntax:
        return None


def _compose(text: str, strict: bool) -> yaml.Node:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"not YAML: {error.problem or error.context}; mend it"
        raise _Syntax(
            message, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _Syntax(f"not YAML: {str(error).splitlines()[0]}; mend it") from None
    if node is None:
        raise _Syntax("the document is empty; write at least a command")
    if strict and _size(node, (), {}) > _LARGEST:
        raise _Syntax("aliases make it too large to read; write it out")
    return node


def _size(node: yaml.Node, above: tuple[int, ...], known: dict[int, int]) -> int:
    """The number of values with each alias written out."""
    if id(node) in above:
        raise _Syntax("an alias inside itself; write it out", node.start_mark.line + 1, 1)
    if id(node) not in known:
        inside = (*above, id(node))
        known[id(node)] = 1 + sum(_size(child, inside, known) for child in _children(node))
    return known[id(node)]


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _construct(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        message = f"not YAML: {error.problem}; mend it"
        raise _Syntax(
            message, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0
        ) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise _Syntax(f"not YAML: {error}; mend it") from None
    finally:
        loader.dispose()


def _duplicates(node: yaml.Node | None, loc: Loc = ()) -> list[Fault]:
    found = []
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                    message = _DUPLICATE.format(line=seen[key.value])
                    found.append(Fault((*loc, key.value), message))
                seen.setdefault(key.value, key.start_mark.line + 1)
                found += _duplicates(value, (*loc, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found += _duplicates(value, (*loc, index))
    return found
