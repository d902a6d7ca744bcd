"""The final state of a start: what should be at each path.

On the container-start path: fnmatch is imported only for patterns. It decides nothing
and writes nothing; plan.py fills the tree and compares it with the disk.
"""

import os
import stat
from _collections_abc import Callable, Iterator

from kolla_start import disk
from kolla_start.errors import Loc

FILE, DIRECTORY, LINK, SPECIAL, PARENT, ABSENT = range(6)
KIND_NAMES = ("a file", "a directory", "a link", "a special file", "a directory", "nothing")

# The parts of the final state. CHECKED are the ones that `--check` answers for.
RESTORE, DIRECTORIES, FILES, CONFIG_FILES = "restore", "directories", "files", "config_files"
CHECKED = (RESTORE, CONFIG_FILES)


class Node:
    """What should be at one path.

    mode:    permission bits; of a link without meaning
    source:  the file whose content it gets, or None (an empty file, a directory)
    status:  of the source
    safe:    the source lies where a service could write (a saved original): follow no link
    exact:   a directory that holds nothing but what the plan names
    known:   a directory that is as its source, itself and all that is in it: not compared again
    """

    __slots__ = (
        "exact", "gid", "kind", "known", "loc", "mode", "part", "preserve", "safe",
        "source", "status", "target", "uid",
    )  # fmt: skip

    def __init__(
        self,
        kind: int,
        part: str,
        loc: Loc,
        uid: int = 0,
        gid: int = 0,
        mode: int = 0,
        source: str | None = None,
        status: os.stat_result | None = None,
        target: str = "",
        preserve: bool = False,
        exact: bool = False,
        safe: bool = False,
        known: bool = False,
    ) -> None:
        self.kind = kind
        self.part = part
        self.loc = loc
        self.uid = uid
        self.gid = gid
        self.mode = mode
        self.source = source
        self.status = status
        self.target = target
        self.preserve = preserve
        self.exact = exact
        self.safe = safe
        self.known = known


class Tree:
    """The final state: nodes by path, and the names below each directory that has any."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.children: dict[str, set[str]] = {}

    def put(self, path: str, node: Node) -> None:
        self.nodes[path] = node
        parent, _, name = path.rpartition("/")
        beside = self.children.get(parent)
        if beside is not None and name:
            beside.add(name)
            return
        while path != "/":
            path, name = disk.split(path)
            names = self.children.setdefault(path, set())
            if name in names:
                return
            names.add(name)

    def drop(self, path: str) -> None:
        """Forget a path and all below it; its parents stay."""
        if path not in self.nodes and path not in self.children:
            return
        self.nodes.pop(path, None)
        todo = [path] if path in self.children else []
        while todo:
            place = todo.pop()
            for name in self.children.pop(place):
                below = disk.join(place, name)
                self.nodes.pop(below, None)
                if below in self.children:
                    todo.append(below)
        parent, name = disk.split(path)
        if path != "/" and parent in self.children:
            self.children[parent].discard(name)

    def _above(self, path: str) -> Node | None:
        """The nearest node above a path."""
        return next((self.nodes[place] for place in ancestors(path) if place in self.nodes), None)

    def exact_above(self, path: str) -> bool:
        node = self._above(path)
        return node is not None and node.exact

    def known_above(self, path: str) -> bool:
        """Whether a path lies in a directory that is not compared again."""
        node = self._above(path)
        return node is not None and node.known

    def known(self) -> list[str]:
        """The directories that are not compared again."""
        return [path for path, node in self.nodes.items() if node.known]

    def covers(self, path: str) -> bool:
        """Whether the final state says already what becomes of a path."""
        return path in self.nodes or self.exact_above(path)

    def wants(self, path: str) -> bool:
        """Whether anything is to be at or below a path."""
        node = self.nodes.get(path)
        if node is not None and node.kind != ABSENT:
            return True
        return any(self.wants(disk.join(path, name)) for name in self.children.get(path, ()))

    def matches(self, pattern: str) -> list[str]:
        """The paths that will exist and match a shell pattern, as glob.glob() would find them."""
        if not has_magic(pattern):
            return []
        from fnmatch import fnmatchcase

        parts = pattern.strip("/").split("/")
        found = []
        for path, node in self.nodes.items():
            names = path[1:].split("/")
            if (
                node.kind != ABSENT
                and len(names) == len(parts)
                and all(
                    fnmatchcase(name, part) and (name[0] != "." or part[0] == ".")
                    for name, part in zip(names, parts, strict=True)
                    if name
                )
            ):
                found.append(path)
        return found


def mirror(source: str, dest: str, instead: dict[str, str | None]) -> Iterator[tuple[str, Node]]:
    """The nodes of an exact copy of a tree, links and special files as they are.

    Used to save an original and to give it back. `instead` names paths whose content comes from
    elsewhere (None: from nowhere), because what is there now is not original.
    """
    todo = [(source, dest)]  # a tree may be deeper than calls can be
    while todo:
        source, dest = todo.pop()
        status = disk.lstat(source)
        if status is None:
            continue
        kind = kind_of(status)
        target = disk.read_link(source) if kind == LINK else ""
        yield dest, Node(
            kind, RESTORE, (), status.st_uid, status.st_gid, status.st_mode & 0o7777, source,
            status, target, preserve=kind in {FILE, DIRECTORY}, exact=kind == DIRECTORY, safe=True,
        )  # fmt: skip
        if kind == DIRECTORY:
            for name in reversed(disk.names(source)):
                inner = disk.join(source, name)
                origin = instead.get(inner, inner)
                if origin is not None:
                    todo.append((origin, disk.join(dest, name)))


def directory_mode(perm: int) -> int:
    """The mode of a directory: x wherever there is r, as upstream."""
    return perm | (perm & 0o444) >> 2


def is_directory(status: os.stat_result | None) -> bool:
    return status is not None and stat.S_ISDIR(status.st_mode)


def kind_of(status: os.stat_result) -> int:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return FILE
    if stat.S_ISDIR(mode):
        return DIRECTORY
    return LINK if stat.S_ISLNK(mode) else SPECIAL


def ancestors(path: str) -> Iterator[str]:
    """The directories above a path, nearest first, "/" last."""
    while path != "/":
        path = disk.split(path)[0]
        yield path


def has_magic(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern or "[" in pattern


def matches(pattern: str, unreadable: Callable[[OSError], None] | None = None) -> list[str]:
    """What an absolute shell pattern finds (glob(7)), sorted; a plain path, if anything is there.

    What cannot be looked at is handed to `unreadable`, or raises OSError: glob.glob() would take
    it for empty.
    """
    found = [""]
    for part in pattern.split("/")[1:]:
        if not has_magic(part):
            found = [f"{place}/{part}" for place in found]
            continue
        from fnmatch import filter as matching

        here, found = found, []
        for place in here:
            try:
                names = os.listdir(f"{place}/")
            except OSError as error:
                if error.errno not in disk.ABSENT:
                    if unreadable is None:
                        raise
                    unreadable(error)
                continue
            if part[0] != ".":
                names = [name for name in names if name[0] != "."]
            found += [f"{place}/{name}" for name in matching(names, part)]
    there = []
    for path in found:
        try:
            if disk.present(path):
                there.append(path)
        except OSError as error:
            if unreadable is None:
                raise
            unreadable(error)
    return sorted(there)
