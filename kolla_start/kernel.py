"""What the kernel says: names and the environment, which are bytes, and its own files.

On the container-start path: posix alone, which os is made of. os itself would add a fifteenth to
a start, so no module of a start imports it. The one place outside the disk room that opens a
file, for what stands before that room asks, too (accounts.py): nobody but the kernel can have put
anything there.
"""

from __future__ import annotations

import posix as os


def encode(text: str) -> bytes:
    """A name as the kernel takes it: os.fsencode(), as the launchers set it up (-X utf8).

    Raises ValueError where no bytes give it.
    """
    return text.encode("utf-8", "surrogateescape")


def decode(name: bytes) -> str:
    """A name of the kernel's as text, whatever its bytes are: os.fsdecode()."""
    return name.decode("utf-8", "surrogateescape")


def variable(name: str) -> str | None:
    """A variable of the environment that this process was given, environ(7)."""
    value = os.environ.get(encode(name))
    return None if value is None else decode(value)


def read(path: str) -> bytes:
    """The content of a file below /proc or /sys. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return whole(fd)
    finally:
        os.close(fd)


def whole(fd: int) -> bytes:
    """All that is left to read of an open file, of whatever kind."""
    parts = []
    while part := os.read(fd, 1 << 16):  # a larger buffer is mapped and unmapped each time
        parts.append(part)
    return b"".join(parts)
