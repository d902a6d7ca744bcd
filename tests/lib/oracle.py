"""What the filesystem must be after any history: a second answer, written from the contract alone.

It shares no line and no idea with the program. A document is carried out in memory, entry by entry
as it is written, on a tree that no document has touched yet; that the program must end there from
wherever it stands is the whole of "history does not matter". What a history leaves behind is the
tree below: the image, what `directories`, `files` and `permissions` did to it, and what the service
did in its own directories (histories.World).

Refused means: exit code 1, and nothing touched. Where the contract lets a program refuse but does
not say that it must, the outcome has a `perhaps`: it is that outcome, or a refusal. Unclear is
raised, or a path put in doubt, where the contract gives no answer at all.
"""

import posixpath
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from documents import Document, Entry
from paper import Files, Node, Refused, Uncarried, Unclear, at_or_inside, inside
from sandbox import CONFIG_FILES

MADE_PARENT = 0o755
SET_ASIDE = ".."  # what begins so in a source directory is a ConfigMap's machinery
NOTHING = "/dev/null"
LIST = "system.posix_acl_access"
_USER, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x10, 0x20  # tags of its entries, linux/posix_acl.h


@dataclass
class Outcome:
    """A document carried out on a tree that none has touched."""

    tree: Files
    ours: set[str] = field(default_factory=set)  # what config_files made, replaced, gave attributes
    whole: set[str] = field(default_factory=set)  # destinations in which nothing else stays
    made: set[str] = field(default_factory=set)  # by `directories` and `files`
    preserved: dict[str, Entry] = field(
        default_factory=dict
    )  # sources whose owner, mode are copied
    times: dict[str, str] = field(default_factory=dict)  # files, and the source whose mtime is kept
    given: set[str] = field(default_factory=set)  # by `permissions`
    followed: dict[str, Entry] = field(default_factory=dict)  # links of the image, on our ways
    doubt: set[str] = field(default_factory=set)
    perhaps: list[tuple[str, Entry]] = field(default_factory=list)  # why it may be refused


def true(value: object) -> bool:
    return value in (True, "true", "True", "yes")


def with_x(mode: int) -> int:
    """Directories get x wherever they get r."""
    return mode | (mode & 0o444) >> 2


def changed(node: Node, mode: int) -> Node:
    """As chmod(2) leaves it: in an ACL (acl(5)) the group's bits are the mask, if it has one."""
    known = dict(node.xattrs)
    if LIST in known:
        version, packed = known[LIST][:4], known[LIST][4:]
        entries = list(struct.iter_unpack("<HHI", packed))
        group = _MASK if any(tag == _MASK for tag, _, _ in entries) else _GROUP
        bits = {_USER: mode >> 6 & 7, group: mode >> 3 & 7, _OTHER: mode & 7}
        known[LIST] = version + b"".join(
            struct.pack("<HHI", tag, bits.get(tag, perm), who) for tag, perm, who in entries
        )
    return replace(node, mode=mode, xattrs=tuple(sorted(known.items())))


class Sections:
    """The part of Carrier that makes directories and files, and gives things their owner and mode.

    `below` is what no document has touched, `before` how things stood before this start: whose
    directory a link lies in is asked there. `ids` are the image's users, each with its own group.
    """

    def __init__(self, below: Files, before: Files, ids: Mapping[str, int]) -> None:
        self.ids = ids
        self.below, self.before = below, before
        self.done = Outcome(below.copy())
        self.tree = self.done.tree
        self.at: Entry = {}  # the entry that is carried out

    def owner(self, each: Entry) -> tuple[int, int]:
        user, _, group = each["owner"].partition(":")
        try:
            return self.id(user), self.id(group or user)
        except KeyError as error:
            raise Refused(f"nobody is called {error}") from error

    def id(self, name: str) -> int:
        return int(name) if name.isdigit() else self.ids[name]

    def perhaps(self, reason: str) -> None:
        self.done.perhaps.append((reason, self.at))

    def give(self, path: str, each: Entry) -> None:
        """Owner and mode of a section's entry, to what stands there."""
        node = self.tree[path]
        uid, gid = self.owner(each)
        if each.get("perm") is not None:
            mode = int(each["perm"], 8)
            if node.xattrs and self.before.get(path) != self.below.get(path):
                raise Unclear("find: given back with a list, and then the mode of a section")
            node = changed(node, with_x(mode) if node.kind == "directory" else mode)
        elif (uid, gid) != (node.uid, node.gid) and node.kind == "file" and node.mode & 0o6000:
            self.done.doubt.add(path)  # chown(2) takes setuid away, or not
        self.tree[path] = replace(node, uid=uid, gid=gid)

    def parents(self, path: str, *, ours: bool) -> None:
        above = posixpath.dirname(path)
        if self.tree.kind(above) == "directory":
            return
        if self.tree.kind(above):
            raise Refused(f"no directory: {above}")
        self.parents(above, ours=ours)
        self.tree[above] = Node("directory", 0, 0, MADE_PARENT)
        (self.done.ours if ours else self.done.made).add(above)

    def directory(self, each: Entry) -> None:
        self.trusted(each["path"])
        path = self.tree.real(each["path"].rstrip("/"), last=True)
        if self.tree.kind(path) not in ("directory", ""):
            raise Refused(f"{path} is no directory")
        if not self.tree.kind(path):
            self.parents(path, ours=False)
            self.tree[path] = Node("directory")
        self.done.made.add(path)
        self.give(path, each)

    def file(self, each: Entry) -> None:
        self.trusted(each["path"])
        path = self.tree.real(each["path"], last=False)
        if self.tree.kind(path) not in ("file", ""):
            raise Refused(f"{path} is no file")
        if not self.tree.kind(path):
            if self.tree.kind(posixpath.dirname(path)) != "directory":
                raise Refused(f"no directory for {path}")
            self.tree[path] = Node("file")
        self.done.made.add(path)
        self.give(path, each)

    def trusted(self, path: str) -> None:
        """A way of ours through a link that a service can have made may be refused."""
        for link in self.tree.links_on(path):
            if not self.of_root(link):
                self.perhaps(f"through a link that a service can have made: {link}")
            self.done.followed[link] = self.at

    def of_root(self, link: str, *, now: bool = False) -> bool:
        """Only root can have made it: as an image has links."""
        tree = self.before if link in self.before and not now else self.tree
        if link not in tree or tree[link].uid:
            return link not in tree
        above = posixpath.dirname(link)
        while above != "/":
            node = tree.get(above) or self.tree[above]
            if node.uid or node.mode & stat.S_IWOTH or (node.gid and node.mode & stat.S_IWGRP):
                return False
            above = posixpath.dirname(above)
        return True


