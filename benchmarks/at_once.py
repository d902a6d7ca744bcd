"""S12: the containers of one node all start at once, as after a reboot or an upgrade.

Sixty roots over one image: each an overlay whose lower layers all share, as the containers of an
engine do, with an empty upper layer of its own, so that each start is the first one in its
container. The starts wait at a gate until all have entered their root; the clock runs from the
gate's opening to the end of the last. CPU time is that of every process of every start, wait4(2).
"""

import subprocess
from collections.abc import Iterator

import checks
import installed
from container import ENVIRON, OURS, UPSTREAM, USER, Bench, Broken, processors
from rows import START, Repeats, nova_compute
from sandbox import VENV, Sandbox
from table import Line, line

STARTS = 60
MACHINE = "/srv/machine"  # the lower layer of the sandbox itself
NODE = "/srv/node"
BAR = 0.25

# One line in, [roots, argv, environment, (uid, gid, groups), processors]; one line out: wall
# seconds, CPU seconds, how many have failed. The log of all goes into a pipe that is read.
_RUNNER = r"""
import _signal, posix, sys, time
null = posix.open("/dev/null", posix.O_RDWR)
log, into = posix.pipe()
reader = [(posix.POSIX_SPAWN_DUP2, log, 0), (posix.POSIX_SPAWN_DUP2, null, 1)]
posix.posix_spawn("/bin/cat", ["cat"], {}, file_actions=reader)
posix.close(log)

def enter(root):
    posix.chroot(root)
    posix.chdir("/")
    for to, fd in enumerate((null, into, into)):
        posix.dup2(fd, to)
    for number in (13, 25):  # SIGPIPE and SIGXFSZ, which Python ignores
        _signal.signal(number, _signal.SIG_DFL)
    posix.setgroups(groups)
    posix.setresgid(gid, gid, gid)
    posix.setresuid(uid, uid, uid)

while line := sys.stdin.readline():
    roots, argv, environ, (uid, gid, groups), processors = eval(line)
    posix.sched_setaffinity(0, processors)
    shut, gate = posix.pipe()
    waiting, ready = posix.pipe()
    children = []
    for root in roots:
        child = posix.fork()
        if child == 0:
            try:
                posix.close(gate)
                enter(root)
            finally:
                posix.write(ready, b".")
            posix.read(shut, 1)
            posix.execve(argv[0], argv, environ)
        children.append(child)
    left = len(roots)
    while left:
        left -= len(posix.read(waiting, left))
    start = time.perf_counter()
    posix.close(gate)
    ended = [posix.wait4(child, 0) for child in children]
    wall = time.perf_counter() - start
    for fd in (shut, waiting, ready):
        posix.close(fd)
    spent = sum(usage.ru_utime + usage.ru_stime for _, _, usage in ended)
    print(wall, spent, sum(status != 0 for _, status, _ in ended), flush=True)
"""


class Node:
    """The sandbox as an image, and sixty containers of it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.roots = [f"{NODE}/{number}/root" for number in range(STARTS)]
        bench.shell(f"mkdir -p {NODE} && mount -t tmpfs -o mode=0755 tmpfs {NODE}")

    def build(self, program: str) -> None:
        """The image: all that was ever written in the sandbox, with one of the programs."""
        bench = self._bench
        bench.install(program)
        bench.fresh()
        bench.shell(f"rm -rf {NODE}/image")
        # Its layers cannot be mounted a second time inside: they are not in its mount namespace.
        inside = f"/proc/{bench.box.pid}"
        copy = ["cp", "-a", f"{inside}/fd/3/.", f"{inside}/root{NODE}/image"]
        subprocess.run(copy, check=True)

    def renew(self) -> None:
        """Every container anew, with nothing in its upper layer. The old ones are gone."""
        package = installed.package()
        self._bench.shell(
            f"cd {NODE}\n"
            f"for number in $(seq 0 {STARTS - 1}); do\n"
            "  if [ -e $number ]; then umount -R $number/root; rm -rf $number; fi\n"
            "  mkdir $number $number/upper $number/work $number/root\n"
            "  mount -t overlay -o redirect_dir=off,index=off,metacopy=off,"
            f"lowerdir=image:{MACHINE},upperdir=$number/upper,workdir=$number/work"
            " overlay $number/root\n"
            f"  for place in /proc /dev {VENV} {package}; do\n"
            "    mount --bind $place $number/root$place\n"
            "  done\n"
            "done"
        )

    def start(self, user: str, count: int) -> tuple[float, float]:
        """Wall and CPU seconds of all starts together, each looked at. Raises Broken."""
        bench = self._bench
        uid, gid, groups, _ = bench.box.ids(user)
        ids = (uid, gid, groups)
        question = (self.roots, START, ENVIRON, ids, processors(count))
        wall, spent, failed = bench.ask(_RUNNER, question)
        if failed != "0":
            raise Broken(f"{failed} of {STARTS} starts as {user} have failed")
        for root in self.roots:
            checks.nova_compute(bench, root)
        return float(wall), float(spent)


def s12(bench: Bench, repeats: Repeats) -> Iterator[Line]:
    what = f"{STARTS} first starts at once"
    with Sandbox(binds=[("/", MACHINE, True)]) as box:
        image = Bench(box)
        try:
            nova_compute(image)
            node = Node(image)
            for count in bench.counts:
                ours, upstream = _measure(node, repeats[1], count)
                for number, kind in enumerate(("wall", "CPU")):
                    mine = [run[number] for run in ours]
                    theirs = [run[number] for run in upstream]
                    bar = BAR if count == 2 else None
                    named = f"{what}, {kind}"
                    yield line("S12", named, count, mine, ("upstream", theirs), bar)
        finally:
            image.close()


def _measure(
    node: Node, times: int, count: int
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    ours: list[tuple[float, float]] = []
    upstream: list[tuple[float, float]] = []
    contenders = ((OURS, "root", ours), (UPSTREAM, USER, upstream))
    for number in range(times):
        for program, user, found in contenders[:: -1 if number % 2 else 1]:
            node.build(program)
            node.renew()
            found.append(node.start(user, count))
    return ours, upstream
