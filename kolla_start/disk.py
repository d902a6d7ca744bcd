"""The one door to the disk: every open, rename, chown, chmod, unlink and mkdir is in this file.

On the container-start path: imports only what the interpreter has loaded already or built in.

Root works here beside directories that a service can write, so a path is never handed to the
kernel whole. It is walked component by component on directory descriptors (path_resolution(7),
openat(2)), and a step is refused where a non-root user could have chosen what lies behind it:

- a symbolic link is followed only if root owns it and only root can replace it;
- from a directory of a non-root user the way leads on only to that user's own directories, to a
  mount point, or to a directory of root that nobody else can write: rename(2) needs write
  permission on a directory to move it to another parent, so the user cannot have put it there.

It must not decide anything: what belongs where is the plan's business (plan.py).
"""

import errno
import os
import stat
import time

# Not collections.abc: it would import collections.
from _collections_abc import Callable, Iterable, Iterator

from kolla_start import log

_PATH_ONLY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = _PATH_ONLY | os.O_DIRECTORY
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that a service planted must not stop the start.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_CHUNK = 1 << 20  # bytes
_MAX_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_CACHED_DIRECTORIES = 16  # descriptors; a start must work with RLIMIT_NOFILE 64
_OPEN_LEVELS = 16  # of a tree walk; deeper ones are found again through ".."
_PROGRESS_SECONDS = 5.0
_SAMPLE = 8  # entries by which a walk tells slow storage: every one of them takes
_SLOW_SECONDS = 200e-6  # or longer; local storage answers in a few microseconds
_CREW = 64  # threads that ask slow storage

# Every temporary file begins so: a start that follows a kill removes what is left of them.
TEMPORARY = ".kolla_start."


class Unsafe(Exception):
    """A step that a non-root user could have prepared. The message names the path and says why."""


class Directory:
    """An open directory (O_PATH): good until the next call of a function of this module."""

    __slots__ = ("dev", "fd", "mode", "real", "uid")

    def __init__(self, fd: int, real: str, status: os.stat_result) -> None:
        self.fd = fd
        self.real = real
        self.uid = status.st_uid
        self.mode = status.st_mode
        self.dev = status.st_dev


_directories: dict[str, Directory] = {}


def directory(path: str) -> Directory:
    """Open the directory at an absolute path, by safe steps only.

    Raises Unsafe, FileNotFoundError, NotADirectoryError or another OSError with the path.
    """
    found = _directories.get(path)
    if found is not None:
        return found
    root = _root()
    # From the nearest directory that is open already: a tree may be thousands deep.
    near = path
    while near not in _directories and near:
        near = near.rpartition("/")[0]
    here = _directories.get(near, root)
    todo = path[len(near) :].split("/")[::-1]
    links = 0
    while todo:
        name = todo.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            here = directory(os.path.dirname(here.real))
            continue
        real = join(here.real, name)
        found = _directories.get(real)
        if found is not None:
            here = found
            continue
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=here.fd)
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise OSError(error.errno, error.strerror, real) from None
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), real) from None
            target = _trusted_link(here, name, real)
            if target.startswith("/"):
                here = root
            todo += target.split("/")[::-1]
            continue
        status = os.fstat(fd)
        if not _safe_step(here, status):
            os.close(fd)
            raise Unsafe(
                f"{real} belongs to uid {status.st_uid} but lies in a directory of uid {here.uid}, "
                "who could have moved it there; give both one owner"
            )
        here = _remember(real, Directory(fd, real, status))
    if here.real != path:
        _directories[path] = here
    return here


def _root() -> Directory:
    found = _directories.get("/")
    if found is None:
        fd = os.open("/", _DIRECTORY)
        found = _directories["/"] = Directory(fd, "/", os.fstat(fd))
    return found


