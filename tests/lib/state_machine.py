"""Histories for the oracle, made by hypothesis: a rule is a step, lives.Life does and compares it.

Documents whose entries lie over, in and beside one another, in an image with links, directories,
ACLs or mounts in the way; changed sources; what the service does in its own directories; refusals,
kills, restarts. Run by tests/plan/test_oracle.py and `make torture`.
"""

from collections.abc import Callable

from documents import Document, Entry
from drawn import FAULTY, SHAPES, SOURCES, config_file, documents, image
from histories import IDS
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from lives import HOME, Divergence, Life, Tally
from sandbox import CONFIG_FILES as MOUNT
from sandbox import Sandbox
from subjects import OURS, Subject

NOVA = IDS["nova"]
SHORTEST, LONGEST = 3, 12  # steps of a history
CALLS = (
    "rename,renameat,renameat2",
    "mkdir,mkdirat",
    "unlink,unlinkat",
    "fchown,fchownat",
    "fsync",
    "write",
    "openat",
)

STRATEGIES = st.sampled_from(["COPY_ALWAYS"] * 7 + ["COPY_ONCE"])
AS_IT_IS = st.sampled_from([False] * 4 + [True])
CONTENTS = st.sampled_from(["red", "blue", "green"])


class Edits(RuleBasedStateMachine):
    """What somebody other than the program does.

    `counting`: a history that is lost is counted, and raises nothing.
    """

    subject: Subject = OURS
    tally = Tally()
    counting = False
    life: Life

    def __init__(self) -> None:
        super().__init__()
        self.lost: str | None = None
        self.box = self.subject.box().__enter__()

    def teardown(self) -> None:
        self.tally.histories += 1
        self.tally.lost += self.lost is not None
        self.box.close()

    def _do(self, step: Callable[[], None]) -> None:
        """Nothing more is asked of a history that is lost."""
        if self.lost is not None or self.life.over:
            return
        try:
            step()
        except Divergence as wrong:
            if not self.counting:
                raise
            self.lost = str(wrong)

    @rule(name=st.sampled_from(SOURCES), content=CONTENTS, mode=st.sampled_from([0o644, 0o600]))
    def source_changes(self, name: str, content: str, mode: int) -> None:
        def edit(box: Sandbox) -> None:
            box.remove(f"{MOUNT}/{name}")
            box.source(name, content, mode=mode)

        self._do(lambda: self.life.edit(f"{MOUNT}/{name} is {content}, {mode:04o}", edit))

    @rule(name=st.sampled_from([*SOURCES, "tree", "tree/sub", "other"]))
    def source_goes(self, name: str) -> None:
        def edit(box: Sandbox) -> None:
            box.remove(f"{MOUNT}/{name}")

        self._do(lambda: self.life.edit(f"{MOUNT}/{name} goes", edit))

    @rule(where=st.sampled_from(["a", "x.conf", "tree/one"]))
    def source_becomes_a_directory(self, where: str) -> None:
        def edit(box: Sandbox) -> None:
            box.remove(f"{MOUNT}/{where}")
            box.source(f"{where}/within", "within")

        self._do(lambda: self.life.edit(f"{MOUNT}/{where} is a directory with `within`", edit))

    @rule(data=st.data(), what=st.sampled_from(["content", "mode", "owner", "gone"]))
    def delivered_thing_drifts(self, data: st.DataObject, what: str) -> None:
        """Somebody has been at what the last start put there."""
        world = self.life.world
        known = [path for path in sorted(world.last.ours) if world.now.kind(path) == "file"]
        if what == "gone":
            known = [path for path in known if path not in world.now.mounts]
        if not known:
            return
        path = data.draw(st.sampled_from(known))
        changes: dict[str, Callable[[Sandbox], object]] = {
            "content": lambda box: box.write(path, "drifted"),
            "mode": lambda box: box.chmod(path, 0o777),
            "owner": lambda box: box.chown(path, "nova"),
            "gone": lambda box: box.remove(path),
        }
        self._do(lambda: self.life.edit(f"{path} drifts: {what}", changes[what]))

    @rule(
        data=st.data(),
        name=st.sampled_from(["own", "one", "a", "sub"]),
        what=st.sampled_from(["file", "directory", "gone", "mode", "link", "dangling"]),
    )
    def service_acts(self, data: st.DataObject, name: str, what: str) -> None:
        own = [
            path
            for path, node in sorted(self.life.world.now.items())
            if (node.kind, node.uid, node.mode & 0o300) == ("directory", NOVA, 0o300)
            and path.startswith(HOME)
        ]
        if not own:
            return
        path = f"{data.draw(st.sampled_from(own))}/{name}"
        node = self.life.world.now.get(path)
        if node and (node.uid != NOVA or (node.kind == "link" and what == "mode")):
            return
        if path in self.life.world.now.mounts:
            return

        def edit(box: Sandbox) -> None:
            if what == "mode":
                if node:
                    box.chmod(path, 0o710 if node.kind == "directory" else 0o400)
                return
            if node:
                box.remove(path)
            if what == "file":
                box.write(path, "the service's", owner="nova")
            elif what in ("link", "dangling"):
                box.symlink(f"{HOME}/etc/one" if what == "link" else "no", path, owner="nova")
            elif what == "directory":
                box.write(f"{path}/own", "the service's", owner="nova")
                box.chown(path, "nova")

        self._do(lambda: self.life.edit(f"the service: {path}: {what}", edit))


