"""The started room: real processes become the service, and say what they received.

Each test runs the room's own functions in an interpreter as the commands have it (isolated, no
site) and reads the result from /proc of the process that exec made.
"""

import atexit
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from sandbox import CONFIG_FILES, Sandbox


def _copy_for_everyone() -> Path:
    """The package where every user can read it: a clone may lie in a home that is private."""
    top = Path(tempfile.mkdtemp(prefix="kolla_start-", dir="/var/tmp"))
    top.chmod(0o755)
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    package = Path(__file__).resolve().parent.parent / "kolla_start"
    shutil.copytree(package, top / "kolla_start", ignore=shutil.ignore_patterns("__pycache__"))
    return top


TREE = _copy_for_everyone()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OPTIONS = "-IBSXutf8"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# What the service is told, said by the service: argv, status, descriptors, environment.
REPORT = """
import json, os, sys
status = dict(line.rstrip().split(":", 1) for line in open("/proc/self/status"))
with open("/proc/self/environ", "rb") as raw:
    environ = [e.decode("utf-8", "surrogateescape") for e in raw.read().split(b"\\0") if e]
print(json.dumps({
    "argv": sys.argv[1:],
    "pid": os.getpid(),
    "status": {key: value.split() for key, value in status.items()},
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(
        "/proc/self/fd/" + fd) and int(fd) != 255),
    "environ": dict(e.split("=", 1) for e in environ),
    "cwd": os.getcwd(),
    "umask": os.umask(0),
}))
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory that every user can reach, with a program that reports what it received."""
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    report = tmp_path / "report.py"
    report.write_text(REPORT)
    program = tmp_path / "bin" / "report"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec /usr/bin/python3 -IS {report} "$@"\n')
    program.chmod(0o755)
    return tmp_path


Done = subprocess.CompletedProcess[str]


def room(
    code: str,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    before: Callable[[], None] | None = None,
    pass_fds: Sequence[int] = (),
) -> Done:
    """Run code against the room, as the commands are run, in exactly this environment."""
    program = (
        f"import sys; sys.path.append({str(TREE)!r})\n"
        "from kolla_start import errors, launch, log, privileges\n"
        "try:\n"
        + "".join(f"    {line}\n" for line in code.strip().splitlines())
        + "except errors.Refused as problem:\n    log.error(str(problem)); sys.exit(1)\n"
    )
    return subprocess.run(
        ["/usr/bin/python3", OPTIONS, "-c", program],
        env={"PATH": PATH} if env is None else dict(env),
        cwd=cwd,
        text=True,
        errors="surrogateescape",
        capture_output=True,
        preexec_fn=before,
        pass_fds=tuple(pass_fds),
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def start(
    command: object, *, arguments: tuple[str, ...] = (), then: str = "", **options: object
) -> Done:
    code = (
        f"environ = launch.environment()\n{then}\nlaunch.launch({command!r}, environ, {arguments})"
    )
    return room(code, **options)  # type: ignore[arg-type]


def said(done: Done) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(report, dict)
    return report


def path_with(work: Path, **more: str) -> dict[str, str]:
    return {"PATH": f"{work}/bin:{PATH}", **more}


def script(work: Path, text: str) -> Path:
    path = work / "bin" / "kolla_extend_start"
    path.write_text(text)
    return path


# --- what the service inherits -----------------------------------------------------------------


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
        f"import os, sys; sys.path.append({str(TREE)!r}); from kolla_start import launch; "
        "os.execve('/usr/bin/env', ['env', '-0'], launch.environment())"
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


# --- exec --------------------------------------------------------------------------------------


@pytest.fixture
def odd(work: Path) -> Path:
    """Programs that cannot be run, or only by a shell."""
    for name, text, mode in (
        ("no-interpreter", "#!/nonexistent\n", 0o755),
        ("no-first-line", 'echo "ran by a shell: $1 $#"\n', 0o755),
        ("not-executable", "#!/bin/sh\n", 0o644),
        ("empty", "", 0o755),
        ("binary", "\x7fELF\0\0\0", 0o755),
    ):
        path = work / "bin" / name
        path.write_text(text)
        path.chmod(mode)
    (work / "bin" / "directory").mkdir()
    return work


@pytest.mark.parametrize("how", ["PATH", "path"])
@pytest.mark.parametrize(
    "name",
    [
        "no-interpreter",
        "no-first-line",
        "not-executable",
        "empty",
        "binary",
        "directory",
        "missing",
        "report/x",
    ],
)
def test_exit_codes_are_those_of_bash(odd: Path, name: str, how: str) -> None:
    command = name if how == "PATH" else f"{odd}/bin/{name}"
    done = start(f"{command} one two", env=path_with(odd), cwd=odd)
    bash = subprocess.run(
        ["/bin/bash", "-c", f"exec {command} one two"],
        env=path_with(odd),
        capture_output=True,
        text=True,
        check=False,
        cwd=odd,
    )
    if (name, how) == ("directory", "PATH"):
        assert done.returncode == 127  # bash says 127 too, and that it is a directory
    assert (done.returncode, done.stdout) == (bash.returncode, bash.stdout), done.stderr
    if done.returncode:
        assert name in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_not_found_says_where_it_looked(work: Path) -> None:
    done = start("nova-compute", env={"PATH": "/a::/b"})
    assert done.returncode == 127
    assert "nova-compute: command not found in PATH (/a:.:/b)" in done.stderr


def test_without_path(work: Path) -> None:
    assert start("true", env={}).returncode == 0
    assert start("report", env={"PATH": ""}, cwd=work / "bin").returncode == 0
    assert start("true", env={"PATH": ""}, cwd=work).returncode == 127


def test_too_many_arguments_is_not_executable(work: Path) -> None:
    done = room("launch.launch(('true',) + ('x' * 100_000,) * 200, launch.environment())")
    assert done.returncode == 126
    assert "Argument list too long" in done.stderr


# --- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "report a  b\tc\nd",
        "report 'a b' \"c\"",
        "report $HOME `id` ~ {a,b} \\n a\\*b $(id); x & y | z > q # no",
        "report no\u00a0break\u2003em\u0085nel\x0bvt\x0cff\x1cfs",
        "report *.conf",
        "report ?.conf [ab].conf [^a].conf [!a].conf",
        "report nothing-*-here [",
        "report * .*",
        "report sub/*/ a\\*.conf http://h/?q=[1]",
        "  report  \n",
    ],
)
def test_a_string_is_upstream_s_unquoted_expansion(work: Path, command: str) -> None:
    there = work / "there"
    (there / "sub" / "dir").mkdir(parents=True)
    for name in ("b.conf", "a.conf", ".hidden.conf", "a b.conf", "é.conf"):
        (there / name).touch()
    done = start(command, env=path_with(work), cwd=there)
    bash = subprocess.run(
        ["/bin/bash", "-c", 'CMD=$(cat); ARGS=""; exec ${CMD} ${ARGS}'],
        input=command,
        env=path_with(work),
        cwd=there,
        text=True,
        capture_output=True,
        check=True,
    )
    assert said(done)["argv"] == said(bash)["argv"]
    shown = command.rstrip("\n").encode("unicode_escape").decode().split("\\")[0]
    assert f"INFO Running command: '{shown}" in done.stderr
    assert ("a list" in done.stderr) == ("'" in command or '"' in command)


