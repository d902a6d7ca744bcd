"""What a hostile service leaves behind for root: planted situations, and canaries to tell.

Used by test_hostile.py and torture.py, for this program and for upstream's alike. A situation is
planted as the service could have prepared it (or worse: by root), then one document is applied.
Whatever happens, no canary may change; and the document is either carried out but for the planted
place, or refused with nothing touched.
"""

import dataclasses
import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peer
from sandbox import CONFIG_FILES, VENV, Sandbox

SERVICE = "svc"
UID = 4321
LOG = "/var/log/kolla/svc"  # both belong to the service, in the plain layout
HOME = "/var/lib/svc"
SHARED = "/var/log/kolla"
NEIGHBOUR = f"{SHARED}/neighbour"  # in the shared one; its owner keeps it to itself
SECRET = "/etc/canary/secret"
OUTSIDE = "/srv/outside/file"
WATCHED = ("/etc/shadow", "/etc/canary", SECRET, "/srv/outside", OUTSIDE, "/etc/passwd", "/etc")
REST = "/etc/rest.conf"  # the rest of the document

# Every line of our log: nothing that a service named can break or forge one.
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (INFO|WARNING|ERROR) .*")


def furnish(box: Sandbox) -> None:
    """The service, what belongs to it, and the canaries."""
    box.adduser(SERVICE, UID, home=HOME)
    box.mkdir(LOG, owner=SERVICE)
    box.mkdir(HOME, owner=SERVICE)
    _canaries(box)


def furnish_shared(box: Sandbox) -> None:
    """The same in kolla-ansible's log volume: a third user's, and a group's that can write it."""
    for user in ("fluentd", "neighbour"):
        box.adduser(user, groups=["kolla"])
    box.adduser(SERVICE, UID, groups=["kolla"])
    box.mkdir(SHARED, mode=0o2775, owner="fluentd:kolla")
    for path in IN_SHARED:
        box.mkdir(path, mode=0o2775, owner=f"{SERVICE}:kolla")
    box.mkdir(NEIGHBOUR, mode=0o700, owner="neighbour")
    box.write(f"{NEIGHBOUR}/own.log", "the neighbour's own secret", "neighbour", 0o600)
    box.mkdir(f"{SHARED}/open", mode=0o2775, owner="neighbour:kolla")
    box.write(f"{SHARED}/open/own.log", "the neighbour's secret", "neighbour:neighbour", 0o600)
    box.write(f"{SHARED}/open/group.log", "for the group", "neighbour:kolla", 0o664)
    _canaries(box)


IN_SHARED = (LOG, f"{SHARED}/svc-home")
# As kolla-ansible's documents begin.
GIVEN: list[dict[str, Any]] = [
    {"path": SHARED, "owner": "fluentd:kolla", "perm": "2775"},
    *({"path": path, "owner": f"{SERVICE}:kolla", "perm": "2775"} for path in IN_SHARED),
]


def _canaries(box: Sandbox) -> None:
    box.mkdir("/etc/canary", mode=0o700)
    box.write(SECRET, "root's own secret", mode=0o600)
    box.write(OUTSIDE, "not the service's", mode=0o644)
    box.source("rest.conf", "the rest")


Canary = tuple[int, int, int, int, int, int, bytes | tuple[str, ...]]


def canaries(
    box: Sandbox, ctime: bool = True, more: tuple[str, ...] = ()
) -> dict[str, Canary | None]:
    """Inode, owner, mode, times, and content (of a directory: its names) of each canary.

    None for one that is gone, or whose directory is.
    """
    found: dict[str, Canary | None] = {}
    for path in (*WATCHED, *more):
        host = box.host(path)
        try:
            status = os.lstat(host)
        except (FileNotFoundError, NotADirectoryError):
            found[path] = None
            continue
        content: bytes | tuple[str, ...]
        times = (status.st_mtime_ns, status.st_ctime_ns if ctime else 0)
        if stat.S_ISDIR(status.st_mode):
            content = tuple(sorted(os.listdir(host)))
            if path == "/etc":  # the document itself writes there
                times, content = (0, 0), ()
        else:
            content = Path(host).read_bytes()
        inode = 0 if path == "/etc" else status.st_ino  # copied up when first written to
        found[path] = (inode, status.st_uid, status.st_gid, status.st_mode, *times, content)
    return found


