"""The document's sections, in the order in which later ones override, into the final state.

On the container-start path. `directories`, `files`, `config_files`; what left the document is laid
under them (originals.py), and `permissions` have the last word (permissions.py).
"""

from __future__ import annotations

import posix as os
import stat

from kolla_start import accounts
from kolla_start.disk import read, source, walk
from kolla_start.disk.given import Given, also, declare
from kolla_start.disk.walk import Unsafe, split
from kolla_start.document import rules
from kolla_start.errors import cause
from kolla_start.plan.copying import Copying
from kolla_start.plan.draft import Draft
from kolla_start.plan.sources import find
from kolla_start.plan.wanted import (
    CONFIG_FILES,
    DIRECTORIES,
    DIRECTORY,
    FILE,
    FILES,
    KIND_NAMES,
    Node,
    directory_mode,
    kind_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kolla_start.disk.source import Source
    from kolla_start.document.load import Config, ConfigFile, PathEntry
    from kolla_start.errors import Loc

_DATABASES = ("/etc/passwd", "/etc/group")


def gather(config: Config, draft: Draft) -> None:
    """Put what the document wants into the draft. What is wrong with it is among its faults."""
    _bring(config)
    _declare(config, draft)
    _user(config, draft)
    for entry in config.directories:
        with _Guard(draft, (DIRECTORIES, entry.index), entry.path):
            _directory(draft, entry)
    for entry in config.files:
        with _Guard(draft, (FILES, entry.index), entry.path):
            _file(draft, entry)
    for item in config.config_files:
        with _Guard(draft, (CONFIG_FILES, item.index), item.dest):
            _config_file(draft, item)


class _Guard:
    """What the disk says against an entry (a loop of links, say) is its fault."""

    def __init__(self, draft: Draft, loc: Loc, path: str) -> None:
        self._draft = draft
        self._loc = loc
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, OSError):
            self._draft.fault(self._loc, cause(error, self._path, "mend it"))
        elif isinstance(error, Unsafe):
            self._draft.fault(self._loc, str(error))
        else:
            return False
        return True


def ids(draft: Draft, owner: str, loc: Loc) -> tuple[int, int]:
    """Whom an owner names; what is against it is a fault."""
    try:
        uid, gid = accounts.ids(owner)
    except accounts.UnknownOwner as error:
        draft.fault((*loc, "owner"), str(error))
        return 0, 0
    problem = accounts.cannot_be(uid, gid)
    if problem:
        draft.fault((*loc, "owner"), problem)
    return uid, gid


def _bring(config: Config) -> None:
    """The users and groups are those of the files that the document puts in place, if it does."""
    found: list[bytes | None] = []
    for database in _DATABASES:
        data = None
        for entry in config.config_files:
            if not database.startswith(entry.dest.rstrip("/")):
                continue
            try:
                for path in _sources(entry):
                    dest = _destination(entry, path).rstrip("/")
                    below = database[len(dest) :]
                    if not database.startswith(dest) or below[:1] not in ("", "/"):
                        continue
                    each = source.find(path.rstrip("/") + below)
                    if stat.S_ISREG(each.status.st_mode):
                        data = each.content()
            except (OSError, Unsafe):
                pass  # What is wrong with the entry is said where it is planned.
        found.append(data)
    accounts.bring(*found)


def _sources(entry: ConfigFile) -> list[str]:
    return source.matches(entry.source) if read.has_magic(entry.source) else [entry.source]


def _destination(entry: ConfigFile, path: str) -> str:
    """Where a source comes to be: in a directory under its name, one that ends in / has none."""
    return entry.dest + (path.rpartition("/")[2] if entry.dest.endswith("/") else "")


def _declare(config: Config, draft: Draft) -> None:
    """What the document gives to whom: a step on the way there is taken."""
    given = [(entry.path, entry.owner, False) for entry in (*config.directories, *config.files)]
    given += [(rule.path.rstrip("/"), rule.owner, rule.recurse) for rule in config.permissions]
    found: list[Given] = []
    for path, owner, below in given:
        try:
            found.append(Given(path, accounts.ids(owner)[0], below))
        except accounts.UnknownOwner:
            pass  # It is said where the entry is planned.
    for entry in config.config_files:
        # A pattern's matches lie in it; what is preserved has the owners of its sources.
        preserved = entry.preserve_properties or entry.owner is None
        try:
            uid = None if preserved else accounts.ids(entry.owner or "")[0]
        except accounts.UnknownOwner:
            continue
        dest = entry.dest.rstrip("/")
        behind = entry.merge or dest != entry.dest  # else what is put there replaces the link
        copied = Given(dest, uid, below=True, copied=True, behind=behind)
        if entry.preserve_properties:
            draft.preserved[entry.index] = copied.owners
        found.append(copied)
    declare(found, draft.stands)


