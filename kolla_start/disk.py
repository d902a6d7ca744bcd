"""The one door to the disk: every open, rename, chown, chmod, unlink and mkdir is in this file.

On the container-start path: imports only what the interpreter has loaded already or built in.
Its other leaf is treewalk.py, which sets the owners of whole trees in the same way.

Root works here beside directories that a service can write, so a path is never handed to the
kernel whole. It is walked component by component on directory descriptors (path_resolution(7),
openat(2)), and a step is refused where a non-root user could have chosen what lies behind it:

- a symbolic link is followed only if root owns it and only root can replace it;
- from a directory of a non-root user the way leads on only to that user's own directories, to a
  mount point, to a directory of root that nobody else can write (rename(2) needs write permission
  on a directory to move it to another parent, so the user cannot have put it there), or to one
  that the document itself gives away (declare()), to its present owner or to one who can read it;
- where somebody else can write, another user's file or directory is given only to who can read it
  anyway, and a file with more than one name to nobody.

It must not decide anything: what belongs where is the plan's business (plan.py).
"""

import errno
import os
import stat

# Not collections.abc: it would import collections.
from _collections_abc import Callable

from kolla_start import log

_PATH_ONLY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = _PATH_ONLY | os.O_DIRECTORY
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that a service planted must not stop the start.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_CHUNK = 1 << 20  # bytes
_MAX_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_CACHED_DIRECTORIES = 16  # descriptors; a start must work with RLIMIT_NOFILE 64

# What a path that leads nowhere gives, path_resolution(7).
ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))

# What an object is, whatever its name: device and inode number.
Identity = tuple[int, int]

# Every temporary file begins so: a start that follows a kill removes what is left of them.
TEMPORARY = ".kolla_start."


class Unsafe(Exception):
    """A step that a non-root user could have prepared. The message names the path and says why."""


class Directory:
    """An open directory (O_PATH): good until the next call of a function of this module.

    private: nobody but root (and this very user) can write it
    root_only: nor any directory above it: whatever is in it is as the image or root made it
    """

    __slots__ = ("fd", "private", "real", "root_only", "status", "uid")

    def __init__(self, fd: int, real: str, status: os.stat_result, below_root_only: bool) -> None:
        self.fd = fd
        self.real = real
        self.status = status
        self.uid = status.st_uid
        self.private = private(status)
        self.root_only = below_root_only and self.private


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
        if not _safe_step(here, status, real, fd):
            os.close(fd)
            raise Unsafe(
                f"{real} belongs to uid {status.st_uid} but lies in a directory of uid {here.uid}, "
                "who could have moved it there; name it under `directories` with its owner, or "
                "give both one owner"
            )
        here = _remember(real, Directory(fd, real, status, here.root_only))
    if here.real != path:
        _directories[path] = here
    return here


def _root() -> Directory:
    found = _directories.get("/")
    if found is None:
        fd = os.open("/", _DIRECTORY)
        found = _directories["/"] = Directory(fd, "/", os.fstat(fd), True)
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


def trusted(uid: int) -> bool:
    """Whether what belongs to this user is as good as root's own."""
    return uid in {0, os.geteuid()}


def private(status: os.stat_result) -> bool:
    """Whether only root, or this very user, can write to it: the mask of an ACL is in the mode."""
    return trusted(status.st_uid) and not status.st_mode & 0o022


def _safe_step(parent: Directory, child: os.stat_result, real: str, fd: int) -> bool:
    return (
        trusted(parent.uid)
        or child.st_uid == parent.uid
        or child.st_dev != parent.status.st_dev  # a mount: only root puts one there
        or private(child)
        or any(child.st_uid == uid or _can_read(uid, child, fd) for uid in _declared(real))
    )


# Whom the document gives which directories: by their real paths, and by the tops of whole trees.
_given: dict[str, set[int]] = {}
_given_below: dict[str, set[int]] = {}


def declare(path: str, uid: int, below: bool = False) -> None:
    """The document gives the directory at a real path to this user, `below`: and all that is in it.

    From then on a step from another user's directory into it is taken.
    """
    _given.setdefault(path, set()).add(uid)
    if below:
        _given_below.setdefault(path, set()).add(uid)


def forget_declared() -> None:
    """Another document, or the same one anew."""
    _given.clear()
    _given_below.clear()


def _declared(real: str) -> set[int]:
    found = set(_given.get(real, ()))
    place = real
    while place != "/" and _given_below:
        place = split(place)[0]
        found |= _given_below.get(place, set())
    return found


def _can_read(uid: int, status: os.stat_result, fd: int) -> bool:
    """Whether a user can read an open file, or list and pass a directory, by its mode.

    The mode says it only where there is no ACL (acl(5)); where there is one the answer is no.
    """
    from kolla_start import owners

    bits = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    if status.st_uid == uid:
        bits <<= 6
    elif status.st_gid in owners.groups(uid):
        bits <<= 3
    return status.st_mode & bits == bits and not any(
        name.startswith("system.posix_acl") for name in attribute_names(fd)
    )


