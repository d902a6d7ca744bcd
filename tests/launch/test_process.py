"""The state that a command's process is in before its work, and how it ends whatever happens."""

import os
import re
import resource
import signal
from pathlib import Path

import pytest
from certificates import MOUNTED, Certificates
from launched import as_root, path_with, room, said, start
from sandbox import CONFIG_FILES, Sandbox

ALWAYS = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}


def inherited() -> None:
    """What nobody should start a program with."""
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    os.umask(0o777)


def test_all_is_set_before_the_work() -> None:
    code = """
import os, _signal
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
print(status["SigIgn"], status["SigBlk"], oct(os.umask(0)), flush=True)
made = os.open(f"/tmp/kolla_start-{os.getpid()}", os.O_CREAT | os.O_WRONLY, 0o640)
os.unlink(f"/tmp/kolla_start-{os.getpid()}")
print(oct(os.fstat(made).st_mode & 0o777), flush=True)
"""
    done = room(code, before=inherited)
    assert done.returncode == 0, done.stderr
    ignored, blocked, umask, mode = done.stdout.split()
    # The write that fails must be an error, not the end.
    ours = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert (int(ignored, 16), int(blocked, 16), umask, mode) == (ours, 0, "0o0", "0o640")


def test_a_signal_that_waited_is_not_lost() -> None:
    def blocked() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)

    assert room("pass", before=blocked).returncode == -signal.SIGTERM


def test_the_service_gets_the_umask_back_and_nothing_else(work: Path) -> None:
    found = said(start("report", env=path_with(work), before=inherited))
    assert found["umask"] == 0o777
    status = found["status"]
    assert isinstance(status, dict)
    own = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1  # the reporting Python's
    assert int(status["SigIgn"][0], 16) & ~own == 0
    assert int(status["SigBlk"][0], 16) == 0


@as_root
def test_certificates_where_children_are_not_to_be_waited_for(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    sandbox.write(f"{MOUNTED}/a.crt", "A")
    sandbox.document({"command": "/bin/true"})
    done = sandbox.run(["kolla_start"], env=ALWAYS, before_exec=inherited)
    assert done.returncode == 0, done.stderr
    assert certificates.installed() == {"kolla-customca-a.crt": "A"}
    sandbox.write(f"{MOUNTED}/a.crt", "B")
    sandbox.write("/update-fails", "")
    done = sandbox.run(["kolla_start"], env=ALWAYS, before_exec=inherited)
    assert done.returncode == 1
    assert "update-ca-certificates failed with exit code 1" in done.stderr


@as_root
def test_nothing_that_is_made_depends_on_a_umask(sandbox: Sandbox) -> None:
    sandbox.source("a", "a")
    entry = {"source": f"{CONFIG_FILES}/a", "dest": "/etc/x/y/a", "owner": "root", "perm": "0644"}
    sandbox.document({"command": "/bin/true", "config_files": [entry], "user": "nobody"})
    sandbox.mark()
    made = []
    for umask in (0o022, 0o777, 0):
        for path in ("/etc/x", "/etc/kolla/defaults", "/etc/kolla/options", "/run_command"):
            sandbox.remove(path)
        done = sandbox.run(["kolla_set_configs"], env=ALWAYS, umask=umask)
        assert done.returncode == 0, done.stderr
        made.append({path: change.mode for path, change in sandbox.changes().items()})
    assert made[0] == made[1] == made[2]
    assert made[0]["/etc/kolla/defaults/lock"] == 0o600
    assert made[0]["/etc/x/y"] == 0o755


# --- how it ends -------------------------------------------------------------------------------

WORLD = {
    "OSError(5, 'Input/output error', '/etc/x')": "/etc/x: Input/output error; mend it",
    "OSError(28, 'No space left on device', b'/etc/x')": "/etc/x: No space left on device; make",
    "PermissionError(13, 'Permission denied', '/etc/x')": "/etc/x: Permission denied; start the",
    "OSError(24, 'Too many open files')": "Too many open files; raise the limit of open files",
    "OSError(27, 'File too large', 'x')": "x: File too large; raise the limit of a file's size",
    "ChildProcessError(10, 'No child processes')": "No child processes; mend it",
    "OSError('odd')": "odd; mend it",
    "OSError()": "OSError; mend it",
    "Unsafe('/a belongs to others; move it')": "/a belongs to others; move it",
    "MemoryError()": "out of memory; raise",
    "RecursionError('maximum recursion depth exceeded')": "nested too deep",
    "errors.Failed('/etc/x: why')": "/etc/x: why",
    "errors.refuse('what; do')": "what; do",
}


@pytest.mark.parametrize("refused", [1, 2])
@pytest.mark.parametrize("what", WORLD)
def test_what_the_world_did_to_us_is_one_line(what: str, refused: int) -> None:
    code = f"from kolla_start.disk.walk import Unsafe\nraise {what}"
    done = room(code, refused=refused)
    assert (done.returncode, done.stdout) == (refused, "")
    (line,) = done.stderr.splitlines()
    assert f" ERROR {WORLD[what]}" in line


@pytest.mark.parametrize("what", ["ValueError('x')", "KeyError('x')", "AssertionError()"])
def test_a_bug_is_a_traceback(what: str) -> None:
    for refused in (1, 2):
        done = room(f"raise {what}", refused=refused)
        assert done.returncode == 2
        assert "a fault of kolla_start itself" in done.stderr
        assert "Traceback (most recent call last)" in done.stderr
        assert all(re.match(r"\d{4}-.* ERROR ", line) for line in done.stderr.splitlines())


LIMITS = {
    **{f"{number} files": (resource.RLIMIT_NOFILE, number) for number in range(3, 16)},
    **{f"{size} bytes": (resource.RLIMIT_FSIZE, size) for size in (0, 1, 100)},
}


@as_root
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("good", [True, False], ids=["good", "refused"])
def test_odd_limits_are_errors(sandbox: Sandbox, limit: str, good: bool) -> None:
    sandbox.source("a", "a" * 200)
    entry = {"source": f"{CONFIG_FILES}/a", "dest": "/etc/a", "owner": "root", "perm": "0600"}
    if not good:
        entry["perms"] = entry.pop("perm")
    sandbox.document({"command": "/bin/true", "config_files": [entry]})
    what, number = LIMITS[limit]

    def set_limit() -> None:
        resource.setrlimit(what, (number, number))

    done = sandbox.run(["kolla_start"], env=ALWAYS, before_exec=set_limit)
    assert "Traceback" not in done.stderr, done.stderr
    if " ERROR " not in done.stderr and done.returncode:
        # The interpreter itself, or its loader, got no further: its own word, and code.
        assert limit in ("3 files", "4 files"), done.stderr
        return
    assert done.returncode in ((0, 1) if good else (1,)), done.stderr
    assert done.returncode == 0 or re.search(r"ERROR .+[:;] .+", done.stderr)
