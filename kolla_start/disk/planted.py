"""What has been found, held open: judged first, and given away as it was judged.

On the container-start path: the standard library alone.

Where somebody else could have put a thing, it is given away only if it is root's, or can be read by
its new owner already, and with more than one name to nobody, whatever fs.protected_hardlinks says:
the kernel lets a user link to what it can read and write.
"""

from __future__ import annotations

import errno
import posix as os
import stat

from kolla_start import kernel
from kolla_start.disk import walk
from kolla_start.disk.given import declared
from kolla_start.disk.walk import ROOT_ONLY, Directory, Unsafe, identity, join, split, trusted

# Unix98 terminals, which engines give to a container that has one (Documentation/admin-guide/
# devices.txt of the kernel).
_TERMINALS = range(136, 144)

_HARD_LINK = (
    "%s has %d hard links and lies where a service can write; remove the link, or put a copy in "
    "its place"
)
_FOREIGN = (
    "%s belongs to uid %d and lies where others can write, so somebody may have moved it there: "
    "it is not %s; move or remove it, or change its owner, by hand"
)


def refuse_planted(path: str, uid: int, mode: int | None) -> os.stat_result:
    """Raises Unsafe where set_owner() would, and OSError; else what was found: find_again()."""
    found = hold(path, uid, mode)
    found.close()
    return found.status


def find_again(path: str, known: os.stat_result, uid: int) -> Found:
    """What was judged, to be given away, held open; whoever can write there by now.

    Every step is taken: it is what it was, or Unsafe is raised. The number of an inode that is gone
    is given again, so what has it now must be of the same kind, and its owner's then, or `uid`'s
    whom it is given to. Raises OSError with the path.
    """
    parent, name = split(path)
    found = find_at(walk.as_it_is.directory(parent).fd, name or ".", path, walk.SEVERAL)
    now = found.status
    same = identity(now) == identity(known) and stat.S_IFMT(now.st_mode ^ known.st_mode) == 0
    if not same or now.st_uid not in (known.st_uid, uid):
        found.close()
        raise Unsafe(f"{path} was exchanged for another; it is left alone")
    return found


def hold(path: str, uid: int, mode: int | None) -> Found:
    """What is at a path, to be given away later as it was judged now. Raises as set_owner()."""
    found = find(path)
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


def find(path: str) -> Found:
    """What is at a real path, held open. Raises OSError with the path, and Unsafe."""
    parent, name = split(path)
    at = walk.directory(parent)
    return find_at(at.fd, name or ".", path, at.sole)


def find_at(at: int, name: str, path: str, sole: int) -> Found:
    """The same for an entry of an open directory; `sole` is the directory's sole_writer()."""
    try:
        fd = os.open(name, walk.PATH_ONLY, dir_fd=at)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    return Found(fd, path, sole)


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
        if stat.S_ISDIR(kind):
            walk.forget(self.real)  # a step from it is judged by its owner
        try:
            if changed:
                os.chown(place, uid, gid)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.real) from None
        # chown(2) may have cleared the set-id bits, so the mode comes second.
        if mode is not None and not stat.S_ISLNK(kind) and (changed or kind & 0o7777 != mode):
            self.set_mode(mode)

    def set_mode(self, mode: int) -> None:
        """Whatever it is. Raises OSError with the path."""
        try:
            os.chmod(f"/proc/self/fd/{self.fd}", mode)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.real) from None

    def refuse_planted(self, uid: int, mode: int | None) -> None:
        """Raises Unsafe for what somebody could have put there so that root gives it to `uid`."""
        status = self.status
        owner = status.st_uid
        if self.sole in (ROOT_ONLY, owner) or stat.S_ISLNK(status.st_mode):
            return
        opened = 0 if mode is None else mode & ~status.st_mode & 0o077
        several_names = status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)
        if several_names and (owner != uid or opened):
            raise Unsafe(_HARD_LINK % (self.real, status.st_nlink))
        if owner == uid or trusted(owner):
            return  # what a command run as root has left
        if (trusted(uid) and opened) or not walk.can_read(uid, status, self.fd):
            raise Unsafe(_FOREIGN % (self.real, owner, f"given to uid {uid}"))


def refuse_to_read(path: str, status: os.stat_result, sole: int) -> None:
    """Raises Unsafe for an open file that somebody could have put there so that root copies it."""
    if sole in (ROOT_ONLY, status.st_uid):
        return
    if status.st_nlink > 1:
        raise Unsafe(_HARD_LINK % (path, status.st_nlink))
    if not trusted(status.st_uid) and not status.st_mode & 0o004:
        raise Unsafe(_FOREIGN % (path, status.st_uid, "read for somebody else"))


def foreign(found: Directory) -> str | None:
    """Why an open directory that is not empty is not to be removed; None where it may go.

    Somebody else could have moved it there, with all that only its owner could take away. What the
    document answers for goes: root's, that of a user whom it gives what it copies (an earlier one
    may have put that there), and of whom it gives something there. Asked of each directory of a
    tree: what a group can write can be moved into another tree, with all that is in it.
    """
    owner = found.status.st_uid
    if found.mover in (ROOT_ONLY, owner) or trusted(owner):
        return None
    for given in declared():
        there = given.leads_through(found.real)
        if (owner == given.uid and (given.copied or there)) or (owner in given.owners and there):
            return None
    return _FOREIGN % (found.real, owner, "removed")


def open_behind(path: str) -> Found | None:
    """What a symbolic link leads to that only root can have made; None for any other link.

    Only root can have made a link that root owns in a directory that nobody else can write, nor
    any directory above it. /proc/self/fd/1 and the like (images have logs that lead there) stand
    for the nameless pipe or socket, or the terminal, that it is, but not for a file: who calls sudo
    chooses it. Nor does a link stand for a device. Raises FileNotFoundError or NotADirectoryError
    where it leads nowhere, OSError for a loop, and Unsafe.
    """
    for _ in range(40):  # path_resolution(7)
        path = walk.resolve(path)
        parent, name = split(path)
        at = walk.directory(parent)
        found = find_at(at.fd, name or ".", path, at.sole)
        if not stat.S_ISLNK(found.status.st_mode):
            if stat.S_ISCHR(found.status.st_mode) or stat.S_ISBLK(found.status.st_mode):
                found.close()
                return None
            return found
        found.close()
        if at.sole != ROOT_ONLY or not trusted(found.status.st_uid):
            return None
        if at.real == f"/proc/{os.getpid()}/fd":
            return _stream(name, at, path)
        target = os.readlink(name, dir_fd=at.fd)
        path = target if target.startswith("/") else join(at.real, target)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _stream(name: str, at: Directory, path: str) -> Found | None:
    """What a descriptor of this process is, if it has no name, or is a terminal; else None.

    O_PATH opens also what its caller may neither read nor write (open(2)).
    """
    flags = kernel.read(f"/proc/self/fdinfo/{name}").partition(b"flags:")[2].split()[0]
    if int(flags, 8) & os.O_PATH:
        return None
    found = Found(os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=at.fd), path, at.sole)
    status = found.status
    if stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _TERMINALS:
        return found
    if os.readlink(name, dir_fd=at.fd).startswith(("pipe:[", "socket:[")):
        return found
    found.close()
    return None
