"""Every file-system call of a start made to fail, and the start killed at every one.

strace(1) injects the fault into a real start in a sandbox of its own; after it the state is looked
at, the next start must mend everything, and an empty document must give the image back. Used by
test_faults.py (a sample) and torture.py (all).
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing import get_context
from typing import Any

from documents import entry
from sandbox import CONFIG_FILES, REMOVED, TREE, Change, Sandbox, look

ERRORS = ("ENOSPC", "EIO", "EACCES", "EROFS", "EINTR")
KILL = "KILL"
MARK = "/srv/service-was-started"
TEMPORARY = ".kolla_start."

# What is no business with files, or cannot fail.
_LEFT_OUT = frozenset(
    """brk mmap munmap mremap mprotect madvise rt_sigaction rt_sigprocmask rt_sigreturn futex
    getpid gettid getuid geteuid getgid getegid getrandom exit_group exit execve umask
    clock_gettime sysinfo prlimit64 set_robust_list rseq arch_prctl sigaltstack""".split()
)
_CALL = re.compile(r"^(\d+) +(\w+)\(")


@dataclass(frozen=True, slots=True)
class Case:
    """A start: the image, what is mounted, and a document that was applied before, if any.

    `every`: a case that repeats itself is tried at each 97th call, say.
    """

    plant: Callable[[Sandbox], None]
    document: dict[str, Any]
    earlier: dict[str, Any] | None = None
    strategy: str = "COPY_ALWAYS"
    every: int = 1


@dataclass(frozen=True, slots=True)
class Fault:
    """The `number`-th call of `call` in each process of a start fails with `how`, or kills it."""

    case: str
    call: str
    number: int
    how: str


@dataclass(slots=True)
class Reference:
    """How an undisturbed start goes: the calls, and the files before and after."""

    calls: list[tuple[str, int]]
    before: dict[str, Change | None]
    after: dict[str, Change]
    image: dict[str, Change | None] = field(default_factory=dict)


def _nova(box: Sandbox) -> None:
    box.adduser("nova")
    example = TREE / "examples" / "nova-compute"
    for path in example.iterdir():
        box.source(path.name, path.read_bytes())
    box.write("/etc/nova/nova.conf", "the image's\n", owner="root:nova", mode=0o640)
    box.write("/etc/nova/policy.yaml", "{}\n")
    box.write("/etc/nova/rootwrap.conf", "the image's\n")
    box.mkdir("/var/log/kolla/nova")
    box.write("/var/log/kolla/nova/nova.log", "x")
    box.write("/var/lib/nova/instances/1/disk", "x")
    box.write("/var/lib/nova/state", "x")


def _directory(box: Sandbox) -> None:
    box.adduser("nova")
    box.source("conf.d/a", "a")
    box.source("conf.d/sub/b", "b" * 100_000)
    box.write("/etc/conf.d/image", "image", owner="nova", mode=0o600)
    box.write("/etc/conf.d/sub", "a file where a directory goes")
    box.write("/etc/conf.d/deep/er/file", "image")
    box.symlink("image", "/etc/conf.d/link")
    box.mkdir("/etc/conf.d/a", mode=0o711)
    box.write("/etc/conf.d/a/inside", "image")


def _root(box: Sandbox) -> None:
    box.source("src/etc/rooted/file", "mounted", mode=0o640)
    box.source("src/etc/rooted/new/er", "mounted")
    box.source("src/usr/local/bin/tool", "#!/bin/sh\n", mode=0o755)
    box.symlink("file", f"{CONFIG_FILES}/src/etc/rooted/link")
    box.write("/etc/rooted/file", "image", mode=0o604)
    box.symlink("elsewhere", "/etc/rooted/link")
    box.chmod("/etc/rooted", 0o711)


def _many(box: Sandbox) -> None:
    for number in range(520):
        box.source(f"many/{number % 4}/{number}", f"content of {number}")
    box.write("/etc/many/3/image", "image")


def _example() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((TREE / "examples/nova-compute/config.json").read_text())
    return {**found, "command": f"touch {MARK}"}


_conf_d = {
    "command": f"touch {MARK}",
    "config_files": [entry("conf.d", "/etc/conf.d", "nova", "0640")],
    "directories": [{"path": "/var/lib/made", "owner": "nova", "perm": "0750"}],
    "files": [{"path": "/var/lib/made/file", "owner": "nova", "perm": "0640"}],
}
CASES = {
    "nova-compute": Case(_nova, _example()),
    "directory": Case(_directory, _conf_d),
    "merge into /": Case(
        _root,
        {
            "command": f"touch {MARK}",
            "config_files": [entry("src/*", "/", merge=True, preserve_properties=True)],
        },
    ),
    "restore": Case(
        _directory,
        {
            "command": ["touch", MARK],
            "config_files": [entry("conf.d/a", "/etc/conf.d/deep", "nova", "0600")],
            "user": "0",
        },
        earlier=_conf_d,
    ),
    "many files": Case(
        _many,
        {
            "command": f"touch {MARK}",
            "config_files": [entry("many", "/etc/many")],
        },
        every=97,
    ),
    "COPY_ONCE": Case(_nova, _example(), strategy="COPY_ONCE"),
}  # fmt: skip


# --- an undisturbed start -----------------------------------------------------------------------


def _prepare(box: Sandbox, case: Case) -> None:
    case.plant(box)
    box.mark()
    if case.earlier is not None:
        box.document(case.earlier)
        done = box.set_configs()
        assert done.returncode == 0, done.stderr
    box.document(case.document)


def _start(box: Sandbox, case: Case, *tracer: str) -> tuple[int, str]:
    argv = [*tracer, "kolla_start"]
    done = box.run(argv, env={"KOLLA_CONFIG_STRATEGY": case.strategy}, timeout=120)
    return done.returncode, done.stderr


def _state(box: Sandbox) -> dict[str, Change]:
    """What a start changed, but for the program's own records and the mounted files."""
    return {
        path: change
        for path, change in box.changes().items()
        if not path.startswith((CONFIG_FILES, "/etc/kolla", "/srv/"))
    }


