"""The parts of `make torture`: each makes rows of its table, at a scale."""

import functools
import importlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TREE), str(TREE / "tests/lib")]

import bounds  # noqa: E402
import cases  # noqa: E402
import faults  # noqa: E402
import hostile  # noqa: E402
import lives  # noqa: E402
import mutants  # noqa: E402
import power  # noqa: E402
import product  # noqa: E402
import product_races  # noqa: E402
import race  # noqa: E402
import secrets_watch  # noqa: E402
import state_machine  # noqa: E402
import subjects  # noqa: E402
import world  # noqa: E402
from loop import FILESYSTEMS  # noqa: E402
from sandbox import Sandbox  # noqa: E402
from subjects import OURS, Subject  # noqa: E402

CORES = len(os.sched_getaffinity(0))
BATCH = 10  # histories of one seed
SHRUNK = 4  # batches in which something is lost that are shrunk: it takes minutes


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


def imagined(scale: float) -> list[Row]:
    """What is planted x where x what root does, by kind of plant; a tenth of it for the others."""
    rows: dict[str, Row] = {}
    count = max(100, int(len(product.cases()) * scale))
    for case, why in product.all_attempts(OURS, product.sample(count), CORES):
        row = rows.setdefault(case.plant.kind, Row(f"product: {case.plant.kind}", 0, 0))
        row.tried += 1
        if why:
            row.lost += 1
            note(f"LOST product: {case}: {why}")
    for subject in others():
        tried = Counter[str]()
        chosen = product.sample(max(100, count // 10))
        for case, why in product.all_attempts(subject, chosen, CORES):
            kind = case.plant.kind
            tried[kind] += 1
            rows[kind].others[subject.name] = rows[kind].others.get(subject.name, 0) + bool(why)
        for kind, row in rows.items():
            row.note += f"{subject.name}: of {tried[kind]} "
    return list(rows.values())


def stopped(scale: float) -> list[Row]:
    """What is the service's own is exchanged, at each call; at a few of them for the others."""
    row = Row("product: races", 0, 0)
    numbers = range(0, len(product_races.races()), max(1, round(0.1 / scale)))
    for each, at, why in product_races.all_attempts(OURS, numbers, int(200 * scale) + 2, CORES):
        row.tried += 1
        if why:
            row.lost += 1
            note(f"LOST product: {each} at {at}: {why}")
    for subject in others():
        done = list(product_races.all_attempts(subject, numbers, int(8 * scale) + 2, CORES))
        row.others[subject.name] = sum(why is not None for _, _, why in done)
        row.note += f"{subject.name}: of {len(done)} "
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
    """Each tenth fault, so that each call has one; of the other subjects a sample."""
    normal = {name: faults.reference(name) for name in cases.CASES}
    theirs = {subject.name: (subject, _references(subject)) for subject in others()}
    rows = []
    for first, how in enumerate((*faults.ERRORS, faults.KILL)):
        chosen = faults.faults(normal, [how], max(1, round(10 / scale)), first)
        row = Row(f"fault {how}", 0, 0)
        endings: Counter[str] = Counter()
        for fault, ending in faults.attempts(chosen, normal, workers=CORES):
            row.tried += 1
            endings[ending.how] += 1
            if ending.how == faults.LOST:
                row.lost += 1
                note(f"LOST {fault}: {ending.why}")
            if not row.tried % 500:
                note(f"{row.kind}: {row.tried} of {len(chosen)}, lost {row.lost}")
        row.note = _counted(endings)
        for name, (subject, there) in theirs.items():
            some = faults.faults(there, [how])
            some = random.Random(how).sample(some, min(len(some), max(3, int(40 * scale))))
            lost = [
                fault
                for fault, ending in faults.attempts(some, there, subject, CORES)
                if ending.how == faults.LOST
            ]
            row.others[name] = len(lost)
            row.note += f"; {name}: of {len(some)}"
        rows.append(row)
    return rows


def worlds(scale: float) -> list[Row]:
    """What a container lacks: all of it; of the other subjects a half."""
    rng = random.Random(12)
    everything = world.worlds()
    row = Row("the world refuses", 0, 0)
    normal = {name: faults.reference(name) for name in {one.case for one in everything}}
    endings: Counter[str] = Counter()
    for one, ending in world.attempts(_part(rng, everything, scale), normal):
        row.tried += 1
        endings[ending.how] += 1
        if ending.how == faults.LOST:
            row.lost += 1
            note(f"LOST {one.name}, {one.case}: {ending.why}")
    row.note = _counted(endings)
    for subject in others():
        there = _references(subject)
        some = _part(rng, [one for one in everything if one.case in there], scale / 2)
        ended = [end for _, end in world.attempts(some, there, subject)]
        row.others[subject.name] = sum(end.how == faults.LOST for end in ended)
        row.note += f"; {subject.name}: of {len(ended)}"
    return [row]


def _part(rng: random.Random, all_of_them: list[world.World], scale: float) -> list[world.World]:
    """A tenth of them at least."""
    return rng.sample(all_of_them, round(len(all_of_them) * min(1, max(0.1, scale))))


def _counted(endings: Counter[str]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))


def _references(subject: Subject) -> dict[str, faults.Reference]:
    """The cases that another subject carries out where nothing disturbs it."""
    found = {}
    for name in cases.CASES:
        try:
            found[name] = faults.reference(name, subject)
        except faults.Loss as loss:
            note(f"left out for {subject.name}: {str(loss)[:200]}")
    return found


def _judge(job: tuple[int, int]) -> tuple[int, int, list[str]]:
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


def bounded(scale: float) -> list[Row]:
    """Trees as wide and deep as a service can make them."""
    rows = []
    for name, (_, fast, full) in bounds.CASES.items():
        count = max(fast, int(full * scale))
        row = Row(f"bounds: {name}", 1, 0)
        for subject in (OURS, *others()):
            ended = bounds.measure(subject, name, count, timeout=1200 * max(scale, 0.05))
            why = ended.lost()
            if subject == OURS:
                row.lost = int(why is not None)
            else:
                row.others[subject.name] = int(why is not None)
            row.note += f"{subject.name}: {why or f'{ended.memory} MB'}; "
        row.note = f"{count}; {' '.join(row.note.split())[:150]}"
        rows.append(row)
    return rows


def mistakes(scale: float) -> list[Row]:
    """Mutants of this program; a lost one is a mistake that no test noticed."""
    here = mutants.run(max(2, int(mutants.COUNT * scale)), mutants.SEED, CORES)
    done = f"{len(here.killed)} killed, {len(here.equivalent)} no mistakes"
    return [Row("mutants", here.tried, len(here.holes), note=done)]


def _count(job: tuple[Subject, int]) -> lives.Tally:
    subject, seed = job
    return state_machine.live(subject, seed, BATCH, counting=True)


def _shrunk(job: tuple[Subject, int]) -> str:
    """A batch in which something was lost once more, to the smallest history that loses it."""
    subject, seed = job
    try:
        state_machine.live(subject, seed, BATCH)
    except lives.Divergence as wrong:
        return str(wrong)
    return "not lost a second time"


def histories(scale: float) -> list[Row]:
    """Each step held against the oracle. Upstream's: what the document names, and nothing else."""
    began = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**9))
    note(f"histories: SEED={began} makes the same ones again")
    with ProcessPoolExecutor(CORES, mp_context=get_context("fork")) as pool:

        def live(subject: Subject, batches: int) -> lives.Tally:
            total = lives.Tally()
            seeds = [began + number for number in range(batches)]
            lost = []
            for seed, tally in zip(seeds, pool.map(_count, [(subject, seed) for seed in seeds])):
                total += tally
                lost += [seed] if tally.lost else []
            if subject is OURS:
                for seed, told in zip(lost, pool.map(_shrunk, [(OURS, s) for s in lost[:SHRUNK]])):
                    note(f"LOST histories, alone with SEED={seed} and --scale 0.001: {told}")
            return total

        here = live(OURS, max(1, int(200 * scale)))
        row = Row("histories", here.histories, here.lost)
        row.note = (
            f"{here.steps} steps, {here.kills} kills; of {here.starts} documents {here.applied}"
            f" applied, {here.refused} refused; of {here.compared} paths {here.doubted} in doubt"
        )
        for subject in others():
            there = live(subject, max(1, int(20 * scale)))
            row.others[subject.name] = there.lost
            row.note += f"; {subject.name}: of {there.histories}"
    return [row]


def powerless(scale: float) -> list[Row]:
    """The power is cut: each case on each filesystem, in each of a kernel's habits."""
    rows = []
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
            if subject is OURS:
                row.tried, row.lost = tried, lost
            else:
                row.others[subject.name] = lost
                row.note += f"; {subject.name}: of {tried}"
        rows.append(row)
    return rows
