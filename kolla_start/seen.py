"""Large directories known to be as their source: a restart looks at them and does not read them.

On the container-start path, imported for directories of many entries only. A fingerprint is made
of the name, device, inode number, size and change time (ctime) of every entry of the source and of
its copy; it is recorded when both are known to hold the same. No call sets a change time
(inode(7)), so while the fingerprint stays the same nobody has written to either. Where that does
not follow there is no fingerprint, and everything is read, as it is without this file:

- A power cut may leave a file its size and times without its content: it holds for one boot.
- A clock has ticks, and a second write within one leaves the time as it is (git calls such
  entries racy): what is as young as the look at it is not trusted yet.
- A mapping (mmap(2)) that was made before the look may write later without a new time: a copy is
  trusted only where no other user than root (or this very one, where there is no root) may write
  to any entry of it, or to a directory above it.
- A network's server, or a FUSE one, makes change times of its own: local filesystems only.

Nothing here writes or decides: plan.py asks for fingerprints, records.py keeps them.
"""

import marshal
import os
import stat
import time
from _operator import attrgetter, itemgetter

from kolla_start import disk, helper
from kolla_start.tree import ancestors

# What an entry is, beside its path below the top.
_FACTS = attrgetter("st_dev", "st_ino", "st_size", "st_ctime_ns")
# A network's or a FUSE server's change times come from elsewhere, and late.
_LOCAL = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "overlay"))
Facts = tuple[str, int, int, int, int]

_BELOW = itemgetter(0)
_CHANGED = itemgetter(4)
_REALTIME_COARSE = 5  # clock_gettime(2): the clock that files are stamped with
_TICK_NS = 2_000_000_000  # the coarsest one of any filesystem: FAT's two seconds
# Whole milliseconds may come from a filesystem that has longer ticks than the clock.
_FINE_NS = 1_000_000


def now() -> int:
    """The time (ns) as a file would be stamped with at this moment."""
    return time.clock_gettime_ns(_REALTIME_COARSE)


def fingerprint(key: object, source: str, copy: str) -> str | None:
    """Of a mounted directory and its copy, both looked at now; None if it would prove nothing.

    `key`: all else on which it depends that the copy is as it should be.
    """

    def look() -> bytes:
        return _of_copy(copy) or b"-"

    other = helper.start(look)
    mine = _of_mounted(source)
    theirs = (other.result() if other is not None else b"") or look()
    return _whole(key, mine, theirs if theirs != b"-" else None)


def of_source(entries: list[Facts], when: int) -> bytes | None:
    """The source's half, from what a plan has learnt of it since `when` (ns)."""
    return _digest(entries, when - _TICK_NS)


def with_copy(key: object, half: bytes, copy: str) -> str | None:
    """The fingerprint once the copy stands, just written; None if it would prove nothing."""
    tick = now()
    while now() == tick:
        time.sleep(0.001)
    return _whole(key, half, _of_copy(copy))


def facts(below: str, status: os.stat_result) -> Facts:
    """What an entry is: its path below the top, device, inode number, size and change time."""
    return (below, *_FACTS(status))


def _of_mounted(top: str) -> bytes | None:
    try:
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    return _look(fd, now() - _TICK_NS, private=False)


def _of_copy(top: str) -> bytes | None:
    try:
        for place in ancestors(top):
            status = disk.lstat(place)
            if status is None or not disk.private(status):
                return None
        fd = disk.open_directory(top)
    except (OSError, disk.Unsafe):
        return None
    return _look(fd, now() - 1, private=True)


def _look(top: int, latest: int, private: bool) -> bytes | None:
    """Half a fingerprint, of an open directory, which is closed; None if it would prove nothing.

    `latest`: the youngest change time (ns) that can be trusted. `private`: no other user may be
    able to write, and no link is followed. Without, links to files are, as the plan does.
    """
    own = os.geteuid()
    entries = []
    todo = [""]
    try:
        status = os.fstat(top)
        if private and not disk.private(status):
            return None
        entries.append(facts("", status))
        while todo:
            below = todo.pop()
            # Every directory on this way is root's alone, or the operator's.
            fd = os.open(f".{below}", disk.LIST, dir_fd=top)
            try:
                with os.scandir(fd) as found:
                    for entry in found:
                        path = f"{below}/{entry.name}"
                        if private:
                            status = entry.stat(follow_symlinks=False)
                            if status[0] & 0o022 or status[4] not in (own, 0):
                                return None
                        elif entry.name.startswith(".."):
                            continue  # as the plan does
                        else:
                            status = entry.stat()
                        kind = status[0] & 0o170000
                        if kind == stat.S_IFDIR:
                            if entry.is_symlink():
                                return None  # it might lead back
                            todo.append(path)
                        elif kind != stat.S_IFREG:
                            return None
                        entries.append((path, *_FACTS(status)))
            finally:
                os.close(fd)
    except OSError:
        return None
    finally:
        os.close(top)
    if not _local({entry[1] for entry in entries}, entries[0][1]):
        return None
    return _digest(entries, latest)


def _local(devices: set[int], top: int) -> bool:
    """Whether all are filesystems whose change times this kernel makes (proc(5), mountinfo)."""
    kinds: dict[int, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            major, minor = line.split(" ", 3)[2].split(":")
            kinds[os.makedev(int(major), int(minor))] = line.rpartition(" - ")[2].split(" ", 1)[0]
    if kinds.get(top) not in _LOCAL:
        return False
    # The files of an overlay may bear devices that no table has.
    other = "overlay" if kinds[top] == "overlay" else ""
    return all(kinds.get(device, other) in _LOCAL for device in devices)


def _digest(entries: list[Facts], latest: int) -> bytes | None:
    youngest = max(map(_CHANGED, entries))
    if youngest > latest or (
        youngest > latest - _TICK_NS
        and any(time > latest - _TICK_NS and not time % _FINE_NS for time in map(_CHANGED, entries))
    ):
        return None
    entries.sort(key=_BELOW)
    return _hash(marshal.dumps(entries, 0))


def _hash(data: bytes) -> bytes | None:
    try:
        from _blake2 import blake2b  # hashlib would load OpenSSL

        return blake2b(data, digest_size=16).digest()
    except (ImportError, ValueError):
        return None  # in FIPS mode some distributions forbid it


def _whole(key: object, mine: bytes | None, theirs: bytes | None) -> str | None:
    if mine is None or theirs is None:
        return None
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        boot = os.read(fd, 64)
    finally:
        os.close(fd)
    whole = _hash(repr(key).encode("utf-8", "surrogateescape") + boot + mine + theirs)
    return None if whole is None else whole.hex()
