"""Whoever started us may have left anything behind: signals, masks, descriptors, limits, a umask.

A start sets what it needs before anything else; what it set for itself is not the service's.
"""

import os
import resource
import signal
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest
from documents import document, entry
from sandbox import Sandbox

MOUNTED = "/var/lib/kolla/config_files/ca-certificates"
ANCHORS = "/usr/local/share/ca-certificates"
UPDATE = "#!/bin/sh\necho run >>/updates\nexit $(cat /update-exit)\n"
COMMAND = ["sh", "-c", "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; umask"]


def furnish(box: Sandbox) -> None:
    box.adduser("svc", 4321)
    box.mkdir(ANCHORS)
    for name in os.listdir(box.host(ANCHORS)):
        box.remove(f"{ANCHORS}/{name}")
    box.write("/usr/sbin/update-ca-certificates", UPDATE, mode=0o755)
    box.write("/update-exit", "0")
    box.write(f"{MOUNTED}/a.crt", "A")
    box.source("s", "from the operator")
    box.write("/usr/local/bin/kolla_extend_start", "export EXTENDED=1\n")
    box.document({**document(entry("s", "/etc/s"), user="svc"), "command": COMMAND})


def start(
    box: Sandbox, before: Callable[[], None] | None = None, umask: int = 0o022
) -> CompletedProcess[str]:
    env = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    return box.run(["kolla_start"], env=env, umask=umask, before_exec=before)


def ignore(*signals: int) -> Callable[[], None]:
    def before() -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)

    return before


def block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def closed() -> None:
    for fd in (0, 1, 2):
        os.close(fd)


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))


def no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


STATES: dict[str, Callable[[], None]] = {
    "SIGCHLD ignored": ignore(signal.SIGCHLD),
    "SIGCHLD, SIGPIPE and SIGXFSZ ignored": ignore(signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ),
    "SIGTERM, SIGINT and SIGHUP ignored": ignore(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    "all blocked": block,
    "no core": no_core,
}


@pytest.mark.parametrize("state", STATES)
def test_certificates_are_installed_whatever_was_inherited(sandbox: Sandbox, state: str) -> None:
    furnish(sandbox)
    done = start(sandbox, STATES[state])
    assert done.returncode == 0, done.stderr
    assert os.listdir(sandbox.host(ANCHORS)) == ["kolla-customca-a.crt"]
    assert sandbox.read("/updates") == "run\n"
    assert sandbox.read("/etc/s") == "from the operator"
    again = start(sandbox, STATES[state])
    assert again.returncode == 0, again.stderr
    assert sandbox.read("/updates") == "run\n"


@pytest.mark.parametrize("state", STATES)
def test_the_service_gets_default_signals(sandbox: Sandbox, state: str) -> None:
    furnish(sandbox)
    done = start(sandbox, STATES[state])
    assert done.returncode == 0, done.stderr
    masks = dict(line.split(":\t") for line in done.stdout.splitlines()
                 if line.startswith("Sig"))  # fmt: skip
    assert int(masks["SigBlk"], 16) == 0, masks
    ignored = int(masks["SigIgn"], 16)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT):
        assert not ignored & 1 << (number - 1), (number, masks)


@pytest.mark.parametrize("state", ["SIGCHLD ignored", "all blocked"])
def test_an_update_that_fails_is_seen_all_the_same(sandbox: Sandbox, state: str) -> None:
    """The exit code of a child is not lost with SIGCHLD."""
    furnish(sandbox)
    sandbox.write("/update-exit", "3")
    done = start(sandbox, STATES[state])
    assert done.returncode == 1, done.stderr
    assert "exit code 3" in done.stderr and "Traceback" not in done.stderr


def test_without_standard_streams(sandbox: Sandbox) -> None:
    """A file that is opened next must not become the log."""
    furnish(sandbox)
    done = start(sandbox, closed)
    assert done.returncode in (0, 1)
    assert sandbox.read("/etc/s") == "from the operator"
    for path in ("/etc/kolla/defaults/state", "/run_command", "/etc/kolla/options"):
        assert "INFO" not in sandbox.read(path) and "ERROR" not in sandbox.read(path)


