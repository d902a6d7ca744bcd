"""Find the document, read it, accept it: a Config for the rooms that follow.

On the container-start path: no json module (its decoder imports re, 4 ms), PyYAML only for a YAML
document, pydantic only to explain a refusal. It reads the document and nothing else of the
filesystem, and nothing of the environment: no caller may lead the privileged stage elsewhere.
"""

import os
import stat

from kolla_start.acceptor import accept
from kolla_start.errors import Fault, Loc, Refused, cause, refuse
from kolla_start.forms import MOUNTED, collapsed, number_as_perm, tolerated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

YAML = f"{MOUNTED}/config.yaml"
JSON = f"{MOUNTED}/config.json"


# --- records, never changed after they are made ------------------------------------------------


class ConfigFile:
    """An entry of `config_files`. owner and perm are None only with preserve_properties."""

    __slots__ = (
        "dest", "index", "merge", "optional", "owner", "perm", "preserve_properties", "source",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        source: str,
        dest: str,
        owner: str | None = None,
        perm: int | None = None,
        optional: bool = False,
        merge: bool = False,
        preserve_properties: bool = False,
    ) -> None:
        self.index = index
        self.source = source
        self.dest = dest
        self.owner = owner
        self.perm = perm
        self.optional = optional
        self.merge = merge
        self.preserve_properties = preserve_properties


class PathEntry:
    """An entry of `directories` or `files`."""

    __slots__ = ("index", "owner", "path", "perm")

    def __init__(self, index: int, path: str, owner: str, perm: int) -> None:
        self.index = index
        self.path = path
        self.owner = owner
        self.perm = perm


class Permission:
    """An entry of `permissions`. `mistaken`: what is wrong with its perm if its path is there."""

    __slots__ = ("exclude", "index", "mistaken", "owner", "path", "perm", "recurse")

    def __init__(
        self,
        index: int,
        path: str,
        owner: str,
        perm: int | None = None,
        recurse: bool = False,
        exclude: tuple[str, ...] = (),
        mistaken: str | None = None,
    ) -> None:
        self.index = index
        self.path = path
        self.owner = owner
        self.perm = perm
        self.mistaken = mistaken
        self.recurse = recurse
        self.exclude = exclude


class Config:
    """An accepted document. `remarks` say what a start takes and `validate` would not."""

    __slots__ = (
        "capabilities", "command", "config_files", "directories", "files", "no_new_privileges",
        "path", "permissions", "remarks", "user",
    )  # fmt: skip

    def __init__(
        self,
        path: str,
        command: str | tuple[str, ...],
        config_files: tuple[ConfigFile, ...] = (),
        directories: tuple[PathEntry, ...] = (),
        files: tuple[PathEntry, ...] = (),
        permissions: tuple[Permission, ...] = (),
        user: str | None = None,
        capabilities: tuple[str, ...] = (),
        no_new_privileges: bool = False,
        remarks: tuple[Fault, ...] = (),
    ) -> None:
        self.path = path
        self.command = command
        self.config_files = config_files
        self.directories = directories
        self.files = files
        self.permissions = permissions
        self.user = user
        self.capabilities = capabilities
        self.no_new_privileges = no_new_privileges
        self.remarks = remarks


# --- finding and reading -----------------------------------------------------------------------


def load(path: str | None = None) -> Config:
    """The document at `path`, or the container's: config.yaml if it exists, else config.json.

    Raises Refused with everything that is wrong with it.
    """
    if path is None:
        try:
            os.stat(YAML)
            path = YAML
        except (FileNotFoundError, NotADirectoryError):
            path = JSON
        except OSError as error:
            raise refuse(f"{cause(error, YAML)}; mend or remove it") from None
    text = read(path)
    unknown: list[Loc] = []
    try:
        document = parse_yaml(text) if is_yaml(path) else parse_json(text)
        accepted = accept(document, unknown)
    except ValueError:
        accepted = False
    if not accepted:
        from kolla_start.explain import examine

        faults = examine(path, text)
        if not faults:
            raise AssertionError(f"{path}: refused, and nothing is wrong with it")
        raise Refused(faults, path)
    remarks = [Fault(loc, "no such key, ignored") for loc in unknown]
    remarks += [Fault(*said) for said in tolerated(document) if said[0][-1] != "perm"]
    return _config(path, document, tuple(remarks))


