"""The final state while it is being drawn up, over what was there before anything was applied.

On the container-start path. A path is resolved against the final state first, and where that says
nothing against the originals, and the disk under them: what the plan will replace, remove or give
back is not looked through.
"""

from __future__ import annotations

import errno
import posix as os
import stat

from kolla_start import kernel
from kolla_start.disk import read, source, walk
from kolla_start.disk.remove import is_temporary
from kolla_start.disk.walk import ROOT_ONLY, Unsafe, ancestors, join, trusted
from kolla_start.document import rules
from kolla_start.errors import Fault, cause
from kolla_start.plan.wanted import (
    CONFIG_FILES,
    KIND_NAMES,
    LINK,
    NOTHING,
    PARENT,
    RESTORE,
    Node,
    Wanted,
    is_directory,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.disk.walk import Stands, Walk
    from kolla_start.errors import Loc
    from kolla_start.records import Records

_NAME_MAX = 255  # bytes, limits.h


class Baseline:
    """Where the original of each path is: in place, kept elsewhere, or nowhere."""

    def __init__(self, records: Records) -> None:
        self._originals = records.originals
        self._attributes = records.attributes
        self._made = frozenset(records.parents)
        self._hollow: dict[str, bool] = {}  # nothing is written while a plan is made

    def place(self, path: str) -> str | None:
        """Where the original of a path would lie now; None where there was none."""
        if not self._originals:
            return path
        if path in self._originals:
            return self._originals[path]
        for above in ancestors(path):
            if above in self._originals:
                kept = self._originals[above]
                return None if kept is None else kept + path[len(above) :]
        if path not in self._made:
            return path
        if path not in self._hollow:
            self._hollow[path] = self._is_hollow(path)
        return None if self._hollow[path] else path

    def _is_hollow(self, path: str) -> bool:
        """Whether a directory that was made for a destination holds nothing of anybody else's."""
        todo = [path]
        while todo:
            place = todo.pop()
            if not is_directory(read.lstat(place)):
                return False
            for name in read.names(place):
                inner = join(place, name)
                if inner in self._made:
                    todo.append(inner)
                elif self._originals.get(inner, inner) is not None:
                    return False
        return True

    def status(self, path: str) -> os.stat_result | None:
        """The status of the original itself; None where there was none."""
        place = self.place(path)
        if place is None or place == path:
            return None if place is None else read.lstat(place)
        original = source.original(place)
        return None if original is None else original.status

    def attributes(self, path: str, status: os.stat_result) -> tuple[int, int, int]:
        """Owner, group and mode that a directory had before a merge changed them."""
        now = status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)
        return self._attributes.get(path, now)


