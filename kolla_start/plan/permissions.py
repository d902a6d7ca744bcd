"""`permissions`: owners and modes of paths and whole trees, one answer for each path.

On the container-start path: `re` is imported only for an `exclude` that needs it, `fnmatch` for a
pattern. Several entries may speak of the same path: the last one decides, so that no start writes
anything twice or undoes its own work.
"""

from __future__ import annotations

import errno

from kolla_start import progress
from kolla_start.disk import planted, read, walk
from kolla_start.disk.walk import Unsafe, ancestors, split
from kolla_start.document import rules
from kolla_start.errors import cause
from kolla_start.plan.draft import Draft, Drawn, is_private_from
from kolla_start.plan.gather import ids
from kolla_start.plan.wanted import (
    DIRECTORY,
    LINK,
    NOTHING,
    PARENT,
    RESTORE,
    Wanted,
    directory_mode,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kolla_start.disk import sweep
    from kolla_start.document.load import Config, Permission
    from kolla_start.errors import Loc
    from kolla_start.plan.wanted import Node


def collect(config: Config, draft: Draft) -> Rules:
    """All entries; what they say of the final state is folded into it."""
    found = Rules(draft.wanted)
    for entry in config.permissions:
        _add(entry, draft, found)
    for said in found.fold():
        draft.warn(("permissions",), said)
    return found


def _add(entry: Permission, draft: Draft, found: Rules) -> None:
    loc: Loc = ("permissions", entry.index)
    where: Loc = (*loc, "path")
    owner = ids(draft, entry.owner, loc)
    exclude = compiled(entry.exclude)
    there = False
    for match in _matches(entry.path, draft, where):
        shown = match.rstrip("/") or "/"
        try:
            path = draft.resolve(shown)
        except (Unsafe, OSError) as error:
            # A service can bring this about at any time: no reason not to start it.
            draft.warn(where, f"left out: {error}; name the place itself")
            continue
        behind = _behind(path, draft, where)
        mode = entry.perm or 0
        if draft.reaches_records(behind or path, where, owner[0], mode, entry.recurse):
            continue
        there = there or behind is not None
        if behind is not None and behind != path:
            found.add_behind(behind, owner, entry.perm)
        found.add(Rule(path, shown, owner, entry.perm, entry.recurse, exclude))
    if entry.mistaken is not None:
        (draft.fault if there else draft.warn)((*loc, "perm"), entry.mistaken)


def _matches(pattern: str, draft: Draft, loc: Loc) -> list[str]:
    """What is there and what will be, as the document spells it."""
    if not read.has_magic(pattern):
        return [pattern]

    # Its own directories are the service's business: they do not exempt the others.
    def unreadable(error: Exception) -> None:
        said = cause(error, pattern) if isinstance(error, OSError) else str(error)
        draft.warn(loc, f"passes over {said}")

    return read.matches(pattern, Drawn(draft, walk.ours), unreadable)


def _behind(path: str, draft: Draft, loc: Loc) -> str | None:
    """What an entry speaks of: the path itself, or what a link of the image there leads to."""
    if not draft.is_link(path):
        return path if draft.at(path) is not None else None
    try:
        found = planted.open_behind(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            draft.fault(
                loc, f"{path} is a link that leads in a circle; mend it, or remove the entry"
            )
        return None
    except Unsafe:
        return None  # The sweep says so, and leaves it alone.
    if found is None:
        return path
    found.close()
    return found.real


def compiled(patterns: tuple[str, ...]) -> Callable[[str], bool] | None:
    """Whether any of the patterns is found in a path; None where there are none.

    What it returns raises Unsafe where that takes too long: a service chooses the names.
    """
    if not patterns:
        return None
    if all(rules.literal(pattern) for pattern in patterns):
        starts = tuple(pattern[1:] for pattern in patterns if pattern[0] == "^")
        parts = [pattern for pattern in patterns if pattern[0] != "^"]
        return lambda path: path.startswith(starts) or any(part in path for part in parts)
    from re import compile as compile_one

    searches = [compile_one(pattern).search for pattern in patterns]

    def excluded(path: str) -> bool:
        try:
            return any(progress.bounded(search, path) for search in searches)
        except progress.TooLong:
            raise Unsafe(
                f"{path}: whether it is excluded takes too long to find out; it is left alone: "
                "write `exclude` without one repetition in another, as (a+)+ has it"
            ) from None

    return excluded


class Rule:
    """One entry, at one path that it names or matches. `shown`: as the document spells that."""

    __slots__ = ("exclude", "order", "owner", "perm", "recurse", "root", "shown")

    def __init__(
        self,
        root: str,
        shown: str,
        owner: tuple[int, int],
        perm: int | None,
        recurse: bool,
        exclude: Callable[[str], bool] | None,
    ) -> None:
        self.order = 0
        self.root = root
        self.shown = shown
        self.owner = owner
        self.perm = perm
        self.recurse = recurse
        self.exclude = exclude

    def holds(self, path: str) -> bool:
        """Whether it speaks of a path at or below its root."""
        if path == self.root:
            return True
        if not self.recurse:
            return False
        return self.exclude is None or not self.exclude(self.shown + path[len(self.root) :])


class Rules:
    """All `permissions`, so that each path has one owner and mode, whatever entries cover it."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._by_root: dict[str, list[Rule]] = {}
        self._parents_of_roots: set[str] = set()
        self._behind: dict[str, sweep.Wanted] = {}  # what links of the image lead to
        self._count = 0
        self._deepest = 0  # names in a root

    def add(self, rule: Rule) -> None:
        rule.order = self._count
        self._by_root.setdefault(rule.root, []).append(rule)
        self._parents_of_roots.add(split(rule.root)[0])
        self._deepest = max(self._deepest, rule.root.count("/"))
        self._count += 1

    def add_behind(self, path: str, owner: tuple[int, int], perm: int | None) -> None:
        self._behind[path] = _answer_of(owner, perm)

    def fold(self) -> list[str]:
        """Give the nodes of the final state the owner and mode that `permissions` wants.

        Returns what is to be said of those that are left as they are.
        """
        said: list[str] = []
        if not self._count:
            return said
        for path, node in self._wanted.nodes.items():
            if node.kind in (NOTHING, PARENT) or _is_original_link(node):
                continue
            for rule in self._about(path):
                try:
                    if not rule.holds(path):
                        continue
                except Unsafe as error:
                    said.append(str(error))
                    break
                if is_private_from(rule.owner[0], node, path):
                    said.append(
                        f"{path} is given back as another user's, who keeps it private: it stays "
                        "so; remove it"
                    )
                    break
                node.uid, node.gid = rule.owner
                if rule.perm is not None:
                    directory = node.kind == DIRECTORY
                    node.mode = directory_mode(rule.perm) if directory else rule.perm
                    node.closed = True
        return said

    def trees(self) -> list[tuple[str, bool]]:
        """The tops that are to be swept, and whether with all that is in them.

        One for each tree or path that is not inside another one's tree.
        """
        found = []
        for root, here in self._by_root.items():
            if not any(
                rule.recurse for place in ancestors(root) for rule in self._by_root.get(place, ())
            ):
                found.append((root, any(rule.recurse for rule in here)))
        return found

    def named(self, path: str) -> bool:
        """Whether the document itself says what a path's owner is, or nobody may be given it."""
        node = self._wanted.nodes.get(path)
        return (
            (node is not None and node.kind not in (NOTHING, PARENT) and node.part != RESTORE)
            or any(rule.holds(path) for rule in self._about(path))
            or rules.kept(path)
            or rules.holds_records(path)
        )

    def becomes(self, path: str) -> sweep.Wanted | None:
        """What a directory has after this start; None where it stays as it is."""
        node = self._wanted.nodes.get(path)
        if node is not None and node.kind == DIRECTORY:
            return node.uid, node.gid, None, node.mode
        return self._of(path) or self._behind.get(path)

    def of_entries(self, path: str) -> sweep.Rule:
        """What the entries of a directory should have: one answer if there is only one."""
        here = [rule for rule in self._about(path) if rule.recurse] if path else []
        if (
            not here
            or path in self._parents_of_roots
            or path in self._wanted.children
            or any(rule.exclude is not None for rule in here)
        ):
            return self._of
        return _answer(here)

    def _of(self, path: str) -> sweep.Wanted | None:
        """What one path should have; None where nothing is asked, or the steps have seen to it."""
        node = self._wanted.nodes.get(path)
        if node is not None and node.kind != PARENT and not _is_original_link(node):
            return None
        here = [rule for rule in self._about(path) if rule.holds(path)]
        return _answer(here) if here else None

    def _about(self, path: str) -> list[Rule]:
        """The rules whose root is the path or above it, in the document's order."""
        found = list(self._by_root.get(path, ()))
        # No root lies deeper: a tree that somebody else can write may be thousands deep.
        names = path.split("/", self._deepest + 1)
        if len(names) > self._deepest + 1:
            path = "/".join(names[: self._deepest + 1]) + "/"
        for place in ancestors(path):
            found += (rule for rule in self._by_root.get(place, ()) if rule.recurse)
        found.sort(key=lambda rule: rule.order)
        return found


def _is_original_link(node: Node) -> bool:
    """Whether it is a link that is given back: it is swept then, as any link of the image."""
    return node.kind == LINK and node.part == RESTORE


def _answer(here: list[Rule]) -> sweep.Wanted:
    perm = None
    for rule in here:
        if rule.perm is not None:
            perm = rule.perm
    return _answer_of(here[-1].owner, perm)


def _answer_of(owner: tuple[int, int], perm: int | None) -> sweep.Wanted:
    return (*owner, perm, None if perm is None else directory_mode(perm))
