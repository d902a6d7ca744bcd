"""What a service can plant, one function each: the first dimension of the product.

A plant is made as the service could have made it, or worse: by root, where the kernel would have
prevented it today. It makes a thing at a path (its directory is there, the name is free) and says
what more must be watched. Knows nothing of documents.
"""

import fcntl
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass

from canary import NEIGHBOUR, SECRET, SERVICE
from plants import DISK_DEVICE, NULL_DEVICE, ODD_NAMES
from product_world import DEEP, GROUPS_LOG, MOUNTED, OPEN, OPEN_LOG, OPERATORS, World

_GETFLAGS, _SETFLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10  # linux/fs.h
# Wherever its directory has been moved to meanwhile: proc_pid_mountinfo(5).
_UNMOUNT = f"awk '$4 ~ \"^{MOUNTED}\" {{print $5}}' /proc/self/mountinfo | xargs -r umount"


@dataclass(frozen=True, slots=True)
class Planted:
    """What is to be watched from now on.

    watched: more paths that must not change. ctime: False where losing a hard link changes it.
    content: that must be somewhere afterwards, or "".
    """

    watched: tuple[str, ...] = ()
    ctime: bool = True
    content: str = ""


@dataclass(frozen=True, slots=True)
class Plant:
    """A kind of thing, and how one is made.

    leads: something can be reached through it: a directory, or a link to one.
    late: the kernel says no only while it is worked on, so a start may end half way.
    """

    kind: str
    name: str
    make: Callable[[World, str], Planted | None]
    leads: bool = False
    late: bool = False


def _link(target: str, owner: str = SERVICE) -> Callable[[World, str], None]:
    return lambda world, at: world.box.symlink(target, at, owner)


def _relative(world: World, at: str) -> None:
    world.box.symlink("../" * at.count("/") + SECRET[1:], at, SERVICE)


def _circle(world: World, at: str) -> None:
    world.box.symlink(f"{at}.b", at, SERVICE)
    world.box.symlink(at, f"{at}.b", SERVICE)


def _chain(world: World, at: str) -> None:
    world.box.symlink(f"{at}.1", at, SERVICE)
    world.box.symlink(os.path.basename(at) + ".2", f"{at}.1", SERVICE)
    world.box.symlink("/etc/canary", f"{at}.2", SERVICE)


def _through_renamed(world: World, at: str) -> Planted:
    moved = f"{at}.moved"
    os.rename(world.box.host(OPEN), world.box.host(moved))
    world.box.symlink(f"{moved}/own.log", at, SERVICE)
    return Planted((f"{moved}/own.log", f"{moved}/{DEEP}"), ctime=False)


def _hard(target: str, protected: bool) -> Callable[[World, str], Planted]:
    def make(world: World, at: str) -> Planted:
        world.protected(protected)
        os.link(world.box.host(target), world.box.host(at))
        return Planted((target,), ctime=False)

    return make


def _node(kind: int, device: int = 0) -> Callable[[World, str], None]:
    def make(world: World, at: str) -> None:
        os.mknod(world.box.host(at), kind | 0o644, device)
        world.box.chown(at, SERVICE)
        world.box.chmod(at, 0o666)

    return make


def _file(world: World, at: str) -> None:
    world.box.write(at, "the service's", SERVICE)


def _directory(world: World, at: str) -> None:
    world.box.mkdir(at, owner=SERVICE)
    world.box.write(f"{at}/secret", "the service's", SERVICE)


def _acl(world: World, at: str) -> None:
    _file(world, at)
    world.box.run(["setfacl", "-m", "u:third:rwx,m::rwx", at], check=True)


def _default_acl(world: World, at: str) -> None:
    _directory(world, at)
    _open_by_default(world, at)


def _default_acl_above(world: World, at: str) -> None:
    _open_by_default(world, os.path.dirname(at))


def _open_by_default(world: World, path: str) -> None:
    acl = "u:third:rwx,u:svc:rwx,d:u:third:rwx,d:u:svc:rwx,d:u:neighbour:rwx,d:o::rwx"
    world.box.run(["setfacl", "-m", acl, path], check=True)


def _setgid(world: World, at: str) -> None:
    world.box.mkdir(at, 0o2777, f"{SERVICE}:kolla")


def _immutable(make: Callable[[World, str], None]) -> Callable[[World, str], None]:
    """As chattr(1) +i makes it; by a descriptor, so that it ends wherever the thing is moved to."""

    def plant(world: World, at: str) -> None:
        make(world, at)
        fd = os.open(world.box.host(at), os.O_RDONLY)
        before = fcntl.ioctl(fd, _GETFLAGS, bytes(4))
        flags = int.from_bytes(before, sys.byteorder) | _IMMUTABLE
        fcntl.ioctl(fd, _SETFLAGS, flags.to_bytes(4, sys.byteorder))

        def undo() -> None:
            fcntl.ioctl(fd, _SETFLAGS, before)
            os.close(fd)

        world.undo(undo)

    return plant


