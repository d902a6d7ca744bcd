"""Upstream and this program on the same document, start by start, each in a sandbox of its own.

A chain is a container's life: starts and checks with changes of the sources in between. After
each step both trees are compared (path, kind, owner, mode, content, link target, attributes: see
sandbox.Change) and the exit codes. What differs is looked up in rules.py; this module knows none.
"""

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import peer
import templates
from sandbox import CONFIG_FILES, Change, Sandbox
from templates import Case

from kolla_start import set_configs

RECORDS = "/etc/kolla/defaults"
LOGS = "/var/log/kolla"
# Each program's own bookkeeping, whose form is its own affair (what is kept there is compared).
_OWN = {f"{RECORDS}/{name}" for name in ("state", "kolla_start", "lock", "cacerts")}
_OWN |= {RECORDS, "/etc/kolla/options"}

State = dict[str, Change]


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not the same after a step. `path` is "exit code" or "--check" for an answer."""

    case: Case
    step: str
    path: str
    theirs: Change | int | None
    ours: Change | int | None
    image: State  # before the chain's first start
    previous: State  # of ours, before this step
    refused: bool  # by ours
    document: dict[str, Any]  # that is mounted
    entries: list[dict[str, Any]]  # of config_files, of this and of every earlier document
    left: list[dict[str, Any]]  # those whose dest the document does not have any more
    log: str  # of upstream

    def __str__(self) -> str:
        return f"{self.case.name}, {self.step}: {self.path}\n    {self.theirs}\n    {self.ours}"


@dataclass(slots=True)
class Side:
    """One program in its sandbox."""

    box: Sandbox
    run: Callable[..., tuple[int, str]]
    base: State = field(default_factory=dict)

    def state(self) -> State:
        return {path: change for path, change in self.box.changes().items() if path not in _OWN}


def ours(box: Sandbox, *argv: str, strategy: str = "COPY_ALWAYS") -> tuple[int, str]:
    """As upstream is run: the same main() as the command's, without a start of the interpreter."""

    def main() -> int:
        set_configs.main()
        raise AssertionError("main() exits by itself")

    return peer.inside(box, main, argv, strategy)


class Pair:
    """The two sandboxes; taken back to their beginning between chains."""

    def __init__(self, cases: list[Case]) -> None:
        self._cases = cases
        self._accounts: dict[str, bytes] = {}
        self._stack = contextlib.ExitStack()
        self.theirs = self._open(peer.set_configs)
        self.ours = self._open(ours)

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _open(self, run: Callable[..., tuple[int, str]]) -> Side:
        box = self._stack.enter_context(Sandbox())
        if not self._accounts:
            templates.add_owners(box, self._cases)
            self._accounts = {path: box.read_bytes(path) for path in ("/etc/passwd", "/etc/group")}
        for path, content in self._accounts.items():
            box.write(path, content)
        box.mark()
        return Side(box, run)

    def both(self) -> tuple[Side, Side]:
        return self.theirs, self.ours

    def reset(self) -> None:
        for name in ("theirs", "ours"):
            side: Side = getattr(self, name)
            if not _undo(side.box):
                side.box.close()
                setattr(self, name, self._open(side.run))


def _undo(box: Sandbox) -> bool:
    """Take back every change since the mark; False if that is more than a removal or a copy."""
    for path, change in box.changes().items():
        before = box._before(path)
        if before is None:
            box.remove(path)
        elif change.kind == before.kind == "directory":
            box.chown(path, (before.uid, before.gid))
            box.chmod(path, before.mode)
        elif path in box._marked or before.kind == "directory":
            return False
        else:
            box.remove(path)
            _copy(box._lower + path, box.host(path))
    return not box.changes()


def _copy(source: str, dest: str) -> None:
    shutil.copy2(source, dest, follow_symlinks=False)
    status = os.lstat(source)
    os.chown(dest, status.st_uid, status.st_gid, follow_symlinks=False)


# --- the chains ---------------------------------------------------------------------------------


Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """`change` and `document`: what happens before. `answers`: what ours must say to --check."""

    name: str
    argv: tuple[str, ...] = ()
    strategy: str = "COPY_ALWAYS"
    change: Callable[[Sandbox, Case], None] | None = None
    document: Callable[[Case], Document | str] | None = None
    answers: int | None = None


Chain = tuple[Step, ...]


def change_sources(box: Sandbox, one: Case) -> None:
    for source in one.sources:
        if source.endswith("/"):
            box.write(f"{source}a.conf", f"{source}: changed\n", mode=0o640)
            box.write(f"{source}new.conf", "new\n")
            box.remove(f"{source}sub/b.conf")
        else:
            box.write(source, f"{source}: changed\n", mode=0o640)


