"""What a run changed: the upper layer of a sandbox's overlay, read from outside.

The layer is the exact list; nothing here asks the program that was run.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Change:
    """What one path has become since the mark.

    Two changes are equal when a reader of the file could not tell them apart: mtime is left out.
    """

    kind: str  # file, directory, link, fifo, socket, char, block, removed
    uid: int = 0
    gid: int = 0
    mode: int = 0  # permission bits with setuid, setgid, sticky
    digest: str = ""  # SHA-256 of a file's content
    target: str = ""  # of a link
    xattrs: tuple[tuple[str, bytes], ...] = ()
    mtime_ns: int = field(default=0, compare=False)

    def same_as(self, other: "Change") -> bool:
        """Equal, and not even written to: a file rewritten with its own content is a change."""
        return self == other and (self.kind == "directory" or self.mtime_ns == other.mtime_ns)


REMOVED = Change("removed")


class Changes:
    """The part of a sandbox that knows what changed since a mark."""

    upper: str  # the layers, as this process reaches them
    _lower: str
    _marked: dict[str, Change]

    def mark(self, earlier: dict[str, Change] | None = None) -> dict[str, Change]:
        """From here on, changes() counts from the present state, or from that of an earlier mark.

        Returns that state.
        """
        self._marked = self._layer() if earlier is None else earlier
        return self._marked

    def changes(self) -> dict[str, Change]:
        """Every path that differs from the mark, and how it stands now.

        A directory that is gone is one entry, without what was in it. A directory that is only
        there because something in it changed is none. What lies on other mounts inside (/proc,
        /dev, whatever a test mounted) is not seen.
        """
        now = self._layer()
        found: dict[str, Change] = {}
        for path, change in now.items():
            before = self.before(path)
            if before is None:
                if change.kind != "removed":
                    found[path] = change
            elif not change.same_as(before):
                found[path] = change
        for path, before in self._marked.items():
            if path in now or before.kind == "removed":
                # A whiteout that is gone without anything in its place cannot be: overlayfs
                # keeps it as long as the lower layer has the name.
                continue
            if not any(above in found and _gone(found[above]) for above in _above(path)):
                found[path] = REMOVED
        return dict(sorted(found.items()))

    def files(self) -> Iterator[tuple[str, str]]:
        """Each regular file that is not as below: its path inside, and as this process reaches it.

        Also one whose place something is mounted over, or that lies behind a closed directory.
        """
        for top, _, names in os.walk(self.upper):
            for name in names:
                host = f"{top}/{name}"
                if stat.S_ISREG(os.lstat(host).st_mode):
                    yield host.removeprefix(self.upper), host

    def before(self, path: str) -> Change | None:
        """The path's state at the mark, or None if it was not there."""
        marked = self._marked.get(path)
        if marked is not None:
            return None if marked.kind == "removed" else marked
        for above in _above(path):
            at_mark = self._marked.get(above)
            if at_mark is not None and at_mark.kind != "directory":
                return None
        try:
            return look(self._lower + path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _layer(self) -> dict[str, Change]:
        """The upper layer: overlayfs.rst of the kernel, "whiteouts and opaque directories"."""
        found: dict[str, Change] = {}

        def walk(inside: str) -> None:
            with os.scandir(self.upper + inside) as entries:
                names = [entry.name for entry in entries]
            if inside and _opaque(self.upper + inside):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    for name in os.listdir(self._lower + inside):
                        if name not in names:
                            found[f"{inside}/{name}"] = REMOVED
            for name in names:
                path = f"{inside}/{name}"
                change = look(self.upper + path)
                found[path] = change
                if change.kind == "directory":
                    walk(path)

        walk("")
        return found


def _gone(change: Change) -> bool:
    return change.kind != "directory"


def _above(path: str) -> Iterator[str]:
    """The directories above, nearest first, without the root."""
    while (path := path.rpartition("/")[0]) != "":
        yield path


_KINDS: dict[int, str] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


def look(path: str) -> Change:
    st = os.lstat(path)
    kind = _KINDS[stat.S_IFMT(st.st_mode)]
    if kind == "char" and st.st_rdev == 0:
        return REMOVED
    digest = ""
    if kind == "file":
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Change(
        kind,
        st.st_uid,
        st.st_gid,
        stat.S_IMODE(st.st_mode),
        digest,
        os.readlink(path) if kind == "link" else "",
        _xattrs(path),
        st.st_mtime_ns,
    )


def _xattrs(path: str) -> tuple[tuple[str, bytes], ...]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return ()
    return tuple(
        (name, os.getxattr(path, name, follow_symlinks=False))
        for name in names
        if not name.startswith("trusted.overlay.") and name != "security.selinux"
    )


def _opaque(path: str) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False
