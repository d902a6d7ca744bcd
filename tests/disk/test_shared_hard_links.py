"""A file with more than one name where others can write is not given away, opened or copied.

Directories of root that a group or everybody can write (/var/log/kolla, /tmp) are nobody's own, and
the kernel lets a user link to what it can read and write, whatever fs.protected_hardlinks says.
"""

import os
from typing import Any

import pytest
from documents import document, entry
from outcomes import applied, mode, no_bug
from sandbox import Sandbox

PLACES = {
    "a group's, set-group-id": ("/var/log/kolla", 0o2775, "root:kolla"),
    "a group's": ("/opt/shared", 0o775, "root:kolla"),
    "everybody's, sticky": ("/tmp/shared", 0o1777, "root"),
    "everybody's": ("/opt/open", 0o777, "root"),
    "its own": ("/var/lib/svc", 0o755, "svc"),
}
SECRETS = {
    "root's own": ("root", 0o600),
    "another user's": ("other", 0o600),
    "another user's, for the group": ("other:kolla", 0o660),
    "root's, for the group": ("root:kolla", 0o660),
}
SECRET = "not for the service alone"


def plant(box: Sandbox, place: str, secret: str) -> tuple[str, str]:
    """The directory, and the second name in it of a file elsewhere."""
    for user in ("svc", "other"):
        box.adduser(user, groups=["kolla"])
    path, bits, owner = PLACES[place]
    box.mkdir(path, bits, owner)
    by, perm = SECRETS[secret]
    box.write("/srv/safe/secret", SECRET, by, perm)
    box.source("s", "s")
    link = f"{path}/app.log"
    os.link(box.host("/srv/safe/secret"), box.host(link))
    return path, link


def untouched(box: Sandbox, secret: str) -> None:
    by, perm = SECRETS[secret]
    status = box.stat("/srv/safe/secret")
    assert (status.st_uid, status.st_gid) == box._owner(by)
    assert mode(box, "/srv/safe/secret") == f"{perm:04o}"
    assert box.read("/srv/safe/secret") == SECRET


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["named", "pattern", "recursive", "files"])
def test_a_second_name_is_not_given_away(
    sandbox: Sandbox, how: str, place: str, secret: str
) -> None:
    path, link = plant(sandbox, place, secret)
    given: dict[str, Any] = {"owner": "svc", "perm": "0666"}
    sections = {
        "named": {"permissions": [{"path": link, **given}]},
        "pattern": {"permissions": [{"path": f"{path}/*.log", **given}]},
        "recursive": {"permissions": [{"path": path, "owner": "svc", "recurse": True}]},
        "files": {"files": [{"path": link, **given}]},
    }[how]
    sandbox.document(document(entry("s", "/etc/rest"), **sections))
    done = sandbox.set_configs()
    no_bug(done)
    untouched(sandbox, secret)
    assert done.returncode == 1 or sandbox.read("/etc/rest") == "s"
    assert "WARNING" in done.stderr or "ERROR" in done.stderr, done.stderr


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["named", "pattern", "tree"])
def test_a_second_name_is_not_copied(sandbox: Sandbox, how: str, place: str, secret: str) -> None:
    path, link = plant(sandbox, place, secret)
    source = {"named": link, "pattern": f"{path}/*.log", "tree": path}[how]
    dest = "/var/copy/" if how == "pattern" else "/var/copy"
    sandbox.document(document(entry(source, dest, owner="svc", perm="0600", optional=True)))
    no_bug(sandbox.set_configs())
    assert sandbox.run(["grep", "-rsl", SECRET, "/var/copy"]).stdout == ""
    untouched(sandbox, secret)


@pytest.mark.parametrize("place", PLACES)
def test_a_second_name_as_a_destination_is_replaced(sandbox: Sandbox, place: str) -> None:
    """rename(2) takes the name, the file under its other name stays; nothing of it is saved."""
    _, link = plant(sandbox, place, "root's own")
    sandbox.document(document(entry("s", link, owner="svc", perm="0600")))
    done = sandbox.set_configs()
    no_bug(done)
    untouched(sandbox, "root's own")
    if done.returncode == 0:
        assert sandbox.read(link) == "s"
        sandbox.document({"command": "true"})
        no_bug(sandbox.set_configs())
        untouched(sandbox, "root's own")


def test_a_lone_name_is_given_away_all_the_same(sandbox: Sandbox) -> None:
    """The deployment that the rule must let through: the service's log in the shared directory."""
    sandbox.adduser("svc", groups=["kolla"])
    sandbox.write("/var/log/kolla/app.log", "x")
    asked = [{"path": "/var/log/kolla/*.log", "owner": "svc:kolla", "perm": "0640"}]
    sandbox.document(document(permissions=asked))
    done = sandbox.set_configs()
    assert done.returncode == 0, done.stderr
    assert sandbox.stat("/var/log/kolla/app.log").st_uid == sandbox.ids("svc")[0]
    assert mode(sandbox, "/var/log/kolla/app.log") == "0640"


def test_the_owner_s_own_bits_open_it_to_nobody(sandbox: Sandbox) -> None:
    sandbox.adduser("svc", groups=["kolla"])
    sandbox.write("/var/log/kolla/a.log", "a", "svc", 0o400)
    os.link(sandbox.host("/var/log/kolla/a.log"), sandbox.host("/var/log/kolla/b.log"))
    given = {"path": "/var/log/kolla/*.log", "owner": "svc", "perm": "0600"}
    applied(sandbox, document(permissions=[given]))
    assert mode(sandbox, "/var/log/kolla/a.log") == "0600"
