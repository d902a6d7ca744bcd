"""What every command does around its work: settle the process, report what went wrong, exit.

On the container-start path. It must not do any of the work.
"""

import _signal  # type: ignore[import-not-found]  # signal imports enum
import os
from _collections_abc import Callable

from kolla_start import log
from kolla_start.errors import EXIT_BUG, EXIT_REFUSED, Failed, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def run(work: Callable[[], int], refused: int = EXIT_REFUSED) -> "NoReturn":
    """Do the work and exit with the code it returns, or with that of what it raised.

    Refused and Failed exit with `refused` and a log line for each fault; anything unforeseen with
    EXIT_BUG and a traceback.
    """
    _settle()
    try:
        code = work()
    except (Refused, Failed) as error:
        _report(error)
        code = refused
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else EXIT_BUG
    except Exception:
        _bug()
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
            os.open(os.devnull, os.O_RDWR)
    # An interrupt ends the start as it ends a shell, without a traceback.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def _report(error: Refused | Failed) -> None:
    if isinstance(error, Failed):
        log.error(str(error))
    elif error.document is not None:
        from kolla_start.explain import lines  # only a refused document pays for it

        for line in lines(error.document, error.faults):
            log.error(line)
    else:
        for fault in error.faults:
            log.error(str(fault))


def _bug() -> None:
    import traceback

    log.error("a fault of kolla_start itself; please report it with what follows")
    for line in traceback.format_exc().splitlines():
        log.error(line)
