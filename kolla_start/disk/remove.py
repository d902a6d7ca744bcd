"""What goes: files, whole trees, and what a killed run has left.

On the container-start path: the standard library alone. It stays on one mount: what an operator
mounted inside a tree is not ours to remove. Nor is a directory that somebody else could have moved
there (planted.foreign()), unless it is empty: whoever moved it could take that away as well.
"""

from __future__ import annotations

import errno
import posix as os

from kolla_start.disk import planted, read, walk
from kolla_start.disk.walk import LIST, PATH_MAX, WIDE, Directory, Unsafe, identity, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Every temporary file begins so: a start that follows a kill removes what is left of them.
TEMPORARY = ".kolla_start."


def remove(path: str) -> None:
    """Remove what is at the path, with all that is in it; nothing there is fine.

    Raises OSError with the path, and Unsafe where somebody else could have moved it there.
    """
    parent, name = split(path)
    walk.forget(path)
    try:
        at = walk.directory(parent)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        os.unlink(name, dir_fd=at.fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError) as refused:
        if not _go_through(at, name, path, goes=True):
            raise OSError(refused.errno, refused.strerror, path) from None
        os.rmdir(name, dir_fd=at.fd)


def set_aside(path: str) -> str | None:
    """Rename a directory to PATH.NUMBER and say where; anything else at the path is removed."""
    parent, name = split(path)
    walk.forget(path)
    try:
        at = walk.directory(parent).fd
    except (FileNotFoundError, NotADirectoryError):
        return None
    number = 0
    while True:
        try:
            os.unlink(name, dir_fd=at)
            return None
        except FileNotFoundError:
            return None
        except (IsADirectoryError, PermissionError):
            number += 1
        try:
            os.rename(name, f"{name}.{number}", src_dir_fd=at, dst_dir_fd=at)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise OSError(error.errno, error.strerror, path) from None
        else:
            return f"{path}.{number}"


def remove_empty(path: str) -> bool:
    """Remove a directory if it is empty (rmdir(2)); says whether it did."""
    parent, name = split(path)
    walk.forget(path)
    try:
        os.rmdir(name, dir_fd=walk.directory(parent).fd)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EBUSY):
            return False
        raise OSError(error.errno, error.strerror, path) from None
    return True


def is_temporary(name: str) -> bool:
    return name.startswith(TEMPORARY)


def remove_temporaries(path: str) -> None:
    """Remove what a killed run left half written in a directory."""
    try:
        left = [name for name in read.names(path) if is_temporary(name)]
    except (OSError, Unsafe):
        return
    for name in left:
        try:
            os.unlink(name, dir_fd=walk.directory(path).fd)
        except IsADirectoryError:
            pass  # Not ours: it makes none under such a name.


def refuse_foreign(path: str) -> None:
    """Raises Unsafe where remove() would, for what somebody else could have moved there."""
    parent, name = split(path)
    _go_through(walk.directory(parent), name, path, goes=False)


class _Above:
    """A directory that was gone below: what it was, and which directories in it are left to do.

    A tree can be deeper than memory is large, so as little as can be is kept of it; of a wide one,
    whose entries are still being listed (`rest`), the open directory.
    """

    __slots__ = ("here", "identity", "mover", "names", "real", "rest")

    def __init__(self, here: Directory, names: list[str], rest: Iterator[str] | None) -> None:
        self.identity = identity(here.status)
        self.mover = here.mover
        self.real = here.real
        self.names = names
        self.rest = rest
        self.here = here if rest is not None else None
        if rest is None:
            os.close(here.fd)

    def again(self, below: int) -> Directory:
        """It, open, from a directory that was in it. Raises OSError where it was moved."""
        up = os.open("..", LIST, dir_fd=below)
        found = self.here or _directory(up, self.real, os.fstat(up), self.mover)
        same = identity(os.fstat(up)) == self.identity
        if self.here is not None or not same:
            os.close(up)
        if not same:
            raise OSError(errno.EAGAIN, "moved while it was being removed", self.real)
        return found

    def leave(self) -> None:
        if self.here is not None:
            os.close(self.here.fd)


def _go_through(at: Directory, name: str, path: str, goes: bool) -> bool:
    """Ask of all that is in a directory of an open one whether it may go; False if it is none.

    `goes`: what may go is removed, at any depth. Holds one descriptor, and two of each wide
    directory; the way back up is "..", checked to be the directory it came from. Raises Unsafe
    (planted.foreign()), and OSError: EBUSY where something is mounted in it, EAGAIN where it was
    moved meanwhile.
    """
    from itertools import islice

    try:
        here = _enter(at, name)
    except OSError:
        return False
    mount = read.mount_of(at.fd)
    above: list[tuple[_Above, str]] = []
    names: list[str] = []
    rest: Iterator[str] | None = _within(here, goes)
    try:
        while True:
            if not names and rest is not None:
                if read.mount_of(here.fd) != mount:
                    raise OSError(errno.EBUSY, "a mount point in a tree to be removed", path)
                names = list(islice(rest, WIDE))
                if len(names) < WIDE:
                    rest = None
            if names:
                inner = names.pop()
                try:
                    below = _enter(here, inner)
                except FileNotFoundError:
                    continue
                above.append((_Above(here, names, rest), inner))
                here, names, rest = below, [], _within(below, goes)
                continue
            if not above:
                return True
            last, emptied = above[-1]
            done = here.fd
            here = last.again(done)
            above.pop()
            os.close(done)
            names, rest = last.names, last.rest
            if goes:
                os.rmdir(emptied, dir_fd=here.fd)
                if not names and rest is None:
                    rest = _within(here, goes)  # what came there meanwhile goes as well
    finally:
        os.close(here.fd)
        for each, _ in above:
            each.leave()


def _enter(at: Directory, name: str) -> Directory:
    """A directory of an open one, to be listed, and who else could have put it there.

    Where a path would be too long for any call, the nearest that has one names it.
    """
    fd = os.open(name, LIST, dir_fd=at.fd)
    real = walk.join(at.real, name) if len(at.real) < PATH_MAX else at.real
    status = os.fstat(fd)
    return _directory(fd, real, status, at.mover_of(walk.private(status)))


def _directory(fd: int, real: str, status: os.stat_result, mover: int) -> Directory:
    """Nobody's where records are believed: what was kept there is root's to drop."""
    free = real.startswith(walk.ours.free)
    return Directory(fd, real, status, walk.ROOT_ONLY if free else mover, free)


def _within(here: Directory, goes: bool) -> Iterator[str]:
    """The names of the directories in an open one; `goes`: everything else in it is removed."""
    foreign = planted.foreign(here)
    with os.scandir(here.fd) as entries:
        for entry in entries:
            if foreign:
                raise Unsafe(foreign)
            if entry.is_dir(follow_symlinks=False):
                yield entry.name
            elif goes:
                os.unlink(entry.name, dir_fd=here.fd)
