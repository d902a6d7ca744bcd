"""`make torture`: what the tests only sample, in numbers. Prints a table; exit code 1 if lost.

TORTURE=0.01 makes every number a hundredth: what CI runs. At 1, the default: every fault at every
call of every case, 1,000 races and a minute, 50,000 documents, 1,000 replacements; 40 minutes on
two cores.
"""

import argparse
import functools
import importlib
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TREE), str(TREE / "tests/lib")]

import faults  # noqa: E402
import hostile  # noqa: E402
import power  # noqa: E402
import race  # noqa: E402
import secrets_watch  # noqa: E402
import subjects  # noqa: E402
from loop import FILESYSTEMS  # noqa: E402
from power_cases import OPEN_FINDS  # noqa: E402
from sandbox import Sandbox, unusable  # noqa: E402
from subjects import OURS, Subject  # noqa: E402

CORES = len(os.sched_getaffinity(0))


@dataclass(slots=True)
class Row:
    """A line of the table. `others`: what was lost by a subject under the same, if it could run."""

    kind: str
    tried: int
    lost: int
    others: dict[str, int] = field(default_factory=dict)
    note: str = ""


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


@functools.cache
def others() -> list[Subject]:
    """The subjects beside this program that are to be had here; the missing ones are said."""
    found = []
    for subject in (subjects.first, subjects.upstream):
        try:
            found.append(subject())
        except subjects.Missing as reason:
            note(f"left out: {reason}")
    return found


def planted(scale: float) -> list[Row]:
    """Every situation: a lost one is a changed canary, for ours also another answer."""
    row = Row("planted situations", len(hostile.SITUATIONS), 0)
    for name, situation in hostile.SITUATIONS.items():
        why = hostile.lost(OURS, situation, 300)
        if why:
            row.lost += 1
            note(f"LOST planted: {name}: {why}")
    for subject in others():
        row.others[subject.name] = sum(
            hostile.lost(subject, situation, 60 if scale >= 1 else 10) is not None
            for situation in hostile.SITUATIONS.values()
            if scale >= 1 or not situation.heavy
        )
    return [row]


def races(scale: float) -> list[Row]:
    here = race.race(OURS, max(20, int(1000 * scale)), 60 * min(scale, 1))
    if here.odd:
        note(f"LOST race: {here.odd}")
    done = f"{here.swaps} swaps in {here.seconds:.0f} s, {here.applied} runs applied"
    row = Row("races", here.runs, here.changed + bool(here.odd), note=done)
    for subject in others():
        runs = max(10, int(100 * scale))
        row.others[subject.name] = race.race(subject, runs).changed
        row.note += f"; {subject.name}: of {runs}"
    return [row]


def broken(scale: float) -> list[Row]:
    """Every fault at every call."""
    normal = {name: faults.reference(name) for name in faults.CASES}
    calls = sum(len(each.calls) for each in normal.values())
    every = max(1, round(1 / scale))
    rows = []
    for how in (*faults.ERRORS, faults.KILL):
        chosen = faults.faults(normal, [how], every)
        row = Row(f"fault {how}", 0, 0, note=f"of {calls} calls in {len(normal)} cases")
        for fault, why in faults.attempts(chosen, normal, CORES):
            row.tried += 1
            if why:
                row.lost += 1
                note(f"LOST {fault}: {why}")
            if not row.tried % 500:
                note(f"{row.kind}: {row.tried} of {len(chosen)}, lost {row.lost}")
        rows.append(row)
    return rows


def _judge(job: tuple[int, int]) -> tuple[int, int, list[str]]:
    import random

    import fuzz

    seed, count = job
    rng = random.Random(seed)
    corpus = fuzz.corpus()
    good, problems = 0, []
    for _ in range(count):
        text = fuzz.mutated(rng, corpus)
        try:
            good += fuzz.judge(text)
        except Exception as error:
            problems.append(f"{error!r}: {text[:2000]}")
    return count, good, problems


def _command(job: tuple[int, int]) -> tuple[int, int, list[str]]:
    from fuzz import through_the_command

    seed, count = job
    with Sandbox() as box:
        return count, 0, through_the_command(box, seed, count)


Job = Callable[[tuple[int, int]], tuple[int, int, list[str]]]