def test_no_shell_without_need(work: Path) -> None:
    # Whatever a shell leaves in the environment is the sign that there was one.
    script(work, "")
    found = said(start("report", env=path_with(work)))["environ"]
    assert isinstance(found, dict)
    # /bin/sh of the reporting program sets PWD alone.
    assert "SHLVL" not in found


@pytest.mark.parametrize("text", [None, ":\n"], ids=["no script", "script"])
def test_a_list_is_argv(work: Path, text: str | None) -> None:
    if text:
        script(work, text)
    words = ("report", "a b", "", "*", "$HOME", "'\"", "-n", "é\n\udcff")
    done = start(words, env=path_with(work))
    assert said(done)["argv"] == list(words[1:])
    assert "a list" not in done.stderr


def test_a_list_whose_program_begins_with_a_dash(work: Path) -> None:
    shutil.copy(work / "bin" / "report", work / "bin" / "-c")
    script(work, ":\n")
    assert said(start(("-c", "x"), env=path_with(work)))["argv"] == ["x"]


def test_arguments_take_the_command_s_place(work: Path) -> None:
    for text in (None, "ARGS='-DFOREGROUND'\nCMD=false\nexport SEEN=1\n"):
        if text:
            script(work, text)
        done = start("false", arguments=("report", "db sync", "*"), env=path_with(work))
        assert said(done)["argv"] == ["db sync", "*"]


@pytest.mark.parametrize("command", ["", " \n\t"])
@pytest.mark.parametrize("text", [None, ":", "CMD='report changed'"])
def test_an_empty_command_is_nothing_to_become(
    work: Path, command: object, text: str | None
) -> None:
    """As upstream's `exec ${CMD}`: the script may set one, else the start ends well."""
    if text is not None:
        script(work, f"{text}\n")
    done = start(command, env=path_with(work))
    assert done.returncode == 0, done.stderr
    assert bool(done.stdout) == (text is not None and "report" in text)
    assert said(start(command, arguments=("report", "x"), env=path_with(work)))["argv"] == ["x"]