class Draft:
    """The final state, and what is known of how it came about.

    keys:    paths that config_files answers for: replaced whole, or leaves of a merge
    merged:  directories of the image that a merge only gives owner and mode
    parents: directories that are made for a destination, or were
    stuck:   what left the document and cannot be given back now, see stay()
    links:   those of the disk that an entry's paths lead through, and where it says so
    sought:  directories in which sources are looked for, found or not, and where it says so
    preserved: by the number of an entry, the owners of what it copies (Given.owners)
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self.baseline = Baseline(records)
        self.wanted = Wanted()
        self.keys: set[str] = set()
        self.merged: set[str] = set()
        self.parents: set[str] = set()
        self.stuck: set[str] = set()
        self.links: dict[str, Loc] = {}
        self.sought: dict[str, Loc] = {}
        self.preserved: dict[int, set[int]] = {}
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []

    def fault(self, loc: Loc, message: str) -> None:
        self.faults.append(Fault(loc, message))

    def warn(self, loc: Loc, message: str) -> None:
        self.warnings.append(Fault(loc, message))

    def stay(self, path: str, why: str) -> None:
        """What left the document stays as it is: a start does not fail for it, later ones try."""
        self.stuck.add(path)
        self.warn((), f"{path} left the document and cannot be given back: {why}")

    def at(self, path: str) -> Node | os.stat_result | None:
        """What will be at a real path: what is wanted there, else the original's status."""
        node = self.wanted.nodes.get(path)
        if node is not None:
            return None if node.kind == NOTHING else node
        if self.wanted.exact_above(path):
            return None
        return self.baseline.status(path)

    def is_directory(self, path: str) -> bool:
        found = self.at(path)
        if isinstance(found, Node):
            return found.is_directory()
        return found is not None and stat.S_ISDIR(found.st_mode)

    def is_link(self, path: str) -> bool:
        found = self.at(path)
        if isinstance(found, Node):
            return found.kind == LINK
        return found is not None and stat.S_ISLNK(found.st_mode)

    def stands(self, real: str) -> Stands:
        """What is to be seen at a real path on the way to others (walk.Walk.resolve())."""
        node = self.wanted.nodes.get(real)
        if node is not None:
            if node.is_directory():
                return True
            if node.kind == NOTHING:
                return False
            if node.kind == LINK and node.source is not None:
                return node.source.target
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), real)
        if self.wanted.exact_above(real):
            return False
        place = self.baseline.place(real)
        if place == real:
            return None
        original = None if place is None else source.original(place)
        if original is None:
            return False
        if stat.S_ISDIR(original.status.st_mode):
            return True
        if not original.target or not trusted(original.status.st_uid):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), real)
        return original.target

    def resolve(self, path: str, follow: bool = False, through: list[str] | None = None) -> str:
        """The real path that a path will have. Raises as walk.resolve()."""
        return walk.resolve(path, self.stands, follow, through)

    def place(self, path: str, loc: Loc, follow: bool = False) -> str | None:
        """The same; what is against it is a fault. A link to no directory is not followed."""
        if any(len(kernel.encode(name)) > _NAME_MAX for name in path.split("/")):
            self.fault(loc, f"{path} has a name of more than {_NAME_MAX} bytes in it; shorten it")
            return None
        through: list[str] = []
        try:
            real = self.resolve(path, follow, through)
            self.links.update(dict.fromkeys(through, loc))
            return real
        except Unsafe as error:
            self.fault(loc, str(error))
        except OSError as error:
            if follow and isinstance(error, NotADirectoryError):
                return path
            node = self.wanted.nodes.get(str(error.filename))
            if node is not None and not node.is_directory():
                self._in_the_way(str(error.filename), node, loc)
            else:
                self.fault(loc, cause(error, path, "make room for the destination"))
        return None

    def _in_the_way(self, path: str, node: Node, loc: Loc) -> None:
        what = KIND_NAMES[node.kind]
        self.fault(loc, f"{path} is {what} by an earlier entry; name another path")

    def add_parents(self, path: str, loc: Loc, part: str) -> bool:
        """Add the parents that a path needs and nobody has asked for; False if one cannot be."""
        wanted = self.wanted
        for place in ancestors(path):
            found = self.at(place)
            if isinstance(found, Node):
                if not found.is_directory():
                    self._in_the_way(place, found, loc)
                    return False
                return True
            if found is None:
                if part == CONFIG_FILES:
                    self.parents.add(place)
            elif not stat.S_ISDIR(found.st_mode):
                self.fault(loc, f"{place} is there and is no directory; remove it")
                return False
            elif place in self.records.parents and part == CONFIG_FILES:
                self.parents.add(place)
            else:
                return True
            own = os.geteuid(), os.getegid()
            node = Node(PARENT, part, loc, *own, 0o755, exact=wanted.exact_above(place))
            wanted.put(place, node)
        return True

    def reaches_records(self, path: str, loc: Loc, uid: int, mode: int, recurse: bool) -> bool:
        """Whether an owner or mode would let somebody at this program's records: a fault then."""
        if rules.kept(path) or (
            rules.holds_records(path) and (recurse or not trusted(uid) or mode & 0o022)
        ):
            self.fault(
                loc, f"{path} is, or holds, what this program remembers; name a path beside it"
            )
            return True
        return False


def is_private_from(uid: int, node: Node, path: str) -> bool:
    """Whether a node is given back as somebody else's who kept it from this user.

    A neighbour's file can have been moved there before it was saved as an original.
    """
    if node.part != RESTORE or node.source is None or node.kind == LINK:
        return False
    return kept_from(uid, node.source.status, path)


def kept_from(uid: int, status: os.stat_result, path: str) -> bool:
    """Whether what was at a path is a third user's who kept it from a user, by its mode.

    Where nobody else can have put it, it was the image's.
    """
    if status.st_uid in (uid, 0) or status.st_mode & 0o004:
        return False
    return walk.sole_at(path) not in (ROOT_ONLY, status.st_uid)


class Drawn(read.Disk):
    """What will be there, as far as it is drawn up, by paths that may lead through links."""

    def __init__(self, draft: Draft, by: Walk) -> None:
        super().__init__(by)
        self._draft = draft
        self._wanted = draft.wanted

    def names(self, path: str) -> list[str]:
        real = self.by.resolve(path, self._draft.stands, follow=True)
        place = self._draft.baseline.place(real)
        before: list[str] = []
        if place == real:
            try:
                before = super().names(real)
            except (FileNotFoundError, NotADirectoryError):
                pass
        elif place is not None:
            original = source.original(place)
            if original is not None and original.kind == stat.S_IFDIR:
                before = original.names()
        return self.within(real, before)

    def within(self, real: str, before: list[str]) -> list[str]:
        """The names that will be in a directory; `before`: those in the original, if any."""
        node = self._wanted.nodes.get(real)
        if (node is not None and node.exact) or self._wanted.exact_above(real):
            before = []
        records = self._draft.records
        if records.pending:  # what is half written goes before anything is copied
            before = [name for name in before if not is_temporary(name, records.mark)]
        known = set(before)
        for name in self._wanted.children.get(real, ()):
            if join(real, name) in self._wanted.nodes:
                known.add(name)
        return sorted(name for name in known if self._stays(join(real, name)))

    def has(self, path: str) -> bool:
        real = self.by.resolve(path, self._draft.stands)
        if real in self._wanted.nodes or self._draft.baseline.place(real) != real:
            return self._stays(real)
        return not self._wanted.exact_above(real) and super().has(real)

    def _stays(self, real: str) -> bool:
        """Whether anything will be at a real path, if there is anything on the disk."""
        node = self._wanted.nodes.get(real)
        if node is not None:
            return node.kind != NOTHING
        if self._wanted.exact_above(real):
            return False
        place = self._draft.baseline.place(real)
        return place == real or (place is not None and source.original(place) is not None)
