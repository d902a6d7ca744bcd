"""A container's life in a sandbox, each step held against the oracle (histories.World).

Files are asked, never the program. A Divergence tells the whole story: the image, every step up to
the one that went wrong, what was expected there and what was found.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from subprocess import CompletedProcess

from documents import EMPTY, Document
from histories import IDS, World, has_sections
from oracle import Outcome
from paper import Files, Node, Refused, Unclear, at_or_inside, inside
from sandbox import CONFIG_FILES, Sandbox
from subjects import Subject
from survey import DOCUMENT, Stamp, difference, survey, told

HOME = "/app"
DEFAULTS = "/etc/kolla/defaults"
TOPS = (HOME, CONFIG_FILES)
PATIENCE = 1800  # seconds: a busy machine is not taken for a hang
_RECORDS = ("/etc/kolla", "/run_command", "/configured")


class Divergence(AssertionError):
    """The program and the oracle do not agree; the message is the history."""


@dataclass
class Tally:
    """How many histories and starts; of these, how many had which end."""

    histories: int = 0
    lost: int = 0
    steps: int = 0
    starts: int = 0  # with a document of the history's own choice
    applied: int = 0
    refused: int = 0
    silent: int = 0  # not started: the contract does not say what comes of it
    kills: int = 0
    compared: int = 0  # paths
    doubted: int = 0  # of them, not compared

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(one + getattr(other, name) for name, one in vars(self).items()))


class Compared:
    """The part of Life that compares."""

    def __init__(
        self,
        box: Sandbox,
        subject: Subject,
        tally: Tally,
        image: str,
        plant: Callable[[Sandbox], frozenset[str]],
    ) -> None:
        """`plant` makes the image and what is mounted, and says which paths are mount points."""
        self.box, self.subject, self.tally = box, subject, tally
        box.adduser("nova", IDS["nova"])
        box.mark()
        mounts = plant(box)
        actual, self.stamps = survey(box, *TOPS)
        actual.mounts = mounts
        self.world = World(actual.copy(), actual.copy(), Outcome(actual))
        self.document = self.before = EMPTY
        self.over = False  # what a killed start left is not mended: nothing more is asked
        self.story = [f"the image: {image}"]

    def run(self, *argv: str, strategy: str = "COPY_ALWAYS") -> CompletedProcess[str]:
        return self.box.set_configs(*argv, strategy=strategy, timeout=PATIENCE)

    def check_that(self, true: object, wrong: str) -> None:
        """Raises Divergence with the story."""
        if not true:
            steps = "\n".join(f"{number:2} {step}" for number, step in enumerate(self.story))
            raise Divergence(
                f"{self.subject.name} and the oracle do not agree\n{steps}\n-> {wrong}"
            )

    def _check_before(self, outcome: Outcome) -> None:
        sections = has_sections(self.document) or has_sections(self.before)
        answer = self.world.check(outcome, self.document["command"], sections=sections)
        if answer is None or not self.subject.ours:
            return
        said = self.run("--check")
        allowed = (answer, 2) if outcome.perhaps else (answer,)
        wrong = f"--check before: {said.returncode}, not {answer}: {said.stdout}{said.stderr}"
        self.check_that(said.returncode in allowed, wrong)

    def _nothing_changed(self, done: CompletedProcess[str], reason: str) -> None:
        said = f"to be refused ({reason}): {done.returncode}: {done.stderr}"
        self.check_that(done.returncode == 1, said)
        self.check_that("ERROR" in done.stderr and "Traceback" not in done.stderr, said)
        self._unchanged(said)
        check = self.run("--check")
        said = f"refused, but --check: {check.returncode}: {check.stdout}{check.stderr}"
        self.check_that(check.returncode == 2, said)

    def _unchanged(self, said: str) -> None:
        """No path, no inode, no mtime."""
        changes = {path: each for path, each in self.box.changes().items() if path != DOCUMENT}
        self.check_that(not changes, f"{said}\nbut written: {changes}")
        stamps = survey(self.box, *TOPS)[1]
        self.check_that(
            stamps == self.stamps, f"{said}\nbut written: {_apart(stamps, self.stamps)}"
        )

    def _settled(self, strategy: str) -> None:
        """Again: nothing changes; --check says so."""
        self.box.mark()
        again = self.run(strategy=strategy)
        self.check_that(again.returncode == 0, f"the second start: {again.stderr}")
        self._unchanged(f"the second start: {again.stderr}")
        check = self.run("--check")
        self.check_that(check.returncode == 0, f"--check after: {check.stdout}{check.stderr}")
        self._unchanged("--check after")

    def _done(self, outcome: Outcome, done: CompletedProcess[str], *, clean: bool) -> None:
        actual, stamps = survey(self.box, *TOPS)
        doubt, wanted = outcome.doubt, outcome.tree
        if not self.subject.ours:  # what upstream promises as well
            named = (outcome.ours | outcome.made) & set(wanted)
            wanted = Files({path: _plain(wanted[path]) for path in named})
            found = Files({path: _plain(actual[path]) for path in wanted if path in actual})
        else:
            found = actual
        self.tally.compared += len(wanted)
        self.tally.doubted += len(doubt & set(wanted))
        wrong = difference(found, wanted, doubt)
        self.check_that(not wrong, f"{told(wrong)}\n{done.stderr}")
        if self.subject.ours:
            self._times(outcome, stamps)
            if clean:
                self._untouched(outcome, actual, stamps)
        self.stamps = stamps
        self.world.started(outcome, actual)

    def _times(self, outcome: Outcome, stamps: dict[str, Stamp]) -> None:
        for path, source in outcome.times.items():
            if path not in outcome.doubt and inside(source, CONFIG_FILES):
                same = stamps[path].mtime_ns == stamps[source].mtime_ns
                self.check_that(same, f"{path}: another mtime than its source, {source}")

    def _untouched(self, outcome: Outcome, actual: Files, stamps: dict[str, Stamp]) -> None:
        """What was right keeps its inode and its mtime."""
        world = self.world
        for path, node in actual.items():
            of_both = path in outcome.ours and path in world.last.ours
            of_none = not any(at_or_inside(path, top) for top in outcome.whole | world.last.whole)
            of_none &= path not in outcome.ours | world.last.ours
            if node.kind == "file" and node == world.now.get(path) and (of_both or of_none):
                kept = stamps[path] == self.stamps[path]
                self.check_that(kept, f"{path} was right, and is written")

    def _records(self) -> None:
        """What is saved are the originals, each named in the state; nothing else has changed."""
        changed = self.box.changes()
        outside = [p for p in changed if not any(at_or_inside(p, t) for t in (*TOPS, *_RECORDS))]
        self.check_that(not outside, f"outside of the document: {outside}")
        self.check_that(self.box.exists("/configured") == self.world.configured, "/configured")
        self.check_that(self.box.read("/run_command") == self.world.command, "/run_command")
        wrong = records(self.box, self.world)
        self.check_that(wrong is None, f"{DEFAULTS}: {wrong}")


class Life(Compared):
    """One container: its image, its starts, and World beside it."""

    def say(self, step: str) -> None:
        self.tally.steps += 1
        self.story.append(step)

    def edit(self, step: str, change: Callable[[Sandbox], object]) -> None:
        """Somebody other than the program changes something."""
        self.say(step)
        change(self.box)
        actual, self.stamps = survey(self.box, *TOPS)
        self.world.notice(actual)

    def start(
        self, document: Document, strategy: str = "COPY_ALWAYS", killed: Document | None = None
    ) -> None:
        """A whole start, with all that must hold before, after, and at the next one.

        `killed` is the document of a start that was killed just before.
        """
        self.say(f"{strategy}: {json.dumps(document)}")
        world = self.world
        if strategy == "COPY_ONCE" and world.configured:
            self._once(document)
            return
        self.tally.starts += 1
        try:
            outcome = world.expect(document)
        except Unclear as reason:
            self.over = killed is not None
            self.tally.silent += 1
            self.story[-1] += f"  (silent: {reason})"
            return
        except Refused as reason:
            self.over = killed is not None
            self.refused(document, str(reason), strategy)
            return
        self.before, self.document = self.document, document
        self.box.document(document)
        if killed is None:
            self._check_before(outcome)
        if killed is None or outcome.perhaps:
            self.box.mark()
        if killed not in (None, document):  # find: directories for what left go one start later
            self.run(strategy=strategy)
        done = self.run(strategy=strategy)
        if done.returncode and outcome.perhaps:
            self.over = killed is not None
            self._nothing_changed(done, "may be refused")
            self.tally.refused += 1
            self._forget()
            return
        self.check_that(done.returncode == 0, f"exit code {done.returncode}, not 0: {done.stderr}")
        self.tally.applied += 1
        self._done(outcome, done, clean=killed is None)
        world.command = document["command"]
        world.configured |= strategy == "COPY_ONCE"
        if self.subject.ours:
            self._records()
            self._settled(strategy)

    def kill(self, document: Document, strategy: str, call: str, nth: int) -> None:
        """A start that is killed at its nth such call; what it leaves is the next one's to mend."""
        self.say(f"{strategy}, killed at call {nth} of {call}: {json.dumps(document)}")
        self.box.document(document)
        self.box.mark()
        inject = f"inject={call}:signal=KILL:when={nth}"
        argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject, "kolla_set_configs"]
        done = self.box.run(argv, env={"KOLLA_CONFIG_STRATEGY": strategy}, timeout=PATIENCE)
        self.tally.kills += done.returncode < 0
        actual, self.stamps = survey(self.box, *TOPS)
        actual.mounts = self.world.now.mounts
        self.world.killed(actual)

    def refused(self, document: Document, reason: str, strategy: str = "COPY_ALWAYS") -> None:
        """Nothing changes; a message, no traceback. The document is not there any more then."""
        self.story[-1] += f"  (to be refused: {reason})"
        self.tally.refused += 1
        if not self.subject.ours:
            return
        self.before, self.document = self.document, document
        self.box.document(document)
        self.box.mark()
        self._nothing_changed(self.run(strategy=strategy), reason)
        self._forget()

    def _forget(self) -> None:
        self.document = self.before
        self.box.document(self.document)

    def _once(self, document: Document) -> None:
        """What is configured once stays, whatever is mounted."""
        if not self.subject.ours:
            return
        self.box.mark()
        self.before, self.document = self.document, document
        self.box.document(document)
        done = self.run(strategy="COPY_ONCE")
        self.check_that(done.returncode == 0, f"exit code {done.returncode}, not 0: {done.stderr}")
        self._unchanged("COPY_ONCE")
        self._forget()


