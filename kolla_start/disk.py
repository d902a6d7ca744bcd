"""The one door to the disk: every open, rename, chown, chmod, unlink and mkdir is in this file.

On the container-start path: imports only what the interpreter has loaded already or built in.
Its other leaf is treewalk.py, which sets the owners of whole trees in the same way.

Root works here beside directories that a service can write, so a path is never handed to the
kernel whole. It is walked component by component on directory descriptors (path_resolution(7),
openat(2)), and a step is refused where a non-root user could have chosen what lies behind it:

- a symbolic link is followed only if root owns it and only root can replace it;
- from a directory that somebody else can write the way leads on only to its owner's own, to a mount
  point, to a directory of root that nobody else can write (rename(2) needs write permission on a
  directory to move it to another parent, so nobody else can have put it there), or to one in which
  the document names something, if its owner is whom that is given to, or that one can read it;
- where somebody else could have put a thing, it is given away only if it is root's, or can be read
  by its new owner already, and with more than one name to nobody.

Who could have put it there is said of the whole way: one number for each directory, sole_writer().

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
    sole: who could have put something into it, or moved it or one above it: see sole_writer()
    """

    __slots__ = ("fd", "private", "real", "sole", "status", "uid")

    def __init__(self, fd: int, real: str, status: os.stat_result, above: int) -> None:
        self.fd = fd
        self.real = real
        self.status = status
        self.uid = status.st_uid
        self.private = private(status)
        self.sole = sole_writer(above, status, fd)


ROOT_ONLY = 0
SEVERAL = -1


def sole_writer(above: int, status: os.stat_result, fd: int) -> int:
    """The one user beside root who can change what is in an open directory, or where it is.

    ROOT_ONLY where there is none, SEVERAL where there are more than one, or a group of others.
    `above` is the same of the directory that it lies in.
    """
    own = status.st_uid
    if private(status):
        own = ROOT_ONLY
    elif status.st_mode & 0o002 or (status.st_mode & 0o020 and not _own_group(status, fd)):
        own = SEVERAL
    if ROOT_ONLY in (above, own) or above == own:
        return own or above
    return SEVERAL


def _own_group(status: os.stat_result, fd: int) -> bool:
    """Whether the group of an open file is its owner's alone, and no ACL names others."""
    from kolla_start import owners

    return not _has_acl(fd) and owners.alone(status.st_uid, status.st_gid)


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
        here = _remember(real, Directory(fd, real, status, here.sole))
    if here.real != path:
        _directories[path] = here
    return here


def _root() -> Directory:
    found = _directories.get("/")
    if found is None:
        fd = os.open("/", _DIRECTORY)
        found = _directories["/"] = Directory(fd, "/", os.fstat(fd), ROOT_ONLY)
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
        parent.private
        or child.st_uid == parent.uid
        or child.st_dev != parent.status.st_dev  # a mount: only root puts one there
        or private(child)
        or _may_step(parent, child, real, fd)
    )


class Given:
    """A path or pattern of the document and whom it is given to (None: whomever a source says).

    below:  with all that is in it
    copied: something is written there
    """

    __slots__ = ("below", "copied", "path", "uid")

    def __init__(
        self, path: str, uid: int | None, below: bool = False, copied: bool = False
    ) -> None:
        self.path = path
        self.uid = uid
        self.below = below
        self.copied = copied

    def leads_through(self, real: str) -> bool:
        """Whether it is a directory, or lies in it, or is a tree that the directory lies in."""
        parts, names = self.path.split("/"), real.split("/")
        if len(names) > len(parts) and not self.below:
            return False
        pairs = list(zip(names, parts, strict=False))
        if all(name == part for name, part in pairs):
            return True
        if not any(char in self.path for char in "*?["):
            return False
        from fnmatch import fnmatchcase

        return all(fnmatchcase(name, part) for name, part in pairs)


_undeclared: list[Given] = []  # by the document's own paths, the shortest last
_declared: list[Given] = []  # by real paths


def declare(given: list[Given]) -> None:
    """What the document gives to whom: from then on a step that leads there is taken."""
    _declared.clear()
    # Those above first: the way to the others may lead through them.
    _undeclared[:] = sorted(given, key=lambda each: each.path, reverse=True)


def _may_step(parent: Directory, status: os.stat_result, real: str, fd: int) -> bool:
    """Whether the document gives an open directory, or something in it, to whom it belongs to.

    Or, where nothing is written, to who can read it: a step into it shows that user nothing. What
    is root's and stays root's goes through a directory of root that a group can write.
    """
    while _undeclared:  # most starts need no such step, and find out nothing
        given = _undeclared.pop()
        try:
            given.path = canonical(given.path)
        except (Unsafe, OSError):
            pass  # Whatever is wrong with it is said where its entry is planned.
        _declared.append(given)
    found = [given for given in _declared if given.leads_through(real)]
    return any(
        given.uid is None
        or given.uid == status.st_uid
        or (given.copied and trusted(given.uid) and trusted(parent.uid))
        or (not given.copied and _can_read(given.uid, status, fd))
        for given in found
    )