def _remember(path: str, new: Directory) -> Directory:
    if len(_directories) >= _CACHED_DIRECTORIES:
        # The older half; whoever walks down two trees at once still needs the others.
        _close([known for known in _directories if known != "/"][: _CACHED_DIRECTORIES // 2])
    _directories[path] = new
    return new


def forget(below: str = "/") -> None:
    """Close the directories remembered at and below a path, but "/": they may be others now."""
    prefix = below.rstrip("/") + "/"
    gone = [
        path
        for path, known in _directories.items()
        if path != "/"
        and (path == below or path.startswith(prefix) or (known.real + "/").startswith(prefix))
    ]
    _close(gone)


def _close(paths: list[str]) -> None:
    open_fds = {_directories.pop(path).fd for path in paths}
    # An alias of "/" itself (a link to it) shares the root's descriptor, which stays open.
    open_fds -= {known.fd for known in _directories.values()}
    for fd in open_fds:
        os.close(fd)


def _trusted(uid: int) -> bool:
    return uid in {0, os.geteuid()}


def _safe_step(parent: Directory, child: os.stat_result) -> bool:
    return (
        _trusted(parent.uid)
        or child.st_uid == parent.uid
        or child.st_dev != parent.dev  # a mount: only root puts one there
        or (_trusted(child.st_uid) and not child.st_mode & 0o022)
    )


def _trusted_link(parent: Directory, name: str, real: str) -> str:
    """The target of a symbolic link among the components of a path, if it may be followed."""
    try:
        target = os.readlink(name, dir_fd=parent.fd)
    except OSError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), real) from None
    owner = os.stat(name, dir_fd=parent.fd, follow_symlinks=False).st_uid
    swappable = parent.mode & 0o022 and not parent.mode & stat.S_ISVTX
    if not _trusted(owner) or not _trusted(parent.uid) or swappable:
        raise Unsafe(
            f"{real} is a symbolic link that uid {owner if owner else parent.uid} or a group can "
            "replace; it is not followed: name the place it points to"
        )
    return target


# --- paths -----------------------------------------------------------------------------------


def join(parent: str, name: str) -> str:
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


def split(path: str) -> tuple[str, str]:
    head, _, name = path.rpartition("/")
    return head or "/", name


def canonical(path: str) -> str:
    """The path with the safe links among its parents resolved; the last component is not followed.

    Parents that do not exist yet are kept as they are. Raises as directory() does, but not
    FileNotFoundError.
    """
    rest = ""
    path = path.rstrip("/") or "/"
    while path != "/":
        path, name = split(path)
        rest = f"/{name}{rest}"
        try:
            real = directory(path).real
        except FileNotFoundError:
            continue
        return (real if real != "/" else "") + rest
    return rest or "/"


# --- reading ---------------------------------------------------------------------------------


def lstat(path: str) -> os.stat_result | None:
    """The status of what is at the path itself (lstat(2)), None where there is nothing."""
    parent, name = split(path)
    try:
        if not name:
            return os.fstat(_root().fd)
        return os.stat(name, dir_fd=directory(parent).fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def names(path: str) -> list[str]:
    """The names in a directory, sorted, without following a link at its last component."""
    fd = _open(path, _LIST)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def read_file(path: str) -> bytes | None:
    """The content of a regular file; None where there is no file."""
    try:
        fd = _open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return _read_all(fd)
    finally:
        os.close(fd)


def read_link(path: str) -> str:
    parent, name = split(path)
    return os.readlink(name, dir_fd=directory(parent).fd)


def exposed(source: str) -> bool:
    """Whether a non-root user owns the directory that a source is in: no link there is followed.

    Raises Unsafe where such a user could have chosen what is found, and OSError.
    """
    path = source
    for _ in range(_MAX_LINKS):
        parent, name = split(path)
        at = directory(parent)
        status = os.stat(name or ".", dir_fd=at.fd, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            _refuse_planted(status, path, _trusted(at.uid), None)
            return not _trusted(at.uid)
        target = _trusted_link(at, name, path)
        path = target if target.startswith("/") else join(at.real, target)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), source)


