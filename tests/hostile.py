"""What a hostile service leaves behind for root: planted situations, and canaries to tell.

Used by test_hostile.py and torture.py, for this program and for upstream's alike. A situation is
planted as the service could have prepared it (or worse: by root), then one document is applied.
Whatever happens, no canary may change; and the document is either carried out but for the planted
place, or refused with nothing touched.
"""

import functools
import importlib.util
import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox import CONFIG_FILES, VENV, Sandbox

SERVICE = "svc"
UID = 4321
LOG = "/var/log/kolla/svc"  # both belong to the service
HOME = "/var/lib/svc"
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
    box.mkdir("/etc/canary", mode=0o700)
    box.write(SECRET, "root's own secret", mode=0o600)
    box.write(OUTSIDE, "not the service's", mode=0o644)
    box.source("rest.conf", "the rest")


Canary = tuple[int, int, int, int, int, int, bytes | tuple[str, ...]]


def canaries(box: Sandbox, ctime: bool = True) -> dict[str, Canary | None]:
    """Inode, owner, mode, times, and content (of a directory: its names) of each canary.

    None for one that is gone, or whose directory is.
    """
    found: dict[str, Canary | None] = {}
    for path in WATCHED:
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


@functools.cache
def upstream_script() -> str | None:
    """Upstream's set_configs.py from the `kolla` package, or None where it is not installed."""
    found = importlib.util.find_spec("kolla")
    for place in (found.submodule_search_locations or ()) if found else ():
        script = Path(place) / "docker/base/set_configs.py"
        if script.is_file():
            return script.read_text()
    return None


