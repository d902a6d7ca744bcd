"""A filesystem on paper: a map from path to node, and what paths and patterns lead to in it."""

import fnmatch
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


class Uncarried(Exception):
    """No answer; `entry` is the one of the document that it is about, once that is known."""

    entry: dict[str, Any] | None = None


class Refused(Uncarried):
    """The document cannot be carried out; nothing changes."""


class Unclear(Uncarried):
    """The contract does not say what this document does here."""


@dataclass(frozen=True, slots=True)
class Node:
    """What stands at a path; `content` of a link is where it leads."""

    kind: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o644
    content: bytes = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()


class Files(dict[str, Node]):
    """A tree as a map from absolute path to node; the root itself is always there.

    `mounts` are the paths that are mount points.
    """

    mounts: frozenset[str] = frozenset()

    def copy(self) -> "Files":
        made = Files(self)
        made.mounts = self.mounts
        return made

    def kind(self, path: str) -> str:
        """ "" where there is nothing."""
        return self[path].kind if path in self else "directory" if path == "/" else ""

    def names(self, path: str) -> list[str]:
        return sorted(
            posixpath.basename(other) for other in self if posixpath.dirname(other) == path
        )

    def below(self, path: str) -> list[str]:
        return sorted(other for other in self if inside(other, path))

    def drop(self, path: str) -> None:
        for other in [path, *self.below(path)]:
            self.pop(other, None)

    def real(self, path: str, *, last: bool) -> str:
        """The path without links; its last part is only looked through if `last` says so."""
        done, todo, links = "/", [part for part in path.split("/") if part], 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                done = posixpath.dirname(done)
                continue
            here = posixpath.join(done, part)
            if self.kind(here) == "link" and (todo or last):
                links += 1
                if links > 40:
                    raise Refused(f"a circle: {path}")
                target = self[here].content.decode()
                done = "/" if target.startswith("/") else done
                todo = [part for part in target.split("/") if part] + todo
            elif todo and self.kind(here) not in ("directory", ""):
                raise Refused(f"no directory: {here}")
            else:
                done = here
        return done

    def links_on(self, path: str) -> list[str]:
        """The links that a path leads through; its last part is looked at before a slash."""
        found, parts = [], path.split("/")
        for count in range(2, len(parts)):
            here = self.real("/".join(parts[:count]), last=False)
            if self.kind(here) == "link":
                found.append(here)
        return found

    def glob(self, pattern: str) -> list[str]:
        """As Python's glob.glob."""
        return sorted(path for path in self._glob(re.sub("/+", "/", pattern)))

    def _glob(self, pattern: str) -> Iterator[str]:
        above, name = posixpath.split(pattern)
        if above == pattern:
            yield "/"
            return
        for top in self._glob(above):
            try:
                here = self.real(top, last=True)
            except Refused:
                continue
            if re.search("[*?[]", name):
                hidden = name.startswith(".")
                for found in self.names(here):
                    if fnmatch.fnmatchcase(found, name) and (hidden or found[0] != "."):
                        yield posixpath.join(top, found)
            elif posixpath.join(here, name) in self:
                yield posixpath.join(top, name)


def inside(path: str, top: str) -> bool:
    return path.startswith(top.rstrip("/") + "/")


def at_or_inside(path: str, top: str) -> bool:
    return path == top or inside(path, top)
