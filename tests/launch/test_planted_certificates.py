"""What a service can write is not trusted: its own certificates never become the system's.

A document copies a directory of certificates, as Kolla's do, and may give it to the service; what
the service adds there later is its own.
"""

import os
from typing import Any

import pytest
from documents import document, entry
from sandbox import Sandbox

COPIED = "/var/lib/kolla/share/ca-certificates"
ANCHORS = "/usr/local/share/ca-certificates"
STRATEGIES = ["COPY_ALWAYS", "COPY_ONCE"]


def furnish(box: Sandbox, owner: str, **keys: Any) -> None:
    box.adduser("svc", 4321)
    box.mkdir(ANCHORS)
    for name in os.listdir(box.host(ANCHORS)):
        box.remove(f"{ANCHORS}/{name}")
    box.write("/usr/sbin/update-ca-certificates", "#!/bin/sh\necho run >>/updates\n", mode=0o755)
    box.source("certificates/good.crt", "good")
    copied = entry("certificates", COPIED, owner=owner, perm="0755", **keys)
    box.document(document(copied, user="svc"))


def installed(box: Sandbox) -> dict[str, str]:
    names = sorted(os.listdir(box.host(ANCHORS)))
    return {name: box.read(f"{ANCHORS}/{name}") for name in names}


GOOD = {"kolla-customca-good.crt": "good"}


@pytest.mark.parametrize("how", ["added", "changed", "link", "directory swapped"])
@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_the_service_adds_to_its_copy(
    sandbox: Sandbox, strategy: str, merge: bool, how: str
) -> None:
    furnish(sandbox, "svc", merge=merge)
    done = sandbox.start(strategy=strategy)
    assert done.returncode == 0, done.stderr
    assert installed(sandbox) == GOOD
    script = {
        "added": f"echo evil >{COPIED}/evil.crt",
        "changed": f"rm -f {COPIED}/good.crt; echo evil >{COPIED}/good.crt",
        "link": f"echo evil >/var/tmp/evil; ln -s /var/tmp/evil {COPIED}/evil.crt",
        "directory swapped": f"mkdir -p {COPIED}/sub; echo evil >{COPIED}/sub/evil.crt; "
        f"mv {COPIED}/sub/evil.crt {COPIED}/evil.crt",
    }[how]
    wrote = sandbox.run(["sh", "-ec", script], user="svc")
    assert wrote.returncode == 0, wrote.stderr
    for _ in range(2):
        done = sandbox.start(strategy=strategy)
        assert done.returncode == 0, done.stderr
        assert "evil" not in "".join(installed(sandbox).values()), done.stderr
        assert not [name for name in installed(sandbox) if "evil" in name]
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_a_group_of_the_service_adds(sandbox: Sandbox, strategy: str) -> None:
    furnish(sandbox, "root:svc")
    sandbox.document(
        document(
            entry("certificates", COPIED, perm="0755"),
            permissions=[{"path": COPIED, "owner": "root:svc", "perm": "0775"}],
            user="svc",
        )
    )
    assert sandbox.start(strategy=strategy).returncode == 0
    assert installed(sandbox) == GOOD
    assert sandbox.run(["sh", "-c", f"echo evil >{COPIED}/evil.crt"], user="svc").returncode == 0
    for _ in range(2):
        done = sandbox.start(strategy=strategy)
        assert done.returncode == 0, done.stderr
        assert not [name for name in installed(sandbox) if "evil" in name], done.stderr


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_root_alone_can_write_is_installed_and_stays(sandbox: Sandbox, strategy: str) -> None:
    """The deployment that the rule must let through."""
    furnish(sandbox, "root")
    for _ in range(2):
        done = sandbox.start(strategy=strategy)
        assert done.returncode == 0, done.stderr
        assert installed(sandbox) == GOOD
    assert sandbox.read("/updates") == "run\n"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_copy_of_the_service_itself_is_installed(sandbox: Sandbox, strategy: str) -> None:
    """Kolla's documents give it to the service: the first start has just written it itself."""
    furnish(sandbox, "svc")
    for _ in range(3):
        done = sandbox.start(strategy=strategy)
        assert done.returncode == 0, done.stderr
        assert installed(sandbox) == GOOD, done.stderr
