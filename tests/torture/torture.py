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
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TREE), str(TREE / "tests/lib")]

import faults  # noqa: E402
import hostile  # noqa: E402
import peer  # noqa: E402
import race  # noqa: E402
import secrets_watch  # noqa: E402
from sandbox import Sandbox, unusable  # noqa: E402

CORES = len(os.sched_getaffinity(0))


@dataclass(slots=True)
class Row:
    """A line of the table. `upstream`: what its program lost under the same, if it could run."""

    kind: str
    tried: int
    lost: int
    upstream: str = "-"
    note: str = ""


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def planted(scale: float) -> list[Row]:
    """Every situation, for both programs: a lost one is a changed canary."""
    lost = upstream = 0
    seconds = 60 if scale >= 1 else 10
    for name, situation in hostile.SITUATIONS.items():
        with Sandbox() as box:
            before = hostile.prepare(box, situation, box.set_configs)
            done = box.set_configs(timeout=300)
            good = done.returncode == situation.code and "Traceback" not in done.stderr
            if not good or hostile.look(box, situation) != before:
                lost += 1
                note(f"LOST planted: {name}: exit code {done.returncode}")
        if peer.missing() is not None or (situation.heavy and scale < 1):
            continue
        with Sandbox() as box:
            hostile.install_upstream(box)
            before = hostile.prepare(box, situation, functools.partial(hostile.run_upstream, box))
            try:
                hostile.run_upstream(box, timeout=seconds)
            except subprocess.TimeoutExpired:
                note(f"upstream hangs: {name}")
            upstream += hostile.look(box, situation) != before
    theirs = "-" if peer.missing() is not None else f"{upstream} lost"
    return [Row("planted situations", len(hostile.SITUATIONS), lost, theirs)]


def races(scale: float) -> list[Row]:
    ours = race.race(race.ours, runs=max(20, int(1000 * scale)), seconds=60 * min(scale, 1))
    if ours.odd:
        note(f"LOST race: {ours.odd}")
    theirs = "-"
    if peer.missing() is None:
        result = race.race(hostile.run_upstream, max(10, int(100 * scale)), 0, upstream=True)
        theirs = f"{result.changed} of {result.runs} lost"
    done = f"{ours.swaps} swaps in {ours.seconds:.0f} s, {ours.applied} runs applied"
    return [Row("races", ours.runs, ours.changed + bool(ours.odd), theirs, done)]


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
    ours = secrets_watch.watch(count)
    for found in (*ours.leaks, *ours.logged):
        note(f"LOST secret: {found}")
    theirs = "-"
    if peer.missing() is None:
        result = secrets_watch.watch(min(count, 200), hostile.run_upstream, upstream=True)
        theirs = f"{len(result.leaks)} files read"
    lost = len(ours.leaks) + len(ours.logged)
    return [Row("secret files replaced", ours.replacements, lost, theirs, f"{ours.tried} looks")]


PARTS: dict[str, Callable[[float], list[Row]]] = {
    "planted": planted,
    "races": races,
    "secrets": secrets,
    "documents": fuzzed,
    "faults": broken,
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
    print(f"\n{'kind':26}{'tried':>8}{'survived':>10}{'lost':>6}  {'upstream':18} ")
    for row in rows:
        survived = row.tried - row.lost
        print(f"{row.kind:26}{row.tried:8}{survived:10}{row.lost:6}  {row.upstream:18} {row.note}")
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
