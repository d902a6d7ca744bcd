"""Where the records of a container are, and whether they are believed.

On the container-start path. They lie in /etc/kolla and beside it, or, where `/` cannot be written,
under /run/kolla. They are believed only where nobody but root (and this very user) can have written
them, or any directory above them; who can write /etc itself is root in all but name.
"""

from __future__ import annotations

import posix as os
import stat

from kolla_start import log
from kolla_start.disk import read, remove, storage, walk, write
from kolla_start.disk.walk import Unsafe, split

READ_ONLY_HOME = "/run/kolla"
PREFIXES = ("", READ_ONLY_HOME)  # of all the places that there are

_FILES = frozenset(("state", "kolla_start", "lock"))  # beside the originals


class Home:
    """Where the records of this container are.

    base: their directory, and what else is remembered in it; a link of the image is followed here,
          once, so that everybody speaks of the real place
    """

    __slots__ = (
        "base", "certificates", "configured", "defaults", "lock", "options", "own", "prefix",
        "run_command", "state",
    )  # fmt: skip

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.base = prefix or _real("/etc/kolla")
        self.run_command = f"{prefix}/run_command"
        self.configured = f"{prefix}/configured"
        self.defaults = f"{self.base}/defaults"
        self.options = f"{self.base}/options"
        # Not in the defaults directory, which is root's alone: the service user asks for it, too.
        self.certificates = f"{self.base}/cacerts-pending"
        self.state = f"{self.defaults}/state"
        self.own = f"{self.defaults}/kolla_start"
        self.lock = f"{self.defaults}/lock"

    def kept(self, path: str) -> str:
        """Where the original of a path is kept: upstream's place, but clear of our own files."""
        first = path.split("/", 2)[1]
        ours = first in (*_FILES, "cacerts", "root")
        clear = "/root" if ours or remove.is_temporary(first) else ""
        return f"{self.defaults}{clear}{path}"

    def believed(self) -> bool:
        """Whether nobody but root, or this very user, can have put records here.

        Raises OSError, and Unsafe.
        """
        return not any(open_to_others(path) for path in (self.state, self.options))

    def configured_before(self) -> bool:
        """Whether COPY_ONCE has succeeded here, as far as that can be believed. Raises as above."""
        return holds(self.configured) and self.believed()


def _real(path: str) -> str:
    """The path, its links followed if only root can have made them."""
    try:
        return walk.resolve(path, follow=True)
    except (OSError, Unsafe):
        return path  # What is wrong with it is said where it is used.


def holds(path: str) -> bool:
    """Whether a record is there, and believed. Raises OSError, and Unsafe."""
    return not open_to_others(path) and read.lstat(path) is not None


def open_to_others(path: str) -> bool:
    """Whether somebody else can have put a record there; judged by the nearest directory there is.

    Whoever can write /etc says who root is (passwd(5)) and what its programs load (ld.so(8)), and
    is not to be kept from anything. Below it only root can have filled a directory that is root's
    and that nobody else can write: rename(2) brings none of the kind from elsewhere. And what lies
    in a directory that is root's alone by now may have come there before: it must be root's.
    """
    if _is_others(path):
        return True
    there = True
    while True:
        path = split(path)[0]
        if path == "/etc":
            return False
        try:
            found = walk.directory(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            # Root will make it, for nobody else to write; what is no directory others can have put.
            there, path = isinstance(error, NotADirectoryError), str(error.filename)
        except (Unsafe, PermissionError):
            return True
        else:
            return not (found.private if path.startswith("/etc/") else _roots_alone(path, there))


def _is_others(path: str) -> bool:
    try:
        status = read.lstat(path)
    except Unsafe:
        return True
    except PermissionError:
        return False  # root's alone, then: who may not look is the service user
    if status is None or stat.S_ISDIR(status.st_mode):
        return False  # of a directory it is what lies in it that is asked for
    return not walk.private(status) or status.st_nlink > 1


def _roots_alone(path: str, there: bool) -> bool:
    """Whether nobody else can write a directory, or put another at its path: a group of root's own
    may be the service's by the document. `there`: what is in question is in it already; else root
    makes it, and nobody else can move that out of a directory with the sticky bit (inode(7)).
    """
    own = not there
    for place in (path, *walk.ancestors(path)):
        found = walk.directory(place)
        sticky = found.status.st_mode & stat.S_ISVTX and walk.trusted(found.status.st_uid)
        if not (found.private or (sticky and own)):
            return False
        own = found.private
    return True


def home() -> Home:
    """The records' place for whoever runs the privileged stage (root, or this very user).

    `/` counts as not writable where its mount is read-only (statvfs(3)) and, for a user that
    works without sudo, where its mode says so.
    """
    if os.geteuid() == 0:
        return shared_home()
    return Home("" if os.access("/", os.W_OK) else READ_ONLY_HOME)


def shared_home() -> Home:
    """The place that root's stage chose, as the unprivileged stage that follows it sees it."""
    return Home(READ_ONLY_HOME if os.statvfs("/").f_flag & os.ST_RDONLY else "")


def recorded(path: str) -> bytes | None:
    """What a record holds; None where there is none, or none that is believed."""
    return None if open_to_others(path) else read.content(path)


def prepare(place: Home) -> None:
    """Make the records' directory. Root's alone: the originals of secrets lie in it.

    What is not believed is put away, and the directory that it lies in (/run/kolla, an emptyDir
    that is open to all, say) becomes private first: the next start can then believe what this one
    leaves. Raises OSError and Unsafe.
    """
    if not place.believed():
        records = (place.defaults, place.options, place.run_command, place.certificates)
        # What is not believed did not succeed once, whoever says so.
        planted = [*(path for path in records if open_to_others(path)), place.configured]
        if open_to_others(place.state):
            planted.append(place.defaults)
        _take(place.base)
        for path in planted:
            _put_away(path)
    for made in write.make_parents(place.lock):
        storage.sync_directory(split(made)[0])
    status = read.lstat(place.defaults)
    if status is None or stat.S_IMODE(status.st_mode) != 0o700 or status.st_uid != os.geteuid():
        write.make_directory(place.defaults, 0o700)
    if place.believed():
        walk.ours.free = f"{place.defaults}/"


def _take(path: str) -> None:
    """Make a directory that others can write this process's own, if the system lets it."""
    try:
        if not walk.directory(path).private:
            write.make_directory(path, 0o755)
    except Unsafe:
        _put_away(path)  # somebody's own, where it should be
    except (FileNotFoundError, PermissionError):
        pass  # What is recorded in it is not believed, then.


def _put_away(path: str) -> None:
    """Let nothing be at a record's place. What may hold an image's originals is kept beside it.

    Nor is it ours to remove: who can write there can have moved a neighbour's tree to it.
    """
    try:
        if set(read.names(path)) <= _FILES:
            remove.remove(path)  # no original in it
            return
    except (OSError, Unsafe):
        pass
    aside = remove.set_aside(path)
    if aside is not None:
        log.warning(f"{path}: others could have put it there; it is kept as {aside}")
