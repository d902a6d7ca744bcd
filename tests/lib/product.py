"""A service with imagination: what is planted x where x what root does, and what came of it.

The three dimensions are data (product_plants, product_world.PLACES, product_works); here is what
of their product makes sense, by rules, and how a case is judged: whatever the program answers, no
canary may change and nothing private be readable afterwards (product_world.World, leaks), a
question changes nothing, a refusal neither, and once the planted thing is gone the start succeeds.

Used by tests/adversary/test_product.py (a sample) and torture.py (all of it), for all subjects.
"""

import os
import random
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from subprocess import CompletedProcess

from canary import SERVICE
from product_plants import NOTHING, PLANTS, Plant, Planted
from product_works import WORKS, Work, whole
from product_world import BELOW, BESIDE, GROUP, OWN, PLACES, RUN, STICKY, Place, World, world
from sandbox import PATH
from subjects import OURS, Subject

STRATEGIES = ("COPY_ALWAYS", "COPY_ONCE")
SECONDS = 30  # within which everything must have ended


@dataclass(frozen=True, slots=True)
class Case:
    plant: Plant
    place: Place
    work: Work
    strategy: str

    def __str__(self) -> str:
        return (
            f"{self.place.name}: {self.plant.name}: {self.work.section}: {self.work.name}, "
            f"{self.strategy}"
        )

    @property
    def top(self) -> str:
        return self.work.base or self.place.top

    @property
    def at(self) -> str:
        return f"{self.top}/{self.work.thing}"


Rules = dict[str, Callable[[Plant, Place, Work], bool]]

# Combinations that make no sense, and why.
SENSELESS: Rules = {
    "nothing is reached through what leads nowhere": (
        lambda plant, _, work: work.through and not plant.leads
    ),
    "certificates, records and scripts have their own place, which can be of any plain kind": (
        lambda _, place, work: bool(work.base) and place not in (OWN, GROUP, STICKY, BELOW)
    ),
    "a FIFO in place of the script is waited for by bash, as the service: nobody else is harmed": (
        lambda plant, _, work: work.path and plant.name == "FIFO"
    ),
    "what lies beside a source is of concern to who reads": (
        lambda _, place, work: place == BESIDE and not work.reads
    ),
    "nothing can have been copied to /run/kolla: it is the records' place": (
        lambda _, place, work: place == RUN and work.earlier is not None
    ),
}
# What is refused with nothing planted, though upstream does it, and why.
REFUSED: Rules = {
    "/run/kolla is the records' place": lambda _, place, work: place == RUN and not work.reads,
    "a user's directory in another's, that the document gives to neither": (
        lambda _, place, work: (
            (place == BELOW and (work.reads or "root's" in work.name))
            or (place in (GROUP, STICKY) and work.reads and work.through)
        )
    ),
}


def any_of(rules: Rules, plant: Plant, place: Place, work: Work) -> bool:
    """Whether one of them speaks of it."""
    return any(rule(plant, place, work) for rule in rules.values())


def cases() -> list[Case]:
    """The product. Strategies take turns, so that every two values of the rest meet both."""
    return [
        Case(plant, place, work, STRATEGIES[(i + j + k) % 2])
        for i, plant in enumerate(PLANTS)
        for j, place in enumerate(PLACES)
        for k, work in enumerate(WORKS)
        if not any_of(SENSELESS, plant, place, work)
    ]


def controls() -> list[Case]:
    """Every work at every place with nothing planted: what each program must carry out."""
    return [
        Case(NOTHING, place, work, STRATEGIES[0])
        for place in PLACES
        for work in WORKS
        if not any_of(SENSELESS, NOTHING, place, work)
    ]


def sample(count: int, seed: int = 12) -> list[Case]:
    """So many, the same for the same seed; each plant, place and work is among them."""
    everything = cases()
    random.Random(seed).shuffle(everything)
    chosen, rest, seen = [], [], set[str]()
    for case in everything:
        values = {case.plant.name, case.place.name, f"{case.work.section}: {case.work.name}"}
        if not values <= seen:
            seen |= values
            chosen.append(case)
        else:
            rest.append(case)
    return [*chosen, *rest][:count]


class Lost(Exception):
    """What came of a case that may not be."""


def _lies_in(path: str, directory: str | None) -> bool:
    return directory is not None and path.startswith(f"{directory}/")


