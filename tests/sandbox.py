"""A throw-away root filesystem in which the real commands run as the real root.

A private mount and PID namespace with an overlay over `/` whose upper layer is a tmpfs: real
`/etc`, real `/var/lib/kolla`, gone when the sandbox is closed. The upper layer is the exact list
of what a run changed. Used by the tests and by `make demo`; it must never write to the machine
outside, except for the installed program that it keeps in CACHE (and rebuilds when the source
tree changes).

A holder process is PID 1 of the namespaces. Commands are started as children of *this* process
that enter the namespaces (setns(2)) between fork and exec: exit codes, signals and pipes are those
of any other child, several runs follow each other in one sandbox, and nothing is paid for a helper
program in between.
"""

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

import ownroot

TREE = Path(__file__).resolve().parent.parent
CACHE = Path("/var/cache/kolla_start")
PYTHON = "/usr/bin/python3"  # Debian's, which is what an image has
VENV = "/opt/kolla_start"
CONFIG_FILES = "/var/lib/kolla/config_files"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KOLLA_GID = 42400

CLONE_NEWNS = 0x00020000  # linux/sched.h
CLONE_NEWPID = 0x20000000

_libc = ctypes.CDLL(None, use_errno=True)

# Runs as `python -IS -c`; its one argument is JSON: {"binds": [[source, target, readonly]],
# "private_network": bool}. Says "PID\n" when the new root stands or one line that begins with
# "error: "; lives until its standard input is closed. Descriptors 3 and 4 of PID 1 stay open on
# the upper layer and on the lower root: that is how they are read from outside.
_HOLDER = r"""
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
    for name in ("lower", "upper", "work", "root"):
        os.mkdir("/tmp/" + name)
    mount("/", "/tmp/lower", None, BIND)
    root = "/tmp/root"
    mount("overlay", root, "overlay", 0, "lowerdir=/tmp/lower,upperdir=/tmp/upper,"
          "workdir=/tmp/work,redirect_dir=off,index=off,metacopy=off")
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
    keep("/tmp/upper", 3)
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


class Unusable(Exception):
    """This machine cannot make a sandbox; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one path has become since the mark.

    Two changes are equal when a reader of the file could not tell them apart: mtime is left out.
    """

    kind: str  # file, directory, link, fifo, socket, char, block, removed
    uid: int = 0
    gid: int = 0
    mode: int = 0  # permission bits with setuid, setgid, sticky
    digest: str = ""  # SHA-256 of a file's content
    target: str = ""  # of a link
    xattrs: tuple[tuple[str, bytes], ...] = ()
    mtime_ns: int = field(default=0, compare=False)

    def same_as(self, other: "Change") -> bool:
        """Equal, and not even written to: a file rewritten with its own content is a change."""
        return self == other and (self.kind == "directory" or self.mtime_ns == other.mtime_ns)


REMOVED = Change("removed")


class Sandbox:
    """A context manager; `root` is the new root as seen from outside while it is open.

    `network="private"` gives a network of its own with nothing but loopback. `binds` are
    (source outside, target inside, read-only). `installed=False` leaves our program out.
    Raises Unusable where the machine does not allow it.
    """

    def __init__(
        self,
        *,
        network: Literal["host", "private"] = "host",
        binds: Sequence[tuple[str, str, bool]] = (),
        installed: bool = True,
    ) -> None:
        self._asked = {"private_network": network == "private", "binds": [list(b) for b in binds]}
        self._installed = installed
        self._holder: subprocess.Popen[str] | None = None
        self._namespaces: list[int] = []
        self._marked: dict[str, Change] = {}
        self.pid = 0
        self.root = Path("/nonexistent")

    # --- life -----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        reason = unusable()
        if reason:
            raise Unusable(reason)
        _settle()
        program = _program() if self._installed else None
        if program:
            package = f"{VENV}/{_site_packages()}/kolla_start"
            self._asked["binds"] = [
                [str(program.venv), VENV, True],
                [str(program.package), package, True],
                *self._list("binds"),
            ]
        holder = subprocess.Popen(
            [sys.executable, "-IS", "-c", _HOLDER, json.dumps(self._asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert holder.stdout
        said = holder.stdout.readline().strip()
        if not said.isdigit():
            holder.communicate()
            raise Unusable(f"no sandbox on this machine: {said.removeprefix('error: ')}")
        self._holder = holder
        self.pid = int(said)
        self.root = Path(f"/proc/{self.pid}/root")
        self._upper = f"/proc/{self.pid}/fd/3"
        self._lower = f"/proc/{self.pid}/fd/4"
        self._namespaces = [
            os.open(f"/proc/{self.pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for name in ("ns/mnt", "ns/pid", "ns/net", "root")
        ]
        try:
            self._furnish(program)
        except BaseException:
            self.close()
            raise
        self.mark()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process inside and drop the whole tree. Harmless when repeated."""
        if self._holder is None:
            return
        for fd in self._namespaces:
            os.close(fd)
        holder, self._holder = self._holder, None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        holder.communicate()

    def _list(self, key: str) -> list[Any]:
        value = self._asked[key]
        assert isinstance(value, list)
        return value

    def _furnish(self, program: "Program | None") -> None:
        """What a base image has, and nothing that this machine happens to have of ours."""
        for path in (
            "/etc/kolla",
            "/var/lib/kolla",
            "/var/log/kolla",
            "/run/kolla",
            "/run_command",
            "/configured",
        ):
            if os.path.lexists(self.host(path)):
                self.remove(path)
        for path in ("/etc/resolv.conf", "/etc/hosts"):  # an engine mounts them over the root
            if os.path.ismount(path):
                self.write(path, Path(path).read_bytes())
        self.mkdir(CONFIG_FILES)
        if not self._installed or program is None:
            return
        group = self.read("/etc/group")
        if "\nkolla:" not in group:
            self.write("/etc/group", f"{group}kolla:x:{KOLLA_GID}:\n")
        self.mkdir("/var/log/kolla", mode=0o2775, owner=(0, KOLLA_GID))
        self.write("/usr/local/bin/kolla_extend_start", "")
        for launcher in program.launchers.iterdir():
            self.write(f"/usr/local/bin/{launcher.name}", launcher.read_bytes(), mode=0o755)

    # --- running --------------------------------------------------------------------------

    def popen(
        self,
        argv: Sequence[str | bytes],
        *,
        env: Mapping[str, str | None] | None = None,
        user: str | int | None = None,
        cwd: str = "/",
        umask: int = 0o022,
        before_exec: Callable[[], None] | None = None,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[str]:
        """Start argv inside, as a child of this process and leader of its own session.

        `env` is added to a bare environment (PATH, HOME); a value of None takes a name away.
        `user` is looked up inside, with its groups; a number may be unknown there.
        """
        merged: dict[str, str] = {"PATH": PATH, "HOME": "/root"}
        ids = None
        if user is not None:
            ids = self.ids(user)
            merged["HOME"] = ids[3]
        for name, value in (env or {}).items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = value
        mnt, pid, net, root = self._namespaces

        def enter() -> None:
            _setns(net, 0)
            _setns(mnt, CLONE_NEWNS)
            os.fchdir(root)
            os.chroot(".")
            os.chdir(cwd)
            os.umask(umask)
            if ids:
                os.setgroups(ids[2])
                os.setresgid(ids[1], ids[1], ids[1])
                os.setresuid(ids[0], ids[0], ids[0])
            if before_exec:
                before_exec()

        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(pid, CLONE_NEWPID)  # of the children from here on, not of this process
            try:
                return subprocess.Popen(
                    argv,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    env=merged,
                    start_new_session=True,
                    preexec_fn=enter,  # noqa: PLW1509 (this process has one thread)
                    pass_fds=tuple(pass_fds),
                    encoding="utf-8",
                    errors="surrogateescape",
                )
            finally:
                _setns(own, CLONE_NEWPID)
        finally:
            os.close(own)

    def run(
        self,
        argv: Sequence[str | bytes],
        *,
        env: Mapping[str, str | None] | None = None,
        user: str | int | None = None,
        check: bool = False,
        input: str | None = None,
        timeout: float = 60,
        cwd: str = "/",
        umask: int = 0o022,
        before_exec: Callable[[], None] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """popen() to its end. Raises CalledProcessError (with `check`) and TimeoutExpired."""
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        process = self.popen(
            argv,
            env=env,
            user=user,
            cwd=cwd,
            umask=umask,
            before_exec=before_exec,
            stdin=stdin,
        )
        with process:
            try:
                out, err = process.communicate(input, timeout=timeout)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        done = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
        if check and done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            done.check_returncode()
        return done

    def start(
        self,
        *argv: str,
        strategy: str | None = "COPY_ALWAYS",
        env: Mapping[str, str | None] | None = None,
        user: str | int | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """kolla_start ARGV..., until the service ends."""
        return self.run(
            ["kolla_start", *argv],
            env={"KOLLA_CONFIG_STRATEGY": strategy, **(env or {})},
            user=user,
            timeout=timeout,
        )

    def set_configs(
        self,
        *argv: str,
        strategy: str | None = "COPY_ALWAYS",
        env: Mapping[str, str | None] | None = None,
        user: str | int | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """kolla_set_configs ARGV..."""
        return self.run(
            ["kolla_set_configs", *argv],
            env={"KOLLA_CONFIG_STRATEGY": strategy, **(env or {})},
            user=user,
            timeout=timeout,
        )

    # --- the tree from outside ------------------------------------------------------------

    def host(self, path: str, *, follow: bool = False) -> str:
        """The path as this process reaches it. Links on the way lead where they lead inside.

        Joining `root` and a path by hand would follow an absolute link out into the machine.
        """
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                del done[-1:]
                continue
            here = "/".join((str(self.root), *done, part))
            if (todo or follow) and os.path.islink(here):
                links += 1
                if links > 40:
                    raise OSError(40, os.strerror(40), path)
                target = os.readlink(here)
                if target.startswith("/"):
                    done = []
                todo += [p for p in reversed(target.split("/")) if p not in ("", ".")]
            else:
                done.append(part)
        return "/".join((str(self.root), *done))

    def mkdir(self, path: str, mode: int = 0o755, owner: str | tuple[int, int] = "root") -> None:
        """A directory with its missing parents (0755 root), whatever the umask."""
        so_far = ""
        parts = [part for part in path.split("/") if part]
        for index, part in enumerate(parts):
            so_far += "/" + part
            here = self.host(so_far, follow=True)
            last = index == len(parts) - 1
            if not os.path.isdir(here):
                os.mkdir(here)
                os.chmod(here, 0o755)
            if last:
                os.chown(here, *self._owner(owner))
                os.chmod(here, mode)

    def write(
        self,
        path: str,
        data: bytes | str = "",
        owner: str | tuple[int, int] = "root",
        mode: int = 0o644,
    ) -> None:
        """A file with its missing parents (0755 root)."""
        parent = os.path.dirname(path)
        if not os.path.isdir(self.host(parent, follow=True)):
            self.mkdir(parent)
        here = self.host(path, follow=True)
        raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        with open(here, "wb") as stream:
            stream.write(raw)
        os.chown(here, *self._owner(owner))
        os.chmod(here, mode)

    def symlink(self, target: str, path: str, owner: str | tuple[int, int] = "root") -> None:
        """A link at `path`, with its missing parents."""
        parent = os.path.dirname(path)
        if not os.path.isdir(self.host(parent, follow=True)):
            self.mkdir(parent)
        here = self.host(path)
        os.symlink(target, here)
        os.chown(here, *self._owner(owner), follow_symlinks=False)

    def remove(self, path: str) -> None:
        """The path and all below it; nothing if it does not exist."""
        here = self.host(path)
        if os.path.isdir(here) and not os.path.islink(here):
            shutil.rmtree(here)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(here)

    def read_bytes(self, path: str) -> bytes:
        return Path(self.host(path, follow=True)).read_bytes()

    def read(self, path: str) -> str:
        return self.read_bytes(path).decode("utf-8", "surrogateescape")

    def stat(self, path: str) -> os.stat_result:
        """Of the path itself: a link is not followed."""
        return os.lstat(self.host(path))

    def mode(self, path: str) -> int:
        return stat.S_IMODE(self.stat(path).st_mode)

    def exists(self, path: str) -> bool:
        """Also true for a link that leads nowhere."""
        return os.path.lexists(self.host(path))

    def readlink(self, path: str) -> str:
        return os.readlink(self.host(path))

    def chown(self, path: str, owner: str | tuple[int, int]) -> None:
        os.chown(self.host(path), *self._owner(owner), follow_symlinks=False)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.host(path), mode)

    def document(self, content: object, name: str = "config.json") -> None:
        """The mounted document: text and bytes as they are, anything else as JSON."""
        raw = content if isinstance(content, str | bytes) else json.dumps(content, indent=4)
        self.write(f"{CONFIG_FILES}/{name}", raw)

    def source(self, name: str, data: bytes | str = "", mode: int = 0o644) -> str:
        """A file beside the document; returns its path."""
        path = f"{CONFIG_FILES}/{name}"
        self.write(path, data, mode=mode)
        return path

    # --- users ----------------------------------------------------------------------------

    def adduser(
        self,
        name: str,
        uid: int | None = None,
        gid: int | None = None,
        home: str | None = None,
        groups: Sequence[str] = (),
    ) -> int:
        """A user with a group of its own name, as a package would make it; returns the uid."""
        users = self._lines("/etc/passwd")
        known = [line for line in users if line[0] == name]
        if known:
            number = int(known[0][2])
        else:
            taken = {int(line[2]) for line in users}
            number = (
                uid if uid is not None else next(n for n in range(42401, 60000) if n not in taken)
            )
            group = gid if gid is not None else number
            entry = [name, "x", str(number), str(group), "", home or f"/var/lib/{name}", "/bin/sh"]
            self._save("/etc/passwd", [*users, entry])
            if name not in {line[0] for line in self._lines("/etc/group")}:
                self.addgroup(name, group)
        members = self._lines("/etc/group")
        for line in members:
            if line[0] in groups:
                line[3] = ",".join([*filter(None, line[3].split(",")), name])
        if groups:
            self._save("/etc/group", members)
        return number

    def addgroup(self, name: str, gid: int) -> None:
        self._save("/etc/group", [*self._lines("/etc/group"), [name, "x", str(gid), ""]])

    def _lines(self, path: str) -> list[list[str]]:
        return [line.split(":") for line in self.read(path).splitlines() if line]

    def _save(self, path: str, lines: list[list[str]]) -> None:
        self.write(path, "".join(":".join(line) + "\n" for line in lines))

    def ids(self, user: str | int) -> tuple[int, int, list[int], str]:
        """uid, gid, supplementary groups, home: of the databases inside."""
        for line in self._lines("/etc/passwd"):
            if user in (line[0], int(line[2])):
                gid = int(line[3])
                more = [
                    int(group[2])
                    for group in self._lines("/etc/group")
                    if line[0] in group[3].split(",")
                ]
                return int(line[2]), gid, [gid, *more], line[5]
        if isinstance(user, int):
            return user, user, [user], "/"
        raise LookupError(f"no user {user} in the sandbox")

    def _owner(self, owner: str | tuple[int, int]) -> tuple[int, int]:
        if not isinstance(owner, str):
            return owner
        name, _, group = owner.partition(":")
        if name == "root" and group in ("", "root"):
            return 0, 0
        uid, gid, _, _ = self.ids(int(name) if name.isdigit() else name)
        if group:
            found = [g for g in self._lines("/etc/group") if group in (g[0], g[2])]
            gid = int(found[0][2]) if found else int(group)
        return uid, gid

    # --- what changed ---------------------------------------------------------------------

    def mark(self) -> None:
        """From here on, changes() counts from the present state."""
        self._marked = self._layer()

    def changes(self) -> dict[str, Change]:
        """Every path that differs from the mark, and how it stands now.

        A directory that is gone is one entry, without what was in it. A directory that is only
        there because something in it changed is none. What lies on other mounts inside (/proc,
        /dev, whatever a test mounted) is not seen.
        """
        now = self._layer()
        found: dict[str, Change] = {}
        for path, change in now.items():
            before = self._before(path)
            if before is None:
                if change.kind != "removed":
                    found[path] = change
            elif not change.same_as(before):
                found[path] = change
        for path, before in self._marked.items():
            if path in now or before.kind == "removed":
                # A whiteout that is gone without anything in its place cannot be: overlayfs
                # keeps it as long as the lower layer has the name.
                continue
            if not any(above in found and _gone(found[above]) for above in _above(path)):
                found[path] = REMOVED
        return dict(sorted(found.items()))

    def _before(self, path: str) -> Change | None:
        """The path's state at the mark, or None if it was not there."""
        marked = self._marked.get(path)
        if marked is not None:
            return None if marked.kind == "removed" else marked
        for above in _above(path):
            at_mark = self._marked.get(above)
            if at_mark is not None and at_mark.kind != "directory":
                return None
        try:
            return _look(self._lower + path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _layer(self) -> dict[str, Change]:
        """The upper layer: overlayfs.rst of the kernel, "whiteouts and opaque directories"."""
        found: dict[str, Change] = {}

        def walk(inside: str) -> None:
            with os.scandir(self._upper + inside) as entries:
                names = [entry.name for entry in entries]
            if inside and _opaque(self._upper + inside):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    for name in os.listdir(self._lower + inside):
                        if name not in names:
                            found[f"{inside}/{name}"] = REMOVED
            for name in names:
                path = f"{inside}/{name}"
                change = _look(self._upper + path)
                found[path] = change
                if change.kind == "directory":
                    walk(path)

        walk("")
        return found


def _gone(change: Change) -> bool:
    return change.kind != "directory"


def _above(path: str) -> Iterator[str]:
    """The directories above, nearest first, without the root."""
    while (path := path.rpartition("/")[0]) != "":
        yield path


_KINDS: dict[int, str] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


def _look(path: str) -> Change:
    st = os.lstat(path)
    kind = _KINDS[stat.S_IFMT(st.st_mode)]
    if kind == "char" and st.st_rdev == 0:
        return REMOVED
    digest = ""
    if kind == "file":
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Change(
        kind,
        st.st_uid,
        st.st_gid,
        stat.S_IMODE(st.st_mode),
        digest,
        os.readlink(path) if kind == "link" else "",
        _xattrs(path),
        st.st_mtime_ns,
    )


def _xattrs(path: str) -> tuple[tuple[str, bytes], ...]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return ()
    return tuple(
        (name, os.getxattr(path, name, follow_symlinks=False))
        for name in names
        if not name.startswith("trusted.overlay.") and name != "security.selinux"
    )


def _opaque(path: str) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _setns(fd: int, kind: int) -> None:
    if _libc.setns(fd, kind):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


# --- whether it can be done, and the program that is put inside -------------------------------


def unusable() -> str | None:
    """Why this machine cannot make a sandbox, as far as it can be said without trying."""
    if sys.platform != "linux":
        return "the sandbox needs Linux namespaces"
    if os.geteuid() != 0:
        return "the sandbox needs root (mount namespaces, overlayfs): run as root"
    if not os.path.exists(PYTHON):
        return f"the sandbox needs the system's own Python, {PYTHON}"
    root = os.stat("/").st_dev
    for path in ("/etc", "/usr", "/var", "/opt"):
        if os.stat(path).st_dev != root:
            return f"the sandbox needs {path} on the filesystem of /, and it is a mount of its own"
    return None


@functools.cache
def _settle() -> None:
    """In a chroot, whose root is no mount, nothing can be mounted over it: make it one, once."""
    try:
        ownroot.settle()
    except OSError as error:
        raise Unusable(f"no mount namespace on this machine: {error}") from error


@dataclass(frozen=True, slots=True)
class Program:
    """Our program as installed: directories in the cache, mounted into each sandbox."""

    venv: Path
    package: Path
    launchers: Path


_built: dict[str, Program] = {}


def _site_packages() -> str:
    version = os.path.basename(os.path.realpath(PYTHON))  # python3.11
    return f"lib/{version}/site-packages"


def _program() -> Program:
    """The program of the present source tree, installed at VENV, built if it has changed.

    Two parts, so that an edit costs a copy and not a pip run: a virtual environment with the
    dependencies, and the package with its launchers. Both are built inside a sandbox, at the
    paths they will have.
    """
    # Once for each process: a sandbox must not change in the middle of a test session.
    if "program" in _built:
        return _built["program"]
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    needs = list(project["dependencies"])
    base = f"{os.path.realpath(PYTHON)} {_python_version()} {needs}"
    sources = sorted(
        path for path in (TREE / "kolla_start").rglob("*") if path.suffix in (".py", ".typed")
    )
    content = hashlib.sha256(base.encode())
    for path in sources:
        content.update(str(path.relative_to(TREE)).encode() + b"\0" + path.read_bytes() + b"\0")
    venv = CACHE / f"venv-{_short(base.encode())}"
    program = CACHE / f"program-{content.hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not venv.is_dir():
            _build_venv(venv, needs)
        if not program.is_dir():
            _build_program(program, venv, sources)
        os.utime(program)
        for old in CACHE.glob("program-*"):
            if time.time() - old.stat().st_mtime > 86400:
                shutil.rmtree(old, ignore_errors=True)
    _built["program"] = Program(venv, program / "package", program / "bin")
    return _built["program"]


def _build_venv(venv: Path, needs: list[str]) -> None:
    unfinished = venv.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    outside = {name: value for name, value in os.environ.items() if name != "HOME"}
    with Sandbox(installed=False, binds=[(str(unfinished), VENV, False)]) as box:
        for argv in (
            [PYTHON, "-m", "venv", VENV],
            [f"{VENV}/bin/pip", "install", "-q", "--compile", *needs],
            [f"{VENV}/bin/pip", "uninstall", "-q", "-y", "setuptools", "pip"],
            ["mkdir", f"{VENV}/{_site_packages()}/kolla_start"],
        ):
            done = box.run(argv, env=outside, timeout=600)
            if done.returncode:
                raise Unusable(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
    unfinished.rename(venv)


def _build_program(program: Path, venv: Path, sources: list[Path]) -> None:
    unfinished = program.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "package").mkdir(parents=True)
    (unfinished / "bin").mkdir()
    for path in sources:
        copy = unfinished / "package" / path.relative_to(TREE / "kolla_start")
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
    package = f"{VENV}/{_site_packages()}/kolla_start"
    binds = [(str(venv), VENV, True), (str(unfinished / "package"), package, False)]
    with Sandbox(installed=False, binds=binds) as box:
        python = f"{VENV}/bin/python"
        box.run([python, "-I", "-m", "compileall", "-q", package], check=True)
        install = [python, "-I", "-m", "kolla_start.commands", "--into", "/usr/local/bin"]
        box.run(install, check=True)
        for made, change in box.changes().items():
            if change.kind == "file" and made.startswith("/usr/local/bin/"):
                launcher = unfinished / "bin" / os.path.basename(made)
                launcher.write_bytes(box.read_bytes(made))
    unfinished.rename(program)


def _python_version() -> str:
    return subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=True
    ).stdout.strip()


def _short(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]
