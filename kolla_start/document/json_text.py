"""What is wrong with a text that is no JSON, and where everything stands in one that is.

On the container-start path, but imported only where a fault or a warning is to be said: the
standard library alone. The json module knows no places of values, and what it says of an error
differs between versions of Python; this scanner reads the same grammar (RFC 8259, and whatever
_json reads) and says the same under all of them. It never calls itself: a document can be nested
deeper than Python's stack is.
"""

from __future__ import annotations

from kolla_start.document.nodes import Node, Unreadable
from kolla_start.document.text import BLANKS, TOO_DEEP, TOO_LONG, parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DIGITS = "0123456789"
_HEXADECIMAL = "0123456789abcdefABCDEF"
_ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip

_NO_KEY = "a key in double quotes must stand here; a comma too many?"
_NO_COMMA = "a comma or a closing bracket must stand here; add it"
_LAST_COMMA = "a comma before a closing bracket; remove it"
_NO_COLON = "a colon must stand here, after a key; add it"
_NO_VALUE = "a value must stand here; a comma too many, or quotes missing?"
_AFTER_END = "the document ended before this; remove what follows, or a bracket too many"
_NO_QUOTE = 'this string does not end; close it with "'
_CONTROL = r"a line end or tab inside a string; write \n or \t"
_NO_ESCAPE = r"a backslash that begins no escape; write it twice: \\"


def read(text: str) -> tuple[Any, Node]:
    """The value of a JSON text, and its nodes. Of two equal keys the last counts, as in the json
    module. Raises Unreadable.
    """
    try:
        return parse_json(text, dict), nodes(text)
    except Unreadable:
        raise
    except ValueError as error:
        problem = str(error)
    if problem != TOO_DEEP:
        nodes(text)
    if "digits" in problem:
        problem = TOO_LONG
    raise Unreadable(problem, _skip(text, 0))


def nodes(text: str) -> Node:
    """The nodes of a JSON text. Raises Unreadable with the place of the first thing wrong."""
    root: Node | None = None
    # What is open around the place that has been reached, and the keys each has had.
    around: list[tuple[Node, set[str] | None]] = []
    at = _skip(text, 0)
    name: str | int = 0
    named_at = at
    while True:
        # A value must stand here.
        node = Node(at)
        if root is None:
            root = node
        if around:
            holder, keys = around[-1]
            if keys is None:
                name, named_at = len(holder.members), at
            holder.members.append((name, named_at, node))
        opened = text[at : at + 1]
        if opened in ("{", "["):
            around.append((node, set() if opened == "{" else None))
            at = _skip(text, at + 1)
            if text[at : at + 1] not in ("}", "]"):
                if opened == "{":
                    name, named_at, at = _key(text, at, *around[-1])
                continue
        else:
            end = _scalar_end(text, at)
            node.written = text[at:end]
            at = _skip(text, end)
        # A value has ended here, or an empty list or object is about to.
        while around:
            holder, keys = around[-1]
            char = text[at : at + 1]
            if char == ",":
                comma, at = at, _skip(text, at + 1)
                if text[at : at + 1] in ("}", "]"):
                    raise _no_json(_LAST_COMMA, comma)
                if keys is not None:
                    name, named_at, at = _key(text, at, holder, keys)
                break
            if char != ("]" if keys is None else "}"):
                empty = _NO_VALUE if keys is None else _NO_KEY
                raise _no_json(_NO_COMMA if holder.members else empty, at)
            around.pop()
            at = _skip(text, at + 1)
        else:
            if at != len(text):
                raise _no_json(_AFTER_END, at)
            return root


def _no_json(message: str, place: int) -> Unreadable:
    return Unreadable(f"no JSON: {message}", place)


def _skip(text: str, at: int) -> int:
    """The place of the next character that is no blank."""
    while at < len(text) and text[at] in BLANKS:
        at += 1
    return at


