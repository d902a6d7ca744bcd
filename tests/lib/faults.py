"""Every system call of a start made to fail, and the start killed at every one.

strace(1) injects the fault into a real start in a sandbox, from the first call of the dynamic
loader to the exec of the service; after it the state is looked at, the next start must mend
everything, and an empty document must give the image back. The starts are those of cases.py. Used
by test_faults.py (a sample) and torture.py.

Before the first call of this program's own it is the interpreter that ends the start, in its own
words: that is accepted where nothing has changed, and counted apart.
"""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing import get_context

from cases import CASES, MARK, Case, asked, configure, prepare, start
from sandbox import REMOVED, Change, Sandbox, look
from subjects import OURS, Subject

ERRORS = ("ENOSPC", "EIO", "EACCES", "EPERM", "EROFS", "EINTR", "ESTALE", "ENOSYS", "ENOMEM")
KILL = "KILL"
TEMPORARY = ".kolla_start."
TRACE = "/dev/shm/trace"

# How a start goes: until the interpreter runs a line of ours, until the first change, to the end.
# A shell is our word no more: it has been given the extend-start script and the command.
INTERPRETER, PLANNING, CHANGING, SHELL = "interpreter", "planning", "changing", "shell"

# How a start with a fault ends. HALFWAY: what it has done by then stays for the next start.
DONE, REFUSED, HALFWAY, NOT_OURS = "done", "refused", "halfway", "interpreter's"
LOST, WELL_KNOWN = "lost", "known"

# What has no result to be told of, or always one: there is nothing that could fail.
_ENDS = frozenset("exit exit_group rt_sigreturn restart_syscall".split())
_ALWAYS = frozenset(
    """getpid getppid gettid getuid geteuid getgid getegid umask set_tid_address arch_prctl
    rseq set_robust_list""".split()
)
_CALL = re.compile(r"^(\d+) +(\w+)\(")
_OURS = "-packages/kolla_start/"
_SHELL = 'execve("/bin/bash", '
_CHANGES = re.compile(
    r"""\ (?:(?:mkdir|rename|unlink|symlink|link|mknod|f?chown|f?chmod|utimens)\w*
    |\w*(?:set|remove)xattr|ftruncate|openat\(.*O_CREAT.*)\(?.*\ =\ \d""",
    re.VERBOSE,
)
# One line that says what is wrong and where, and what to do.
_LINE = re.compile(r"^\d{4}-.*", re.MULTILINE)
_CLEAR = re.compile(r" ERROR .+[:;] .+")