def _trusted_link(parent: Directory, name: str, real: str) -> str:
    """The target of a symbolic link among the components of a path, if it may be followed."""
    try:
        target = os.readlink(name, dir_fd=parent.fd)
    except OSError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), real) from None
    owner = os.stat(name, dir_fd=parent.fd, follow_symlinks=False).st_uid
    mode = parent.status.st_mode
    swappable = mode & 0o022 and not mode & stat.S_ISVTX
    if not trusted(owner) or not trusted(parent.uid) or swappable:
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


def present(path: str, follow: bool = False) -> bool:
    """Whether there is anything at a path, found the kernel's way: for what only root can change.

    Raises OSError where it cannot tell: os.path.exists() would say no, and something would be
    left out without a word.
    """
    try:
        os.stat(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno not in ABSENT:
            raise
        return False
    return True


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
    fd = open_directory(path)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def open_directory(path: str) -> int:
    """A descriptor of a directory, to be listed and closed; no link at its last component."""
    return _open(path, LIST)


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
            if _has_planted_name(status, at.status):
                raise Unsafe(_HARD_LINK % (path, status.st_nlink))
            return not trusted(at.uid)
        target = _trusted_link(at, name, path)
        path = target if target.startswith("/") else join(at.real, target)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), source)


def is_null(status: os.stat_result) -> bool:
    """Whether it is /dev/null, under whatever name (null(4))."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


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


def attributes(path: str, safe: bool) -> dict[str, bytes]:
    """Extended attributes, ACLs among them (xattr(7)); empty where unsupported.

    `safe`: by safe steps and through no link, as for anything but a mounted source. Raises
    OSError where they cannot be read, and Unsafe.
    """
    if not safe:
        return _attributes(path)
    fd = _open(path, _PATH_ONLY)
    try:
        return _attributes(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def attribute_names(fd: int) -> list[str]:
    """The names of the extended attributes of an open file, O_PATH as well; none if unsupported."""
    try:
        return os.listxattr(f"/proc/self/fd/{fd}")
    except OSError as error:
        if error.errno not in {errno.ENOTSUP, errno.EPERM, errno.EACCES}:
            raise
        return []


def _attributes(place: str | int) -> dict[str, bytes]:
    try:
        return {
            name: os.getxattr(place, name)
            for name in os.listxattr(place)
            if name != "security.selinux"  # the label belongs to the place, not to the file
        }
    except OSError as error:
        if error.errno not in {errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENODATA}:
            raise
        return {}


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
    """The filesystem that a directory is on, as (device, free bytes).

    One that does not say how large it is (ramfs, some of FUSE) is never full.
    """
    found = directory(path)
    usage = os.fstatvfs(found.fd)
    return found.status.st_dev, usage.f_bavail * usage.f_frsize if usage.f_blocks else 1 << 62


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
            top = os.open(name, LIST, dir_fd=at)
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
    fd = open_directory(path)
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
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info(f"another run holds {path}: waiting for its end")
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
        _copy_attributes(_attributes(preserve_from), fd)
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
        top = os.open(name, LIST, dir_fd=at)
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
                below = os.open(inner, LIST, dir_fd=fd)
                above.append((inner, identity(fd)))
                fd, done = below, fd
                os.close(done)
                continue
            if not above:
                return
            inner, above_it = above.pop()
            up = os.open("..", LIST, dir_fd=fd)
            fd, done = up, fd
            os.close(done)
            if identity(fd) != above_it:
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


def identity(fd: int) -> Identity:
    """What an open file is, whatever its name: device and inode number."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


# --- owners ----------------------------------------------------------------------------------


def refuse_planted(path: str, uid: int, judged: Identity | None = None) -> Identity:
    """Raises Unsafe where set_owner() would, and OSError; else tells what has been judged."""
    parent, name = split(path)
    at = directory(parent)
    found = Found(_open_entry(at.fd, name or ".", path), path, at.status)
    try:
        if judged != found.identity:
            _refuse_planted(found, uid)
    finally:
        found.close()
    return found.identity


def set_owner(
    path: str, uid: int, gid: int, mode: int | None, judged: Identity | None = None
) -> None:
    """Set owner and mode of what is at the path itself; a link's target is never touched.

    Raises OSError, or Unsafe for what somebody else could have put there: a second name of a
    file, what another user keeps to itself. `judged` is what refuse_planted() has let pass, when
    the directory may have had another owner.
    """
    parent, name = split(path)
    at = directory(parent)
    found = Found(_open_entry(at.fd, name or ".", path), path, at.status)
    try:
        set_owner_of(found, uid, gid, mode, judged)
    finally:
        found.close()