def without_first(one: Case) -> Document:
    # A role names one entry twice: as long as one of the two is there, nothing has left.
    first = one.entries[0]["dest"] if one.entries else None
    return {**one.document, "config_files": [e for e in one.entries if e["dest"] != first]}


def other_command(one: Case) -> Document:
    return {**without_first(one), "command": f"{one.document['command']} --more"}


def lose_source(box: Sandbox, one: Case) -> None:
    document = box.read_bytes(f"{CONFIG_FILES}/config.json")
    box.remove(CONFIG_FILES)
    box.mkdir(CONFIG_FILES)
    box.document(document)


def broken(one: Case) -> str:
    return '{"command": "true",'


def live(box: Sandbox, one: Case) -> None:
    """What a running service does to what is its own."""
    for path in templates.own_trees(one):
        # By a command of the image that was run as root, and by another user of the image.
        box.write(f"{path}/service.log", "a line of root's\n", mode=0o600)
        if one.full:
            box.write(f"{path}/old/service.log", "another line\n", owner=(42, 42), mode=0o644)
    for entry in one.entries:
        dest = entry["dest"]
        if os.path.isdir(box.host(dest)) and not dest.endswith("/"):
            box.write(f"{dest.rstrip('/')}/made-by-the-service", "\n", owner=(42, 42))


def older(one: Case) -> Document:
    return one.document


def newer(one: Case) -> Document:
    return one.newer or one.document


def other_owner(one: Case) -> Document:
    """The newer document for another user in the place of the service's."""
    document: Document = json.loads(json.dumps(newer(one)))
    users = [owner.partition(":")[0] for owner in templates.owners(document)]
    service = next((user for user in users if user != "root"), None)
    for _, entry in templates.sections(document):
        user, colon, group = entry.get("owner", "").partition(":")
        if user == service:
            entry["owner"] = templates.ANOTHER + colon + group
    return document


def logs(box: Sandbox, one: Case) -> None:
    """The shared log directory as it is after a while: fluentd's; in it each service's own, with
    what the service, and a command of its image run as root, have logged; and a neighbour's.
    """
    box.mkdir(LOGS, mode=0o2775, owner="fluentd:kolla")
    box.mkdir(f"{LOGS}/neighbour", mode=0o2775, owner="neighbour:kolla")
    box.write(f"{LOGS}/neighbour/neighbour.log", "its own\n", owner="neighbour:kolla", mode=0o600)
    for path, owner in sorted(_log_directories(one).items()):
        if not box.exists(path):
            box.mkdir(path, owner=owner)  # as Kolla's extend-start scripts do
        status = box.stat(path)
        group = status.st_gid if status.st_mode & stat.S_ISGID else box.ids(owner)[1]
        box.write(f"{path}/service.log", "a line\n", owner=(box.ids(owner)[0], group), mode=0o640)
        box.write(f"{path}/manage.log", "a line of root's\n", mode=0o600)


def _log_directories(one: Case) -> dict[str, str]:
    """The directories of services below LOGS that the older document names, and whose they are."""
    found: dict[str, str] = {}
    for name, entry in templates.sections(one.document):
        parts = entry.get("path", "").split("/")
        if name != "config_files" and entry["path"].startswith(f"{LOGS}/"):
            inner = "*" not in parts[4] and (len(parts) > 5 or "." not in parts[4])
            if inner:
                found.setdefault("/".join(parts[:5]), entry["owner"].partition(":")[0])
    return found


def image_defaults(box: Sandbox, one: Case) -> None:
    """A file, or a directory with a file of its own, wherever the document copies to."""
    for entry, source in _pairs(one):
        dest = entry["dest"]
        if dest.endswith("/"):
            dest += os.path.basename(source.rstrip("/"))
        dest = dest.rstrip("/")
        if os.path.lexists(box.host(dest)):
            continue
        if source.endswith("/"):
            box.write(f"{dest}/of-the-image.conf", f"{dest}: the image's\n", mode=0o640)
        else:
            box.write(dest, f"{dest}: the image's\n", owner=(0, 42), mode=0o640)


def _pairs(one: Case) -> Iterator[tuple[dict[str, str], str]]:
    for entry in one.entries:
        for source in templates.case("", {"config_files": [entry]}, one.full).sources:
            yield entry, source


CHECK = ("--check",)