def same_content(source: str, path: str, size: int, safe_source: bool = False) -> bool:
    """Whether two files hold the same bytes; `size` (bytes) is that of both."""
    theirs = _open_source(source, safe_source)
    try:
        ours = _open_regular(path)
        try:
            while True:
                chunk = os.read(theirs, _CHUNK)
                if _read_exactly(ours, len(chunk) or 1) != chunk:
                    return False
                size -= len(chunk)
                # A regular file that gave all its bytes has ended: no need to ask for the end.
                if not chunk or size == 0:
                    return True
        finally:
            os.close(ours)
    finally:
        os.close(theirs)


def attributes(path: str, follow: bool) -> dict[str, bytes]:
    """Extended attributes, ACLs among them (xattr(7)), of a source; empty where unsupported."""
    try:
        found = os.listxattr(path, follow_symlinks=follow)
        return {
            name: os.getxattr(path, name, follow_symlinks=follow)
            for name in found
            if name != "security.selinux"  # the label belongs to the place, not to the file
        }
    except OSError:
        return {}


def attributes_at(path: str) -> dict[str, bytes]:
    """The same of a destination, by a safe way."""
    fd = _open(path, _PATH_ONLY)
    try:
        return attributes(f"/proc/self/fd/{fd}", follow=True)
    finally:
        os.close(fd)


def writable(path: str) -> bool:
    """Whether this process may create names in the directory (and its mount is not read-only)."""
    fd = directory(path).fd
    return os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True)


def rewritable(path: str) -> bool:
    """Whether the path is a mount point whose content can be written, if not its name."""
    if path not in mounts(path):
        return False
    parent, name = split(path)
    return os.access(name, os.W_OK, dir_fd=directory(parent).fd, effective_ids=True)


def free_bytes(path: str) -> tuple[int, int]:
    """The filesystem that a directory is on, as (device, free bytes)."""
    found = directory(path)
    usage = os.fstatvfs(found.fd)
    return found.dev, usage.f_bavail * usage.f_frsize


def mounts(path: str) -> list[str]:
    """The mount points at and below a path (proc(5), mountinfo): removing it would empty them."""
    if not _mount_points:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            places = {line.split(" ", 5)[4] for line in table}
        plain = (place.encode("utf-8", "surrogateescape") for place in places)
        # Blanks are written as octal escapes there.
        decoded = [_unescape(place).decode("utf-8", "surrogateescape") for place in plain]
        _mount_points.extend(sorted(decoded))
    below = path.rstrip("/") + "/"
    return [place for place in _mount_points if place == path or place.startswith(below)]


_mount_points: list[str] = []  # read once: nobody mounts while a container starts


def _unescape(text: bytes) -> bytes:
    for code, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        text = text.replace(code, char)
    return text


def _open(path: str, flags: int) -> int:
    parent, name = split(path)
    try:
        return os.open(name or ".", flags, 0o600, dir_fd=directory(parent).fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def _open_source(path: str, safe: bool) -> int:
    return _open_regular(path) if safe else os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _open_regular(path: str) -> int:
    fd = _open(path, _READ)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def _read_exactly(fd: int, count: int) -> bytes:
    data = os.read(fd, count)
    while data and len(data) < count:
        more = os.read(fd, count - len(data))
        if not more:
            break
        data += more
    return data


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, _CHUNK):
        parts.append(part)
    return b"".join(parts)


# --- writing ---------------------------------------------------------------------------------


def write_file(path: str, data: bytes, uid: int, gid: int, mode: int, sync: bool = False) -> None:
    """Replace a file by these bytes, whole or not at all (rename(2)).

    With `sync` the file and its name have reached the storage when this returns (fsync(2)).
    Raises OSError with the path, or Unsafe.
    """

    def fill(fd: int) -> None:
        _write_all(fd, data)

    _replace(path, fill, uid, gid, mode, sync)


def copy_file(
    source: str,
    path: str,
    uid: int,
    gid: int,
    mode: int,
    *,
    preserve: bool = False,
    sync: bool = False,
    safe_source: bool = False,
) -> None:
    """Replace a file by a copy of a regular file, whole or not at all.

    The source's links are followed unless `safe_source` says that it lies where a service can
    write. `preserve` carries over times and extended attributes. Raises OSError or Unsafe.
    """
    origin = _open_source(source, safe_source)
    try:

        def fill(fd: int) -> None:
            _copy_content(origin, fd)

        _replace(path, fill, uid, gid, mode, sync, origin if preserve else None)
    finally:
        os.close(origin)


