"""The kernel's own files: what /proc and /sys say of this process and its mounts.

On the container-start path: imports os only. The one place outside the disk room that opens a
file, for what stands before that room asks, too (accounts.py): nobody but the kernel can have put
anything there.
"""

from __future__ import annotations

import os


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