def fuzzed(scale: float) -> list[Row]:
    """Documents by mutation, by coverage, and through the real command."""
    rows = []
    jobs: list[tuple[str, Job, int]] = [
        ("documents, mutated", _judge, max(500, int(50_000 * scale))),
        ("documents, real command", _command, max(100, int(2_000 * scale))),
    ]
    for kind, job, count in jobs:
        row = Row(kind, 0, 0)
        good = 0
        with ProcessPoolExecutor(CORES, mp_context=get_context("fork")) as pool:
            shares = [(seed, 50) for seed in range(1000, 1000 + count // 50)]
            for tried, accepted, problems in pool.map(job, shares):
                row.tried += tried
                good += accepted
                row.lost += len(problems)
                for problem in problems:
                    note(f"LOST {kind}: {problem}")
        row.note = f"{good} accepted" if good else ""
        rows.append(row)
    runs = max(200, int(10_000 * scale))
    try:
        importlib.import_module("atheris")
    except ImportError:
        return [*rows, Row("documents, by coverage", 0, 0, note="atheris is not installed")]
    done = subprocess.run(
        [sys.executable, str(TREE / "tests/lib/fuzz.py"), str(runs)],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        note(f"LOST documents, by coverage: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return [*rows, Row("documents, by coverage", runs, int(done.returncode != 0))]


def secrets(scale: float) -> list[Row]:
    count = max(50, int(1000 * scale))
    here = secrets_watch.watch(OURS, count)
    for found in (*here.leaks, *here.logged):
        note(f"LOST secret: {found}")
    lost = len(here.leaks) + len(here.logged)
    row = Row("secret files replaced", here.replacements, lost, note=f"{here.tried} looks")
    for subject in others():
        row.others[subject.name] = len(secrets_watch.watch(subject, min(count, 200)).leaks)
    return [row]


def powerless(scale: float) -> list[Row]:
    """The power is cut: each case on each filesystem, in each of a kernel's habits."""
    rows = []
    for case, why in OPEN_FINDS.items():
        note(f"left out: power, {case}: {why}")
    for number, filesystem in enumerate(FILESYSTEMS):
        starts = power.starts(filesystem)
        starts = starts[number :: max(1, min(round(1 / scale), len(starts) // 3))]
        row = Row(f"power {filesystem}", 0, 0, note=f"of {len(starts)} starts")
        for subject in (OURS, *others()):
            # At each flush, where nothing is written without one; elsewhere by chance.
            most = (1000, 10) if subject is OURS and scale >= 1 else (4, 4)
            tried = lost = 0
            for start, done in power.starts_cut(subject, starts, most, CORES):
                tried += done.tried
                lost += len(done.lost)
                for why in done.lost if subject is OURS else ():
                    note(f"LOST power {start}: {why}")
                if done.unfit and subject is OURS:
                    raise AssertionError(f"{start}: {done.unfit}")
            note(f"{row.kind}, {subject.name}: {tried} cuts, lost {lost}")
            if subject is OURS:
                row.tried, row.lost = tried, lost
            else:
                row.others[subject.name] = lost
                row.note += f"; {subject.name}: of {tried}"
        rows.append(row)
    return rows


PARTS: dict[str, Callable[[float], list[Row]]] = {
    "planted": planted,
    "races": races,
    "secrets": secrets,
    "documents": fuzzed,
    "faults": broken,
    "power": powerless,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="make torture")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--scale", type=float, default=float(os.environ.get("TORTURE", "1")))
    asked = parser.parse_args()
    reason = unusable()
    if reason:
        print(f"torture: {reason}", file=sys.stderr)
        return 1
    rows: list[Row] = []
    for name in asked.parts or PARTS:
        note(f"{name}, scale {asked.scale:g}")
        began = time.monotonic()
        try:
            rows += PARTS[name](asked.scale)
        except Exception as problem:  # the rest of the table is worth having
            traceback.print_exc()
            rows.append(Row(name, 1, 1, note=f"the harness itself: {problem!r}"))
        note(f"{name}: {time.monotonic() - began:.0f} s")
    names = [subject.name for subject in others()]
    columns = "".join(f"{name:>10}" for name in names)
    print(f"\n{'kind':26}{'tried':>8}{'lost':>6}{columns}")
    for row in rows:
        theirs = "".join(f"{row.others.get(name, '-'):>10}" for name in names)
        print(f"{row.kind:26}{row.tried:8}{row.lost:6}{theirs}  {row.note}")
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
