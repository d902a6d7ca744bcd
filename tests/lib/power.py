"""The power is cut in the midst of a start, on a real disk; then the container comes back.

A start runs in a sandbox whose writable layer and volume lie on a real filesystem (loop.py). It is
stopped after each call that changes something, and whenever the device has received something new,
the device is copied: that is the disk after a power cut. What reaches the device, and when, is the
filesystem's business; of the ways that a kernel may choose, three are taken on purpose (HABITS).

Each copy is mounted again (the journal is replayed) and started again. The history with the power
cut must end as the same one without it: the paths, the records, and what an empty document gives
back. Used by test_power.py (a sample) and torture.py (all).
"""

import ctypes
import os
import random
import stat
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import loop
from cases import MARK
from faults import TEMPORARY
from loop import Disk
from moments import stopped_after
from outcomes import difference, settled, tree
from power_cases import CASES, Case
from sandbox import CONFIG_FILES, REMOVED, Change, Sandbox
from subjects import Subject

Tree = dict[str, Change]

# Without sendfile(2) and its like: strace's signal comes on their way in, and they begin anew.
FLUSHES = "?fsync,?fdatasync,?syncfs,?sync,?sync_file_range"
CHANGES = (
    "?rename,?renameat,?renameat2,?unlink,?unlinkat,?rmdir,?mkdir,?mkdirat,?link,?linkat,?symlink,"
    "?symlinkat,?mknodat,?write,?pwrite64,?ftruncate,?chmod,?fchmod,"
    "?fchmodat,?chown,?fchown,?fchownat,?lchown,?utimensat,?fsetxattr,?setxattr,?lsetxattr"
)

HABITS = ("lazy", "names first", "data first")
"""lazy: nothing is written before it is flushed; a cut after each flush is each state there is.
names first: after each call somebody else flushes a file of the filesystem that / is on, and the
journal with the names, owners and modes of everything goes with it; data wait.
data first: after each call the data are written back, and the journal waits for a flush.
"""

_RECORDS = ("/etc/kolla", "/run_command", "/configured")
_GIVEN = ("directories", "files", "permissions")  # no document gives these back
_VOLUME = "/srv/volume"
_WRITE_AND_WAIT = 7  # SYNC_FILE_RANGE_WAIT_BEFORE | WRITE | WAIT_AFTER
_libc = ctypes.CDLL(None, use_errno=True)


class Unfit(Exception):
    """A subject cannot do this even undisturbed; the message says what."""


@dataclass(slots=True)
class Reference:
    """How it goes undisturbed: the disk before the start, and what stands then.

    mark: the image; `before`, `after`, `back`: the paths that differ from it before the start,
    after it, and after an empty document; `records`: as the start leaves them
    """

    disk: Disk
    mark: Tree
    volume: Tree
    before: Tree
    after: Tree
    records: Tree
    back: Tree


@dataclass(slots=True)
class Cut:
    """The disk after a power cut. `after`: strace's line of the last call before it."""

    disk: Disk
    after: str


def reference(subject: Subject, case: Case, filesystem: str) -> Reference:
    """Raises Unfit, and Unusable where this machine has no loop device or no such filesystem."""
    with Disk.made(loop.FILESYSTEMS[filesystem], case.apart) as disk, subject.box(disk=disk) as box:
        case.plant(box)
        mark, volume = box.mark(), tree(box, _VOLUME)
        case.boot(box)
        if case.earlier is not None:
            box.document(case.earlier)
            done = box.set_configs()
            if done.returncode:
                raise Unfit(f"the earlier document: {done.stderr[-500:]}")
        box.document(case.document)
        box.run(["sync", "-f", "/etc", _VOLUME], check=True)
        before = disk.copy()
    found = Reference(before, mark, volume, {}, {}, {}, {})
    with before.copy() as disk, subject.box(disk=disk) as box:
        _boot(box, case, found)
        found.before = state(box, found)
        for _ in range(2):
            done = box.start(strategy=case.strategy)
            if done.returncode or not box.exists(MARK):
                raise Unfit(f"the start: {done.stderr[-500:]}")
        found.after = state(box, found)
        found.records = tree(box, *_RECORDS)
        box.document({"command": "true"})
        done = box.set_configs()
        if done.returncode:
            raise Unfit(f"the empty document: {done.stderr[-500:]}")
        found.back = state(box, found)
    if subject.ours:
        documents = (case.document, case.earlier or {})
        given = [each["path"] for one in documents for key in _GIVEN for each in one.get(key, ())]
        kept = [path for path in found.back if not path.startswith(tuple(given))]
        assert not kept, f"not given back: {kept}"
    return found


