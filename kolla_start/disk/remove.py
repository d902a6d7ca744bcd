"""What goes: files, whole trees, and what a killed run has left.

On the container-start path: the standard library alone. It stays on one mount: what an operator
mounted inside a tree is not ours to remove. Nor is a directory that somebody else could have moved
there (planted.foreign()), unless it is empty: whoever moved it could take that away as well.
"""

from __future__ import annotations

import errno
import posix as os

from kolla_start.disk import planted, read, walk
from kolla_start.disk.walk import LIST, Directory, Unsafe, identity, split

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


def remove_temporaries(path: str) -> None:
    """Remove what a killed run left half written in a directory."""
    try:
        left = [name for name in read.names(path) if name.startswith(TEMPORARY)]
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


def _go_through(at: Directory, name: str, path: str, goes: bool) -> bool:
    """Ask of all that is in a directory of an open one whether it may go; False if it is none.

    `goes`: what may go is removed, at any depth. Holds one descriptor; the way back up is "..",
    checked to be the directory it came from. Raises Unsafe (planted.foreign()), and OSError: EBUSY
    where something is mounted in it, EAGAIN where it was moved meanwhile.
    """
    try:
        here = _enter(at, name)
    except OSError:
        return False
    mount = read.mount_of(at.fd)
    above: list[tuple[Directory, list[str]]] = []
    names: list[str] | None = None
    try:
        while True:
            if names is None:
                if read.mount_of(here.fd) != mount:
                    raise OSError(errno.EBUSY, "a mount point in a tree to be removed", path)
                names = _within(here, goes)
            if names:
                try:
                    below = _enter(here, names.pop())
                except FileNotFoundError:
                    continue
                above.append((here, names))
                os.close(here.fd)
                here, names = below, None
                continue
            if not above:
                return True
            emptied, done = split(here.real)[1], here.fd
            up = os.open("..", LIST, dir_fd=done)
            here, names = above.pop()
            here.fd = up
            os.close(done)
            if identity(os.fstat(up)) != identity(here.status):
                raise OSError(errno.EAGAIN, "moved while it was being removed", path)
            if goes:
                os.rmdir(emptied, dir_fd=up)
                names = names or None  # what came there meanwhile goes as well
    finally:
        os.close(here.fd)


def _enter(at: Directory, name: str) -> Directory:
    """A directory of an open one, to be listed, and who else could have put it there.

    Nobody where records are believed: what was kept there is root's to drop, whoever owns it.
    """
    fd = os.open(name, LIST, dir_fd=at.fd)
    real, status = walk.join(at.real, name), os.fstat(fd)
    free = real.startswith(walk.ours.free)
    mover = walk.ROOT_ONLY if free else at.mover_of(walk.private(status))
    return Directory(fd, real, status, mover, free)


def _within(here: Directory, goes: bool) -> list[str]:
    """The names of the directories in an open one; `goes`: everything else in it is removed."""
    foreign, names = planted.foreign(here), []
    with os.scandir(here.fd) as entries:
        for entry in entries:
            if foreign:
                raise Unsafe(foreign)
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
            elif goes:
                os.unlink(entry.name, dir_fd=here.fd)
    return names
