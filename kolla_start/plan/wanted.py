"""The final state of a start: what should be at each path.

On the container-start path. It knows no disk and decides nothing.
"""

from __future__ import annotations

import stat

from kolla_start import progress
from kolla_start.disk.walk import ancestors, join, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from kolla_start.disk.source import Source
    from kolla_start.errors import Loc

FILE, DIRECTORY, LINK, SPECIAL, PARENT, NOTHING = range(6)
KIND_NAMES = ("a file", "a directory", "a link", "a special file", "a directory", "nothing")

# The parts of the final state. CHECKED are the ones that `--check` answers for.
RESTORE, DIRECTORIES, FILES, CONFIG_FILES = "restore", "directories", "files", "config_files"
CHECKED = (RESTORE, CONFIG_FILES)


class Node:
    """What should be at one path.

    kind:     PARENT is a directory that somebody's destination needs, as it is if it is there
    part:     who wants it; `loc` where in the document
    mode:     permission bits; of a link without meaning
    source:   what it is a copy of, or None (an empty file, a directory)
    preserve: it gets the source's times and extended attributes
    closed:   by `permissions`, which has the last word: no ACL opens it
    exact:    a directory that holds nothing but what the final state names
    under:    the original of a directory that comes back under it: as the image's, that keeps what
              attributes it has
    """

    __slots__ = (
        "closed", "exact", "gid", "kind", "loc", "mode", "part", "preserve", "source", "uid",
        "under",
    )  # fmt: skip

    def __init__(
        self,
        kind: int,
        part: str,
        loc: Loc,
        uid: int = 0,
        gid: int = 0,
        mode: int = 0,
        source: Source | None = None,
        preserve: bool = False,
        exact: bool = False,
    ) -> None:
        self.kind = kind
        self.part = part
        self.loc = loc
        self.uid = uid
        self.gid = gid
        self.mode = mode
        self.source = source
        self.preserve = preserve
        self.closed = False
        self.exact = exact
        self.under: Source | None = None

    def is_directory(self) -> bool:
        return self.kind in (DIRECTORY, PARENT)

    def attributes(self) -> dict[str, bytes] | None:
        """The extended attributes that it should have; None for no ACL, and else as they are.

        Raises as Source.open().
        """
        found = None if self.under is None else self.under.attributes()
        if self.preserve and self.source is not None:
            added = self.source.attributes()
            if self.closed:
                added.pop("system.posix_acl_access", None)
            found = {**(found or {}), **added}
        return found

    def complete(self) -> bool:
        """Whether a directory has no other attributes; else as a merge, which adds to them."""
        return self.exact or self.under is not None


class Wanted:
    """Nodes by path, and the names below each directory that has any."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.children: dict[str, set[str]] = {}

    def put(self, path: str, node: Node) -> None:
        self.nodes[path] = node
        progress.done += 1
        parent, _, name = path.rpartition("/")
        beside = self.children.get(parent)
        if beside is not None and name:
            beside.add(name)
            return
        while path != "/":
            path, name = split(path)
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
                below = join(place, name)
                self.nodes.pop(below, None)
                if below in self.children:
                    todo.append(below)
        parent, name = split(path)
        if path != "/" and parent in self.children:
            self.children[parent].discard(name)

    def exact_above(self, path: str) -> bool:
        """Whether a path lies in what holds nothing but what is wanted, or nothing at all."""
        for place in ancestors(path):
            node = self.nodes.get(place)
            if node is not None:
                return node.exact or not node.is_directory()
        return False

    def covers(self, path: str) -> bool:
        """Whether the final state says already what becomes of a path."""
        return path in self.nodes or self.exact_above(path)

    def wants(self, path: str) -> bool:
        """Whether anything is to be at or below a path."""
        return any(node.kind != NOTHING for _, node in self.below(path))

    def below(self, path: str) -> Iterator[tuple[str, Node]]:
        """The nodes at and below a path."""
        todo = [path]
        while todo:
            place = todo.pop()
            node = self.nodes.get(place)
            if node is not None:
                yield place, node
            todo += [join(place, name) for name in self.children.get(place, ())]


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
