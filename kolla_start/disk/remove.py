"""What goes: files, whole trees, and what a killed run has left.

On the container-start path: the standard library alone. It stays on one mount: what an operator
mounted inside a tree is not ours to remove.
"""

from __future__ import annotations

import errno
import os

from kolla_start.disk import read, walk
from kolla_start.disk.walk import LIST, Unsafe, identity, split

# Every temporary file begins so: a start that follows a kill removes what is left of them.
TEMPORARY = ".kolla_start."


def remove(path: str) -> None:
    """Remove what is at the path, with all that is in it; nothing there is fine."""
    parent, name = split(path)
    walk.forget(path)
    try:
        at = walk.directory(parent).fd
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError) as refused:
        if not empty(at, name, path):
            raise OSError(refused.errno, refused.strerror, path) from None
        os.rmdir(name, dir_fd=at)


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


def empty(at: int, name: str, path: str) -> bool:
    """Remove all that is in a directory of an open one, at any depth; False if it is none.

    Holds one descriptor; the way back up is "..", checked to be the directory it came from. Raises
    OSError: EBUSY where something is mounted in it, EAGAIN where it was moved meanwhile.
    """
    try:
        fd = os.open(name, LIST, dir_fd=at)
    except OSError:
        return False
    mount = read.mount_of(at)
    above: list[tuple[str, tuple[int, int]]] = []
    try:
        while True:
            if read.mount_of(fd) != mount:
                raise OSError(errno.EBUSY, "a mount point in a tree to be removed", path)
            inner = None
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        inner = entry.name
                        break
                    os.unlink(entry.name, dir_fd=fd)
            if inner is not None:
                below = os.open(inner, LIST, dir_fd=fd)
                above.append((inner, identity(os.fstat(fd))))
                fd, done = below, fd
                os.close(done)
                continue
            if not above:
                return True
            inner, above_it = above.pop()
            up = os.open("..", LIST, dir_fd=fd)
            fd, done = up, fd
            os.close(done)
            if identity(os.fstat(fd)) != above_it:
                raise OSError(errno.EAGAIN, "moved while it was being removed", path)
            os.rmdir(inner, dir_fd=fd)
    finally:
        os.close(fd)