def records(box: Sandbox, world: World) -> str | None:
    """What is wrong with what is kept of the image: each path's original, and nothing else."""
    if not box.exists(f"{DEFAULTS}/state"):
        return "no state" if world.last.ours else None
    state = json.loads(box.read(f"{DEFAULTS}/state"))
    if not set(state) <= world.last.ours:
        return f"remembered: {set(state) - world.last.ours}"
    places = {f"{DEFAULTS}/{name}" for name in ("state", "kolla_start", "lock")}
    for path, kept in state.items():
        if kept["source"] != path:
            return f"{path}: {kept}"
        known = path in world.last.doubt or path in world.lingering
        if kept["dest"] is None:
            if not known and path in world.below:
                return f"{path} had an original: {world.below[path]}"
            continue
        places.add(kept["dest"])
        saved, _ = survey(box, kept["dest"])
        wanted = {path: world.below[path]} if path in world.below else {}
        wanted |= {other: world.below[other] for other in world.below.below(path)}
        found = {
            path + other.removeprefix(kept["dest"]): saved[other]
            for other in saved
            if at_or_inside(other, kept["dest"])
        }
        wrong = difference(Files(found), Files(wanted), world.last.doubt)
        if wrong:
            return f"saved of {path}: {told(wrong)}"
    for path, node in survey(box, DEFAULTS)[0].items():
        if node.kind != "directory" and not any(at_or_inside(path, place) for place in places):
            return f"nobody's: {path}"
    return None


def _plain(node: Node) -> Node:
    return Node(node.kind, node.uid, node.gid, node.mode, node.content)


def _apart(one: dict[str, Stamp], other: dict[str, Stamp]) -> list[str]:
    return sorted({p for p in {**one, **other} if one.get(p) != other.get(p)})