class Copies(Sections):
    """The part of Carrier that copies config_files."""

    def config_file(self, each: Entry) -> None:
        if each["source"] == each["dest"]:
            raise Refused(f"source and destination are one: {each['source']}")
        found = self.tree.glob(each["source"]) if each["source"] != NOTHING else [NOTHING]
        if inside(each["dest"], each["source"]) or inside(each["source"], each["dest"]):
            raise Unclear("a source and a destination inside one another")
        if not found and not true(each.get("optional")):
            raise Refused(f"no source: {each['source']}")
        if len(found) > 1 and not each["dest"].endswith("/"):
            raise Unclear("the order in which a pattern's matches come")
        for source in found:
            dest = each["dest"]
            if dest.endswith("/"):
                dest = posixpath.join(dest, posixpath.basename(source))
            self.place(source, dest, each)

    def place(self, source: str, dest: str, each: Entry) -> None:
        if source == dest:
            raise Refused(f"source and destination are one: {source}")
        self.trusted(dest)
        real = self.tree.real(dest, last=False)
        if source != NOTHING:
            read = self.tree.real(source, last=True)
            itself = self.tree.real(source, last=False)
            if any(at_or_inside(one, real) or inside(real, one) for one in (read, itself)):
                raise Unclear("a source and a destination inside one another")
        if not true(each.get("merge")):
            self.remove(real)
            self.done.whole.add(real)
        if not self.tree.kind(posixpath.dirname(real)):
            self.parents(real, ours=True)
        elif self.tree.kind(posixpath.dirname(real)) != "directory":
            raise Refused(f"no directory: {posixpath.dirname(real)}")
        self.copy(source, real, each)

    def remove(self, path: str) -> None:
        """A mount point stays where it is, and so does what it is in."""
        if any(inside(mount, path) for mount in self.tree.mounts):
            raise Refused(f"a mount in what would be replaced: {path}")
        if path in self.tree.mounts and self.tree.kind(path) == "directory":
            self.perhaps(f"a mounted directory: {path}")
        self.tree.drop(path)
        for gone in set(self.done.times) - set(self.tree):
            del self.done.times[gone]

    def copy(self, source: str, dest: str, each: Entry) -> None:
        if source == NOTHING:
            self.remove(dest)
            self.put(dest, Node("file"), each)
            return
        preserved, merge = true(each.get("preserve_properties")), true(each.get("merge"))
        node = self.tree[self.tree.real(source, last=False)]
        read = self.tree.real(source, last=True)
        as_link = node.kind == "link" and self.tree.kind(read) != "directory"
        if as_link and preserved and merge:
            self.read(source, source, dest, preserved=False)
            self.remove(dest)
            self.mounted(dest, "link")
            self.tree[dest] = replace(node, uid=0, gid=0)
            self.done.ours.add(dest)
            return
        if self.tree.kind(read) not in ("file", "directory"):
            raise Refused(f"not to be copied: {source}")
        self.read(source, read, dest, preserved=preserved)
        if self.tree.kind(read) == "directory":
            dest = self.merged(read, dest)
            kept = self.tree[dest].xattrs if self.tree.kind(dest) == "directory" else ()
            if kept and preserved:
                raise Unclear(
                    "find: the list of a directory that a preserved merge changes is lost"
                )
            if self.tree.kind(dest) != "directory":
                self.remove(dest)
            self.put(dest, self.tree[read] if preserved else Node("directory", xattrs=kept), each)
            for name in self.tree.names(read):
                if not name.startswith(SET_ASIDE):
                    self.copy(f"{read}/{name}", f"{dest}/{name}", each)
        else:
            self.remove(dest)
            self.put(dest, self.tree[read], each)
            if preserved:
                self.done.times[dest] = read

    def read(self, source: str, read: str, dest: str, *, preserved: bool) -> None:
        """What must be true of a source for root to read it."""
        if preserved:
            self.done.preserved[read] = self.at
            self.done.doubt |= {dest} if read in self.done.doubt else set()
        if not inside(source, CONFIG_FILES):
            for link in self.tree.links_on(f"{source}/"):
                if not self.of_root(link):
                    self.perhaps(f"a source behind a service's link: {source}")
                self.done.followed[link] = self.at

    def merged(self, read: str, dest: str) -> str:
        """Where a directory goes: a link of the image to another one is followed, by `merge`."""
        if self.tree.kind(dest) != "link":
            return dest
        if not self.of_root(dest):
            raise Unclear(f"a merge through a service's link: {dest}")
        self.done.followed[dest] = self.at
        there = self.tree.real(dest, last=True)
        if self.tree.kind(there) != "directory":
            return dest
        if at_or_inside(there, read) or inside(read, there):
            raise Unclear("a source and a destination are one through a link")
        return there

    def put(self, dest: str, node: Node, each: Entry) -> None:
        """A node as the entry wants it: as its source is, or with the entry's owner and mode."""
        self.mounted(dest, node.kind)
        if not true(each.get("preserve_properties")):
            uid, gid = self.owner(each)
            mode = int(each["perm"], 8)
            mode = with_x(mode) if node.kind == "directory" else mode
            kept = node.xattrs if node.kind == "directory" else ()
            node = changed(replace(node, uid=uid, gid=gid, xattrs=kept), mode)
        self.tree[dest] = node
        self.done.ours.add(dest)

    def mounted(self, dest: str, kind: str) -> None:
        if dest in self.tree.mounts and self.below.kind(dest) != kind:
            raise Refused(f"a mount point cannot become a {kind}: {dest}")