def _not_image(box: Sandbox) -> dict[str, Change]:
    """What config_files touched and is not as the image had it (a restored link has a new time)."""
    return {
        path: change
        for path, change in _state(box).items()
        if path.startswith("/etc/") and change != (box.before(path) or REMOVED)
    }


def _at(box: Sandbox, paths: Iterable[str]) -> dict[str, Change | None]:
    found: dict[str, Change | None] = {}
    for path in paths:
        try:
            found[path] = look(box.host(path))
        except (FileNotFoundError, NotADirectoryError):
            found[path] = None
    return found


def reference(name: str) -> Reference:
    """Run a case undisturbed, twice: once under strace for its calls, once for its outcome."""
    case = CASES[name]
    with Sandbox() as box:
        _prepare(box, case)
        code, said = _start(box, case, "strace", "-f", "-qq", "-o", "/srv/trace")
        assert code == 0, said
        calls = _calls(box.read("/srv/trace").splitlines())[:: case.every]
        after = _state(box)
        box.document({"command": "true"})
        assert box.set_configs().returncode == 0
        left = _not_image(box)
        assert not left, f"an empty document does not give the image back: {left}"
    with Sandbox() as box:
        case.plant(box)
        image = _at(box, after)
    with Sandbox() as box:
        _prepare(box, case)
        before = _at(box, after)
    return Reference(calls, before, after, image)


def _calls(lines: list[str]) -> list[tuple[str, int]]:
    """The calls after the document has been asked for, each with its number in its process."""
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], None] = {}
    begun = False
    for line in lines:
        match = _CALL.match(line)
        if match is None:
            continue
        process, call = match[1], match[2]
        counts[process, call] += 1
        begun = begun or '"config.' in line
        if begun and call == "execve":
            break  # the service
        if begun and call not in _LEFT_OUT:
            found[call, counts[process, call]] = None
    return list(found)