def _boot(box: Sandbox, case: Case, normal: Reference) -> None:
    case.boot(box)
    box.mark(normal.mark)


def state(box: Sandbox, normal: Reference) -> Tree:
    """What differs from the image, but for the program's records and the mounted files."""
    found = {
        path: change
        for path, change in box.changes().items()
        if not path.startswith((CONFIG_FILES, *_RECORDS, MARK, _VOLUME))
        and change != (box.before(path) or REMOVED)
    }
    volume = tree(box, _VOLUME)
    for path in {**volume, **normal.volume}:
        now = volume.get(path, REMOVED)
        if now != normal.volume.get(path, REMOVED):
            found[path] = now
    return found


# --- the power is cut ---------------------------------------------------------------------------


def cuts(
    subject: Subject, case: Case, normal: Reference, habit: str, most: int, seed: int = 1
) -> Iterator[Cut]:
    """The disks after power cuts in one start: all that differ, or `most` of them by chance."""
    chance = random.Random(seed)
    kept: list[Cut] = []
    seen = 0
    with normal.disk.copy() as disk, subject.box(disk=disk) as box:
        _boot(box, case, normal)
        last = disk.writes()

        def cut(line: str) -> None:
            nonlocal last, seen
            if habit == "names first":
                _flush_another_file(box)
            elif habit == "data first":
                _write_data(box)
            if disk.writes() == last:
                return
            seen += 1
            place = len(kept) if len(kept) < most else chance.randrange(seen)
            if place < most:  # each has the same chance, however many come
                copy = Cut(disk.copy(), line)
                if place < len(kept):
                    kept[place].disk.close()
                    kept[place] = copy
                else:
                    kept.append(copy)
            last = disk.writes()

        # Upstream's starts it by sudo(8), which stops with it and is then not to be continued.
        command = "kolla_start" if subject.ours else "kolla_set_configs"
        stopped_after(
            box, f"{FLUSHES},{CHANGES}", cut, [command],
            env={"KOLLA_CONFIG_STRATEGY": case.strategy}, timeout=1800,
        )  # fmt: skip
        cut("the end")
    while kept:
        with kept[0].disk:
            yield kept.pop(0)


def _flush_another_file(box: Sandbox) -> None:
    with open(f"{box.upper}/../other", "w") as file:
        file.write("x")
        file.flush()
        os.fsync(file.fileno())


def _write_data(box: Sandbox) -> None:
    """sync_file_range(2) writes what is dirty in files, and no journal."""
    for top in (box.upper, box.host(_VOLUME)):
        for place, _, names in os.walk(top):
            for name in names:
                path = f"{place}/{name}"
                if stat.S_ISREG(os.lstat(path).st_mode):
                    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
                    _libc.sync_file_range(
                        fd, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_WRITE_AND_WAIT)
                    )
                    os.close(fd)


# --- and comes back -----------------------------------------------------------------------------


def lost(subject: Subject, case: Case, normal: Reference, cut: Cut) -> str | None:
    """Boot the disk, start again and go on; None if nothing was lost, else what was."""
    try:
        with subject.box(disk=cut.disk) as box:
            _boot(box, case, normal)
            return _lost_before(box, case, normal, subject) or _lost_after(
                box, case, normal, subject
            )
    except AssertionError as problem:
        return str(problem)[:2000]


