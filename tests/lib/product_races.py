"""The product's races: what is swapped while a start is stopped, at each call that concerns it.

Every work of product_works at the service's own directory, at one of its group and in the shared
log tree. What stands there is the service's own, as it should be; then, after one system call of
the start, it is exchanged for a link or for what is a neighbour's. Judged as the product is.
"""

import ctypes
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import moments
from canary import HOME, SECRET, SERVICE
from moments import Moment
from product import SENSELESS, STRATEGIES, Attempt, Case, Lost, any_of
from product_plants import NOTHING, OWN_DIRECTORY, OWN_FILE, Plant, Planted
from product_works import WORKS, Work
from product_world import DEEP, GROUP, LOGS, OPEN, OPEN_LOG, OWN, World, world
from sandbox import PATH
from subjects import OURS, Subject

OTHER = f"{HOME}/other"  # what it is exchanged for: a link
SECONDS = 300
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Race:
    """How: "link" or "neighbour", whose place it takes."""

    case: Case
    how: str

    def __str__(self) -> str:
        case = self.case
        return f"{case.place.name}: {case.work.section}: {case.work.name}, {self.how}"


def races() -> list[Race]:
    return [
        Race(Case(_stands(work), place, work, STRATEGIES[0]), how)
        for place in (OWN, GROUP, LOGS)
        for work in WORKS
        for how in ("link", "neighbour")
        if not any_of(SENSELESS, NOTHING, place, work) and not work.path
    ]


def _stands(work: Work) -> Plant:
    """What the service has there; what an earlier document made is left as it is."""
    if work.earlier:
        return NOTHING
    wants_directory = work.through or work.section == "directories" or "directory" in work.name
    return OWN_DIRECTORY if wants_directory else OWN_FILE


class _Attempt(Attempt):
    """A case that is as it should be, until it is exchanged."""

    def __init__(self, world: World, race: Race) -> None:
        super().__init__(world, race.case)
        self.race = race
        self.before: dict[str, object] = {}

    def prepare(self) -> None:
        super().prepare()
        at = self.case.at
        if not self.box.exists(at):  # what an earlier document made, was merged by a pattern
            self.box.write(at, "the service's", SERVICE)
        directory = os.path.isdir(self.box.host(at))
        self.partner = OTHER
        if self.race.how == "link":
            self.box.symlink("/etc/canary" if directory else SECRET, OTHER, SERVICE)
        else:
            self.partner = OPEN if directory else OPEN_LOG
            if directory:
                self.planted = Planted((f"{at}/{DEEP}", f"{at}/private"), content=self.world.deep)

    def exchange(self) -> None:
        """While the start is stopped: it may have replaced or removed the thing by now."""
        at = self.case.at
        here, there = (os.fsencode(self.box.host(path)) for path in (at, self.partner))
        if not os.path.lexists(here):
            if os.path.isdir(os.path.dirname(here)):
                os.rename(there, here)
        else:
            assert not _libc.renameat2(_AT_FDCWD, there, _AT_FDCWD, here, _EXCHANGE), os.strerror(
                ctypes.get_errno()
            )
        self.before = self._canaries()

    def race_at(self, moment: Moment) -> bool:
        """Whether it came to that moment. Raises Lost."""
        done = moments.stopped_at(
            self.box, moment, self.exchange, self.case.work.argv, self._env(), SECONDS
        )
        if done is None:
            return False
        self._look(self.before, done, codes=(0, 1))
        return True

    def _env(self) -> dict[str, str | None]:
        return {"KOLLA_CONFIG_STRATEGY": self.case.strategy, "PATH": PATH}

    def calls(self, most: int) -> list[Moment]:
        """Those of an undisturbed start that concern the place; none where it is refused."""
        undisturbed = self._run(*self.case.work.argv)
        if undisturbed.returncode:
            return []
        assert self.world.reset()
        self.prepare()
        found = moments.moments(self.box, [self.case.top], self.case.work.argv, self._env())
        return moments.sample(found, most)


def _listed(one: World, race: Race, most: int) -> list[Moment]:
    attempt = _Attempt(one, race)
    try:
        attempt.prepare()
    except Lost:  # the earlier document is refused: test_with_nothing_planted speaks of that
        return []
    return attempt.calls(most)


def attempts(
    subject: Subject, chosen: Iterable[Race], most: int
) -> Iterator[tuple[Race, Moment, str | None]]:
    """Each race at each moment, and what came of it that may not be; none that was not reached."""
    todo: list[tuple[Race, Moment | None]] = []
    todo += [(race, None) for race in chosen][::-1]
    while todo:
        with world(subject) as one:
            clean = True
            while todo and clean:
                race, moment = todo.pop()
                if moment is None:
                    todo += [(race, each) for each in _listed(one, race, most)]
                else:
                    why = _lost(one, race, moment)
                    if why is not None:
                        yield race, moment, why or None
                clean = one.reset()


def _lost(one: World, race: Race, moment: Moment) -> str | None:
    """What was lost, "" for nothing; None where it did not come to that."""
    attempt = _Attempt(one, race)
    try:
        attempt.prepare()
        if not attempt.race_at(moment):
            return None
        if one.subject == OURS:
            attempt.afterwards()
    except Lost as why:
        return str(why)
    return ""


def _share(job: tuple[Subject, int, int]) -> list[tuple[int, str, str | None]]:
    subject, number, most = job
    done = attempts(subject, [races()[number]], most)
    return [(number, str(moment), why) for _, moment, why in done]


def all_attempts(
    subject: Subject, numbers: Iterable[int], most: int, workers: int
) -> Iterator[tuple[Race, str, str | None]]:
    """The same for the races of these numbers, on so many cores."""
    every = races()
    jobs = [(subject, number, most) for number in numbers]
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        for done in pool.map(_share, jobs):
            for number, moment, why in done:
                yield every[number], moment, why
