"""A directory of a sweep: what is left to do in it, and what is listed of it ahead of its turn.

On the container-start path, imported for `permissions` only: the standard library alone.
"""

from __future__ import annotations

import errno
import posix as os

from kolla_start.disk import walk
from kolla_start.disk.walk import LIST, ROOT_ONLY, SEVERAL, identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_LISTED = 256  # entries that are listed of a directory before its turn


class Level:
    """A directory of the walk: its descriptor (-1 while closed) and the directories left to do.

    ahead:        those of them that are open already
    owed:         the kinds and modes (st_mode) of those that are given away when they are done
    first:        its first entries, where they were listed ahead
    listing:      what lists it, until that has come to its end
    rest:         the entries that are not looked at yet; those of a wide directory wait here
    sole:         who could have put something into it (walk.sole_writer()), as it was found
    stays:        nobody but root, and so it is after this start
    """

    __slots__ = (
        "ahead", "fd", "first", "inner", "listing", "owed", "path", "rest", "sole", "stays", "was",
    )  # fmt: skip

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self.inner: list[str] = []
        self.owed: dict[str, int] = {}
        self.sole = SEVERAL
        self.stays = False
        self.ahead: dict[str, Level] = {}
        self.first: list[os.DirEntry[str]] = []
        self.listing: Iterator[os.DirEntry[str]] | None = None
        self.rest: Iterator[os.DirEntry[str]] | None = None
        self.was = (0, 0)

    def settle(self, above: int, stays: bool) -> os.stat_result:
        """Find out who can write it; `above` is the parent's `sole`. Raises OSError.

        `stays`: this start gives neither it nor any directory above it to anybody.
        """
        status = os.fstat(self.fd)
        self.sole = walk.sole_writer(above, status, self.fd)
        self.stays = stays and self.sole == ROOT_ONLY
        return status

    def look(self) -> None:
        """List the first entries. Raises OSError, and is closed then."""
        from itertools import islice

        try:
            self.listing = os.scandir(self.fd)
            self.first = list(islice(self.listing, _LISTED))
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        """Close it for good, and all that was opened through it."""
        self.listed()
        for level in self.ahead.values():
            level.leave()
        self.ahead.clear()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def listed(self) -> None:
        """All its entries have been looked at."""
        if self.listing is not None:
            self.listing.close()  # type: ignore[attr-defined]
        self.listing = self.rest = None

    def close(self) -> None:
        """Close it for now, unless entries wait: they are asked through its descriptor."""
        if self.fd >= 0 and self.rest is None:
            self.was = identity(os.fstat(self.fd))
            os.close(self.fd)
            self.fd = -1

    def reopen(self, below: int) -> None:
        """Open it again through its child. Raises OSError, also if that is no longer in it."""
        if self.fd < 0:
            up = os.open("..", LIST, dir_fd=below)
            if identity(os.fstat(up)) != self.was:
                os.close(up)
                raise OSError(errno.EAGAIN, "moved while it was walked")
            self.fd = up


def ask(entries: Iterable[os.DirEntry[str]]) -> None:
    """Have the status of entries, which os.DirEntry keeps."""
    for entry in entries:
        try:
            entry.stat(follow_symlinks=False)
        except OSError:
            pass  # The walk asks again, and says so.
