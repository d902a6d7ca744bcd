"""The rows of the table for one container: what each measures, against whom, with which bar.

A bar holds for one processor, as most containers have no more; two are shown beside it.
"""

import json
import os
import statistics
from collections.abc import Callable, Iterator, Sequence

import checks
from container import COPY, OURS, UID, UPSTREAM, USER, VOLUME, Bench, Contender, in_turn
from sandbox import CONFIG_FILES
from table import Line, line

TREE_FILE = 10_000  # bytes of each file of a copied tree
TREE_SIZE = (100, 100)  # directories, and files in each

Repeats = tuple[int, int]  # of short rows, of long ones
Bars = Sequence[tuple[Contender, float | None]]

START = ["/usr/local/bin/kolla_start"]
SET_CONFIGS = ["/usr/local/bin/kolla_set_configs"]
BARE = ["/usr/bin/python3", "-I", "-S", "-c", "pass"]


def against(
    bench: Bench,
    row: str,
    what: str,
    ours: Contender,
    bars: Bars,
    times: int,
) -> Iterator[Line]:
    """Ours and the others in turn, with each number of processors, and a line for each other."""
    for count in bench.counts:
        in_turn(bench, (ours, *(other for other, _ in bars)), times, count)
        for other, bar in bars:
            held = bar if count == 1 else None
            yield line(row, what, count, ours.seconds, (other.name, other.seconds), held)


# --- documents -----------------------------------------------------------------------------------


def nova_compute(bench: Bench) -> None:
    """examples/nova-compute with its ten files, and a service that ends at once."""
    document = json.loads((checks.NOVA_COMPUTE / "config.json").read_text())
    document["command"] = "/bin/true"
    bench.configure(document)
    for entry in document["config_files"]:
        name = os.path.basename(entry["source"])
        bench.box.source(name, (checks.NOVA_COMPUTE / name).read_bytes())


def tree_owner(place: str = VOLUME) -> dict[str, object]:
    """`permissions` of a whole volume, to which `chown -R` is the equal."""
    walk = {"path": place, "owner": "nova:nova", "perm": "0644", "recurse": True}
    return {"command": "/bin/true", "permissions": [walk]}


def tree_copy(place: str = f"{CONFIG_FILES}/tree") -> dict[str, object]:
    copy = {"source": place, "dest": COPY, "owner": "root", "perm": "0644"}
    return {"command": "/bin/true", "config_files": [copy]}


# --- S1 to S4: small documents -------------------------------------------------------------------


def pair(
    bench: Bench,
    argv: list[str],
    *,
    first: bool = False,
    user: str = USER,
    ours_as: str = "root",
    then: list[str] | None = None,
    after: Callable[[], None] | None = None,
) -> tuple[Contender, Contender]:
    """Both programs on the same document, each in a container where only it has ever run.

    `first`: it has not run before either; else it has, with the same document. `then`: what is
    measured in place of `argv`. `after`: the check, else that of nova-compute.
    """

    def before(program: str, who: str) -> Callable[[], None]:
        def prepare() -> None:
            bench.install(program)
            bench.fresh()
            if not first:
                bench.run(argv, who)

        return prepare

    measured, check = then or argv, after or (lambda: checks.nova_compute(bench))
    return (
        Contender("ours", measured, ours_as, before(OURS, ours_as), check),
        Contender("upstream", measured, user, before(UPSTREAM, user), check),
    )


