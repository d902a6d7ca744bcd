"""Whether the tests notice a mistake: small ones, put into the rooms that must have none.

    mutants.py --count 150 --seed 12            chosen by the seed, each tried until a test fails
    mutants.py --count 150 --seed 12 --resume   go on; what has survived is tried again

Each mutant (mutation.py) is a copy of the project with one mistake in it. The tests run there, the
nearest first, until one fails: on the mutant twice, and not without the mistake. Left out are those
that look at sources, at the time or at other programs: they would notice an edit, not a mistake. A
survivor is a hole in the tests, or no mistake at all: then equivalent.py says why. Exit code 1 if
there are holes.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TREE), str(TREE / "tests/lib")]

import installed  # noqa: E402
from equivalent import EQUIVALENT  # noqa: E402
from machine import CACHE, unusable  # noqa: E402
from mutation import Mutant, mutants  # noqa: E402

COUNT, SEED = 150, 12
ROOMS = ("disk/*.py", "plan/*.py", "apply.py", "homes.py", "records.py", "launch/privileges.py")
RESULTS = CACHE / "mutants.jsonl"

# The tests of a room, nearest first. Whatever survives them meets all the others.
NEAREST = {
    "disk": """
        plan/test_configure.py adversary/test_moved_trees.py adversary/test_later_finds.py
        disk/test_acls.py disk/test_mount_points.py disk/test_flush_order.py
        adversary/test_hostile.py
        """,
    "plan": """
        plan/test_configure.py plan/test_refused.py plan/test_final_state.py
        plan/test_second_start.py plan/test_oracle_finds.py plan/test_owners.py
        plan/test_kept_away.py plan/test_sources_made_here.py
        """,
    "apply.py": "plan/test_configure.py disk/test_flush_order.py plan/test_second_start.py",
    "homes.py": """
        plan/test_planted_records.py plan/test_open_places.py plan/test_linked_records.py
        adversary/test_attack.py
        """,
    "records.py": """
        plan/test_copy_once.py plan/test_damaged_records.py plan/test_planted_records.py
        plan/test_open_places.py plan/test_linked_records.py
        """,
    "launch": "launch/test_privileges.py launch/test_received.py launch/test_kollas_way.py",
}
# Starts by the hundred: last of all.
HEAVY = """
    adversary/test_exchanged.py disk/test_shared_hard_links.py disk/test_sweep.py
    plan/test_properties.py plan/test_histories.py upstream/test_kolla_ansible.py
    torture/test_shortages.py torture/test_faults.py disk/test_swapped_directories.py
    disk/test_moving_sources.py disk/test_io_errors.py adversary/test_races.py
    """

LEFT_OUT = {
    "test_house.py": "looks at sources",
    "test_docs.py": "looks at documents",
    "document/test_generated.py": "looks at sources",
    "disk/test_speed.py": "measures",
    "upstream/test_differential.py": "an hour, of upstream's programs",
    "containers/test_container.py": "builds images",
    "containers/test_demo.py": "shows what others test",
    "torture/test_mutants.py": "tests this",
}

LONGEST = 3600  # seconds for one run of pytest
# A mistake can make an endless loop, which must not take the machine with it.
LIMITS = {resource.RLIMIT_AS: 4 << 30, resource.RLIMIT_FSIZE: 1 << 30}  # bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant. `by`: the test that noticed it, None where it has survived."""

    name: str
    by: str | None
    seconds: int


# --- which -------------------------------------------------------------------------------------


def every() -> Iterator[Mutant]:
    """All that there are, in the order of files and lines."""
    top = TREE / "kolla_start"
    for path in sorted(path for room in ROOMS for path in top.glob(room)):
        yield from mutants(str(path.relative_to(top)), path.read_text("utf-8"))


def chosen(count: int, seed: int) -> list[Mutant]:
    """The seed and its name decide on each alone: an edit elsewhere leaves it where it is."""

    def lot(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed} {mutant.name}".encode()).digest()

    found = sorted(every(), key=lot)
    counting = (mutant for mutant in found if mutant.counts())
    return [mutant for mutant, _ in zip(counting, range(count))]


