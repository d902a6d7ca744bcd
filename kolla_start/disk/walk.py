"""How a path is gone along, and who could have put there what is found.

On the container-start path: the standard library alone.

The walk is on directory descriptors, and a step is refused where a non-root user could have chosen
what lies behind it:

- a symbolic link is followed only if root owns it and only root can replace it;
- from a directory that somebody else can write the way leads on only to its owner's own, to a mount
  point, to a directory of root that nobody else can write (rename(2) needs write permission on a
  directory to move it to another parent, so nobody else can have put it there), or to one in which
  the document names something, if its owner is whom that is given to, or that one can read it.

Who could have put a thing there is said of the whole way: one number for each directory,
sole_writer(). Below the mounted configuration, which is the operator's, every step is taken.

Descriptors are remembered by the real paths of directories, never by another name for one, and
whoever writes to a path has it forgotten first: forget().
"""

from __future__ import annotations

import errno
import posix as os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Whether the document lets a step be taken: from, to, the real path of that, and it, open.
    MayStep = Callable[[os.stat_result, os.stat_result, str, int | None], bool]
    # What stands at a path in the state that a walk is to see: nothing (False), a directory (True),
    # a link to somewhere (its target), or whatever the disk has (None).
    Stands = bool | str | None

PATH_ONLY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = PATH_ONLY | os.O_DIRECTORY

PATH_MAX = 4096  # limits.h; a tree can be deeper
WIDE = 4096  # directories in one, beyond which the next are listed when these are done
_MAX_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_REMEMBERED = 12  # descriptors; a start must work with RLIMIT_NOFILE 64

# Where Kubernetes names the generation of a volume: D/..data leads to D/..2026_11_25…, and is
# replaced by rename(2) when the volume changes (kubernetes, pkg/volume/util/atomic_writer.go).
GENERATION = "..data"

ROOT_ONLY = 0
SEVERAL = -1


class Unsafe(Exception):
    """A step that a non-root user could have prepared. The message names the path and says why."""


def join(parent: str, name: str) -> str:
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


def split(path: str) -> tuple[str, str]:
    head, _, name = path.rpartition("/")
    return head or "/", name


def ancestors(path: str) -> Iterator[str]:
    """The directories above a path, nearest first, "/" last."""
    while path != "/":
        path = split(path)[0]
        yield path


def identity(status: os.stat_result) -> tuple[int, int]:
    """What an object is, whatever its name: device and inode number."""
    return status.st_dev, status.st_ino


def trusted(uid: int) -> bool:
    """Whether what belongs to this user is as good as root's own."""
    return uid == 0 or uid == os.geteuid()


def private(status: os.stat_result) -> bool:
    """Whether only root, or this very user, can write to it: the mask of an ACL is in the mode."""
    return not status.st_mode & 0o022 and trusted(status.st_uid)


class Directory:
    """An open directory (O_PATH), good until its walk is called again.

    private: nobody but root (and this very user) can write it
    sole:  who could have put something into it, or moved it or one above it: see sole_writer()
    mover: who could have moved it or one above it
    """

    __slots__ = ("fd", "mover", "private", "real", "sole", "status")

    def __init__(
        self, fd: int, real: str, status: os.stat_result, mover: int, free: bool = False
    ) -> None:
        self.fd = fd
        self.real = real
        self.status = status
        self.private = private(status)
        self.mover = mover
        self.sole = mover if free else sole_writer(mover, status, fd)

    def mover_of(self, status: os.stat_result) -> int:
        """Who could have moved what lies in it."""
        return self.mover if stays_put(self.status, status) else self.sole


def stays_put(above: os.stat_result, status: os.stat_result) -> bool:
    """Whether who can write a directory cannot move what lies in it: a mount point (rename(2),
    EBUSY), or what is private() to root, in root's directory with the sticky bit (inode(7)).
    """
    sticky = above.st_mode & stat.S_ISVTX and trusted(above.st_uid)
    return status.st_dev != above.st_dev or bool(sticky and private(status))


def sole_writer(above: int, status: os.stat_result, fd: int | None) -> int:
    """The one user beside root who can change what is in an open directory, or where it is.

    ROOT_ONLY where there is none, SEVERAL where there are more than one, or a group of others.
    `above` is the same of the directory that it lies in. What is yet to be made (None) has no ACL.
    """
    own = status.st_uid
    if private(status):
        own = ROOT_ONLY
    elif status.st_mode & 0o002 or (status.st_mode & 0o020 and not _own_group(status, fd)):
        own = SEVERAL
    if above in (ROOT_ONLY, own) or own == ROOT_ONLY:
        return own or above
    return SEVERAL


