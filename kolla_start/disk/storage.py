"""What has reached the storage, whatever power cut comes next.

On the container-start path: `ctypes` is imported only where a whole filesystem is to be flushed,
once in a container's life.
"""

from __future__ import annotations

import errno
import posix as os
import stat

from kolla_start.disk import read, walk
from kolla_start.disk.walk import split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def sync_filesystems(paths: Iterable[str]) -> None:
    """Bring all that was written to the filesystems of these paths there (syncfs(2)).

    And to those that are mounted below them. Raises OSError.
    """
    try:
        from ctypes import CDLL, get_errno
    except (ImportError, OSError, AttributeError):
        os.sync()  # not in every Python: then all there are, sync(2)
        return
    libc = CDLL(None, use_errno=True)
    done: set[int] = set()
    for path in {place for each in paths for place in (split(each)[0], *read.mounts(each))}:
        try:
            found = walk.as_it_is.directory(path)
        except (FileNotFoundError, NotADirectoryError):
            sync_file(path)  # one that is mounted
            continue
        if found.status.st_dev in done:
            continue
        done.add(found.status.st_dev)
        fd = os.open(".", walk.LIST, dir_fd=found.fd)
        try:
            if libc.syncfs(fd):
                raise OSError(get_errno(), os.strerror(get_errno()), path)
        finally:
            os.close(fd)


def sync_file(path: str) -> None:
    """Bring a regular file and its name to the storage (fsync(2)), if there is one."""
    if _sync(path, read.READ, stat.S_ISREG):
        sync_directory(split(path)[0])


def sync_directory(path: str) -> None:
    """Bring the names in a directory to the storage (fsync(2)), if there is one."""
    _sync(path, walk.LIST, stat.S_ISDIR)


def _sync(path: str, flags: int, kind: Callable[[int], bool]) -> bool:
    """Whether there is one. Every step is taken: whose it is by now does not matter for that."""
    parent, name = split(path)
    try:
        fd = os.open(name or ".", flags, dir_fd=walk.as_it_is.directory(parent).fd)
    except OSError as error:
        if error.errno in read.NOTHING or error.errno == errno.ENXIO:
            return False
        raise OSError(error.errno, error.strerror, path) from None
    try:
        found = kind(os.fstat(fd).st_mode)
        if found:
            os.fsync(fd)
        return found
    finally:
        os.close(fd)
