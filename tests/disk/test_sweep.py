"""Owners of a large tree, on quick storage and on slow."""

import os
from typing import Any

import pytest
from documents import document, entry
from moments import failing_at, moments, stopped_at
from outcomes import applied, no_bug
from sandbox import KOLLA_GID, Sandbox

VOLUME = "/var/lib/volume"
DIRECTORIES, FILES = 60, 100
ENTRIES = DIRECTORIES * (FILES + 1) + 1
GROW = f"""
import os
for d in range({DIRECTORIES}):
    os.makedirs(f"{VOLUME}/{{d}}")
    for f in range({FILES}):
        os.close(os.open(f"{VOLUME}/{{d}}/{{f}}", os.O_CREAT, 0o600))
os.symlink("/etc/passwd", "{VOLUME}/0/0-link")
os.lchown("{VOLUME}/0/0-link", 1, 1)  # what root itself links to is meant
"""
WALK = {"path": VOLUME, "owner": "nova", "perm": "0640", "recurse": True}
DOCUMENT = {"command": "true", "permissions": [WALK]}
ENVIRON = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}


@pytest.fixture
def volume(sandbox: Sandbox) -> Sandbox:
    sandbox.adduser("nova", 4321)
    sandbox.run(["/usr/bin/python3", "-c", GROW], check=True)
    sandbox.document(DOCUMENT)
    return sandbox


def run(sandbox: Sandbox, *inject: str) -> str:
    tracer = ["strace", "-f", "-qq", "-o", "/srv/trace", *inject] if inject else []
    done = sandbox.run([*tracer, "kolla_set_configs"], env=ENVIRON, check=True)
    return done.stderr


def wrong(sandbox: Sandbox) -> list[str]:
    found = []
    for place, inner, names in os.walk(sandbox.host(VOLUME)):
        for path in [place, *(f"{place}/{name}" for name in names)]:
            status = os.lstat(path)
            mode = 0o750 if path == place else 0o777 if path.endswith("-link") else 0o640
            if (status.st_uid, status.st_gid, status.st_mode & 0o7777) != (4321, 4321, mode):
                found.append(path)
        assert inner or names
    return found


def test_all_is_set(volume: Sandbox) -> None:
    said = run(volume)
    assert wrong(volume) == []
    assert volume.stat("/etc/passwd").st_uid == 0
    # All but the link's, whose owner alone is set, and each once.
    assert f"owner or mode of {ENTRIES + 1} entries set" in said
    volume.mark()
    assert "entries set" not in run(volume)
    assert volume.changes() == {}


@pytest.mark.parametrize("number", [0, 29, 30, 58, 59])
def test_a_directory_that_cannot_be_read_is_said_and_the_rest_is_set(
    volume: Sandbox, number: int
) -> None:
    place = f"{VOLUME}/{number}"
    fault = ["-e", "trace=getdents64", "-e", "inject=getdents64:error=EIO"]
    said = run(volume, "--seccomp-bpf", "-P", place, *fault)
    assert f"WARNING permissions: {place}: Input/output error" in said
    assert "1 entries could not be changed" in said
    left = set(wrong(volume))
    inside = f"{volume.host(VOLUME)}/{number}/"
    assert len(left) == len(os.listdir(inside)) and all(path.startswith(inside) for path in left)


PLACES = [VOLUME, *(f"{VOLUME}/{number}" for number in range(DIRECTORIES))]
SLOW = ["--seccomp-bpf", *(word for place in PLACES for word in ("-P", place))]
SLOW += ["-e", "trace=newfstatat,openat,getdents64"]
SLOW += ["-e", "inject=newfstatat,openat,getdents64:delay_exit=300"]


def test_slow_storage_and_few_descriptors(volume: Sandbox) -> None:
    for number in range(0, DIRECTORIES, 7):
        for inner in range(5):
            volume.write(f"{VOLUME}/{number}/inner{inner}/deeper/file", mode=0o600)
    tracer = ["prlimit", "--nofile=64", "strace", "-f", "-qq", "-o", "/srv/trace", *SLOW]
    done = volume.run([*tracer, "kolla_set_configs"], env=ENVIRON, check=True)
    assert "WARNING" not in done.stderr
    assert wrong(volume) == []
    done = volume.run([*tracer, "kolla_set_configs"], env=ENVIRON, check=True)
    assert "entries set" not in done.stderr
    trace = volume.read("/srv/trace").splitlines()
    assert len({line.split()[0] for line in trace if " openat(" in line}) > 2  # threads open, too


