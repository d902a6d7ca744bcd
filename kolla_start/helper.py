"""A second process for a part of a long piece of work.

On the container-start path; only trees of thousands of entries come here. Processes, because
threads of one interpreter take turns (the GIL) and the calls are short.
"""

import os
from _collections_abc import Callable


class Helper:
    """A child that does a piece of work while this process goes on."""

    __slots__ = ("_pid", "_pipe")

    def __init__(self, pid: int, pipe: int) -> None:
        self._pid = pid
        self._pipe = pipe

    def ended(self) -> bool:
        """Whether it has ended: then result() does not wait."""
        if self._pid and _reap(self._pid, os.WNOHANG):
            self._pid = 0
        return not self._pid

    def result(self) -> bytes:
        """Wait for its end; what the work returned, or nothing if it came to grief."""
        parts = []
        while part := os.read(self._pipe, 4096):
            parts.append(part)
        os.close(self._pipe)
        if self._pid:
            _reap(self._pid, 0)
            self._pid = 0
        return b"".join(parts)


def _reap(pid: int, options: int) -> bool:
    try:
        return os.waitpid(pid, options)[0] != 0
    except ChildProcessError:
        return True  # The engine had us ignore SIGCHLD, so the kernel has reaped it.


def start(work: Callable[[], bytes]) -> Helper | None:
    """Do the work in a child (fork(2)); None where there is one processor, or no process to be had.

    What the work returns is told through a pipe in one piece or not at all, so at most PIPE_BUF
    (4,096) bytes, pipe(7). The child ends with the work, whatever becomes of it.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return None
    try:
        pipe, into = os.pipe()
    except OSError:
        return None
    try:
        pid = os.fork()
    except OSError:
        os.close(pipe)
        os.close(into)
        return None
    if pid == 0:
        try:
            os.write(into, work())
        finally:
            # Whatever happened: this process must never go on to start the service.
            os._exit(0)
    os.close(into)
    return Helper(pid, pipe)
