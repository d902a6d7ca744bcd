"""Find the document, read it, and turn it into records.

On the container-start path: JSON is parsed by the interpreter's own scanner without the json
package (which imports re), a good document is accepted without pydantic, and yaml is imported
for a YAML document only. What is not accepted goes to explain.py. It knows no filesystem but the
document itself.
"""

import os
import stat

from kolla_start import forms
from kolla_start.acceptor import accept
from kolla_start.errors import Fault, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

YAML = f"{forms.MOUNTED}/config.yaml"
JSON = f"{forms.MOUNTED}/config.json"


class ConfigFile:
    """An entry of config_files; `perm` is a number, `owner` as the document spells it."""

    __slots__ = (
        "dest", "index", "merge", "optional", "owner", "perm", "preserve_properties", "source",
    )  # fmt: skip

    def __init__(self, index: int, entry: "dict[str, Any]") -> None:
        self.index = index
        self.source: str = forms.collapsed(entry["source"])
        self.dest: str = forms.collapsed(entry["dest"])
        self.owner: str | None = entry.get("owner")
        self.perm = _perm(entry.get("perm"))
        self.optional: bool = bool(entry.get("optional"))
        self.merge: bool = bool(entry.get("merge"))
        self.preserve_properties: bool = bool(entry.get("preserve_properties"))


class PathEntry:
    """An entry of directories or files."""

    __slots__ = ("index", "owner", "path", "perm")

    def __init__(self, index: int, entry: "dict[str, Any]") -> None:
        self.index = index
        self.path = forms.collapsed(entry["path"]).rstrip("/")
        self.owner: str = entry["owner"]
        self.perm = int(entry["perm"].removeprefix("0o"), 8)


class Permission:
    """An entry of permissions."""

    __slots__ = ("exclude", "index", "owner", "path", "perm", "recurse")

    def __init__(self, index: int, entry: "dict[str, Any]") -> None:
        self.index = index
        self.path = forms.collapsed(entry["path"])
        self.owner: str = entry["owner"]
        self.perm = _perm(entry.get("perm"))
        self.recurse: bool = bool(entry.get("recurse"))
        self.exclude = tuple(entry.get("exclude") or ())


class Config:
    """A valid document. `unknown`: places of keys that were not understood and are ignored."""

    __slots__ = (
        "capabilities", "command", "config_files", "directories", "files", "no_new_privileges",
        "path", "permissions", "unknown", "user",
    )  # fmt: skip

    def __init__(self, path: str, document: "dict[str, Any]", unknown: list[str]) -> None:
        command = document["command"]
        self.path = path
        self.command: str | tuple[str, ...] = (
            command if isinstance(command, str) else tuple(command)
        )
        self.config_files = tuple(
            ConfigFile(index, entry) for index, entry in enumerate(document.get("config_files", ()))
        )
        self.directories = tuple(
            PathEntry(index, entry) for index, entry in enumerate(document.get("directories", ()))
        )
        self.files = tuple(
            PathEntry(index, entry) for index, entry in enumerate(document.get("files", ()))
        )
        self.permissions = tuple(
            Permission(index, entry) for index, entry in enumerate(document.get("permissions", ()))
        )
        self.user: str | None = document.get("user")
        self.capabilities = tuple(document.get("capabilities", ()))
        self.no_new_privileges: bool = document.get("no_new_privileges", False)
        self.unknown = tuple(unknown)


def load(path: str | None = None) -> Config:
    """Read the container's document, or the one at `path`.

    Raises Refused with everything that is wrong with it.
    """
    if path is None:
        path = YAML if os.path.lexists(YAML) else JSON
    data = _read(path)
    if not path.endswith((".yaml", ".yml")):
        try:
            document = parse_json(data.decode())
        except ValueError:
            document = None
    else:
        from kolla_start.explain import parse_yaml

        document = parse_yaml(path, data)
    unknown: list[str] = []
    if not accept(document, unknown):
        from kolla_start.explain import refusal

        raise refusal(path, data)
    assert isinstance(document, dict)
    return Config(path, document, unknown)


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _unreadable(path, "is not a regular file; mount a file there")
            return file.read()
    except FileNotFoundError:
        raise _unreadable(path, "there is no document; mount one there") from None
    except OSError as error:
        raise _unreadable(path, f"{error.strerror}; make it readable") from None


def _unreadable(path: str, message: str) -> Refused:
    return Refused([Fault((), f"{path}: {message}")])


class _Context:
    """What the scanner asks for: the settings of json.JSONDecoder, and ours for duplicates."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}

    @staticmethod
    def object_pairs_hook(pairs: "list[tuple[str, Any]]") -> "dict[str, Any]":
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a duplicate key")
        return found

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")


def parse_json(text: str) -> "Any":
    """The value of a JSON text (RFC 8259); a duplicate key and NaN are errors.

    Raises ValueError without a place: who needs one asks explain.py.
    """
    text = text.strip(" \t\n\r")
    try:
        from _json import make_scanner  # CPython's; the json package only adds regular expressions

        value, end = make_scanner(_Context())(text, 0)  # type: ignore[arg-type]
    except (StopIteration, RecursionError):
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("something follows the JSON value")
    return value


def _perm(text: str | None) -> int | None:
    return int(text.removeprefix("0o"), 8) if text else None