def stages(mutant: Mutant, tests: Path) -> list[list[str]]:
    """The test files to run, paths below the tree: the near ones, the others, the heavy ones."""
    known = {str(path.relative_to(tests)) for path in tests.rglob("test_*.py")}
    near, heavy = NEAREST[mutant.file.partition("/")[0]].split(), HEAVY.split()
    gone = {*LEFT_OUT, *near, *heavy} - known
    assert not gone, f"no such tests: {gone}"
    others = sorted(known - {*LEFT_OUT, *near, *heavy})
    return [[f"tests/{name}" for name in names] for names in (near, others, heavy)]


# --- one ---------------------------------------------------------------------------------------


def copy_project(into: Path) -> None:
    """What git has of it, or would take; and its environment."""
    git = ["git", "-C", str(TREE), "-c", f"safe.directory={TREE}", "ls-files", "-zco"]
    listed = subprocess.run([*git, "--exclude-standard"], capture_output=True, check=True)
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        place = into / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TREE / name, place)
    (into / ".venv").symlink_to(os.path.realpath(TREE / ".venv"))


def try_one(mutant: Mutant, source: str, clean: Path) -> Verdict:
    """Run the tests on a mutant until one fails; `clean` is a copy without a mistake."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        tree = Path(directory) / "tree"
        left_there = shutil.ignore_patterns(".pytest_cache", ".hypothesis")
        shutil.copytree(clean, tree, symlinks=True, ignore=left_there)
        (tree / "kolla_start" / mutant.file).write_text(source, "utf-8")
        by = _killer(tree, stages(mutant, tree / "tests"), clean)
    return Verdict(mutant.name, by, round(time.monotonic() - began))


def _killer(tree: Path, runs: list[list[str]], clean: Path) -> str | None:
    try:
        program = installed.program(tree)
    except subprocess.CalledProcessError:
        return "it cannot be installed"
    try:
        for files in runs:
            unfit: list[str] = []
            while failed := _failure(tree, [*files, *_deselected(unfit)]):
                again = failed == _TOO_LONG or _failure(tree, [failed])
                if again and _sound(failed, clean):
                    return failed
                unfit.append(failed)
        return None
    finally:
        shutil.rmtree(program.package.parent, ignore_errors=True)


def _deselected(tests: Sequence[str]) -> list[str]:
    return [f"--deselect={test}" for test in tests]


_TOO_LONG = "the time limit"


def _failure(tree: Path, arguments: Sequence[str]) -> str | None:
    """The first test that fails, None if none does."""
    done = _pytest(tree, [*arguments, "-x", "--hypothesis-seed=1"])
    if done is None:
        return _TOO_LONG
    if done == 0:
        return None
    last = tree / ".pytest_cache/v/cache/lastfailed"
    failed: dict[str, bool] = json.loads(last.read_text()) if last.exists() else {}
    if not failed:
        raise RuntimeError(f"pytest {' '.join(arguments)}: exit code {done}, and no test failed")
    last.unlink()
    return next(iter(failed))


def _pytest(tree: Path, arguments: Sequence[str]) -> int | None:
    """Its exit code; None where it took too long."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("CI", None)  # where what cannot run here would be a failure
    process = subprocess.Popen(
        [str(tree / ".venv/bin/python"), "-m", "pytest", "-q", *arguments],
        cwd=tree,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _running.add(process)
    for limit, most in LIMITS.items():
        resource.prlimit(process.pid, limit, (most, most))
    # Seconds are counted, not read from the clock: a machine that is suspended kills no mutant.
    try:
        for _ in range(LONGEST):
            try:
                return process.wait(1)
            except subprocess.TimeoutExpired:
                pass
        return None
    finally:
        process.kill()  # its sandboxes end with it
        process.wait()
        _running.discard(process)


_running: set[subprocess.Popen[bytes]] = set()
_judging = threading.Lock()
_judged: dict[str, bool] = {}


def _sound(test: str, clean: Path) -> bool:
    """Whether a test passes where there is no mistake."""
    if test == _TOO_LONG:
        return True
    with _judging:
        if test not in _judged:
            # Twice: a machine that was suspended makes a test wait in vain.
            _judged[test] = any(_failure(clean, [test]) is None for _ in range(2))
            if not _judged[test]:
                print(f"not counted, it fails without a mistake: {test}", flush=True)
        return _judged[test]


# --- all ---------------------------------------------------------------------------------------


def try_all(todo: Sequence[Mutant], jobs: int, results: Path) -> Iterator[Verdict]:
    """Each verdict as it comes; it is written down first."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        clean = Path(directory)
        copy_project(clean)
        with ThreadPoolExecutor(jobs) as pool, results.open("a", encoding="utf-8") as out:
            # The mutants of a file share its syntax tree: they are written out one at a time.
            running = [pool.submit(try_one, mutant, mutant.source(), clean) for mutant in todo]
            try:
                for job in as_completed(running):
                    verdict = job.result()
                    print(json.dumps(asdict(verdict)), file=out, flush=True)
                    yield verdict
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(_running):
                    process.kill()


def remembered(results: Path) -> dict[str, Verdict]:
    """What an earlier run has killed."""
    lines = results.read_text("utf-8").splitlines() if results.exists() else []
    found = [Verdict(**json.loads(line)) for line in lines]
    return {verdict.name: verdict for verdict in found if verdict.by is not None}


@dataclass(frozen=True, slots=True)
class Outcome:
    tried: int
    killed: dict[str, str]  # by which test
    equivalent: list[Mutant]
    holes: list[Mutant]


def run(count: int, seed: int, jobs: int, results: Path = RESULTS, resume: bool = False) -> Outcome:
    """Try this many mutants, and say how each fares."""
    if not resume:
        results.unlink(missing_ok=True)
    sample = {mutant.name: mutant for mutant in chosen(count, seed)}
    known = remembered(results)
    killed = {name: str(known[name].by) for name in sample if name in known}
    todo = [each for name, each in sample.items() if name not in {*killed, *EQUIVALENT}]
    equivalent = [sample[name] for name in sample if name in EQUIVALENT]
    print(f"{len(sample)} mutants, {len(killed)} killed before, {len(todo)} to try", flush=True)
    holes = []
    for verdict in try_all(todo, jobs, results):
        mutant = sample[verdict.name]
        if verdict.by is None:
            holes.append(mutant)
            print(f"SURVIVED {mutant.name}\n{mutant.diff()}", flush=True)
        else:
            killed[mutant.name] = verdict.by
            print(f"killed   {mutant.name}\n         {verdict.by}, {verdict.seconds} s", flush=True)
    return Outcome(len(sample), killed, equivalent, holes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    parser.add_argument(
        "--resume", action="store_true", help="take what they say was killed for it"
    )
    asked = parser.parse_args()
    reason = unusable()
    if reason:
        print(f"mutants: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves nothing behind
    found = run(asked.count, asked.seed, asked.jobs, asked.results, asked.resume)
    print(f"\n{'killed by':50}{'mutants':>8}")
    for test, times in Counter(by.partition("::")[0] for by in found.killed.values()).most_common():
        print(f"{test:50}{times:8}")
    for mutant in found.equivalent:
        print(f"\nno mistake: {EQUIVALENT[mutant.name]}\n{mutant.diff()}")
    for mutant in found.holes:
        print(f"\nHOLE {mutant.name}\n{mutant.diff()}")
    print(
        f"\ntried {found.tried}, killed {len(found.killed)}, "
        f"equivalent {len(found.equivalent)}, holes {len(found.holes)}"
    )
    return int(bool(found.holes))


if __name__ == "__main__":
    sys.exit(main())
