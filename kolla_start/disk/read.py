"""What is there: statuses, names, contents, attributes, mounts.

On the container-start path: the standard library alone. Nothing here writes. Paths are real ones
(walk.resolve()), and no link is followed at their ends.
"""

from __future__ import annotations

import errno
import posix as os
import stat

from kolla_start import kernel
from kolla_start.disk import walk
from kolla_start.disk.walk import ACL, Unsafe, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from kolla_start.disk.walk import Walk

    Answer = TypeVar("Answer")

# O_NONBLOCK: a FIFO that a service planted must not stop the start.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
CHUNK = 1 << 20  # bytes

# What a path that leads nowhere gives, path_resolution(7).
NOTHING = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))

# The kernel's own filesystems: what is in them is no file, whatever access(2) says.
_KERNEL = frozenset(
    """
    proc sysfs cgroup cgroup2 devpts securityfs debugfs tracefs configfs bpf pstore efivarfs
    binfmt_misc mqueue
    """.split()
)


def lstat(path: str) -> os.stat_result | None:
    """The status of what is at the path itself (lstat(2)), None where there is nothing."""
    parent, name = split(path)
    try:
        at = walk.directory(parent)
        return os.stat(name, dir_fd=at.fd, follow_symlinks=False) if name else at.status
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def open_at(path: str, flags: int) -> int:
    """A descriptor of what is at a path, by safe steps. Raises OSError (the path) and Unsafe."""
    parent, name = split(path)
    try:
        return os.open(name or ".", flags | os.O_NOFOLLOW, dir_fd=walk.directory(parent).fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def names(path: str) -> list[str]:
    """The names in a directory, sorted."""
    fd = open_at(path, walk.LIST)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def link_target(path: str) -> str:
    parent, name = split(path)
    return os.readlink(name, dir_fd=walk.directory(parent).fd)


def open_regular(path: str) -> int:
    """A descriptor of a regular file. Raises OSError with the path, and Unsafe."""
    fd = open_at(path, READ)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def open_if_regular(path: str) -> tuple[int, os.stat_result] | None:
    """The same, and its status; None for anything else, or nothing, or what cannot be read."""
    parent, name = split(path)
    try:
        at = walk.directory(parent).fd
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fd = os.open(name or ".", READ, dir_fd=at)
    except OSError as error:
        # ENXIO: a FIFO or socket. Any other error is not to be taken for "something else".
        if error.errno in NOTHING or error.errno in (errno.ENXIO, errno.EACCES):
            return None
        raise OSError(error.errno, error.strerror, path) from None
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return fd, status
    os.close(fd)
    return None


def content(path: str) -> bytes | None:
    """The content of a regular file; None where there is no file."""
    try:
        fd = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return whole(fd)
    finally:
        os.close(fd)


whole = kernel.whole


def by_name(path: str) -> bytes:
    """The content of a file that a person names, found the kernel's way. Raises OSError."""
    # O_NONBLOCK: to open a FIFO that nobody writes to would wait for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        return whole(fd)
    finally:
        os.close(fd)


def same_content(one: int, other: int, size: int) -> bool:
    """Whether two open files of one size (bytes) hold the same, read from their beginnings."""
    while size > 0:
        # No more than there is: a buffer of a megabyte costs more than a small file.
        chunk = os.read(one, min(size, CHUNK))
        if not chunk or os.read(other, len(chunk)) != chunk:
            return False
        size -= len(chunk)
    return True


class Disk:
    """What a walk finds on the disk, by paths that may lead through links."""

    def __init__(self, by: Walk) -> None:
        self.by = by

    def names(self, path: str) -> list[str]:
        """The names in a directory. Raises OSError with the path, and Unsafe."""
        at = self.by.directory(self.by.resolve(path, follow=True))
        try:
            fd = os.open(".", walk.LIST, dir_fd=at.fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def has(self, path: str) -> bool:
        """Whether there is anything at a path itself. Raises as names()."""
        parent, name = split(self.by.resolve(path))
        try:
            os.stat(name, dir_fd=self.by.directory(parent).fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


def matches(
    pattern: str, there: Disk, unreadable: Callable[[Exception], None] | None = None
) -> list[str]:
    """What a shell pattern with magic in it finds (glob(7)), sorted, spelled as the pattern is.

    What cannot be looked at is handed to `unreadable`, or raises OSError and Unsafe: glob.glob()
    would take it for empty.
    """
    from fnmatch import filter as matching

    def asked(question: Callable[[str], Answer], path: str, nothing: Answer) -> Answer:
        try:
            return question(path)
        except (OSError, Unsafe) as error:
            if not (isinstance(error, OSError) and error.errno in NOTHING):
                if unreadable is None:
                    raise
                unreadable(error)
            return nothing

    found = [""]
    for part in pattern.split("/")[1:]:
        if not has_magic(part):
            found = [f"{place}/{part}" for place in found]
            continue
        here, found = found, []
        for place in here:
            inside: list[str] = asked(there.names, place, [])
            if part[0] != ".":
                inside = [name for name in inside if name[0] != "."]
            found += [f"{place}/{name}" for name in matching(inside, part)]
    if not has_magic(pattern.rpartition("/")[2]):  # for magic at its end that is known
        found = [path for path in found if asked(there.has, path, False)]
    return sorted(found)


def has_magic(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern or "[" in pattern


# --- attributes --------------------------------------------------------------------------------


def attributes(place: int | str) -> dict[str, bytes]:
    """The extended attributes of an open file, ACLs among them (xattr(7)); none if unsupported.

    Those are left out that belong to the place and not to the file, or that only the kernel sets:
    the labels and measurements under security.*, but for capabilities.
    """
    found: dict[str, bytes] = {}
    try:
        names = os.listxattr(place)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return found
    for name in names:
        if name.startswith("security.") and name != "security.capability":
            continue
        try:
            found[name] = os.getxattr(place, name)
        except OSError as error:
            # Gone by now; or not for this process, xattr(7), whom an ACL is never kept from.
            private = error.errno in (errno.EPERM, errno.EACCES) and not name.startswith(ACL)
            if not private and error.errno not in (errno.ENOTSUP, errno.ENODATA):
                raise
    return found


def lacking(fd: int, wanted: dict[str, bytes] | None, more: bool = False) -> str:
    """In what the attributes of an open file or directory differ from those wanted, or nothing.

    None wants no ACL and leaves the rest; `more`: it may have others as well. What its filesystem
    cannot hold is not missed (getxattr(2): ENOTSUP), nor what only a privileged process could set.
    """
    have = attributes(fd)
    if wanted is None:
        return "has an ACL" if any(name.startswith(ACL) for name in have) else ""
    for name in sorted(wanted if more else {*have, *wanted}):
        if have.get(name) != wanted.get(name) and _can_hold(fd, name):
            return "extended attributes differ"
    return ""


# What a process needs to set those of a class: xattr(7), capabilities(7), linux/capability.h.
CAP_SYS_ADMIN, CAP_SETFCAP = 21, 31
_PRIVILEGED = {"security": CAP_SETFCAP, "trusted": CAP_SYS_ADMIN}


def _can_hold(fd: int, name: str) -> bool:
    needs = _PRIVILEGED.get(name.partition(".")[0])
    if needs is not None:
        from kolla_start import accounts

        if not accounts.capable(needs):
            return False
    try:
        os.getxattr(fd, name)
    except OSError as error:
        return error.errno == errno.ENODATA
    return True


# --- mounts and room ---------------------------------------------------------------------------


def writable(path: str) -> bool:
    """Whether this process may create names in the directory (and its mount is not read-only)."""
    fd = walk.directory(path).fd
    return os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True) and not (
        os.fstatvfs(fd).f_blocks == 0 and _kind(path) in _KERNEL
    )


def rewritable(path: str) -> bool:
    """Whether the path is a mount point whose content can be written, if not its name."""
    if path not in _mounted():
        return False
    parent, name = split(path)
    return os.access(name, os.W_OK, dir_fd=walk.directory(parent).fd, effective_ids=True)


def pinned(path: str) -> bool:
    """Whether nothing can take the place of a file: it is mounted, and cannot be written."""
    return path in _mounted() and not rewritable(path)


def free_bytes(path: str) -> tuple[int, int]:
    """The filesystem that a directory is on, as (device, free bytes).

    One that does not say how large it is (ramfs, some of FUSE) is never full.
    """
    found = walk.directory(path)
    usage = os.fstatvfs(found.fd)
    return found.status.st_dev, usage.f_bavail * usage.f_frsize if usage.f_blocks else 1 << 62


def mounts(path: str) -> list[str]:
    """The mount points at and below a path (proc(5), mountinfo): removing it would empty them."""
    below = path.rstrip("/") + "/"
    return [place for place in _mounted() if place == path or place.startswith(below)]


def _kind(path: str) -> str:
    """The type of the filesystem that a path is on."""
    table = _mounted()
    while path != "/" and path not in table:
        path = split(path)[0]
    return table.get(path, "")


_table: dict[str, str] = {}  # read once: nobody mounts while a container starts


def _mounted() -> dict[str, str]:
    """Mount point -> type of its filesystem, sorted."""
    if not _table:
        found = {}
        for line in kernel.read("/proc/self/mountinfo").split(b"\n")[:-1]:
            # Blanks are written as octal escapes there.
            place = kernel.decode(_unescape(line.split(b" ", 5)[4]))
            found[place] = line.rpartition(b" - ")[2].split(b" ", 1)[0].decode()
        _table.update(sorted(found.items()))
    return _table


def _unescape(text: bytes) -> bytes:
    for code, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        text = text.replace(code, char)
    return text


def mount_of(fd: int) -> bytes:
    """The mount that an open file is on: a bind mount has its own, but not its own st_dev."""
    return kernel.read(f"/proc/self/fdinfo/{fd}").partition(b"mnt_id:")[2].split(b"\n")[0]


def is_null(status: os.stat_result) -> bool:
    """Whether it is /dev/null, under whatever name (null(4))."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
