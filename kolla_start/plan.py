"""The plan: what the document wants, folded into one final state, against what the disk holds.

On the container-start path: `fnmatch` and `re` are imported only for a document that
needs them. Nothing here writes: apply.py carries the plan out, `--check` asks whether its
config_files part is empty, `kolla_config plan` prints it.

The final state is a map from path to Node, filled in this order, so that whatever comes later
overrides: originals of what left the document, `directories`, `files`, `config_files`; then
`permissions` changes owner and mode of the nodes it covers, and becomes a tree walk for the rest.
"""

import errno
import os
import stat
import time
from _collections_abc import Callable

from kolla_start import disk, forms, owners
from kolla_start.document import Config, ConfigFile, PathEntry
from kolla_start.errors import Fault, Loc, Refused, cause
from kolla_start.ownership import Rules, Walk, compiled
from kolla_start.records import Home, Launch, Records, command_text
from kolla_start.tree import (
    ABSENT,
    CONFIG_FILES,
    DIRECTORIES,
    DIRECTORY,
    FILE,
    FILES,
    KIND_NAMES,
    LINK,
    PARENT,
    RESTORE,
    SPECIAL,
    Node,
    Tree,
    ancestors,
    directory_mode,
    has_magic,
    is_directory,
    kind_of,
    matches,
    mirror,
)  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Step:
    """One change.

    minor: right to make at a start, no reason for a restart
    over:  a directory is there that is to go
    """

    __slots__ = ("minor", "node", "over", "part", "path", "verb", "why")

    def __init__(
        self,
        verb: str,
        path: str,
        node: Node | None,
        part: str,
        why: str,
        minor: bool = False,
        over: bool = False,
    ) -> None:
        self.verb = verb
        self.path = path
        self.node = node
        self.part = part
        self.why = why
        self.minor = minor
        self.over = over

    def __str__(self) -> str:
        source = f" from {self.node.source}" if self.node and self.node.source else ""
        return f"{self.verb} {self.path}{source}: {self.why}"


class Save:
    """An original to be kept before the path is replaced for the first time."""

    __slots__ = ("kept", "origin", "path")

    def __init__(self, path: str, origin: str, kept: str) -> None:
        self.path = path
        self.origin = origin
        self.kept = kept


class Plan:
    """Everything one start would do.

    steps:    in the order they are carried out
    saves:    originals kept before the first step
    before, after: the records before and after
    dropped:  where originals lie that nobody needs after this
    command:  the text of /run_command if it is to be written
    options:  whether the options file is to be written, or removed
    walks:    owners and modes of whole trees
    unseen:   large directories that the steps change: what it takes to know them again (seen.py)
    files:    the regular files of the final state
    first:    a plan to be carried out before, and this one made anew after it: something that
              leaves the document lies inside something that stays, or around it
    """

    __slots__ = (
        "after", "before", "command", "dropped", "files", "first", "launch", "options", "saves",
        "steps", "unseen", "walks", "warnings",
    )  # fmt: skip

    def __init__(self, before: Records, launch: Launch) -> None:
        self.steps: list[Step] = []
        self.saves: list[Save] = []
        self.before = before
        self.after = before
        self.dropped: list[str] = []
        self.command: str | None = None
        self.options = False
        self.walks: list[Walk] = []
        self.unseen: dict[str, tuple[object, bytes]] = {}
        self.files: list[str] = []
        self.first: Plan | None = None
        self.launch = launch
        self.warnings: list[str] = []

    def writes(self) -> bool:
        """Whether anything but the walks is to be written."""
        return bool(
            self.steps
            or self.first
            or self.command is not None
            or self.options
            or self.before.pending
            or not self.after.same_as(self.before)
        )


def decide(config: Config, before: Records, place: Home, trusting: bool = True) -> Plan:
    """Make the plan; reads the disk, changes nothing.

    `trusting`: a large directory that was seen to be as its source, and has not been written to
    since, is not read again. Raises Refused with every fault of sources, owners and destinations
    at once.
    """
    planner = _Planner(config, before, place, trusting)
    try:
        try:
            plan = planner.whole()
        except _Entwined:
            planner = _Planner(config, before, place, False)
            plan = planner.whole()
        if planner.entangled():
            plan.first = _Planner(config, before, place, False).restores_only()
    except disk.Unsafe as error:
        # A service that runs beside us changed what was found to be safe a moment ago.
        raise Refused([Fault((), str(error))], config.path) from None
    except OSError as error:
        raise Refused([Fault((), cause(error, place.defaults))], config.path) from None
    return plan


class _Entwined(Exception):
    """A directory was taken for known, and other parts of the document speak of what is in it."""


