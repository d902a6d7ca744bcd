"""What a start imports: lists that are kept by hand, so that nobody makes them longer unseen.

Each module costs every start of every container: some hundred microseconds from its source, some
thirty in the one file that a start reads (test_install.py). Whoever adds one says here that it is
worth it.
"""

import pytest
import pythons
from sandbox import TREE, VENV, Sandbox

from kolla_start import install

# Of every start; of one that does the privileged stage itself; of one whose document asks for it.
START = """
accounts disk disk.given disk.planted disk.read disk.remove disk.source disk.storage disk.walk
disk.write document document.text errors homes kernel launch launch.cacerts launch.certificates
launch.privileges launch.program launch.projects launch.service log process records start
""".split()
PRIVILEGED = """
apply document.judge document.load document.rules document.table plan plan.compare plan.copying
plan.decide plan.draft plan.foresee plan.gather plan.originals plan.permissions plan.recorded
plan.sources plan.steps plan.wanted plan.ways progress set_configs
""".split()
ASKED = "disk.level disk.sweep disk.tree".split()
# By the import system and not with what needs them: what is imported inside functions.
LATER = ["set_configs", "disk.sweep", "disk.tree"]

# What the interpreter itself has loaded before the first line of ours is no business of ours; which
# of these that is depends on its version.
BORROWED = "_json _stat errno fcntl gc grp itertools pwd stat".split()
FUTURE = ["__future__"]  # is no import where the modules were compiled beforehand

# DESIGN's fifth invariant names these; `re` and what it brings would cost a third of a start.
FORBIDDEN = """
pydantic jsonschema psutil yaml argparse logging shutil subprocess typing pathlib dataclasses ctypes
json re enum functools collections contextlib glob fnmatch tempfile threading inspect signal site
os _collections_abc
""".split()


COMMAND = "/usr/local/bin/kolla_start"


def imported(
    sandbox: Sandbox, python: str = f"{VENV}/bin/python", command: str = COMMAND
) -> tuple[set[str], set[str]]:
    """The modules of a start up to the exec that a bare interpreter has not, and those it has."""
    flags = ["-I", "-S", "-B", "-X", "utf8", "-X", "importtime"]
    bare = sandbox.run([python, *flags, "-c", "pass"], check=True)
    done = sandbox.run([python, *flags, command], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"})
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


def expected(bare: set[str], at_once: bool) -> set[str]:
    own = LATER if at_once else [*START, *PRIVILEGED, *ASKED]
    names = {f"kolla_start.{name}" for name in own} | set(BORROWED)
    return names - bare if at_once else (names | {"kolla_start", *FUTURE}) - bare


def from_sources(box: Sandbox) -> str:
    """The command as it would be without the one file."""
    text = box.read(COMMAND)
    place = text[text.index('open("') if 'open("' in text else text.index("open('") :].split(",")[0]
    box.write("/srv/from-sources", text.replace(place, "open('/nonexistent'"))
    return "/srv/from-sources"


def test_the_modules_of_a_start(container: Sandbox) -> None:
    for _ in ("first", "again"):
        found, bare = imported(container)
        assert not found & set(FORBIDDEN)
        assert found == expected(bare, at_once=True)


def test_the_modules_of_a_start_from_the_sources(container: Sandbox) -> None:
    command = from_sources(container)
    for _ in ("first", "again"):
        found, bare = imported(container, command=command)
        assert not found & set(FORBIDDEN)
        assert found == expected(bare, at_once=False)


def needed(first: str) -> set[str]:
    """What a module of ours needs of ours, in the one file."""
    found = install.needs(f"kolla_start.{first}", install.sources(f"{TREE}/kolla_start"))
    return {name.partition(".")[2] for name in found} - {""}


def test_a_start_through_sudo_needs_no_plan() -> None:
    """It has the privileged stage done by another process, which needs nothing of the launch."""
    assert needed("start") == set(START)
    launch = {name for name in START if name.partition(".")[0] == "launch"}
    assert needed("set_configs") == {*START, *PRIVILEGED} - launch - {"start"}


def test_a_start_under_every_python_of_this_machine(
    container: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same modules, the same result; one that is not installed is named.

    All but that of the sandbox import from the sources: the one file is for another Python.
    """
    with capsys.disabled():
        print(f"\na start under Python {pythons.said()}")
    assert pythons.installed()
    command = from_sources(container)
    states = {}
    for version, python in pythons.installed().items():
        container.remove("/etc/nova")
        container.remove("/var/lib/nova/tmp")
        first, bare = imported(container, python, command)
        assert first == expected(bare, at_once=False), version
        status = container.stat("/etc/nova/nova.conf")
        states[version] = (status.st_uid, status.st_mode, container.read("/etc/nova/nova.conf"))
        assert imported(container, python, command)[0] == first
    assert len(set(states.values())) == 1


def test_a_command_that_needs_no_user_needs_no_more(container: Sandbox) -> None:
    container.document({"command": "/bin/true"})
    imported(container)
    found, bare = imported(container)
    assert found <= expected(bare, at_once=True)