def make_link(path: str, target: str, uid: int, gid: int) -> None:
    """Put a symbolic link at the path, in place of what is there."""
    parent, name = split(path)
    at = directory(parent).fd
    temporary = _temporary_name()
    os.symlink(target, temporary, dir_fd=at)
    try:
        os.chown(temporary, uid, gid, dir_fd=at, follow_symlinks=False)
        _rename(at, temporary, name, path)
    except BaseException:
        _discard(at, temporary)
        raise


def make_marker(path: str) -> None:
    """Make an empty file, 0600, that is there or not: down to the storage (fsync(2))."""
    parent, name = split(path)
    os.close(os.open(name, _CREATE, 0o600, dir_fd=directory(parent).fd))
    sync_directory(parent)


def make_special(path: str, like: os.stat_result) -> None:
    """Put a FIFO or device like another at the path (mknod(2)): only image defaults hold them."""
    parent, name = split(path)
    remove(path)
    at = directory(parent).fd
    os.mknod(name, stat.S_IFMT(like.st_mode) | 0o600, like.st_rdev, dir_fd=at)
    set_owner(path, like.st_uid, like.st_gid, like.st_mode & 0o7777)


def make_directory(path: str, uid: int, gid: int, mode: int) -> None:
    """Make a directory in place of anything else at the path; its parent is there."""
    parent, name = split(path)
    # At once as it should be wherever the kernel can do that: a kill must not leave a parent
    # that the service cannot pass.
    first = mode if (uid, gid) == (os.geteuid(), os.getegid()) else 0o700
    umask = os.umask(0)
    try:
        os.mkdir(name, first, dir_fd=directory(parent).fd)
    except FileExistsError:
        remove(path)
        os.mkdir(name, first, dir_fd=directory(parent).fd)
    finally:
        os.umask(umask)
    set_owner(path, uid, gid, mode)


def make_parents(path: str) -> list[str]:
    """Make the missing parents of a path, 0755 whatever the umask, and return them in order."""
    parent = split(path)[0]
    made: list[str] = []
    missing = []
    while True:
        try:
            directory(parent)
            break
        except FileNotFoundError:
            missing.append(parent)
            parent = split(parent)[0]
    for place in reversed(missing):
        make_directory(place, os.geteuid(), os.getegid(), 0o755)
        made.append(place)
    return made


def set_owner(path: str, uid: int, gid: int, mode: int | None) -> None:
    """Set owner and mode of what is at the path itself; a link's target is never touched.

    Raises OSError, or Unsafe for a hard link that a service could have planted.
    """
    parent, name = split(path)
    at = directory(parent)
    _set_owner_at(at.fd, name or ".", path, uid, gid, mode, _trusted(at.uid))


