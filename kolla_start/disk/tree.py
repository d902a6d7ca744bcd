"""One tree of a sweep: the walk, and what is set on the way.

On the container-start path, imported for `permissions` only: the standard library alone. It walks
as `chown -R` does, on directory descriptors, descends through no link, and writes only where
something is wrong.

A directory is given away after all that is in it, so that whoever could have put something there
is still to be seen. Where that is only root nobody can exchange entries, so they may be named, and
links are those of the image (or root's). Anywhere else a link is changed itself.
"""

from __future__ import annotations

import posix as os
import stat
import time

from kolla_start import progress
from kolla_start.disk import planted, walk
from kolla_start.disk.level import Level, ask
from kolla_start.disk.sweep import Sweep, changes_mode, differs, mode_of
from kolla_start.disk.walk import (
    LIST,
    PATH_MAX,
    ROOT_ONLY,
    WIDE,
    Unsafe,
    ancestors,
    identity,
    join,
    split,
    trusted,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kolla_start.disk.ahead import Crew
    from kolla_start.disk.sweep import Wanted

_SAMPLE = 8  # entries by which a walk tells slow storage: every one of them takes
_SLOW_SECONDS = 200e-6  # or longer; local storage answers in a few microseconds
_OPEN_LISTINGS = 6  # of wide directories, two descriptors each; a start works with 64
_OPEN_LEVELS = 12  # directories held open; those above are found again through ".."


def sweep_tree(sweep: Sweep, top: str, recurse: bool) -> None:
    """Do a path, and all below it if `recurse`; what fails is the sweep's to tell."""
    progress.about(f"setting owners and modes in {top}")
    tree = _Tree(sweep)
    try:
        _whole(tree, sweep, top, recurse)
    except (OSError, Unsafe) as error:
        sweep.failed(top, error)
    finally:
        tree.end()


def _whole(tree: _Tree, sweep: Sweep, top: str, recurse: bool) -> None:
    """The top, and all below it if `recurse`. Raises OSError and Unsafe."""
    parent, name = split(top)
    name = name or "."
    try:
        at = walk.directory(parent)
        status = os.stat(name, dir_fd=at.fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return
    wanted = sweep.wanted("", top)
    stays = at.sole == ROOT_ONLY and all(map(sweep.stays, ancestors(top)))
    if wanted is not None and stat.S_ISLNK(status.st_mode):
        done = _link(sweep, top, status, wanted, at.sole, stays)
        if done:
            return
    sole, owed = at.sole, None
    try:
        if recurse and stat.S_ISDIR(status.st_mode):
            level = Level(os.open(name, LIST, dir_fd=at.fd), top)
            tree.levels.append(level)
            if identity(level.settle(sole, stays and sweep.stays(top))) != identity(status):
                raise Unsafe(f"{top} was exchanged for another; it is left alone")
        if wanted is not None and differs(status, wanted):
            owed = planted.hold(top, wanted[0], mode_of(status.st_mode, wanted))
        if tree.levels:
            tree.scan(tree.levels[0])
            tree.down()
        if owed is not None and wanted is not None:
            sweep.settle()
            owed.set_owner(wanted[0], wanted[1], mode_of(status.st_mode, wanted))
            sweep.mended += 1
    finally:
        if owed is not None:
            owed.close()


class _Tree:
    """A walk under way, and whether its storage makes it wait."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self.levels: list[Level] = []
        self._crew: Crew | None = None

    def down(self) -> None:
        """Do all directories that are left, the deepest first."""
        levels = self.levels
        while levels:
            level = levels[-1]
            if not level.inner:
                if level.rest is None:
                    levels.pop()
                    self._leave(level)
                else:
                    self._look(level)
                continue
            if self._crew is not None:
                self._crew.open_ahead(level)
            inner = level.inner.pop()
            path = join(level.path, inner)
            if len(path) >= PATH_MAX:
                said = f"{level.path}: what is in it has no path (PATH_MAX); it is left alone"
                self._sweep.failed(level.path, Unsafe(said))
                level.owed.pop(inner, None)
                continue
            try:
                below = level.ahead.pop(inner, None) or Level(
                    os.open(inner, LIST, dir_fd=level.fd), path
                )
            except FileNotFoundError:
                continue  # A running service may remove its own directories.
            except OSError as error:
                self._sweep.failed(path, error)
                _give(self._sweep, level, inner)
                continue
            levels.append(below)
            if len(levels) > _OPEN_LEVELS:
                levels[-1 - _OPEN_LEVELS].close()
            try:
                wanted = self._sweep.wanted(level.path, path) if inner in level.owed else None
                below.settle(level.sole, level.stays and self._sweep.stays(path))
                if wanted is not None:
                    planted.Found(below.fd, path, level.sole).refuse_planted(wanted[0], wanted[3])
            except Unsafe as error:
                # What is not given away is not walked, either.
                self._sweep.failed(path, error)
                level.owed.pop(inner, None)
            except OSError as error:
                self._sweep.failed(path, error)
            else:
                self._look(below)

    def _leave(self, level: Level) -> None:
        """Leave a directory in which all is done, and give it away if that was put off."""
        levels = self.levels
        try:
            if levels:
                levels[-1].reopen(level.fd)
                _give(self._sweep, levels[-1], split(level.path)[1])
        except OSError as error:
            self._sweep.failed(level.path, error)
            while levels and levels[-1].fd < 0:
                levels.pop().leave()
        level.leave()

    def _look(self, level: Level) -> None:
        try:
            self.scan(level)
        except OSError as error:
            self._sweep.failed(level.path, error)
            level.listed()

    def scan(self, level: Level) -> None:
        """Look at the entries of one directory: a walk of millions consists of this loop.

        Raises OSError.
        """
        answer = self._sweep.rule(level.path)
        constant = answer if isinstance(answer, tuple) else None
        uid, gid = (-1, -1) if constant is None else constant[:2]
        # The kinds and modes (st_mode) of entries, no directories, that were found right here.
        right: set[int] = set()
        if level.rest is None:
            level.listing = level.listing or os.scandir(level.fd)
            level.rest = self._ahead(level.first, level.listing)
            level.first = []
        for entry in level.rest:
            progress.done += 1
            try:
                status = entry.stat(follow_symlinks=False)
                kind = status[0]
                if kind in right and status[4] == uid and status[5] == gid:
                    continue
                wanted = constant or answer(join(level.path, entry.name))  # type: ignore[operator]
            except FileNotFoundError:
                continue
            except (OSError, Unsafe) as error:
                self._sweep.failed(join(level.path, entry.name), error)
                continue
            is_directory = stat.S_ISDIR(kind)
            if is_directory:
                level.inner.append(entry.name)
            if wanted is None:
                pass
            elif stat.S_ISLNK(kind):
                _link_in(self._sweep, level, entry.name, status, wanted)
            elif differs(status, wanted):
                if is_directory:
                    level.owed[entry.name] = kind
                else:
                    _mend(self._sweep, level, entry.name, kind, wanted)
            elif constant is not None and not is_directory:
                right.add(kind)
            if len(level.inner) == WIDE and _may_wait(self.levels):
                return
        level.listed()

    def _ahead(
        self, first: list[os.DirEntry[str]], entries: Iterator[os.DirEntry[str]]
    ) -> Iterator[os.DirEntry[str]]:
        """The entries; those of slow storage with their status asked for already, many at once."""
        from itertools import chain

        if self._crew is not None:
            return chain(first, self._crew.ahead(entries))
        for entry in entries:
            first.append(entry)
            start = time.monotonic()
            ask((entry,))
            # One quick answer is enough: only slow storage is slow each time.
            if time.monotonic() - start < _SLOW_SECONDS:
                return chain(first, entries)
            if len(first) == _SAMPLE:
                from kolla_start.disk.ahead import Crew

                self._crew = Crew()
                return chain(first, self._crew.ahead(entries))
        return iter(first)

    def end(self) -> None:
        """Dismiss the threads, and close what is open."""
        if self._crew is not None:
            self._crew.dismiss()
        for level in self.levels:
            level.leave()


def _may_wait(levels: list[Level]) -> bool:
    """Whether one more listing may stay open: only so many do, of however many wide directories."""
    return sum(level.rest is not None for level in levels) <= _OPEN_LISTINGS


def _give(sweep: Sweep, level: Level, name: str) -> None:
    """Give away a directory whose turn it was put off for."""
    kind, path = level.owed.pop(name, None), join(level.path, name)
    if kind is None:
        return
    try:
        wanted = sweep.wanted(level.path, path)
    except Unsafe as error:
        sweep.failed(path, error)
        return
    if wanted is not None:
        sweep.settle()
        _mend(sweep, level, name, kind, wanted)


def _link(
    sweep: Sweep, path: str, status: os.stat_result, wanted: Wanted, sole: int, stays: bool
) -> bool:
    """See to a link and what it leads to; False where it is to be changed itself, at once."""
    if sole == ROOT_ONLY:
        sweep.follow(path, wanted)
    # A link of root's would be taken for the image's.
    if stays or trusted(wanted[0]) or not differs(status, wanted):
        return True
    if sole == ROOT_ONLY:
        sweep.link(path, status, wanted)
    return sole == ROOT_ONLY


def _link_in(sweep: Sweep, level: Level, name: str, status: os.stat_result, wanted: Wanted) -> None:
    if not _link(sweep, join(level.path, name), status, wanted, level.sole, level.stays):
        _mend(sweep, level, name, status.st_mode, wanted)


def _mend(sweep: Sweep, level: Level, name: str, kind: int, wanted: Wanted) -> None:
    """Set owner and mode of an entry of an open directory; `kind` is its st_mode."""
    uid, gid = wanted[:2]
    mode = mode_of(kind, wanted)
    try:
        if level.sole == ROOT_ONLY and not (mode is not None and changes_mode(kind, mode)):
            # A call less: nobody can have exchanged the entry since it was looked at, and of a link
            # that another container's start has let somebody put there it is the link that changes.
            os.chown(name, uid, gid, dir_fd=level.fd, follow_symlinks=False)
        else:
            found = planted.find_at(level.fd, name, join(level.path, name), level.sole)
            try:
                found.refuse_planted(uid, mode)
                found.set_owner(uid, gid, mode)
            finally:
                found.close()
        sweep.mended += 1
    except FileNotFoundError:
        pass  # A running service may remove its own files.
    except (OSError, Unsafe) as error:
        sweep.failed(join(level.path, name), error)