class _Planner:
    def __init__(self, config: Config, before: Records, place: Home, trusting: bool) -> None:
        self._config = config
        self._before = before
        self._place = place
        self._faults: list[Fault] = []
        self._warnings: list[str] = []
        self._tree = Tree()
        # Paths that config_files answers for, and those among them that merge into what is there.
        self._keys: set[str] = set()
        self._merged: set[str] = set()
        self._parents: list[str] = []
        # What left the document and lies where somebody else may have put it.
        self._unreachable: set[str] = set()
        # Directories that the plan makes.
        self._fresh: set[str] = set()
        self._trusting = trusting
        self._began = time.time_ns()
        # Large directories that are copied whole, and fingerprints of what they are now.
        self._large: dict[str, _Copy] = {}
        self._seen: dict[str, str | None] = {}

    def whole(self) -> Plan:
        config = self._config
        self._declare()
        self._user()
        for entry in config.directories:
            self._guarded((DIRECTORIES, entry.index), self._directory, entry)
        for entry in config.files:
            self._guarded((FILES, entry.index), self._file, entry)
        for item in config.config_files:
            self._guarded((CONFIG_FILES, item.index), self._config_file, item)
        self._restores()
        rules = self._permissions()
        if self._faults:
            raise Refused(self._faults, config.path)
        sources = self._look_at_large(rules)
        plan = self._compare()
        if self._faults:
            raise Refused(self._faults, config.path)
        self._remember_large(plan, sources)
        text = command_text(config.command)
        if disk.read_file(self._place.run_command) != text.encode("utf-8", "surrogateescape"):
            plan.command = text
        options = plan.launch.options_text()
        recorded = disk.read_file(self._place.options)
        plan.options = recorded != (None if options is None else options.encode())
        plan.walks = rules.walks()
        plan.files = [path for path, node in self._tree.nodes.items() if node.kind == FILE]
        plan.warnings = self._warnings
        return plan

    def restores_only(self) -> Plan:
        """The plan that only gives back what left the document."""
        for entry in self._config.config_files:
            self._guarded((), self._config_file, entry)
        self._tree = Tree()
        self._restores()
        plan = self._compare()
        if self._faults:
            raise Refused(self._faults, self._config.path)
        plan.after.parents = list(self._before.parents)
        plan.after.attributes = dict(self._before.attributes)
        plan.after.placed = set(self._before.placed)
        plan.after.seen = {}
        plan.after.pending = False
        return plan

    def entangled(self) -> bool:
        leaving = self._before.originals.keys() - self._keys
        if not leaving:
            return False
        around = {place for key in self._keys for place in ancestors(key)}
        return any(
            key in around or any(place in self._keys for place in ancestors(key)) for key in leaving
        )

    # --- what the document wants ---

    def _fault(self, loc: Loc, message: str) -> None:
        self._faults.append(Fault(loc, message))

    def _guarded(self, loc: Loc, add: "Callable[[Any], None]", entry: "Any") -> None:
        """Add an entry; what the disk says against it (a loop of links, say) is its fault."""
        try:
            add(entry)
        except OSError as error:
            self._fault(loc, f"{cause(error, getattr(entry, 'path', '') or entry.dest)}; mend it")
        except disk.Unsafe as error:
            self._fault(loc, str(error))

    def _ids(self, owner: str, loc: Loc) -> tuple[int, int]:
        try:
            uid, gid = owners.ids(owner)
        except owners.UnknownOwner as error:
            self._fault((*loc, "owner"), str(error))
            return 0, 0
        problem = owners.cannot_be(uid, gid)
        if problem:
            self._fault((*loc, "owner"), problem)
        return uid, gid

    def _user(self) -> None:
        """That the service's user exists is known before anything is changed for it."""
        if self._config.user is None:
            return
        try:
            account = owners.resolve(self._config.user)
        except owners.UnknownOwner as error:
            self._fault(("user",), str(error))
            return
        if os.geteuid() not in {0, account.uid}:
            self._fault(
                ("user",),
                f"uid {os.geteuid()} cannot become uid {account.uid}; start the container as root",
            )

    def _declare(self) -> None:
        """What the document gives to whom: a step on the way there is taken."""
        config = self._config
        given = [(entry.path, entry.owner, False) for entry in (*config.directories, *config.files)]
        given += [(rule.path.rstrip("/"), rule.owner, rule.recurse) for rule in config.permissions]
        found: list[disk.Given] = []
        for path, owner, below in given:
            try:
                found.append(disk.Given(path, owners.ids(owner)[0], below))
            except owners.UnknownOwner:
                pass  # It is said where the entry is planned.
        for entry in config.config_files:
            # A pattern's matches lie in it; what is preserved has the owners of its sources.
            try:
                uid = None if entry.owner is None else owners.ids(entry.owner)[0]
            except owners.UnknownOwner:
                continue
            uid = None if entry.preserve_properties else uid
            found.append(disk.Given(entry.dest.rstrip("/"), uid, below=True, copied=True))
        disk.declare(found)

    def _canonical(self, path: str, loc: Loc) -> str | None:
        try:
            return disk.canonical(path)
        except disk.Unsafe as error:
            self._fault(loc, f"{error}")
        except OSError as error:
            # What stands in the way of a directory may be ours, and about to be given back.
            if error.errno == errno.ENOTDIR and error.filename in self._before.originals:
                return path
            self._fault(loc, f"{error.filename}: {error.strerror}; make room for the destination")
        return None

    def _directory(self, entry: PathEntry) -> None:
        loc: Loc = (DIRECTORIES, entry.index)
        uid, gid = self._ids(entry.owner, loc)
        path = self._canonical(entry.path, (*loc, "path"))
        if path is None:
            return
        status = disk.lstat(path)
        if status is not None and stat.S_ISLNK(status.st_mode):
            path = self._through_link(path, (*loc, "path"))
            if path is None:
                return
        elif status is not None and not stat.S_ISDIR(status.st_mode):
            self._fault((*loc, "path"), f"{path} is there and is no directory; remove it")
            return
        elif status is not None:
            disk.refuse_planted(path, uid, directory_mode(entry.perm))
        if self._reaches_records(path, (*loc, "path"), uid, directory_mode(entry.perm), False):
            return
        self._add_parents(path, loc, DIRECTORIES)
        self._tree.put(
            path, Node(DIRECTORY, DIRECTORIES, loc, uid, gid, directory_mode(entry.perm))
        )

    def _through_link(self, path: str, loc: Loc) -> str | None:
        """The directory behind a link that only root can have made."""
        try:
            return disk.directory(path).real
        except disk.Unsafe as error:
            self._fault(loc, str(error))
        except OSError as error:
            self._fault(loc, f"{path} is a symbolic link: {error.strerror}; remove it")
        return None

    def _file(self, entry: PathEntry) -> None:
        loc: Loc = (FILES, entry.index)
        uid, gid = self._ids(entry.owner, loc)
        path = self._canonical(entry.path, (*loc, "path"))
        if path is None:
            return
        status = disk.lstat(path)
        if status is not None and not stat.S_ISREG(status.st_mode):
            kind = KIND_NAMES[kind_of(status)]
            self._fault((*loc, "path"), f"{path} is {kind}, expected a regular file; remove it")
            return
        parent = disk.split(path)[0]
        if parent not in self._tree.nodes and not is_directory(disk.lstat(parent)):
            self._fault(
                (*loc, "path"),
                f"the parent directory {parent} does not exist; name it under `directories`",
            )
            return
        if not self._reaches_records(path, (*loc, "path"), uid, entry.perm, False):
            self._tree.put(path, Node(FILE, FILES, loc, uid, gid, entry.perm))

    def _config_file(self, entry: ConfigFile) -> None:
        loc: Loc = (CONFIG_FILES, entry.index)
        uid = gid = perm = None
        if not entry.preserve_properties:
            assert entry.owner is not None  # the document's own rule
            uid, gid = self._ids(entry.owner, loc)
            perm = entry.perm
        sources = matches(entry.source)
        if not sources and not entry.optional:
            what = "matches nothing" if has_magic(entry.source) else "does not exist"
            self._fault(
                (*loc, "source"), f"{entry.source} {what}; mount it, or set `optional` to true"
            )
        for source in sources:
            dest = entry.dest
            if dest.endswith("/"):
                dest += source.rpartition("/")[2]
            dest = dest.rstrip("/") or "/"
            path = self._canonical(dest, (*loc, "dest"))
            if path is None:
                continue
            problem = forms.protected(path, entry.merge)
            if problem is not None:
                # What a pattern found, or a link led to: the document itself could not show it.
                self._fault((*loc, "dest"), problem)
                continue
            if not entry.merge:
                self._tree.drop(path)
                self._keys.add(path)
                self._large.pop(path, None)
                self._seen.pop(path, None)
            self._add_parents(path, loc, CONFIG_FILES)
            copy = _Copy(entry, uid, gid, perm, loc, source)
            if self._known(path, copy):
                continue
            count = len(self._tree.nodes)
            todo: list[_Found] = [(source, path, ())]
            while todo:
                todo += reversed(self._add_source(*todo.pop(), copy))
            if len(self._tree.nodes) - count >= _LARGE and copy.whole():
                self._large[path] = copy

    def _add_source(
        self, source: str, path: str, above: tuple[tuple[int, int], ...], copy: "_Copy"
    ) -> "list[_Found]":
        """Add a source to the final state; returns what is in it."""
        try:
            if copy.links and _leaf_link(source):
                status = os.lstat(source)
                self._put_leaf(path, copy.node(LINK, status, source, os.readlink(source)), copy)
                return []
            # The mounted files are the operator's, links and all. Anywhere else the service may
            # have been: root must not read for it what it cannot read itself.
            exposed = not source.startswith(forms.MOUNTED + "/") and disk.exposed(source)
            status = os.stat(source, follow_symlinks=not exposed)
        except disk.Unsafe as error:
            self._fault((*copy.loc, "source"), str(error))
            return []
        except FileNotFoundError:
            self._fault(
                (*copy.loc, "source"), f"{source} is a link that leads nowhere; mend or remove it"
            )
            return []
        except OSError as error:
            self._fault((*copy.loc, "source"), f"{source}: {error.strerror}; mend or remove it")
            return []
        if stat.S_ISREG(status.st_mode):
            # Asking costs a call; mostly the mode says it.
            if status.st_mode & 0o444 != 0o444 and not os.access(source, os.R_OK):
                self._fault((*copy.loc, "source"), f"{source}: Permission denied; make it readable")
                return []
            self._put_leaf(path, copy.node(FILE, status, source, safe=exposed), copy)
        elif stat.S_ISDIR(status.st_mode):
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                self._fault(
                    (*copy.loc, "source"), f"{source} leads back into itself; remove the link"
                )
                return []
            resolved = self._put_directory(path, copy.node(DIRECTORY, status, source), copy)
            if resolved is None:
                return []
            try:
                inside = disk.names(source) if exposed else sorted(os.listdir(source))
            except OSError as error:
                self._fault((*copy.loc, "source"), f"{source}: {error.strerror}; make it readable")
                return []
            top = source.rstrip("/")
            return [
                (f"{top}/{name}", disk.join(resolved, name), (*above, identity))
                for name in inside
                # Kubernetes keeps the machinery of a ConfigMap under names that begin with "..".
                if not name.startswith("..")
            ]
        elif disk.is_null(status) and not exposed and not copy.preserve:
            self._put_leaf(path, copy.node(FILE, status, forms.NULL), copy)
        else:
            self._fault(
                (*copy.loc, "source"),
                f"{source} is neither a file nor a directory; only those can be copied, and "
                f"{forms.NULL}, without preserve_properties, as an empty file",
            )
        return []

    def _put_leaf(self, path: str, node: Node, copy: "_Copy") -> None:
        if path == "/":
            self._fault((*copy.loc, "dest"), "a file cannot be put in place of /; name a path")
            return
        self._tree.drop(path)
        self._tree.put(path, node)
        if copy.merge:
            self._keys.add(path)

    def _put_directory(self, path: str, node: Node, copy: "_Copy") -> str | None:
        """Add a directory; where a merge meets a safe link to one, the directory behind it."""
        if not copy.merge:
            self._tree.put(path, node)
            return path
        known = self._tree.nodes.get(path)
        status = disk.lstat(path) if known is None else None
        if status is not None and stat.S_ISLNK(status.st_mode):
            try:
                path = disk.directory(path).real
                status = disk.lstat(path)
            except disk.Unsafe as error:
                self._fault((*copy.loc, "dest"), str(error))
                return None
            except OSError:
                status = None  # It leads nowhere: a directory takes its place.
        if known is not None and known.kind not in {DIRECTORY, PARENT}:
            self._tree.drop(path)
        if forms.holds_records(path) and (not disk.trusted(node.uid) or node.mode & 0o022):
            if not copy.preserve:
                self._reaches_records(path, (*copy.loc, "dest"), node.uid, node.mode, False)
                return None
            self._warnings.append(f"{path} holds what this program remembers: it stays as it is")
            node.uid, node.gid, node.mode = os.geteuid(), os.getegid(), 0o755
        node.exact = known is not None and known.exact
        if known is None and is_directory(status) and path not in self._before.originals:
            self._merged.add(path)
        elif path not in self._merged:
            self._keys.add(path)
        here = self._tree.nodes.get(path)
        if here is not None and here.known:
            raise _Entwined
        self._tree.put(path, node)
        return path

    def _add_parents(self, path: str, loc: Loc, part: str) -> None:
        """Add the parents that a path needs and nobody has asked for."""
        for place in ancestors(path):
            known = self._tree.nodes.get(place)
            if known is not None:
                if known.kind not in {DIRECTORY, PARENT}:
                    self._fault(loc, f"{place} is {KIND_NAMES[known.kind]} by an earlier entry")
                return
            status = disk.lstat(place)
            if status is None:
                if part == CONFIG_FILES:
                    self._parents.append(place)
            elif not stat.S_ISDIR(status.st_mode):
                if place not in self._before.originals:
                    self._fault(loc, f"{place} is there and is no directory; remove it")
                return
            elif place in self._before.parents:
                self._parents.append(place)
            elif not self._tree.exact_above(place):
                return
            self._tree.put(
                place,
                Node(
                    PARENT, part, loc, os.geteuid(), os.getegid(), 0o755,
                    exact=self._tree.exact_above(place),
                ),
            )  # fmt: skip

    # --- large directories that are as they were ---

    def _known(self, path: str, copy: "_Copy") -> bool:
        """Whether a directory is known to be as its source; then it need not be planned."""
        recorded = self._before.seen.get(path)
        if recorded is None or not self._trusting or not copy.whole():
            return False
        from kolla_start import seen

        found = self._seen[path] = seen.fingerprint(copy.key(path), copy.source, path)
        if found != recorded:
            return False
        node = Node(DIRECTORY, CONFIG_FILES, copy.loc, exact=True, known=True)
        self._tree.put(path, node)
        return True

    def _look_at_large(self, rules: Rules) -> dict[str, bytes]:
        """Before anything is compared: what the large directories and their sources are now.

        Returns the sources' halves of the fingerprints. Raises _Entwined where a known directory
        is not this document's alone to one entry.
        """
        halves: dict[str, bytes] = {}
        for path in self._tree.known():
            if self._tree.children.get(path) or not self._alone(path, rules):
                raise _Entwined
        if not self._trusting:
            return halves
        for path, copy in self._large.items():
            from kolla_start import seen

            below = f"{path}/"
            entries = []
            for inner, node in self._tree.nodes.items():
                if inner == path or inner.startswith(below):
                    if node.loc != copy.loc or node.status is None:
                        break
                    entries.append(seen.facts(inner[len(path) :], node.status))
            else:
                if entries and self._alone(path, rules):
                    half = seen.of_source(entries, self._began)
                    if half is not None:
                        halves[path] = half
                    if path not in self._seen and is_directory(disk.lstat(path)):
                        key = copy.key(path)
                        self._seen[path] = seen.fingerprint(key, copy.source, path)
        return halves

    def _alone(self, path: str, rules: Rules) -> bool:
        """Whether no other entry, now or earlier, says what is to be inside a directory."""
        below = f"{path}/"
        return not rules.reach(path) and not any(
            place.startswith(below) for place in (*self._before.originals, *self._before.attributes)
        )

    def _remember_large(self, plan: Plan, halves: dict[str, bytes]) -> None:
        """What the records will say of large directories, or what apply() needs to say it."""
        plan.after.seen = {path: self._before.seen[path] for path in self._tree.known()}
        changed = {step.path for step in plan.steps}
        for path, copy in self._large.items():
            below = f"{path}/"
            found = self._seen.get(path)
            if path not in halves:
                continue
            if not any(place == path or place.startswith(below) for place in changed):
                if found is not None:
                    plan.after.seen[path] = found
            # What only the steps make private may have been exchanged since it was compared.
            elif found is not None or path in self._fresh:
                plan.unseen[path] = (copy.key(path), halves[path])

    # --- what left the document ---

    def _restores(self) -> None:
        """Under everything else: what is recorded and no longer asked for gets its original."""
        records = self._before
        for path in sorted(records.originals.keys() - self._keys):
            kept = records.originals[path]
            if self._tree.covers(path):
                continue
            if not self._reachable(path):
                continue
            status = disk.lstat(kept) if kept else None
            if kept is None or status is None:
                if kept is not None:
                    self._warnings.append(f"the original of {path} is not at {kept} any more")
                    continue
                # Something the document still wants may lie inside what it created earlier.
                if path not in self._tree.children:
                    self._tree.put(path, Node(ABSENT, RESTORE, ()))
                continue
            for place, node in mirror(kept, path, {}):
                if place not in self._tree.nodes:
                    self._tree.put(place, node)
        for path, (uid, gid, mode) in records.attributes.items():
            if path in self._tree.nodes or not self._reachable(path):
                continue
            if is_directory(disk.lstat(path)):
                self._tree.put(path, Node(DIRECTORY, RESTORE, (), uid, gid, mode))

    def _reachable(self, path: str) -> bool:
        """Whether what left the document can be given back. A start does not fail if it cannot."""
        try:
            disk.lstat(path)
        except disk.Unsafe as error:
            self._warnings.append(f"{path} left the document and cannot be given back: {error}")
            self._unreachable.add(path)
            return False
        return True

    # --- owners and modes of trees ---

    def _permissions(self) -> "Rules":
        rules = Rules(self._tree)
        for entry in self._config.permissions:
            loc: Loc = ("permissions", entry.index)
            uid, gid = self._ids(entry.owner, loc)
            exclude = compiled(entry.exclude)
            there = False

            # Its own directories are the service's business: they do not exempt the others.
            def unreadable(
                error: OSError, index: int = entry.index, path: str = entry.path
            ) -> None:
                self._warnings.append(f"permissions[{index}] passes over {cause(error, path)}")

            found = [entry.path]
            if has_magic(entry.path):
                found = matches(entry.path, unreadable)
            for match in sorted({*found, *self._planned(entry.path)}):
                shown = match.rstrip("/") or "/"
                try:
                    path = shown if shown in self._tree.nodes else disk.canonical(shown)
                except (disk.Unsafe, OSError) as error:
                    # A service can bring this about at any time: no reason not to start it.
                    self._warnings.append(f"permissions[{entry.index}] left out: {error}")
                    continue
                if self._reaches_records(path, (*loc, "path"), uid, entry.perm or 0, entry.recurse):
                    continue
                there = there or self._there(path, (*loc, "path"))
                rules.add(path, shown, uid, gid, entry.perm, entry.recurse, exclude)
            if entry.mistaken is not None and there:
                self._fault((*loc, "perm"), entry.mistaken)
            elif entry.mistaken is not None:
                self._warnings.append(f"permissions[{entry.index}].perm: {entry.mistaken}")
        rules.fold()
        return rules

    def _planned(self, pattern: str) -> list[str]:
        """What will match a pattern, as the document spells it: a link may stand in its way."""
        found = self._tree.matches(pattern)
        before = "/".join(pattern.split("/")[: _magic_at(pattern)])
        try:
            real = disk.directory(before).real if before else ""
        except (disk.Unsafe, OSError):
            return found
        if real != before and has_magic(pattern):
            found += [
                before + path[len(real) :]
                for path in self._tree.matches(real + pattern[len(before) :])
            ]
        return found

    def _reaches_records(self, path: str, loc: Loc, uid: int, mode: int, recurse: bool) -> bool:
        """Whether an owner or mode would let somebody at this program's records: a fault then."""
        if forms.kept(path) or (
            forms.holds_records(path) and (recurse or not disk.trusted(uid) or mode & 0o022)
        ):
            self._fault(
                loc, f"{path} is, or holds, what this program remembers; name a path beside it"
            )
            return True
        return False

    def _there(self, path: str, loc: Loc) -> bool:
        """Whether there is, or will be, anything at a path of `permissions`."""
        node = self._tree.nodes.get(path)
        if node is not None:
            return node.kind != ABSENT
        try:
            status = disk.lstat(path)
            if status is not None and stat.S_ISLNK(status.st_mode):
                found = disk.open_behind(path)
                if found is not None:
                    found.close()
        except OSError as error:
            if error.errno == errno.ELOOP:
                self._fault(
                    loc, f"{path} is a link that leads in a circle; mend it, or remove the entry"
                )
        except disk.Unsafe:
            pass  # The walk says so, and leaves it alone.
        else:
            return status is not None and not self._tree.exact_above(path)
        return False

    # --- against the disk ---

    def _compare(self) -> Plan:
        config = self._config
        launch = Launch(config.command, config.user, config.capabilities, config.no_new_privileges)
        plan = Plan(self._before, launch)
        for path, node in sorted(self._tree.nodes.items()):
            try:
                self._compare_one(plan, path, node)
            except OSError as error:
                where = node.source if error.filename == node.source else path
                self._fault(node.loc, f"{where}: {error.strerror}; it cannot be compared")
            except disk.Unsafe as error:
                self._fault(node.loc, str(error))
        self._remove_stale_parents(plan)
        self._check_writable(plan)
        plan.after = self._records_after(plan)
        return plan

    def _compare_one(self, plan: Plan, path: str, node: Node) -> None:
        if node.known:
            return
        # What lies in a directory that is yet to be made is not there, whatever stands there now.
        status = None if disk.split(path)[0] in self._fresh else disk.lstat(path)
        if node.kind == ABSENT:
            if status is not None:
                self._remove(plan, path, node, "it left the document", minor=False)
            return
        kind = None if status is None else kind_of(status)
        wanted = DIRECTORY if node.kind == PARENT else node.kind
        if status is None or kind != wanted:
            why = "missing" if kind is None else f"is {KIND_NAMES[kind]}"
            if kind == DIRECTORY:
                self._check_mounts(path, node)
            if wanted == DIRECTORY:
                self._fresh.add(path)
            verb = "create" if node.source is None else "copy"
            over = kind == DIRECTORY
            plan.steps.append(Step(verb, path, node, node.part, why, over=over))
            return
        if wanted in {DIRECTORY, SPECIAL}:
            why = _attribute_drift(status, node) if node.kind != PARENT else ""
            if not why and node.preserve and wanted == DIRECTORY:
                assert node.source is not None
                theirs = disk.attributes(node.source, node.safe)
                if theirs != disk.attributes(path, safe=True):
                    why = "extended attributes differ"
            if why:
                disk.refuse_planted(path, node.uid, node.mode)
                plan.steps.append(Step("set", path, node, node.part, why))
            if node.exact:
                wanted_names = self._tree.children.get(path, set())
                for name in disk.names(path):
                    if name not in wanted_names:
                        extra = disk.join(path, name)
                        minor = node.part != RESTORE and extra not in self._before.placed
                        self._remove(plan, extra, node, "not in the source", minor)
        elif node.kind == LINK:
            if disk.read_link(path) != node.target:
                plan.steps.append(Step("copy", path, node, node.part, "another target"))
            elif (status.st_uid, status.st_gid) != (node.uid, node.gid):
                plan.steps.append(Step("copy", path, node, node.part, "another owner"))
        elif node.source is None:
            why = _attribute_drift(status, node)
            if why:
                disk.refuse_planted(path, node.uid, node.mode)
                plan.steps.append(Step("set", path, node, node.part, why))
        else:
            self._compare_file(plan, path, node, status)

    def _compare_file(self, plan: Plan, path: str, node: Node, status: os.stat_result) -> None:
        assert node.source is not None and node.status is not None
        minor = False
        size = node.status.st_size
        if status.st_size != size or (
            size and not disk.same_content(node.source, path, size, node.safe)
        ):
            why = "content differs"
        else:
            why = _attribute_drift(status, node)
        if not why and node.preserve:
            if disk.attributes(node.source, node.safe) != disk.attributes(path, safe=True):
                why = "extended attributes differ"
            elif status.st_mtime_ns != node.status.st_mtime_ns:
                why, minor = "times differ", True
        if why:
            plan.steps.append(Step("copy", path, node, node.part, why, minor))

    def _remove(self, plan: Plan, path: str, node: Node, why: str, minor: bool) -> None:
        self._check_mounts(path, node)
        plan.steps.append(Step("remove", path, None, node.part, why, minor))

    def _check_mounts(self, path: str, node: Node) -> None:
        for mount in disk.mounts(path):
            where = "is a mount point" if mount == path else f"holds the mount point {mount}"
            self._fault(
                (*node.loc, "dest") if node.loc else (),
                f"{path} {where}, and is to be replaced; unmount it, or merge",
            )

    def _remove_stale_parents(self, plan: Plan) -> None:
        going = {step.path for step in plan.steps if step.verb == "remove"}
        for path in reversed(self._before.parents):
            if self._tree.wants(path) or self._tree.known_above(path):
                continue
            if not self._reachable(path) or not is_directory(disk.lstat(path)):
                continue
            if all(disk.join(path, name) in going for name in disk.names(path)):
                going.add(path)
                plan.steps.append(
                    Step("rmdir", path, None, RESTORE, "made for something that left the document")
                )

    def _check_writable(self, plan: Plan) -> None:
        """Find out before the first write whether the directories take it, and the space."""
        free: dict[int, int] = {}
        known: dict[str, int | None] = {}
        for step in plan.steps:
            parent = disk.split(step.path)[0]
            if parent not in known:
                place = parent
                while place in self._fresh or not is_directory(disk.lstat(place)):
                    place = disk.split(place)[0]
                device = None
                if disk.writable(place) or disk.rewritable(step.path):
                    device, room = disk.free_bytes(place)
                    free.setdefault(device, room)
                else:
                    loc = step.node.loc if step.node else ()
                    self._fault(loc, f"{place} cannot be written; mount something writable there")
                known[parent] = device
            node, device = step.node, known[parent]
            if node is not None and node.kind == FILE and node.status and device is not None:
                before = free[device]
                free[device] = before - node.status.st_size
                if before >= 0 > free[device]:
                    self._fault(
                        node.loc, f"no space left for {step.path} and what follows; make room"
                    )

    # --- what will be recorded ---

    def _records_after(self, plan: Plan) -> Records:
        before = self._before
        after = before.copy()
        after.pending, after.places, after.saving = False, [], []
        leaving = before.originals.keys() - self._keys - self._unreachable
        for path in leaving:
            kept = after.originals.pop(path)
            if kept is not None:
                plan.dropped.append(kept)
        touched = _touched(plan.steps, self._keys)
        taken = {
            place
            for kept in before.originals.values()
            if kept
            for place in (kept, *ancestors(kept))
        }
        whole = {kept for kept in before.originals.values() if kept}
        for path in sorted(touched - before.originals.keys()):
            origin = self._original(path)
            kept = None
            if origin is not None:
                kept = self._place.kept(path)
                number = 0
                while kept in taken or any(place in whole for place in ancestors(kept)):
                    number += 1
                    kept = f"{self._place.defaults}/root/{number}{path}"
                taken.update((kept, *ancestors(kept)))
                whole.add(kept)
                plan.saves.append(Save(path, origin, kept))
            after.originals[path] = kept
        stale = {step.path for step in plan.steps if step.verb == "rmdir"}
        made = {path for path in self._parents if path not in self._keys}
        after.parents = sorted(made.union(before.parents) - stale)
        after.attributes = {
            path: value
            for path, value in before.attributes.items()
            if path in self._unreachable
            or (path in self._tree.nodes and self._tree.nodes[path].part != RESTORE)
        }
        for step in plan.steps:
            if step.verb == "set" and step.path in self._merged:
                status = disk.lstat(step.path)
                assert status is not None
                after.attributes.setdefault(
                    step.path, (status.st_uid, status.st_gid, status.st_mode & 0o7777)
                )
        after.placed = {
            path
            for path, node in self._tree.nodes.items()
            if node.part == CONFIG_FILES and node.kind != PARENT and path not in self._keys
        }
        known = tuple(f"{path}/" for path in self._tree.known())
        if known:
            after.placed |= {path for path in before.placed if path.startswith(known)}
        return after

    def _original(self, path: str) -> str | None:
        """Where the original of a path is now: under a recorded parent's original, or in place."""
        for place in ancestors(path):
            if place in self._before.originals:
                kept = self._before.originals[place]
                path = kept + path[len(place) :] if kept else ""
                break
        try:
            return path if path and disk.lstat(path) is not None else None
        except disk.Unsafe:
            return None  # behind a link that is part of the kept original