# --- the two programs ---------------------------------------------------------------------------

UPSTREAM = "/usr/local/bin/upstream_set_configs"


def install_upstream(box: Sandbox) -> None:
    box.write(UPSTREAM, (peer.base() / "set_configs.py").read_bytes(), mode=0o755)


def run_upstream(box: Sandbox, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return box.run(
        [f"{VENV}/bin/python", UPSTREAM],
        env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"},
        timeout=timeout,
    )


# --- situations ---------------------------------------------------------------------------------

Plant = Callable[[Sandbox], object]


@dataclass(frozen=True, slots=True)
class Situation:
    """`code`: how the program must end. `ctime`: False where losing a hard link changes it.

    `earlier`: sections of a document that is applied before the planting. `watched`: more canaries.
    """

    plant: Plant
    sections: dict[str, Any]
    code: int = 0
    ctime: bool = True
    message: str = ""
    after: Callable[[Sandbox], object] | None = None
    earlier: dict[str, Any] | None = None
    heavy: bool = False
    watched: tuple[str, ...] = ()
    shared: bool = False  # the layout


def document(sections: dict[str, Any], shared: bool = False) -> dict[str, Any]:
    if shared:
        sections = {**sections, "directories": [*GIVEN, *sections.get("directories", ())]}
    rest = {
        "source": f"{CONFIG_FILES}/rest.conf", "dest": REST, "owner": "root", "perm": "0644",
    }  # fmt: skip
    return {
        "command": "/bin/true",
        **sections,
        "config_files": [*sections.get("config_files", ()), rest],
    }


def owner(path: str, perm: str | None = "0666", **keys: Any) -> dict[str, Any]:
    entry = {"path": path, "owner": SERVICE, **keys}
    return {"permissions": [entry if perm is None else {**entry, "perm": perm}]}


def copy(dest: str, source: str = "rest.conf", **keys: Any) -> dict[str, Any]:
    where = source if source.startswith("/") else f"{CONFIG_FILES}/{source}"
    entry = {"source": where, "dest": dest, "owner": SERVICE, "perm": "0600", **keys}
    return {"config_files": [entry]}


def link(target: str, path: str) -> Plant:
    return lambda box: box.symlink(target, path, owner=SERVICE)


def both(*plants: Plant) -> Plant:
    def plant(box: Sandbox) -> None:
        for each in plants:
            each(box)

    return plant


def node(kind: int, path: str, device: int = 0) -> Plant:
    def plant(box: Sandbox) -> None:
        os.mknod(box.host(path), kind | 0o644, device)
        box.chown(path, SERVICE)

    return plant


def hard_link(path: str, target: str = SECRET, protected: bool = False) -> Plant:
    """A hard link to a canary, and what the program is told about the kernel's protection.

    The setting belongs to the whole machine, so a file is mounted over it inside the sandbox.
    """

    def plant(box: Sandbox) -> None:
        text = b"1\n" if protected else b"0\n"
        box.write("/srv/protected_hardlinks", text)
        setting = "/proc/sys/fs/protected_hardlinks"
        box.run(["mount", "--bind", "/srv/protected_hardlinks", setting], check=True)
        os.link(box.host(target), box.host(path))

    return plant


def hard_link_as_service(path: str) -> Plant:
    """With the kernel's protection as it is: the attempt itself must fail where it is on."""

    def plant(box: Sandbox) -> None:
        done = box.run(["ln", SECRET, path], user=SERVICE)
        assert done.returncode, "the kernel let the service link to a file of root"

    return plant


def directory(path: str, by: str | tuple[int, int] = SERVICE, mode: int = 0o755) -> Plant:
    return lambda box: box.mkdir(path, mode=mode, owner=by)


def file(path: str, text: str = "x", by: str | tuple[int, int] = SERVICE) -> Plant:
    return lambda box: box.write(path, text, owner=by)


def inside(script: str) -> Plant:
    return lambda box: box.run(["bash", "-ec", script], check=True)


def source(name: str) -> Plant:
    return lambda box: box.source(name, "from the operator")


def bind(what: str, place: str) -> Plant:
    def plant(box: Sandbox) -> None:
        box.mkdir(place, owner=SERVICE)
        box.run(["mount", "--bind", what, place], check=True)

    return plant


ODD_NAMES = (
    b"line\nend", b"2026-01-01 00:00:00.000 INFO forged\n", b"\x1b]0;owned\x07\x1b[2J", b"\xff\xfe",
    b"x" * 255, b" ", b"-rf", b"'\"$(id)`id`", b"\xe2\x80\xae", b".kolla_start.0123456789abcdef",
)  # fmt: skip


def odd_names(place: str) -> Plant:
    def plant(box: Sandbox) -> None:
        box.mkdir(place, owner=SERVICE)
        for name in ODD_NAMES:
            path = os.fsencode(box.host(place)) + b"/" + name
            with open(path, "wb"):
                pass

    return plant


def deep(place: str, levels: int) -> Plant:
    """So deep that no path of it fits into a system call."""
    program = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "for _ in range(int(sys.argv[2])):\n"
        "    os.mkdir('dir'); os.chdir('dir')\n"
        "os.symlink('/etc/canary', 'leaf'); open('file', 'w').close()\n"
    )

    def plant(box: Sandbox) -> None:
        box.mkdir(place, owner=SERVICE)
        box.run(
            ["/usr/bin/python3", "-IS", "-c", program, place, str(levels)], user=SERVICE, check=True
        )

    return plant