def _can_read(uid: int, status: os.stat_result, fd: int) -> bool:
    """Whether a user can read an open file, or list and pass a directory, by its mode.

    The mode says it only where there is no ACL (acl(5)); where there is one the answer is no.
    """
    if trusted(uid):
        return True
    from kolla_start import owners

    bits = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    if status.st_uid == uid:
        bits <<= 6
    elif status.st_gid in owners.groups(uid):
        bits <<= 3
    return status.st_mode & bits == bits and not _has_acl(fd)


def _has_acl(fd: int) -> bool:
    return any(name.startswith("system.posix_acl") for name in attribute_names(fd))


def _trusted_link(parent: Directory, name: str, real: str) -> str:
    """The target of a symbolic link among the components of a path, if it may be followed."""
    try:
        target = os.readlink(name, dir_fd=parent.fd)
    except OSError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), real) from None
    owner = os.stat(name, dir_fd=parent.fd, follow_symlinks=False).st_uid
    mode = parent.status.st_mode
    # A volume as the kubelet lays it out is open to all by its mode, and mounted read-only.
    swappable = mode & 0o022 and not os.fstatvfs(parent.fd).f_flag & os.ST_RDONLY
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
            if at.sole not in (ROOT_ONLY, status.st_uid) and not stat.S_ISDIR(status.st_mode):
                if status.st_nlink > 1:
                    raise Unsafe(_HARD_LINK % (path, status.st_nlink))
                if not trusted(status.st_uid) and not status.st_mode & 0o004:
                    raise Unsafe(_FOREIGN % (path, status.st_uid, "read for somebody else"))
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


def write_file(
    path: str, data: bytes, uid: int, gid: int, mode: int, sync: bool = False, over: bool = False
) -> None:
    """Replace a file by these bytes, whole or not at all (rename(2)).

    `over`: a directory that is in the way goes, with all that is in it.

    With `sync` the file and its name have reached the storage when this returns (fsync(2)).
    Raises OSError with the path, or Unsafe.
    """

    def fill(fd: int) -> None:
        _write_all(fd, data)

    _replace(path, fill, uid, gid, mode, sync, over)


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
    over: bool = False,
) -> None:
    """Replace a file by a copy of a regular file, whole or not at all.

    The source's links are followed unless `safe_source` says that it lies where a service can
    write. `preserve` carries over times and extended attributes. Raises OSError or Unsafe.
    """
    origin = _open_source(source, safe_source)
    try:

        def fill(fd: int) -> None:
            _copy_content(origin, fd)

        _replace(path, fill, uid, gid, mode, sync, over, origin if preserve else None)
    finally:
        os.close(origin)


def make_link(path: str, target: str, uid: int, gid: int, over: bool = False) -> None:
    """Put a symbolic link at the path, in place of what is there; `over` as for write_file()."""
    parent, name = split(path)
    at = directory(parent).fd
    temporary = _temporary_name()
    os.symlink(target, temporary, dir_fd=at)
    try:
        os.chown(temporary, uid, gid, dir_fd=at, follow_symlinks=False)
        _rename(at, temporary, name, path, over)
    except BaseException:
        _discard(at, temporary)
        raise


def make_marker(path: str) -> None:
    """Make an empty file, 0600, that is there or not: down to the storage (fsync(2))."""
    parent, name = split(path)
    fd = os.open(name, _CREATE, 0o600, dir_fd=directory(parent).fd)
    try:
        os.fchmod(fd, 0o600)  # whatever the umask
    finally:
        os.close(fd)
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
        # Another container may have made it meanwhile, and begun to use it.
        if not stat.S_ISDIR(os.stat(name, dir_fd=directory(parent).fd, follow_symlinks=False)[0]):
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
        try:
            os.unlink(name, dir_fd=directory(path).fd)
        except IsADirectoryError:
            pass  # Not ours: it makes none under such a name.


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
    over: bool,
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
        _rename(at, temporary, name, path, over)
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


def _rename(at: int, temporary: str, name: str, path: str, over: bool) -> None:
    try:
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except IsADirectoryError:
        if not over:
            raise  # It came there since the plan was made: somebody else's.
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


def refuse_planted(path: str, uid: int, mode: int | None) -> None:
    """Raises Unsafe where set_owner() would, and OSError."""
    hold(path, uid, mode).close()


def hold(path: str, uid: int, mode: int | None) -> "Found":
    """What is at a path, to be given away later as it was judged now. Raises as set_owner()."""
    found = _find(path)
    try:
        found.refuse_planted(uid, mode)
    except BaseException:
        found.close()
        raise
    return found


def set_owner(path: str, uid: int, gid: int, mode: int | None) -> None:
    """Set owner and mode of what is at the path itself; a link's target is never touched.

    Raises OSError, or Unsafe for what somebody else could have put there.
    """
    found = hold(path, uid, mode)
    try:
        found.set_owner(uid, gid, mode)
    finally:
        found.close()