class _Copy:
    """What one config_files entry gives to everything it copies."""

    __slots__ = ("gid", "links", "loc", "merge", "perm", "preserve", "source", "uid")

    def __init__(
        self,
        entry: ConfigFile,
        uid: int | None,
        gid: int | None,
        perm: int | None,
        loc: Loc,
        source: str,
    ) -> None:
        self.source = source
        self.uid = uid
        self.gid = gid
        self.perm = perm
        self.loc = loc
        self.merge = entry.merge
        self.preserve = entry.preserve_properties
        self.links = entry.merge and entry.preserve_properties

    def whole(self) -> bool:
        """Whether it makes the destination exactly as the operator's source."""
        return not self.merge and self.source.startswith(forms.MOUNTED + "/")

    def key(self, path: str) -> object:
        """All but the source's content on which it depends what the destination is to be."""
        return self.source, path, self.uid, self.gid, self.perm, self.preserve

    def node(
        self, kind: int, status: os.stat_result, source: str, target: str = "", safe: bool = False
    ) -> Node:
        uid = status.st_uid if self.uid is None else self.uid
        gid = status.st_gid if self.gid is None else self.gid
        mode = status.st_mode & 0o7777
        if self.perm is not None:
            mode = directory_mode(self.perm) if kind == DIRECTORY else self.perm
        return Node(
            kind, CONFIG_FILES, self.loc, uid, gid, mode, source, status, target, self.preserve,
            exact=kind == DIRECTORY and not self.merge, safe=safe,
        )  # fmt: skip