@pytest.mark.parametrize("command", ["a\0b", ("a", "b\0"), "a\ud800"])
def test_characters_that_no_argument_can_carry(work: Path, command: object) -> None:
    done = start(command, env=path_with(work))
    assert done.returncode == 1
    assert "no argument can carry" in done.stderr


# --- extend-start ------------------------------------------------------------------------------

UPSTREAM = """
set -o errexit
set -o pipefail
set -o nounset
CMD=$(cat "$COMMAND_FILE")
ARGS=""
unset COMMAND_FILE
if [[ ! "${!KOLLA_SKIP_EXTEND_START[@]}" ]]; then
    . kolla_extend_start
fi
exec ${CMD} ${ARGS}
"""


@pytest.mark.parametrize(
    "text",
    [
        "echo bootstrapped; exit 0",
        "exit 3",
        "false; echo unreachable",
        "false || true; if false; then :; fi",
        "echo $UNSET_VARIABLE",
        "false | true; echo unreachable",
        "ARGS='-DFOREGROUND  *.none'",
        'ARGS="$CMD again"',
        "CMD='report changed'",
        'CMD="$CMD more"; export CMD',
        "unset CMD",
        "export ADDED='a b' PATH=$PATH:/extra",
        ". kolla_second; echo $second",
        "echo $# [${1-none}] ${BASH_SOURCE[0]}; set -- a b",
        "cd /; umask 077",
        "exec report by the script",
        "f() { return 4; }; f",
        "set +o errexit; false; echo on",
        "syntax error (",
        "return 0; exit 9",
        "return 5",
        "trap 'echo exiting' EXIT; exit 2",
    ],
)
def test_extend_start_as_upstream(work: Path, text: str) -> None:
    script(work, text + "\n")
    (work / "bin" / "kolla_second").write_text("second=2\n")
    (work / "command").write_text("report 'a b' --x")
    env = path_with(work, ENGINE="1", COMMAND_FILE=str(work / "command"))
    (work / "upstream").write_text(UPSTREAM)
    theirs = subprocess.run(
        ["/bin/bash", str(work / "upstream")],
        env=env,
        cwd=work,
        text=True,
        capture_output=True,
        check=False,
    )
    del env["COMMAND_FILE"]
    ours = start("report 'a b' --x", env=env, cwd=work)
    assert ours.returncode == theirs.returncode, ours.stderr
    lines, expected = ours.stdout.splitlines(), theirs.stdout.splitlines()
    if expected and expected[-1].startswith("{"):
        found, wanted = json.loads(lines.pop()), json.loads(expected.pop())
        for each in (found, wanted):
            del each["pid"], each["status"]
        assert found == wanted
    assert lines == expected


@pytest.mark.parametrize("value", ["", "1"])
def test_skipping_the_script(work: Path, value: str) -> None:
    script(work, "exit 9\n")
    assert start("true", env=path_with(work)).returncode == 9
    assert start("true", env=path_with(work, KOLLA_SKIP_EXTEND_START=value)).returncode == 0


def test_an_exported_cmd_stays_exported(work: Path) -> None:
    script(work, ":\n")
    for given in ({}, {"CMD": "engine's", "ARGS": "too"}):
        found = said(start("report x", env=path_with(work, **given)))["environ"]
        assert isinstance(found, dict)
        assert found.get("CMD") == ("report x" if given else None)
        assert found.get("ARGS") == ("" if given else None)


def test_script_and_list(work: Path) -> None:
    words = ("report", "a b", "it's")
    script(work, "echo \"$CMD\"; ARGS='c d'\n")
    done = start(words, env=path_with(work))
    assert done.stdout.splitlines()[0] == "report 'a b' 'it'\\''s'"
    assert said(done)["argv"] == ["a b", "it's", "c", "d"]
    script(work, "CMD='report new words'\n")
    assert said(start(words, env=path_with(work)))["argv"] == ["new", "words"]


def test_the_log_line_of_the_shell(work: Path) -> None:
    script(work, "ARGS=--foreground\n")
    done = start("true a", env=path_with(work, LANG="C.UTF-8"))
    assert done.stderr.endswith(" INFO Running command: 'true a --foreground'\n")
    assert done.stderr.count("\n") == 1
    assert done.stderr[19] == "."
    assert "+ exec true" in start("true", env=path_with(work, KOLLA_DEBUG="1")).stderr
    assert "+" not in start("true", env=path_with(work, KOLLA_DEBUG="")).stderr


def test_a_closed_log_does_not_stop_the_start(work: Path) -> None:
    for text in ("", ":\n"):
        script(work, text)
        assert start("true", env=path_with(work), before=lambda: os.close(2)).returncode == 0


