"""What can be wrong, as exceptions that carry every fault at once.

On the container-start path: imports nothing of ours.
"""

from __future__ import annotations

import errno

# Exit codes of all commands (documented in README.md).
EXIT_OK = 0
EXIT_REFUSED = 1  # apply: the document, its sources or the environment are wrong
EXIT_CHANGED = 1  # check: a restart would change something
EXIT_BUG = 2  # apply: a fault of this program
EXIT_CANNOT_TELL = 2  # check: the document or a source is wrong
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127

TYPE_CHECKING = False
if TYPE_CHECKING:
    Loc = tuple[str | int, ...]
else:
    Loc = tuple  # Python 3.9 has no | between types


class Fault:
    """One thing that is wrong: where in the document (a path of keys and indexes), and what.

    `place`: the offset in the document's text, where that is known and no value has it. `at_key`:
    it is the key at `loc` that is wrong, not its value. `unquoted`: the value is no string and
    should be; the message wants the value's text at its end (document/places.py).
    """

    __slots__ = ("at_key", "loc", "message", "place", "unquoted")

    def __init__(
        self,
        loc: Loc,
        message: str,
        place: int | None = None,
        at_key: bool = False,
        unquoted: bool = False,
    ) -> None:
        self.loc = loc
        self.message = message
        self.place = place
        self.at_key = at_key
        self.unquoted = unquoted

    def __str__(self) -> str:
        where = dotted(self.loc)
        return f"{where}: {self.message}" if where else self.message


def dotted(loc: Loc) -> str:
    """("config_files", 1, "perm") as a person writes it: config_files[1].perm."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


class Refused(Exception):
    """The work is refused before anything was changed; `faults` says everything that is wrong.

    `document` is the path of the document the faults are in, or None where a fault belongs to
    no document (the strategy, say). `text` is the text that was judged, so that the faults can be
    placed in it; empty where there is none.
    """

    def __init__(self, faults: list[Fault], document: str | None = None, text: str = "") -> None:
        super().__init__("; ".join(str(fault) for fault in faults))
        self.faults = faults
        self.document = document
        self.text = text


class Failed(Exception):
    """The work began and a system call said no. The message names the path."""


# What is short is short wherever it is met.
_SHORT = {
    errno.ENOSPC: "make room on its filesystem",
    errno.EDQUOT: "make room, or raise the quota",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files (fs.file-max)",
    errno.EAGAIN: "raise the limit of processes (ulimit -u, pids of the control group)",
    errno.ENOMEM: "raise the memory limit of the container",
}
_BARRED = {
    errno.EACCES: "start the container as root, or make it accessible",
    errno.EPERM: "start the container as root, or with the capability that this needs",
    errno.EROFS: "mount a place there that can be written",
}


def advice(error: OSError, otherwise: str = "") -> str:
    """What to do about it; `otherwise` where nothing is short."""
    code = error.errno or 0
    return _SHORT.get(code) or otherwise or _BARRED.get(code, "mend it, and start again")


def cause(error: OSError, path: str, otherwise: str = "") -> str:
    """`PATH: what the system said; what to do`.

    A name that a *at() call was given is no place, so `path`.
    """
    named = error.filename
    place = named if isinstance(named, str) and named.startswith("/") else path
    if place.startswith("/proc/self/") and error.errno == errno.ENOENT:
        otherwise = "mount /proc"
    return f"{place}: {error.strerror}; {advice(error, otherwise)}"


def refuse(message: str) -> Refused:
    """A refusal of one fault that belongs to no place in a document."""
    return Refused([Fault((), message)])