def _own_group(status: os.stat_result, fd: int | None) -> bool:
    """Whether the group of an open file is its owner's alone, and no ACL names others."""
    from kolla_start import accounts

    return (fd is None or not has_acl(fd)) and accounts.alone(status.st_uid, status.st_gid)


def can_read(uid: int, status: os.stat_result, fd: int | None) -> bool:
    """Whether a user can read an open file, or list and pass a directory, by its mode.

    The mode says it only where there is no ACL (acl(5)); where there is one the answer is no. What
    is yet to be made (None) has none.
    """
    if trusted(uid):
        return True
    from kolla_start import accounts

    bits = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    if status.st_uid == uid:
        bits <<= 6
    elif status.st_gid in accounts.groups(uid):
        bits <<= 3
    return status.st_mode & bits == bits and (fd is None or not has_acl(fd))


def has_acl(fd: int) -> bool:
    """Whether an open file (O_PATH as well) has an access or a default ACL."""
    try:
        return any(name.startswith(ACL) for name in os.listxattr(f"/proc/self/fd/{fd}"))
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
            raise
        return False


ACL = "system.posix_acl_"


class Walk:
    """A way of going along paths, and the directories that it holds open.

    Below `free`, which ends in /, all is the operator's, or out of others' reach: every step goes.
    With `steps` every step goes, and links are judged.
    """

    def __init__(self, free: str = "\0", steps: bool = False) -> None:
        self.free = free
        self._steps = steps
        self._open: dict[str, Directory] = {}
        # Directory -> the generation of its volume that is read, whatever comes after it.
        self.generations: dict[str, str] = {}

    def directory(self, path: str) -> Directory:
        """Open the directory at a real path: no link stands in it, nor at its end.

        Raises Unsafe, FileNotFoundError, NotADirectoryError (also for a link) or another OSError
        with the path.
        """
        found = self._open.get(path)
        if found is not None:
            return found
        # From the nearest directory that is open already: a tree may be thousands deep.
        near = path
        while near != "/" and near not in self._open:
            near = split(near)[0]
        here = self._open.get(near) or self._root()
        for name in path[len(near) :].split("/"):
            if name:
                here = self._enter(here, name)
        return here

    def _root(self) -> Directory:
        found = self._open.get("/")
        if found is None:
            fd = os.open("/", _DIRECTORY)
            found = self._open["/"] = Directory(fd, "/", os.fstat(fd), ROOT_ONLY)
        return found

    def _enter(self, here: Directory, name: str) -> Directory:
        real = join(here.real, name)
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=here.fd)
        except OSError as error:
            raise _with_path(error, real, errno.ELOOP) from None
        status = os.fstat(fd)
        free = real.startswith(self.free)
        try:
            if not free and not self._steps:
                refuse_step(here.status, status, real, fd)
        except BaseException:
            os.close(fd)
            raise
        if len(self._open) >= _REMEMBERED:
            # The older half; whoever goes down two trees at once still needs the others.
            self._close([known for known in self._open if known != "/"][: _REMEMBERED // 2])
        found = self._open[real] = Directory(fd, real, status, here.mover_of(status), free)
        return found

    def resolve(
        self,
        path: str,
        stands: Callable[[str], Stands] | None = None,
        follow: bool = False,
        through: list[str] | None = None,
    ) -> str:
        """The real path: the links among its parents followed, with `follow` its last one too.

        What does not exist is kept as it is written. `stands` says what is to be seen at a real
        path in place of what the disk has; links of the disk that are followed go to `through`.
        Raises Unsafe, and OSError with the path: ENOTDIR, or ELOOP for a circle.
        """
        here, links, there = "/", 0, True
        todo = path.split("/")[::-1]
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                here = split(here)[0]
                continue
            here = join(here, name)
            if not there or not (follow or any(todo)):
                continue
            found = stands(here) if stands is not None else None
            if found is None:
                found = self._found(here, last=not any(todo))
                if through is not None and isinstance(found, str):
                    through.append(here)
            if isinstance(found, str):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), here)
                here = split(here)[0]
                if found.startswith("/"):
                    here = "/"
                todo += found.split("/")[::-1]
            else:
                there = found
        return here

    def _found(self, real: str, last: bool) -> bool | str:
        """What the disk has at a real path: a directory, nothing, or a link that is followed."""
        try:
            self.directory(real)
        except Unsafe:
            if not last:
                raise
            # Nobody has said that it is to be gone into; whoever does is told.
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            parent, name = split(real)
            return self.link(self.directory(parent), name)
        return True

    def link(self, at: Directory, name: str) -> str:
        """The target of a symbolic link in an open directory, if it may be followed.

        Of a volume's generations the first that was met. Raises Unsafe and OSError with the path:
        ENOTDIR where it is no link.
        """
        real = join(at.real, name)
        if at.real.startswith("/proc/"):
            raise Unsafe(
                f"{real} leads to whatever a process has open, not to a place; name the place"
            )
        try:
            target = os.readlink(name, dir_fd=at.fd)
        except OSError as error:
            raise _with_path(error, real, errno.EINVAL) from None
        if not real.startswith(self.free):
            owner = os.stat(name, dir_fd=at.fd, follow_symlinks=False).st_uid
            if not trusted(owner) or not trusted(at.status.st_uid) or _exchanger(at) != ROOT_ONLY:
                raise replaceable(real)
        if name == GENERATION:
            target = self.generations.setdefault(at.real, target)
        return target

    def forget(self, path: str = "/") -> None:
        """Close what is remembered at and below a path, but "/": it may be another thing now."""
        at = path.rstrip("/") + "/"
        self._close([real for real in self._open if f"{real}/".startswith(at) and real != "/"])

    def _close(self, paths: list[str]) -> None:
        for path in paths:
            os.close(self._open.pop(path).fd)