def test_where_the_script_is_found(work: Path) -> None:
    first, second = work / "first", work / "second"
    for place in (first, second):
        place.mkdir()
        (place / "kolla_extend_start").write_text(f"echo {place.name}; exit 0\n")
    (second / "kolla_extend_start").chmod(0o644)  # needs no x
    assert start("true", env={"PATH": f"/nonexistent:{second}:{first}"}).stdout == "second\n"
    assert start("true", env={"PATH": "/usr/bin"}, cwd=first).stdout == "first\n"  # as bash
    assert start("true", env={"PATH": "/usr/bin"}, cwd=work).stdout == ""


@as_root
def test_a_script_that_the_service_cannot_read(work: Path) -> None:
    script(work, "exit 9\n").chmod(0o600)
    done = start("true", then="privileges.drop('nobody')", env=path_with(work))
    assert done.returncode == 1
    assert f"{work}/bin/kolla_extend_start" in done.stderr
    assert "readable" in done.stderr


# --- privileges --------------------------------------------------------------------------------


def become(work: Path, call: str, before: Callable[[], None] | None = None) -> Done:
    then = (
        f"account = privileges.drop({call})\n"
        "environ.update(account.environment() if account else {})"
    )
    return start("report", then=then, env=path_with(work, HOME="/root"), before=before)


def capability_sets(status: dict[str, list[str]]) -> dict[str, int]:
    return {key: int(status[key][0], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")}


@as_root
@pytest.mark.parametrize(
    ("user", "uid", "gid", "name", "home"),
    [
        ("nobody", 65534, 65534, "nobody", "/nonexistent"),
        ("daemon", 1, 1, "daemon", "/usr/sbin"),
        ("daemon:bin", 1, 2, "daemon", "/usr/sbin"),
        ("1", 1, 1, "daemon", "/usr/sbin"),
        ("1:2", 1, 2, "daemon", "/usr/sbin"),
        ("54321:12345", 54321, 12345, "54321", "/"),
    ],
)
def test_dropping_to_a_user(
    work: Path, user: str, uid: int, gid: int, name: str, home: str
) -> None:
    for text in ("", ":\n"):
        script(work, text)
        found = said(become(work, repr(user)))
        status, environ = found["status"], found["environ"]
        assert isinstance(status, dict)
        assert isinstance(environ, dict)
        assert status["Uid"] == [str(uid)] * 4
        assert status["Gid"] == [str(gid)] * 4
        groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid) if uid != 54321 else [gid]
        assert sorted(map(int, status["Groups"])) == sorted(set(groups))
        assert not any(capability_sets(status).values())
        assert status["NoNewPrivs"] == ["0"]
        assert (environ["HOME"], environ["USER"], environ["LOGNAME"]) == (home, name, name)


@as_root
def test_supplementary_groups_come_from_the_database(sandbox: Sandbox) -> None:
    sandbox.write(
        "/etc/group", sandbox.read("/etc/group") + "extra:x:7777:nobody\nmore:x:7778:nobody\n"
    )
    code = (
        f"import os, sys; sys.path.append({str(TREE)!r})\nfrom kolla_start import privileges\n"
        "privileges.drop('nobody'); print(sorted(os.getgroups()))"
    )
    done = sandbox.run(["/usr/bin/python3", OPTIONS, "-c", code], check=True)
    assert done.stdout.strip() == "[7777, 7778, 65534]"


@as_root
@pytest.mark.parametrize("call", ["None", "'root'", "'0'", "'root', ('NET_BIND_SERVICE',)"])
def test_staying_root(work: Path, call: str) -> None:
    done = become(work, call)
    status = said(done)["status"]
    assert isinstance(status, dict)
    assert status["Uid"] == ["0"] * 4
    with open("/proc/self/status") as own:
        assert f"CapPrm:\t{status['CapPrm'][0]}\n" in own.read()
    assert ("without effect" in done.stderr) == ("NET" in call)


@as_root
@pytest.mark.parametrize(
    ("names", "mask"),
    [
        ("('NET_BIND_SERVICE',)", 1 << 10),
        ("('CAP_CHOWN', 'SYS_PTRACE', 'WAKE_ALARM')", 1 | 1 << 19 | 1 << 35),
    ],
)
def test_capabilities_are_kept(work: Path, names: str, mask: int) -> None:
    done = become(work, f"'nobody', {names}, True")
    status = said(done)["status"]
    assert isinstance(status, dict)
    assert status["Uid"] == ["65534"] * 4
    assert set(capability_sets(status).values()) == {mask}
    assert status["NoNewPrivs"] == ["1"]


@as_root
@pytest.mark.parametrize("user", ["None", "'nobody'"])
def test_no_new_privileges(work: Path, user: str) -> None:
    status = said(become(work, f"{user}, (), True"))["status"]
    assert isinstance(status, dict)
    assert status["NoNewPrivs"] == ["1"]


def without(*capabilities: int) -> Callable[[], None]:
    """Take capabilities from the bounding set: exec then leaves them out, as an engine does."""

    def drop() -> None:
        import ctypes

        libc = ctypes.CDLL(None)
        for number in capabilities:
            assert libc.prctl(24, number, 0, 0, 0) == 0  # PR_CAPBSET_DROP

    return drop


@as_root
def test_a_capability_that_the_container_lacks(work: Path) -> None:
    done = become(work, "'nobody', ('NET_BIND_SERVICE', 'NET_ADMIN')", before=without(12))
    assert done.returncode == 1
    assert "does not have NET_ADMIN;" in done.stderr
    assert "--cap-add NET_ADMIN" in done.stderr


@as_root
def test_a_container_that_may_not_change_users(work: Path) -> None:
    done = become(work, "'nobody'", before=without(6, 7))
    assert done.returncode == 1
    assert "--cap-add SETUID" in done.stderr
    assert "Traceback" not in done.stderr


@as_root
def test_inheritable_capabilities_of_an_old_engine_are_cleared(work: Path) -> None:
    def inherit() -> None:
        import ctypes

        libc = ctypes.CDLL(None)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)()
        assert libc.capget(header, data) == 0
        data[2], data[5] = data[1], data[4]
        assert libc.capset(header, data) == 0

    status = said(become(work, "'daemon'", before=inherit))["status"]
    assert isinstance(status, dict)
    assert not any(capability_sets(status).values())


