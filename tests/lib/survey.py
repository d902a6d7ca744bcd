"""What stands in a sandbox, as the oracle writes it down, and where two of such lists differ."""

import os
import posixpath
import stat
from collections.abc import Iterator
from typing import NamedTuple

from paper import Files, Node
from sandbox import CONFIG_FILES, Sandbox, look

DOCUMENT = f"{CONFIG_FILES}/config.json"


class Stamp(NamedTuple):
    """What a file that is not touched keeps."""

    inode: int
    mtime_ns: int


def survey(box: Sandbox, *tops: str) -> tuple[Files, dict[str, Stamp]]:
    """Every path at and below `tops`, through no link; the document itself is left out."""
    found, stamps = Files(), dict[str, Stamp]()

    def walk(path: str, deeper: bool = True) -> None:
        host = f"{box.root}{path}"
        if not os.path.lexists(host) or path == DOCUMENT:
            return
        at = os.lstat(host)
        seen = look(host)
        content = b""
        if seen.kind == "file":
            with open(host, "rb") as stream:
                content = stream.read()
        elif seen.kind == "link":
            content = os.fsencode(seen.target)
        mode = 0 if seen.kind == "link" else seen.mode
        found[path] = Node(seen.kind, seen.uid, seen.gid, mode, content, seen.xattrs)
        stamps[path] = Stamp(at.st_ino, at.st_mtime_ns)
        if deeper and stat.S_ISDIR(at.st_mode):
            for name in os.listdir(host):
                walk(f"{path}/{name}")

    for top in tops:
        for above in ways(posixpath.dirname(top)):
            walk(above, deeper=False)
        walk(top)
    return found, stamps


def ways(path: str) -> Iterator[str]:
    """The path and what is above it."""
    while path != "/":
        yield path
        path = posixpath.dirname(path)


Pair = tuple[Node | None, Node | None]


def difference(
    found: Files, wanted: Files, doubt: set[str] | frozenset[str] = frozenset()
) -> dict[str, Pair]:
    return {
        path: (found.get(path), wanted.get(path))
        for path in sorted({**found, **wanted})
        if found.get(path) != wanted.get(path) and path not in doubt
    }


def told(wrong: dict[str, Pair]) -> str:
    return "\n".join(
        f"{path}\n   expected {pair[1]}\n   found    {pair[0]}" for path, pair in wrong.items()
    )
