"""What is copied: found once, and known again when it is opened.

On the container-start path: the standard library alone. Nothing here writes.

A source is found by safe steps, or, below the mounted configuration, by the operator's own. What
was learnt of it then (owner, mode, size, times, which file it is) is compared with the descriptor
that its content is read from: what is not what it was is Changed, and the plan is made anew.

A volume of Kubernetes changes under a start: the kubelet exchanges the link ..data. The generation
that was met first is read to the end (walk.Walk.link()), and settled() says at the end of the work
whether it is still the one.
"""

from __future__ import annotations

import errno
import posix as os
import stat

from kolla_start.disk import planted, read, walk
from kolla_start.disk.walk import Unsafe, Walk, join, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.disk.walk import Stands

_MAX_LINKS = 40  # path_resolution(7)

MOUNTED = "/var/lib/kolla/config_files"

_operators = Walk(free=f"{MOUNTED}/")
_walks = (_operators, walk.as_it_is, walk.ours)


def is_operators(real: str) -> bool:
    """Whether a path lies below the mounted configuration."""
    return real.startswith(_operators.free)


class Over:
    """A final state that lies over the disk.

    through: the links of the disk that were followed
    """

    def __init__(self) -> None:
        self.through: list[str] = []

    def stands(self, real: str) -> Stands:
        """What is to be seen at a real path on the way to others (walk.Walk.resolve())."""
        raise NotImplementedError

    def planned(self, path: str, real: str) -> Source | None:
        """The source that will be at a real path, known as `path`; None for what the disk has.

        Raises FileNotFoundError where there will be none.
        """
        raise NotImplementedError


class Changed(Exception):
    """A source is not what the plan saw. The message names it."""


class Dangling(FileNotFoundError):
    """The source is a link that leads nowhere."""


