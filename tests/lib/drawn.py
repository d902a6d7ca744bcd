"""What hypothesis draws a history from: the images, what is mounted, and documents over all of it.

The places overlap on purpose: entries lie over, in and beside one another, and in the image stand
links, directories, ACLs and mounts in their way.
"""

import os
import re
from collections.abc import Callable

from documents import Document, Entry, entry
from hypothesis import strategies as st
from lives import HOME
from sandbox import CONFIG_FILES as MOUNT
from sandbox import Sandbox

SOURCES = ("a", "b", "x.conf", "y.conf", "tree/one", "tree/sub/two", "other/one", "other/three")

# --- the image and what is mounted --------------------------------------------------------------


def _plain(_box: Sandbox) -> frozenset[str]:
    return frozenset()


def _links(box: Sandbox) -> frozenset[str]:
    box.symlink(f"{HOME}/etc", f"{HOME}/linked")
    box.symlink(f"{HOME}/nowhere", f"{HOME}/etc/dangling")
    return frozenset()


def _directories(box: Sandbox) -> frozenset[str]:
    box.mkdir(f"{HOME}/etc/a", mode=0o700, owner="nova")
    box.write(f"{HOME}/etc/a/deep", "image deep")
    box.mkdir(f"{HOME}/linked/sub")
    return frozenset()


def _lists(box: Sandbox) -> frozenset[str]:
    box.run(["setfacl", "-m", "d:u:nova:rwx,d:o::rwx", f"{HOME}/etc"], check=True)
    box.run(["setfacl", "-m", "u:nova:r", f"{HOME}/etc/one", f"{MOUNT}/tree/sub/two"], check=True)
    return frozenset()


def _mounts(box: Sandbox) -> frozenset[str]:
    """A volume, and a single file of another one."""
    box.mkdir("/srv/volume")
    box.mkdir(f"{HOME}/vol")
    box.write(f"{HOME}/etc/mounted")
    for place in ("/srv/volume", f"{HOME}/vol"):
        box.run(["mount", "-t", "tmpfs", "-o", "mode=755", "volume", place], check=True)
        box.write(f"{place}/one", "a volume's", mode=0o640)
    box.run(["mount", "--bind", "/srv/volume/one", f"{HOME}/etc/mounted"], check=True)
    return frozenset({f"{HOME}/vol", f"{HOME}/etc/mounted"})


SHAPES: dict[str, Callable[[Sandbox], frozenset[str]]] = {
    "plain": _plain,
    "links": _links,
    "directories": _directories,
    "lists": _lists,
    "mounts": _mounts,
}


def image(box: Sandbox, shape: str) -> frozenset[str]:
    """What no document has touched: files, directories, links of root's, a directory of nova's."""
    box.mkdir(f"{HOME}/etc/sub")
    box.write(f"{HOME}/etc/one", "image one", mode=0o640)
    box.write(f"{HOME}/etc/sub/two", "image two", owner="nova", mode=0o600)
    box.symlink("one", f"{HOME}/etc/near")
    box.mkdir(f"{HOME}/var", mode=0o750, owner="nova")
    box.write(f"{HOME}/var/log", "image log", owner="nova")
    for name in SOURCES:
        box.source(name, f"source {name}")
    box.symlink("a", f"{MOUNT}/tree/link")
    box.write(f"{MOUNT}/tree/a", "source tree/a", owner="nova", mode=0o604)
    box.chmod(f"{MOUNT}/tree/sub", 0o750)
    box.source("tree/..data/one", "a ConfigMap's machinery")
    os.setxattr(box.host(f"{MOUNT}/tree/one"), "user.origin", b"the operator")
    os.utime(box.host(f"{MOUNT}/tree/one"), (1_000_000_000, 1_000_000_000))
    os.mkfifo(box.host(f"{MOUNT}/pipe"))
    return SHAPES[shape](box)


# --- documents ----------------------------------------------------------------------------------

PERMS = st.sampled_from(["0644", "600", "0o755", "2750"])
OWNERS = st.sampled_from(["root", "nova", "nova:root", "4321:0"])
PLACES = tuple(
    """etc etc/one etc/sub etc/sub/two etc/a etc/near etc/mounted etc/dangling linked linked/one
    var var/conf var/sub/one vol vol/one vol/new new new/deep new/deep/one""".split()
)
DESTS = st.sampled_from([*PLACES, "etc/", "etc/sub/", "linked/", "new/", "var/", "vol/"]).map(
    lambda place: f"{HOME}/{place}"
)
FOUND = ("a", "b", "tree", "tree/sub", "tree/link", "tree/*", "*.conf", "[ab]", "other", "missing")
WRONG = (
    entry("a", f"{HOME}/bad", "nobody-at-all"),
    entry("a", f"{HOME}/bad", perm="rw"),
    entry("missing", f"{HOME}/bad"),
    entry("a", f"{HOME}/bad", colour="red"),
    entry("tree", "/etc"),
    entry("a", "/etc/kolla/defaults/state"),
    entry("a", f"{MOUNT}/a"),
    entry("pipe", f"{HOME}/bad"),
)


@st.composite
def config_file(draw: st.DrawFn) -> Entry:
    """Any of the mount's sources, or what an earlier entry or the image has."""
    source = draw(
        st.one_of(
            st.sampled_from(FOUND).map(lambda name: f"{MOUNT}/{name}"),
            st.sampled_from(PLACES).map(lambda place: f"{HOME}/{place}"),
            st.just("/dev/null"),
        )
    )
    dest = draw(DESTS)
    if re.search(r"[*\[]", source):
        dest = dest.rstrip("/") + "/"
    keys = draw(st.sets(st.sampled_from(["merge", "optional", "preserve_properties"])))
    if not source.startswith(MOUNT):  # as likely as not it is not there
        keys.add("optional")
    if source == "/dev/null":  # has no name and no properties of its own
        keys.discard("preserve_properties")
        dest = dest.rstrip("/")
    return entry(source, dest, draw(OWNERS), draw(PERMS), **dict.fromkeys(sorted(keys), True))


@st.composite
def section(draw: st.DrawFn, *names: str) -> Entry:
    place = draw(st.sampled_from(names))
    return {"path": f"{HOME}/{place}", "owner": draw(OWNERS), "perm": draw(PERMS)}


@st.composite
def permissions(draw: st.DrawFn) -> Entry:
    made = draw(section(*PLACES, "etc/*", "var/*", "*"))
    made["recurse"] = draw(st.booleans())
    made["exclude"] = draw(st.lists(st.sampled_from(["one$", "/sub", "^/app/var"]), max_size=2))
    if draw(st.booleans()):
        del made["perm"]
    return made


@st.composite
def documents(draw: st.DrawFn) -> Document:
    made: Document = {"command": draw(st.sampled_from(["true", "sleep 1"]))}
    made["config_files"] = draw(
        st.lists(config_file(), min_size=draw(st.integers(0, 3)), max_size=5)
    )
    directories = section("var", "var/sub", "var/made/deep", "etc/sub", "new", "linked", "vol/made")
    made["directories"] = draw(st.lists(directories, max_size=1))
    made["files"] = draw(st.lists(section("var/log", "var/own", "etc/one", "vol/own"), max_size=1))
    made["permissions"] = draw(st.lists(permissions(), max_size=2))
    return {key: value for key, value in made.items() if value}


FAULTY: st.SearchStrategy[Entry | None] = st.sampled_from([None] * 60 + [*WRONG])
