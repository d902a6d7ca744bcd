"""Makes a chroot a place where a container engine works; nothing on any other machine.

In a chroot, the root of a process is not the root of its mount namespace. `podman exec` enters
the container's namespace by setns(2), which leads to the latter: the command would run outside of
the container *and* of the chroot. And a chroot mostly has no cgroup filesystem, without which no
runtime starts anything. Both are put right for this process and its children, in a mount namespace
of their own; what the machine has mounted stays as it is.
"""

import ctypes
import os
import platform

_NEWNS = 0x20000  # linux/sched.h
_BIND, _REC, _PRIVATE, _DETACH = 4096, 16384, 1 << 18, 2  # linux/mount.h
_PIVOT_ROOT = 155 if platform.machine() == "x86_64" else 41

_libc = ctypes.CDLL(None, use_errno=True)


def settle() -> None:
    """Once is enough, again is harmless. Raises OSError; needs root, and does nothing without."""
    if os.geteuid() != 0:
        return
    chrooted, bare = _chrooted(), not _has_cgroups()
    if not (chrooted or bare):
        return
    here = os.getcwd()
    _check(_libc.unshare(_NEWNS), "unshare")
    if chrooted:
        _make_root()
        os.chdir(here)
    _mount(None, "/", None, _REC | _PRIVATE)
    if bare:
        _mount_cgroups()


def _chrooted() -> bool:
    """Whether the namespace's root is another directory than ours; a child goes and looks."""
    own = os.stat("/")
    child = os.fork()
    if child == 0:
        code = 2
        try:
            _leave()
            there = os.stat("/")
            code = int((own.st_dev, own.st_ino) != (there.st_dev, there.st_ino))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def _leave() -> None:
    """Root and working directory become those of the mount namespace: setns(2)."""
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(own, _NEWNS), "setns")
    finally:
        os.close(own)


def _make_root() -> None:
    """The present root becomes the root of the (already private) mount namespace."""
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    _leave()
    _mount(None, "/", None, _REC | _PRIVATE)
    path = os.readlink(f"/proc/self/fd/{root}")
    os.close(root)
    _mount(path, path, None, _BIND | _REC)  # pivot_root(2) wants a mount
    os.chdir(path)
    _check(_libc.syscall(_PIVOT_ROOT, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _DETACH), "umount of the old root")
    os.chdir("/")


def _has_cgroups() -> bool:
    with open("/proc/self/mounts") as mounts:
        return any(line.split()[2] in ("cgroup", "cgroup2") for line in mounts)


def _mount_cgroups() -> None:
    """The hierarchies that the kernel has already: cgroups(7)."""
    top = "/sys/fs/cgroup"
    if not os.path.isdir(top):
        _mount("sysfs", "/sys", "sysfs", 0)
    with open("/proc/self/cgroup") as lines:
        hierarchies = [line.split(":")[1] for line in lines]
    if hierarchies == [""]:
        _mount("cgroup2", top, "cgroup2", 0)
        return
    _mount("tmpfs", top, "tmpfs", 0)
    for controllers in filter(None, hierarchies):
        place = f"{top}/{controllers.removeprefix('name=')}"
        os.mkdir(place)
        named = f"none,{controllers}" if controllers.startswith("name=") else controllers
        _mount("cgroup", place, "cgroup", 0, named)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    result = _libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None)
    _check(result, f"mount {kind or 'bind'} on {target}")


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