def wide(place: str, count: int) -> Plant:
    def plant(box: Sandbox) -> None:
        box.mkdir(place, owner=SERVICE)
        fd = os.open(box.host(place), os.O_RDONLY)
        try:
            for number in range(count):
                os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            os.symlink("/etc/canary/secret", "link", dir_fd=fd)
        finally:
            os.close(fd)

    return plant


def stands(path: str, content: str = "the rest", mode: int = 0o600, uid: int = UID) -> Plant:
    """What must be there afterwards: a file with content, mode and owner."""

    def after(box: Sandbox) -> None:
        status = box.stat(path)
        assert stat.S_ISREG(status.st_mode), path
        assert (status.st_mode & 0o7777, status.st_uid) == (mode, uid)
        assert box.read(path) == content

    return after


def all_owned(place: str, count: int) -> Plant:
    def after(box: Sandbox) -> None:
        found = [entry.stat(follow_symlinks=False) for entry in os.scandir(box.host(place))]
        assert len(found) == count
        assert {status.st_uid for status in found} == {UID}

    return after


def names(place: str, expected: list[str]) -> Plant:
    def after(box: Sandbox) -> None:
        assert sorted(os.listdir(box.host(place))) == expected

    return after


NULL_DEVICE = os.makedev(1, 3)
DISK_DEVICE = os.makedev(7, 200)  # a loop device that nobody uses