class Source:
    """A file, directory or link to be copied.

    path:   as the document spells it
    real:   where it was found, or will be
    kept:   where it lies, if that is not there: an original that has been saved
    status: what it was then
    target: of a link
    kind:   of what (stat.S_IFMT())
    owner:  owner, group and mode
    lasts:  it has times and attributes of its own, which the next start will find as well
    """

    __slots__ = ("_by", "kept", "kind", "lasts", "owner", "path", "real", "status", "target")

    def __init__(
        self, path: str, real: str, status: os.stat_result, target: str, by: Walk, kept: str = ""
    ) -> None:
        self.path = path
        self.real = real
        self.kept = kept or real
        self.status = status
        self.target = target
        self.kind = stat.S_IFMT(status.st_mode)
        self.owner = status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)
        self.lasts = True
        self._by = by

    def copied(self) -> Source | None:
        """What a copy takes its content, times and attributes from."""
        return self

    def open(self) -> int:
        """A descriptor of the very thing that was found (of a link or special file by O_PATH).

        Raises Changed where it is another one by now, and OSError with the path.
        """
        kind = self.status.st_mode
        plain = stat.S_ISREG(kind) or stat.S_ISDIR(kind)
        parent, name = split(self.kept)
        try:
            at = self._by.directory(parent)
            fd = os.open(name or ".", read.READ if plain else walk.PATH_ONLY, dir_fd=at.fd)
        except Unsafe:
            raise Changed(f"{self.path} has changed") from None
        except OSError as error:
            if error.errno in read.NOTHING:
                raise Changed(f"{self.path} has changed") from None
            raise OSError(error.errno, error.strerror, self.path) from None
        try:
            self.unchanged(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def unchanged(self, fd: int) -> None:
        """Raises Changed if an open file is not what was found, or has been written to since."""
        now, then = os.fstat(fd), self.status
        if (
            now.st_ino != then.st_ino
            or now.st_ctime_ns != then.st_ctime_ns
            or now.st_mtime_ns != then.st_mtime_ns
            or now.st_size != then.st_size
            or now.st_mode != then.st_mode
            or now.st_dev != then.st_dev
            or now.st_uid != then.st_uid
            or now.st_gid != then.st_gid
        ):
            raise Changed(f"{self.path} has changed")

    def readable(self) -> bool:
        """Whether this process can read it: mostly its mode says so, and asking costs a call."""
        if self.status.st_mode & 0o444 == 0o444:
            return True
        parent, name = split(self.kept)
        at = self._by.directory(parent)
        return os.access(name or ".", os.R_OK, dir_fd=at.fd, effective_ids=True)

    def content(self) -> bytes:
        """All of a regular file. Raises as open()."""
        fd = self.open()
        try:
            data = read.whole(fd)
            self.unchanged(fd)
        finally:
            os.close(fd)
        return data

    def attributes(self) -> dict[str, bytes]:
        """Its extended attributes (read.attributes()). Raises as open()."""
        fd = self.open()
        try:
            plain = stat.S_ISREG(self.status.st_mode) or stat.S_ISDIR(self.status.st_mode)
            return read.attributes(fd if plain else f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    def names(self) -> list[str]:
        """The names in a directory, sorted. Raises as open()."""
        fd = self.open()
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def inside(self, name: str, links: bool, over: Over | None = None) -> Source:
        """What is in a directory under a name. Raises as find()."""
        path = f"{self.path.rstrip('/')}/{name}"
        return _find(path, join(self.real, name), links, over)

    def refuse_planted(self, sole: int | None = None) -> None:
        """Raises Unsafe for what somebody could have put there so that root copies it.

        `sole` is the sole_writer() of its directory, if not as it is now.
        """
        if self.kind == stat.S_IFDIR or is_operators(self.real):
            return
        if sole is None:
            sole = walk.sole_at(self.real)
        if self.kind != stat.S_IFLNK:
            planted.refuse_to_read(self.path, self.status, sole)
        elif sole != walk.ROOT_ONLY or not walk.trusted(self.status.st_uid):
            raise Unsafe(
                f"{self.path} was a symbolic link that others could replace; it is not followed: "
                "name the place it points to"
            )


class Null(Source):
    """/dev/null: an empty file, whatever becomes of the device."""

    __slots__ = ()

    def open(self) -> int:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def unchanged(self, fd: int) -> None:
        pass


def null(found: Source) -> Source:
    """The same source as an empty file."""
    return Null(found.path, found.real, found.status, "", _operators)


def find(path: str, links: bool = False, over: Over | None = None) -> Source:
    """The source at an absolute path, as a final state has it that lies over the disk.

    Below the mounted configuration every step is taken. `links`: a link that does not lead to a
    directory is the source itself. One that ends in / is a directory. Raises FileNotFoundError or
    NotADirectoryError, Dangling, OSError, and Unsafe for what somebody else could have put there.
    """
    return _find(path, _resolve(path, over), links, over)


def _find(path: str, real: str, links: bool, over: Over | None) -> Source:
    leaf: Source | None = None
    for _ in range(_MAX_LINKS):
        try:
            found = (over and over.planned(path, real)) or _on_disk(path, real)
        except (FileNotFoundError, NotADirectoryError) as error:
            if leaf is None:
                raise OSError(error.errno, error.strerror, path) from None
            if links:
                return leaf
            raise Dangling(errno.ENOENT, "is a link that leads nowhere", path) from None
        if found.kind != stat.S_IFLNK:
            if found.kind != stat.S_IFDIR:
                if path.endswith("/"):
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                if links and leaf is not None:
                    return leaf
            found.refuse_planted()
            return found
        leaf = leaf or found
        if over is not None and found.kept == found.real:
            over.through.append(found.real)
        target = found.target
        if not target.startswith("/"):
            target = join(split(found.real)[0], target)
        real = _resolve(target, over)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _resolve(path: str, over: Over | None) -> str:
    if over is None:
        return _operators.resolve(path)
    return _operators.resolve(path, over.stands, through=over.through)


def _on_disk(path: str, real: str) -> Source:
    """What the disk has. Raises OSError, and Unsafe for a link that is not followed."""
    by = _operators
    parent, name = split(real)
    try:
        at = by.directory(parent)
        status = os.stat(name or ".", dir_fd=at.fd, follow_symlinks=False)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    target = by.link(at, name) if stat.S_ISLNK(status.st_mode) else ""
    return Source(path, real, status, target, by)


def walking() -> Walk:
    """The walk by which sources are found."""
    return _operators


def matches(pattern: str) -> list[str]:
    """What a shell pattern with magic in it finds. Raises OSError and Unsafe."""
    return read.matches(pattern, read.Disk(_operators))


def original(place: str, path: str = "", real: str = "") -> Source | None:
    """What is at a real place itself, whatever it is: an image default, or the copy of one.

    Known as `path`, and as what was at the path `real`. Every step is taken, for a copy of it is
    root's alone, and given back as it was; no link is.
    """
    parent, name = split(place)
    try:
        at = walk.as_it_is.directory(parent)
        status = os.stat(name or ".", dir_fd=at.fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OSError(error.errno, error.strerror, place) from None
    target = os.readlink(name, dir_fd=at.fd) if stat.S_ISLNK(status.st_mode) else ""
    return Source(path or place, real or place, status, target, walk.as_it_is, place)


def begin() -> None:
    """Forget what earlier looks have found: all sources are met anew."""
    for each in _walks:
        each.forget()
        each.generations.clear()


def settled() -> None:
    """Raises Changed if a volume that was read has another generation by now."""
    for each in _walks:
        for place, target in each.generations.items():
            try:
                now = os.readlink(walk.GENERATION, dir_fd=each.directory(place).fd)
            except (OSError, Unsafe):
                now = ""
            if now != target:
                raise Changed(f"the volume at {place} has changed")


def rest() -> None:
    """Close what was opened on the way to sources."""
    _operators.forget()
    walk.as_it_is.forget()