class Found:
    """An object that is held open (O_PATH): its path, its status, and that of its directory.

    below: the document does not name it, but a tree that it lies in
    """

    __slots__ = ("below", "fd", "holder", "identity", "real", "status")

    def __init__(self, fd: int, real: str, holder: os.stat_result, below: bool = False) -> None:
        self.fd = fd
        self.real = real
        self.below = below
        self.status = os.fstat(fd)
        self.identity: Identity = (self.status.st_dev, self.status.st_ino)
        self.holder = holder

    def close(self) -> None:
        os.close(self.fd)


def set_owner_at(
    at: int,
    name: str,
    path: str,
    uid: int,
    gid: int,
    mode: int | None,
    holder: os.stat_result,
) -> None:
    """Set owner and mode of one entry of an open directory, on the very object that was checked.

    The document names a tree that it lies in. `holder`: the directory's status.
    """
    found = Found(_open_entry(at, name, path), path, holder, below=True)
    try:
        set_owner_of(found, uid, gid, mode)
    finally:
        found.close()


def _open_entry(at: int, name: str, path: str) -> int:
    try:
        return os.open(name, _PATH_ONLY, dir_fd=at)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def set_owner_of(
    found: Found, uid: int, gid: int, mode: int | None, judged: Identity | None = None
) -> None:
    """Set owner and mode of what is held open. Raises OSError with its path, and Unsafe."""
    status, path = found.status, found.real
    kind = status.st_mode
    if judged != found.identity:
        _refuse_planted(found, uid)
    # An O_PATH descriptor names the object, not the path: nothing can be swapped (proc(5)).
    place = f"/proc/self/fd/{found.fd}"
    changed = status.st_uid != uid or status.st_gid != gid
    try:
        if changed:
            os.chown(place, uid, gid)
        # chown(2) may have cleared the set-id bits, so the mode comes second.
        if mode is not None and not stat.S_ISLNK(kind) and (changed or kind & 0o7777 != mode):
            os.chmod(place, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    if stat.S_ISDIR(kind):
        forget(path)  # a step from it is judged by its owner


def open_behind(path: str) -> Found | None:
    """What a symbolic link leads to that only root can have made; None for any other link.

    Only root can have made a link that root owns in a directory that nobody else can write, nor
    any directory above it. /proc/self/fd/1 and the like (images have logs that lead there) stand
    for the open file itself. Raises FileNotFoundError or NotADirectoryError where it leads
    nowhere, OSError for a loop, and Unsafe.
    """
    for _ in range(_MAX_LINKS):
        parent, name = split(path)
        if name in {"", ".", ".."}:
            path = directory(path).real
            parent, name = split(path)
        at = directory(parent)
        found = Found(os.open(name or ".", _PATH_ONLY, dir_fd=at.fd), path, at.status)
        if not stat.S_ISLNK(found.status.st_mode):
            found.real = join(at.real, name)
            return found
        found.close()
        if not at.root_only or not trusted(found.status.st_uid):
            return None
        if at.real == f"/proc/{os.getpid()}/fd":
            return Found(os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=at.fd), path, at.status)
        target = os.readlink(name, dir_fd=at.fd)
        path = target if target.startswith("/") else join(at.real, target)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


_HARD_LINK = (
    "%s has %d hard links and lies where a service can write; remove the link, or put a copy in "
    "its place"
)


def _has_planted_name(status: os.stat_result, holder: os.stat_result) -> bool:
    """Whether it is a hard link that somebody could have made who may not do more than read it.

    `holder`: of the directory. Whatever fs.protected_hardlinks says: it lets a user link to what
    that user can read and write.
    """
    return (
        status.st_nlink > 1
        and not stat.S_ISDIR(status.st_mode)
        and not private(holder)
        and not _alone(status, holder)
    )


def _alone(status: os.stat_result, holder: os.stat_result) -> bool:
    """Whether the owner of an object is the one user who can write the directory that it is in."""
    return status.st_uid == holder.st_uid and not holder.st_mode & 0o022


def _refuse_planted(found: Found, uid: int) -> None:
    """Raises Unsafe for what somebody else could have put there so that root gives it to `uid`."""
    from kolla_start import owners

    status, holder = found.status, found.holder
    if status.st_uid == uid or private(holder) or _alone(status, holder):
        return
    if _has_planted_name(status, holder):
        raise Unsafe(_HARD_LINK % (found.real, status.st_nlink))
    if trusted(status.st_uid) or stat.S_ISLNK(status.st_mode):
        return  # what a command run as root has left; a link's owner means nothing
    if not holder.st_mode & 0o022 and (trusted(holder.st_uid) or holder.st_uid == uid):
        return  # only the new owner could have moved it there
    if found.below and not owners.known(status.st_uid):
        return  # nobody's of this container: data of an image that had other numbers
    if not _can_read(uid, status, found.fd):
        raise Unsafe(
            f"{found.real} belongs to uid {status.st_uid} and lies where others can write, so "
            f"somebody may have moved it there: it is not given to uid {uid}, who cannot read it; "
            "remove it, or change its owner by hand"
        )
