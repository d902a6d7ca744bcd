"""What is put in place: whole or not at all, and with its owner and mode before anybody reads it.

On the container-start path: the standard library alone.

Each file is written beside its place under a name of its own, 0600 and root's, without an ACL that
its directory would give it; then it gets its owner, then its mode, then its name (rename(2)). A
destination that is itself a mount point cannot be renamed: its content is at hand before it is
touched.
"""

from __future__ import annotations

import errno
import posix as os
import stat

from kolla_start.disk import planted, read, remove, storage, walk
from kolla_start.disk.walk import ACL, Unsafe, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kolla_start.disk.source import Source

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


_mark = ""


def mark() -> str:
    """A mark that temporary files bear from now on. The next start removes those of a killed run by
    it, and none of another container's, that writes to the same directory.
    """
    global _mark
    _mark = os.urandom(4).hex()
    return _mark


def write_file(
    path: str, data: bytes, uid: int, gid: int, mode: int, sync: bool = False, over: bool = False
) -> None:
    """Replace a file by these bytes. `over`: a directory that is in the way goes, with all in it.

    With `sync` the file and its name have reached the storage when this returns (fsync(2)).
    Raises OSError with the path, or Unsafe.
    """

    def fill(fd: int) -> None:
        _write_all(fd, data)

    def finish(fd: int) -> None:
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)  # chown(2) clears the set-id bits, so the mode comes second

    _replace(path, fill, finish, sync, over)


def copy_file(
    source: Source,
    path: str,
    uid: int,
    gid: int,
    mode: int,
    attributes: dict[str, bytes] | None,
    sync: bool = False,
    over: bool = False,
) -> None:
    """Replace a file by a copy of a regular file.

    `attributes`: extended attributes that it is to have, and with them the times of the source;
    None for none. Raises Changed if the source is not what it was, OSError or Unsafe.
    """
    origin = source.open()
    try:

        def fill(fd: int) -> None:
            done, size = 0, source.status.st_size
            while done < size:
                chunk = os.pread(origin, min(size - done, read.CHUNK), done)
                if not chunk:
                    break
                _write_all(fd, chunk)
                done += len(chunk)
            source.unchanged(origin)

        def finish(fd: int) -> None:
            os.fchown(fd, uid, gid)
            if attributes is not None:
                _set_attributes(fd, attributes)
            os.fchmod(fd, mode)  # chown(2) clears set-id bits, an ACL has a mode of its own
            if attributes is not None:
                times = source.status.st_atime_ns, source.status.st_mtime_ns
                os.utime(fd, ns=times)

        _replace(path, fill, finish, sync, over)
    finally:
        os.close(origin)


def make_link(path: str, target: str, uid: int, gid: int, over: bool = False) -> None:
    """Put a symbolic link at the path, in place of what is there; `over` as for write_file()."""
    owner = (uid, gid, None)
    _make(path, lambda name, at: os.symlink(target, name, dir_fd=at), stat.S_IFLNK, owner, over)


def make_special(path: str, like: os.stat_result, over: bool = False) -> None:
    """Put a FIFO or device like another at the path (mknod(2)): only image defaults hold them."""
    kind = stat.S_IFMT(like.st_mode)
    owner = like.st_uid, like.st_gid, like.st_mode & 0o7777

    def make(name: str, at: int) -> None:
        os.mknod(name, kind | 0o600, like.st_rdev, dir_fd=at)

    _make(path, make, kind, owner, over)


def _make(
    path: str,
    make: Callable[[str, int], None],
    kind: int,
    owner: tuple[int, int, int | None],
    over: bool,
) -> None:
    at, name = _entry(path)
    temporary = _temporary_name()
    make(temporary, at)
    try:
        made = planted.find_at(at, temporary, path, walk.SEVERAL)
        try:
            if stat.S_IFMT(made.status.st_mode) != kind or made.status.st_uid != os.geteuid():
                raise Unsafe(f"{path} was exchanged for another while it was made")
            made.set_owner(*owner)
        finally:
            made.close()
        _rename(at, temporary, name, path, over)
    except BaseException:
        _discard(at, temporary)
        raise


def make_marker(path: str) -> None:
    """Make an empty file, 0600, that is there or not: down to the storage (fsync(2))."""
    at, name = _entry(path)
    os.close(os.open(name, _CREATE, 0o600, dir_fd=at))
    storage.sync_directory(split(path)[0])


def make_directory(path: str, mode: int | None) -> None:
    """Make a directory of this process's own in place of anything else; its parent is there.

    Without a mode it is closed to others (0700) and to be handed over later; one that is there
    already, another container's for instance, stays as it is until then. What is made has no ACL.
    """
    at, name = _entry(path)
    wanted = 0o700 if mode is None else mode
    try:
        os.mkdir(name, wanted, dir_fd=at)
    except FileExistsError:
        if stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            if mode is not None:
                planted.set_owner(path, os.geteuid(), os.getegid(), mode)
            return
        remove.remove(path)
        os.mkdir(name, wanted, dir_fd=_entry(path)[0])
    found = planted.find(path)
    try:
        if not stat.S_ISDIR(found.status.st_mode) or found.status.st_uid != os.geteuid():
            raise Unsafe(f"{path} was exchanged for another while it was made; it is left alone")
        # A directory of a group passes its group and its set-group-id bit on (inode(7)).
        found.set_owner(os.geteuid(), os.getegid(), wanted)
        _without_acl(f"/proc/self/fd/{found.fd}")
    finally:
        found.close()


