"""What config_files copy: a source, and all that is in it, into the final state.

On the container-start path. Nothing is read here but names and statuses.
"""

from __future__ import annotations

import posix as os
import stat

from kolla_start.disk import read, source
from kolla_start.disk.source import Changed, Dangling, Source
from kolla_start.disk.walk import Unsafe, identity, join, trusted
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

    # A source to be added, its destination, and the directories that it lies in.
    Met = tuple[Source, str, tuple[tuple[int, int], ...]]


def find(entry: ConfigFile, draft: Draft, loc: Loc) -> list[Source]:
    """The sources of an entry; that there is none is a fault where it is not optional."""
    links = entry.merge and entry.preserve_properties
    if read.has_magic(entry.source):
        what, paths = "matches nothing", source.matches(entry.source)
    else:
        what, paths = "does not exist", [entry.source]
    found: list[Source] = []
    before = len(draft.faults)
    for path in paths:
        try:
            found.append(source.find(path, links))
        except (OSError, Unsafe) as error:
            gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
            if not gone or isinstance(error, Dangling):
                draft.fault((*loc, "source"), _why_not(path, error))
    if not found and not entry.optional and len(draft.faults) == before:
        message = f"{entry.source} {what}; mount it, or set `optional` to true"
        draft.fault((*loc, "source"), message)
    return found


def _why_not(path: str, error: OSError | Unsafe) -> str:
    if isinstance(error, Unsafe):
        return str(error)
    if isinstance(error, Dangling):
        return f"{path} is a link that leads nowhere; mend or remove it"
    return f"{path}: {error.strerror}; mend or remove it"


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
        self._links = entry.merge and entry.preserve_properties

    def add(self, top: Source, path: str) -> None:
        """Add a source and all that is in it at a destination."""
        todo: list[Met] = [(top, path, ())]
        while todo:
            todo += reversed(self._add(*todo.pop()))

    def _add(self, found: Source, path: str, above: tuple[tuple[int, int], ...]) -> list[Met]:
        kind = found.status.st_mode
        if stat.S_ISLNK(kind):
            self._leaf(path, self._node(LINK, found))
        elif stat.S_ISREG(kind):
            if found.readable():
                self._leaf(path, self._node(FILE, found))
            else:
                self._wrong(f"{found.path}: Permission denied; make it readable")
        elif stat.S_ISDIR(kind):
            return self._directory(found, path, above)
        elif read.is_null(found.status) and not self._preserve and self._of_root(found):
            self._leaf(path, self._node(FILE, source.null(found)))
        else:
            self._wrong(
                f"{found.path} is neither a file nor a directory; only those can be copied, and "
                f"{rules.NULL}, without preserve_properties, as an empty file"
            )
        return []

    def _of_root(self, found: Source) -> bool:
        return trusted(found.status.st_uid)

    def _directory(self, found: Source, path: str, above: tuple[tuple[int, int], ...]) -> list[Met]:
        if identity(found.status) in above:
            self._wrong(f"{found.path} leads back into itself; remove the link")
            return []
        node = self._node(DIRECTORY, found)
        if self._merge:
            merged = self._merge_into(path, node)
            if merged is None:
                return []
            path = merged
        else:
            self._draft.wanted.put(path, node)
        within = (*above, identity(found.status))
        try:
            names = found.names()
        except OSError as error:
            self._wrong(_why_not(found.path, error))
            return []
        met: list[Met] = []
        for name in names:
            # Kubernetes keeps the machinery of a ConfigMap under names that begin with "..".
            if name.startswith(".."):
                continue
            try:
                met.append((found.inside(name, self._links), join(path, name), within))
            except Dangling as error:
                self._wrong(_why_not(join(found.path, name), error))
            except (FileNotFoundError, NotADirectoryError):
                raise Changed(f"{found.path} has changed") from None
            except (OSError, Unsafe) as error:
                self._wrong(_why_not(join(found.path, name), error))
        return met

    def _node(self, kind: int, found: Source) -> Node:
        status = found.status
        uid, gid = self._ids or (status.st_uid, status.st_gid)
        mode = stat.S_IMODE(status.st_mode)
        if self._perm is not None:
            mode = directory_mode(self._perm) if kind == DIRECTORY else self._perm
        exact = kind == DIRECTORY and not self._merge
        return Node(kind, CONFIG_FILES, self._loc, uid, gid, mode, found, self._preserve, exact)

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
        if known is not None and not known.is_directory():
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
        node.exact = known is not None and known.is_directory() and known.exact
        if not (node.exact or draft.wanted.exact_above(path)):  # else it is an earlier entry's
            before = draft.baseline.status(path)
            (draft.merged if is_directory(before) else draft.keys).add(path)
        draft.wanted.put(path, node)
        return path

    def _wrong(self, message: str) -> None:
        self._draft.fault((*self._loc, "source"), message)

    def _misplaced(self, message: str) -> None:
        self._draft.fault((*self._loc, "dest"), message)
