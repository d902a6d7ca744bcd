"""Threads that wait for slow storage (a network's) in a sweep's place, all at the same time.

On the container-start path, imported where storage was found to be slow. They open and list
directories and ask for the status of entries, which os.DirEntry keeps; the sweep is the same.
"""

from __future__ import annotations

import _thread
import posix as os
import time
from _queue import SimpleQueue
from itertools import islice

from kolla_start.disk.level import Level, ask
from kolla_start.disk.walk import LIST, join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CREW = 64  # threads
_AHEAD = 6  # directories that they open before their turn, each of them two descriptors


class Crew:
    """The threads; none where a limit of processes forbids them."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._count = 0
        self._opened: Level | None = None  # the one through which directories are open
        try:
            while self._count < _CREW:
                _thread.start_new_thread(self._work, ())
                self._count += 1
        except RuntimeError:
            pass  # As many as there may be.

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
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

    def _ask_all(self, entries: list[os.DirEntry[str]]) -> None:
        def asking(share: list[os.DirEntry[str]]) -> Callable[[], None]:
            return lambda: ask(share)

        shares = [entries[number :: self._count] for number in range(self._count)]
        self._do([asking(share) for share in shares if share])

    def open_ahead(self, level: Level) -> None:
        """Open the directories that come next, if none are open, and ask what is in them.

        Whatever cannot be opened is left to the sweep, which says so.
        """
        if self._opened is not None and self._opened.ahead:
            return
        self._opened = level

        def opening(name: str) -> Callable[[], None]:
            def open_it() -> None:
                try:
                    one = Level(os.open(name, LIST, dir_fd=level.fd), join(level.path, name))
                    one.look()
                except OSError:
                    return
                level.ahead[name] = one

            return open_it

        self._do([opening(name) for name in level.inner[-_AHEAD:]])
        self._ask_all([entry for one in level.ahead.values() for entry in one.first])

    def ahead(self, entries: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
        """The entries of a directory, their status asked for."""
        # So many at a time: a walk's memory does not grow with the directory.
        while True:
            batch = list(islice(entries, _CREW * 16))
            if not batch:
                return
            self._ask_all(batch)
            yield from batch

    def dismiss(self) -> None:
        """End the threads: what follows a sweep changes who this process is."""
        for _ in range(self._count):
            self._jobs.put(None)
        while _thread._count():
            time.sleep(0.0001)
