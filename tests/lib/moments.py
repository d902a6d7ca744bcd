"""A start that is stopped after a chosen system call, or in which it fails.

A race that is tried often proves little on a quiet machine. Here strace(1) lists the calls of an
undisturbed start that have to do with a path; then a start in a fresh sandbox is stopped (SIGSTOP)
after each of them, something is done, and it goes on.
"""

import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from sandbox import Sandbox

TRACE = "/dev/shm/moments"
COPY_ALWAYS = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
_CALL = re.compile(r"^(\d+) +(\w+)\(")
_STOPPED = re.compile(r"^(\d+) +--- stopped by SIGSTOP")


@dataclass(frozen=True, slots=True)
class Moment:
    """After the `number`-th call of `call` of a process of the start; `line` is strace's."""

    call: str
    number: int
    line: str

    def __str__(self) -> str:
        return f"{self.call} {self.number}: {self.line[:150]}"


def moments(
    box: Sandbox,
    words: Sequence[str],
    argv: Sequence[str] = ("kolla_set_configs",),
    env: Mapping[str, str | None] = COPY_ALWAYS,
) -> list[Moment]:
    """The calls of an undisturbed start whose line has one of these words (paths, mostly)."""
    trace = ["strace", "-f", "-qq", "-y", "-s", "300", "-o", TRACE]
    done = box.run([*trace, *argv], env=env)
    assert done.returncode == 0, done.stderr
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], Moment] = {}
    for line in box.read(TRACE).splitlines():
        match = _CALL.match(line)
        if "INFO Running command" in line:
            break  # what comes after it is the service's
        if match is None or match[2] in ("execve", "exit_group"):
            continue
        counts[match[1], match[2]] += 1
        number = counts[match[1], match[2]]
        if any(word in line for word in words):
            found.setdefault((match[2], number), Moment(match[2], number, line))
    box.remove(TRACE)
    return list(found.values())


def stopped_at(
    box: Sandbox,
    moment: Moment,
    action: Callable[[], Any],
    argv: Sequence[str] = ("kolla_set_configs",),
    env: Mapping[str, str | None] = COPY_ALWAYS,
    timeout: float = 20,
) -> CompletedProcess[str] | None:
    """The start, stopped after that call while `action` is done, to its end.

    None if it did not come to that call: of a start with threads no two are quite alike.
    """
    first: list[str] = []

    def once(line: str) -> None:
        if not first:
            action()
        first.append(line)

    done = stopped_after(box, moment.call, once, argv, env, timeout, when=str(moment.number))
    return done if first else None


def stopped_after(
    box: Sandbox,
    calls: str,
    action: Callable[[str], Any],
    argv: Sequence[str] = ("kolla_set_configs",),
    env: Mapping[str, str | None] = COPY_ALWAYS,
    timeout: float = 20,
    when: str = "1+",
) -> CompletedProcess[str]:
    """The start, stopped after each of these calls (as in `strace -e trace=`), to its end.

    `action` is given strace's line of the call; meanwhile nothing of the start runs.
    """
    trace = [
        "strace", "-f", "-qq", "-y", "-o", TRACE, "-e", f"trace={calls}",
        "-e", f"inject={calls}:signal=STOP:when={when}",
    ]  # fmt: skip
    box.remove(TRACE)
    process = box.popen([*trace, *argv], env=env)
    stops, until = 0, time.monotonic() + timeout
    try:
        while process.poll() is None:
            assert time.monotonic() < until, f"does not end: {calls} {when}"
            seen = list(_stops(box))
            for line in seen[stops:]:
                action(line)
            if len(seen) > stops:
                stops = len(seen)
                for pid in _descendants(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
            time.sleep(0.001)
        out, err = process.communicate()
    finally:
        end(process)  # before the sandbox is closed: its first process could not end otherwise
    return CompletedProcess(list(argv), process.returncode, out, err)


def _descendants(pid: int) -> Iterator[int]:
    """The processes that a process has started and that live, as this process numbers them."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def failing_at(
    box: Sandbox,
    moment: Moment,
    error: str,
    argv: Sequence[str] = ("kolla_set_configs",),
    env: Mapping[str, str | None] = COPY_ALWAYS,
) -> CompletedProcess[str]:
    """The start, in which that one call of each process fails."""
    trace = [
        "strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={moment.call}",
        "-e", f"inject={moment.call}:error={error}:when={moment.number}",
    ]  # fmt: skip
    return box.run([*trace, *argv], env=env)


def _stops(box: Sandbox) -> Iterator[str]:
    """For each time that a process has stopped, the call that it came from."""
    try:
        text = box.read(TRACE)
    except FileNotFoundError:
        return
    calls: dict[str, str] = {}
    for line in text.splitlines():
        if match := _STOPPED.match(line):
            yield calls.get(match[1], "")
        elif match := _CALL.match(line):
            calls[match[1]] = line


def at_each_moment(
    plant: Callable[[Sandbox], object],
    words: Sequence[str],
    most: int,
    action: Callable[[Sandbox], object],
    ask: Callable[[Sandbox, CompletedProcess[str]], str | None],
) -> None:
    """`plant` a fresh sandbox for each moment, do `action` then, and `ask` what was lost."""
    with Sandbox() as box:
        plant(box)
        found = sample(moments(box, words), most)
    assert len(found) > 3, f"of no concern to the start: {words}"
    lost, came = {}, 0
    for moment in found:
        with Sandbox() as box:
            plant(box)
            done = stopped_at(box, moment, lambda box=box: action(box))  # type: ignore[misc]
            if done is not None:
                came += 1
                assert "Traceback" not in done.stderr, f"{moment}: {done.stderr[-3000:]}"
                assert done.returncode in (0, 1), (moment, done.returncode, done.stderr[-3000:])
                why = ask(box, done)
                if why:
                    lost[str(moment)] = why
    assert came > len(found) * 0.7, f"came to {came} of {len(found)} moments"
    assert not lost, f"{len(lost)} of {came}: {lost}"


def sample(found: Sequence[Moment], most: int) -> list[Moment]:
    """Evenly over the whole start, the first and the last among them."""
    if len(found) <= most:
        return list(found)
    step = (len(found) - 1) / (most - 1)
    return [found[round(index * step)] for index in range(most)]


def exchange(box: Sandbox, path: str, text: str, mode: int, owner: str = "root") -> None:
    """Another file at the path at once, as a careful editor does it."""
    box.write(f"{path}.new", text, owner, mode)
    os.rename(box.host(f"{path}.new"), box.host(path))


def end(process: Any) -> None:
    """A process that a test started beside the start, if it has not ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
