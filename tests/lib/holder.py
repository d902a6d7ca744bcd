"""The process that holds a sandbox's namespaces open, and how another one enters them.

A program of its own, given to a bare interpreter: it must not share anything with the process that
runs the tests, and nothing of this module's is at hand where it runs.
"""

import ctypes
import os

CLONE_NEWNS = 0x00020000  # linux/sched.h
CLONE_NEWPID = 0x20000000

_libc = ctypes.CDLL(None, use_errno=True)


def setns(fd: int, kind: int) -> None:
    """Of this process, or with CLONE_NEWPID of its children: setns(2)."""
    if _libc.setns(fd, kind):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


# Runs as `python -IS -c`; its one argument is JSON: {"binds": [[source, target, readonly]],
# "private_network": bool, "disks": [[device, kind, options]]: where the upper layer lies instead of
# in memory, and what is at /srv/volume}. Says "PID\n" when the new root stands or one line that
# begins with "error: "; lives until its standard input is closed. Descriptors 3 and 4 of PID 1 stay
# open on the upper layer and on the lower root: that is how they are read from outside.
PROGRAM = r"""
import ctypes, fcntl, json, os, signal, socket, stat, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT = 1, 2, 4, 8, 32
BIND, MOVE, REC, PRIVATE = 4096, 8192, 16384, 1 << 18
NEWNS, NEWPID, NEWNET, DETACH, PIVOT_ROOT = 0x20000, 0x20000000, 0x40000000, 2, 155
if os.uname().machine != "x86_64":
    PIVOT_ROOT = 41  # the number of the generic table: arm64, riscv64
asked = json.loads(sys.argv[1])

def check(result, what):
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")

def mount(source, target, kind, flags=0, data=None):
    enc = lambda text: None if text is None else os.fsencode(text)
    check(libc.mount(enc(source), enc(target), enc(kind), ctypes.c_ulong(flags), enc(data)),
          f"mount {kind or 'bind'} on {target}")

def keep(path, number):
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    if fd != number:
        os.dup2(fd, number)
        os.close(fd)

def build():
    for fd in (3, 4):  # so that keep() never meets a descriptor that is in use
        os.closerange(fd, fd + 1)
    os.umask(0o022)
    mount(None, "/", None, REC | PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0755")
    for name in ("lower", "disk", "root"):
        os.mkdir("/tmp/" + name)
    mount("/", "/tmp/lower", None, BIND)
    for place, (device, kind, options) in zip(("", "/volume"), asked["disks"]):
        os.makedirs("/tmp/disk" + place, exist_ok=True)
        mount(device, "/tmp/disk" + place, kind, 0, options)
    for name in ("upper", "work"):
        os.makedirs("/tmp/disk/" + name, exist_ok=True)
    root = "/tmp/root"
    mount("overlay", root, "overlay", 0, "lowerdir=/tmp/lower,upperdir=/tmp/disk/upper,"
          "workdir=/tmp/disk/work,redirect_dir=off,index=off,metacopy=off")
    if asked["disks"]:
        for place in ("/tmp/disk/volume", root + "/srv/volume"):
            os.makedirs(place, exist_ok=True)
        mount("/tmp/disk/volume", root + "/srv/volume", None, BIND)
    mount("proc", root + "/proc", "proc", NOSUID | NODEV | NOEXEC)
    if os.path.ismount("/sys"):
        mount("/sys", root + "/sys", None, BIND | REC)
    mount("tmpfs", root + "/dev", "tmpfs", NOSUID, "mode=0755")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        # Nodes of its own: what a run does to them must not reach the machine's.
        number = os.stat("/dev/" + name).st_rdev
        os.mknod(f"{root}/dev/{name}", stat.S_IFCHR | 0o666, number)
        os.chmod(f"{root}/dev/{name}", 0o666)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"),
                         ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
                         ("ptmx", "pts/ptmx")):
        os.symlink(target, f"{root}/dev/{name}")
    for name, kind, data in (("shm", "tmpfs", "mode=1777"),
                             ("pts", "devpts", "newinstance,ptmxmode=0666,mode=620")):
        os.mkdir(f"{root}/dev/{name}")
        mount(kind, f"{root}/dev/{name}", kind, NOSUID, data)
    for source, target, readonly in asked["binds"]:
        os.makedirs(root + target, exist_ok=True)
        mount(source, root + target, None, BIND)
        if readonly:
            mount(None, root + target, None, BIND | REMOUNT | RDONLY)
    keep("/tmp/disk/upper", 3)
    keep("/tmp/lower", 4)
    if asked["private_network"]:
        with socket.socket() as sock:  # netdevice(7): bring the loopback interface up
            fcntl.ioctl(sock, 0x8914, struct.pack("16sh22x", b"lo", 0x1 | 0x40))
        mount("sysfs", root + "/sys", "sysfs", NOSUID | NODEV | NOEXEC | RDONLY)
    os.chdir(root)
    if libc.syscall(PIVOT_ROOT, b".", b".") == 0:
        check(libc.umount2(b".", DETACH), "umount of the old root")
    else:  # we were ourselves started in a chroot, whose root is no mount
        mount(".", "/", None, MOVE)
        os.chroot(".")
    os.chdir("/")

try:
    check(libc.unshare(NEWNS | NEWPID | (NEWNET if asked["private_network"] else 0)), "unshare")
    ready, done = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            os.close(ready)
            os.dup2(done, 9)
            os.closerange(3, 9)
            build()
            os.write(9, b"ok")
        except Exception as error:
            os.write(9, f"error: {error}".encode())
            os._exit(1)
        os.close(9)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans are reaped by the kernel
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, 1)
        os.read(0, 1)
        os._exit(0)
    os.close(done)
    said = os.read(ready, 4096)
    print(holder if said == b"ok" else said.decode(), flush=True)
except OSError as error:
    print(f"error: {error}", flush=True)
    os._exit(1)
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.close(0)
os.waitpid(holder, 0)
os._exit(0)
"""
