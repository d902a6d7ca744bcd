"""A disk of its own for a sandbox: a real filesystem on a loop device, which can lose its power.

The backing file is memory (memfd_create(2)): nothing is left on the machine, and no flush waits for
its real disk. The device is given back by the kernel with the last mount of it (loop(4),
LO_FLAGS_AUTOCLEAR), and the mount goes with the sandbox's namespace, however that ends.
"""

import contextlib
import errno
import fcntl
import functools
import itertools
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from machine import Unusable

_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A  # linux/loop.h: LOOP_CTL_GET_FREE, LOOP_CONFIGURE
_AUTOCLEAR = 4
_PAGE = 4096
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A kind of filesystem: how it is made and mounted."""

    kind: str
    mebibytes: int
    make: tuple[str, ...]
    options: str


_EXT4 = ("-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")
FILESYSTEMS = {
    "ext4 ordered": Filesystem("ext4", 64, _EXT4, "data=ordered"),
    # No mercy for programs that rename without a flush.
    "ext4 writeback": Filesystem("ext4", 64, _EXT4, "data=writeback,noauto_da_alloc"),
    # Sizes are there before contents: whole files of zeros.
    "ext4 nodelalloc": Filesystem(
        "ext4", 64, _EXT4, "data=writeback,noauto_da_alloc,nodelalloc"
    ),
    # mkfs.xfs makes none below 300 MB; a copy has the original's UUID.
    "xfs": Filesystem("xfs", 320, ("-K",), "nouuid"),
}  # fmt: skip


class Disk:
    """A filesystem, and perhaps another one for the volume at /srv/volume.

    furnished: a sandbox was made on it, and is there when it boots again.
    """

    def __init__(
        self,
        filesystem: Filesystem,
        backing: int,
        volume: "Disk | None" = None,
        furnished: bool = False,
    ) -> None:
        self.filesystem = filesystem
        self.volume = volume
        self.furnished = furnished
        self.device = ""
        self._backing = backing

    @classmethod
    def made(cls, filesystem: Filesystem, apart: bool = False) -> "Disk":
        """A new one, or with `apart` two. Raises Unusable where there is no such filesystem."""
        volume = cls.made(filesystem) if apart else None
        return cls(filesystem, _sparse(_made(filesystem)), volume)

    @contextlib.contextmanager
    def attached(self) -> Iterator[list[tuple[str, str, str]]]:
        """What to mount; the devices are kept until the end of this or of the mounts."""
        with contextlib.ExitStack() as stack:
            fd, self.device = _attach(self._backing)
            stack.callback(os.close, fd)
            found = [(self.device, self.filesystem.kind, self.filesystem.options)]
            if self.volume:
                found += stack.enter_context(self.volume.attached())
            yield found

    def in_use(self) -> bool:
        """Whether the device still is this disk."""
        try:
            with open(f"{_block(self.device)}/loop/backing_file") as file:
                return file.read().strip() == os.readlink(f"/proc/self/fd/{self._backing}")
        except FileNotFoundError:
            return False

    def writes(self) -> tuple[int, int]:
        """How much has reached the devices and how much is on its way (iostats.rst)."""
        with open(f"{_block(self.device)}/stat") as file:
            fields = file.read().split()
        done, coming = self.volume.writes() if self.volume else (0, 0)
        return done + int(fields[4]) + int(fields[11]), coming + int(fields[8])

    def copy(self) -> "Disk":
        """The disk as it is after a power cut now: what has reached the device by one moment."""
        until = time.monotonic() + 30
        while True:
            before = self.writes() if self.in_use() else (0, 0)
            volume = self.volume.copy() if self.volume else None
            copy = Disk(self.filesystem, _sparse(self._backing), volume, self.furnished)
            # A write meanwhile could be there without one that the filesystem waited for first.
            if before[1] == 0 and (not self.in_use() or self.writes() == before):
                return copy
            copy.close()
            assert time.monotonic() < until, "the device does not come to rest"

    def close(self) -> None:
        os.close(self._backing)
        if self.volume:
            self.volume.close()

    def __enter__(self) -> "Disk":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _block(device: str) -> str:
    return f"/sys/block/{os.path.basename(device)}"


def _memory(size: int) -> int:
    fd = os.memfd_create(f"disk {os.getpid()} {next(_numbers)}")
    os.ftruncate(fd, size)
    return fd


@functools.cache
def _made(filesystem: Filesystem) -> int:
    fd = _memory(filesystem.mebibytes << 20)
    program = f"mkfs.{filesystem.kind}"
    path = f"/usr/sbin/{program}"
    if not os.path.exists(path):
        raise Unusable(f"{program} is not installed: run `make setup` as root")
    subprocess.run(
        [path, "-q", *filesystem.make, f"/proc/self/fd/{fd}"],
        pass_fds=[fd],
        check=True,
        capture_output=True,
    )
    return fd


def _attach(backing: int) -> tuple[int, str]:
    """A descriptor of a loop device with that file, and its path."""
    config = struct.pack("II52xI240x", backing, 0, _AUTOCLEAR)  # struct loop_config
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            while True:
                path = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(fd, _CONFIGURE, config)
                    return fd, path
                except OSError as error:
                    os.close(fd)
                    if error.errno != errno.EBUSY:  # somebody was faster
                        raise
        finally:
            os.close(control)
    except OSError as error:
        raise Unusable(f"no loop device on this machine: {error}") from error


def _sparse(backing: int) -> int:
    """A copy of a file in memory, without its holes and its zeros."""
    copy = _memory(os.fstat(backing).st_size)
    at = 0
    zeros = bytes(_PAGE)
    with contextlib.suppress(OSError):  # ENXIO: only a hole is left
        while True:
            at = os.lseek(backing, at, os.SEEK_DATA)
            end = os.lseek(backing, at, os.SEEK_HOLE)
            while at < end:
                data = os.pread(backing, min(_PAGE, end - at), at)
                if data != zeros:
                    os.pwrite(copy, data, at)
                at += len(data)
    return copy