def _key(text: str, at: int, holder: Node, keys: set[str] | None) -> tuple[str, int, int]:
    """The key that must stand here, its place, and that of its value."""
    assert keys is not None
    if text[at : at + 1] != '"':
        raise _no_json(_NO_KEY, at)
    key, end = _string(text, at)
    if key in keys:
        holder.twice.append((key, at))
    keys.add(key)
    end = _skip(text, end)
    if text[end : end + 1] != ":":
        raise _no_json(_NO_COLON, end)
    return key, at, _skip(text, end + 1)


def _string(text: str, at: int) -> tuple[str, int]:
    """The string whose first quote is here, and where it has ended."""
    pieces = []
    begin = end = at + 1
    while True:
        char = text[end : end + 1]
        if not char:
            raise _no_json(_NO_QUOTE, at)
        if char < " ":
            raise _no_json(_CONTROL, end)
        if char not in ('"', "\\"):
            end += 1
            continue
        pieces.append(text[begin:end])
        if char == '"':
            return "".join(pieces), end + 1
        if end + 1 == len(text):
            raise _no_json(_NO_QUOTE, at)
        meant, begin = _escape(text, end)
        pieces.append(meant)
        end = begin


def _escape(text: str, at: int) -> tuple[str, int]:
    r"""The character that the escape here means, and where it has ended. \ud83d\ude00 is one."""
    char = text[at + 1]
    if char in _ESCAPES:
        return _ESCAPES[char], at + 2
    code = _unit(text, at)
    if code is None:
        raise _no_json(_NO_ESCAPE, at)
    if 0xD800 <= code < 0xDC00:
        low = _unit(text, at + 6)
        if low is not None and 0xDC00 <= low < 0xE000:
            return chr(0x10000 + ((code - 0xD800) << 10) + low - 0xDC00), at + 12
    return chr(code), at + 6


def _unit(text: str, at: int) -> int | None:
    """The UTF-16 code unit of the \\uXXXX here; None if there is none."""
    digits = text[at + 2 : at + 6]
    if text[at : at + 2] != "\\u" or len(digits) < 4 or digits.strip(_HEXADECIMAL):
        return None
    return int(digits, 16)


def _scalar_end(text: str, at: int) -> int:
    """Where the string, number or word that must stand here has ended."""
    if text[at : at + 1] == '"':
        return _string(text, at)[1]
    for word in ("true", "false", "null"):
        if text.startswith(word, at):
            return at + len(word)
    for word in ("NaN", "Infinity", "-Infinity"):
        if text.startswith(word, at):
            raise Unreadable(f"{word} is no JSON; write a number, or null", at)
    first = at + 1 if text[at : at + 1] == "-" else at
    end = _digits_end(text, first)
    if end == first:
        raise _no_json(_NO_VALUE, at)
    if text[first] == "0":
        return _after_zero(text, first)
    return _fraction_end(text, end)


def _after_zero(text: str, zero: int) -> int:
    """Where a number that begins with this 0 has ended; one digit is all that may precede a point.

    What people write with more of them is a mode.
    """
    letter = text[zero + 1 : zero + 2] in ("o", "O")
    begin = zero + 1 + letter
    end = begin
    while text[end : end + 1] and text[end] in "01234567":
        end += 1
    if end > begin:
        mode = text[begin:end].zfill(4)
        raise _no_json(f'{text[zero:end]} is no number; write a mode as a string: "{mode}"', zero)
    return _fraction_end(text, zero + 1)


def _fraction_end(text: str, at: int) -> int:
    """Where the fraction and the exponent that may stand here have ended."""
    if text[at : at + 1] == "." and (end := _digits_end(text, at + 1)) > at + 1:
        at = end
    if text[at : at + 1] in ("e", "E"):
        first = at + 2 if text[at + 1 : at + 2] in ("+", "-") else at + 1
        end = _digits_end(text, first)
        at = end if end > first else at
    return at


def _digits_end(text: str, at: int) -> int:
    while at < len(text) and text[at] in _DIGITS:
        at += 1
    return at
