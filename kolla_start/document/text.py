"""The bytes of a document to a value: JSON, or YAML where its name says so; and a value to JSON.

On the container-start path: the standard library alone, of it nothing but the scanner in C (the
json module's decoder imports re, 4 ms), and PyYAML only for a YAML document. It knows nothing of
what a document means. What is wrong with a text that is refused here is for json_text.py and
yaml_text.py to say; they are imported for nothing else.
"""

from __future__ import annotations

from kolla_start.errors import Fault, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Pairs = list[tuple[str, Any]]

BLANKS = " \t\n\r"  # JSON's
TOO_DEEP = "is nested too deep; no document needs more than four levels"
TOO_LONG = "holds a number of thousands of digits; write it shorter, or as a string"


def is_yaml(path: str) -> bool:
    """Whether a document is read as YAML: by its name."""
    return path.endswith((".yaml", ".yml"))


def decoded(path: str, data: bytes) -> str:
    """The text of a document's bytes: UTF-8 (RFC 3629), and not empty. Raises Refused."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        message = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise Refused([Fault((), message, len(before))], path, before) from None
    if text.startswith("\ufeff"):
        if not is_yaml(path):
            message = "begins with a byte order mark; save it as UTF-8 without one"
            raise Refused([Fault((), message)], path)
        text = text[1:]  # YAML allows it, and no editor counts it as a column
    if not text.strip():
        raise Refused([Fault((), 'is empty; write at least {"command": "PROGRAM"}')], path)
    return text


def _once(pairs: Pairs) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a duplicate key")
    return made


def parse_json(text: str, made: Callable[[Pairs], Any] = _once) -> Any:
    """What JSON text says (RFC 8259), its objects made by `made` of their keys and values.

    Raises ValueError, also for NaN, and by default for a duplicate key.
    """
    try:
        # The scanner that the json module drives. Not imported with this module: an interpreter
        # without it is slower and works.
        from _json import make_scanner
    except ImportError:
        return _parsed_slowly(text, made)
    start = len(text) - len(text.lstrip(BLANKS))
    try:
        value, end = make_scanner(_Grammar(made))(text, start)  # type: ignore[arg-type]
    except (StopIteration, SystemError):
        # SystemError: CPython 3.11.2's scanner finds its exception only where json is imported.
        raise ValueError("no JSON") from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if text[end:].strip(BLANKS):
        raise ValueError("something follows the JSON")
    return value


def _parsed_slowly(text: str, made: Callable[[Pairs], Any]) -> Any:
    import json

    try:
        return json.loads(text, object_pairs_hook=made, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


class _Grammar:
    """What json.JSONDecoder hands to the scanner."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)
    memo: dict[str, str] = {}  # noqa: RUF012  # asked for, never used

    def __init__(self, made: Callable[[Pairs], Any]) -> None:
        self.object_pairs_hook = made


def to_json(value: object) -> str:
    """What json.dumps() gives: its encoder in C, without the module, which imports re."""
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:  # another interpreter than CPython
        import json

        return json.dumps(value)
    encode = make_encoder(None, str, encode_basestring_ascii, None, ": ", ", ", False, False, False)
    return "".join(encode(value, 0))
