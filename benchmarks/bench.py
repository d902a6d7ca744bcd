"""`make bench`: how long whole runs take, beside the programs they are measured against.

    bench.py [--quick] [--only S5] [--markdown] [--into README.md]

Everything runs in one sandbox (tests/sandbox.py), the programs of a row in turn (A B A B), each
as a whole process started by a small runner inside, so that neither this program nor the entry
into the namespaces is in the figures. What a run needs to find (its own state of the last start,
wrong owners, no copy yet) is prepared before the clock starts. benchmarks/README.md says what the
rows mean; it must not be made faster by leaving anything out that a container would see.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TREE / "tests"))

import peer  # noqa: E402
from sandbox import CONFIG_FILES, VENV, Sandbox, Unusable  # noqa: E402

KOLLA_VENV = "/var/lib/kolla/venv"  # where upstream's images keep the Python that runs Kolla
PATH = f"{KOLLA_VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRON = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
NAMES = ("kolla_start", "kolla_set_configs", "kolla_copy_cacerts", "kolla_install_projects")
OURS, UPSTREAM = "kolla_start", "upstream"
VOLUME = "/var/lib/volume"
COPY = "/etc/tree"
FILE_BYTES = 10_000

# One line in, [argv, environment]; one line out: seconds, exit code, peak memory in KiB.
# The log goes where an engine has it go: into a pipe that another process reads.
# It imports nothing: the peak of a child counts from its parent's size at the fork, wait4(2).
_RUNNER = r"""
import posix, sys, time
null = posix.open("/dev/null", posix.O_RDWR)
log, into = posix.pipe()
reader = [(posix.POSIX_SPAWN_DUP2, log, 0), (posix.POSIX_SPAWN_DUP2, null, 1)]
posix.posix_spawn("/bin/cat", ["cat"], {}, file_actions=reader)
posix.close(log)
same = [(posix.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate((null, into, into))]
while line := sys.stdin.readline():
    argv, environ = eval(line)
    start = time.perf_counter()
    child = posix.posix_spawn(argv[0], argv, environ, file_actions=same, setsigdef=[13, 25])
    _, status, usage = posix.wait4(child, 0)
    print(time.perf_counter() - start, posix.waitstatus_to_exitcode(status), usage.ru_maxrss,
          flush=True)
"""

# argv: a directory, how many directories in it, files in each, bytes in each. Every file differs.
_GROW = r"""
import os, sys
top, directories, files, size = sys.argv[1], *map(int, sys.argv[2:])
os.makedirs(top)
for d in range(directories):
    os.mkdir(f"{top}/{d:05}")
    for f in range(files):
        with open(f"{top}/{d:05}/file{f:03}", "wb") as out:
            if size:
                out.write((b"%d/%d " % (d, f) * size)[:size])
"""


class Broken(Exception):
    """A measured program did not do its work: no figure of it would mean anything."""


class Bench:
    """The sandbox, both programs in it, and a runner for each user that runs them."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self._runners: dict[str, subprocess.Popen[str]] = {}
        self._ours = {name: box.read_bytes(f"/usr/local/bin/{name}") for name in NAMES}
        scripts = ("start.sh", "set_configs.py", "copy_cacerts.sh", "install_projects.sh")
        self._peer = {
            name: (peer.base() / script).read_bytes()
            for name, script in zip(NAMES, scripts, strict=True)
        }
        box.adduser("nova", 42436, groups=["kolla"])
        box.write(
            "/etc/shadow", box.read("/etc/shadow") + "nova:*:19000:0:99999:7:::\n", mode=0o640
        )
        self._upstream_python()
        rules = (peer.base() / "sudoers").read_bytes()
        box.write("/etc/sudoers", rules, mode=0o440)
        box.write("/usr/local/bin/kolla_extend_start", "", mode=0o644)
        box.mkdir("/var/log/kolla/nova", owner="nova")

    def _upstream_python(self) -> None:
        """A virtual environment with PyYAML, as a Kolla image has it, first in PATH."""
        self.box.run(["/usr/bin/python3", "-m", "venv", "--without-pip", KOLLA_VENV], check=True)
        site = f"{KOLLA_VENV}/lib/{os.path.basename(os.path.realpath('/usr/bin/python3'))}"
        for package in ("yaml", "_yaml"):
            source = f"{VENV}/lib/{os.path.basename(site)}/site-packages/{package}"
            self.box.run(["cp", "-a", source, f"{site}/site-packages/"], check=True)

    def close(self) -> None:
        for runner in self._runners.values():
            runner.communicate()

    def run(
        self, argv: Sequence[str], user: str = "root", environ: dict[str, str] | None = None
    ) -> tuple[float, int]:
        """Seconds and peak memory (KiB) of a run that has to succeed. Raises Broken."""
        runner = self._runners.get(user)
        if runner is None:
            runner = self._runners[user] = self.box.popen(
                ["/usr/bin/python3", "-ISu", "-c", _RUNNER],
                user=user,
                stdin=subprocess.PIPE,
                stderr=None,
            )
        assert runner.stdin and runner.stdout
        given = {**ENVIRON, **(environ or {})}
        runner.stdin.write(f"{(list(argv), given)!r}\n")
        runner.stdin.flush()
        seconds, code, peak = runner.stdout.readline().split()
        if code != "0":
            again = self.box.run(argv, env=given, user=user, timeout=600)
            said = (again.stdout + again.stderr)[-2000:]
            raise Broken(f"{' '.join(argv)}: exit code {code}\n{said}")
        return float(seconds), int(peak)

    def install(self, program: str) -> None:
        """Put one of the programs under the installed names."""
        for name, text in (self._ours if program == OURS else self._peer).items():
            self.box.write(f"/usr/local/bin/{name}", text, mode=0o755)

    def shell(self, script: str) -> None:
        self.box.run(["/bin/sh", "-ec", script], check=True, timeout=600)

    def grow(self, top: str, directories: int, files: int, size: int = 0) -> None:
        numbers = [str(number) for number in (directories, files, size)]
        argv = ["/usr/bin/python3", "-ISc", _GROW, top, *numbers]
        self.box.run(argv, check=True, timeout=600)

    def configure(self, document: object) -> None:
        self.shell(f"rm -rf {CONFIG_FILES}/* {VOLUME} {COPY}")
        self.box.document(document)

    def fresh(self) -> None:
        """The container as the image has it: neither program has ever run in it."""
        self.shell(
            "rm -rf /etc/kolla/* /run_command /configured /etc/nova /etc/ceph /etc/pki/CA "
            f"/etc/pki/libvirt /etc/nvme /var/lib/nova {COPY}"
        )
        self.box.mkdir("/var/lib/nova", owner="nova")


@dataclass
class Contender:
    """One program of a row: what is done before the clock starts, and what is then run."""

    name: str
    argv: list[str]
    user: str = "root"
    before: Callable[[], None] = lambda: None
    environ: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Line:
    """One line of the table. `bar`: the greatest value of `ratio` that is good enough."""

    row: str
    what: str
    ours: str
    theirs: str
    ratio: float
    bar: float | None

    def mark(self) -> str:
        if self.bar is None:
            return ""
        return "ok" if self.ratio <= self.bar else "FALLS SHORT"


def in_turn(bench: Bench, contenders: Sequence[Contender], times: int) -> None:
    for _ in range(times):
        for one in contenders:
            one.before()
            seconds, peak = bench.run(one.argv, one.user, one.environ)
            one.seconds.append(seconds)
            one.peaks.append(peak)


def lines(
    row: str, what: str, ours: Contender, bars: Sequence[tuple[Contender, float | None]]
) -> list[Line]:
    mine = statistics.median(ours.seconds)
    found = []
    for other, bar in bars:
        theirs = statistics.median(other.seconds)
        named = f"{other.name} {shown(theirs)}"
        found.append(Line(row, what, shown(mine), named, mine / theirs, bar))
    return found


def shown(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


# --- documents -----------------------------------------------------------------------------------


def nova_compute(bench: Bench) -> None:
    """examples/nova-compute with its ten files, and a service that ends at once."""
    source = TREE / "examples/nova-compute"
    document = json.loads((source / "config.json").read_text())
    document["command"] = "/bin/true"
    bench.configure(document)
    for entry in document["config_files"]:
        name = os.path.basename(entry["source"])
        bench.box.source(name, (source / name).read_bytes())


def tree_owner(place: str = VOLUME) -> dict[str, object]:
    """`permissions` of a whole volume, to which `chown -R` is the equal."""
    walk = {"path": place, "owner": "nova:nova", "perm": "0644", "recurse": True}
    return {"command": "/bin/true", "permissions": [walk]}


def tree_copy(place: str = f"{CONFIG_FILES}/tree") -> dict[str, object]:
    copy = {"source": place, "dest": COPY, "owner": "root", "perm": "0644"}
    return {"command": "/bin/true", "config_files": [copy]}


# --- rows ----------------------------------------------------------------------------------------

Repeats = tuple[int, int]  # of short rows, of long ones


def _pair(
    bench: Bench,
    argv: list[str],
    *,
    first: bool = False,
    user: str = "nova",
    ours_as: str = "root",
    then: list[str] | None = None,
) -> tuple[Contender, Contender]:
    """Both programs on the same document, each in a container where only it has ever run.

    `first`: it has not run before either; else it has, with the same document.
    """

    def before(program: str, who: str) -> Callable[[], None]:
        def prepare() -> None:
            bench.install(program)
            bench.fresh()
            if not first:
                bench.run(argv, who)

        return prepare

    measured = then or argv
    return (
        Contender("ours", measured, ours_as, before(OURS, ours_as)),
        Contender("upstream", measured, user, before(UPSTREAM, user)),
    )


START = ["/usr/local/bin/kolla_start"]
SET_CONFIGS = ["/usr/local/bin/kolla_set_configs"]
BARE = ["/usr/bin/python3", "-I", "-S", "-c", "pass"]


def s1(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    nova_compute(bench)
    bare = Contender("python3 -I -S", BARE)
    for what, first in (("first start, 10 files", True), ("restart, 10 files", False)):
        bare.seconds.clear()
        ours, upstream = _pair(bench, START, first=first)
        in_turn(bench, (ours, upstream, bare), repeats[0])
        yield from lines("S1", what, ours, ((upstream, 0.30), (bare, 3.0)))


def s2(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    nova_compute(bench)
    for what, first in (("first start through sudo", True), ("restart through sudo", False)):
        ours, upstream = _pair(bench, START, first=first, ours_as="nova")
        in_turn(bench, (ours, upstream), repeats[0])
        yield from lines("S2", what, ours, ((upstream, 0.55),))


def s3(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    nova_compute(bench)
    for number in range(3):
        bench.shell(
            f"mkdir -p {CONFIG_FILES}/ca-certificates && "
            f"openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=bench{number} "
            f"-keyout /dev/null -out {CONFIG_FILES}/ca-certificates/bench{number}.crt 2>/dev/null"
        )
    ours, upstream = _pair(bench, START)
    in_turn(bench, (ours, upstream), repeats[1])
    yield from lines("S3", "restart, three custom CAs unchanged", ours, ((upstream, 0.08),))


def s4(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    nova_compute(bench)
    ours, upstream = _pair(bench, SET_CONFIGS, user="root", then=[*SET_CONFIGS, "--check"])
    in_turn(bench, (ours, upstream), repeats[0])
    yield from lines("S4", "--check, unchanged", ours, ((upstream, 0.35),))


def _walkers(bench: Bench, before: Callable[[], None]) -> tuple[Contender, Contender, Contender]:
    def prepare(program: str) -> Callable[[], None]:
        def do() -> None:
            bench.install(program)
            before()

        return do

    return (
        Contender("ours", SET_CONFIGS, "root", prepare(OURS)),
        Contender("upstream", SET_CONFIGS, "root", prepare(UPSTREAM)),
        Contender("chown -R", ["/bin/chown", "-R", "nova:nova", VOLUME], "root", before),
    )


def _volume(bench: Bench, directories: int, files: int = 99) -> None:
    bench.configure(tree_owner())
    bench.fresh()
    bench.grow(VOLUME, directories, files)
    bench.shell(f"chown -R nova:nova {VOLUME}")
    bench.install(OURS)
    bench.run(SET_CONFIGS)


def s5(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    _volume(bench, 1000)
    ours, upstream, chown = _walkers(bench, lambda: None)
    in_turn(bench, (ours, upstream, chown), repeats[1])
    what = "permissions of 100,000 entries, all right"
    yield from lines("S5", what, ours, ((upstream, 0.10), (chown, 1.0)))


def s6(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    _volume(bench, 1000)
    ours, upstream, chown = _walkers(bench, lambda: bench.shell(f"chown -R root:root {VOLUME}"))
    in_turn(bench, (ours, upstream, chown), repeats[1])
    what = "permissions of 100,000 entries, all wrong"
    yield from lines("S6", what, ours, ((upstream, 0.30), (chown, 1.2)))


def s7(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    bench.configure(tree_copy())
    bench.grow(f"{CONFIG_FILES}/tree", 100, 100, FILE_BYTES)
    ours, upstream = _pair(bench, SET_CONFIGS, user="root", first=True)
    copy = Contender("cp -a", ["/bin/cp", "-a", f"{CONFIG_FILES}/tree", COPY], "root", bench.fresh)
    in_turn(bench, (ours, upstream, copy), repeats[1])
    what = "first copy of 10,000 files, 100 MB"
    yield from lines("S7", what, ours, ((upstream, 0.30), (copy, 1.5)))


def s8(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    bench.configure(tree_copy())
    bench.grow(f"{CONFIG_FILES}/tree", 100, 100, FILE_BYTES)
    # A source that is younger than the coarsest clock is not trusted yet: here it would be the
    # one of the first run, and of no other.
    time.sleep(2)
    ours, upstream = _pair(bench, SET_CONFIGS, user="root")
    rsync = Contender("rsync -a", ["/usr/bin/rsync", "-a", f"{CONFIG_FILES}/tree/", f"{COPY}/"])

    def copied() -> None:
        bench.fresh()
        bench.run(rsync.argv)

    rsync.before = copied
    in_turn(bench, (ours, upstream, rsync), repeats[1])
    what = "restart with the same, unchanged"
    yield from lines("S8", what, ours, ((upstream, 0.05), (rsync, 1.0)))


def s9(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    """strace(1) delays every system call that concerns the volume by 1 ms, for both alike."""
    directories = 20
    _volume(bench, directories)
    places = [VOLUME, *(f"{VOLUME}/{number:05}" for number in range(directories))]
    calls = "newfstatat,statx,fchownat,fchmodat,openat,getdents64"
    # Stops at these calls only: a lock that is waited for is no call to a storage.
    slow = ["/usr/bin/strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"]
    slow += [word for place in places for word in ("-P", place)]
    slow += ["-e", f"trace={calls}", "-e", f"inject={calls}:delay_exit=1000"]
    ours, _, chown = _walkers(bench, lambda: None)
    ours.argv, chown.argv = slow + ours.argv, slow + chown.argv
    in_turn(bench, (ours, chown), repeats[1])
    what = "2,000 entries all right, 1 ms for each metadata call"
    yield from lines("S9", what, ours, ((chown, 0.15),))


def s10(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    nova_compute(bench)
    ours, upstream = _pair(bench, START, first=True)
    in_turn(bench, (ours, upstream), repeats[1])
    mine, theirs = statistics.median(ours.peaks), statistics.median(upstream.peaks)
    shown_mine = f"{mine / 1024:.1f} MB"
    named = f"upstream {theirs / 1024:.1f} MB"
    yield Line("S10", "peak memory of S1", shown_mine, named, mine / theirs, 1.0)
    _volume(bench, 10_000)
    walk = bench.run(SET_CONFIGS)[1]
    more = (walk - mine) / 1024
    what = "peak memory, 1,000,000 entries: MB more than S1"
    yield Line("S10", what, f"{walk / 1024:.1f} MB", f"S1 {shown_mine}", more, 5.0)


def _mounted(bench: Bench, document: dict[str, object], first: bool) -> Callable[[], None]:
    def mount() -> None:
        bench.box.document(document)
        if first:
            bench.fresh()

    return mount


def s11(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    """What each entry costs beyond an empty run, at 100,000 against at 1,000 entries, in turn."""
    for what, top, document, first in (
        ("growth of S5, 1,000 to 100,000 entries", VOLUME, tree_owner, False),
        ("growth of S7, 1,000 to 100,000 entries", f"{CONFIG_FILES}/tree", tree_copy, True),
    ):
        bench.configure({"command": "/bin/true"})
        bench.fresh()
        bench.install(OURS)
        sizes = []
        for directories in (0, 10, 1000):
            place = f"{top}/{directories}"
            bench.grow(place, directories, 99)
            bench.shell(f"chown -R nova:nova {place}")

            before = _mounted(bench, document(place), first)
            sizes.append(Contender(str(directories), SET_CONFIGS, "root", before))
            before()
            bench.run(SET_CONFIGS)
        for _ in range(repeats[1]):
            in_turn(bench, sizes[:2], 3)
            in_turn(bench, sizes[2:], 1)
        empty, few, many = (statistics.median(size.seconds) for size in sizes)
        each, base = (many - empty) / 100_000, (few - empty) / 1_000
        shown_each = f"{each * 1e6:.1f} us each"
        yield Line("S11", what, shown_each, f"{base * 1e6:.1f} us each", each / base, 1.15)


ROWS = {"S1": s1, "S2": s2, "S3": s3, "S4": s4, "S5": s5, "S6": s6, "S7": s7, "S8": s8, "S9": s9,
        "S10": s10, "S11": s11}  # fmt: skip


# --- output --------------------------------------------------------------------------------------


def machine() -> str:
    """What the figures were measured on, in one line."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ", 1)[1] for line in cpus if line.startswith("model name")), "?")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) >> 20
    python = subprocess.run(
        ["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True
    ).stdout.strip()
    linux = os.uname().release.partition("-")[0]
    return (
        f"{os.cpu_count()} x {model}, {memory} GiB, Linux {linux}, {python}, overlay with its "
        "upper layer on a tmpfs"
    )


HEADER = ("", "work", "ours", "against", "ratio", "bar", "")


def cells(line: Line) -> tuple[str, ...]:
    bar = "" if line.bar is None else f"{line.bar:.2f}"
    return line.row, line.what, line.ours, line.theirs, f"{line.ratio:.2f}", bar, line.mark()


def as_text(line: Line) -> str:
    row, what, ours, theirs, ratio, bar, mark = cells(line)
    return f"{row:4} {what:52} {ours:>12} {theirs:>26} {ratio:>6} {bar:>6} {mark}".rstrip()


def as_markdown(found: Sequence[Line]) -> str:
    rows = [HEADER, ("---",) * len(HEADER), *(cells(line) for line in found)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"`make bench` on {machine()}:\n\n{table}\n"


def into(path: Path, table: str) -> None:
    """Put the table between the two marks of a Markdown file."""
    begin, end = "<!-- measurements: begin -->\n", "<!-- measurements: end -->"
    text = path.read_text()
    head, _, rest = text.partition(begin)
    tail = rest.partition(end)[2]
    if not tail:
        raise SystemExit(f"{path}: no marks {begin.strip()} and {end} in it")
    path.write_text(f"{head}{begin}{table}{end}{tail}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", metavar="ROW", choices=list(ROWS))
    parser.add_argument("--quick", action="store_true", help="5 and 1 runs, not 15 and 5")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown too")
    parser.add_argument("--into", type=Path, metavar="FILE", help="put the table into a file")
    asked = parser.parse_args()
    reason = peer.missing()
    if reason:
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    repeats = (5, 1) if asked.quick else (15, 5)
    print(f"{machine()}\nmedians of {repeats[0]} runs in turn, {repeats[1]} of the long ones\n")
    print(as_text(Line(*HEADER[:4], 0, None)).replace("  0.00", " ratio") + "    bar")
    found: list[Line] = []
    try:
        with Sandbox() as box:
            bench = Bench(box)
            try:
                for row in asked.only or ROWS:
                    for line in ROWS[row](bench, repeats):
                        print(as_text(line), flush=True)
                        found.append(line)
            finally:
                bench.close()
    except (Unusable, Broken) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    short = sum(line.mark() == "FALLS SHORT" for line in found)
    print(f"\n{short} of {len(found)} fall short" if short else "\nevery bar is met")
    if asked.markdown:
        print(f"\n{as_markdown(found)}")
    if asked.into:
        into(asked.into, as_markdown(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
