"""What goes: files, whole trees, and what a killed run has left.

On the container-start path: the standard library alone. It stays on one mount: what an operator
mounted inside a tree is not ours to remove. Nor is a directory that somebody else could have moved
there (planted.foreign()), unless it is empty: whoever moved it could take that away as well.
"""

from __future__ import annotations

import errno
import posix as os
import time

from kolla_start.disk import planted, read, walk
from kolla_start.disk.walk import LIST, PATH_MAX, WIDE, Directory, Unsafe, identity, split

# Every temporary file begins so: a start that follows a kill removes what is left of them.
TEMPORARY = ".kolla_start."
_TRIES = 3  # times that a directory is listed again for what came there meanwhile


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
        _remove_emptied(name, at.fd, path)


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


def is_temporary(name: str, mark: str = "") -> bool:
    """Whether it is the name of a temporary file, of the run that has this mark."""
    return name.startswith(TEMPORARY + mark)


def remove_temporaries(path: str, mark: str = "") -> None:
    """Remove what a killed run left half written in a directory; in a shared one it had a mark."""
    try:
        left = [name for name in read.names(path) if is_temporary(name, mark)]
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


class _Level:
    """A directory of a tree: open, or left while what is in one of its own is done.

    A tree can be deeper than memory is large, so as little as can be is kept of what is left.
    """

    __slots__ = (
        "_began", "_identity", "_mover", "_names", "_real", "_tries", "here", "last", "more",
    )  # fmt: skip

    def __init__(self, here: Directory, mount: bytes) -> None:
        if read.mount_of(here.fd) != mount:
            os.close(here.fd)
            raise OSError(errno.EBUSY, "a mount point in a tree to be removed", here.real)
        self.here: Directory | None = here
        self.last = ""  # the directory in it that was gone into
        self.more = True  # whether it is to be listed once more
        self._names: list[str] = []
        self._tries = _TRIES
        self._began = time.time()
        self._real = here.real
        self._mover = here.mover

    def inner(self, goes: bool) -> str | None:
        """The next directory in it; None where all are done."""
        while not self._names:
            if not self.more or self.here is None:
                return None
            self._names, self.more = _within(self.here, goes, "" if goes else self.last)
            if goes and self._names:
                # What comes there meanwhile goes as well, but not for ever.
                if not self.more or _has_come(self.here.fd, self._names[0], self._began):
                    self._tries -= 1
                self.more = self._tries > 0
        self.last = self._names.pop()
        return self.last

    def leave(self) -> None:
        if self.here is not None:
            self._identity = identity(self.here.status)
            os.close(self.here.fd)
            self.here = None

    def again(self, below: Directory) -> int:
        """Open it from a directory that was in it. Raises OSError where that was moved."""
        up = os.open("..", LIST, dir_fd=below.fd)
        status = os.fstat(up)
        if identity(status) != self._identity:
            os.close(up)
            raise OSError(errno.EAGAIN, "moved while it was being removed", self._real)
        self.here = _directory(up, self._real, status, self._mover)
        return up


def _go_through(at: Directory, name: str, path: str, goes: bool) -> bool:
    """Ask of all that is in a directory of an open one whether it may go; False if it is none.

    `goes`: what may go is removed, at any depth. Holds two descriptors at most; the way back up is
    "..", checked to be the directory it came from. Raises Unsafe (planted.foreign()), and OSError:
    EBUSY where something is mounted in it, EAGAIN where it was moved meanwhile, ENOTEMPTY where
    somebody fills it as fast as it is emptied.
    """
    mount = read.mount_of(at.fd)
    levels: list[_Level] = []
    try:
        levels.append(_Level(_enter(at, name), mount))
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        while True:
            level = levels[-1]
            inner, here = level.inner(goes), level.here
            assert here is not None
            if inner is not None:
                try:
                    below = _enter(here, inner)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # A running service may remove its own.
                level.leave()
                levels.append(_Level(below, mount))
            elif len(levels) == 1:
                return True
            else:
                up = levels[-2].again(here)
                level.leave()
                levels.pop()
                if goes:
                    _remove_emptied(levels[-1].last, up, path)
    finally:
        for level in levels[-2:]:
            level.leave()


def _remove_emptied(name: str, at: int, path: str) -> None:
    try:
        os.rmdir(name, dir_fd=at)
    except FileNotFoundError:
        pass  # A running service may remove its own.
    except OSError as error:
        said = error.strerror
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            said = "somebody fills it as fast as it is emptied"
        raise OSError(error.errno, said, path) from None


def _enter(at: Directory, name: str) -> Directory:
    """A directory of an open one, to be listed, and who else could have put it there.

    Where a path would be too long for any call, the nearest that has one names it.
    """
    fd = os.open(name, LIST, dir_fd=at.fd)
    real = walk.join(at.real, name) if len(at.real) < PATH_MAX else at.real
    status = os.fstat(fd)
    return _directory(fd, real, status, at.mover_of(status))


def _directory(fd: int, real: str, status: os.stat_result, mover: int) -> Directory:
    """Nobody's where records are believed: what was kept there is root's to drop."""
    free = real.startswith(walk.ours.free)
    return Directory(fd, real, status, walk.ROOT_ONLY if free else mover, free)


def _within(here: Directory, goes: bool, after: str) -> tuple[list[str], bool]:
    """Names of directories in an open one, to be taken from the end, and whether there are more.

    `goes`: everything else is removed on the way. Else the names that follow `after` in order.
    """
    foreign, names, more = planted.foreign(here), [], False
    with os.scandir(here.fd) as entries:
        for entry in entries:
            if foreign:
                raise Unsafe(foreign)
            if not entry.is_dir(follow_symlinks=False):
                if goes:
                    _unlink(entry.name, here.fd)
            elif goes or entry.name > after:
                names.append(entry.name)
                if len(names) < (WIDE if goes else 2 * WIDE):
                    continue
                more = True
                if goes:
                    return names, True
                names.sort()
                del names[WIDE:]
    more = more or len(names) > WIDE
    names.sort(reverse=True)
    return names[-WIDE:], more


def _has_come(at: int, name: str, since: float) -> bool:
    """Whether what is in an open directory was made, or changed, after a time (epoch seconds)."""
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False).st_ctime > since
    except FileNotFoundError:
        return True


def _unlink(name: str, at: int) -> None:
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        pass  # A running service may remove its own.
