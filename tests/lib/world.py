"""What a container lacks: capabilities, ids, writable places, /proc, memory, standard streams.

Each world is a way in which the surroundings of a start refuse it something; the starts are those
of cases.py, and what may come of one is what faults.judge() says: it is carried out, or it ends
with a line that says what to do. Then the world is put right, and the next start must end where it
should. Used by test_world.py (a sample) and torture.py (all).
"""

import contextlib
import dataclasses
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import faults
from cases import CASES, MARK, Case, prepare, start
from faults import DONE, HALFWAY, REFUSED, Ending, Loss, Reference
from sandbox import CONFIG_FILES, Sandbox
from subjects import OURS, Subject

# What Docker and podman give to a container that asks for nothing.
CAPABILITIES = (
    "chown dac_override fsetid fowner mknod net_raw setgid setuid setfcap setpcap"
    " net_bind_service sys_chroot kill audit_write"
).split()


def _nothing(box: Sandbox, case: Case) -> None:
    pass


@dataclass(frozen=True, slots=True)
class World:
    """A world and the case that is started in it.

    before:      the words of a command in front of the start
    before_exec: in the process that becomes the start
    spoil, mend: done to the sandbox before the start and after it; without `mend` it stays so
    deaf:        nobody can hear what is said
    foreseen:    what it refuses can be known before the first change: there is no halfway
    """

    name: str
    case: str
    before: tuple[str, ...] = ()
    before_exec: Callable[[], None] | None = None
    spoil: Callable[[Sandbox, Case], None] = _nothing
    mend: Callable[[Sandbox, Case], None] | None = _nothing
    deaf: bool = False
    foreseen: bool = False


# Losses that are known and not mended yet: the world, the case, and what is said. Counted apart.
KNOWN = {
    "no SETUID or SETGID is seen at the end": r"(without set[ug]id|files only) certificates: half",
}


# --- capabilities and ids ----------------------------------------------------------------------


def _capabilities() -> Iterator[World]:
    sets = {f"without {name}": [c for c in CAPABILITIES if c != name] for name in CAPABILITIES}
    sets |= {"an engine's capabilities": CAPABILITIES, "no capabilities": []}
    sets |= {"files only": ["chown", "dac_override", "fowner"], "chown only": ["chown"]}
    for name, kept in sets.items():
        bounding = ",".join(["-all", *(f"+{one}" for one in kept)])
        for case in ("certificates", "preserved", "permissions"):
            words = ("setpriv", "--inh-caps=-all", f"--bounding-set={bounding}")
            yield World(name, case, words, foreseen=True)


# A user namespace in which so many ids are the real ones: user_namespaces(7). It must be written
# by a process outside, so it takes two.
_IDS = """
import ctypes, os, sys
count, argv = sys.argv[1], sys.argv[2:]
ready, done = os.pipe()
writer = os.fork()
if writer == 0:
    os.close(done)
    os.read(ready, 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{os.getppid()}/{name}", "w") as file:
            file.write(f"0 0 {count}")
    os._exit(0)
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
    sys.exit("no user namespace here: " + os.strerror(ctypes.get_errno()))
os.close(done)
_, status = os.waitpid(writer, 0)
assert status == 0
os.execvp(argv[0], argv)
"""


def _ids() -> Iterator[World]:
    for case in ("certificates", "preserved", "nova-compute", "permissions"):
        for count in ("1", "1000", "65536"):
            python = ("/usr/bin/python3", "-IS", "-c", _IDS, count)
            yield World(f"a user namespace with {count} ids", case, python, foreseen=True)
        words = ("unshare", "--user", "--map-root-user")
        yield World("unshare --map-root-user", case, words, foreseen=True)


# --- places ------------------------------------------------------------------------------------


def _read_only() -> Iterator[World]:
    for case, dest in (("mount point", "/etc/service"), ("without root", "/etc/nova")):
        places = ("/etc/kolla", "/run/kolla", dest, "/tmp")
        for chosen in range(1 << len(places)):
            writable = [place for bit, place in enumerate(places) if chosen >> bit & 1]
            name = f"a read-only root but for {', '.join(writable) or 'nothing'}"
            yield World(name, case, spoil=_only(writable), mend=None, foreseen=True)


def _only(writable: list[str]) -> Callable[[Sandbox, Case], None]:
    volumes = (CONFIG_FILES, "/var/lib/nova")  # what a service's container mounts anyway

    def spoil(box: Sandbox, case: Case) -> None:
        for place in writable:
            if not box.exists(place):
                box.mkdir(place)
        for place in (*writable, *filter(box.exists, volumes)):
            # Onto itself: what is written there is in the overlay, where it is seen.
            box.run(["mount", "--rbind", place, place], check=True)
        box.run(["mount", "-o", "remount,bind,ro", "/"], check=True)

    return spoil


def _away(path: str) -> World:
    def spoil(box: Sandbox, case: Case) -> None:
        box.run(["mv", path, f"{path}.away"], check=True)

    def mend(box: Sandbox, case: Case) -> None:
        box.run(["mv", f"{path}.away", path], check=True)

    return World(f"no {path}", "", spoil=spoil, mend=mend)


def _proc() -> World:
    def spoil(box: Sandbox, case: Case) -> None:
        box.run(["umount", "--lazy", "/proc"], check=True)

    def mend(box: Sandbox, case: Case) -> None:
        box.run(["mount", "-t", "proc", "proc", "/proc"], check=True)

    return World("no /proc", "", spoil=spoil, mend=mend)


def _missing() -> Iterator[World]:
    for world in (_proc(), _away("/dev/null"), _away("/usr/bin/bash"), _away("/etc/localtime")):
        for case in ("certificates", "nova-compute", "without root"):
            yield dataclasses.replace(world, case=case)


