"""What a start imports: a list that is kept by hand, so that nobody makes it longer unseen.

Each module costs every start of every container some hundred microseconds. Whoever adds one says
here that it is worth it.
"""

import pytest
import pythons
from sandbox import VENV, Sandbox

# What the interpreter itself has loaded before the first line of ours is no business of ours; which
# of these that is depends on its version (from 3.13 on, `os` brings errno).
OWN = """
acceptor apply cacerts disk document entry errors forms launch log owners ownership plan
privileges projects records set_configs start tree treewalk
""".split()
BORROWED = "_json errno fcntl grp itertools pwd".split()

# DESIGN's fifth invariant names these; `re` and what it brings would cost a third of a start.
FORBIDDEN = """
pydantic jsonschema psutil yaml argparse logging shutil subprocess typing pathlib dataclasses ctypes
json re enum functools collections contextlib glob fnmatch tempfile threading inspect signal site
""".split()


def imported(sandbox: Sandbox, python: str = f"{VENV}/bin/python") -> tuple[set[str], set[str]]:
    """The modules of a start up to the exec that a bare interpreter has not, and those it has."""
    flags = ["-I", "-S", "-B", "-X", "utf8", "-X", "importtime"]
    bare = sandbox.run([python, *flags, "-c", "import os, stat"], check=True)
    done = sandbox.run(
        [python, *flags, "/usr/local/bin/kolla_start"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    )
    assert done.returncode == 0, done.stderr
    return names(done.stderr) - names(bare.stderr), names(bare.stderr)


def names(report: str) -> set[str]:
    lines = [line for line in report.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines} - {"imported package"}


@pytest.fixture
def container(sandbox: Sandbox) -> Sandbox:
    """A document with every section, as services have them, in JSON."""
    sandbox.adduser("nova", 42436)
    sandbox.mkdir("/var/lib/nova", owner="nova")
    sandbox.source("nova.conf", "[DEFAULT]\n")
    copy = {
        "source": "/var/lib/kolla/config_files/nova.conf",
        "dest": "/etc/nova/nova.conf",
        "owner": "nova",
        "perm": "0600",
    }
    walk = {
        "path": "/var/lib/nova",
        "owner": "nova:nova",
        "recurse": True,
        "exclude": ["^/var/lib/nova/instances/"],
    }
    made = {"path": "/var/lib/nova/tmp", "owner": "nova", "perm": "0755"}
    sandbox.document(
        {
            "command": "/bin/true",
            "config_files": [copy],
            "directories": [made],
            "permissions": [walk],
            "user": "nova",
        }
    )
    return sandbox


EXPECTED = {"kolla_start", *(f"kolla_start.{name}" for name in OWN), *BORROWED}


def test_the_modules_of_a_start(container: Sandbox) -> None:
    first, bare = imported(container)
    assert not first & set(FORBIDDEN)
    assert first == EXPECTED - bare
    again, bare = imported(container)
    assert again == EXPECTED - bare


def test_a_start_under_every_python_of_this_machine(
    container: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same modules, the same result; one that is not installed is named."""
    with capsys.disabled():
        print(f"\na start under Python {pythons.said()}")
    assert pythons.installed()
    states = {}
    for version, python in pythons.installed().items():
        container.remove("/etc/nova")
        container.remove("/var/lib/nova/tmp")
        first, bare = imported(container, python)
        assert first == EXPECTED - bare, version
        status = container.stat("/etc/nova/nova.conf")
        states[version] = (status.st_uid, status.st_mode, container.read("/etc/nova/nova.conf"))
        assert imported(container, python)[0] == first
    assert len(set(states.values())) == 1


def test_a_command_that_needs_no_user_needs_no_more(container: Sandbox) -> None:
    container.document({"command": "/bin/true"})
    imported(container)
    assert imported(container)[0] <= EXPECTED
