"""What the document gives to whom, as far as it says whether a step on a path is taken.

On the container-start path: the standard library alone.
"""

from __future__ import annotations

from kolla_start.disk import walk
from kolla_start.disk.walk import Unsafe, Walk, can_read, trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from kolla_start.disk.walk import Stands


class Given:
    """A path or pattern of the document and whom it is given to (None: whomever a source says).

    owners: whom else, as its sources have been found to say
    below:  with all that is in it
    copied: something is written there
    behind: a link of the image there stands for what it leads to
    """

    __slots__ = ("behind", "below", "copied", "owners", "path", "uid")

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
        self.owners: set[int] = set()
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


# By the document's own paths, and by real paths.
_undeclared: list[Given] = []
_declared: list[Given] = []
_stands: Callable[[str], Stands] | None = None
# Of its own: whoever asks holds directories that another walk must not close. The way to what is
# given does not ask what is given; a link that others can replace leads nowhere.
_walk = Walk(steps=True)


def declare(given: list[Given], stands: Callable[[str], Stands]) -> None:
    """What the document gives to whom: from then on a step that leads there is taken.

    `stands` says what is to be seen in place of what the disk has (walk.Walk.resolve()).
    """
    global _stands
    _stands = stands
    _declared.clear()
    _undeclared[:] = given
    walk.ask(_may_step)


def declared() -> list[Given]:
    """What was declared, by real paths."""
    if not _undeclared:
        return _declared
    while _undeclared:  # most starts do not ask, and find out nothing
        given = _undeclared.pop()
        for follow in (True, False) if given.behind else (False,):
            try:
                given.path = _walk.resolve(given.path, _stands, follow)
                break
            except (Unsafe, OSError):
                pass  # Whatever is wrong with it is said where its entry is planned.
        _declared.append(given)
    _walk.forget()
    return _declared


def also(given: Given) -> None:
    """What the document gives besides, found while it is planned."""
    _undeclared.append(given)


def _may_step(above: os.stat_result, here: os.stat_result, real: str, fd: int | None) -> bool:
    """Whether the document gives an open directory, or something in it, to whom it belongs to.

    Or, where nothing is written, to who can read it: a step into it shows that user nothing. What
    is root's and stays root's goes through a directory of root that a group can write.
    """
    return any(
        given.uid is None
        or given.uid == here.st_uid
        or (given.copied and trusted(given.uid) and trusted(above.st_uid))
        or (not given.copied and can_read(given.uid, here, fd))
        for given in declared()
        if given.leads_through(real)
    )
