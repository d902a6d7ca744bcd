"""The final state against the disk: the steps from one to the other.

On the container-start path. Nothing here writes.
"""

from __future__ import annotations

import posix as os
import stat

from kolla_start import accounts, progress
from kolla_start.disk import planted, read, remove, walk
from kolla_start.disk.source import Changed
from kolla_start.disk.walk import Unsafe, join, split
from kolla_start.errors import Fault, cause
from kolla_start.plan.draft import Draft
from kolla_start.plan.steps import Copy, MakeDirectory, MakeFile, Placing, Remove, SetOwner, Step
from kolla_start.plan.wanted import (
    CHECKED,
    CONFIG_FILES,
    DIRECTORY,
    FILE,
    KIND_NAMES,
    LINK,
    NOTHING,
    PARENT,
    RESTORE,
    Node,
    is_directory,
    kind_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.errors import Loc


class Comparison:
    """The steps, as far as the final state has been compared."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._wanted = draft.wanted
        self.steps: list[Step] = []
        self.fresh: set[str] = set()  # directories that the steps make

    def whole(self) -> None:
        """Compare everything. What cannot be compared is a fault."""
        progress.about("comparing files", len(self._wanted.nodes))
        for path, node in sorted(self._wanted.nodes.items()):
            progress.done += 1
            try:
                if node.mode & 0o2000:
                    _leave_out_what_cannot_be(self._draft, path, node)
                self._one(path, node)
            except Changed:
                raise
            except OSError as error:
                self._draft.fault(node.loc, cause(error, path, "it cannot be compared: mend it"))
            except Unsafe as error:
                self._refuse(path, node, [str(error)])

    def _one(self, path: str, node: Node) -> None:
        # What lies in a directory that is yet to be made is not there, whatever stands there now.
        if split(path)[0] in self.fresh:
            self._other(path, node, None)
            return
        if node.kind == FILE and node.source is not None:
            mine = read.open_if_regular(path)  # a call less than to look first
            if mine is not None:
                try:
                    self._copied(path, node, *mine)
                finally:
                    os.close(mine[0])
                return
        status = read.lstat(path)
        wanted = DIRECTORY if node.kind == PARENT else node.kind
        if status is None or kind_of(status) != wanted:
            self._other(path, node, status)
        elif node.kind == FILE:
            if node.source is not None:
                self._replace(path, node, "cannot be read")
                return
            why = _drift(status, node)
            if why:
                self._set(path, node, why)
        elif node.kind == LINK:
            why = _other_link(path, node, status)
            if why:
                self._put(path, node, why)
        else:
            self._directory(path, node, status)

    def _other(self, path: str, node: Node, status: os.stat_result | None) -> None:
        """Something else is there, or nothing."""
        if node.kind == NOTHING:
            if status is not None:
                self._remove(path, node, "it left the document")
            return
        if node.is_directory():
            self.fresh.add(path)
        if status is not None and not self._may_go(path, node):
            return
        why = "missing" if status is None else f"is {KIND_NAMES[kind_of(status)]}"
        self.steps.append(_placing(node)(path, node, why, over=is_directory(status)))

    def _put(self, path: str, node: Node, why: str, minor: bool = False) -> None:
        self.steps.append(_placing(node)(path, node, why, minor))

    def _set(self, path: str, node: Node, why: str) -> None:
        planted.refuse_planted(path, node.uid, node.mode)
        self.steps.append(SetOwner(path, node, why))

    def _directory(self, path: str, node: Node, status: os.stat_result) -> None:
        """Or a special file of the image, which has no content either."""
        names = read.names(path) if node.exact else []
        if names and status.st_uid != node.uid:
            foreign = planted.foreign(walk.directory(path))
            if foreign:  # what is in it would be removed, or replaced
                self._refuse(path, node, [foreign])
                return
        if node.kind != PARENT:
            why = _drift(status, node)
            if not why and (node.preserve or node.complete()) and node.kind == DIRECTORY:
                why = _lacking(path, node)  # a list that it had is not the copy's
            if why:
                self._set(path, node, why)
        within = self._wanted.children.get(path, set())
        before = self._draft.records
        for name in names:
            if name not in within:
                extra = join(path, name)
                ours = extra in before.placed or extra in before.originals
                minor = node.part != RESTORE and not ours
                self._remove(extra, node, "not in the source", minor)

    def _copied(self, path: str, node: Node, mine: int, status: os.stat_result) -> None:
        """A regular file is there, open."""
        assert node.source is not None
        minor = False
        why = _drift(status, node)
        if status.st_size != node.source.status.st_size or not _same(node, mine):
            why = "content differs"
        why = why or read.lacking(mine, node.attributes())
        if not why and node.preserve and status.st_mtime_ns != node.source.status.st_mtime_ns:
            why, minor = "times differ", True
        if why:
            self._replace(path, node, why, minor)

    def _replace(self, path: str, node: Node, why: str, minor: bool = False) -> None:
        """A file of another."""
        if read.pinned(path):
            self._refuse(path, node, [f"{path} is mounted read-only; mount it writable"])
        else:
            self._put(path, node, why, minor)

    def _remove(self, path: str, node: Node, why: str, minor: bool = False) -> None:
        if self._may_go(path, node):
            self.steps.append(Remove(path, node.part, why, minor))

    def _may_go(self, path: str, node: Node) -> bool:
        """Whether what is there may be removed: a fault or a warning says why not.

        A mount never, nor what a neighbour may have moved there. That is a fault only where the
        document wants something else in its place.
        """
        own = self._wanted.nodes.get(path) is node
        mounted = _mounted(path, "unmount it" if own else "unmount it, or merge")
        if mounted:
            self._refuse(path, node, mounted)
            return False
        try:
            remove.refuse_foreign(path)
        except Unsafe as error:
            if own or not node.loc:
                self._refuse(path, node, [str(error)])
            else:
                self._draft.warn(_where(node), f"{path} is not in the source, and stays: {error}")
            return False
        return True

    def _refuse(self, path: str, node: Node, why: list[str]) -> None:
        """What left the document stays as it is; what the document wants is a fault."""
        if node.loc:
            self._draft.faults += [Fault(_where(node), each) for each in why]
        else:
            self._draft.stay(path, why[0])


def _leave_out_what_cannot_be(draft: Draft, path: str, node: Node) -> None:
    """A set-group-id bit that the kernel would clear and say nothing: chmod(2)."""
    if not accounts.may_set_group_id(node.gid):
        node.mode &= ~0o2000
        what = f"the set-group-id bit for group {node.gid} cannot be set here and is left out"
        draft.warn(node.loc, f"{path}: {what}; start the container with --cap-add FSETID")


def _other_link(path: str, node: Node, status: os.stat_result) -> str:
    """In what a link differs from the one that is wanted."""
    assert node.source is not None
    if read.link_target(path) != node.source.target:
        return "another target"
    owner = status.st_uid, status.st_gid
    return "" if owner == (node.uid, node.gid) else "another owner"


def _placing(node: Node) -> type[Placing]:
    if node.source is not None:
        return Copy
    return MakeFile if node.kind == FILE else MakeDirectory


def _where(node: Node) -> Loc:
    return (*node.loc, "dest" if node.loc[0] == CONFIG_FILES else "path")


def _mounted(path: str, advice: str) -> list[str]:
    """What is against replacing a path: the mount points there, and in it."""
    found = []
    for mount in read.mounts(path):
        where = "is a mount point" if mount == path else f"holds the mount point {mount}"
        found.append(f"{path} {where}, and is to be replaced; {advice}")
    return found


def _same(node: Node, mine: int) -> bool:
    assert node.source is not None
    theirs = node.source.open()
    try:
        return read.same_content(theirs, mine, node.source.status.st_size)
    finally:
        os.close(theirs)


def _lacking(path: str, node: Node) -> str:
    fd = read.open_at(path, walk.LIST)
    try:
        return read.lacking(fd, node.attributes(), more=not node.complete())
    finally:
        os.close(fd)


def _drift(status: os.stat_result, node: Node) -> str:
    if (status.st_uid, status.st_gid) != (node.uid, node.gid):
        return f"owner is {status.st_uid}:{status.st_gid}, not {node.uid}:{node.gid}"
    mode = stat.S_IMODE(status.st_mode)
    if mode != node.mode:
        return f"mode is {mode:04o}, not {node.mode:04o}"
    return ""


def changes(steps: list[Step]) -> list[str]:
    """What `--check` says of them: a restart would make these."""
    found = [str(step) for step in steps if step.part in CHECKED and not step.minor]
    return list(dict.fromkeys(found))
