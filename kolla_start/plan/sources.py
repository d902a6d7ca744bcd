"""What config_files copy: a source, and all that is in it, as the entries before it leave them.

On the container-start path. Nothing is read here but names and statuses. A source is looked for in
the final state as far as it is drawn up: what an earlier entry makes is there, what this program
has replaced is the original, and what left the document is nothing. So the first start sees what
every other one sees.
"""

from __future__ import annotations

import errno
import posix as os
import stat

from kolla_start.disk import read, source, walk
from kolla_start.disk.source import Changed, Dangling, Over, Source
from kolla_start.disk.walk import Unsafe
from kolla_start.document import rules
from kolla_start.errors import cause
from kolla_start.plan.draft import Draft, Drawn
from kolla_start.plan.wanted import DIRECTORY, FILE, LINK, NOTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.disk.walk import Stands
    from kolla_start.document.load import ConfigFile
    from kolla_start.errors import Loc
    from kolla_start.plan.wanted import Node

    # A source, the number of the one that it lies in (-1: the entry's own), and its name there.
    Found = tuple[Source, int, str]

_TYPES = {FILE: stat.S_IFREG, DIRECTORY: stat.S_IFDIR, LINK: stat.S_IFLNK}


def find(entry: ConfigFile, draft: Draft, loc: Loc) -> list[list[Found]]:
    """The sources of an entry, each with all that is in it; those in a directory follow it.

    That there is none is a fault where it is not optional.
    """
    seeking = _Seeking(entry, draft, (*loc, "source"))
    found = [seeking.inside(top) for top in seeking.tops(entry)]
    draft.links.update(dict.fromkeys(seeking.through, seeking.where))
    return found


class _Seeking(Over):
    """Where an entry's sources are looked for."""

    def __init__(self, entry: ConfigFile, draft: Draft, where: Loc) -> None:
        super().__init__()
        self._draft = draft
        self._drawn = Drawn(draft, source.walking())
        self.where = where
        self._links = entry.merge and entry.preserve_properties

    def tops(self, entry: ConfigFile) -> list[Source]:
        if read.has_magic(entry.source):
            what, paths = "matches nothing", read.matches(entry.source, self._drawn)
        else:
            what, paths = "does not exist", [entry.source]
        found: list[Source] = []
        wrong = False
        if not source.is_operators(entry.source):
            self._draft.sought.setdefault(_looked_in(entry.source), self.where)
        for path in paths:
            try:
                found.append(source.find(path, self._links, self))
            except (OSError, Unsafe) as error:
                gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
                if not gone or isinstance(error, Dangling):
                    wrong = True
                    self._wrong(path, error)
        if not (found or wrong or entry.optional):
            message = f"{entry.source} {what}; mount it, or set `optional` to true"
            self._draft.fault(self.where, message)
        return found

    def inside(self, top: Source) -> list[Found]:
        """A source and all that is in it."""
        found: list[Found] = []
        todo: list[tuple[Source, int, str, tuple[str, ...]]] = [(top, -1, "", ())]
        while todo:
            each, at, name, above = todo.pop()
            if each.real in above:
                message = f"{each.path} leads back into itself; remove the link"
                self._draft.fault(self.where, message)
                continue
            number = len(found)
            found.append((each, at, name))
            if each.kind == stat.S_IFDIR:
                within = (*above, each.real)
                met = self._met(each)
                todo += [(inner, number, name, within) for name, inner in reversed(met)]
        return found

    def _met(self, found: Source) -> list[tuple[str, Source]]:
        """What is in a directory, by name."""
        met: list[tuple[str, Source]] = []
        try:
            names = found.names()
        except OSError as error:
            self._wrong(found.path, error)
            return met
        if not source.is_operators(found.real):
            names = self._drawn.within(found.real, names)
        for name in names:
            # Kubernetes keeps the machinery of a ConfigMap under names that begin with "..".
            if name.startswith(".."):
                continue
            try:
                met.append((name, found.inside(name, self._links, self)))
            except Dangling as error:
                self._wrong(f"{found.path.rstrip('/')}/{name}", error)
            except (FileNotFoundError, NotADirectoryError):
                raise Changed(f"{found.path} has changed") from None
            except (OSError, Unsafe) as error:
                self._wrong(f"{found.path.rstrip('/')}/{name}", error)
        return met

    def _wrong(self, path: str, error: OSError | Unsafe) -> None:
        if isinstance(error, Unsafe):
            message = str(error)
        elif isinstance(error, Dangling):
            message = f"{path} is a link that leads nowhere; mend or remove it"
        else:
            message = cause(error, path, "mend or remove it")
        self._draft.fault(self.where, message)

    def stands(self, real: str) -> Stands:
        return None if source.is_operators(real) else self._draft.stands(real)

    def planned(self, path: str, real: str) -> Source | None:
        if source.is_operators(real):
            return None
        node = self._draft.wanted.nodes.get(real)
        if node is None and not self._draft.wanted.exact_above(real):
            if self._draft.baseline.place(real) == real:
                return None
            original = self._original(path, real)
            if original is not None:
                if original.kind == stat.S_IFLNK:
                    original.refuse_planted()
                return original
        if node is None or node.kind == NOTHING:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if node.is_directory():
            return Made(path, real, node, self._original(path, real))
        if node.source is not None:
            return Made(path, real, node, node.source)
        # `files` makes an empty one, or leaves what is there.
        before = self._original(path, real)
        if before is None or before.kind != stat.S_IFREG:
            before = source.null(source.find(rules.NULL))
        else:
            before.refuse_planted()
        return Made(path, real, node, before)

    def _original(self, path: str, real: str) -> Source | None:
        """What is at a real path without the document, known as `path`."""
        place = self._draft.baseline.place(real)
        return None if place is None else source.original(place, path, real)


def _looked_in(pattern: str) -> str:
    """The directory in which the last part of a path, or the first with magic, is looked for."""
    parts = pattern.rstrip("/").split("/")
    number = 0
    while number < len(parts) - 1 and not read.has_magic(parts[number]):
        number += 1
    return "/".join(parts[:number]) or "/"


class Made(Source):
    """What the document makes before it is a source: with the owner and mode that it has then.

    of: the content of a file; of a directory what is in it before anything is made there, or None
    """

    __slots__ = ("_node", "_of")

    def __init__(self, path: str, real: str, node: Node, of: Source | None) -> None:
        # Of a directory that is yet to be made nobody asks for more than is set below.
        status = walk.directory("/").status if of is None else of.status
        super().__init__(path, real, status, "" if of is None else of.target, walk.ours)
        self.kind = _TYPES[DIRECTORY if node.is_directory() else node.kind]
        self.owner = node.uid, node.gid, node.mode
        self.lasts = node.source is not None and of is not None
        self._node = node
        self._of = of

    def copied(self) -> Source | None:
        return None if self._of is None else self

    def open(self) -> int:
        assert self._of is not None
        return self._of.open()

    def unchanged(self, fd: int) -> None:
        assert self._of is not None
        self._of.unchanged(fd)

    def refuse_planted(self, sole: int | None = None) -> None:
        """It has been judged: where it comes to be says nothing of what it is."""

    def readable(self) -> bool:
        return self._of is None or self._of.readable()

    def attributes(self) -> dict[str, bytes]:
        return self._node.attributes() or {}

    def names(self) -> list[str]:
        if self._of is None or self._of.kind != stat.S_IFDIR:
            return []
        return self._of.names()
