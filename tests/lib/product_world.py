"""The world in which a service with imagination plants things: users, canaries, and the places.

Every case of the product (product.py) begins in the same world and is judged by the same canaries;
reset() brings it back without a new sandbox. Knows nothing of documents.
"""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import canary
from canary import HOME, NEIGHBOUR, SECRET, SERVICE, SHARED, UID
from leaks import Readers, Tokens
from sandbox import CONFIG_FILES, Sandbox
from subjects import Subject

FRIENDS = "friends"  # a group of the service and of the neighbour
ALL = (SERVICE, "neighbour", "third")
OPEN = f"{SHARED}/open"  # the neighbour's, and the group can write it: any member can move it
OPEN_LOG = f"{OPEN}/own.log"  # private, and can be moved
DEEP = "private/own.key"  # below OPEN: only its owner can come there
GROUPS_LOG = f"{OPEN}/group.log"  # the kernel lets a member of the group link to it
OPERATORS = f"{CONFIG_FILES}/other.key"  # for another service: no document here names it
MOUNTED = "/srv/mounted"
OUT = "/etc/out"  # where what is read from a place is copied to
NAME = "thing.conf"  # what is planted, or is to stand there

# Everything that furnish() or a start makes lies below these.
_TOPS = (
    "/etc/canary", "/etc/rest.conf", "/etc/app.conf", OUT, "/run_command", "/configured",
    "/srv/outside", "/srv/group", "/srv/open", "/srv/others", MOUNTED, "/opt/app", SHARED, HOME,
    CONFIG_FILES, "/var/lib/kolla/share", "/usr/local/lib/svc",
)  # fmt: skip
# Names that begin so in these directories are made by a start; records that are not believed are
# renamed beside.
_MADE = (
    ("/etc", "kolla"), ("/run", "kolla"), ("/usr/local/share/ca-certificates", "kolla-"),
)  # fmt: skip
_PROTECTED = "/proc/sys/fs/protected_hardlinks"
_SETTING = "/var/lib/protected_hardlinks"


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of directory that a service can write. `make` makes one of it at a path."""

    name: str
    top: str
    make: Callable[[Sandbox, str], None]
    shared: bool = False  # every document there begins as kolla-ansible's do


def _own(box: Sandbox, path: str) -> None:
    box.mkdir(path, owner=SERVICE)


def _group(box: Sandbox, path: str) -> None:
    box.mkdir(path, 0o775, f"root:{FRIENDS}")


def _open(box: Sandbox, path: str) -> None:
    box.mkdir(path, 0o1777)


def _below(box: Sandbox, path: str) -> None:
    box.mkdir(os.path.dirname(path), owner="neighbour")
    box.mkdir(path, owner=SERVICE)


def _shared(box: Sandbox, path: str) -> None:
    box.mkdir(path, 0o2775, f"{SERVICE}:kolla")


def _beside(box: Sandbox, path: str) -> None:
    box.mkdir(path, owner=SERVICE)
    box.write(f"{path}/real.conf", "a source outside the mount", SERVICE)


OWN = Place("its own directory", f"{HOME}/own", _own)
GROUP = Place("a directory of its group", "/srv/group", _group)
STICKY = Place("1777", "/srv/open", _open)
BELOW = Place("below another user's", "/srv/others/own", _below)
LOGS = Place("the shared log tree", canary.LOG, _shared, shared=True)
RUN = Place("/run/kolla", "/run/kolla", _own)
BESIDE = Place("beside a source", "/opt/app", _beside)
PLACES = (OWN, GROUP, STICKY, BELOW, LOGS, RUN, BESIDE)


class World:
    """A sandbox for many cases."""

    def __init__(self, subject: Subject, box: Sandbox) -> None:
        self.subject = subject
        self.box = box
        self.tokens = Tokens()
        new = self.tokens.new
        self.secret = new("root's secret", *ALL)
        self.private = new("the neighbour's private file", SERVICE, "third")
        self.deep = new("what the neighbour keeps deep in its tree", SERVICE, "third")
        self.operators = new("the operator's file for another service", *ALL)
        self.delivered = new("what is delivered to the service", "third")
        self.roots = new("what is delivered to root", *ALL)
        self.original = new("an original that is root's", *ALL)
        self._undo: list[Callable[[], object]] = []
        self._users()
        self.furnish()
        self._marked = box.mark()
        self.readers = Readers(box, ALL)

    def _users(self) -> None:
        box = self.box
        for user in ("fluentd", "neighbour"):
            box.adduser(user, groups=["kolla"])
        box.adduser(SERVICE, UID, home=HOME, groups=["kolla"])
        box.adduser("third")
        box.addgroup(FRIENDS, 4400)
        for user in (SERVICE, "neighbour"):
            box.adduser(user, groups=[FRIENDS])
        # The update command takes half a second, and the system's trust is no matter of this.
        box.write("/usr/sbin/update-ca-certificates", "#!/bin/sh\n", mode=0o755)
        box.write(_SETTING, "1\n")
        box.run(["mount", "--bind", _SETTING, _PROTECTED], check=True)

    def furnish(self) -> None:
        """What every case begins with, but its place."""
        box = self.box
        canary.plant(box)
        box.write(SECRET, self.secret, mode=0o600)
        box.mkdir(HOME, owner=SERVICE)
        box.mkdir(SHARED, 0o2775, "fluentd:kolla")
        for path in canary.IN_SHARED:
            box.mkdir(path, 0o2775, f"{SERVICE}:kolla")
        box.mkdir(NEIGHBOUR, 0o700, "neighbour")
        box.write(f"{NEIGHBOUR}/own.log", self.private, "neighbour", 0o600)
        box.mkdir(OPEN, 0o2775, "neighbour:kolla")
        for path in (OPEN_LOG, f"{OPEN}/secret"):
            box.write(path, self.private, "neighbour:neighbour", 0o600)
        box.write(GROUPS_LOG, "for the group", "neighbour:kolla", 0o664)
        box.mkdir(f"{OPEN}/private", 0o700, "neighbour")
        box.write(f"{OPEN}/{DEEP}", self.deep, "neighbour", 0o600)
        box.write(f"{MOUNTED}/file", "the operator's", mode=0o644)
        box.write(OPERATORS, self.operators, mode=0o600)
        box.write("/etc/app.conf", self.original, mode=0o600)
        for name in ("one", f"flat/{NAME}", f"nested/{NAME}/inner"):
            box.source(name, self.delivered, 0o600)
        box.source("ca-certificates/good.crt", "the operator's certificate")
        box.source("roots", self.roots, 0o600)
        box.remove(f"{CONFIG_FILES}/kept")
        box.symlink("one", f"{CONFIG_FILES}/kept/{NAME}")
        box.mkdir(OUT)
        self.protected(True)

    def protected(self, on: bool) -> None:
        """What the program is told of the kernel's protection of hard links."""
        self.box.write(_SETTING, "1\n" if on else "0\n")

    def undo(self, action: Callable[[], object]) -> None:
        """To be done before what was planted can be taken away."""
        self._undo.append(action)

    def unplant(self) -> None:
        while self._undo:
            self._undo.pop()()

    def reset(self) -> bool:
        """As in the beginning; False where that cannot be had, and a new world is needed."""
        try:
            self.unplant()
            for path in _TOPS:
                self.box.remove(path)
            for top, start in _MADE:
                for name in os.listdir(self.box.host(top)):
                    if name.startswith(start):
                        self.box.remove(f"{top}/{name}")
        except (OSError, subprocess.CalledProcessError):
            return False
        self.furnish()
        self.box.mark(self._marked)
        changes = self.box.changes().items()
        return all(change == self.box.before(path) for path, change in changes)

    def canaries(self, more: tuple[str, ...], ctime: bool) -> dict[str, object]:
        """The state of all that must not change."""
        named = (f"{NEIGHBOUR}/own.log", OPERATORS, *more)
        found: dict[str, object] = dict(canary.state(self.box, ctime, named))
        status = self.box.stat("/dev/null")
        found["/dev/null"] = status.st_mode, status.st_uid, status.st_gid, status.st_rdev
        return found

    def leaks(self, said: str) -> Iterator[str]:
        yield from self.tokens.said(said)
        yield from self.tokens.read(self.box, self.readers)


@contextlib.contextmanager
def world(subject: Subject) -> Iterator[World]:
    with subject.box() as box:
        one = World(subject, box)
        try:
            yield one
        finally:
            with contextlib.suppress(Exception):
                one.unplant()
            one.readers.close()