def _exchanger(at: Directory) -> int:
    """Who could have put a link of root's into a directory, or that one in place of another."""
    # A volume of the kubelet's is open to all by its mode, and mounted read-only.
    read_only = not at.private and os.fstatvfs(at.fd).f_flag & os.ST_RDONLY
    return ROOT_ONLY if read_only else at.sole if at.private else SEVERAL


def _with_path(error: OSError, real: str, other_kind: int) -> OSError:
    """The error of a call with a name alone; ENOTDIR for the one that says what it is not.

    No other: what cannot be looked at is not what is not there.
    """
    code = errno.ENOTDIR if error.errno == other_kind else error.errno
    return OSError(code, os.strerror(code or 0), real)


def replaceable(link: str) -> Unsafe:
    """What is against following a symbolic link that is not root's alone."""
    what = f"{link} is a symbolic link that others than root can replace; it is not followed"
    return Unsafe(f"{what}: name the place it points to")


def refuse_step(above: os.stat_result, here: os.stat_result, real: str, fd: int | None) -> None:
    """Raises Unsafe for a step into an open directory that somebody could have prepared.

    Without a descriptor it is one that is yet to be made, and will have no ACL.
    """
    if not (
        private(above)
        or here.st_uid == above.st_uid
        or here.st_dev != above.st_dev  # a mount: only root puts one there
        or private(here)
        or (_may_step is not None and _may_step(above, here, real, fd))
    ):
        whose = "that others can write" if trusted(above.st_uid) else f"of uid {above.st_uid}"
        raise Unsafe(
            f"{real} belongs to uid {here.st_uid} but lies in a directory {whose}, who could have "
            "moved it there; name it under `directories` with its owner, give both one owner, or "
            "remove it"
        )


_may_step: MayStep | None = None  # given.declare()


def ask(may_step: MayStep) -> None:
    """From then on a step is taken also where this says so."""
    global _may_step
    _may_step = may_step


def sole_at(path: str) -> int:
    """Who could put something at a path: sole_writer() of the nearest directory there is.

    Raises Unsafe and OSError.
    """
    for place in ancestors(path):
        try:
            return directory(place).sole
        except (FileNotFoundError, NotADirectoryError):
            pass
    return ROOT_ONLY


ours = Walk()
as_it_is = Walk(free="/")  # for what is known already, or shown to nobody else
directory = ours.directory
resolve = ours.resolve


def forget(path: str = "/") -> None:
    """What is at and below a path may be another thing from now on."""
    ours.forget(path)
    as_it_is.forget(path)