def is_yaml(path: str) -> bool:
    """Whether a document is read as YAML: by its name."""
    return path.endswith((".yaml", ".yml"))


def read(path: str) -> str:
    """The text of a document. Raises Refused."""
    hint = "name a file that can be read"
    if path in (JSON, YAML):
        hint = f"mount a directory that holds config.json or config.yaml at {MOUNTED}"

    def refused(message: str) -> Refused:
        return Refused([Fault((), message)], path)

    try:
        # O_NONBLOCK: to open a FIFO that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise refused(f"does not exist; {hint}") from None
    except PermissionError:
        raise refused(f"uid {os.geteuid()} cannot read it; make it readable") from None
    except OSError as error:
        raise refused(f"{error.strerror}; {hint}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise refused(f"is not a regular file; {hint}")
        data = b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))
    except OSError as error:
        raise refused(f"{error.strerror}; {hint}") from None
    finally:
        os.close(descriptor)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        from kolla_start.explain import not_utf8

        raise Refused([not_utf8(data, error.start)], path) from None
    if text.startswith("\ufeff") and not is_yaml(path):
        raise refused("begins with a byte order mark; save it as UTF-8 without one")
    if not text.strip():
        raise refused('is empty; write at least {"command": "PROGRAM"}')
    return text


# --- JSON and YAML -----------------------------------------------------------------------------


def parse_json(text: str) -> "Any":
    """What JSON text says (RFC 8259). Raises ValueError, also for a duplicate key and for NaN."""
    try:
        # The scanner in C that the json module drives. Not imported with this module: an
        # interpreter without it is slower and works.
        from _json import make_scanner
    except ImportError:
        import json

        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    start = len(text) - len(text.lstrip(_BLANKS))
    try:
        value, end = make_scanner(_Grammar)(text, start)  # type: ignore[arg-type]
    except (StopIteration, SystemError):
        # SystemError: CPython 3.11.2's scanner finds its exception only where json is imported.
        raise ValueError("no JSON") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    if text[end:].strip(_BLANKS):
        raise ValueError("something follows the JSON")
    return value


def parse_yaml(text: str) -> "Any":
    """What YAML text says, as yaml.safe_load(). Raises ValueError, also for a duplicate key."""
    from kolla_start.explain import yaml_value

    return yaml_value(text)


_BLANKS = " \t\n\r"  # JSON's


def _object(pairs: "list[tuple[str, Any]]") -> "dict[str, Any]":
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a duplicate key")
    return made


def _no_constant(name: str) -> "Any":
    raise ValueError(f"{name} is no JSON")


class _Grammar:
    """What json.JSONDecoder hands to the scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_object)
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)
    memo: "dict[str, str]" = {}  # noqa: RUF012  # asked for, never used


# --- records from an accepted document ---------------------------------------------------------


def _config(path: str, document: "dict[str, Any]", remarks: tuple[Fault, ...]) -> Config:
    command = document["command"]
    return Config(
        path,
        command if type(command) is str else tuple(command),
        tuple(
            ConfigFile(
                index,
                collapsed(entry["source"]),
                collapsed(entry["dest"]),
                entry.get("owner"),
                _mode(entry.get("perm")),
                bool(entry.get("optional")),
                bool(entry.get("merge")),
                bool(entry.get("preserve_properties")),
            )
            for index, entry in enumerate(document.get("config_files", ()))
        ),
        _path_entries(document.get("directories", ())),
        _path_entries(document.get("files", ())),
        tuple(
            Permission(
                index,
                collapsed(entry["path"]),
                entry["owner"],
                _mode(entry.get("perm")),
                bool(entry.get("recurse")),
                tuple(entry.get("exclude") or ()),
                number_as_perm(entry["perm"]) if type(entry.get("perm")) is int else None,
            )
            for index, entry in enumerate(document.get("permissions", ()))
        ),
        document.get("user"),
        tuple(document.get("capabilities", ())),
        document.get("no_new_privileges", False),
        remarks,
    )


def _path_entries(entries: "list[dict[str, Any]]") -> tuple[PathEntry, ...]:
    return tuple(
        PathEntry(
            index,
            collapsed(entry["path"]).rstrip("/") or "/",
            entry["owner"],
            int(entry["perm"], 8),
        )
        for index, entry in enumerate(entries)
    )


def _mode(perm: str | int | None) -> int | None:
    return int(perm, 8) if isinstance(perm, str) else None