def situations(log: str, home: str) -> dict[str, Situation]:
    """What can be planted in any layout, below these two directories of the service."""

    def tree(perm: str | None = "0666") -> dict[str, Any]:
        return owner(log, perm, recurse=True)

    return {
        # permissions: what the service planted in its own log directory
        "link as leaf": Situation(link(SECRET, f"{log}/leaf"), tree()),
        "link as leaf, owner only": Situation(link(SECRET, f"{log}/leaf"), tree(None)),
        "link as directory": Situation(link("/etc/canary", f"{log}/dir"), tree()),
        "link to /": Situation(link("/", f"{log}/dir"), tree()),
        "link upwards": Situation(link("../../../../etc/canary", f"{log}/dir"), tree()),
        "dangling link": Situation(link("/etc/canary/new", f"{log}/dangling"), tree()),
        "link to itself": Situation(link("self", f"{log}/self"), tree()),
        "two links in a circle": Situation(
            both(link("b", f"{log}/a"), link("a", f"{log}/b")), tree()),
        "link to /proc/1/root": Situation(link("/proc/1/root", f"{log}/host"), tree()),
        "path through /proc/1/root": Situation(
            link("/proc/1/root", f"{log}/host"), owner(f"{log}/host/etc/canary", recurse=True)),
        "path through /proc/self/root": Situation(
            link("/proc/self/root/etc/canary", f"{log}/host"), owner(f"{log}/host/secret")),
        "middle component": Situation(
            link("/etc/canary", f"{log}/dir"), owner(f"{log}/dir/secret")),
        "two middle components": Situation(
            both(directory(f"{log}/sub"), link("/etc", f"{log}/sub/dir")),
            owner(f"{log}/sub/dir/canary/secret")),
        "the path itself": Situation(link(SECRET, f"{log}/leaf"), owner(f"{log}/leaf")),
        "the path itself, recursive": Situation(
            link("/etc/canary", f"{log}/dir"), owner(f"{log}/dir", recurse=True)),
        "the path itself with a slash": Situation(
            link("/etc/canary", f"{log}/dir"), owner(f"{log}/dir/", recurse=True)),
        "pattern for the leaf": Situation(link(SECRET, f"{log}/leaf"), owner(f"{log}/*")),
        "pattern for the directory": Situation(
            link("/etc/canary", f"{log}/dir"), owner(f"{log}/*/secret")),
        "pattern, recursive": Situation(
            link("/etc/canary", f"{log}/dir"), owner(f"{log}/d*", recurse=True)),
        "hard link": Situation(hard_link(f"{log}/hard"), tree(), message="hard links"),
        "hard link, owner only": Situation(
            hard_link(f"{log}/hard"), tree(None), message="hard links"),
        "hard link, not recursive": Situation(
            hard_link(f"{log}/hard"), owner(f"{log}/hard"), message="hard links"),
        "hard link, kernel protects": Situation(hard_link_as_service(f"{log}/hard"), tree()),
        "fifo": Situation(node(stat.S_IFIFO, f"{log}/fifo"), tree()),
        "socket": Situation(node(stat.S_IFSOCK, f"{log}/socket"), tree()),
        "odd names": Situation(odd_names(f"{log}/odd"), tree(), after=all_owned(f"{log}/odd", 10)),
        "2,000 directories deep": Situation(deep(f"{log}/deep", 2000), tree(), heavy=True),
        "100,000 entries": Situation(
            wide(f"{log}/wide", 100_000), tree(), after=all_owned(f"{log}/wide", 100_001),
            heavy=True),
        "a mount of itself inside": Situation(bind(log, f"{log}/mount"), tree()),
        "another user's directory inside": Situation(
            both(directory(f"{log}/other", by=(7, 7)), link("/etc", f"{log}/other/etc")), tree()),
        # config_files: the destination
        "dest is a link": Situation(
            link(SECRET, f"{home}/conf"), copy(f"{home}/conf"), after=stands(f"{home}/conf")),
        "dest is a dangling link": Situation(
            link("/etc/canary/new", f"{home}/conf"), copy(f"{home}/conf"),
            after=stands(f"{home}/conf")),
        "dest is a link to /proc/1/root": Situation(
            link("/proc/1/root/etc/canary/secret", f"{home}/conf"), copy(f"{home}/conf"),
            after=stands(f"{home}/conf")),
        "dest is a hard link": Situation(
            hard_link(f"{home}/conf"), copy(f"{home}/conf"), ctime=False,
            after=stands(f"{home}/conf")),
        "dest is a fifo": Situation(
            node(stat.S_IFIFO, f"{home}/conf"), copy(f"{home}/conf"), after=stands(f"{home}/conf")),
        "dest is a socket": Situation(
            node(stat.S_IFSOCK, f"{home}/conf"), copy(f"{home}/conf"),
            after=stands(f"{home}/conf")),
        "dest is a character device": Situation(
            node(stat.S_IFCHR, f"{home}/conf", NULL_DEVICE), copy(f"{home}/conf"),
            after=stands(f"{home}/conf")),
        "dest is a block device": Situation(
            node(stat.S_IFBLK, f"{home}/conf", DISK_DEVICE), copy(f"{home}/conf"),
            after=stands(f"{home}/conf")),
        "dest is a directory of links": Situation(
            both(link(SECRET, f"{home}/conf/a"), link("/etc", f"{home}/conf/b")),
            copy(f"{home}/conf"), after=stands(f"{home}/conf")),
        "dest through a link": Situation(
            link("/etc/canary", f"{home}/dir"), copy(f"{home}/dir/secret"), 1, message="link"),
        "dest through a link, new parents": Situation(
            link("/etc/canary", f"{home}/dir"), copy(f"{home}/dir/new/secret"), 1, message="link"),
        "dest in a linked directory": Situation(
            link("/etc/canary", f"{home}/dir"), copy(f"{home}/dir/"), 1, message="link"),
        "dest parent is the service's": Situation(
            directory(f"{home}/sub"), copy(f"{home}/sub/conf", owner="root"),
            after=stands(f"{home}/sub/conf", uid=0)),
        "dest parent is root's inside the service's, open to all": Situation(
            directory(f"{home}/sub", by="root", mode=0o777), copy(f"{home}/sub/conf"), 1,
            message="belongs to uid 0"),
        "dest parent is another user's inside the service's": Situation(
            directory(f"{home}/sub", by=(7, 7)), copy(f"{home}/sub/conf"), 1,
            message="belongs to uid 7"),
        "dest below a link in /tmp": Situation(
            link("/etc/canary", "/tmp/dir"), copy("/tmp/dir/secret"), 1, message="link"),
        "dest below a link in a directory open to all": Situation(
            both(directory("/srv/open", by="root", mode=0o777),
                 link("/etc/canary", "/srv/open/dir")),
            copy("/srv/open/dir/secret"), 1, message="link"),
        "dest below root's link in a directory open to all": Situation(
            both(directory("/srv/open", by="root", mode=0o777),
                 lambda box: box.symlink("/etc/canary", "/srv/open/dir")),
            copy("/srv/open/dir/secret"), 1, message="link"),
        "directory replaced, links inside": Situation(
            both(source("tree/secret"), link("/etc/canary", f"{home}/tree/dir"),
                 link(SECRET, f"{home}/tree/secret")),
            copy(f"{home}/tree", "tree"), after=names(f"{home}/tree", ["secret"])),
        "directory replaced, odd names inside": Situation(
            both(source("tree/secret"), odd_names(f"{home}/tree/odd")),
            copy(f"{home}/tree", "tree"), after=names(f"{home}/tree", ["secret"])),
        "directory replaced, a link in its place": Situation(
            both(source("tree/secret"), link("/etc/canary", f"{home}/tree")),
            copy(f"{home}/tree", "tree"), after=names(f"{home}/tree", ["secret"])),
        "directory replaced, a mount inside": Situation(
            both(source("tree/secret"), bind("/srv/outside", f"{home}/tree/mount")),
            copy(f"{home}/tree", "tree"), 1, message="is a mount point"),
        "directory replaced, 2,000 deep": Situation(
            both(source("tree/secret"), deep(f"{home}/tree", 2000)),
            copy(f"{home}/tree", "tree"), after=names(f"{home}/tree", ["secret"]), heavy=True),
        "file in place of a directory, 2,000 deep": Situation(
            deep(f"{home}/conf", 2000), copy(f"{home}/conf"), after=stands(f"{home}/conf"),
            heavy=True),
        "merge, a link as directory": Situation(
            both(source("tree/dir/secret"), link("/etc/canary", f"{home}/tree/dir")),
            copy(f"{home}/tree", "tree", merge=True), 1, message="link"),
        "merge, a link as file": Situation(
            both(source("tree/secret"), link(SECRET, f"{home}/tree/secret")),
            copy(f"{home}/tree", "tree", merge=True),
            after=stands(f"{home}/tree/secret", "from the operator")),
        "merge, a hard link as file": Situation(
            both(source("tree/secret"), directory(f"{home}/tree"),
                 hard_link(f"{home}/tree/secret")),
            copy(f"{home}/tree", "tree", merge=True), ctime=False,
            after=stands(f"{home}/tree/secret", "from the operator")),
        "merge, a fifo as file": Situation(
            both(source("tree/secret"), directory(f"{home}/tree"),
                 node(stat.S_IFIFO, f"{home}/tree/secret")),
            copy(f"{home}/tree", "tree", merge=True),
            after=stands(f"{home}/tree/secret", "from the operator")),
        "source is the service's link": Situation(
            link(SECRET, f"{home}/source"), copy(f"{home}/conf", f"{home}/source"), 1),
        "source through the service's link": Situation(
            link("/etc/canary", f"{home}/source"),
            copy(f"{home}/conf", f"{home}/source/secret"), 1),
        "source is the service's fifo": Situation(
            node(stat.S_IFIFO, f"{home}/source"), copy(f"{home}/conf", f"{home}/source"), 1),
        "source tree holds the service's link": Situation(
            both(directory(f"{home}/source"), link(SECRET, f"{home}/source/secret")),
            copy(f"{home}/conf", f"{home}/source"), 1),
        # what left the document
        "left the document, its parent a link now": Situation(
            inside(f"rm -r {home}/dir; ln -s /srv/outside {home}/dir; chown -h svc {home}/dir"),
            {}, message="link", earlier=copy(f"{home}/dir/file")),
        "left the document, a link in its place": Situation(
            inside(f"rm {home}/conf; ln -s {OUTSIDE} {home}/conf; chown -h svc {home}/conf"),
            {}, earlier=copy(f"{home}/conf")),
        "left the document, a tree of links in its place": Situation(
            inside(f"rm {home}/conf; mkdir {home}/conf; ln -s / {home}/conf/root; "
                   f"ln -s {OUTSIDE} {home}/conf/file"),
            {}, earlier=copy(f"{home}/conf")),
        "a planted temporary file": Situation(
            inside(f"ln -s /etc/canary {home}/.kolla_start.dir; "
                   f"mkdir {home}/.kolla_start.tree; ln -s /etc {home}/.kolla_start.tree/etc; "
                   "own=/etc/kolla/defaults/kolla_start; [ ! -e $own ] || sed -i "
                   f"-e 's|\"pending\": false|\"pending\": true|' "
                   f"-e 's|\"places\": \\[\\]|\"places\": [\"{home}\"]|' $own"),
            copy(f"{home}/conf"), earlier=copy(f"{home}/conf"),
            after=names(home, [".kolla_start.tree", "conf"])),
        # directories and files
        "directories: a link": Situation(
            link("/etc/canary", f"{home}/dir"),
            {"directories": [{"path": f"{home}/dir", "owner": SERVICE, "perm": "0755"}]}, 1,
            message="link"),
        "directories: through a link": Situation(
            link("/etc/canary", f"{home}/dir"),
            {"directories": [{"path": f"{home}/dir/new", "owner": SERVICE, "perm": "0755"}]}, 1,
            message="link"),
        "files: a link": Situation(
            link(SECRET, f"{home}/file"),
            {"files": [{"path": f"{home}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
            message="a link"),
        "files: a dangling link": Situation(
            link("/etc/canary/new", f"{home}/file"),
            {"files": [{"path": f"{home}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
            message="a link"),
        "files: a fifo": Situation(
            node(stat.S_IFIFO, f"{home}/file"),
            {"files": [{"path": f"{home}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
            message="special"),
        "files: a hard link": Situation(
            hard_link(f"{home}/file"),
            {"files": [{"path": f"{home}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
            message="hard links"),
        "files: through a link": Situation(
            link("/etc/canary", f"{home}/dir"),
            {"files": [{"path": f"{home}/dir/new", "owner": SERVICE, "perm": "0666"}]}, 1,
            message="link"),
    }  # fmt: skip


def _named(path: str, owner: str = f"{SERVICE}:kolla") -> dict[str, Any]:
    """As kolla-ansible's documents end: `permissions` for what has the name of a log."""
    return {"permissions": [{"path": path, "owner": owner, "perm": "0664"}]}


def _moved(what: str, to: str) -> Plant:
    """What any member of the group can do in the shared directory."""
    return lambda box: box.run(["mv", "-T", what, to], user=SERVICE, check=True)


def _gives(path: str, mode: int = 0o664) -> Callable[[Sandbox], object]:
    def after(box: Sandbox) -> None:
        status = box.stat(path)
        assert (status.st_uid, status.st_mode & 0o7777) == (UID, mode)

    return after


def shared_situations() -> dict[str, Situation]:
    """What only a neighbour in the shared directory can do."""
    log = IN_SHARED[0]
    private, readable = f"{NEIGHBOUR}/own.log", f"{SHARED}/open/group.log"
    taken = inside(f"rmdir {log}; mv -T {NEIGHBOUR} {log}")
    own, foreign = f"{log}/own.log", "and lies where others can write"
    return {
        "the neighbour's directory in the service's place": Situation(
            taken, _named(f"{log}/*.log"), 1, message=foreign, watched=(log, own)),
        "the same, not named in it": Situation(taken, {}, 1, message=foreign, watched=(log, own)),
        "the neighbour's directory, recursive": Situation(
            taken, owner(log, recurse=True), 1, message=foreign, watched=(log, own)),
        "the same for a file that is to be made": Situation(
            taken, {"files": [{"path": own, "owner": SERVICE, "perm": "0664"}]}, 1,
            message=foreign, watched=(log, own)),
        "the same for a file that is to be copied": Situation(
            taken, copy(f"{log}/conf"), 1, message=foreign, watched=(log, own)),
        "the directory's owner's own in the service's place": Situation(
            inside(f"rmdir {log}; mkdir -m 700 {log}; chown fluentd {log}"),
            _named(f"{log}/*.log"), 1, message=foreign, watched=(log,)),
        "the neighbour's log": Situation(
            _moved(f"{SHARED}/open/own.log", own), _named(f"{log}/*.log"), message=foreign,
            watched=(own,)),
        "the neighbour's log in a directory that the service has closed to all others": Situation(
            both(_moved(f"{SHARED}/open/own.log", own),
                 lambda box: box.chmod(log, 0o755)),
            _named(f"{log}/*.log"), message=foreign, watched=(own,)),
        "the same, recursive": Situation(
            both(_moved(f"{SHARED}/open/own.log", own), lambda box: box.chmod(log, 0o700)),
            owner(log, recurse=True), message=foreign, watched=(own,)),
        "the neighbour's directory that all can read, private logs in it": Situation(
            inside(f"chmod 755 {NEIGHBOUR}; mkdir -m 755 {NEIGHBOUR}/sub; "
                   f"install -o neighbour -m 600 /dev/null {NEIGHBOUR}/sub/a.log; "
                   f"chown neighbour {NEIGHBOUR}/sub; rmdir {log}; mv -T {NEIGHBOUR} {log}"),
            owner(log, recurse=True), message=foreign, watched=(own, f"{log}/sub/a.log")),
        "what the service may not have, and what is in it": Situation(
            both(directory(f"{log}/d", by="neighbour", mode=0o700),
                 file(f"{log}/d/readable", by="neighbour"),
                 directory(f"{log}/d/e", by="neighbour")),
            owner(log, recurse=True), message=foreign,
            watched=(f"{log}/d", f"{log}/d/readable", f"{log}/d/e")),
        "the neighbour's log, recursive": Situation(
            _moved(f"{SHARED}/open/own.log", own), owner(log, recurse=True), message=foreign,
            watched=(own,)),
        "the neighbour's log as a file that is to be made": Situation(
            _moved(f"{SHARED}/open/own.log", own),
            {"files": [{"path": own, "owner": SERVICE, "perm": "0664"}]}, 1, message=foreign,
            watched=(own,)),
        "the neighbour's shared log under a second name": Situation(
            inside(f"ln {readable} {own}"), _named(f"{log}/*.log"), message="hard links",
            watched=(own, readable)),
        "the neighbour's log under a second name": Situation(
            inside(f"ln {private} {own}"), _named(f"{log}/*.log"), message="hard links",
            watched=(own, private)),
        "root's file under a second name, in the shared directory itself": Situation(
            hard_link(f"{SHARED}/root.log", "/etc/canary/secret"), _named(f"{SHARED}/*.log"),
            message="hard links"),
        "a link as log": Situation(link(SECRET, own), _named(f"{log}/*.log")),
        "a link as log, in the shared directory itself": Situation(
            link(SECRET, f"{SHARED}/link.log"), _named(f"{SHARED}/*.log")),
        "root's link as log": Situation(
            lambda box: box.symlink(SECRET, own), _named(f"{log}/*.log")),
        "a link in the service's place": Situation(
            inside(f"rmdir {log}; ln -s /etc/canary {log}"), _named(f"{log}/*"), 1, message="link"),
        "a link in the place of the shared directory": Situation(
            inside(f"mv {SHARED} {SHARED}.old; ln -s /etc/canary {SHARED}; chown -h svc {SHARED}"),
            _named(f"{SHARED}/*"), 1, message="link"),
        "a fifo, a socket and a device as logs": Situation(
            both(node(stat.S_IFIFO, own), node(stat.S_IFSOCK, f"{log}/b.log"),
                 node(stat.S_IFCHR, f"{log}/c.log", NULL_DEVICE)), _named(f"{log}/*.log")),
        # and what is to be given all the same
        "a log that a command of root's has left": Situation(
            lambda box: box.write(own, "x", mode=0o600), _named(f"{log}/*.log"), after=_gives(own)),
        "a directory that a command of root's has left": Situation(
            inside(f"rmdir {log}; mkdir -m 755 {log}"), _named(f"{log}/*.log"),
            after=_gives(log, 0o2775)),
        "another user's directory and log, to be read by all": Situation(
            inside(f"rmdir {log}; mkdir -m 755 {log}; chown neighbour {log}; "
                   f"install -o neighbour -m 640 /dev/null {own}"),
            _named(f"{log}/*.log"), after=both(_gives(log, 0o2775), _gives(own))),
        "another user's log, to be read by the group": Situation(
            inside(f"install -o neighbour -g kolla -m 640 /dev/null {own}"),
            _named(f"{log}/*.log"), after=_gives(own)),
    }  # fmt: skip


def _in_shared(one: Situation) -> Situation:
    return dataclasses.replace(one, shared=True)


SITUATIONS: dict[str, Situation] = {
    **situations(LOG, HOME),
    **{
        f"shared: {name}": _in_shared(one)
        for name, one in situations(*IN_SHARED).items()
        if not one.heavy
    },
    **{f"shared: {name}": _in_shared(one) for name, one in shared_situations().items()},
}


def prepare(
    box: Sandbox, situation: Situation, run: Callable[[], object]
) -> dict[str, Canary | None]:
    """Plant it and put the document there; returns the canaries as they are then."""
    (furnish_shared if situation.shared else furnish)(box)
    if situation.earlier is not None:
        box.document(document(situation.earlier, situation.shared))
        run()
    situation.plant(box)
    box.document(json.dumps(document(situation.sections, situation.shared)))
    if not situation.heavy:  # a deep tree is too much for mark() itself
        box.mark()
    return look(box, situation)


def look(box: Sandbox, situation: Situation) -> dict[str, Canary | None]:
    """The canaries as they are now."""
    return canaries(box, situation.ctime, situation.watched)