def _lost_before(box: Sandbox, case: Case, normal: Reference, subject: Subject) -> str | None:
    """What the disk shows before anything is started."""
    now = state(box, normal)
    if case.strategy == "COPY_ONCE" and box.exists("/configured"):
        why = _other(now, normal.after, subject)
        if why:
            return f"it is said to be configured for good, but {why}"
    for path, change in now.items():
        wanted = normal.after.get(path)
        if wanted is None or wanted.kind != "file" or change.digest != wanted.digest:
            continue
        was = normal.before.get(path)
        if was is not None and was.digest == wanted.digest:
            continue
        if subject.ours and change.mode & ~wanted.mode:
            return f"{path} has its content and is {change.mode:04o}, not {wanted.mode:04o}"
    return None


def _lost_after(box: Sandbox, case: Case, normal: Reference, subject: Subject) -> str | None:
    box.remove(MARK)
    done = box.start(strategy=case.strategy)
    if done.returncode or not box.exists(MARK):
        return f"the next start failed: {done.returncode}: {done.stderr[-500:]}"
    why = _other(state(box, normal), normal.after, subject)
    if why:
        return f"after the next start {why}"
    if subject.ours:
        records = tree(box, *_RECORDS)
        if records != normal.records:
            return f"other records: {difference(records, normal.records)}"
        left = [path for path in {**box.changes(), **tree(box, _VOLUME)} if TEMPORARY in path]
        if left:
            return f"temporary files are left: {left}"
        if case.strategy == "COPY_ALWAYS":
            settled(box)
            box.mark(normal.mark)
    box.document({"command": "true"})
    done = box.set_configs()
    if done.returncode:
        return f"an empty document failed: {done.stderr[-500:]}"
    why = _other(state(box, normal), normal.back, subject)
    if why:
        return f"after an empty document {why}"
    return None


def _other(found: Tree, wanted: Tree, subject: Subject) -> str | None:
    """Where the paths are not as without a power cut; of upstream's only contents are asked."""
    other = difference(found, wanted)
    if not subject.ours:
        other = {
            path: (is_, should)
            for path, (is_, should) in other.items()
            if should and (not is_ or (is_.kind, is_.digest) != (should.kind, should.digest))
        }
    return f"there is (is, should be): {other}" if other else None


# --- all of them --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """A start whose power is cut, again and again."""

    filesystem: str
    case: str
    habit: str


@dataclass(slots=True)
class Outcome:
    """`unfit`: why a subject cannot do it even undisturbed."""

    tried: int = 0
    lost: list[str] = field(default_factory=list)
    unfit: str = ""


def starts(filesystem: str) -> list[Start]:
    """All of them, but for those of which it is known what is lost."""
    cases = list(CASES)
    return [Start(filesystem, case, habit) for habit in HABITS for case in cases]


def _one(job: tuple[Subject, Start, tuple[int, int]]) -> tuple[Start, Outcome]:
    subject, start, (flushes, others) = job
    case, found = CASES[start.case], Outcome()
    try:
        normal = reference(subject, case, start.filesystem)
        most = flushes if start.habit == "lazy" else others
        for cut in cuts(subject, case, normal, start.habit, most):
            found.tried += 1
            why = lost(subject, case, normal, cut)
            if why:
                found.lost.append(f"after {cut.after}: {why}")
    except Unfit as reason:
        found.unfit = str(reason)
    except Exception as error:
        found.lost.append(f"the harness itself: {error!r}")
    return start, found


def starts_cut(
    subject: Subject, chosen: list[Start], most: tuple[int, int], workers: int
) -> Iterator[tuple[Start, Outcome]]:
    """Each start with what was lost, on all cores; `most`: cuts in a lazy one, and in another."""
    jobs = [(subject, start, most) for start in chosen]
    # Processes, not threads: a sandbox changes the namespaces of its whole process.
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        yield from pool.map(_one, jobs)