@pytest.mark.parametrize("slow", [(), tuple(SLOW)], ids=["local", "slow"])
def test_failures_are_counted(volume: Sandbox, slow: tuple[str, ...]) -> None:
    for number in range(0, DIRECTORIES, 10):
        place = f"{VOLUME}/{number}"
        volume.run(["mount", "--bind", place, place], check=True)
        volume.run(["mount", "-o", "remount,bind,ro", place], check=True)
    said = run(volume, *slow)
    count = DIRECTORIES // 10 * (FILES + 1) + 1
    assert f"{count} entries could not be changed" in said
    assert f"owner or mode of {ENTRIES + 1 - count} entries set" in said


def permissions(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"command": "true", "permissions": list(entries)}


def test_a_circle_of_links_is_said_and_the_rest_is_set(sandbox: Sandbox) -> None:
    sandbox.adduser("nova", 4321)
    sandbox.symlink("circle", "/opt/app/circle")
    sandbox.write("/opt/app/sub/file")
    sandbox.document(permissions({"path": "/opt/app", "owner": "nova", "recurse": True}))
    assert "WARNING permissions: /opt/app/circle: Too many levels" in run(sandbox)
    for path in ("/opt/app", "/opt/app/circle", "/opt/app/sub", "/opt/app/sub/file"):
        assert sandbox.owner(path) == (4321, 4321)


def test_behind_a_directory_that_changes_hands_too(sandbox: Sandbox) -> None:
    """What a link leads to is set before: later its new owner could have put it there."""
    sandbox.adduser("nova", 4321)
    for path in ("/srv/given", "/srv/given/others"):
        sandbox.mkdir(path, owner="daemon")
    sandbox.write("/srv/given/others/file", owner="daemon")
    sandbox.symlink("/srv/given/others/file", "/opt/app/link")
    sandbox.document(
        permissions(
            {"path": "/opt/app", "owner": "nova", "recurse": True},
            {"path": "/srv/given", "owner": "nova"},
        )
    )
    assert "WARNING" not in run(sandbox)
    assert sandbox.owner("/srv/given") == (4321, 4321)
    assert sandbox.owner("/srv/given/others") == (1, 1)
    assert sandbox.owner("/srv/given/others/file") == (4321, 4321)
    assert "WARNING" not in run(sandbox)


