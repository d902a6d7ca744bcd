"""COPY_ONCE is done when everything is done; what failed in `permissions` is tried again."""

from typing import Any

import pytest
from documents import document, entry
from outcomes import mode
from sandbox import Sandbox

PLACE = "/var/lib/volume"


def furnish(box: Sandbox, **more: Any) -> None:
    """A path of `permissions` on a volume that is mounted read-only for now."""
    box.adduser("svc", 4321)
    box.source("s", "from the operator")
    box.write(f"{PLACE}/data", "x", mode=0o600)
    box.run(["mount", "--bind", PLACE, PLACE], check=True)
    writable(box, "ro")
    asked = [{"path": f"{PLACE}/data", "owner": "svc", "perm": "0640", **more}]
    box.document(document(entry("s", "/etc/s"), permissions=asked, user="svc", command="true"))


def writable(box: Sandbox, how: str) -> None:
    box.run(["mount", "-o", f"remount,bind,{how}", PLACE], check=True)


@pytest.mark.parametrize("command", ["kolla_start", "kolla_set_configs"])
@pytest.mark.parametrize("recurse", [False, True])
def test_what_failed_in_permissions_is_tried_again(
    sandbox: Sandbox, recurse: bool, command: str
) -> None:
    furnish(sandbox, recurse=recurse)
    env = {"KOLLA_CONFIG_STRATEGY": "COPY_ONCE"}
    for _ in range(2):
        done = sandbox.run([command], env=env)
        assert done.returncode == 0, done.stderr
        assert f"{PLACE}/data" in done.stderr and "WARNING" in done.stderr
    writable(sandbox, "rw")
    done = sandbox.run([command], env=env)
    assert done.returncode == 0, done.stderr
    assert sandbox.stat(f"{PLACE}/data").st_uid == 4321
    assert mode(sandbox, f"{PLACE}/data") == "0640"
    assert sandbox.exists("/configured")
    sandbox.mark()
    sandbox.document("not even JSON")
    done = sandbox.run([command], env=env)
    assert done.returncode == 0, done.stderr
    assert {path for path in sandbox.changes() if "config_files" not in path} == set()


def test_once_it_is_done_nothing_is_copied_again(sandbox: Sandbox) -> None:
    """Also where it was done only at a second start."""
    furnish(sandbox)
    assert sandbox.set_configs(strategy="COPY_ONCE").returncode == 0
    writable(sandbox, "rw")
    assert sandbox.set_configs(strategy="COPY_ONCE").returncode == 0
    sandbox.write("/etc/s", "changed by hand")
    assert sandbox.set_configs(strategy="COPY_ONCE").returncode == 0
    assert sandbox.read("/etc/s") == "changed by hand"