class Histories(Edits):
    """One container's life."""

    @initialize(shape=st.sampled_from([*SHAPES]), document=documents())
    def begin(self, shape: str, document: Document) -> None:
        self.life = Life(self.box, self.subject, self.tally, shape, lambda box: image(box, shape))
        self._do(lambda: self._start(document))

    def _start(
        self, document: Document, strategy: str = "COPY_ALWAYS", as_it_is: bool = False
    ) -> None:
        """Most documents are to be carried out: what is wrong in them is taken out."""
        if not as_it_is:
            document = self.life.world.mended(document)
        self.life.start(document, strategy)

    @rule(document=documents(), strategy=STRATEGIES, as_it_is=AS_IT_IS)
    def start(self, document: Document, strategy: str, as_it_is: bool) -> None:
        self._do(lambda: self._start(document, strategy, as_it_is))

    @rule(document=documents(), wrong=FAULTY, where=st.integers(0, 4))
    def another_start(self, document: Document, wrong: Entry | None, where: int) -> None:
        """With an entry that no document may have, sometimes."""
        if wrong is None:
            self._do(lambda: self._start(document))
            return
        entries = document.get("config_files", [])
        faulty = {**document, "config_files": [*entries[:where], wrong, *entries[where:]]}

        def refused() -> None:
            self.life.say(f"COPY_ALWAYS: {faulty}")
            self.life.tally.starts += 1
            self.life.refused(faulty, "it is wrong")

        self._do(refused)

    @rule(more=config_file(), strategy=STRATEGIES)
    def one_more_entry(self, more: Entry, strategy: str) -> None:
        now = self.life.document
        entries = [*now.get("config_files", []), more][-6:]
        self._do(lambda: self._start({**now, "config_files": entries}, strategy))

    @rule(data=st.data())
    def one_entry_less(self, data: st.DataObject) -> None:
        now = self.life.document
        entries = now.get("config_files", [])
        if entries:
            gone = data.draw(st.integers(0, len(entries) - 1))
            less = [*entries[:gone], *entries[gone + 1 :]]
            self._do(lambda: self._start({**now, "config_files": less}))

    @rule()
    def restart(self) -> None:
        self._do(lambda: self._start(self.life.document))

    @rule(
        document=documents(),
        then=st.none() | documents(),
        strategy=STRATEGIES,
        call=st.sampled_from(CALLS),
        nth=st.integers(1, 9),
    )
    def killed(
        self, document: Document, then: Document | None, strategy: str, call: str, nth: int
    ) -> None:
        """And started again, with another document sometimes: then it copies only, before.

        What the other sections had done by then would stay.
        """
        life = self.life

        def step() -> None:
            first = document
            if then is not None:
                names = ("directories", "files", "permissions")
                first = {name: each for name, each in document.items() if name not in names}
            first = life.world.mended(first)
            second = first if then is None else life.world.mended(then)
            if life.subject.ours and not (strategy == "COPY_ONCE" and then is not None):
                life.kill(first, strategy, call, nth)
            life.start(second, strategy, killed=first)

        self._do(step)


def live(subject: Subject, number: int, count: int, *, counting: bool = False) -> Tally:
    """So many histories of this seed, which says their length too. Raises Divergence, shrunk."""
    tally = Tally()
    own = {"tally": tally, "subject": subject, "counting": counting}
    made: type[Histories] = type("Histories", (Histories,), own)
    run_state_machine_as_test(
        seed(number)(made),
        settings=settings(
            max_examples=count,
            stateful_step_count=SHORTEST + number % (LONGEST - SHORTEST + 1) - 1,
            derandomize=True,
            deadline=None,
            phases=[Phase.generate] if counting else [Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
    return tally
