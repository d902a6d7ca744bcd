"""Find the document, read it, accept it: a Config for the rooms that follow.

On the container-start path: the standard library alone, and PyYAML for a YAML document. It reads
the document and nothing else of the filesystem, and nothing of the environment: no caller may lead
the privileged stage elsewhere.
"""

from __future__ import annotations

import errno
import posix as os
import stat

from kolla_start.disk import source
from kolla_start.disk.read import by_name as read_by_name
from kolla_start.document.judge import judge
from kolla_start.document.rules import collapsed, number_as_perm
from kolla_start.document.text import decoded, is_yaml, parse_json
from kolla_start.errors import Fault, Refused, cause, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

YAML = f"{source.MOUNTED}/config.yaml"
JSON = f"{source.MOUNTED}/config.json"


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
    """An accepted document, and its text. `remarks` say what a start takes and `validate` would
    not.
    """

    __slots__ = (
        "capabilities", "command", "config_files", "directories", "files", "no_new_privileges",
        "path", "permissions", "remarks", "text", "user",
    )  # fmt: skip

    def __init__(
        self,
        path: str,
        text: str,
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
        self.text = text
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
        path = YAML if _there(YAML) else JSON
    text = read(path)
    try:
        document = parse(path, text)
    except ValueError:
        faults = examine(path, text)
        if not faults:
            raise AssertionError(f"{path}: refused, and nothing is wrong with it") from None
        raise Refused(faults, path, text) from None
    verdict = judge(document)
    if verdict.faults:
        raise Refused(verdict.faults, path, text)
    # Whether a number as `perm` is a fault is for the plan to say: Permission.mistaken.
    remarks = tuple(remark for remark in verdict.remarks if remark.loc[-1] != "perm")
    return _config(path, text, document, remarks)


def parse(path: str, text: str) -> Any:
    """What the text of a document says. Raises ValueError, also for a duplicate key."""
    if not is_yaml(path):
        return parse_json(text)
    from kolla_start.document.yaml_text import parse_yaml

    return parse_yaml(text)


def examine(path: str, text: str, strict: bool = False) -> list[Fault]:
    """Everything that is wrong with a document's text; none where it is good.

    `strict` counts what a start only remarks on: unknown keys in every section, and what should be
    written otherwise. Slower than load(): it asks for the places of things.
    """
    from kolla_start.document.nodes import Unreadable, duplicates
    from kolla_start.document.places import read as understood

    try:
        document, root = understood(path, text)
    except Unreadable as error:
        return [error.fault]
    verdict = judge(document, strict)
    remarks = verdict.remarks if strict else []
    return [*duplicates(root), *verdict.faults, *remarks]


def read(path: str) -> str:
    """The text of a document. Raises Refused."""
    return decoded(path, _content(path))


def _there(path: str) -> bool:
    try:
        source.find(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise refuse(cause(error, path, "mend or remove it")) from None
    return True


def _content(path: str) -> bytes:
    """The bytes of a file. Raises Refused."""
    hint = "name a file that can be read"
    if path in (JSON, YAML):
        hint = f"mount a directory that holds config.json or config.yaml at {source.MOUNTED}"
    try:
        if path not in (JSON, YAML):
            return read_by_name(path)
        found = source.find(path)
        if not stat.S_ISREG(found.status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        return found.content()
    except (FileNotFoundError, NotADirectoryError):
        message = "does not exist"
    except PermissionError:
        message, hint = f"uid {os.geteuid()} cannot read it", "make it readable"
    except OSError as error:
        message = error.strerror or str(error)
    raise Refused([Fault((), f"{message}; {hint}")], path)


# --- records from an accepted document ---------------------------------------------------------


def _config(path: str, text: str, document: dict[str, Any], remarks: tuple[Fault, ...]) -> Config:
    command = document["command"]
    return Config(
        path,
        text,
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


def _path_entries(entries: list[dict[str, Any]]) -> tuple[PathEntry, ...]:
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
