"""What the trees of a start should have, for `permissions`, and what has become of it.

On the container-start path, imported for `permissions` only: the standard library alone. It must
not decide what is right: whoever makes a Sweep answers that, for a whole directory at once where it
can.

A link that only root can have made stands for what it leads to. That has its owner set once, as the
last link to it has it: before the link, or the directory that it lies in, is given away, and then
stands for nothing; else when all trees are done.
"""

from __future__ import annotations

import errno
import posix as os
import stat

from kolla_start.disk import planted
from kolla_start.disk.read import is_null
from kolla_start.disk.walk import Unsafe, identity, trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # What a thing should have: uid, gid, mode of files, mode of directories (None: as it is).
    Wanted = tuple[int, int, int | None, int | None]
    # For the entries of a directory: one answer for all of them, or a function of the full path.
    Rule = Wanted | Callable[[str], Wanted | None]


# What a link leads to cannot be set, now or later: path_resolution(7), capabilities(7).
_LASTING = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)


class Hidden(Exception):
    """What a link leads to cannot be seen to just now: errno, what that means, the path.

    Nothing else is given away then: no later start could tell that it was the image's link.
    """


class Sweep:
    """What the trees of one start should have, and what has become of it.

    rule(path):  what the entries of a directory should have ("" asks for a top itself)
    becomes(path): what a directory itself has after this start, by whatever section
    named(path): whether the document speaks of what a link leads to under that path
    failed(path, error): is told what could not be set; the walk goes on with the rest
    """

    def __init__(
        self,
        rule: Callable[[str], Rule],
        becomes: Callable[[str], Wanted | None],
        named: Callable[[str], bool],
        failed: Callable[[str, Exception], None],
    ) -> None:
        self.rule = rule
        self._becomes = becomes
        self._named = named
        self._failed = failed
        self._behind: dict[tuple[int, int], tuple[str, Wanted]] = {}
        self._links: list[tuple[str, os.stat_result, Wanted]] = []
        self.mended = 0
        self.failures = 0

    def failed(self, path: str, error: Exception) -> None:
        self.failures += 1
        self._failed(path, error)

    def wanted(self, directory: str, path: str) -> Wanted | None:
        """What one path should have; `directory` is that which it lies in, "" for a top."""
        answer = self.rule(directory)
        return answer if isinstance(answer, tuple) else answer(path)

    def stays(self, directory: str) -> bool:
        """Whether a directory of root's alone is still that after this start."""
        wanted = self._becomes(directory)
        return wanted is None or (trusted(wanted[0]) and not (wanted[3] or 0) & 0o022)

    def link(self, path: str, status: os.stat_result, wanted: Wanted) -> None:
        """Note a link that is to be given away itself, after what it leads to."""
        self._links.append((path, status, wanted))

    def follow(self, path: str, wanted: Wanted) -> None:
        """Note what a link leads to that only root can have made. Raises Hidden."""
        try:
            found = planted.open_behind(path)
            if found is None:
                return
            try:
                # What the document names itself has the owner that it names.
                if not self._named(found.real):
                    if differs(found.status, wanted):
                        found.refuse_planted(wanted[0], mode_of(found.status.st_mode, wanted))
                    self._behind[identity(found.status)] = found.real, wanted
            finally:
                found.close()
        except (FileNotFoundError, NotADirectoryError):
            pass  # It leads nowhere.
        except (OSError, Unsafe) as error:
            self._missed(path, error)

    def _missed(self, path: str, error: OSError | Unsafe) -> None:
        if isinstance(error, OSError) and error.errno not in _LASTING:
            raise Hidden(error.errno, error.strerror, path) from error
        self.failed(path, error)

    def settle(self) -> None:
        """Set what links led to, then the links. Raises Hidden."""
        behind, self._behind = self._behind, {}
        links, self._links = self._links, []
        for known, (path, wanted) in behind.items():
            try:
                self._set_behind(known, path, wanted)
            except FileNotFoundError:
                pass
            except (OSError, Unsafe) as error:
                self._missed(path, error)
        for path, status, wanted in links:
            try:
                found = planted.find_again(path, status, wanted[0])
            except FileNotFoundError:
                continue
            except (OSError, Unsafe) as error:
                self.failed(path, error)
                continue
            try:
                found.set_owner(wanted[0], wanted[1], None)
                self.mended += 1
            except OSError as error:
                self.failed(path, error)
            finally:
                found.close()

    def _set_behind(self, known: tuple[int, int], path: str, wanted: Wanted) -> None:
        found = planted.open_behind(path)
        if found is None:
            return
        try:
            if identity(found.status) == known and differs(found.status, wanted):
                mode = mode_of(found.status.st_mode, wanted)
                found.refuse_planted(wanted[0], mode)
                found.set_owner(wanted[0], wanted[1], mode)
                self.mended += 1
        finally:
            found.close()


def mode_of(kind: int, wanted: Wanted) -> int | None:
    """The mode that a thing of this kind (st_mode) should have."""
    return wanted[3] if stat.S_ISDIR(kind) else wanted[2]


def changes_mode(kind: int, mode: int) -> bool:
    """Whether a mode is to be set after chown(2), which clears set-id bits; a link has none."""
    return (kind & 0o7777 != mode or bool(mode & 0o6000)) and not stat.S_ISLNK(kind)


def differs(status: os.stat_result, wanted: Wanted) -> bool:
    """Whether owner or mode are not as they should be; a link has no mode.

    /dev/null is everybody's: it may be mounted over any file that is to be empty.
    """
    kind = status.st_mode
    if status.st_uid != wanted[0] or status.st_gid != wanted[1]:
        return not is_null(status)
    mode = mode_of(kind, wanted)
    if mode is None or kind & 0o7777 == mode or stat.S_ISLNK(kind):
        return False
    return not is_null(status)