# --- time --------------------------------------------------------------------------------------


def _clocks() -> Iterator[World]:
    """The clock goes back, or far, between two starts: all that the first left has other times."""
    shifts = {"an hour back": 3600, "an hour on": -3600, "to 1970": -(1 << 40), "far": 1 << 31}
    for name, seconds in shifts.items():
        for case in ("certificates", "directory", "preserved"):
            yield World(f"the clock goes {name}", case, spoil=_shift(seconds))
    for ahead in ("3600", "1000000"):  # the time since the boot cannot become less than none
        words = ("unshare", "--time", "--fork", "--boottime", ahead, "--monotonic", ahead)
        yield World(f"another boot clock ({ahead} s)", "directory", words)


def _shift(seconds: int) -> Callable[[Sandbox, Case], None]:
    def spoil(box: Sandbox, case: Case) -> None:
        code, said = start(box, case)
        assert code == 0, said
        box.remove(MARK)
        for path, change in box.changes().items():
            if change.kind in ("file", "directory"):
                now = box.stat(path).st_mtime + seconds
                os.utime(box.host(path), (max(now, 0), max(now, 0)))

    return spoil


# --- limits and streams ------------------------------------------------------------------------

_M = 1 << 20
_LIMITS = {
    "open files": (resource.RLIMIT_NOFILE, (5, 8, 12, 16, 32, 64)),
    "a file's size": (resource.RLIMIT_FSIZE, (0, 1, 100, 4096)),
    "processes": (resource.RLIMIT_NPROC, (0, 1)),
    "stack": (resource.RLIMIT_STACK, (16 << 10, 64 << 10, 256 << 10)),
    "address space": (resource.RLIMIT_AS, tuple(n * _M for n in (8, 12, 14, 15, 16, 17, 18, 20))),
    "data": (resource.RLIMIT_DATA, tuple(n * _M for n in (1, 2, 3, 4, 5, 6, 8))),
}


def _limits() -> Iterator[World]:
    for name, (what, values) in _LIMITS.items():
        for value in values:
            for case in ("certificates", "without root", "many files"):
                yield World(f"{name}: {value}", case, before_exec=_limit(what, value))


def _limit(what: int, value: int) -> Callable[[], None]:
    def before() -> None:
        resource.setrlimit(what, (value, value))

    return before


def _streams() -> Iterator[World]:
    some = {"0": (0,), "1": (1,), "2": (2,), "1 and 2": (1, 2), "all": (0, 1, 2)}
    ways = {"closed": _closed, "full": _full, "a pipe that nobody reads": _unread}
    for way, by in ways.items():
        for which, numbers in some.items():
            for case in ("certificates", "without root"):
                name = f"standard streams {which}: {way}"
                yield World(name, case, before_exec=by(numbers), deaf=2 in numbers)


def _closed(numbers: tuple[int, ...]) -> Callable[[], None]:
    def before() -> None:
        for number in numbers:
            os.close(number)

    return before


def _full(numbers: tuple[int, ...]) -> Callable[[], None]:
    def before() -> None:
        full = os.open("/dev/full", os.O_RDWR)
        for number in numbers:
            os.dup2(full, number)

    return before


def _unread(numbers: tuple[int, ...]) -> Callable[[], None]:
    def before() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        for number in numbers:
            os.dup2(writer, number)

    return before


def worlds() -> list[World]:
    """All of them, by kind."""
    kinds = (_capabilities, _ids, _read_only, _missing, _clocks, _limits, _streams)
    return [world for kind in kinds for world in kind()]


# --- one world ---------------------------------------------------------------------------------


def attempt(world: World, normal: Reference, subject: Subject = OURS) -> Ending:
    """Start a case in the world, then in one that is right; how the first ended."""
    for _ in range(2):  # a machine that stood still is no hang, twice is
        with contextlib.suppress(subprocess.TimeoutExpired), subject.box() as box:
            prepare(box, CASES[world.case])
            world.spoil(box, CASES[world.case])
            try:
                if subject.ours:
                    return _attempt(world, normal, box)
                return Ending(faults.other(box, CASES[world.case], normal, *_start(world, box)))
            except Loss as loss:
                said = f"{world.name} {world.case}: {loss}"
                known = subject == OURS and faults.known(KNOWN, said)
                return Ending(faults.WELL_KNOWN if known else faults.LOST, str(loss))
    return Ending(faults.LOST, "hangs")


def _start(world: World, box: Sandbox) -> tuple[int, str]:
    return start(box, CASES[world.case], *world.before, before_exec=world.before_exec)


def _attempt(world: World, normal: Reference, box: Sandbox) -> Ending:
    case = CASES[world.case]
    prepared = box.changes()
    code, said = _start(world, box)
    if code and not box.exists(MARK) and " ERROR " not in said:
        if world.deaf:
            raise Loss(f"exit code {code}: a log that nobody reads has stopped the start")
        if '"/usr/local/bin/kolla_start", line ' in said:
            raise Loss(f"the launcher itself: {said}")
        if faults.untouched(box, prepared):
            return Ending(faults.NOT_OURS, said)
    how = faults.judge(box, case, normal, code, said, prepared)
    if how == HALFWAY and world.foreseen:
        raise Loss(f"halfway: {said[-500:]}")
    if world.mend is not None:
        world.mend(box, case)
    if how == DONE or (how != REFUSED and world.mend is not None):
        faults.mended(box, case, normal, started=how == DONE)
    return Ending(how, said)


def attempts(
    chosen: list[World], normal: dict[str, Reference], subject: Subject = OURS
) -> Iterator[tuple[World, Ending]]:
    """Each world with how a start ended in it."""
    for world in chosen:
        yield world, attempt(world, normal[world.case], subject)
