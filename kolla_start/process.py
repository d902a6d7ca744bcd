"""What every command does around its work: settle the process, report what went wrong, exit.

On the container-start path: `_signal` in place of signal, which imports enum.

Whoever starts a command (an engine, sudo, a shell, a test) decides what it inherits: signals that
are ignored or blocked, a umask, standard streams that are closed. None of that may decide what
root does or makes, so all of it is set before anything else of ours runs; what the service is to
have of it is remembered, and given back with hand_over(). It must not do any of the work.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix as os

from kolla_start import kernel, log
from kolla_start.disk.walk import Unsafe
from kolla_start.errors import EXIT_BUG, EXIT_REFUSED, Failed, Refused, advice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

# Python ignores these two for itself (the write then fails, signal(7)); nobody after us should.
IGNORED = (_signal.SIGPIPE, _signal.SIGXFSZ)

_inherited: list[int] = []  # the umask


def run(work: Callable[[], int], refused: int = EXIT_REFUSED) -> NoReturn:
    """Do the work and exit with the code it returns, or with that of what it raised.

    What the world did to us exits with `refused` and a log line for each fault: Refused, Failed,
    every OSError, Unsafe, MemoryError, RecursionError or ImportError that nobody has caught, and
    whatever a module of Python's own raises while it is imported, since that may be there in part.
    Anything else is a bug: EXIT_BUG and a traceback.
    """
    try:
        _settle()
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else EXIT_BUG
    except (
        Refused, Failed, Unsafe, OSError, MemoryError, RecursionError, ImportError
    ) as error:  # fmt: skip
        _report(error)
        code = refused
    except Exception as error:
        if _importing(error):
            _report(ImportError(str(error)))
            code = refused
        else:
            _bug(error)
            code = EXIT_BUG
    # Nothing is buffered: the interpreter need not be taken down piece by piece.
    os._exit(code)


def _settle() -> None:
    # A standard stream that the engine closed would be the next file this program opens, and a
    # log line would go into it. The stand-in is closed again at exec.
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
    # With SIGCHLD ignored the kernel reaps our children, and no waitpid(2) tells how they ended.
    for number in range(1, _signal.NSIG):
        if _signal.getsignal(number) == _signal.SIG_IGN and number not in IGNORED:
            _signal.signal(number, _signal.SIG_DFL)
    # An interrupt ends the start as it ends a shell, without a traceback.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    # Every mode that is asked for is the one that is set.
    _inherited[:] = [os.umask(0)]


def hand_over(umask: int | None = None) -> None:
    """Before exec: default signals, and the umask that was inherited, or this one (umask(2))."""
    for number in IGNORED:
        _signal.signal(number, _signal.SIG_DFL)
    if umask is not None or _inherited:
        os.umask(_inherited[0] if umask is None else umask)


def take_back() -> None:
    """After an exec that failed: a log whose reader is gone must not end us without a word."""
    for number in IGNORED:
        _signal.signal(number, _signal.SIG_IGN)


# --- what went wrong ---------------------------------------------------------------------------


def _report(error: BaseException) -> None:
    try:
        for line in _lines(error):
            log.error(line)
    except MemoryError:  # too little is left for a line with a time
        os.write(2, b"ERROR out of memory; raise the memory limit of the container\n")


def _lines(error: BaseException) -> list[str]:
    if isinstance(error, Refused):
        if error.document is None:
            return [str(fault) for fault in error.faults]
        try:
            from kolla_start.document.places import lines  # only a refused document pays for it

            return lines(error.document, error.text, error.faults)
        except (OSError, MemoryError, RecursionError, ImportError):
            # What explains it could not be loaded: the faults still have to be said.
            return [f"{error.document}: {fault}" for fault in error.faults]
    if isinstance(error, OSError):
        return [_said(error)]
    if isinstance(error, MemoryError):
        return ["out of memory; raise the memory limit of the container"]
    if isinstance(error, RecursionError):
        return ["nested too deep to be handled; make the document or the tree flatter"]
    if isinstance(error, ImportError):
        # The import system takes a file that it cannot look at for one that is not there.
        return [f"{error}; the image's Python cannot be read or is damaged: mend it, or its disk"]
    return [str(error)]


def _said(error: OSError) -> str:
    """`PATH: what the system said; what to do`."""
    named = error.filename
    if isinstance(named, bytes):
        named = kernel.decode(named)
    said = error.strerror or str(error) or type(error).__name__
    what = f"{said}; {advice(error)}"
    return f"{named}: {what}" if isinstance(named, str) else what


def _importing(error: BaseException) -> bool:
    """Whether it was raised while a module was imported that is not ours."""
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        if code.co_name == "<module>" and "/kolla_start/" not in code.co_filename:
            return True
        at = at.tb_next
    return False


def _bug(error: Exception) -> None:
    log.error("a fault of kolla_start itself; please report it with what follows")
    try:
        from traceback import format_exception

        lines = format_exception(type(error), error, error.__traceback__)
    except Exception:  # whatever it is: nothing must hide what there is to say
        lines = [repr(error)]
    for text in lines:
        for line in text.splitlines():
            log.error(line)