class Carrier(Copies):
    """Carries a document out."""

    def carry_out(self, document: Document) -> Outcome:
        self.document = document
        for name, carry in (
            ("directories", self.directory),
            ("files", self.file),
            ("config_files", self.config_file),
            ("permissions", self.permission),
        ):
            for self.at in document.get(name, ()):
                try:
                    carry(self.at)
                except Uncarried as reason:
                    reason.entry = self.at
                    raise
        for link, each in self.done.followed.items():
            self.at = each
            if not self.of_root(link, now=True):
                self.perhaps("a link in a directory that the document gives away")
        self.done.doubt |= self.done.made & self.done.ours
        return self.done

    def permission(self, each: Entry) -> None:
        excluded = [re.compile(one) for one in each.get("exclude") or ()]
        for found in self.tree.glob(each["path"].rstrip("/") or "/"):
            self.trusted(found)
            path = self.tree.real(found, last=False)
            self.set(path, each)
            if true(each.get("recurse")) and self.tree.kind(path) == "directory":
                for other in self.tree.below(path):
                    if not any(one.search(other) for one in excluded):
                        self.set(other, each)

    def set(self, path: str, each: Entry) -> None:
        node = self.tree[path]
        self.done.given.add(path)
        if node.kind != "link":
            self.give(path, each)
            return
        self.done.doubt.add(path)  # the owner of a link that is followed now and not the next time
        if self.of_root(path):
            self.done.followed[path] = each
            target = self.tree.real(path, last=True)
            if target not in self.tree:
                return
            if self._speaks_of(target, each):
                self.done.doubt.add(target)
            self.done.given.add(target)
            self.give(target, each)
        else:
            uid, gid = self.owner(each)
            self.tree[path] = replace(node, uid=uid, gid=gid)

    def _speaks_of(self, target: str, each: Entry) -> bool:
        """Whether something else in the document says whose a link's target is to be."""
        if target in self.done.ours | self.done.made:
            return True
        for other in self.document.get("permissions", ()):
            for path in self.tree.glob(other["path"]):
                recurse = true(other.get("recurse"))
                if path == target or (recurse and other is not each and inside(target, path)):
                    return True
        return False


def entries(document: Document) -> Iterator[tuple[str, Entry]]:
    """Every entry, with the section that it is in."""
    for name in ("directories", "files", "config_files", "permissions"):
        for each in document.get(name, ()):
            yield name, each


def without(document: Document, entry: dict[str, Any]) -> Document:
    """The document but for this entry."""
    return {
        name: [each for each in value if each is not entry] if isinstance(value, list) else value
        for name, value in document.items()
    }
