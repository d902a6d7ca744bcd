"""Which CA certificates are the operator's: found, read and judged; cacerts.py installs them.

On the container-start path. Nothing here writes.

What lies in the mounted configuration is the operator's. Elsewhere a certificate is believed where
nobody but root can have put it there. Where a document gives its copy of them to the service, one
is believed if the document's own sources hold the same bytes, or, since COPY_ONCE does not look at
them again, if it is installed already. That a start has just made the copy says nothing: COPY_ONCE
makes it once, and a service user may call kolla_copy_cacerts whenever it likes.
"""

from __future__ import annotations

import errno
import stat

from kolla_start import errors, homes, log
from kolla_start.disk import read, source, walk
from kolla_start.disk.source import Source
from kolla_start.disk.walk import Unsafe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOUNTED = f"{source.MOUNTED}/ca-certificates"
_LARGEST = 16 << 20  # bytes; all that a distribution trusts is a megabyte
COPIED = "/var/lib/kolla/share/ca-certificates"
CONFIG_DATA = "/var/lib/config-data/ca-certificates"  # where tcib's images look


def operators(kept: Callable[[str], bytes | None], say: bool) -> dict[str, bytes]:
    """The operator's certificates by name.

    `kept` says what is installed under a name from earlier, where that is to stay; `say` warns of
    what is left out. Raises OSError where this user may not look, and Changed.
    """
    if copied():
        return _copies(kept, say)
    for directory, doubt in ((MOUNTED, _no_doubt), (CONFIG_DATA, _doubt_of_owners)):
        found = _sources(directory, say)
        if found:
            return _read(found.values(), doubt, say)
    return {}


def copied() -> bool:
    """Whether the records know COPIED, or something in it, as a destination."""
    for prefix in homes.PREFIXES:
        state = homes.Home(prefix).state
        if homes.open_to_others(state):
            continue
        try:
            text = read.content(state)
        except PermissionError:
            # A service user may not look: without the directory nothing was copied.
            if read.lstat(COPIED) is not None:
                raise
            continue
        if text is not None:
            return f'"{COPIED}"'.encode() in text or f'"{COPIED}/'.encode() in text
    return False


def _copies(kept: Callable[[str], bytes | None], say: bool) -> dict[str, bytes]:
    delivered: list[set[bytes]] = []  # the document is read only where somebody else can write

    def doubt(found: Source, data: bytes) -> str | None:
        at = walk.directory(walk.split(found.real)[0])
        if at.sole == walk.ROOT_ONLY and walk.private(found.status):
            return None
        if not delivered:
            delivered.append(_delivered())
        if data in delivered[0] or data == kept(_name(found)):
            return None
        return "can be written by others than root, and is not what the document copies there"

    sources = _sources(COPIED, say)
    found = _read(sources.values(), doubt, say)
    for name in sources.keys() - found.keys():
        installed = kept(name)
        if installed is not None:
            found[name] = installed
    return found


def _delivered() -> set[bytes]:
    """All that the document's sources hold for COPIED; nothing where there is no good document."""
    from kolla_start.document import load

    found: set[bytes] = set()
    try:
        entries = load.load().config_files
    except errors.Refused:
        return found
    for entry in entries:
        if f"{entry.dest.rstrip('/')}/".startswith(f"{COPIED}/"):
            doubt = _no_doubt if _mounted(entry.source) else _doubt_of_owners
            for path in _matches(entry.source):
                sources = _sources(path, say=False)
                found.update(_read(sources.values(), doubt, say=False).values())
    return found


# --- who can have put a certificate there --------------------------------------------------------


def _no_doubt(found: Source, data: bytes) -> str | None:
    return None


def _doubt_of_owners(found: Source, data: bytes) -> str | None:
    """Root's in a directory of root: a volume of Kubernetes is open to all by its mode."""
    at = walk.directory(walk.split(found.real)[0])
    if walk.trusted(at.status.st_uid) and walk.trusted(found.status.st_uid):
        return None
    return "is, or could be, the service's own"


def _read(
    sources: Iterable[Source | None], doubt: Callable[[Source, bytes], str | None], say: bool
) -> dict[str, bytes]:
    """Each as it was judged: a source is read from the very file that its status is of."""
    found = {}
    for each in sources:
        if each is None:
            continue
        try:
            if not stat.S_ISREG(each.status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", each.path)
            if each.status.st_size > _LARGEST:
                raise OSError(errno.EFBIG, "larger than a file of certificates is", each.path)
            data = each.content()  # once: who can write it may do so at any moment
            why = doubt(each, data)
            if why:
                raise Unsafe(f"{each.path} {why}")
            found[_name(each)] = data
        except (OSError, Unsafe) as problem:
            _leave_out(each.path, problem, say)
    return found


def _leave_out(path: str, problem: Exception, say: bool) -> None:
    if isinstance(problem, OSError) and problem.errno in (errno.EACCES, errno.EPERM):
        raise problem
    if say:
        why = f"{path}: {problem.strerror}" if isinstance(problem, OSError) else problem
        log.warning(f"CA certificates: {why}; it is left out")


# --- what is there -------------------------------------------------------------------------------


def _sources(path: str, say: bool) -> dict[str, Source | None]:
    """What is in a directory (not below it), or a file itself, by name; None for what is unsafe."""
    found: dict[str, Source | None] = {}
    try:
        top = source.find(path)
        if not stat.S_ISDIR(top.status.st_mode):
            return {_name(top): top}
        # As the shell's *; Kubernetes keeps its machinery under names that begin with a dot.
        # The update command reads names by lines.
        names = [name for name in top.names() if name[0] != "." and name.isprintable()]
    except (FileNotFoundError, NotADirectoryError):
        return found
    except (OSError, Unsafe) as problem:
        _leave_out(path, problem, say)
        return found
    for name in names:
        try:
            # In the copy, which may be the service's, a link is no certificate.
            found[name] = top.inside(name, links=path == COPIED)
        except (OSError, Unsafe) as problem:
            found[name] = None
            _leave_out(f"{path}/{name}", problem, say)
    return found


def _mounted(path: str) -> bool:
    return path.startswith(f"{source.MOUNTED}/")


def _matches(pattern: str) -> list[str]:
    if not read.has_magic(pattern):
        return [pattern]
    try:
        return source.matches(pattern)
    except (OSError, Unsafe):
        return []


def _name(found: Source) -> str:
    return found.path.rpartition("/")[2]
