"""The instrument itself: that a sandbox keeps to itself and sees exactly what was changed."""

import os
import signal
import subprocess
import time

import pytest
from sandbox import Sandbox, Unusable


def test_it_leaves_the_machine_alone_and_is_quick(sandbox: Sandbox) -> None:
    sandbox.run(["sh", "-c", "echo x >/etc/kolla_start_was_here; rm /etc/passwd"], check=True)
    assert not os.path.exists("/etc/kolla_start_was_here")
    assert os.path.exists("/etc/passwd")
    began = time.monotonic()
    with Sandbox() as other:
        assert other.exists("/etc/passwd")
        assert not other.exists("/etc/kolla_start_was_here")
    assert time.monotonic() - began < 1


def test_changes_are_the_exact_list(sandbox: Sandbox) -> None:
    sandbox.write("/srv/kept", "as it was")
    sandbox.write("/srv/rewritten", "same")
    sandbox.mkdir("/srv/tree/below")
    sandbox.mark()
    assert sandbox.changes() == {}
    script = """
        echo new >/etc/added; chmod 640 /etc/added; chown 1:2 /etc/added
        rm /etc/hostname
        rm -rf /etc/apt; mkdir /etc/apt
        rm -rf /srv/tree
        chmod 700 /srv
        chown root /etc/passwd   # copied up, unchanged
        ln -s nowhere /var/link
        printf same >/srv/rewritten
    """
    before = set(os.listdir("/etc/apt"))
    sandbox.run(["sh", "-ec", script], check=True)
    changes = sandbox.changes()
    kinds = {path: change.kind for path, change in changes.items()}
    assert {path: kind for path, kind in kinds.items() if not path.startswith("/etc/apt")} == {
        "/etc/added": "file",
        "/etc/hostname": "removed",
        "/srv": "directory",
        "/srv/rewritten": "file",
        "/srv/tree": "removed",
        "/var/link": "link",
    }
    assert {path.rpartition("/")[2] for path in kinds if path.startswith("/etc/apt/")} == before
    added = changes["/etc/added"]
    assert (added.uid, added.gid, added.mode) == (1, 2, 0o640)
    assert changes["/var/link"].target == "nowhere"


def test_runs_are_ordinary_children(sandbox: Sandbox) -> None:
    sandbox.adduser("nova", groups=["kolla"])
    done = sandbox.run(["sh", "-c", "id -un; id -Gn; cat; exit 7"], user="nova", input="said\n")
    assert done.stdout == "nova\nnova kolla\nsaid\n"
    assert done.returncode == 7
    sleeper = sandbox.popen(["sleep", "60"])
    sleeper.send_signal(signal.SIGTERM)
    assert sleeper.wait(5) == -signal.SIGTERM
    with pytest.raises(subprocess.TimeoutExpired):
        sandbox.run(["sleep", "60"], timeout=0.2)


def test_paths_from_outside_stay_inside(sandbox: Sandbox) -> None:
    sandbox.symlink("/srv/here", "/srv/absolute")
    sandbox.mkdir("/srv/here")
    sandbox.write("/srv/absolute/file", "inside")
    assert sandbox.read("/srv/here/file") == "inside"
    assert not os.path.exists("/srv/here/file")


def test_a_network_of_its_own() -> None:
    try:
        with Sandbox(network="private", installed=False) as box:
            assert box.run(["ls", "/sys/class/net"]).stdout == "lo\n"
    except Unusable as reason:
        pytest.skip(str(reason))
