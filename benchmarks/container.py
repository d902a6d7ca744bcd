"""The container that everything is measured in: both programs, a service user, and a clock.

One sandbox (tests/lib/sandbox.py) stands for it. Programs are started by a small runner inside, so
that neither this process nor the entry into the namespaces is in the figures; how many processors
they may use is set before the clock starts and inherited, as a container engine's limit is.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TREE / "tests/lib"))

import peer  # noqa: E402
from sandbox import CONFIG_FILES, VENV, Sandbox  # noqa: E402

KOLLA_VENV = "/var/lib/kolla/venv"  # where upstream's images keep the Python that runs Kolla
PATH = f"{KOLLA_VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRON = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
NAMES = ("kolla_start", "kolla_set_configs", "kolla_copy_cacerts", "kolla_install_projects")
OURS, UPSTREAM = "kolla_start", "upstream"
USER, UID = "nova", 42436  # of the service
VOLUME = "/var/lib/volume"
COPY = "/etc/tree"

# One line in, [argv, environment, processors]; one line out: seconds, exit code, peak in KiB.
# The log goes where an engine has it go: into a pipe that another process reads, which is not
# bound to the container's processors.
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
    argv, environ, processors = eval(line)
    posix.sched_setaffinity(0, processors)
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


def missing() -> str | None:
    """Why nothing can be measured on this machine, or None."""
    for name in ("rsync", "strace", "sudo", "openssl", "systemd-tmpfiles"):
        if not shutil.which(name):
            return f"no {name} on this machine: run tests/setup.sh bench"
    return peer.missing()


def processors(count: int) -> list[int]:
    """The numbers of the first `count` processors that this process may use."""
    return sorted(os.sched_getaffinity(0))[:count]


def _before_all_others(pid: int) -> None:
    """Have a runner's programs run first, all alike: what else the machine does is no figure."""
    os.setpriority(os.PRIO_PROCESS, pid, -20)
    # Where the kernel groups processes by their sessions, only the group's own counts: sched(7).
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists():
        group.write_text("-20")


class Bench:
    """The sandbox, both programs in it, and a runner for each user that runs them.

    `counts`: how many processors each row is measured with, one after the other.
    """

    def __init__(self, box: Sandbox, counts: Sequence[int] = (1,)) -> None:
        self.box = box
        self.counts = counts
        self._runners: dict[str, subprocess.Popen[str]] = {}
        self._ours = {name: box.read_bytes(f"/usr/local/bin/{name}") for name in NAMES}
        scripts = ("start.sh", "set_configs.py", "copy_cacerts.sh", "install_projects.sh")
        self._peer = {
            name: (peer.base() / script).read_bytes()
            for name, script in zip(NAMES, scripts, strict=True)
        }
        box.adduser(USER, UID, groups=["kolla"])
        shadow = f"{box.read('/etc/shadow')}{USER}:*:19000:0:99999:7:::\n"
        box.write("/etc/shadow", shadow, mode=0o640)
        self._upstream_python()
        rules = (peer.base() / "sudoers").read_bytes()
        box.write("/etc/sudoers", rules, mode=0o440)
        box.write("/usr/local/bin/kolla_extend_start", "", mode=0o644)
        box.mkdir("/var/log/kolla/nova", owner=USER)

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

    def ask(self, script: str, question: object, user: str = "root") -> list[str]:
        """Words that a runner (a Python script, started once for each user) answers."""
        runner = self._runners.get(user + script)
        if runner is None:
            runner = self._runners[user + script] = self.box.popen(
                ["/usr/bin/python3", "-ISu", "-c", script],
                user=user,
                stdin=subprocess.PIPE,
                stderr=None,
            )
            _before_all_others(runner.pid)
        assert runner.stdin and runner.stdout
        runner.stdin.write(f"{question!r}\n")
        runner.stdin.flush()
        return runner.stdout.readline().split()

    def run(
        self,
        argv: Sequence[str],
        user: str = "root",
        count: int = 2,
        environ: dict[str, str] | None = None,
    ) -> tuple[float, int]:
        """Seconds and peak memory (KiB) of a run that has to succeed. Raises Broken."""
        given = {**ENVIRON, **(environ or {})}
        question = (list(argv), given, processors(count))
        seconds, code, peak = self.ask(_RUNNER, question, user)
        if code != "0":
            again = self.box.run(argv, env=given, user=user, timeout=600)
            said = (again.stdout + again.stderr)[-2000:]
            raise Broken(f"{' '.join(argv)}: exit code {code}\n{said}")
        return float(seconds), int(peak)

    def install(self, program: str) -> None:
        """Put one of the programs under the installed names."""
        for name, text in (self._ours if program == OURS else self._peer).items():
            self.box.write(f"/usr/local/bin/{name}", text, mode=0o755)

    def shell(self, script: str) -> str:
        """What a shell script inside says. Raises CalledProcessError."""
        done = self.box.run(["/bin/sh", "-ec", script], check=True, timeout=600)
        return done.stdout

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
            "rm -rf /etc/kolla/* /run/kolla /run_command /configured /etc/nova /etc/ceph "
            f"/etc/pki/CA /etc/pki/libvirt /etc/nvme /var/lib/nova {COPY}"
        )
        self.box.mkdir("/var/lib/nova", owner=USER)


@dataclass
class Contender:
    """One program of a row. `before` and `after`, which raises Broken, are off the clock."""

    name: str
    argv: list[str]
    user: str = "root"
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    seconds: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)


def in_turn(bench: Bench, contenders: Sequence[Contender], times: int, count: int) -> None:
    """Measure anew, each round in the other order, so that nobody always follows the same one."""
    for one in contenders:
        one.seconds.clear()
        one.peaks.clear()
    for number in range(times):
        for one in contenders[:: -1 if number % 2 else 1]:
            one.before()
            seconds, peak = bench.run(one.argv, one.user, count)
            one.after()
            one.seconds.append(seconds)
            one.peaks.append(peak)
