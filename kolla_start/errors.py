"""What can be wrong, as exceptions that carry every fault at once.

On the container-start path: imports nothing.
"""

# Exit codes of all commands (documented in README.md).
EXIT_OK = 0
EXIT_REFUSED = 1  # apply: the document, its sources or the environment are wrong
EXIT_CHANGED = 1  # check: a restart would change something
EXIT_BUG = 2  # apply: a fault of this program
EXIT_CANNOT_TELL = 2  # check: the document or a source is wrong
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127

Loc = tuple[str | int, ...]


class Fault:
    """One thing that is wrong: where in the document (a path of keys and indexes), and what."""

    __slots__ = ("loc", "message")

    def __init__(self, loc: Loc, message: str) -> None:
        self.loc = loc
        self.message = message

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
    no document (the strategy, say).
    """

    def __init__(self, faults: list[Fault], document: str | None = None) -> None:
        super().__init__("; ".join(str(fault) for fault in faults))
        self.faults = faults
        self.document = document


class Failed(Exception):
    """The work began and a system call said no. The message names the path."""


def cause(error: OSError, path: str) -> str:
    """`PATH: what the system said`; a name that a *at() call was given is no place, so `path`."""
    named = error.filename
    place = named if isinstance(named, str) and named.startswith("/") else path
    return f"{place}: {error.strerror}"


def refuse(message: str) -> Refused:
    """A refusal of one fault that belongs to no place in a document."""
    return Refused([Fault((), message)])
