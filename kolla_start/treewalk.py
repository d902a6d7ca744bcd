"""Owners and modes of whole trees: the other leaf of the one door to the disk (disk.py).

On the container-start path, imported for `permissions` only. It walks as `chown -R` does, on
directory descriptors, descends through no link, and writes only where something is wrong. It must
not decide what is right: ownership.py answers that, for a whole directory at once where it can.

A directory is given away after all that is in it, so that whoever could have put something there
is still to be seen. Where that is only root nobody can exchange entries, so they may be named, and
links are those of the image (or root's): such a link stands for what it leads to. Anywhere else a
link is changed itself.
"""

import errno
import os
import stat
import time
from _collections_abc import Callable, Iterable, Iterator

from kolla_start import disk, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.helper import Helper

_PROGRESS_SECONDS = 5.0
_SAMPLE = 8  # entries by which a walk tells slow storage: every one of them takes
_SLOW_SECONDS = 200e-6  # or longer; local storage answers in a few microseconds
_CREW = 64  # threads that ask slow storage
_AHEAD = 6  # directories that they open before their turn, each of them two descriptors,
_LISTED = 256  # and entries of each that they ask for
_OPEN_LEVELS = 16  # directories held open; those above are found again through ".."
_SHARE = 1024  # entries after which half of what is left is worth another process

# What an entry should have: uid, gid, mode of files, mode of directories (None: as it is).
Wanted = tuple[int, int, int | None, int | None]
# For the entries of a directory: one answer for all of them, or a function of the full path.
Rule = Wanted | Callable[[str], Wanted | None]


def mend(
    top: str,
    recurse: bool,
    rule: Callable[[str], Rule],
    named: Callable[[str], bool],
    failed: Callable[[str, Exception], None],
) -> tuple[int, int]:
    """Give a tree the owners and modes it should have; how many were set, and how many failed.

    `rule(path)` tells what the entries of a directory should have ("" asks for the top itself);
    `named(path)` whether the document speaks of what a link leads to under that path.
    An error is handed to `failed` with its path, and the walk goes on with the rest.
    """
    walk = _Walk(top, rule, named, failed)
    try:
        walk.whole(recurse)
    except (OSError, disk.Unsafe) as error:
        walk.failed(top, error)
    finally:
        walk.end()
    return walk.mended, walk.failures


class _Level:
    """A directory of the walk: its descriptor (-1 while closed) and the directories left to do.

    ahead:        those of them that are open already
    owed:         the kinds and modes (st_mode) of those that are given away when they are done
    first, rest:  its entries, as far as listed
    sole:         who could have put something into it (disk.sole_writer()), as it was found
    stays:        nobody but root, and so it is after this start
    shared:       another process does some of them
    """

    __slots__ = (
        "ahead", "fd", "first", "identity", "inner", "owed", "path", "rest", "shared", "sole",
        "stays",
    )  # fmt: skip

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self.inner: list[str] = []
        self.owed: dict[str, int] = {}
        self.sole = disk.SEVERAL
        self.stays = self.shared = False
        self.ahead: dict[str, _Level] = {}
        self.first: list[os.DirEntry[str]] = []
        self.rest: os._ScandirIterator[str] | None = None
        self.identity = (0, 0)

    def settle(self, above: int, wanted: Wanted | None) -> os.stat_result:
        """Find out who can write it; `above` is the parent's `sole`. Raises OSError."""
        status = os.fstat(self.fd)
        self.sole = disk.sole_writer(above, status, self.fd)
        self.stays = self.sole == disk.ROOT_ONLY and (
            wanted is None or (disk.trusted(wanted[0]) and not (wanted[3] or 0) & 0o022)
        )
        return status

    def share(self) -> "_Level":
        """Half of what is left to do here, as a level of its own. Raises OSError."""
        half = _Level(os.dup(self.fd), self.path)
        half.sole, half.stays = self.sole, self.stays
        half.inner = self.inner[::2]
        half.owed = self.owed
        del self.inner[::2]
        self.shared = True
        return half

    def look(self) -> None:
        """List the first entries. Raises OSError, and is closed then."""
        from itertools import islice

        try:
            self.rest = os.scandir(self.fd)
            self.first = list(islice(self.rest, _LISTED))
        except OSError:
            self.leave()
            raise

    def leave(self) -> None:
        """Close it for good, and all that was opened through it."""
        if self.rest is not None:
            self.rest.close()
        for level in self.ahead.values():
            level.leave()
        self.ahead.clear()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        if self.fd >= 0:
            self.identity = disk.identity(self.fd)
            os.close(self.fd)
            self.fd = -1

    def reopen(self, below: int) -> None:
        """Open it again through its child. Raises OSError, also if that is no longer in it."""
        if self.fd < 0:
            up = os.open("..", disk.LIST, dir_fd=below)
            if disk.identity(up) != self.identity:
                os.close(up)
                raise OSError(errno.EAGAIN, "moved while it was walked")
            self.fd = up


