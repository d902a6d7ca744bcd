"""What is given back when its path leaves the document.

On the container-start path. Nothing here writes. What is given back is laid under the rest of the
final state, so that it is one plan with it: after any history of documents the paths that
config_files ever touched are as if the last document had been the first.
"""

from __future__ import annotations

import errno
import stat

from kolla_start.disk import read, source
from kolla_start.disk.walk import Unsafe, ancestors, join, split
from kolla_start.document import rules
from kolla_start.plan.draft import Baseline, Draft, kept_from
from kolla_start.plan.wanted import (
    DIRECTORIES,
    DIRECTORY,
    FILE,
    KIND_NAMES,
    NOTHING,
    PARENT,
    RESTORE,
    Node,
    is_directory,
    kind_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.disk.source import Source


class Originals:
    """What left the document."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._before = draft.records
        self._loose: set[str] = set()  # directories that may keep what was never put there

    def restore(self) -> None:
        """Lay what left the document under everything else."""
        for path in sorted(self._before.originals.keys() - self._draft.keys):
            self._give_back(path, self._before.originals[path])
        self._take_back()
        for path, (uid, gid, mode) in self._before.attributes.items():
            node = self._draft.wanted.nodes.get(path)
            if node is not None and node.kind != PARENT:
                continue
            if self._draft.wanted.exact_above(path) or self._cannot_reach(path):
                continue
            if is_directory(read.lstat(path)):
                self._draft.wanted.put(path, Node(DIRECTORY, RESTORE, (), uid, gid, mode))

    def _give_back(self, path: str, kept: str | None) -> None:
        wanted = self._draft.wanted
        node = wanted.nodes.get(path)
        if (node is None and wanted.exact_above(path)) or self._cannot_reach(path):
            return
        original = source.original(kept) if kept else None
        if kept and original is None:
            self._draft.warn((), f"the original of {path} is not at {kept} any more")
            return
        if original is None:
            if node is None:
                wanted.put(path, Node(NOTHING, RESTORE, (), exact=True))
            elif node.kind == FILE and node.source is None:
                self._make_empty(node)
        elif node is None and not self._room(path):
            return
        else:
            self._mirror(original, path)
        # What was copied there before is none of the original; what a service keeps in a directory
        # that `directories` names stays.
        for place, inner in wanted.below(path):
            if inner.part == DIRECTORIES and inner.kind == DIRECTORY:
                self._loose.add(f"{place}/")
            elif inner.is_directory():
                inner.exact = True
                if inner.kind == PARENT:
                    inner.kind, inner.part = DIRECTORY, RESTORE  # nor are its owner and mode

    def _under(self, node: Node, original: Source, path: str) -> None:
        """`files` gives it an owner; its content is the image's, if that owner may have it."""
        status = original.status
        if stat.S_ISREG(status.st_mode) and not kept_from(node.uid, status, path):
            node.source, node.preserve, node.part = original, True, RESTORE
        else:
            self._draft.fault(
                node.loc,
                f"what was there belongs to uid {status.st_uid}, and uid {node.uid} may not read "
                "it: it is not given away; remove the entry",
            )

    def _make_empty(self, node: Node) -> None:
        """`files` makes it: what this program had put there is not its content."""
        node.source, node.part = source.null(source.find(rules.NULL)), RESTORE

    def _room(self, path: str) -> bool:
        """Make sure of the parents of what is given back."""
        draft = self._draft
        for above in ancestors(path):
            if draft.is_directory(above):
                break
            if draft.at(above) is not None:
                draft.stay(path, f"{above} is no directory any more; remove it")
                return False
        return draft.add_parents(path, (), RESTORE)

    def _mirror(self, top: Source, path: str) -> None:
        wanted = self._draft.wanted
        todo = [(top, path)]  # a tree may be deeper than calls can be
        while todo:
            found, path = todo.pop()
            node = wanted.nodes.get(path)
            if node is None:
                wanted.put(path, mirrored(found))
            elif node.kind == FILE and node.source is None:
                self._under(node, found, path)
            elif not node.is_directory() or node.exact:
                continue
            elif found.kind == stat.S_IFDIR:
                node.under = found
            within = inside(found, self._draft.baseline)
            todo += [(each, join(path, name)) for name, each in within]

    def _take_back(self) -> None:
        """What was copied into a directory as a whole that is not exact any more."""
        wanted = self._draft.wanted
        for path in self._before.originals.keys() & self._draft.keys:
            node = wanted.nodes.get(path)
            if node is not None and node.is_directory() and not node.exact:
                self._loose.add(f"{path}/")
        loose = tuple(self._loose)
        for path in self._before.placed if loose else ():
            if not path.startswith(loose) or self._draft.baseline.status(path) is not None:
                continue
            node = wanted.nodes.get(path)
            if node is not None and node.kind == FILE and node.source is None:
                self._make_empty(node)
            elif not (wanted.covers(path) or wanted.wants(path) or self._cannot_reach(path)):
                wanted.put(path, Node(NOTHING, RESTORE, (), exact=True))

    def _cannot_reach(self, path: str) -> bool:
        """Whether what left the document cannot be given back. A start does not fail for it."""
        try:
            status = read.lstat(path)
            above = path
            while status is None:
                above = split(above)[0]
                status = read.lstat(above)
        except Unsafe as error:
            self._draft.stay(path, str(error))
            return True
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return True  # nothing has such a name
        if above == path or is_directory(status) or self._draft.wanted.covers(above):
            return False
        self._draft.stay(path, f"{above} is {KIND_NAMES[kind_of(status)]} now; remove it")
        return True


def mirrored(found: Source) -> Node:
    """The node of an exact copy: links and special files as they are."""
    status = found.status
    kind = kind_of(status)
    copied = stat.S_ISREG(status.st_mode) or kind == DIRECTORY
    mode = stat.S_IMODE(status.st_mode)
    return Node(
        kind, RESTORE, (), status.st_uid, status.st_gid, mode, found, copied, kind == DIRECTORY
    )


def inside(found: Source, baseline: Baseline) -> list[tuple[str, Source]]:
    """The originals of what is in a directory, by name."""
    if not stat.S_ISDIR(found.status.st_mode):
        return []
    within = []
    for name in reversed(found.names()):
        original = baseline.place(join(found.real, name))
        each = source.original(original) if original is not None else None
        if each is not None:
            within.append((name, each))
    return within