@pytest.mark.parametrize("call", ["fchownat", "chown"])
@pytest.mark.parametrize("number", range(1, 6))
def test_killed_between_a_link_and_what_it_stands_for(
    sandbox: Sandbox, call: str, number: int
) -> None:
    """Once the link, or its directory, is the service's it stands for nothing any more."""
    sandbox.adduser("nova", 4321)
    sandbox.write("/srv/outside", "x")
    sandbox.symlink("/srv/outside", "/opt/app/inner/link")
    sandbox.document(permissions({"path": "/opt/app", "owner": "nova", "recurse": True}))
    killed = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    killed += ["-e", f"inject={call}:signal=KILL:when={number}", "kolla_set_configs"]
    sandbox.run(killed, env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"})
    run(sandbox)
    for path in ("/srv/outside", "/opt/app/inner/link", "/opt/app/inner", "/opt/app"):
        assert sandbox.owner(path) == (4321, 4321), path


def test_a_link_to_a_directory_that_is_made_for_a_destination(sandbox: Sandbox) -> None:
    """Nobody has said whose that is to be, but whoever wrote the link."""
    sandbox.adduser("nova", 4321)
    sandbox.symlink("/etc/made", "/opt/app/link")
    sandbox.source("s", "s")
    tree = {"path": "/opt/app", "owner": "nova", "recurse": True}
    applied(sandbox, document(entry("s", "/etc/made/s"), permissions=[tree]))
    assert sandbox.owner("/etc/made") == (4321, 4321)
    assert sandbox.owner("/etc/made/s") == (0, 0)


def test_a_link_in_a_directory_of_a_service_that_is_left_out(sandbox: Sandbox) -> None:
    """Its own owner could have made the link: it is changed itself, and what it leads to is not."""
    sandbox.adduser("nova", 4321)
    sandbox.mkdir("/opt/app/own", owner="daemon")
    sandbox.symlink("/etc/passwd", "/opt/app/own/link", owner="daemon")
    inside = {"path": "/opt/app", "owner": "nova", "recurse": True, "exclude": ["/own$"]}
    applied(sandbox, document(permissions=[inside, {"path": "/opt/app", "owner": "root"}]))
    assert sandbox.owner("/opt/app/own") == (1, 1)
    assert sandbox.owner("/opt/app/own/link") == (4321, 4321)
    assert sandbox.owner("/etc/passwd") == (0, 0)


def test_a_tree_that_is_moved_while_it_is_walked(sandbox: Sandbox) -> None:
    """Directories above are found again through "..": only if that is where they were."""
    names = [f"level{number}" for number in range(20)]
    deep = f"{VOLUME}/{'/'.join(names)}"
    moved = f"{VOLUME}/{'/'.join(names[:4])}"
    elsewhere = "/var/lib/elsewhere"

    def plant(box: Sandbox) -> None:
        box.adduser("nova", 4321)
        box.write(f"{deep}/file")
        box.mkdir(elsewhere, mode=0o700)
        box.run(["chown", "-R", "daemon:", VOLUME], check=True)
        box.document(permissions({"path": VOLUME, "owner": "nova", "recurse": True}))

    plant(sandbox)
    moment = moments(sandbox, ['"file"'])[-1]
    with Sandbox() as box:
        plant(box)
        done = stopped_at(
            box, moment, lambda: box.run(["mv", "-T", moved, f"{elsewhere}/tree"], check=True)
        )
        assert done is not None and done.returncode == 0
        assert "moved while it was walked" in done.stderr
        assert box.owner(elsewhere) == (0, 0) and box.mode(elsewhere) == 0o700


def test_a_long_walk_says_how_far_it_is(sandbox: Sandbox) -> None:
    sandbox.adduser("nova", 4321)
    grow = f"import os; os.mkdir('{VOLUME}'); [open(f'{VOLUME}/{{n}}', 'w') for n in range(5000)]"
    sandbox.run(["/usr/bin/python3", "-c", grow], check=True)
    sandbox.document(permissions({"path": VOLUME, "owner": "nova", "recurse": True}))
    slow = ["-e", "trace=getdents64", "-e", "inject=getdents64:delay_exit=5500000:when=1"]
    said = run(sandbox, "-P", VOLUME, *slow)
    assert f"INFO still setting owners and modes in {VOLUME}: 0 done" in said


@pytest.mark.parametrize("owner", ["nova:root", "root:nova"])
def test_the_user_or_the_group_alone_is_wrong(sandbox: Sandbox, owner: str) -> None:
    sandbox.adduser("nova", 4321)
    sandbox.mkdir("/srv/top", owner=owner)
    for path in ("/srv/top/file", "/srv/one"):
        sandbox.write(path, "", owner)
    tree = {"path": "/srv/top", "owner": "nova", "recurse": True}
    applied(sandbox, document(permissions=[tree, {"path": "/srv/one", "owner": "nova"}]))
    for path in ("/srv/top", "/srv/top/file", "/srv/one"):
        assert sandbox.owner(path) == (4321, 4321)


def test_a_directory_that_is_made_for_a_destination(sandbox: Sandbox) -> None:
    sandbox.adduser("nova", 4321)
    sandbox.source("s", "s")
    named = {"path": "/etc/made", "owner": "nova", "perm": "0750"}
    applied(sandbox, document(entry("s", "/etc/made/s"), permissions=[named]))
    assert sandbox.owner("/etc/made") == (4321, 4321) and sandbox.mode("/etc/made") == 0o750


def test_a_service_whose_uid_has_changed(sandbox: Sandbox) -> None:
    """What lay where the old uid alone could write follows, however private it is."""
    for name, uid in (("nova", 4321), ("before", 4320)):
        sandbox.adduser(name, uid, groups=["kolla"])
    sandbox.mkdir("/var/lib/nova", 0o755, "before:kolla")
    sandbox.write("/var/lib/nova/key", "", "before:kolla", 0o600)
    tree = {"path": "/var/lib/nova", "owner": "nova", "recurse": True}
    applied(sandbox, document(permissions=[tree]))
    assert sandbox.owner("/var/lib/nova/key") == (4321, 4321)


def _link_of_the_image(box: Sandbox) -> None:
    box.adduser("nova", 4321)
    box.write("/srv/outside")
    box.mkdir("/srv/volume")
    box.symlink("../outside", "/srv/volume/link")
    rule = {"path": "/srv/volume", "owner": "nova:kolla", "recurse": True}
    box.document(document(permissions=[rule]))


@pytest.mark.parametrize("error", ["EIO", "ENOMEM"])
def test_what_a_link_leads_to_is_not_forgotten(error: str) -> None:
    """Each call that concerns it fails once: the next start still knows that it is the image's."""
    with Sandbox() as box:
        _link_of_the_image(box)
        found = moments(box, ["/srv/outside", '/srv>, "outside"', '/srv/volume>, "link"'])
    assert len(found) > 3
    lost = []
    for moment in found:
        with Sandbox() as box:
            _link_of_the_image(box)
            done = failing_at(box, moment, error)
            no_bug(done)
            applied(box)
            given = ("/srv/outside", "/srv/volume", "/srv/volume/link")
            if {box.owner(path) for path in given} != {(4321, KOLLA_GID)}:
                lost.append(f"{moment}: {done.stderr[-300:]}")
    assert not lost