# --- one fault ----------------------------------------------------------------------------------


def attempt(fault: Fault, normal: Reference) -> str | None:
    """Make the fault happen; None if nothing was lost, else what was."""
    case = CASES[fault.case]
    what = "signal=KILL" if fault.how == KILL else f"error={fault.how}"
    # Five times as fast, stopping at no other call; ptrace(2) takes no signal at such a stop.
    quick = [] if fault.how == KILL else ["--seccomp-bpf"]
    with Sandbox() as box:
        _prepare(box, case)
        code, said = _start(
            box, case, "strace", "-f", *quick, "-qq", "-o", "/dev/null",
            "-e", f"trace={fault.call}",
            "-e", f"inject={fault.call}:{what}:when={fault.number}",
        )  # fmt: skip
        started = box.exists(MARK)
        if started != (code == 0):
            return f"exit code {code}, service started: {started}: {said[-500:]}"
        now = _at(box, normal.after)
        for path, wanted in normal.after.items():
            if wanted.kind not in ("file", "link") or path in ("/run_command", "/configured"):
                continue
            there = now[path]
            if there is not None and there.kind == "directory" and not started:
                continue  # the image's, on its way back before something else takes its place
            was = normal.before[path]
            if there is None and was is not None and was.kind == "directory" and not started:
                continue  # rename(2) puts no file in place of a directory: empty, rmdir, rename
            new = there == wanted
            loose = wanted.kind == "file" and _only_permissions(case, path)
            if not new and there != normal.before[path] and not loose:
                return f"{path} is neither old nor new: {there}"
            if started and not new and not loose:
                return f"{path} is old, and the service was started: {said[-500:]}"
        box.remove(MARK)
        code, said = _start(box, case)
        if code or not box.exists(MARK):
            return f"the next start failed: {code}: {said[-500:]}"
        if _state(box) != normal.after and not (case.strategy == "COPY_ONCE" and started):
            return f"the next start ended elsewhere: {_difference(_state(box), normal.after)}"
        temporary = [path for path in box.changes() if TEMPORARY in path]
        if temporary:
            return f"temporary files are left: {temporary}"
        if case.strategy == "COPY_ALWAYS":
            done = box.set_configs("--check")
            if done.returncode:
                return f"the plan is not empty: {done.stderr[-500:]}"
        box.document({"command": "true"})
        done = box.set_configs()
        if done.returncode:
            return f"an empty document failed: {done.stderr[-500:]}"
        left = _not_image(box)
        if left:
            return f"the image is not as it was: {left}"
    return None


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


# --- all of them --------------------------------------------------------------------------------


def faults(normal: dict[str, Reference], hows: Iterable[str], every: int = 1) -> list[Fault]:
    """All faults, or each `every`-th of them."""
    found = [
        Fault(name, call, number, how)
        for how in hows
        for name, about in normal.items()
        for call, number in about.calls
    ]
    return found[::every]


def _one(job: tuple[Fault, Reference]) -> tuple[Fault, str | None]:
    fault, normal = job
    try:
        return fault, attempt(fault, normal)
    except Exception as error:
        return fault, f"the harness itself: {error!r}"


def attempts(
    chosen: list[Fault], normal: dict[str, Reference], workers: int | None = None
) -> Iterator[tuple[Fault, str | None]]:
    """Each fault with what was lost, on all cores."""
    jobs = [(fault, normal[fault.case]) for fault in chosen]
    count = workers or len(os.sched_getaffinity(0))
    # Processes, not threads: a sandbox changes the namespaces of its whole process.
    with ProcessPoolExecutor(count, mp_context=get_context("fork")) as pool:
        yield from chain(pool.map(_one, jobs, chunksize=4))
