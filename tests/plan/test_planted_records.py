"""Records that somebody else can have written are not believed, and the start goes on.

On a read-only root the records live in /run/kolla: an emptyDir (0777) or a tmpfs (1777) that
survives a restart of the container. The service plants there what a start of another document has
really left, as its own files; the next start runs as root.
"""

import os
import shutil
from typing import Any

import pytest
from documents import document, entry
from outcomes import no_bug
from sandbox import Sandbox

UID = 4321
RECORDS = "/run/kolla"
APP = "/etc/app"
PRECIOUS = f"{APP}/precious"
STRATEGIES = ("COPY_ALWAYS", "COPY_ONCE")
MODES = ("0777", "1777")


def furnish(box: Sandbox, mode: str) -> None:
    box.adduser("svc", UID)
    for place in (RECORDS, APP, "/var/lib/svc"):
        box.mkdir(place)
        box.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", place], check=True)
    box.chmod(RECORDS, int(mode, 8))
    box.chown("/var/lib/svc", "svc")
    box.write(PRECIOUS, "root's own", mode=0o600)
    box.source("s", "from the operator")
    box.document(DOCUMENT)


DOCUMENT: dict[str, Any] = {
    **document(entry("s", f"{APP}/s"), user="svc"),
    "command": ["sh", "-c", "echo service of $(id -u)"],
}
EVIL: dict[str, Any] = {
    **document(entry("s", PRECIOUS), entry("s", f"{APP}/evil"), user="0"),
    "command": ["sh", "-c", "echo evil of $(id -u); touch /etc/app/pwned"],
}


def read_only(box: Sandbox) -> None:
    box.run(["mount", "-o", "remount,bind,ro", "/"], check=True)


@pytest.fixture(scope="module")
def harvest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a start of the evil document leaves in /run/kolla, its original made the service's."""
    where = str(tmp_path_factory.mktemp("records") / "kolla")
    with Sandbox() as box:
        furnish(box, "0755")
        box.write(PRECIOUS, "ALL ALL=(ALL) NOPASSWD: ALL\n", mode=0o644)
        box.document(EVIL)
        read_only(box)
        done = box.start(strategy="COPY_ONCE")
        assert done.returncode == 0, done.stderr
        shutil.copytree(box.host(RECORDS), where)
    return where


def plant(box: Sandbox, harvest: str) -> list[str]:
    """As the service, whatever it may do: take away what is there and put its own."""
    box.run(
        ["sh", "-c", f"rm -rf {RECORDS}/* {RECORDS}/.k*; mv {RECORDS}/defaults {RECORDS}/aside"],
        user="svc",
    )
    planted = []
    for name in sorted(os.listdir(harvest)):
        if box.exists(f"{RECORDS}/{name}") or not _writable(box):
            continue
        shutil.copytree(harvest, box.host("/var/lib/svc/harvest"), dirs_exist_ok=True)
        box.run(["chown", "-R", "svc:svc", "/var/lib/svc/harvest"], check=True)
        moved = box.run(
            ["cp", "-r", f"/var/lib/svc/harvest/{name}", f"{RECORDS}/{name}"], user="svc"
        )
        assert moved.returncode == 0, moved.stderr
        planted.append(name)
    return planted


def _writable(box: Sandbox) -> bool:
    return box.run(["test", "-w", RECORDS], user="svc").returncode == 0


def good(box: Sandbox, strategy: str) -> None:
    """The service of the document runs as its user, and nothing of root's was touched."""
    done = box.start(strategy=strategy, timeout=20)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout == f"service of {UID}\n", (done.stdout, done.stderr)
    assert box.read(f"{APP}/s") == "from the operator"
    assert box.read(PRECIOUS) == "root's own"
    assert not box.exists(f"{APP}/pwned") and not box.exists(f"{APP}/evil")
    for top, directories, files in os.walk(box.host(RECORDS)):
        if os.path.basename(top) in ("aside", "harvest") or top[-2:-1] == ".":  # put away
            directories.clear()
            continue
        for name in (*directories, *files):
            if name in ("options", "run_command", "configured", "state", "defaults", "lock"):
                status = os.lstat(f"{top}/{name}")
                assert status.st_uid == 0, f"{top}/{name} belongs to uid {status.st_uid}"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mode", MODES)