def _user(config: Config, draft: Draft) -> None:
    """That the service's user exists is known before anything is changed for it."""
    if config.user is None:
        return
    try:
        account = accounts.resolve(config.user)
    except accounts.UnknownOwner as error:
        draft.fault(("user",), str(error))
        return
    if os.geteuid() not in (0, account.uid):
        draft.fault(
            ("user",),
            f"uid {os.geteuid()} cannot become uid {account.uid}; start the container as root",
        )
    elif account.uid != os.geteuid():
        problem = accounts.not_mapped(account.uid, account.groups)
        if problem is not None:
            draft.fault(("user",), problem)


def _directory(draft: Draft, entry: PathEntry) -> None:
    loc: Loc = (DIRECTORIES, entry.index)
    where: Loc = (*loc, "path")
    owner = ids(draft, entry.owner, loc)
    path = draft.place(entry.path, where)
    if path is not None and draft.is_link(path):
        path = draft.place(entry.path, where, follow=True)
        if path is not None and draft.at(path) is None:
            draft.fault(where, f"{entry.path} is a link that leads nowhere; remove it")
            return
    if path is None:
        return
    if draft.at(path) is not None and not draft.is_directory(path):
        draft.fault(where, f"{path} is there and is no directory; remove it")
        return
    mode = directory_mode(entry.perm)
    if draft.reaches_records(path, where, owner[0], mode, False):
        return
    if draft.add_parents(path, loc, DIRECTORIES):
        draft.wanted.put(path, Node(DIRECTORY, DIRECTORIES, loc, *owner, mode))


def _file(draft: Draft, entry: PathEntry) -> None:
    loc: Loc = (FILES, entry.index)
    where: Loc = (*loc, "path")
    owner = ids(draft, entry.owner, loc)
    path = draft.place(entry.path, where)
    if path is None:
        return
    found = draft.at(path)
    if found is not None:
        kind = found.kind if isinstance(found, Node) else kind_of(found)
        if kind != FILE:
            what = KIND_NAMES[kind]
            draft.fault(where, f"{path} is {what}, expected a regular file; remove it")
            return
    parent = split(path)[0]
    if not draft.is_directory(parent):
        draft.fault(
            where, f"the parent directory {parent} does not exist; name it under `directories`"
        )
        return
    if not draft.reaches_records(path, where, owner[0], entry.perm, False):
        draft.wanted.put(path, Node(FILE, FILES, loc, *owner, entry.perm))


def _vouched(sources: Iterable[Source]) -> Iterator[int]:
    """The owners of sources that nobody else can have put there."""
    for found in sources:
        uid = found.owner[0]
        if source.is_operators(found.real) or walk.sole_at(found.real) in (walk.ROOT_ONLY, uid):
            yield uid


def _config_file(draft: Draft, entry: ConfigFile) -> None:
    loc: Loc = (CONFIG_FILES, entry.index)
    where: Loc = (*loc, "dest")
    owner = None
    if not entry.preserve_properties:
        assert entry.owner is not None  # the document's own rule
        owner = ids(draft, entry.owner, loc)
    copying = Copying(draft, entry, owner, loc)
    for tree in find(entry, draft, loc):
        dest = _destination(entry, tree[0][0].path)
        if entry.preserve_properties:
            draft.preserved[entry.index].update(_vouched(found for found, _, _ in tree))
        if entry.dest == "/" and dest != "/":
            # What lies in / cannot all be meant: what is copied there is.
            uid = None if owner is None else owner[0]
            also(Given(dest, uid, below=True, copied=True, behind=entry.merge))
        path = draft.place(dest.rstrip("/") or "/", where)
        if path is None:
            continue
        problem = rules.protected(path, entry.merge)
        if problem is not None:
            # What a pattern found, or a link led to: the document itself could not show it.
            draft.fault(where, problem)
            continue
        if not entry.merge:
            draft.wanted.drop(path)
            draft.keys.add(path)
        if draft.add_parents(path, loc, CONFIG_FILES):
            copying.add(tree, path)
