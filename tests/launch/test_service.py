"""What the service inherits, step by step; test_received.py holds the whole of it, end to end.

Each test runs the room's own functions in an interpreter as the commands have it (isolated, no
site) and reads the result from /proc of the process that exec made.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launched import OPTIONS, TREE, Done, as_root, path_with, said, script, start
from sandbox import CONFIG_FILES, Sandbox


@pytest.mark.parametrize("shell", [False, True], ids=["exec", "through bash"])
def test_signals_descriptors_umask_and_directory(work: Path, shell: bool) -> None:
    if shell:
        script(work, ":\n")

    def engine() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
        os.umask(0o027)

    read, write = os.pipe()
    ours = "import os; os.open('/', os.O_PATH)"
    done = start(
        "report", then=ours, env=path_with(work), cwd=work, before=engine, pass_fds=(write,)
    )
    os.close(read)
    os.close(write)
    found = said(done)
    status = found["status"]
    assert isinstance(status, dict)
    # The service is Python: it ignores these two signals by itself.
    own = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert int(status["SigIgn"][0], 16) & ~own == 0
    assert status["SigBlk"] == ["0" * 16]
    assert found["fds"] == [0, 1, 2, write]  # the engine's own stays, ours does not
    assert found["cwd"] == str(work)
    assert found["umask"] == 0o027


UMASKS = {"0027": 0o027, "27": 0o027, "0": 0, "777": 0o777, "": 0o022, None: 0o022}


@pytest.mark.parametrize("asked", UMASKS)
@pytest.mark.parametrize("shell", [False, True], ids=["exec", "through bash"])
def test_the_umask_that_the_environment_asks_for(
    work: Path, asked: str | None, shell: bool
) -> None:
    if shell:
        # As in tcib's start script the service has it, and extend-start has not.
        script(work, "export SEEN=$(umask)\n")
    environ = path_with(work) | ({} if asked is None else {"CONTAINER_KOLLA_UMASK": asked})
    found = said(start("report", env=environ, before=lambda: os.umask(0o022) and None))
    assert found["umask"] == UMASKS[asked]
    environment = found["environ"]
    assert isinstance(environment, dict)
    assert environment.get("CONTAINER_KOLLA_UMASK") == asked
    assert environment.get("SEEN") == ("0022" if shell else None)


@as_root
@pytest.mark.parametrize("asked", ["8", "-1", "rw", "0o22", "1777", "u=rwx", " 22", "2_2"])
def test_what_is_no_umask(sandbox: Sandbox, asked: str) -> None:
    sandbox.source("a", "a")
    entry = {"source": f"{CONFIG_FILES}/a", "dest": "/etc/a", "owner": "root", "perm": "0600"}
    sandbox.document({"command": "/bin/true", "config_files": [entry]})
    sandbox.mark()
    environ = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS", "CONTAINER_KOLLA_UMASK": asked}
    done = sandbox.run(["kolla_start"], env=environ)
    assert (done.returncode, sandbox.changes()) == (1, {})
    assert f"CONTAINER_KOLLA_UMASK is {asked!r}, no umask; write octal digits" in done.stderr


def test_python_s_own_ignored_signals_are_undone(work: Path) -> None:
    done = start("cat /proc/self/status", env=path_with(work))
    lines = dict(line.split(":\t", 1) for line in done.stdout.splitlines())
    assert lines["SigIgn"] == lines["SigBlk"] == "0" * 16
    assert lines["Name"] == "cat"


def test_same_process(work: Path) -> None:
    for text in ("", ":\n"):
        script(work, text)
        done = start(
            "report", then="import os; print(os.getpid(), flush=True)", env=path_with(work)
        )
        assert said(done)["pid"] == int(done.stdout.splitlines()[0])


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"LC_CTYPE": "C"},
        {"LC_CTYPE": ""},
        {"LANG": "C"},
        {"LC_ALL": "POSIX"},
        {"LC_CTYPE": "C.UTF-8", "X": "\udcff\udc80 =", "EMPTY": ""},
    ],
    ids=str,
)
def test_the_environment_is_the_engine_s(work: Path, given: dict[str, str]) -> None:
    # PEP 538: without the care taken the interpreter's LC_CTYPE=C.UTF-8 would reach the service.
    done = start("/usr/bin/env -0", env={**path_with(work), **given})
    assert done.returncode == 0
    entries = dict(e.split("=", 1) for e in done.stdout.split("\0") if e)
    assert entries == {**path_with(work), **given}


def test_an_environment_entry_without_a_name_is_no_obstacle(work: Path) -> None:
    code = (
        f"import os, sys; sys.path.append({str(TREE)!r}); from kolla_start.launch import service; "
        "os.execve('/usr/bin/env', ['env', '-0'], service.environment())"
    )
    # Only C can make such an entry: env -i cannot, a shell cannot.
    maker = (
        "import ctypes,sys\n"
        "libc = ctypes.CDLL(None)\n"
        "def array(*w): return (ctypes.c_char_p * (len(w) + 1))(*w, None)\n"
        f"code = {code!r}\n"
        f"libc.execve(b'/usr/bin/python3', array(b'python3', b'{OPTIONS}', b'-c', code.encode()), "
        "array(b'=x', b'A=1', b'LC_ALL=C.UTF-8'))"
    )
    done = subprocess.run([sys.executable, "-c", maker], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == ["A=1", "LC_ALL=C.UTF-8"]


# --- Kolla's way: sudo -------------------------------------------------------------------------


@as_root
@pytest.mark.skipif(not os.path.exists("/usr/bin/sudo"), reason="needs sudo")
def test_privileged_commands_through_sudo(sandbox: Sandbox) -> None:
    sandbox.write(
        "/etc/sudoers",
        'Defaults setenv\nDefaults secure_path="/usr/bin"\n'
        "daemon ALL=(root) NOPASSWD: /usr/local/bin/kolla_set_configs\n",
        mode=0o440,
    )
    for name in ("kolla_set_configs", "kolla_copy_cacerts"):
        sandbox.write(f"/usr/local/bin/{name}", "#!/bin/sh\nid -u; env; exit 7\n", mode=0o755)
    code = (
        f"import sys; sys.path.append({str(TREE)!r})\n"
        "from kolla_start.launch import privileges, service\n"
        "name, keep, barred = sys.argv[1:]\n"
        "privileges.drop(None, (), barred == 'barred')\n"
        "if not service.can_sudo(): sys.exit('no sudo')\n"
        "sys.exit(service.run_privileged(name, service.environment(), keep == 'keep'))"
    )

    def call(user: str, *arguments: str) -> Done:
        argv = ["/usr/bin/python3", OPTIONS, "-c", code, *arguments]
        return sandbox.run(argv, user=user, env={"KOLLA_CONFIG_STRATEGY": "COPY_ONCE"})

    done = call("daemon", "kolla_set_configs", "keep", "")
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines()[0] == "0"
    assert "KOLLA_CONFIG_STRATEGY=COPY_ONCE" in done.stdout
    assert "kolla_set_configs: exit code 7" in done.stderr
    assert "KOLLA_" not in call("daemon", "kolla_set_configs", "", "").stdout
    done = call("daemon", "kolla_copy_cacerts", "", "")  # no rule: no question, an end
    assert (done.returncode, done.stdout) == (1, "")
    assert "no sudo" in call("daemon", "kolla_set_configs", "keep", "barred").stderr
    sandbox.chmod("/usr/bin/sudo", 0o755)
    assert "no sudo" in call("daemon", "kolla_set_configs", "keep", "").stderr


@as_root
@pytest.mark.skipif(not os.path.exists("/usr/bin/sudo"), reason="needs sudo")
@pytest.mark.parametrize("why", ["", "an unknown uid", "no SETUID", "no SETGID"])
def test_where_sudo_cannot_work(sandbox: Sandbox, why: str) -> None:
    """sudo itself says so only after it has failed: such a start applies as itself."""
    sandbox.adduser("svc", 4321)
    code = (
        f"import sys; sys.path.append({str(TREE)!r})\n"
        "from kolla_start.launch import service\nprint(service.can_sudo())"
    )
    lacking = {"no SETUID": "setuid", "no SETGID": "setgid"}.get(why)
    limits = [f"--bounding-set=-{lacking}"] if lacking else []
    number = 54321 if why == "an unknown uid" else 4321
    ids = [f"--reuid={number}", f"--regid={number}", "--clear-groups"]
    argv = ["setpriv", *ids, *limits, "/usr/bin/python3", OPTIONS, "-c", code]
    assert sandbox.run(argv, check=True).stdout == f"{not why}\n"
