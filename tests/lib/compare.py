"""Upstream and this program on the same document, start by start, each in a sandbox of its own.

A container's life goes along a chain of steps (chains.py): starts, and checks with changes in
between. After each both trees are compared (path, kind, owner, mode, content, link target,
attributes: see changes.Change) and the exit codes. What differs is looked up in rules.py; this
module knows none.
"""

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import peer
import templates
from chains import CHAINS, NEED_ENTRIES, Chain
from sandbox import Change, Sandbox
from templates import Case

from kolla_start import accounts, set_configs
from kolla_start.disk import read, source

RECORDS = "/etc/kolla/defaults"
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


def _as_new() -> None:
    """A fork of this process: what other tests have opened and asked in it is of another root."""
    for each in source._walks:
        each._open.clear()
    read._table.clear()
    accounts._seen.clear()
    accounts.bring(None, None)


def ours(box: Sandbox, *argv: str, strategy: str = "COPY_ALWAYS") -> tuple[int, str]:
    """As upstream is run: the same main() as the command's, without a start of the interpreter."""

    def main() -> int:
        _as_new()
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
        before = box.before(path)
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
            if one.entries or not {step.change, step.document} & {*NEED_ENTRIES}
        )
        _chain(pair, one, possible, found)
    return found


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
