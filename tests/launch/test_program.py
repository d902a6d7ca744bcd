"""What the service's process runs: exec, the command's words, the extend-start script.

Each test runs the room's own functions in an interpreter as the commands have it (isolated, no
site), beside bash where bash is the definition.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from launched import as_root, path_with, room, said, script, start


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
    done = room("service.launch(('true',) + ('x' * 100_000,) * 200, service.environment())")
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