class Attempt:
    """One case, in a world that is as in the beginning."""

    def __init__(self, world: World, case: Case) -> None:
        self.world = world
        self.box = world.box
        self.case = case
        self.ours = world.subject.ours
        self.planted = Planted()

    def prepare(self) -> None:
        """The place, what was there before, and what is planted."""
        case, box = self.case, self.box
        if case.work.section != "records":  # those are the service's between two starts
            case.place.make(box, case.top)
        if case.work.before:
            case.work.before(self.world, case.at)
        if case.work.earlier:
            box.document(whole(case.place, case.work.earlier(case.at, case.top)))
            once = case.work.section == "CA certificates"  # which are not copied again then
            done = self._run("kolla_set_configs", strategy=case.strategy if once else STRATEGIES[0])
            if self.ours and done.returncode:
                raise Lost(f"the earlier document: {done.stderr[-1000:]}")
            if case.work.argv[0] == "kolla_start":
                self._run("kolla_copy_cacerts")
        case.place.make(box, case.top)
        if case.plant is not NOTHING:
            self._free(case.at)
            self.planted = case.plant.make(self.world, case.at) or self.planted
        box.document(whole(case.place, case.work.sections(case.at, case.top)))

    def judge(self) -> int:
        """The exit code. Raises Lost, and subprocess.TimeoutExpired."""
        before = self._canaries()
        self.box.mark()
        code = 0
        if self.case.work.argv == ("kolla_set_configs",):
            done = self._run("kolla_set_configs", "--check")
            if self.ours and self.box.changes():
                raise Lost(f"--check changes {self.box.changes()}")
            self._look(before, done, codes=(0, 1, 2))
        done = self._run(*self.case.work.argv)
        code = done.returncode
        self._look(before, done, codes=(0, 1))
        # Refused is refused before anything was touched. After exec the code is the service's.
        refused = self.ours and code and not (self.case.plant.late or self.case.work.path)
        if refused and self.box.changes():
            raise Lost(f"refused, but changed: {self.box.changes()}: {done.stderr[-1000:]}")
        return code

    def afterwards(self) -> None:
        """The thing is gone: nothing else keeps the start from its work."""
        case, box = self.case, self.box
        self.world.unplant()
        box.remove(case.at if case.work.base else case.top)
        case.place.make(box, case.top)
        if case.work.through:
            box.mkdir(case.at, owner=SERVICE)
            box.write(f"{case.at}/secret", "the service's", SERVICE)
        elif case.work.reads or case.work.section == "permissions":
            box.write(case.at, "the service's", SERVICE)
        done = self._run("kolla_set_configs", strategy=STRATEGIES[0])
        refused = self.ours and any_of(REFUSED, case.plant, case.place, case.work)
        if done.returncode != int(refused):
            raise Lost(f"without the thing: {done.returncode}: {done.stderr[-1000:]}")
        for why in self.world.leaks(done.stdout + done.stderr):
            raise Lost(f"afterwards {why}")

    def _free(self, at: str) -> None:
        """The name, as the service would make it free: what is root's it can rename."""
        if self.box.exists(at):
            if self.case.work.section == "records":
                os.rename(self.box.host(at), self.box.host(f"{at}.away"))
            else:
                self.box.remove(at)

    def _canaries(self) -> dict[str, object]:
        # Records that are not believed are renamed, with all that was planted among them.
        aside = self.case.top if self.case.work.section == "records" else None
        watched = tuple(path for path in self.planted.watched if not _lies_in(path, aside))
        return self.world.canaries(watched, self.planted.ctime)

    def _run(self, *argv: str, strategy: str = "") -> CompletedProcess[str]:
        env = {"KOLLA_CONFIG_STRATEGY": strategy or self.case.strategy}
        if self.case.work.path:
            env["PATH"] = f"{self.case.top}:{PATH}"
        return self.box.run(argv, env=env, timeout=SECONDS)

    def _look(
        self, before: dict[str, object], done: CompletedProcess[str], codes: tuple[int, ...]
    ) -> None:
        said = done.stdout + done.stderr
        after = self._canaries()
        changed = {
            path: (before[path], after[path]) for path in before if after[path] != before[path]
        }
        if changed:
            raise Lost(f"changed: {changed}: {said[-1000:]}")
        for why in self.world.leaks(said):
            raise Lost(f"{why}: {said[-1000:]}")
        for content in self._kept():
            if not self.world.tokens.there(self.box, content):
                raise Lost(f"destroyed: {content!r}: {said[-1000:]}")
        if self.ours and (
            "Traceback" in said or (done.returncode not in codes and not self.case.work.path)
        ):
            raise Lost(f"exit code {done.returncode}: {said[-2000:]}")

    def _kept(self) -> Iterator[str]:
        if self.planted.content:
            yield self.planted.content
        if self.case.work.before or self.case.work.section == "records":
            yield self.world.original


def _lost(world: World, case: Case) -> str | None:
    """What came of it that may not be, or None. The world must be as in the beginning."""
    attempt = Attempt(world, case)
    try:
        attempt.prepare()
        if case.plant is not NOTHING:
            attempt.judge()
        if world.subject == OURS or case.plant is NOTHING:
            attempt.afterwards()
    except Lost as why:
        return str(why)
    except subprocess.TimeoutExpired as hang:
        return f"hangs: {hang.cmd}"
    return None


def attempts(subject: Subject, chosen: Iterable[Case]) -> Iterator[tuple[Case, str | None]]:
    """Each case, and what came of it that may not be; one world for as many as it is good for."""
    todo = list(chosen)[::-1]
    again = False
    while todo:
        with world(subject) as one:
            clean = True
            while todo and clean:
                why = _lost(one, todo[-1])
                if why and why.startswith("hangs") and not again:
                    again = True  # a machine that has other work to do is no hang
                    break
                again = False
                yield todo.pop(), why
                clean = one.reset()


def _share(job: tuple[Subject, list[int]]) -> list[tuple[int, str | None]]:
    subject, numbers = job
    every = cases()
    number_of = {str(every[number]): number for number in numbers}
    done = attempts(subject, [every[number] for number in numbers])
    return [(number_of[str(case)], why) for case, why in done]


def all_attempts(
    subject: Subject, chosen: Sequence[Case], workers: int
) -> Iterator[tuple[Case, str | None]]:
    """The same on so many cores."""
    every = cases()
    number_of = {str(case): number for number, case in enumerate(every)}
    numbers = [number_of[str(case)] for case in chosen]
    shares = [(subject, numbers[start : start + 50]) for start in range(0, len(numbers), 50)]
    # Processes, not threads: a sandbox changes the namespaces of its whole process.
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        for done in pool.map(_share, shares):
            for number, why in done:
                yield every[number], why