class _Walk:
    """A walk under way: what it has done, who helps it, and whether its storage makes it wait."""

    __slots__ = (
        "_alone", "_crew", "_failed", "_helper", "_levels", "_named", "_next_line", "_next_share",
        "_parent", "_rule", "_share", "_top", "count", "failures", "mended",
    )  # fmt: skip

    def __init__(
        self,
        top: str,
        rule: Callable[[str], Rule],
        named: Callable[[str], bool],
        failed: Callable[[str, Exception], None],
    ) -> None:
        self._top = top
        self._rule = rule
        self._named = named
        self._failed = failed
        self._levels: list[_Level] = []
        self._crew: _Crew | None = None
        self._helper: Helper | None = None
        # What the helper has taken over, to be done here should it come to grief.
        self._share: _Level | None = None
        self._parent = 0  # of a helper
        self._alone = False  # no helper, or no other one, is to be asked for
        self._next_line = time.monotonic() + _PROGRESS_SECONDS
        self._next_share = _SHARE
        self.count = 0
        self.mended = 0
        self.failures = 0

    def failed(self, path: str, error: Exception) -> None:
        self.failures += 1
        self._failed(path, error)

    def whole(self, recurse: bool) -> None:
        """The top, and all below it if `recurse`. Raises OSError and Unsafe."""
        parent, name = disk.split(self._top)
        name = name or "."
        try:
            at = disk.directory(parent)
            status = os.stat(name, dir_fd=at.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return
        rule = self._rule("")
        wanted = rule if isinstance(rule, tuple) else rule(self._top)
        if stat.S_ISLNK(status.st_mode) and wanted is not None:
            if at.sole == disk.ROOT_ONLY:
                self._follow(self._top, wanted)
                return
            if disk.trusted(wanted[0]):
                return  # a link of root's would be taken for the image's
        owed = None
        try:
            if wanted is not None and _differs(status, wanted):
                owed = disk.hold(self._top, wanted[0], _mode(status.st_mode, wanted))
            if recurse and stat.S_ISDIR(status.st_mode):
                level = _Level(os.open(name, disk.LIST, dir_fd=at.fd), self._top)
                self._levels.append(level)
                if level.settle(at.sole, wanted).st_uid != status.st_uid:
                    raise disk.Unsafe(f"{self._top} was exchanged for another; it is left alone")
                self.scan(level)
                self.down(self._levels)
            if owed is not None and wanted is not None:
                owed.set_owner(*wanted[:2], _mode(status.st_mode, wanted))
                self.mended += 1
        finally:
            if owed is not None:
                owed.close()

    def down(self, levels: list[_Level]) -> None:
        """Do all directories that are left at these levels, the deepest first."""
        while levels:
            level = levels[-1]
            if not level.inner:
                levels.pop()
                self._leave(level, levels)
                continue
            if self.count >= self._next_share:
                self._divide(levels)
            if self._parent and os.getppid() != self._parent:
                return  # Nobody waits for this helper any more.
            if self._crew is not None:
                self._crew.open_ahead(level)
            inner = level.inner.pop()
            path = disk.join(level.path, inner)
            try:
                below = level.ahead.pop(inner, None) or _Level(
                    os.open(inner, disk.LIST, dir_fd=level.fd), path
                )
            except FileNotFoundError:
                continue  # A running service may remove its own directories.
            except OSError as error:
                self.failed(path, error)
                self._give(level, inner)
                continue
            levels.append(below)
            if len(levels) > _OPEN_LEVELS:
                levels[-1 - _OPEN_LEVELS].close()
            try:
                wanted = self._owed(level, inner)
                below.settle(level.sole, wanted)
                if wanted is not None:
                    self._refuse_planted(below, level, wanted)
                self.scan(below)
            except disk.Unsafe as error:
                # What is not given away is not walked, either.
                self.failed(path, error)
                del level.owed[inner]
                below.inner.clear()
            except OSError as error:
                self.failed(path, error)

    def _refuse_planted(self, below: _Level, level: _Level, wanted: Wanted) -> None:
        found = disk.Found(below.fd, below.path, level.sole)
        found.refuse_planted(wanted[0], wanted[3])

    def _leave(self, level: _Level, levels: list[_Level]) -> None:
        """Leave a directory in which all is done, and give it away if that was put off."""
        if level.shared:
            self._gather()
        try:
            if levels:
                levels[-1].reopen(level.fd)
        except OSError as error:
            self.failed(level.path, error)
            while levels and levels[-1].fd < 0:
                levels.pop().leave()
        else:
            if levels:
                self._give(levels[-1], disk.split(level.path)[1])
        level.leave()

    def _owed(self, level: _Level, name: str) -> Wanted | None:
        """What a directory in this one should have, if it is wrong."""
        if name not in level.owed:
            return None
        answer = self._rule(level.path)
        return answer if isinstance(answer, tuple) else answer(disk.join(level.path, name))

    def _give(self, level: _Level, name: str) -> None:
        wanted = self._owed(level, name)
        if wanted is not None:
            self._mend(level, name, level.owed.pop(name), wanted)

    def scan(self, level: _Level) -> None:
        """Look at the entries of one directory: a walk of millions consists of this loop."""
        answer = self._rule(level.path)
        constant = answer if isinstance(answer, tuple) else None
        uid, gid = (-1, -1) if constant is None else constant[:2]
        # The kinds and modes (st_mode) of entries, no directories, that were found right here.
        right: set[int] = set()
        root_only = level.sole == disk.ROOT_ONLY
        count = self.count
        with level.rest or os.scandir(level.fd) as entries:
            for entry in self._ahead(level.first, entries):
                count += 1
                if not count & 0xFFF:
                    self._tick(count)
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self.failed(disk.join(level.path, entry.name), error)
                    continue
                kind = status[0]
                if kind in right and status[4] == uid and status[5] == gid:
                    continue
                is_directory = stat.S_ISDIR(kind)
                if is_directory:
                    level.inner.append(entry.name)
                if constant is not None:
                    wanted: Wanted | None = constant
                else:
                    assert callable(answer)
                    wanted = answer(disk.join(level.path, entry.name))
                if wanted is None:
                    continue
                if stat.S_ISLNK(kind):
                    if root_only:
                        self._follow(disk.join(level.path, entry.name), wanted)
                    # A link of root's would be taken for the image's.
                    if not (level.stays or disk.trusted(wanted[0])) and _differs(status, wanted):
                        self._mend(level, entry.name, kind, wanted)
                elif _differs(status, wanted):
                    if is_directory:
                        level.owed[entry.name] = kind
                    else:
                        self._mend(level, entry.name, kind, wanted)
                elif constant is not None and not is_directory:
                    right.add(kind)
        self.count = count
        level.first = []

    def _mend(self, level: _Level, name: str, kind: int, wanted: Wanted) -> None:
        """Set owner and mode of an entry of an open directory; `kind` is its st_mode."""
        uid, gid, *_ = wanted
        mode = _mode(kind, wanted)
        try:
            if level.sole == disk.ROOT_ONLY:
                # Nobody can have exchanged the entry since it was looked at. The mode comes second:
                # chown(2) clears set-id bits.
                os.chown(name, uid, gid, dir_fd=level.fd, follow_symlinks=False)
                if mode is not None and not stat.S_ISLNK(kind):
                    os.chmod(name, mode, dir_fd=level.fd)
            else:
                path = disk.join(level.path, name)
                disk.set_owner_at(level.fd, name, path, uid, gid, mode, level.sole)
            self.mended += 1
        except FileNotFoundError:
            pass  # A running service may remove its own files.
        except (OSError, disk.Unsafe) as error:
            self.failed(disk.join(level.path, name), error)

    def _follow(self, path: str, wanted: Wanted) -> None:
        """Set owner and mode of what a link leads to that only root can have made."""
        try:
            found = disk.open_behind(path)
        except (FileNotFoundError, NotADirectoryError):
            return  # It leads nowhere.
        except (OSError, disk.Unsafe) as error:
            self.failed(path, error)
            return
        if found is None:
            return
        try:
            # What the document names itself has the owner that it names.
            if not self._named(found.real) and _differs(found.status, wanted):
                mode = _mode(found.status.st_mode, wanted)
                found.refuse_planted(wanted[0], mode)
                found.set_owner(*wanted[:2], mode)
                self.mended += 1
        except (OSError, disk.Unsafe) as error:
            self.failed(path, error)
        finally:
            found.close()

    def _tick(self, count: int) -> None:
        """Say every few seconds how far a long walk is: silence looks like a hang."""
        now = time.monotonic()
        if now >= self._next_line and not self._parent:
            self._next_line = now + _PROGRESS_SECONDS
            log.info(f"{self._top}: {count} entries looked at so far")

    # --- another process for half of a long walk ---

    def _divide(self, levels: list[_Level]) -> None:
        """Give half of the directories that are left to another process, if none is at it."""
        self._next_share = self.count + _SHARE
        # Threads do not survive a fork(2).
        if self._alone or self._crew is not None:
            return
        if self._helper is not None:
            if not self._helper.ended():
                return
            self._gather()
            if self._alone:
                return
        for level in levels:  # the topmost ones have the largest directories
            if level.fd >= 0 and len(level.inner) > 1:
                from kolla_start import helper

                try:
                    self._share = level.share()
                except OSError:
                    return
                self._helper = helper.start(self._help)
                if self._helper is None:
                    self._gather()
                return

    def _help(self) -> bytes:
        """In the helper: do the share, and tell what the parent needs to know."""
        assert self._share is not None
        self._parent = os.getppid()
        self._alone = True
        self.count = self.mended = self.failures = 0
        self.down([self._share])
        return b"%d %d %d" % (self.count, self.mended, self.failures)

    def _gather(self) -> None:
        """Wait for the helper; what it has not done is done here."""
        share, helper, self._share, self._helper = self._share, self._helper, None, None
        if share is None:
            return
        told = helper.result() if helper is not None else b""
        if told:
            os.close(share.fd)
            count, mended, failures = map(int, told.split())
            self.count += count
            self.mended += mended
            self.failures += failures
        else:
            # None is to be had, or it came to grief: another one would have to be waited for too.
            self._alone = True
            self.down([share])

    # --- storage that makes everyone wait ---

    def _ahead(
        self, first: "list[os.DirEntry[str]]", entries: Iterator["os.DirEntry[str]"]
    ) -> Iterable["os.DirEntry[str]"]:
        """The entries; those of slow storage with their status asked for already, many at once."""
        from itertools import chain

        if self._crew is not None:
            return chain(first, self._crew.ahead(entries))
        for entry in entries:
            first.append(entry)
            start = time.monotonic()
            _ask((entry,))
            # One quick answer is enough: only slow storage is slow each time.
            if time.monotonic() - start < _SLOW_SECONDS:
                return chain(first, entries)
            if len(first) == _SAMPLE:
                self._crew = _Crew()
                return chain(first, self._crew.ahead(entries))
        return first

    def end(self) -> None:
        """Wait for the helper, and dismiss the threads."""
        try:
            self._gather()
        except OSError as error:
            self.failed(self._top, error)
        if self._crew is not None:
            self._crew.dismiss()
        for level in self._levels:
            level.leave()


class _Crew:
    """Threads that wait for slow storage (a network's) in the walk's place, all at the same time.

    They open and list directories and ask for the status of entries, which os.DirEntry keeps; the
    walk itself is the same.
    """

    def __init__(self) -> None:
        import _thread
        from _queue import SimpleQueue

        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._count = 0
        self._opened: _Level | None = None  # the one through which directories are open
        try:
            while self._count < _CREW:
                _thread.start_new_thread(self._work, ())
                self._count += 1
        except RuntimeError:
            pass  # A limit of processes: as many as there may be, or none.

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            finally:
                self._done.put(None)

    def _do(self, jobs: list[Callable[[], None]]) -> None:
        """Do all of them at the same time, and wait for it; nothing where there are no threads."""
        if self._count:
            for job in jobs:
                self._jobs.put(job)
            for _ in jobs:
                self._done.get()

    def _ask_all(self, entries: "list[os.DirEntry[str]]") -> None:
        def asking(share: "list[os.DirEntry[str]]") -> Callable[[], None]:
            return lambda: _ask(share)

        shares = (entries[number :: self._count] for number in range(self._count))
        self._do([asking(share) for share in shares if share])

    def open_ahead(self, level: _Level) -> None:
        """Open the directories that come next, if none are open, and ask what is in them.

        Whatever cannot be opened is left to the walk, which says so.
        """
        if self._opened is not None and self._opened.ahead:
            return
        self._opened = level

        def opening(name: str) -> Callable[[], None]:
            def open_it() -> None:
                try:
                    fd = os.open(name, disk.LIST, dir_fd=level.fd)
                    one = _Level(fd, disk.join(level.path, name))
                    one.look()
                except OSError:
                    return
                level.ahead[name] = one

            return open_it

        self._do([opening(name) for name in level.inner[-_AHEAD:]])
        self._ask_all([entry for one in level.ahead.values() for entry in one.first])

    def ahead(self, entries: Iterator["os.DirEntry[str]"]) -> Iterator["os.DirEntry[str]"]:
        from itertools import islice

        # So many at a time: a walk's memory does not grow with the directory.
        while batch := list(islice(entries, _CREW * 16)):
            self._ask_all(batch)
            yield from batch

    def dismiss(self) -> None:
        """End the threads: what follows a walk changes who this process is."""
        import _thread

        for _ in range(self._count):
            self._jobs.put(None)
        while _thread._count():
            time.sleep(0.0001)


def _ask(entries: Iterable["os.DirEntry[str]"]) -> None:
    for entry in entries:
        try:
            entry.stat(follow_symlinks=False)
        except OSError:
            pass  # The walk asks again, and says so.


def _mode(kind: int, wanted: Wanted) -> int | None:
    """The mode that a thing of this kind (st_mode) should have."""
    return wanted[3] if stat.S_ISDIR(kind) else wanted[2]


def _differs(status: os.stat_result, wanted: Wanted) -> bool:
    if status.st_uid != wanted[0] or status.st_gid != wanted[1]:
        return True
    kind = status.st_mode
    mode = _mode(kind, wanted)
    return mode is not None and kind & 0o7777 != mode and not stat.S_ISLNK(kind)