def test_a_log_whose_reader_is_gone(sandbox: Sandbox) -> None:
    """Neither the shell nor the update command is killed for what it writes there."""
    furnish(sandbox)
    sandbox.write("/usr/sbin/update-ca-certificates", f"{UPDATE}exit\n".replace(
        "exit $", "echo updating >&2; echo updating; exit $"), mode=0o755)  # fmt: skip
    sandbox.write("/usr/local/bin/kolla_extend_start", "export EXTENDED=1\n")
    command = ["sh", "-c", "echo started >/srv/started"]
    sandbox.document({**document(entry("s", "/etc/s")), "command": command})

    def nobody_reads() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 2)

    for number in (1, 2):
        done = start(sandbox, nobody_reads)
        assert done.returncode == 0
        assert sandbox.read("/srv/started") == "started\n"
        sandbox.remove("/srv/started")
        sandbox.write(f"{MOUNTED}/a.crt", f"A{number}")
    assert sandbox.read("/updates") == "run\nrun\n"


def test_what_the_script_does_to_a_signal_is_the_service_s(sandbox: Sandbox) -> None:
    furnish(sandbox)
    sandbox.write("/usr/local/bin/kolla_extend_start", "trap '' PIPE\n")
    done = start(sandbox)
    assert done.returncode == 0, done.stderr
    (ignored,) = (line.split()[1] for line in done.stdout.splitlines() if "SigIgn" in line)
    assert int(ignored, 16) == 1 << (signal.SIGPIPE - 1)


def test_little_memory_is_an_error(sandbox: Sandbox) -> None:
    """Also where it does not suffice to load this program: a line, no traceback."""
    furnish(sandbox)
    sandbox.mark()
    said = 0
    for megabytes in range(3, 12):

        def little(size: int = megabytes << 20) -> None:
            resource.setrlimit(resource.RLIMIT_DATA, (size, size))

        done = start(sandbox, little)
        if "Fatal Python error" in done.stderr:
            continue  # the interpreter itself did not come up
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode == 0:
            break
        if "ERROR" in done.stderr:
            assert done.returncode == 1 and "raise the memory limit" in done.stderr, done.stderr
            said += 1
    assert said


def test_a_limit_on_file_sizes_is_an_error(sandbox: Sandbox) -> None:
    """SIGXFSZ would kill it in the middle; EFBIG is said, and nothing is half written."""
    furnish(sandbox)
    sandbox.source("s", "x" * 5000)
    sandbox.write("/etc/s", "the image's")
    done = start(sandbox, small_files)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr and "ERROR" in done.stderr
    assert sandbox.read("/etc/s") == "the image's"
    assert start(sandbox).returncode == 0


@pytest.mark.parametrize("limit", [3, 4, 5, 6, 8, 12, 16])
def test_a_limit_on_descriptors_is_an_error(sandbox: Sandbox, limit: int) -> None:
    furnish(sandbox)

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    done = start(sandbox, few)
    assert "a fault of kolla_start" not in done.stderr, done.stderr[-1500:]
    if "Too many open files" in done.stderr and "Traceback" not in done.stderr:
        assert "raise the limit of open files (ulimit -n)" in done.stderr
    if limit > 5:  # less than the interpreter itself needs says nothing of us
        assert done.returncode in (0, 1), done.stderr[-1500:]
    assert start(sandbox).returncode == 0


@pytest.mark.parametrize("umask", [0, 0o027, 0o077, 0o777])
def test_the_service_inherits_the_umask_and_the_files_do_not(sandbox: Sandbox, umask: int) -> None:
    furnish(sandbox)
    done = start(sandbox, umask=umask)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{umask:04o}"
    for path, mode in (("/etc/s", 0o644), ("/etc/kolla/defaults/lock", 0o600),
                       ("/etc/kolla/defaults", 0o700), ("/run_command", 0o644),
                       (f"{ANCHORS}/kolla-customca-a.crt", 0o644)):  # fmt: skip
        assert sandbox.mode(path) == mode, f"{path}: {sandbox.mode(path):o}"
