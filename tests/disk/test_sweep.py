"""Owners of a large tree, on quick storage and on slow."""

import os

import pytest
from sandbox import Sandbox

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