@dataclass(frozen=True, slots=True)
class Fault:
    """The `number`-th call of `call` in each process of a start fails with `how`, or kills it."""

    case: str
    call: str
    number: int
    how: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended; `why` says what was lost."""

    how: str
    why: str = ""


class Loss(Exception):
    """What may not be has happened; the message says what."""


@dataclass(slots=True)
class Reference:
    """How an undisturbed start goes: the calls, when they come, the files before and after."""

    calls: dict[tuple[str, int], tuple[str, ...]]  # several times where there are children
    before: dict[str, Change | None]
    after: dict[str, Change]
    everything: dict[str, Change] = field(default_factory=dict)  # the records as well


# --- an undisturbed start ----------------------------------------------------------------------


def reference(name: str, subject: Subject = OURS) -> Reference:
    """Run a case undisturbed, under strace for its calls, and again for what was there before.

    Raises Loss where it does not even go well so.
    """
    case = CASES[name]
    with subject.box() as box:
        prepare(box, case)
        code, said = start(box, case, "strace", "-f", "-qq", "-o", TRACE, timeout=300)
        if code or not box.exists(MARK):
            raise Loss(f"undisturbed, {name}: exit code {code}: {said[-500:]}")
        calls = _calls(box.read(TRACE).splitlines(), case)
        found = Reference(calls, {}, asked(box), box.changes())
        if subject.ours:
            mended(box, case, found, started=True)
    with subject.box() as box:
        prepare(box, case)
        found.before = _at(box, found.after)
    return found


def _calls(lines: list[str], case: Case) -> dict[tuple[str, int], tuple[str, ...]]:
    """The calls until the service is there, each with its number in its process, and when."""
    found: dict[tuple[str, int], tuple[str, ...]] = {}
    when = INTERPRETER
    first = lines[0].split()[0]
    # The exec that strace(1) itself begins with is none that it counts.
    counts: Counter[tuple[str, str]] = Counter({(first, "execve"): -1})
    execs = [n for n, line in enumerate(lines) if line.startswith(first) and " execve(" in line]
    for line in lines[: execs[-1] + 1]:
        match = _CALL.match(line)
        if match is None:
            continue
        process, call = match[1], match[2]
        counts[process, call] += 1
        if when == INTERPRETER and _OURS in line:
            when = PLANNING
        elif when == PLANNING and _CHANGES.search(line):
            when = CHANGING
        one = call, counts[process, call]
        if call not in _ENDS and one[1] and when not in found.get(one, ()):
            found[one] = (*found.get(one, ()), when)
        if process == first and _SHELL in line:
            when = SHELL
    kept = [one for one in found if case.bare or found[one] != (INTERPRETER,)]
    return {one: found[one] for one in kept[:: case.every]}


def _at(box: Sandbox, paths: Iterable[str]) -> dict[str, Change | None]:
    found: dict[str, Change | None] = {}
    for path in paths:
        try:
            found[path] = look(box.host(path))
        except (FileNotFoundError, NotADirectoryError):
            found[path] = None
    return found


# --- what came of a start ----------------------------------------------------------------------


def judge(
    box: Sandbox, case: Case, normal: Reference, code: int, said: str, prepared: dict[str, Change]
) -> str:
    """How a start of ours ended in a world that refused: DONE, REFUSED or HALFWAY.

    `prepared` is what had changed since the image before it. Raises Loss.
    """
    started = box.exists(MARK)
    box.remove(MARK)
    if code == 2 or "Traceback" in said:
        raise Loss(f"exit code {code}: {said[-1500:]}")
    if started != (code == 0):
        raise Loss(f"exit code {code}, service started: {started}: {said[-500:]}")
    whole(box, case, normal, said, started)
    if code > 0 and not _CLEAR.search(said):
        raise Loss(f"exit code {code}, and no line says what to do: {said[-500:]!r}")
    if started:
        return DONE
    return REFUSED if untouched(box, prepared) else HALFWAY


def other(box: Sandbox, case: Case, normal: Reference, code: int, said: str) -> str:
    """How a start of another program ended: a file that is no file's, or a service on a part of
    them, is a loss. Raises Loss.
    """
    if box.exists(MARK):
        whole(box, case, normal, said, started=True)
        return DONE
    for path, there in _at(box, normal.after).items():
        digests = {change.digest for change in (normal.before[path], normal.after[path]) if change}
        if there and there.kind == "file" and there.digest not in digests:
            raise Loss(f"{path} is half a file: {said[-500:]}")
    return HALFWAY if code else DONE


def untouched(box: Sandbox, prepared: dict[str, Change]) -> bool:
    """Not even written to."""
    now = box.changes()
    return now.keys() == prepared.keys() and all(
        change.same_as(prepared[path]) for path, change in now.items()
    )


def whole(box: Sandbox, case: Case, normal: Reference, said: str, started: bool) -> None:
    """Every file is old or new, and new where the service was started. Raises Loss."""
    now = _at(box, normal.after)
    for path, wanted in normal.after.items():
        if wanted.kind not in ("file", "link"):
            continue
        there, was = now[path], normal.before[path]
        if there is not None and there.kind == "directory" and not started:
            continue  # the image's, on its way back before something else takes its place
        if there is None and was is not None and was.kind == "directory" and not started:
            continue  # rename(2) puts no file in place of a directory: empty, rmdir, rename
        if path in case.in_place and not started and there and there.mode & 0o077 == 0:
            continue
        new = there == wanted
        if not new and _only_permissions(case, path):
            if started and " WARNING " not in said:
                raise Loss(f"{path} has not been set, and nothing says so: {said[-500:]}")
            continue
        if not new and there != was:
            raise Loss(f"{path} is neither old nor new: {there}")
        if started and not new:
            raise Loss(f"{path} is old, and the service was started: {said[-500:]}")


def mended(box: Sandbox, case: Case, normal: Reference, started: bool) -> None:
    """The next start ends where it should, and nothing is left over. Raises Loss."""
    box.remove(MARK)
    code, said = start(box, case)
    if code or not box.exists(MARK):
        raise Loss(f"the next start failed: {code}: {said[-500:]}")
    now = asked(box)
    if now != normal.after and not (case.strategy == "COPY_ONCE" and started):
        raise Loss(f"the next start ended elsewhere: {_difference(now, normal.after)}")
    temporary = [path for path in box.changes() if TEMPORARY in path]
    if temporary:
        raise Loss(f"temporary files are left: {temporary}")
    if case.strategy == "COPY_ALWAYS":
        done = configure(box, case, "--check")
        if done.returncode:
            raise Loss(f"the plan is not empty: {done.stderr[-500:]}")
    box.document({"command": "true"})
    done = configure(box, case)
    if done.returncode:
        raise Loss(f"an empty document failed: {done.stderr[-500:]}")
    # A link that was given back has a new time.
    left = {
        path: change
        for path, change in asked(box).items()
        if path.startswith("/etc/") and change != (box.before(path) or REMOVED)
    }
    if left:
        raise Loss(f"the image is not as it was: {left}")


def _only_permissions(case: Case, path: str) -> bool:
    """Whether `permissions` or `files` alone speaks of a path: failing there is a warning."""
    places = [entry["path"] for entry in case.document.get("permissions", ())]
    places += [entry["path"] for entry in case.document.get("files", ())]
    dests = [entry["dest"] for entry in case.document["config_files"]]
    return any(path.startswith(place) for place in places) and not any(
        path.startswith(dest) for dest in dests
    )


def _difference(found: dict[str, Change], wanted: dict[str, Change]) -> object:
    return {
        path: (found.get(path), wanted.get(path))
        for path in {**found, **wanted}
        if found.get(path) != wanted.get(path)
    }


# --- one fault ---------------------------------------------------------------------------------


def attempt(
    fault: Fault, normal: Reference, box: Sandbox, prepared: dict[str, Change], ours: bool
) -> str:
    """Make the fault happen to a start in a prepared sandbox; how that ended.

    Raises Loss, and subprocess.TimeoutExpired.
    """
    case = CASES[fault.case]
    whens = normal.calls[fault.call, fault.number]
    code, said = start(box, case, *_tracer(fault))
    if not ours:
        return other(box, case, normal, code, said)
    if code and not box.exists(MARK):
        if whens[0] == INTERPRETER and untouched(box, prepared):
            return REFUSED if _CLEAR.search(said) else NOT_OURS
        if whens[-1] == SHELL and " ERROR " not in said:
            said += " ERROR shell: its own words"
    if whens[0] == INTERPRETER:
        said = "\n".join(_LINE.findall(said))  # it goes on after words of its own
    how = judge(box, case, normal, code, said, prepared)
    if how == HALFWAY and whens == (PLANNING,):
        raise Loss(f"exit code {code} before the first change, and something has changed: {said}")
    if how != REFUSED and box.changes() != normal.everything:
        mended(box, case, normal, started=how == DONE)
    return how


def _tracer(fault: Fault) -> list[str]:
    what = "signal=KILL" if fault.how == KILL else f"error={fault.how}"
    if fault.call == "brk" and fault.how != KILL:
        what = "retval=0"  # it says so by the break that it leaves as it was
    # Five times as fast, stopping at no other call; ptrace(2) takes no signal at such a stop.
    quick = [] if fault.how == KILL else ["--seccomp-bpf"]
    return [
        "strace", "-f", *quick, "-qq", "-o", "/dev/null", "-e", f"trace={fault.call}",
        "-e", f"inject={fault.call}:{what}:when={fault.number}",
    ]  # fmt: skip


# --- all of them -------------------------------------------------------------------------------


def faults(
    normal: dict[str, Reference], hows: Iterable[str], every: int = 1, first: int = 0
) -> list[Fault]:
    """All faults, or from the `first` on each `every`-th of them."""
    found = [
        Fault(name, call, number, how)
        for how in hows
        for name, about in normal.items()
        for call, number in about.calls
        if how == KILL or call not in _ALWAYS
        if call != "brk" or how in ("ENOMEM", KILL)  # brk(2) has no other error
    ]
    return found[first % every :: every]


def _some(job: tuple[Subject, list[Fault], Reference]) -> list[tuple[Fault, Ending]]:
    """Faults of one case. A sandbox that nothing has changed in is good for the next one."""
    subject, todo, normal = job
    found: list[tuple[Fault, Ending]] = []
    patience = 1
    while len(found) < len(todo):
        with subject.box() as box:
            prepare(box, CASES[todo[0].case])
            prepared = box.changes()
            same = True
            while same and len(found) < len(todo):
                fault = todo[len(found)]
                try:
                    ending = Ending(attempt(fault, normal, box, prepared, subject.ours))
                except subprocess.TimeoutExpired:
                    patience -= 1  # a machine that stood still is no hang, twice is
                    if patience >= 0:
                        break
                    ending = Ending(LOST, "hangs")
                except Loss as loss:
                    ending = Ending(LOST, str(loss))
                except Exception as error:
                    ending = Ending(LOST, f"the harness itself: {error!r}")
                patience = 1
                found.append((fault, ending))
                same = ending.how in (REFUSED, NOT_OURS)
    return found


def known(finds: dict[str, str], said: str) -> bool:
    return any(re.match(words, said, re.DOTALL) for words in finds.values())


def attempts(
    chosen: list[Fault],
    normal: dict[str, Reference],
    subject: Subject = OURS,
    workers: int | None = None,
) -> Iterator[tuple[Fault, Ending]]:
    """Each fault with how it ended, on all cores."""
    by_case: dict[str, list[Fault]] = {}
    for fault in chosen:
        by_case.setdefault(fault.case, []).append(fault)
    jobs = [
        (subject, some[at : at + 10], normal[name])
        for name, some in by_case.items()
        for at in range(0, len(some), 10)
    ]
    count = workers or len(os.sched_getaffinity(0))
    # Processes, not threads: a sandbox changes the namespaces of its whole process.
    with ProcessPoolExecutor(count, mp_context=get_context("fork")) as pool:
        yield from chain.from_iterable(pool.map(_some, jobs))