@as_root
def test_capabilities_that_survive_setuid_are_found(work: Path) -> None:
    def engine() -> None:
        import ctypes

        # SECBIT_NO_SETUID_FIXUP and its lock: setuid drops nothing.
        assert ctypes.CDLL(None).prctl(28, 1 << 2 | 1 << 3, 0, 0, 0) == 0

    done = become(work, "'nobody'", before=engine)
    assert done.returncode == 1
    assert "privileges were not dropped" in done.stderr


@as_root
@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("stranger", "no user 'stranger'"),
        ("nobody:stranger", "no group 'stranger'"),
        ("54321", "its group must be said"),
        ("4294967295:1", "no user"),
        ("1:4294967295", "no group"),
        ("-1:-1", "no user"),
        ("\u0661:1", "no user"),
    ],
)
def test_users_that_are_refused(work: Path, user: str, message: str) -> None:
    done = become(work, repr(user))
    assert done.returncode == 1
    assert message in done.stderr


@as_root
def test_a_user_cannot_become_another(work: Path) -> None:
    def nobody() -> None:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    assert become(work, "'nobody'", before=nobody).returncode == 0
    assert become(work, "None", before=nobody).returncode == 0
    for other in ("'daemon'", "'root'", "'nobody:daemon'"):
        done = become(work, other, before=nobody)
        assert done.returncode == 1, other
        assert "was started as uid 65534" in done.stderr
    done = become(work, "None, ('CHOWN',)", before=nobody)
    assert done.returncode == 1
    assert "--cap-add CHOWN" in done.stderr


# --- CA certificates ---------------------------------------------------------------------------

MOUNTED = "/var/lib/kolla/config_files/ca-certificates"
COPIED = "/var/lib/kolla/share/ca-certificates"
ANCHORS = "/usr/local/share/ca-certificates"
PENDING = "/etc/kolla/cacerts-pending"

# Counts its runs and says what it was given; stands in for the system's, which takes 0.6 s.
UPDATE = """#!/bin/sh
echo "update ran"
env > /update-environment
echo run >> /updates
[ ! -e /update-fails ]
"""


class Certificates:
    """A sandbox with a counting update command."""

    def __init__(self, box: Sandbox, red_hat: bool = False) -> None:
        self.box = box
        self.anchors = "/etc/pki/ca-trust/source/anchors" if red_hat else ANCHORS
        if red_hat:
            box.remove("/etc/debian_version")
            box.write("/etc/redhat-release", "Rocky Linux\n")
            box.mkdir(self.anchors)
            box.write("/usr/bin/update-ca-trust", UPDATE, mode=0o755)
        else:
            box.mkdir(self.anchors)
            box.write("/usr/sbin/update-ca-certificates", UPDATE, mode=0o755)
        for name in os.listdir(box.host(self.anchors)):
            box.remove(f"{self.anchors}/{name}")

    def copy(self, user: str | None = None, env: Mapping[str, str] | None = None) -> Done:
        return self.call("cacerts.main()", user, env)

    def call(
        self, what: str, user: str | None = None, env: Mapping[str, str] | None = None
    ) -> Done:
        code = f"import sys; sys.path.append({str(TREE)!r})\nfrom kolla_start import cacerts\n"
        argv = ["/usr/bin/python3", OPTIONS, "-c", f"{code}sys.exit({what})"]
        return self.box.run(argv, user=user, env=env)

    def needed(self) -> bool:
        """What the service user's check says."""
        return self.call("cacerts.needed()", user="nobody").returncode == 1

    def updates(self) -> int:
        return self.box.read("/updates").count("run") if self.box.exists("/updates") else 0

    def installed(self) -> dict[str, str]:
        names = sorted(os.listdir(self.box.host(self.anchors)))
        return {name: self.box.read(f"{self.anchors}/{name}") for name in names}