def make_parents(path: str) -> list[str]:
    """Make the missing parents of a path, 0755, and return them in order."""
    missing = []
    parent = split(path)[0]
    while True:
        try:
            walk.directory(parent)
            break
        except FileNotFoundError:
            missing.append(parent)
            parent = split(parent)[0]
    missing.reverse()
    for place in missing:
        make_directory(place, 0o755)
    return missing


def set_attributes(path: str, wanted: dict[str, bytes] | None) -> None:
    """Give what is at a path these extended attributes, as far as its filesystem has them.

    None takes its ACLs and leaves the rest.
    """
    fd = read.open_at(path, walk.PATH_ONLY)
    try:
        give_attributes(fd, wanted)
    finally:
        os.close(fd)


def give_attributes(fd: int, wanted: dict[str, bytes] | None, more: bool = False) -> None:
    """The same of an open file (O_PATH as well); `more`: it keeps others as well."""
    if wanted is None:
        _without_acl(f"/proc/self/fd/{fd}")
    else:
        _set_attributes(f"/proc/self/fd/{fd}", wanted, more)


def give_times(fd: int, status: os.stat_result) -> None:
    """Give an open file (O_PATH as well) the access and modification times of another."""
    os.utime(f"/proc/self/fd/{fd}", ns=(status.st_atime_ns, status.st_mtime_ns))


def lock(path: str, create: bool, waiting: Callable[[], None]) -> int | None:
    """Wait for and take the lock file (flock(2)); None if there is none and none may be made.

    `waiting` is called if somebody else has it. The descriptor closes, and so gives the lock back,
    when the process execs.
    """
    import fcntl

    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        at, name = _entry(path)
        fd = os.open(name, flags, 0o600, dir_fd=at)
    except FileNotFoundError:
        if create:
            raise
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


# --- how ---------------------------------------------------------------------------------------


def _entry(path: str) -> tuple[int, str]:
    """Where a name is to be written, its directory and itself; what was known is forgotten."""
    parent, name = split(path)
    walk.forget(path)
    return walk.directory(parent).fd, name


def _replace(
    path: str,
    fill: Callable[[int], None],
    finish: Callable[[int], None],
    sync: bool,
    over: bool,
) -> None:
    at, name = _entry(path)
    temporary = _temporary_name()
    try:
        fd = os.open(temporary, _CREATE, 0o600, dir_fd=at)
    except OSError as error:
        # What it lies in may be read-only where a file of it is mounted.
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM) or not read.rewritable(path):
            raise OSError(error.errno, error.strerror, path) from None
        _rewrite(at, name, fill, finish, sync)
        return
    try:
        try:
            _without_acl(fd)
            fill(fd)
            finish(fd)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        _rename(at, temporary, name, path, over)
    except BaseException as error:
        busy = isinstance(error, OSError) and error.errno == errno.EBUSY
        if not busy or not read.rewritable(path):
            _discard(at, temporary)
            raise
        try:
            os.unlink(temporary, dir_fd=at)
        except OSError as stays:
            # Only the start after one that failed looks for what it left.
            raise OSError(stays.errno, stays.strerror, path) from None
        _rewrite(at, name, fill, finish, sync)
    if sync:
        storage.sync_directory(split(path)[0])


def _rewrite(
    at: int,
    name: str,
    fill: Callable[[int], None],
    finish: Callable[[int], None],
    sync: bool,
) -> None:
    """Put content into the file that is there, all of it at hand before the file is touched."""
    buffer = os.memfd_create("kolla_start")
    try:
        fill(buffer)
        os.lseek(buffer, 0, 0)
        data = read.whole(buffer)
    finally:
        os.close(buffer)
    fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            os.fchown(fd, os.geteuid(), -1)
        os.fchmod(fd, 0o600)
        _without_acl(fd)
        os.ftruncate(fd, 0)
        _write_all(fd, data)
        finish(fd)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def _rename(at: int, temporary: str, name: str, path: str, over: bool) -> None:
    try:
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except IsADirectoryError:
        if not over:
            raise  # It came there since the plan was made: somebody else's.
        # rename(2) cannot put a file in place of a directory: the only replacement in two steps.
        remove.remove(path)
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)


def _discard(at: int, temporary: str) -> None:
    try:
        os.unlink(temporary, dir_fd=at)
    except OSError:
        pass  # Gone already, or the next start's remove_temporaries() will find it.


def _temporary_name() -> str:
    # Unpredictable, so that a service cannot hold the name; short, so that a destination's name
    # of 255 bytes is no problem.
    return remove.TEMPORARY + _mark + os.urandom(8).hex()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _without_acl(place: int | str) -> None:
    """A default ACL of the directory is inherited, and fchmod(2) would open its mask (acl(5))."""
    try:
        for name in os.listxattr(place):
            if name.startswith(ACL):
                os.removexattr(place, name)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENODATA):
            raise


def _set_attributes(place: int | str, wanted: dict[str, bytes], more: bool = False) -> None:
    try:
        have = os.listxattr(place)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return
    for name in [] if more else have:
        if name not in wanted and not name.startswith("security."):
            _unless_unsupported(lambda name=name: os.removexattr(place, name))  # type: ignore[misc]
    for name, value in wanted.items():
        _unless_unsupported(lambda n=name, v=value: os.setxattr(place, n, v))  # type: ignore[misc]


def _unless_unsupported(change: Callable[[], None]) -> None:
    try:
        change()
    except OSError as error:
        # As shutil.copystat(): a filesystem without them is no reason not to start.
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENODATA, errno.EINVAL):
            raise