def install_upstream(box: Sandbox) -> None:
    script = upstream_script()
    assert script is not None, "the package kolla is not installed"
    box.write(UPSTREAM, script, mode=0o755)


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

    `earlier`: sections of a document that is applied before the planting.
    """

    plant: Plant
    sections: dict[str, Any]
    code: int = 0
    ctime: bool = True
    message: str = ""
    after: Callable[[Sandbox], object] | None = None
    earlier: dict[str, Any] | None = None
    heavy: bool = False
    furnished: Plant = field(default=furnish)


def document(sections: dict[str, Any]) -> dict[str, Any]:
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


def tree(perm: str | None = "0666") -> dict[str, Any]:
    return owner(LOG, perm, recurse=True)


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

SITUATIONS: dict[str, Situation] = {
    # permissions: what the service planted in its own log directory
    "link as leaf": Situation(link(SECRET, f"{LOG}/leaf"), tree()),
    "link as leaf, owner only": Situation(link(SECRET, f"{LOG}/leaf"), tree(None)),
    "link as directory": Situation(link("/etc/canary", f"{LOG}/dir"), tree()),
    "link to /": Situation(link("/", f"{LOG}/dir"), tree()),
    "link upwards": Situation(link("../../../../etc/canary", f"{LOG}/dir"), tree()),
    "dangling link": Situation(link("/etc/canary/new", f"{LOG}/dangling"), tree()),
    "link to itself": Situation(link("self", f"{LOG}/self"), tree()),
    "two links in a circle": Situation(
        both(link("b", f"{LOG}/a"), link("a", f"{LOG}/b")), tree()),
    "link to /proc/1/root": Situation(link("/proc/1/root", f"{LOG}/host"), tree()),
    "path through /proc/1/root": Situation(
        link("/proc/1/root", f"{LOG}/host"), owner(f"{LOG}/host/etc/canary", recurse=True)),
    "path through /proc/self/root": Situation(
        link("/proc/self/root/etc/canary", f"{LOG}/host"), owner(f"{LOG}/host/secret")),
    "middle component": Situation(
        link("/etc/canary", f"{LOG}/dir"), owner(f"{LOG}/dir/secret")),
    "two middle components": Situation(
        both(directory(f"{LOG}/sub"), link("/etc", f"{LOG}/sub/dir")),
        owner(f"{LOG}/sub/dir/canary/secret")),
    "the path itself": Situation(link(SECRET, f"{LOG}/leaf"), owner(f"{LOG}/leaf")),
    "the path itself, recursive": Situation(
        link("/etc/canary", f"{LOG}/dir"), owner(f"{LOG}/dir", recurse=True)),
    "the path itself with a slash": Situation(
        link("/etc/canary", f"{LOG}/dir"), owner(f"{LOG}/dir/", recurse=True)),
    "pattern for the leaf": Situation(link(SECRET, f"{LOG}/leaf"), owner(f"{LOG}/*")),
    "pattern for the directory": Situation(
        link("/etc/canary", f"{LOG}/dir"), owner(f"{LOG}/*/secret")),
    "pattern, recursive": Situation(
        link("/etc/canary", f"{LOG}/dir"), owner(f"{LOG}/d*", recurse=True)),
    "hard link": Situation(hard_link(f"{LOG}/hard"), tree(), message="hard links"),
    "hard link, owner only": Situation(
        hard_link(f"{LOG}/hard"), tree(None), message="hard links"),
    "hard link, not recursive": Situation(
        hard_link(f"{LOG}/hard"), owner(f"{LOG}/hard"), message="hard links"),
    "hard link, kernel protects": Situation(hard_link_as_service(f"{LOG}/hard"), tree()),
    "fifo": Situation(node(stat.S_IFIFO, f"{LOG}/fifo"), tree()),
    "socket": Situation(node(stat.S_IFSOCK, f"{LOG}/socket"), tree()),
    "odd names": Situation(odd_names(f"{LOG}/odd"), tree(), after=all_owned(f"{LOG}/odd", 10)),
    "2,000 directories deep": Situation(deep(f"{LOG}/deep", 2000), tree(), heavy=True),
    "100,000 entries": Situation(
        wide(f"{LOG}/wide", 100_000), tree(), after=all_owned(f"{LOG}/wide", 100_001), heavy=True),
    "a mount of itself inside": Situation(bind(LOG, f"{LOG}/mount"), tree()),
    "another user's directory inside": Situation(
        both(directory(f"{LOG}/other", by=(7, 7)), link("/etc", f"{LOG}/other/etc")), tree()),
    # config_files: the destination
    "dest is a link": Situation(
        link(SECRET, f"{HOME}/conf"), copy(f"{HOME}/conf"), after=stands(f"{HOME}/conf")),
    "dest is a dangling link": Situation(
        link("/etc/canary/new", f"{HOME}/conf"), copy(f"{HOME}/conf"),
        after=stands(f"{HOME}/conf")),
    "dest is a link to /proc/1/root": Situation(
        link("/proc/1/root/etc/canary/secret", f"{HOME}/conf"), copy(f"{HOME}/conf"),
        after=stands(f"{HOME}/conf")),
    "dest is a hard link": Situation(
        hard_link(f"{HOME}/conf"), copy(f"{HOME}/conf"), ctime=False,
        after=stands(f"{HOME}/conf")),
    "dest is a fifo": Situation(
        node(stat.S_IFIFO, f"{HOME}/conf"), copy(f"{HOME}/conf"), after=stands(f"{HOME}/conf")),
    "dest is a socket": Situation(
        node(stat.S_IFSOCK, f"{HOME}/conf"), copy(f"{HOME}/conf"), after=stands(f"{HOME}/conf")),
    "dest is a character device": Situation(
        node(stat.S_IFCHR, f"{HOME}/conf", NULL_DEVICE), copy(f"{HOME}/conf"),
        after=stands(f"{HOME}/conf")),
    "dest is a block device": Situation(
        node(stat.S_IFBLK, f"{HOME}/conf", DISK_DEVICE), copy(f"{HOME}/conf"),
        after=stands(f"{HOME}/conf")),
    "dest is a directory of links": Situation(
        both(link(SECRET, f"{HOME}/conf/a"), link("/etc", f"{HOME}/conf/b")),
        copy(f"{HOME}/conf"), after=stands(f"{HOME}/conf")),
    "dest through a link": Situation(
        link("/etc/canary", f"{HOME}/dir"), copy(f"{HOME}/dir/secret"), 1, message="link"),
    "dest through a link, new parents": Situation(
        link("/etc/canary", f"{HOME}/dir"), copy(f"{HOME}/dir/new/secret"), 1, message="link"),
    "dest in a linked directory": Situation(
        link("/etc/canary", f"{HOME}/dir"), copy(f"{HOME}/dir/"), 1, message="link"),
    "dest parent is the service's": Situation(
        directory(f"{HOME}/sub"), copy(f"{HOME}/sub/conf", owner="root"),
        after=stands(f"{HOME}/sub/conf", uid=0)),
    "dest parent is root's inside the service's, open to all": Situation(
        directory(f"{HOME}/sub", by="root", mode=0o777), copy(f"{HOME}/sub/conf"), 1,
        message="belongs to uid 0"),
    "dest parent is another user's inside the service's": Situation(
        directory(f"{HOME}/sub", by=(7, 7)), copy(f"{HOME}/sub/conf"), 1,
        message="belongs to uid 7"),
    "dest below a link in /tmp": Situation(
        link("/etc/canary", "/tmp/dir"), copy("/tmp/dir/secret"), 1, message="link"),
    "dest below a link in a directory open to all": Situation(
        both(directory("/srv/open", by="root", mode=0o777), link("/etc/canary", "/srv/open/dir")),
        copy("/srv/open/dir/secret"), 1, message="link"),
    "dest below root's link in a directory open to all": Situation(
        both(directory("/srv/open", by="root", mode=0o777),
             lambda box: box.symlink("/etc/canary", "/srv/open/dir")),
        copy("/srv/open/dir/secret"), 1, message="link"),
    "directory replaced, links inside": Situation(
        both(source("tree/secret"), link("/etc/canary", f"{HOME}/tree/dir"),
             link(SECRET, f"{HOME}/tree/secret")),
        copy(f"{HOME}/tree", "tree"), after=names(f"{HOME}/tree", ["secret"])),
    "directory replaced, odd names inside": Situation(
        both(source("tree/secret"), odd_names(f"{HOME}/tree/odd")),
        copy(f"{HOME}/tree", "tree"), after=names(f"{HOME}/tree", ["secret"])),
    "directory replaced, a link in its place": Situation(
        both(source("tree/secret"), link("/etc/canary", f"{HOME}/tree")),
        copy(f"{HOME}/tree", "tree"), after=names(f"{HOME}/tree", ["secret"])),
    "directory replaced, a mount inside": Situation(
        both(source("tree/secret"), bind("/srv/outside", f"{HOME}/tree/mount")),
        copy(f"{HOME}/tree", "tree"), 1, message="is a mount point"),
    "directory replaced, 2,000 deep": Situation(
        both(source("tree/secret"), deep(f"{HOME}/tree", 2000)),
        copy(f"{HOME}/tree", "tree"), after=names(f"{HOME}/tree", ["secret"]), heavy=True),
    "file in place of a directory, 2,000 deep": Situation(
        deep(f"{HOME}/conf", 2000), copy(f"{HOME}/conf"), after=stands(f"{HOME}/conf"),
        heavy=True),
    "merge, a link as directory": Situation(
        both(source("tree/dir/secret"), link("/etc/canary", f"{HOME}/tree/dir")),
        copy(f"{HOME}/tree", "tree", merge=True), 1, message="link"),
    "merge, a link as file": Situation(
        both(source("tree/secret"), link(SECRET, f"{HOME}/tree/secret")),
        copy(f"{HOME}/tree", "tree", merge=True),
        after=stands(f"{HOME}/tree/secret", "from the operator")),
    "merge, a hard link as file": Situation(
        both(source("tree/secret"), directory(f"{HOME}/tree"), hard_link(f"{HOME}/tree/secret")),
        copy(f"{HOME}/tree", "tree", merge=True), ctime=False,
        after=stands(f"{HOME}/tree/secret", "from the operator")),
    "merge, a fifo as file": Situation(
        both(source("tree/secret"), directory(f"{HOME}/tree"),
             node(stat.S_IFIFO, f"{HOME}/tree/secret")),
        copy(f"{HOME}/tree", "tree", merge=True),
        after=stands(f"{HOME}/tree/secret", "from the operator")),
    "source is the service's link": Situation(
        link(SECRET, f"{HOME}/source"), copy(f"{HOME}/conf", f"{HOME}/source"), 1),
    "source through the service's link": Situation(
        link("/etc/canary", f"{HOME}/source"), copy(f"{HOME}/conf", f"{HOME}/source/secret"), 1),
    "source is the service's fifo": Situation(
        node(stat.S_IFIFO, f"{HOME}/source"), copy(f"{HOME}/conf", f"{HOME}/source"), 1),
    "source tree holds the service's link": Situation(
        both(directory(f"{HOME}/source"), link(SECRET, f"{HOME}/source/secret")),
        copy(f"{HOME}/conf", f"{HOME}/source"), 1),
    # what left the document
    "left the document, its parent a link now": Situation(
        inside(f"rm -r {HOME}/dir; ln -s /srv/outside {HOME}/dir; chown -h svc {HOME}/dir"),
        {}, 1, message="link", earlier=copy(f"{HOME}/dir/file")),
    "left the document, a link in its place": Situation(
        inside(f"rm {HOME}/conf; ln -s {OUTSIDE} {HOME}/conf; chown -h svc {HOME}/conf"),
        {}, earlier=copy(f"{HOME}/conf")),
    "left the document, a tree of links in its place": Situation(
        inside(f"rm {HOME}/conf; mkdir {HOME}/conf; ln -s / {HOME}/conf/root; "
               f"ln -s {OUTSIDE} {HOME}/conf/file"),
        {}, earlier=copy(f"{HOME}/conf")),
    "a planted temporary file": Situation(
        inside(f"ln -s /etc/canary {HOME}/.kolla_start.dir; "
               f"mkdir {HOME}/.kolla_start.tree; ln -s /etc {HOME}/.kolla_start.tree/etc; "
               "own=/etc/kolla/defaults/kolla_start; [ ! -e $own ] || sed -i "
               f"-e 's|\"pending\": false|\"pending\": true|' "
               f"-e 's|\"places\": \\[\\]|\"places\": [\"{HOME}\"]|' $own"),
        copy(f"{HOME}/conf"), earlier=copy(f"{HOME}/conf"), after=names(HOME, ["conf"])),
    # directories and files
    "directories: a link": Situation(
        link("/etc/canary", f"{HOME}/dir"),
        {"directories": [{"path": f"{HOME}/dir", "owner": SERVICE, "perm": "0755"}]}, 1,
        message="link"),
    "directories: through a link": Situation(
        link("/etc/canary", f"{HOME}/dir"),
        {"directories": [{"path": f"{HOME}/dir/new", "owner": SERVICE, "perm": "0755"}]}, 1,
        message="link"),
    "files: a link": Situation(
        link(SECRET, f"{HOME}/file"),
        {"files": [{"path": f"{HOME}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
        message="a link"),
    "files: a dangling link": Situation(
        link("/etc/canary/new", f"{HOME}/file"),
        {"files": [{"path": f"{HOME}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
        message="a link"),
    "files: a fifo": Situation(
        node(stat.S_IFIFO, f"{HOME}/file"),
        {"files": [{"path": f"{HOME}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
        message="special"),
    "files: a hard link": Situation(
        hard_link(f"{HOME}/file"),
        {"files": [{"path": f"{HOME}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
        message="hard links"),
    "files: through a link": Situation(
        link("/etc/canary", f"{HOME}/dir"),
        {"files": [{"path": f"{HOME}/dir/new", "owner": SERVICE, "perm": "0666"}]}, 1,
        message="link"),
}  # fmt: skip


def prepare(
    box: Sandbox, situation: Situation, run: Callable[[], object]
) -> dict[str, Canary | None]:
    """Plant it and put the document there; returns the canaries as they are then."""
    situation.furnished(box)
    if situation.earlier is not None:
        box.document(document(situation.earlier))
        run()
    situation.plant(box)
    box.document(json.dumps(document(situation.sections)))
    if not situation.heavy:  # a deep tree is too much for mark() itself
        box.mark()
    return canaries(box, situation.ctime)