@as_root
@pytest.mark.parametrize("red_hat", [False, True], ids=["Debian", "Red Hat"])
def test_certificates_installed_replaced_removed(sandbox: Sandbox, red_hat: bool) -> None:
    certificates = Certificates(sandbox, red_hat)
    sandbox.write(f"{certificates.anchors}/site.crt", "not ours")
    other = {"site.crt": "not ours"}

    def step(expected: dict[str, str], updates: int) -> Done:
        assert certificates.needed() == (updates > certificates.updates())
        done = certificates.copy()
        assert done.returncode == 0, done.stderr
        assert certificates.installed() == expected | other
        assert certificates.updates() == updates
        assert not certificates.needed()
        assert not sandbox.exists(PENDING)
        return done

    step({}, 0)
    sandbox.mkdir(MOUNTED)
    step({}, 0)
    sandbox.write(f"{MOUNTED}/a.crt", "A", mode=0o600)
    sandbox.write(f"{MOUNTED}/with blank.crt", "B")
    sandbox.write(f"{MOUNTED}/.hidden", "C")
    sandbox.mkdir(f"{MOUNTED}/directory")
    sandbox.symlink("nowhere", f"{MOUNTED}/broken.crt")
    sandbox.chmod(f"{MOUNTED}/a.crt", 0o644)
    both = {"kolla-customca-a.crt": "A", "kolla-customca-with blank.crt": "B"}
    done = step(both, 1)
    assert "2 installed, 0 removed" in done.stderr
    assert "directory: not a regular file" in done.stderr
    assert "broken.crt: No such file" in done.stderr
    assert "update ran" in done.stderr
    assert not done.stdout
    path = f"{certificates.anchors}/kolla-customca-a.crt"
    status = sandbox.stat(path)
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o644, 0, 0)
    step(both, 1)
    assert sandbox.stat(path).st_ino == status.st_ino
    sandbox.write(f"{MOUNTED}/a.crt", "a")
    step(both | {"kolla-customca-a.crt": "a"}, 2)
    sandbox.chmod(path, 0o600)
    step(both | {"kolla-customca-a.crt": "a"}, 3)
    sandbox.remove(f"{MOUNTED}/a.crt")
    sandbox.write(f"{certificates.anchors}/kolla-old.crt", "from the image")
    step({"kolla-customca-with blank.crt": "B"}, 4)
    sandbox.remove(MOUNTED)
    step({}, 5)


