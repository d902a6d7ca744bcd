"""kolla_start against upstream's own start script: what the service is given, and how it ends.

Both run as in Kolla's images: as the service user, with Kolla's sudoers file, in two sandboxes.
Ours also the native way, as root with the user in the document.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import peer
import pytest
import sandbox as sandboxes
from sandbox import VENV, Sandbox, Unusable

pytestmark = [
    pytest.mark.skipif(peer.missing() is not None, reason=str(peer.missing())),
    pytest.mark.skipif(shutil.which("sudo") is None, reason="needs the package sudo"),
]

# The service. Its standard output is compared: everything that a program can see of its start.
REPORT = """#!/usr/bin/python3 -IS
import json, os, sys
print(json.dumps({
    "argv": sys.argv[1:], "environ": dict(os.environ), "cwd": os.getcwd(),
    "uid": os.getresuid(), "gid": os.getresgid(), "groups": sorted(os.getgroups()),
}), flush=True)
"""
# Only a shell that was there leaves these: see docs/differences.md.
SHELL_S_OWN = ("SHLVL", "PWD", "OLDPWD", "_")

SCRIPTS: dict[str, str | None] = {
    "no variable, no script's effect": ":",
    "empty": "",
    "bootstrap ends well": 'if [[ "${!KOLLA_BOOTSTRAP[@]}" ]]; then echo done; exit 0; fi',
    "exit 3": "exit 3",
    "errexit": "false; echo unreachable",
    "nounset": "echo $UNSET; echo unreachable",
    "pipefail": "false | cat; echo unreachable",
    "ARGS set": "ARGS='--port 1  --log *.none'",
    "ARGS appended to": 'ARGS="$ARGS --more"',
    "CMD read": 'if [[ "$CMD" == report* ]]; then export SEEN="$CMD"; fi',
    "CMD changed": "CMD='report changed'",
    "exports": "export ADDED='a  b' EMPTY= PATH=$PATH:/extra",
    "a second script": ". /usr/local/bin/kolla_second_extend_start",
    "mkdir and umask": "mkdir -p /var/lib/nova/made; umask 027; cd /var/lib/nova",
    "unreadable": None,
}
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "": {},
    "skip": {"KOLLA_SKIP_EXTEND_START": "1"},
    "skip empty": {"KOLLA_SKIP_EXTEND_START": ""},
    "bootstrap": {"KOLLA_BOOTSTRAP": "1"},
    "bootstrap empty": {"KOLLA_BOOTSTRAP": ""},
}
CASES = [
    *((script, "") for script in SCRIPTS),
    *(("exit 3", env) for env in ("skip", "skip empty")),
    *(("bootstrap ends well", env) for env in ("bootstrap", "bootstrap empty")),
]


@pytest.fixture(scope="module")
def boxes() -> Iterator[tuple[Sandbox, Sandbox]]:
    """Upstream's and ours: the same image but for the program."""
    reason = sandboxes.unusable()
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            pair = (stack.enter_context(Sandbox()), stack.enter_context(Sandbox()))
        except Unusable as error:
            pytest.skip(str(error))
        for box in pair:
            peer.service_user(box)
            box.write("/usr/local/bin/report", REPORT, mode=0o755)
            box.write("/usr/local/bin/kolla_second_extend_start", "export SECOND=2\n")
            # The real one takes half a second, at each of upstream's starts.
            box.write("/usr/sbin/update-ca-certificates", "#!/bin/sh\n", mode=0o755)
        peer.install(pair[0], f"{VENV}/bin/python")
        yield pair


def started(box: Sandbox, user: str | None, env: dict[str, str]) -> tuple[int, list[str], object]:
    """Exit code, what was said, and what the service reported, if it came to that."""
    done = box.start(user=user, env={"LANG": "C.UTF-8", "ENGINE": "a b", **env})
    lines = [line for line in done.stdout.splitlines() if not line.startswith("Running command: ")]
    if not lines or not lines[-1].startswith("{"):
        return done.returncode, lines, None
    report = json.loads(lines.pop())
    for name in SHELL_S_OWN:
        report["environ"].pop(name, None)
    return done.returncode, lines, report


@pytest.mark.parametrize(("script", "environment"), CASES)
def test_the_service_starts_as_upstream_s(
    boxes: tuple[Sandbox, Sandbox], script: str, environment: str
) -> None:
    text, env = SCRIPTS[script], ENVIRONMENTS[environment]
    outcomes = []
    ways = [(boxes[0], "nova"), (boxes[1], "nova"), (boxes[1], None)]
    for box, user in ways:
        box.write(
            "/usr/local/bin/kolla_extend_start",
            "exit 8\n" if text is None else f"{text}\n",
            mode=0o600 if text is None else 0o644,
        )
        asked = {"command": "report one  'two three' *.none"}
        box.document(asked if user else {**asked, "user": "nova"})
        if not user:
            env = {**env, "USER": "root", "LOGNAME": "root"}
        outcomes.append(started(box, user, env))
    theirs, ours, native = outcomes
    assert ours == theirs
    assert native[:2] == theirs[:2]
    if theirs[2] is not None:
        # Started as root, the three variables that say who one is follow the user.
        assert isinstance(theirs[2], dict)
        theirs[2]["environ"].update(USER="nova", LOGNAME="nova")
        assert native[2] == theirs[2]


def test_no_trace_in_what_a_script_redirects(boxes: tuple[Sandbox, Sandbox]) -> None:
    """As mariadb-server's bootstrap does with its log."""
    log = "/var/lib/nova/bootstrap.log"
    found = []
    for box, debug in ((boxes[0], {}), (boxes[1], {}), (boxes[1], {"KOLLA_DEBUG": "1"})):
        box.write("/usr/local/bin/kolla_extend_start", f"{{ echo made; }} > {log} 2>&1\n")
        box.document({"command": "report"})
        assert started(box, "nova", debug)[0] == 0
        found.append([line.lstrip("+ ") for line in box.read(log).splitlines()])
    theirs, ours, asked_for = found
    assert ours == ["made"]
    assert theirs == asked_for == ["echo made", "made"]