def set_times(path: str, status: os.stat_result) -> None:
    """Give a directory the access and modification times of another."""
    fd = _open(path, _PATH_ONLY)
    try:
        os.utime(f"/proc/self/fd/{fd}", ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(fd)


def set_attributes(path: str, wanted: dict[str, bytes]) -> None:
    """Give a directory exactly these extended attributes, as far as its filesystem has them."""
    fd = _open(path, _PATH_ONLY)
    try:
        _copy_attributes(wanted, f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """Remove what is at the path, with all that is in it; nothing there is fine."""
    parent, name = split(path)
    try:
        at = directory(parent).fd
        os.unlink(name, dir_fd=at)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (IsADirectoryError, PermissionError) as refused:
        try:
            top = os.open(name, _LIST, dir_fd=at)
        except OSError:
            raise OSError(refused.errno, refused.strerror, path) from None
        mount = _mount(at)
        forget(path)
        _empty(top, path, mount)
        os.rmdir(name, dir_fd=directory(parent).fd)


def remove_empty(path: str) -> bool:
    """Remove a directory if it is empty (rmdir(2)); says whether it did."""
    parent, name = split(path)
    forget(path)
    try:
        os.rmdir(name, dir_fd=directory(parent).fd)
    except OSError:
        return False
    return True


def remove_temporaries(path: str) -> None:
    """Remove what a killed run left half written in a directory."""
    try:
        left = [name for name in names(path) if name.startswith(TEMPORARY)]
    except (OSError, Unsafe):
        return
    for name in left:
        remove(join(path, name))


def sync_file(path: str) -> None:
    """Bring a regular file's content to the storage (fsync(2))."""
    fd = _open_regular(path)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """Bring the names in a directory to the storage (fsync(2))."""
    fd = _open(path, _LIST)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def lock(path: str, create: bool) -> int | None:
    """Wait for and take the lock file (flock(2)); None if there is none and none may be made.

    The descriptor closes, and so gives the lock back, when the process execs.
    """
    import fcntl

    try:
        fd = _open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0))
    except FileNotFoundError:
        if create:
            raise
        return None
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _replace(
    path: str,
    fill: Callable[[int], None],
    uid: int,
    gid: int,
    mode: int,
    sync: bool,
    preserve_from: int | None = None,
) -> None:
    parent, name = split(path)
    at = directory(parent).fd
    temporary = _temporary_name()

    def write(fd: int) -> None:
        try:
            fill(fd)
            _finish(fd, uid, gid, mode, preserve_from)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)

    try:
        # Private to root until it has its content, then its owner, then its mode: nobody else
        # can read what the final mode forbids, at any moment.
        write(os.open(temporary, _CREATE, 0o600, dir_fd=at))
        _rename(at, temporary, name, path)
    except BaseException as error:
        _discard(at, temporary)
        # The name of a mount point cannot be replaced, and what it lies in may be read-only.
        if not isinstance(error, OSError) or not rewritable(path):
            raise
        fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
        write(fd)
    if sync:
        sync_directory(parent)


def _finish(fd: int, uid: int, gid: int, mode: int, preserve_from: int | None) -> None:
    # chown(2) clears the set-id bits, so the mode comes second.
    os.fchown(fd, uid, gid)
    os.fchmod(fd, mode)
    if preserve_from is not None:
        origin = os.fstat(preserve_from)
        _copy_attributes(attributes(f"/proc/self/fd/{preserve_from}", follow=True), fd)
        os.utime(fd, ns=(origin.st_atime_ns, origin.st_mtime_ns))


def _copy_attributes(wanted: dict[str, bytes], target: int | str) -> None:
    try:
        for name in os.listxattr(target):
            if name not in wanted and name != "security.selinux":
                os.removexattr(target, name)
        for name, value in wanted.items():
            os.setxattr(target, name, value)
    except OSError as error:
        # As shutil.copystat: a filesystem without them is no reason not to start.
        if error.errno not in {errno.ENOTSUP, errno.EPERM, errno.ENODATA, errno.EINVAL}:
            raise


def _rename(at: int, temporary: str, name: str, path: str) -> None:
    try:
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except IsADirectoryError:
        # rename(2) cannot put a file in place of a directory: the only replacement in two steps.
        top = os.open(name, _LIST, dir_fd=at)
        _empty(top, path, _mount(at))
        os.rmdir(name, dir_fd=at)
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)


def _discard(at: int, temporary: str) -> None:
    try:
        os.unlink(temporary, dir_fd=at)
    except OSError:
        pass  # Gone already, or the next start's remove_temporaries() will find it.


def _temporary_name() -> str:
    # Unpredictable, so that a service cannot hold the name; short, so that a destination's name
    # of 255 bytes is no problem.
    return TEMPORARY + os.urandom(8).hex()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _copy_content(origin: int, fd: int) -> None:
    os.lseek(origin, 0, os.SEEK_SET)
    while chunk := os.read(origin, _CHUNK):
        _write_all(fd, chunk)