def _mount(what: str) -> Callable[[World, str], Planted]:
    def make(world: World, at: str) -> Planted:
        if what == MOUNTED:
            world.box.mkdir(at, owner=SERVICE)
        else:
            world.box.write(at, "", SERVICE)
        world.box.run(["mount", "--bind", what, at], check=True)
        world.undo(lambda: world.box.run(["sh", "-ec", _UNMOUNT], check=True))
        return Planted(content="the operator's" if what == MOUNTED else "")

    return make


def _moved(what: str) -> Callable[[World, str], Planted]:
    """What any member of the group can move there."""

    def make(world: World, at: str) -> Planted:
        os.rename(world.box.host(what), world.box.host(at))
        if what == OPEN:
            return Planted((f"{at}/{DEEP}", f"{at}/private"), content=world.deep)
        return Planted()  # who can take its name can remove it; nobody may read it, though

    return make


def _traps(world: World, at: str) -> Planted:
    """A directory of the service with a little of everything in it."""
    world.box.mkdir(at, owner=SERVICE)
    for name, target in (("secret", SECRET), ("dir", "/etc/canary"), ("root", "/proc/1/root")):
        world.box.symlink(target, f"{at}/{name}", SERVICE)
    _hard(SECRET, protected=False)(world, f"{at}/hard")
    _node(stat.S_IFIFO)(world, f"{at}/fifo")
    for odd in ODD_NAMES:
        with open(os.fsencode(world.box.host(at)) + b"/" + odd, "wb"):
            pass
    return Planted(ctime=False)


def _nothing(world: World, at: str) -> None:
    pass


LINK, HARD, NODE, RIGHTS, DIRECTORY, MOUNT = (
    "link", "hard link", "special file", "rights", "directory", "mount",
)  # fmt: skip
NOTHING = Plant("nothing", "nothing", _nothing, leads=True)
OWN_FILE = Plant(DIRECTORY, "a file", _file)
OWN_DIRECTORY = Plant(DIRECTORY, "a directory", _directory, leads=True)
PLANTS = (
    Plant(LINK, "link to a file", _link(SECRET)),
    Plant(LINK, "relative link", _relative),
    Plant(LINK, "link to a directory", _link("/etc/canary"), leads=True),
    Plant(LINK, "dangling link", _link("/etc/canary/new")),
    Plant(LINK, "links in a circle", _circle),
    Plant(LINK, "link upwards", _link(".."), leads=True),
    Plant(LINK, "link to /proc/self/root", _link("/proc/self/root/etc/canary"), leads=True),
    Plant(LINK, "link to /proc/1/root", _link("/proc/1/root/etc/canary"), leads=True),
    Plant(LINK, "link to /dev/stdout", _link("/dev/stdout")),
    Plant(LINK, "link to the records", _link("/etc/kolla/defaults"), leads=True),
    Plant(LINK, "link to a neighbour's file", _link(f"{NEIGHBOUR}/own.log")),
    Plant(LINK, "link to a neighbour's directory", _link(NEIGHBOUR), leads=True),
    Plant(LINK, "link to the operator's file", _link(OPERATORS)),
    Plant(LINK, "chain of links", _chain, leads=True),
    Plant(LINK, "link through a renamed directory", _through_renamed),
    Plant(LINK, "root's link, moved", _link(SECRET, "root")),
    Plant(LINK, "root's link to a directory, moved", _link("/etc/canary", "root"), leads=True),
    Plant(HARD, "hard link, protection 0", _hard(SECRET, protected=False)),
    Plant(HARD, "hard link, protection 1", _hard(SECRET, protected=True)),
    Plant(HARD, "hard link to a neighbour's file", _hard(f"{NEIGHBOUR}/own.log", protected=False)),
    Plant(HARD, "hard link to a file of the group", _hard(GROUPS_LOG, protected=True)),
    Plant(NODE, "FIFO", _node(stat.S_IFIFO)),
    Plant(NODE, "socket", _node(stat.S_IFSOCK)),
    Plant(NODE, "character device", _node(stat.S_IFCHR, NULL_DEVICE)),
    Plant(NODE, "block device", _node(stat.S_IFBLK, DISK_DEVICE)),
    Plant(RIGHTS, "access ACL", _acl),
    Plant(RIGHTS, "default ACL", _default_acl, leads=True),
    Plant(RIGHTS, "default ACL above", _default_acl_above, leads=True),
    Plant(RIGHTS, "setgid directory", _setgid, leads=True),
    Plant(RIGHTS, "immutable file", _immutable(_file), late=True),
    Plant(RIGHTS, "immutable directory", _immutable(_directory), leads=True, late=True),
    Plant(MOUNT, "a directory mounted", _mount(MOUNTED), leads=True, late=True),
    Plant(MOUNT, "a file mounted", _mount(f"{MOUNTED}/file"), late=True),
    OWN_FILE,
    OWN_DIRECTORY,
    Plant(DIRECTORY, "a directory of traps", _traps, leads=True),
    Plant(DIRECTORY, "a neighbour's tree, moved", _moved(OPEN), leads=True),
    Plant(DIRECTORY, "a neighbour's file, moved", _moved(OPEN_LOG)),
)  # fmt: skip
