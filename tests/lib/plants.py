"""What a service can plant, one function each, and what must stand there afterwards.

A plant is made as the service could have made it, or worse: by root.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from canary import SECRET, SERVICE, UID
from documents import entry
from sandbox import Sandbox

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


def owner(path: str, perm: str | None = "0666", **keys: Any) -> dict[str, Any]:
    rule = {"path": path, "owner": SERVICE, **keys}
    return {"permissions": [rule if perm is None else {**rule, "perm": perm}]}


def copy(dest: str, source: str = "rest.conf", **keys: Any) -> dict[str, Any]:
    return {"config_files": [entry(source, dest, **{"owner": SERVICE, "perm": "0600", **keys})]}


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
