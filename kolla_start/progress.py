"""What a start is about, said every few seconds where it takes long: silence looks like a hang.

On the container-start path. A timer of the kernel's, so that no loop has to look at a clock; it
must be over before this process becomes another program, whom its signal would end: a timer
outlives execve(2).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

from kolla_start import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Result = TypeVar("Result")

SECONDS = 5.0

done = 0  # of what is counted, since about(); whoever counts adds to it

_inherited = (0.0, 0.0)
_what = ""
_total = 0
_ticks = -1  # since a bounded call began, -1 where there is none


class TooLong(Exception):
    """A bounded call took from one tick to the next but one."""


def begin() -> None:
    global _inherited
    _signal.signal(_signal.SIGALRM, _tick)
    _inherited = _signal.setitimer(_signal.ITIMER_REAL, SECONDS, SECONDS)


def end() -> None:
    """The timer that somebody had set before us goes on."""
    _signal.setitimer(_signal.ITIMER_REAL, *_inherited)
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)


def about(what: str, total: int = 0) -> None:
    """What comes next, and of how much, if that is known."""
    global _what, _total, done
    _what, _total, done = what, total, 0


def bounded(call: Callable[[str], Result], text: str) -> Result:
    """What a call of C code says, which signals interrupt. Raises TooLong after 5 to 10 seconds."""
    global _ticks
    _ticks = 0
    try:
        return call(text)
    finally:
        _ticks = -1


def _tick(number: int, frame: object) -> None:
    global _ticks
    of = f" of {_total}" if _total else ""
    log.info(f"still {_what}: {done}{of} done")
    if _ticks >= 0:
        _ticks += 1
        if _ticks > 1:
            _ticks = -1
            raise TooLong
