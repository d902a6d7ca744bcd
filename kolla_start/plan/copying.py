"""What one config_files entry copies, into the final state.

On the container-start path. It reads nothing: what there is to copy has been found (sources.py).
"""

from __future__ import annotations

import posix as os
import stat

from kolla_start.disk import read, source
from kolla_start.disk.source import Source
from kolla_start.disk.walk import join, trusted
from kolla_start.document import rules
from kolla_start.plan.draft import Draft
from kolla_start.plan.wanted import (
    CONFIG_FILES,
    DIRECTORY,
    FILE,
    LINK,
    Node,
    directory_mode,
    is_directory,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.document.load import ConfigFile
    from kolla_start.errors import Loc
    from kolla_start.plan.sources import Found


class Copying:
    """What one config_files entry gives to everything it copies, and where that is noted."""

    def __init__(
        self, draft: Draft, entry: ConfigFile, ids: tuple[int, int] | None, loc: Loc
    ) -> None:
        self._draft = draft
        self._ids = ids
        self._perm = None if entry.preserve_properties else entry.perm
        self._loc = loc
        self._merge = entry.merge
        self._preserve = entry.preserve_properties

    def add(self, tree: list[Found], path: str) -> None:
        """Add a source and all that is in it at a destination."""
        places: list[str | None] = []  # where each of them comes to be
        for found, at, name in tree:
            above = path if at < 0 else places[at]
            place = above if above is None or at < 0 else join(above, name)
            places.append(None if place is None else self._add(found, place))

    def _add(self, found: Source, path: str) -> str | None:
        """Where it comes to be; None where what is in it cannot be there."""
        if found.kind == stat.S_IFDIR:
            return self._directory(found, path)
        if found.kind == stat.S_IFLNK:
            self._leaf(path, self._node(LINK, found))
        elif found.kind == stat.S_IFREG:
            if found.readable():
                self._leaf(path, self._node(FILE, found))
            else:
                self._wrong(f"{found.path}: Permission denied; make it readable")
        elif read.is_null(found.status) and not self._preserve and trusted(found.owner[0]):
            self._leaf(path, self._node(FILE, source.null(found)))
        else:
            self._wrong(
                f"{found.path} is neither a file nor a directory; only those can be copied, and "
                f"{rules.NULL}, without preserve_properties, as an empty file"
            )
        return None

    def _directory(self, found: Source, path: str) -> str | None:
        node = self._node(DIRECTORY, found)
        if self._merge:
            return self._merge_into(path, node)
        self._draft.wanted.put(path, node)
        return path

    def _node(self, kind: int, found: Source) -> Node:
        uid, gid, mode = found.owner
        if self._ids is not None:
            uid, gid = self._ids
        if self._perm is not None:
            mode = directory_mode(self._perm) if kind == DIRECTORY else self._perm
        exact = kind == DIRECTORY and not self._merge
        copied, preserve = found.copied(), self._preserve and found.lasts
        return Node(kind, CONFIG_FILES, self._loc, uid, gid, mode, copied, preserve, exact)

    def _leaf(self, path: str, node: Node) -> None:
        if path == "/":
            self._misplaced("a file cannot be put in place of /; name a path")
            return
        if self._merge:
            problem = rules.protected(path, False)
            if problem is not None:
                self._misplaced(problem)
                return
            self._draft.keys.add(path)
        self._draft.wanted.drop(path)
        self._draft.wanted.put(path, node)

    def _merge_into(self, path: str, node: Node) -> str | None:
        """Add a directory; where a merge meets a safe link to one, the directory behind it."""
        draft = self._draft
        if draft.is_link(path):
            behind = draft.place(path, (*self._loc, "dest"), follow=True)
            if behind is None:
                return None
            if draft.is_directory(behind):  # else it leads nowhere: a directory takes its place
                path = behind
        known = draft.wanted.nodes.get(path)
        replaced = known is not None and not known.is_directory()
        if replaced:  # by an earlier entry, which has taken away what was there
            draft.wanted.drop(path)
        problem = rules.protected(path, True)
        if problem is not None:
            self._misplaced(problem)
            return None
        if rules.holds_records(path) and (not trusted(node.uid) or node.mode & 0o022):
            if not self._preserve:
                where = (*self._loc, "dest")
                draft.reaches_records(path, where, node.uid, node.mode, False)
                return None
            draft.warn(
                (*self._loc, "dest"),
                f"{path} holds what this program remembers: it stays as it is",
            )
            node.uid, node.gid, node.mode = os.geteuid(), os.getegid(), 0o755
        node.exact = known is not None and (replaced or known.exact)
        inside = draft.wanted.exact_above(path)
        if replaced and not inside:
            draft.keys.add(path)
        elif not (node.exact or inside):  # else it is an earlier entry's
            before = draft.baseline.status(path)
            (draft.merged if is_directory(before) else draft.keys).add(path)
        draft.wanted.put(path, node)
        return path

    def _wrong(self, message: str) -> None:
        self._draft.fault((*self._loc, "source"), message)

    def _misplaced(self, message: str) -> None:
        self._draft.fault((*self._loc, "dest"), message)