# Directories of so many entries are worth a fingerprint: to look is quicker than to read.
_LARGE = 500

# A source still to be looked at: its path, its destination, and the directories it lies in.
_Found = tuple[str, str, tuple[tuple[int, int], ...]]


def _magic_at(pattern: str) -> int:
    """The number of the first component with magic in it."""
    parts = pattern.split("/")
    return next((number for number, part in enumerate(parts) if has_magic(part)), len(parts))


def _leaf_link(source: str) -> bool:
    """Whether a source is a link, but not one to a directory."""
    if not stat.S_ISLNK(os.lstat(source).st_mode):
        return False
    return not disk.present(source, follow=True) or not stat.S_ISDIR(os.stat(source).st_mode)


def _attribute_drift(status: os.stat_result, node: Node) -> str:
    if (status.st_uid, status.st_gid) != (node.uid, node.gid):
        return f"owner is {status.st_uid}:{status.st_gid}, not {node.uid}:{node.gid}"
    if status.st_mode & 0o7777 != node.mode:
        return f"mode is {status.st_mode & 0o7777:04o}, not {node.mode:04o}"
    return ""


def _touched(steps: list[Step], keys: set[str]) -> set[str]:
    """The keys at or above which a step changes something."""
    seen: set[str] = set()
    for step in steps:
        if step.part == CONFIG_FILES:
            path = step.path
            while path not in seen:
                seen.add(path)
                path = disk.split(path)[0]
    return seen & keys