@as_root
def test_an_update_that_failed_or_was_killed_is_mended(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    sandbox.write(f"{MOUNTED}/a.crt", "A")
    sandbox.write("/update-fails")
    done = certificates.copy()
    assert done.returncode == 1
    assert "update-ca-certificates failed with exit code 1" in done.stderr
    assert sandbox.exists(PENDING)
    assert certificates.needed()
    sandbox.remove("/update-fails")
    assert certificates.copy().returncode == 0
    assert certificates.updates() == 2
    assert certificates.copy().returncode == 0
    assert certificates.updates() == 2


@as_root
def test_certificates_that_the_document_copied(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    sandbox.write(f"{MOUNTED}/a.crt", "mounted")
    sandbox.write(f"{COPIED}/a.crt", "copied", mode=0o600)
    certificates.copy()
    assert certificates.installed() == {"kolla-customca-a.crt": "mounted"}
    state = {COPIED: {"source": COPIED, "preserve_properties": True, "dest": None}}
    sandbox.mkdir("/etc/kolla/defaults", mode=0o700)
    sandbox.write("/etc/kolla/defaults/state", json.dumps(state))
    assert certificates.needed()  # in doubt: the service user may read neither
    certificates.copy()
    assert certificates.installed() == {"kolla-customca-a.crt": "copied"}


CONFIG_DATA = "/var/lib/config-data/ca-certificates"


@as_root
def test_certificates_of_tcib_s_images(sandbox: Sandbox) -> None:
    """The third place: of a volume as the kubelet lays it out, but not what a service put there."""
    certificates = Certificates(sandbox)
    sandbox.mkdir(CONFIG_DATA, mode=0o1777)
    sandbox.write(f"{CONFIG_DATA}/..1/tls-ca-bundle.pem", "of the volume")
    sandbox.symlink("..1", f"{CONFIG_DATA}/..data")
    sandbox.symlink("..data/tls-ca-bundle.pem", f"{CONFIG_DATA}/tls-ca-bundle.pem")
    sandbox.write("/srv/victim", "root's own", mode=0o600)
    sandbox.write(f"{CONFIG_DATA}/of-the-service.pem", "trust me", owner="nobody")
    sandbox.symlink("/srv/victim", f"{CONFIG_DATA}/link.pem", owner="nobody")
    sandbox.write("/srv/nobody/theirs.pem", "trust me", owner="nobody")
    sandbox.chown("/srv/nobody", "nobody")
    sandbox.symlink("/srv/nobody/theirs.pem", f"{CONFIG_DATA}/elsewhere.pem")
    # Open to all by its mode, and mounted read-only.
    sandbox.run(["mount", "--bind", CONFIG_DATA, CONFIG_DATA], check=True)
    sandbox.run(["mount", "-o", "remount,bind,ro", CONFIG_DATA], check=True)
    done = certificates.copy()
    assert done.returncode == 0, done.stderr
    wanted = {"kolla-customca-tls-ca-bundle.pem": "of the volume"}
    assert certificates.installed() == wanted
    assert done.stderr.count("it is left out") == 3
    assert certificates.updates() == 1
    certificates.copy()
    assert certificates.updates() == 1
    sandbox.write(f"{MOUNTED}/a.crt", "mounted")
    certificates.copy()
    assert certificates.installed() == {"kolla-customca-a.crt": "mounted"}


@as_root
def test_the_update_command_does_not_inherit_the_service_s_umask(sandbox: Sandbox) -> None:
    Certificates(sandbox)
    sandbox.write(f"{MOUNTED}/a.crt", "A")
    sandbox.document({"command": "/bin/true"})
    environ = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    done = sandbox.run(["kolla_start"], env=environ, umask=0o077)
    assert done.returncode == 0, done.stderr
    assert sandbox.mode("/updates") == 0o644


@as_root
def test_a_service_that_owns_the_copied_directory_cannot_publish_secrets(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    sandbox.mkdir("/etc/kolla/defaults", mode=0o700)
    sandbox.write("/etc/kolla/defaults/state", json.dumps({COPIED: {}}))
    sandbox.mkdir(COPIED, owner="nobody")
    sandbox.write("/var/lib/kolla/secret", "secret", mode=0o600)
    sandbox.symlink("/etc/shadow", f"{COPIED}/link.crt", owner="nobody")
    os.link(sandbox.host("/var/lib/kolla/secret"), sandbox.host(f"{COPIED}/hard.crt"))
    os.mkfifo(sandbox.host(f"{COPIED}/fifo.crt"))
    sandbox.write(f"{COPIED}/good.crt", "good", owner="nobody")
    done = certificates.copy()
    assert done.returncode == 0, done.stderr
    assert certificates.installed() == {"kolla-customca-good.crt": "good"}
    assert done.stderr.count("it is left out") == 3


@as_root
def test_certificates_where_they_cannot_be_installed(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    assert certificates.copy(user="nobody").returncode == 0
    sandbox.remove("/etc/debian_version")
    assert certificates.copy().returncode == 0  # nothing to do: upstream's start ends here
    sandbox.write(f"{MOUNTED}/a.crt", "A")

    def refused(message: str, user: str | None = None) -> None:
        done = certificates.copy(user=user)
        assert done.returncode == 1
        assert message in done.stderr

    refused("neither a Debian nor a Red Hat")
    sandbox.write("/etc/debian_version", "12")
    refused("start the container as root", user="nobody")
    sandbox.remove("/usr/sbin/update-ca-certificates")
    refused("is missing; install")
    assert not certificates.installed()
    assert not sandbox.exists(PENDING)


@as_root
def test_nothing_of_the_caller_reaches_the_update_command(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    sandbox.write(f"{MOUNTED}/a.crt", "A")
    hostile = {"PATH": "/tmp/evil", "LD_PRELOAD": "", "HOME": "/tmp", "BASH_ENV": "/x", "A": "b"}
    assert certificates.copy(env=hostile).returncode == 0
    given = dict(line.split("=", 1) for line in sandbox.read("/update-environment").splitlines())
    given.pop("PWD", None)  # the stand-in's shell
    assert given == {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"}


@as_root
@pytest.mark.skipif(
    not all(map(shutil.which, ("update-ca-certificates", "openssl"))),
    reason="needs the packages ca-certificates and openssl",
)
def test_with_the_real_update_command(sandbox: Sandbox) -> None:
    code = f"import sys; sys.path.append({str(TREE)!r})\nfrom kolla_start import cacerts\n"
    argv = ["/usr/bin/python3", OPTIONS, "-c", f"{code}sys.exit(cacerts.main())"]

    def links() -> set[str]:
        place = sandbox.host("/etc/ssl/certs")
        found = {
            name: os.readlink(f"{place}/{name}")
            for name in os.listdir(place)
            if os.path.islink(f"{place}/{name}")
        }
        return {name for name, target in found.items() if "kolla-customca" in name + target}

    hashes = []
    for subject in ("one", "two"):
        made = subprocess.run(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
            f"-keyout /dev/null -subj /CN={subject}".split(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        sandbox.write(f"{MOUNTED}/ours.crt", made)
        sandbox.run(argv, check=True)
        assert made.strip() in sandbox.read("/etc/ssl/certs/ca-certificates.crt")
        assert "kolla-customca-ours.pem" in links()
        hashes.append(links() - {"kolla-customca-ours.pem"})
    assert len(hashes[0]) == len(hashes[1]) == 1
    assert hashes[0] != hashes[1]
    sandbox.remove(MOUNTED)
    sandbox.run(argv, check=True)
    assert links() == set()


# --- projects ----------------------------------------------------------------------------------


@as_root
def test_projects(sandbox: Sandbox) -> None:
    code = f"import sys; sys.path.append({str(TREE)!r})\nfrom kolla_start import projects\n"
    argv = ["/usr/bin/python3", OPTIONS, "-c", f"{code}sys.exit(projects.main())"]
    pip = '#!/bin/sh\necho "$@" >> /pip-calls\nenv >> /pip-environment\n[ "$3" != /dev-mode/bad ]\n'
    assert sandbox.run(argv).returncode == 0
    for path in ("/dev-mode/nova", "/dev-mode/cinder", "/dev-mode/.git"):
        sandbox.mkdir(path)
    sandbox.write("/dev-mode/README", "")
    assert sandbox.run(argv).returncode == 0
    sandbox.mkdir("/var/lib/kolla/venv/bin")
    done = sandbox.run(argv)
    assert done.returncode == 1
    assert "/var/lib/kolla/venv/bin/pip: No such file" in done.stderr
    sandbox.write("/var/lib/kolla/venv/bin/pip", pip, mode=0o755)
    assert sandbox.run(argv, env={"PIP_INDEX_URL": "x", "PATH": "/tmp"}).returncode == 0
    assert sandbox.read("/pip-calls") == "install -U /dev-mode/cinder\ninstall -U /dev-mode/nova\n"
    assert "PIP_INDEX_URL" not in sandbox.read("/pip-environment")
    assert f"PATH=/var/lib/kolla/venv/bin:{PATH}\n" in sandbox.read("/pip-environment")
    sandbox.mkdir("/dev-mode/bad")
    done = sandbox.run(argv)
    assert done.returncode == 1
    assert "/dev-mode/bad: pip failed with exit code 1" in done.stderr


# --- the commands ------------------------------------------------------------------------------


def test_launchers(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-I", "-m", "kolla_start.commands", "--into", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    names = "kolla_start kolla_set_configs kolla_copy_cacerts kolla_install_projects kolla_config"
    assert made == [f"{tmp_path}/{name}" for name in names.split()]
    for path in made:
        lines = Path(path).read_text().splitlines()
        assert lines[0] == f"#!{sys.executable} -IBSXutf8"
        assert os.stat(path).st_mode & 0o7777 == 0o755
        compile("\n".join(lines), path, "exec")
    (tmp_path / "hostile" / "kolla_start").mkdir(parents=True)
    (tmp_path / "hostile" / "kolla_start" / "__init__.py").write_text("raise SystemExit(77)\n")
    done = subprocess.run(
        [f"{tmp_path}/kolla_install_projects"],
        env={"PYTHONPATH": str(tmp_path / "hostile"), "PYTHONSTARTUP": "/nonexistent"},
        cwd=tmp_path / "hostile",
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.parametrize("interpreter", ["/opt/" + "x" * 128, "/opt/a b/python", "/opt/a\n/python"])
def test_an_interpreter_that_no_first_line_can_name(interpreter: str) -> None:
    from kolla_start.commands import launcher

    with pytest.raises(ValueError, match="put the virtual environment"):
        launcher("kolla_start.start", interpreter, [])


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
        "from kolla_start import launch, privileges\n"
        "name, keep, barred = sys.argv[1:]\n"
        "privileges.drop(None, (), barred == 'barred')\n"
        "if not launch.can_sudo(): sys.exit('no sudo')\n"
        "sys.exit(launch.run_privileged(name, launch.environment(), keep == 'keep'))"
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
