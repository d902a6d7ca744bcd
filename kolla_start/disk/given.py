"""What the document gives to whom, as far as it says whether a step on a path is taken.

On the container-start path: the standard library alone.
"""

from __future__ import annotations

import os
from _collections_abc import Callable

from kolla_start.disk.walk import Unsafe, can_read, trusted


class Given:
    """A path or pattern of the document and whom it is given to (None: whomever a source says).

    below:  with all that is in it
    copied: something is written there
    behind: a link of the image there stands for what it leads to
    """

    __slots__ = ("behind", "below", "copied", "path", "uid")

    def __init__(
        self,
        path: str,
        uid: int | None,
        below: bool = False,
        copied: bool = False,
        behind: bool = True,
    ) -> None:
        self.path = path
        self.uid = uid
        self.below = below
        self.copied = copied
        self.behind = behind

    def leads_through(self, real: str) -> bool:
        """Whether it is a directory, or lies in it, or is a tree that the directory lies in."""
        parts, names = self.path.split("/"), real.split("/")
        if len(names) > len(parts) and not self.below:
            return False
        pairs = list(zip(names, parts))
        if all(name == part for name, part in pairs):
            return True
        if not any(char in self.path for char in "*?["):
            return False
        from fnmatch import fnmatchcase

        return all(fnmatchcase(name, part) for name, part in pairs)


class Declared:
    """All of it. `resolve` finds the real path, and with True follows a last link, or raises."""

    def __init__(self, given: list[Given], resolve: Callable[[str, bool], str]) -> None:
        # Those above first: the way to the others may lead through them.
        self._to_resolve = sorted(given, key=lambda each: each.path, reverse=True)
        self._resolved: list[Given] = []
        self._resolve = resolve

    def may_step(
        self, above: os.stat_result, here: os.stat_result, real: str, fd: int | None
    ) -> bool:
        """Whether the document gives an open directory, or something in it, to its owner.

        Or, where nothing is written, to who can read it: a step into it shows that user nothing.
        What is root's and stays root's goes through a directory of root that a group can write.
        """
        while self._to_resolve:  # most starts need no such step, and find out nothing
            given = self._to_resolve.pop()
            for follow in (True, False) if given.behind else (False,):
                try:
                    given.path = self._resolve(given.path, follow)
                    break
                except (Unsafe, OSError):
                    pass  # Whatever is wrong with it is said where its entry is planned.
            self._resolved.append(given)
        return any(
            given.uid is None
            or given.uid == here.st_uid
            or (given.copied and trusted(given.uid) and trusted(above.st_uid))
            or (not given.copied and can_read(given.uid, here, fd))
            for given in self._resolved
            if given.leads_through(real)
        )