def _empty(fd: int, path: str, mount: bytes) -> None:
    """Remove all that is in an open directory, at any depth, and close it.

    Holds one descriptor; the way back up is "..", checked to be the directory it came from. It
    stays on the mount `mount`: what an operator mounted inside is not ours to remove.
    """
    above: list[tuple[str, tuple[int, int]]] = []
    try:
        while True:
            if _mount(fd) != mount:
                raise OSError(errno.EBUSY, "a mount point in a tree to be removed", path)
            inner = None
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        inner = entry.name
                        break
                    os.unlink(entry.name, dir_fd=fd)
            if inner is not None:
                below = os.open(inner, _LIST, dir_fd=fd)
                above.append((inner, _identity(fd)))
                fd, done = below, fd
                os.close(done)
                continue
            if not above:
                return
            inner, identity = above.pop()
            up = os.open("..", _LIST, dir_fd=fd)
            fd, done = up, fd
            os.close(done)
            if _identity(fd) != identity:
                raise OSError(errno.EAGAIN, "moved while it was being removed", path)
            os.rmdir(inner, dir_fd=fd)
    finally:
        os.close(fd)


def _mount(fd: int) -> bytes:
    """The mount that an open file is on: a bind mount has its own, but not its own st_dev."""
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(info, 4096).partition(b"mnt_id:")[2].split(b"\n")[0]
    finally:
        os.close(info)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


# --- owners of whole trees -------------------------------------------------------------------

# What an entry should have: uid, gid, mode of files, mode of directories (None: as it is).
Wanted = tuple[int, int, int | None, int | None]
# For the entries of a directory: one answer for all of them, or a function of the full path.
Rule = Wanted | Callable[[str], Wanted | None]


class Drift:
    """An entry whose owner or mode is not as wanted. Good until the walk that found it goes on."""

    __slots__ = ("_at", "_name", "_parent", "_safe", "status", "wanted")

    def __init__(
        self,
        at: int,
        name: str,
        parent: str,
        status: os.stat_result,
        wanted: Wanted,
        safe: bool,
    ) -> None:
        self._at = at
        self._name = name
        self._parent = parent
        self._safe = safe
        self.status = status
        self.wanted = wanted

    @property
    def path(self) -> str:
        return "/" if self._name == "." else join(self._parent, self._name)

    def mend(self) -> None:
        """Set owner and mode. Raises OSError or Unsafe."""
        uid, gid, file_mode, directory_mode = self.wanted
        kind = self.status.st_mode
        is_directory = stat.S_ISDIR(kind)
        mode = directory_mode if is_directory else file_mode
        # chown(2) clears set-id bits and leaves all others: a right mode without them stays right.
        owner_only = mode is None or (kind & 0o7777 == mode and not mode & 0o6000)
        if owner_only and (self.status.st_nlink == 1 or is_directory) and _links_protected():
            os.chown(self._name, uid, gid, dir_fd=self._at, follow_symlinks=False)
        else:
            _set_owner_at(self._at, self._name, self.path, uid, gid, mode, self._safe)


def tree_drift(
    top: str, recurse: bool, rule: Callable[[str], Rule], failed: Callable[[str, Exception], None]
) -> Iterator[Drift]:
    """Walk a tree as `chown -R` does (no link is followed) and yield what is not as wanted.

    `rule(path)` tells what the entries of a directory should have ("" asks for the top itself).
    An error is handed to `failed` with its path, and the walk goes on with the rest.
    """
    parent, name = split(top)
    try:
        at = directory(parent)
        status = os.stat(name or ".", dir_fd=at.fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, Unsafe) as error:
        failed(top, error)
        return
    own = rule("")
    wanted = own if isinstance(own, tuple) else own(top)
    if wanted is not None and _differs(status, wanted):
        yield Drift(at.fd, name or ".", parent, status, wanted, _trusted(at.uid))
    if not recurse or not stat.S_ISDIR(status.st_mode):
        return
    levels: list[_Level] = []
    progress = _Progress(top)
    try:
        levels.append(_Level(os.open(name or ".", _LIST, dir_fd=directory(parent).fd), top))
        yield from _scan(levels[-1], rule, failed, progress)
        while levels:
            level = levels[-1]
            if not level.inner:
                levels.pop()
                if levels and not levels[-1].reopen(level.fd):
                    failed(level.path, OSError(errno.EAGAIN, "moved while it was walked"))
                    while levels and levels[-1].fd < 0:
                        levels.pop()
                os.close(level.fd)
                continue
            inner = level.inner.pop()
            path = join(level.path, inner)
            try:
                below = _Level(os.open(inner, _LIST, dir_fd=level.fd), path)
            except FileNotFoundError:
                continue  # A running service may remove its own directories.
            except OSError as error:
                failed(path, error)
                continue
            levels.append(below)
            if len(levels) > _OPEN_LEVELS:
                levels[-1 - _OPEN_LEVELS].close()
            yield from _scan(below, rule, failed, progress)
    except OSError as error:
        failed(top, error)
    finally:
        progress.end()
        for level in levels:
            level.close()