PLAIN = (
    Step("first start"),
    Step("check after the start", CHECK, answers=0),
    Step("second start"),
    Step("check while the service lives", CHECK, change=live, answers=0),
    Step("check after a source changed", CHECK, change=change_sources, answers=1),
    Step("start after a source changed"),
    Step("check after an entry left", CHECK, document=without_first, answers=1),
    Step("start after an entry left"),
    Step("check after the command changed", CHECK, document=other_command, answers=1),
)
DEFAULTS = (
    Step("first start over image defaults", change=image_defaults),
    Step("second start over image defaults"),
    Step("third start, sources changed", change=change_sources),
    Step("start after an entry left, image default", document=without_first),
    Step("check after that, image default", CHECK, answers=0),
)
ONCE = (
    Step("first start, COPY_ONCE", strategy="COPY_ONCE"),
    Step("start after a source changed, COPY_ONCE", strategy="COPY_ONCE", change=change_sources),
    Step("start with a broken document, COPY_ONCE", strategy="COPY_ONCE", document=broken),
)

# What must be refused.
REFUSED = (
    Step("start that goes well"),
    Step("check without the sources", CHECK, change=lose_source, answers=2),
    Step("start without the sources"),
    Step("check of a broken document", CHECK, document=broken, answers=2),
    Step("start with a broken document"),
)
CHAINS: tuple[Chain, ...] = (PLAIN, DEFAULTS, ONCE, REFUSED)

# A deployment: an older kolla-ansible's document, a newer one's over what it left behind, and back,
# while other containers, root's commands and the service leave their logs in the shared directory.
DEPLOYMENT: Chain = (
    Step("older document: first start"),
    Step("older document: restart after a root command and fluentd", change=logs),
    Step("check of the older document", CHECK, answers=0),
    Step("newer document: upgrade", document=newer),
    Step("check after the upgrade", CHECK, answers=0),
    Step("newer document: restart after a root command and fluentd", change=logs),
    Step("newer document: reconfigured, sources changed", change=change_sources),
    Step("newer document: another owner", document=other_owner),
    Step("check with another owner", CHECK, answers=0),
    Step("older document: back again", document=older),
    Step("check after that", CHECK, answers=0),
    Step("older document: restart once more", change=logs),
)


@dataclass(slots=True)
class Compared:
    """What one document's chains showed: the steps compared, and what differed in each."""

    case: Case
    steps: int = 0
    differences: list[list[Difference]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # answers of ours to --check


def compare(pair: Pair, one: Case, chains: tuple[Chain, ...] = CHAINS) -> Compared:
    found = Compared(one)
    for chain in chains:
        pair.reset()
        for side in pair.both():
            templates.furnish(side.box, one)
        possible = tuple(
            step
            for step in chain
            if one.entries or not {step.change, step.document} & {*_NEED_ENTRIES}
        )
        _chain(pair, one, possible, found)
    return found


_NEED_ENTRIES = (change_sources, without_first, lose_source)


def _chain(pair: Pair, one: Case, chain: Chain, found: Compared) -> None:
    image: State = {}
    previous: State = {}
    document = one.document
    entries = list(one.entries)
    for step in chain:
        states, codes, logs = [], [], []
        mounted = step.document(one) if step.document else None
        if isinstance(mounted, dict):
            document = mounted
            entries += [entry for entry in templates.entries(document) if entry not in entries]
        for side in pair.both():
            if mounted is not None:
                side.box.document(mounted)
            if step.change:
                step.change(side.box, one)
            if step is chain[0] and side is pair.ours:
                image = previous = side.state()
                # Once in each life the installed command itself, with the image's interpreter.
                done = side.box.set_configs(strategy=step.strategy)
                code, log = done.returncode, done.stderr
            else:
                code, log = side.run(side.box, *step.argv, strategy=step.strategy)
            codes.append(code)
            logs.append(log)
            # A check must change nothing: it is looked at with the next start.
            states.append({} if step.argv else side.state())
        what = "--check" if step.argv else "exit code"
        pairs: list[tuple[str, Change | int | None, Change | int | None]] = []
        pairs += [(what, codes[0], codes[1])]
        pairs += [
            (path, states[0].get(path), states[1].get(path))
            for path in sorted({*states[0], *states[1]})
        ]
        kept = {entry["dest"] for entry in templates.entries(document)}
        found.steps += 1
        found.differences.append(
            [
                Difference(
                    one,
                    step.name,
                    path,
                    left,
                    right,
                    image,
                    previous,
                    codes[1] == 1,
                    document,
                    entries,
                    [entry for entry in entries if entry["dest"] not in kept],
                    logs[0],
                )
                for path, left, right in pairs
                if left != right
            ]
        )
        if not step.argv:
            previous = states[1]
        wanted = 2 if one.refused and step.answers is not None else step.answers
        if not step.argv:
            wanted = 1 if one.refused else wanted
        if wanted is not None and codes[1] != wanted:
            found.wrong.append(f"{one.name}, {step.name}: {codes[1]}, not {wanted}\n{logs[1]}")