def s1(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    nova_compute(bench)
    bare = Contender("python3 -I -S", BARE)
    for what, first in (("first start, 10 files", True), ("restart, 10 files", False)):
        ours, upstream = pair(bench, START, first=first)
        yield from against(bench, "S1", what, ours, ((upstream, 0.22), (bare, 2.0)), repeats[0])


def s2(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    nova_compute(bench)
    for what, first in (("first start through sudo", True), ("restart through sudo", False)):
        ours, upstream = pair(bench, START, first=first, ours_as=USER)
        yield from against(bench, "S2", what, ours, ((upstream, 0.42),), repeats[0])


def s3(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    nova_compute(bench)
    for number in range(3):
        bench.shell(
            f"mkdir -p {CONFIG_FILES}/ca-certificates && "
            f"openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=bench{number} "
            f"-keyout /dev/null -out {CONFIG_FILES}/ca-certificates/bench{number}.crt 2>/dev/null"
        )
    ours, upstream = pair(bench, START, after=lambda: checks.trusted(bench, 3))
    what = "restart, three custom CAs unchanged"
    yield from against(bench, "S3", what, ours, ((upstream, 0.03),), repeats[1])


def s4(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    nova_compute(bench)
    ours, upstream = pair(bench, SET_CONFIGS, user="root", then=[*SET_CONFIGS, "--check"])
    yield from against(bench, "S4", "--check, unchanged", ours, ((upstream, 0.27),), repeats[0])


# --- S5, S6, S9: the owners of a whole volume ----------------------------------------------------


class Volume:
    """A volume of `directories` of 99 files, all right, and who puts it right again."""

    def __init__(self, bench: Bench, directories: int) -> None:
        self._bench = bench
        self._size = (directories, 99)
        bench.configure(tree_owner())
        bench.fresh()
        bench.grow(VOLUME, *self._size)
        bench.shell(f"chown -R nova:nova {VOLUME}")
        bench.install(OURS)
        bench.run(SET_CONFIGS)
        self.check()

    def check(self) -> None:
        checks.volume(self._bench, *self._size)

    def walker(
        self, name: str, argv: list[str], program: str | None, before: Callable[[], None]
    ) -> Contender:
        def prepare() -> None:
            if program:
                self._bench.install(program)
            before()

        return Contender(name, argv, "root", prepare, self.check)

    def walkers(self, before: Callable[[], None]) -> tuple[Contender, Contender, Contender]:
        """Ours, upstream and `chown -R`."""
        chown = ["/bin/chown", "-R", "nova:nova", VOLUME]
        return (
            self.walker("ours", SET_CONFIGS, OURS, before),
            self.walker("upstream", SET_CONFIGS, UPSTREAM, before),
            self.walker("chown -R", chown, None, before),
        )


def s5(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    ours, upstream, chown = Volume(bench, 1000).walkers(lambda: None)
    what = "permissions of 100,000 entries, all right"
    yield from against(bench, "S5", what, ours, ((upstream, 0.15), (chown, 1.0)), repeats[1])


def s6(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    def spoil() -> None:
        bench.shell(f"chown -R root:root {VOLUME}")

    volume = Volume(bench, 1000)
    ours, upstream, chown = volume.walkers(spoil)
    # ~: x only where there is one already, as on directories; tmpfiles.d(5).
    bench.box.write("/etc/bench.conf", f"Z {VOLUME} ~0755 nova nova - -\n")
    argv = ["/usr/bin/systemd-tmpfiles", "--create", "/etc/bench.conf"]
    tmpfiles = volume.walker("systemd-tmpfiles", argv, None, spoil)
    bars = ((tmpfiles, 1.0), (upstream, 0.35), (chown, None))
    yield from against(
        bench, "S6", "permissions of 100,000 entries, all wrong", ours, bars, repeats[1]
    )


def s9(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    """strace(1) delays every system call that concerns the volume by 1 ms, for both alike."""
    directories = 20
    volume = Volume(bench, directories)
    places = [VOLUME, *(f"{VOLUME}/{number:05}" for number in range(directories))]
    calls = "newfstatat,statx,fchownat,fchmodat,openat,getdents64"
    # Stops at these calls only: a lock that is waited for is no call to a storage.
    slow = ["/usr/bin/strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"]
    slow += [word for place in places for word in ("-P", place)]
    slow += ["-e", f"trace={calls}", "-e", f"inject={calls}:delay_exit=1000"]
    ours, _, chown = volume.walkers(lambda: None)
    ours.argv, chown.argv = slow + ours.argv, slow + chown.argv
    what = "2,000 entries all right, 1 ms for each metadata call"
    yield from against(bench, "S9", what, ours, ((chown, 0.12),), repeats[1])


# --- S7, S8: a copied tree -----------------------------------------------------------------------


def _tree(bench: Bench) -> Callable[[], None]:
    """A mounted tree and the document that copies it; returns the check of a copy."""
    bench.configure(tree_copy())
    bench.grow(f"{CONFIG_FILES}/tree", *TREE_SIZE, TREE_FILE)
    return lambda: checks.copied(bench, *TREE_SIZE)


def s7(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    check = _tree(bench)
    ours, upstream = pair(bench, SET_CONFIGS, user="root", first=True, after=check)
    argv = ["/bin/cp", "-a", f"{CONFIG_FILES}/tree", COPY]
    copy = Contender("cp -a", argv, "root", bench.fresh, check)
    what = "first copy of 10,000 files, 100 MB"
    yield from against(bench, "S7", what, ours, ((upstream, 0.40), (copy, 1.7)), repeats[1])


def s8(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    check = _tree(bench)
    ours, upstream = pair(bench, SET_CONFIGS, user="root", after=check)
    argv = ["/usr/bin/rsync", "-ac", f"{CONFIG_FILES}/tree/", f"{COPY}/"]

    def copied() -> None:
        bench.fresh()
        bench.run(argv)

    rsync = Contender("rsync -ac", argv, "root", copied, check)
    what = "restart with the same, unchanged"
    yield from against(bench, "S8", what, ours, ((upstream, 0.25), (rsync, 1.5)), repeats[1])


# --- S10, S11: growth ----------------------------------------------------------------------------


def s10(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    small = {}
    nova_compute(bench)
    ours, upstream = pair(bench, START, first=True)
    for count in bench.counts:
        in_turn(bench, (ours, upstream), repeats[1], count)
        mine, theirs = statistics.median(ours.peaks), statistics.median(upstream.peaks)
        small[count] = mine
        named = f"upstream {theirs / 1024:.1f} MB"
        bar = 1.0 if count == 1 else None
        yield Line("S10", "peak memory of S1", count, _megabytes(mine), named, mine / theirs, bar)
    volume = Volume(bench, 10_000)
    for count in bench.counts:
        walk = bench.run(SET_CONFIGS, "root", count)[1]
        volume.check()
        what = "peak memory, 1,000,000 entries: MB more than S1"
        more = (walk - small[count]) / 1024
        bar = 5.0 if count == 1 else None
        named = f"S1 {_megabytes(small[count])}"
        yield Line("S10", what, count, _megabytes(walk), named, more, bar)


def _megabytes(kibibytes: float) -> str:
    return f"{kibibytes / 1024:.1f} MB"


def _sizes(bench: Bench, walk: bool) -> list[Contender]:
    """No entries, 1,000 and 100,000: walked with all right, or copied for the first time."""
    top = VOLUME if walk else f"{CONFIG_FILES}/tree"
    bench.configure({"command": "/bin/true"})
    bench.fresh()
    bench.install(OURS)

    def sized(directories: int) -> Contender:
        place = f"{top}/{directories}"
        bench.grow(place, directories, 99)
        bench.shell(f"chown -R nova:nova {place}")

        def before() -> None:
            bench.box.document(tree_owner(place) if walk else tree_copy(place))
            if not walk:
                bench.fresh()

        def after() -> None:
            seen, uid = (place, UID) if walk else (COPY, 0)
            checks.tree(bench, seen, directories, 99, uid)

        before()
        bench.run(SET_CONFIGS)
        return Contender(str(directories), SET_CONFIGS, "root", before, after)

    return [sized(directories) for directories in (0, 10, 1000)]


def s11(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    """What each entry costs beyond an empty run, at 100,000 against at 1,000 entries, in turn."""
    for what, walk in (
        ("growth of S5, 1,000 to 100,000 entries", True),
        ("growth of S7, 1,000 to 100,000 entries", False),
    ):
        sizes = _sizes(bench, walk)
        for count in bench.counts:
            seconds: list[list[float]] = [[], [], []]
            for _ in range(repeats[1]):
                for some, times in ((sizes[:2], 3), (sizes[2:], 1)):
                    in_turn(bench, some, times, count)
                for kept, size in zip(seconds, sizes, strict=True):
                    kept.extend(size.seconds)
            empty, few, many = map(statistics.median, seconds)
            each, base = (many - empty) / 100_000, (few - empty) / 1_000
            shown = (f"{each * 1e6:.1f} us each", f"{base * 1e6:.1f} us each")
            bar = 1.15 if count == 1 else None
            yield Line("S11", what, count, *shown, each / base, bar)


ROWS = {"S1": s1, "S2": s2, "S3": s3, "S4": s4, "S5": s5, "S6": s6, "S7": s7, "S8": s8, "S9": s9,
        "S10": s10, "S11": s11}  # fmt: skip
