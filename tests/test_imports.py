"""What a start imports: a list that is kept by hand, so that nobody makes it longer unseen.

Each module costs every start of every container some hundred microseconds. Whoever adds one says
here that it is worth it.
"""

import pytest
from sandbox import VENV, Sandbox

# What the interpreter itself has loaded before the first line of ours is no business of ours.
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


def imported(sandbox: Sandbox, *options: str) -> set[str]:
    """The modules of a start up to the exec, without what a bare interpreter has."""
    python = f"{VENV}/bin/python"
    flags = ["-I", "-S", "-B", "-X", "utf8", *options, "-X", "importtime"]
    bare = sandbox.run([python, *flags, "-c", "import os, stat"], check=True)
    done = sandbox.run(
        [python, *flags, "/usr/local/bin/kolla_start"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    )
    assert done.returncode == 0, done.stderr
    return names(done.stderr) - names(bare.stderr)


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


def expected() -> set[str]:
    return {"kolla_start", *(f"kolla_start.{name}" for name in OWN), *BORROWED}


def test_the_modules_of_a_start(container: Sandbox) -> None:
    first = imported(container)
    assert not first & set(FORBIDDEN)
    assert first == expected()
    assert imported(container) == expected()


def test_a_command_that_needs_no_user_needs_no_more(container: Sandbox) -> None:
    container.document({"command": "/bin/true"})
    imported(container)
    assert imported(container) <= expected()