def test_planted_before_the_first_start(
    sandbox: Sandbox, harvest: str, mode: str, strategy: str
) -> None:
    furnish(sandbox, mode)
    assert "options" in plant(sandbox, harvest)
    read_only(sandbox)
    good(sandbox, strategy)
    good(sandbox, strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mode", MODES)
def test_planted_between_two_starts(
    sandbox: Sandbox, harvest: str, mode: str, strategy: str
) -> None:
    """And once more after that: what root wrote itself cannot be taken away again."""
    furnish(sandbox, mode)
    read_only(sandbox)
    good(sandbox, strategy)
    for _ in range(2):
        plant(sandbox, harvest)
        good(sandbox, strategy)


@pytest.mark.parametrize("mode", MODES)
def test_check_does_not_believe_them(sandbox: Sandbox, harvest: str, mode: str) -> None:
    """kolla-ansible asks as root: changed or cannot tell, but never unchanged by a planted word."""
    furnish(sandbox, mode)
    plant(sandbox, harvest)
    sandbox.document(EVIL)
    read_only(sandbox)
    check = sandbox.set_configs("--check")
    assert check.returncode in (1, 2), check.stderr
    assert "Traceback" not in check.stderr


FILES = ("options", "run_command", "configured", "defaults", "defaults/state", "defaults/lock",
         "defaults/kolla_start")  # fmt: skip


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("how", ["fifo", "link", "directory", "garbage", "nothing"])
@pytest.mark.parametrize("name", FILES)
def test_odd_things_planted(
    sandbox: Sandbox, harvest: str, name: str, how: str, strategy: str
) -> None:
    """A FIFO nobody writes to, a link to root's, a directory, garbage: no wait and no traceback."""
    furnish(sandbox, "0777")
    plant(sandbox, harvest)
    place = f"{RECORDS}/{name}"
    assert sandbox.run(["rm", "-rf", place], user="svc").returncode == 0
    made = {
        "fifo": ["mkfifo", place],
        "link": ["ln", "-s", PRECIOUS if name != "defaults" else "/var/lib/svc", place],
        "directory": ["mkdir", "-p", f"{place}/full"],
        "garbage": ["sh", "-c", f"head -c 3000 /dev/urandom >{place}"],
        "nothing": ["true"],
    }[how]
    assert sandbox.run(made, user="svc").returncode == 0
    read_only(sandbox)
    good(sandbox, strategy)
    good(sandbox, strategy)


@pytest.mark.parametrize("mode", ["0755", "0700", "0777"])
@pytest.mark.parametrize("user", [None, "svc"])
def test_somebody_else_s_directory(sandbox: Sandbox, mode: str, user: str | None) -> None:
    """/run/kolla belongs to a third user: no traceback, with root or without."""
    furnish(sandbox, mode)
    sandbox.adduser("third", 4444)
    sandbox.chown(RECORDS, "third")
    sandbox.chmod(RECORDS, int(mode, 8))
    sandbox.chown(APP, "svc")
    sandbox.chown(PRECIOUS, "svc")
    sandbox.document({**DOCUMENT, "config_files": [entry("s", f"{APP}/s", owner="svc")]})
    sandbox.run(["rm", "-f", "/usr/bin/sudo"])
    read_only(sandbox)
    for strategy in STRATEGIES:
        done = sandbox.start(strategy=strategy, user=user)
        no_bug(done)
        if user is None:
            assert done.returncode == 0, done.stderr
            assert done.stdout == f"service of {UID}\n"
        else:
            assert done.returncode == 0 or "/run/kolla" in done.stderr
        check = sandbox.set_configs("--check", strategy=strategy, user=user)
        assert "Traceback" not in check.stderr, check.stderr


def test_a_directory_above_that_others_can_write(sandbox: Sandbox, harvest: str) -> None:
    """/run itself is open: who can rename /run/kolla can plant another one in its place."""
    furnish(sandbox, "0755")
    read_only(sandbox)
    sandbox.run(["mount", "-t", "tmpfs", "-o", "mode=777", "none", "/run"], check=True)
    good(sandbox, "COPY_ONCE")
    done = sandbox.run(["sh", "-c", f"mv {RECORDS} /run/aside && mkdir {RECORDS}"], user="svc")
    if done.returncode == 0:
        plant(sandbox, harvest)
    good(sandbox, "COPY_ONCE")