class _Level:
    """A directory of the walk: its descriptor (-1 while closed) and the directories left to do."""

    __slots__ = ("fd", "identity", "inner", "path")

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self.inner: list[str] = []
        self.identity = (0, 0)

    def close(self) -> None:
        if self.fd >= 0:
            self.identity = _identity(self.fd)
            os.close(self.fd)
            self.fd = -1

    def reopen(self, below: int) -> bool:
        """Open it again through its child; False if the child is no longer in it."""
        if self.fd < 0:
            up = os.open("..", _LIST, dir_fd=below)
            if _identity(up) != self.identity:
                os.close(up)
                return False
            self.fd = up
        return True


class _Progress:
    """What a walk knows of itself: how far it is, and whether its storage makes it wait."""

    __slots__ = ("_crew", "_next", "_top", "count")

    def __init__(self, top: str) -> None:
        self._top = top
        self._next = time.monotonic() + _PROGRESS_SECONDS
        self._crew: _Crew | None = None
        self.count = 0

    def tick(self, count: int) -> None:
        """Say every few seconds how far a long walk is: silence looks like a hang."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_SECONDS
            log.info(f"{self._top}: {count} entries looked at so far")

    def ahead(self, entries: Iterator["os.DirEntry[str]"]) -> Iterable["os.DirEntry[str]"]:
        """The entries; those of slow storage with their status asked for already, many at once."""
        from itertools import chain

        if self._crew is not None:
            return self._crew.ahead(entries)
        first = []
        for entry in entries:
            first.append(entry)
            start = time.monotonic()
            _ask((entry,))
            # One quick answer is enough: only slow storage is slow each time.
            if time.monotonic() - start < _SLOW_SECONDS:
                return chain(first, entries)
            if len(first) == _SAMPLE:
                self._crew = _Crew()
                return chain(first, self._crew.ahead(entries))
        return first

    def end(self) -> None:
        if self._crew is not None:
            self._crew.dismiss()


class _Crew:
    """Threads that wait for slow storage (a network's) in the walk's place, all at the same time.

    They only ask for the status of entries, which os.DirEntry keeps; the walk itself is the same.
    """

    def __init__(self) -> None:
        import _thread
        from _queue import SimpleQueue

        self._jobs: SimpleQueue[list[os.DirEntry[str]] | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._count = 0
        try:
            while self._count < _CREW:
                _thread.start_new_thread(self._work, ())
                self._count += 1
        except RuntimeError:
            pass  # A limit of processes: as many as there may be, or none.

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _ask(job)
            self._done.put(None)

    def ahead(self, entries: Iterator["os.DirEntry[str]"]) -> Iterator["os.DirEntry[str]"]:
        from itertools import islice

        # So many at a time: a walk's memory does not grow with the directory.
        while batch := list(islice(entries, _CREW * 16)):
            jobs = [batch[number :: self._count] for number in range(self._count)]
            for job in jobs:
                self._jobs.put(job)
            for _ in jobs:
                self._done.get()
            yield from batch

    def dismiss(self) -> None:
        """End the threads: what follows a walk changes who this process is."""
        import _thread

        for _ in range(self._count):
            self._jobs.put(None)
        while _thread._count():
            time.sleep(0.0001)


def _ask(entries: Iterable["os.DirEntry[str]"]) -> None:
    for entry in entries:
        try:
            entry.stat(follow_symlinks=False)
        except OSError:
            pass  # The walk asks again, and says so.


def _scan(
    level: _Level,
    rule: Callable[[str], Rule],
    failed: Callable[[str, Exception], None],
    progress: _Progress,
) -> Iterator[Drift]:
    """Look at the entries of one directory: this loop is what a walk of millions consists of."""
    answer = rule(level.path)
    constant = answer if isinstance(answer, tuple) else None
    uid, gid = (-1, -1) if constant is None else constant[:2]
    # The kinds and modes (st_mode) of entries, no directories, that were found right here.
    right: set[int] = set()
    safe = None
    count = progress.count
    with os.scandir(level.fd) as entries:
        for entry in progress.ahead(entries):
            count += 1
            if not count & 0xFFF:
                progress.tick(count)
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                failed(join(level.path, entry.name), error)
                continue
            kind = status[0]
            if kind in right and status[4] == uid and status[5] == gid:
                continue
            is_directory = stat.S_ISDIR(kind)
            if is_directory:
                level.inner.append(entry.name)
            if constant is not None:
                wanted: Wanted | None = constant
            else:
                assert callable(answer)
                wanted = answer(join(level.path, entry.name))
            if wanted is not None and _differs(status, wanted):
                if safe is None:
                    safe = _trusted(os.fstat(level.fd).st_uid)
                yield Drift(level.fd, entry.name, level.path, status, wanted, safe)
            elif constant is not None and not is_directory:
                right.add(kind)
    progress.count = count


def _differs(status: os.stat_result, wanted: Wanted) -> bool:
    uid, gid, file_mode, directory_mode = wanted
    if status.st_uid != uid or status.st_gid != gid:
        return True
    kind = status.st_mode
    mode = directory_mode if stat.S_ISDIR(kind) else file_mode
    return mode is not None and kind & 0o7777 != mode and not stat.S_ISLNK(kind)


def refuse_planted(path: str, status: os.stat_result, uid: int) -> None:
    """Raises Unsafe where set_owner() would."""
    _refuse_planted(status, path, _trusted(directory(split(path)[0]).uid), uid)


def _set_owner_at(
    at: int, name: str, path: str, uid: int, gid: int, mode: int | None, safe: bool
) -> None:
    """Set owner and mode of one entry of an open directory, on the very object that was checked.

    `safe`: only root can write the directory, so a hard link in it is root's own doing.
    """
    try:
        fd = os.open(name, _PATH_ONLY, dir_fd=at)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    try:
        status = os.fstat(fd)
        kind = status.st_mode
        _refuse_planted(status, path, safe, uid)
        # An O_PATH descriptor names the object, not the path: nothing can be swapped (proc(5)).
        place = f"/proc/self/fd/{fd}"
        changed = status.st_uid != uid or status.st_gid != gid
        if changed:
            os.chown(place, uid, gid)
        # chown(2) may have cleared the set-id bits, so the mode comes second.
        if mode is not None and not stat.S_ISLNK(kind) and (changed or kind & 0o7777 != mode):
            os.chmod(place, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def _refuse_planted(status: os.stat_result, path: str, safe: bool, uid: int | None) -> None:
    """Raises Unsafe for a hard link that a service could have made to a file that is not its own.

    `safe`: only root can write the directory. `uid`: the owner that the file is to have.
    """
    if (
        status.st_nlink > 1
        and not stat.S_ISDIR(status.st_mode)
        and not safe
        and status.st_uid != uid
        and not _links_protected()
    ):
        raise Unsafe(
            f"{path} has {status.st_nlink} hard links and lies where a service can write; "
            "set fs.protected_hardlinks to 1, or remove the link"
        )


_protected: list[bool] = []


def _links_protected() -> bool:
    """Whether the kernel keeps users from linking to files that are not theirs (proc_sys_fs(5))."""
    if not _protected:
        try:
            fd = os.open("/proc/sys/fs/protected_hardlinks", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _protected.append(os.read(fd, 8).strip() == b"1")
            finally:
                os.close(fd)
        except OSError:
            _protected.append(False)
    return _protected[0]