def set_owner_at(
    at: int, name: str, path: str, uid: int, gid: int, mode: int | None, sole: int
) -> None:
    """The same for an entry of an open directory; `sole` is the directory's sole_writer()."""
    found = Found(_open_entry(at, name, path), path, sole)
    try:
        found.refuse_planted(uid, mode)
        found.set_owner(uid, gid, mode)
    finally:
        found.close()


def _find(path: str) -> "Found":
    parent, name = split(path)
    at = directory(parent)
    return Found(_open_entry(at.fd, name or ".", path), path, at.sole)


def _open_entry(at: int, name: str, path: str) -> int:
    try:
        return os.open(name, _PATH_ONLY, dir_fd=at)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


class Found:
    """An object that is held open: its path, its status, and its directory's sole_writer()."""

    __slots__ = ("fd", "real", "sole", "status")

    def __init__(self, fd: int, real: str, sole: int) -> None:
        self.fd = fd
        self.real = real
        self.status = os.fstat(fd)
        self.sole = sole

    def close(self) -> None:
        os.close(self.fd)

    def set_owner(self, uid: int, gid: int, mode: int | None) -> None:
        """Whatever it was judged to be (refuse_planted()). Raises OSError with the path."""
        kind = self.status.st_mode
        # An O_PATH descriptor names the object, not the path: nothing can be swapped (proc(5)).
        place = f"/proc/self/fd/{self.fd}"
        changed = self.status.st_uid != uid or self.status.st_gid != gid
        try:
            if changed:
                os.chown(place, uid, gid)
            # chown(2) may have cleared the set-id bits, so the mode comes second.
            if mode is not None and not stat.S_ISLNK(kind) and (changed or kind & 0o7777 != mode):
                os.chmod(place, mode)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.real) from None
        if stat.S_ISDIR(kind):
            forget(self.real)  # a step from it is judged by its owner

    def refuse_planted(self, uid: int, mode: int | None) -> None:
        """Raises Unsafe for what somebody could have put there so that root gives it to `uid`."""
        status = self.status
        owner = status.st_uid
        if self.sole in (ROOT_ONLY, owner) or stat.S_ISLNK(status.st_mode):
            return
        opened = 0 if mode is None else mode & ~status.st_mode & 0o077
        # Whatever fs.protected_hardlinks says: it lets a user link to what it can read and write.
        several_names = status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)
        if several_names and (owner != uid or opened):
            raise Unsafe(_HARD_LINK % (self.real, status.st_nlink))
        if owner == uid or trusted(owner):
            return  # what a command run as root has left
        if (trusted(uid) and opened) or not _can_read(uid, status, self.fd):
            raise Unsafe(_FOREIGN % (self.real, owner, f"given to uid {uid}"))


_HARD_LINK = (
    "%s has %d hard links and lies where a service can write; remove the link, or put a copy in "
    "its place"
)
_FOREIGN = (
    "%s belongs to uid %d and lies where others can write, so somebody may have moved it there: "
    "it is not %s; remove it, or change its owner by hand"
)

# Unix98 terminals, which engines give to a container that has one (Documentation/admin-guide/
# devices.txt of the kernel).
_TERMINALS = range(136, 144)


def open_behind(path: str) -> Found | None:
    """What a symbolic link leads to that only root can have made; None for any other link.

    Only root can have made a link that root owns in a directory that nobody else can write, nor
    any directory above it. /proc/self/fd/1 and the like (images have logs that lead there) stand
    for the pipe, socket or terminal that it is, but not for a file: who calls sudo chooses it. Nor
    does a link stand for a device. Raises FileNotFoundError or NotADirectoryError where it leads
    nowhere, OSError for a loop, and Unsafe.
    """
    for _ in range(_MAX_LINKS):
        parent, name = split(path)
        if name in {"", ".", ".."}:
            path = directory(path).real
            parent, name = split(path)
        at = directory(parent)
        found = Found(os.open(name or ".", _PATH_ONLY, dir_fd=at.fd), join(at.real, name), at.sole)
        if not stat.S_ISLNK(found.status.st_mode):
            return _unless(found, stat.S_ISCHR, stat.S_ISBLK)
        found.close()
        if at.sole != ROOT_ONLY or not trusted(found.status.st_uid):
            return None
        if at.real == f"/proc/{os.getpid()}/fd":
            fd = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=at.fd)
            found = Found(fd, path, at.sole)
            if os.major(found.status.st_rdev) in _TERMINALS and stat.S_ISCHR(found.status.st_mode):
                return found
            return _unless(found, stat.S_ISREG, stat.S_ISDIR, stat.S_ISCHR, stat.S_ISBLK)
        target = os.readlink(name, dir_fd=at.fd)
        path = target if target.startswith("/") else join(at.real, target)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _unless(found: Found, *kinds: Callable[[int], bool]) -> Found | None:
    if any(kind(found.status.st_mode) for kind in kinds):
        found.close()
        return None
    return found
