"""What is accepted at the first start is accepted at the second, and that one changes nothing.

By then the directories that the document gives away belong to others.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from documents import document, entry
from outcomes import applied, refused
from sandbox import CONFIG_FILES, Sandbox

ALPHA, BETA = 4301, 4302


@pytest.fixture
def box(sandbox: Sandbox) -> Iterator[Sandbox]:
    for name, uid in (("alpha", ALPHA), ("beta", BETA)):
        sandbox.adduser(name, uid)
    sandbox.source("x.conf", "x")
    yield sandbox


def given(path: str, owner: str, perm: str = "0755") -> dict[str, str]:
    return {"path": path, "owner": owner, "perm": perm}


def test_the_last_of_two_entries_for_a_directory_has_the_say(box: Sandbox) -> None:
    box.mkdir("/srv/a")
    content = document(
        directories=[given("/srv/a", "alpha"), given("/srv/a/b", "alpha", "0700")],
        permissions=[{"path": "/srv/a/b", "owner": "beta"}],
    )
    applied(box, content)
    assert box.owner("/srv/a/b") == (BETA, BETA)
    twice = document(
        directories=[
            given("/srv/a", "alpha"),
            given("/srv/a/b", "alpha", "0700"),
            given("/srv/a/b", "beta", "0700"),
        ]
    )
    applied(box, twice)
    assert box.owner("/srv/a/b") == (BETA, BETA)


def test_a_directory_that_a_link_of_the_image_leads_to(box: Sandbox) -> None:
    """What an entry gives away through a link is declared, where it lies in another's directory."""
    box.mkdir("/srv/t", owner="beta")
    box.mkdir("/srv/t/u")
    box.symlink("/srv/t/u", "/srv/a/l")
    applied(box, document(directories=[given("/srv/a/l", "alpha")]))
    assert box.owner("/srv/t/u") == (ALPHA, ALPHA)
    into = entry("x.conf", "/srv/a/l/", "alpha", "0640")
    applied(box, document(into, directories=[given("/srv/t/u", "alpha")]))
    assert box.read("/srv/t/u/x.conf") == "x"


def test_the_way_to_what_is_given_may_need_to_be_given_itself(box: Sandbox) -> None:
    """By the second start the link's target is alpha's, in a directory of beta's."""
    box.mkdir("/srv/a")
    box.mkdir("/srv/t", owner="beta")
    box.symlink("/srv/t/u", "/srv/a/l")
    into = entry("x.conf", "/srv/a/l/x.conf", "alpha")
    permissions = [{"path": "/srv/a/*", "owner": "alpha"}]
    below = [given("/srv/a/l/n", "beta")]
    applied(box, document(into, permissions=permissions, directories=below))
    assert box.owner("/srv/t/u") == (ALPHA, ALPHA)


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a link of the image in a directory that is given away": (
        "name the place it points to",
        {"files": [given("/srv/a/l/f", "alpha")], "directories": [given("/srv/a", "beta")]},
    ),
    "a link of the image in a tree that is given away": (
        "name the place it points to",
        {
            "directories": [given("/srv/a/l/n", "alpha")],
            "permissions": [{"path": "/srv/a", "owner": "beta", "recurse": True}],
        },
    ),
    "another user's directory in one that is given away": (
        "/srv/a/b belongs to uid 4302 but lies in a directory of uid 4301",
        {"directories": [given("/srv/a", "alpha"), given("/srv/a/b/c", "alpha")]},
    ),
    "a link in what a link of the image leads to, which is given away": (
        "/srv/a/l is a symbolic link that others than root can replace",
        {
            "directories": [given("/srv/a/l/n", "root")],
            "permissions": [{"path": "/srv/k", "owner": "alpha"}],
        },
    ),
    "a link that copying goes through": (
        "name the place it points to",
        document(entry("x.conf", "/srv/a/l/x.conf", "root"), directories=[given("/srv/a", "beta")]),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_second_start_cannot_do_is_refused_at_the_first(box: Sandbox, name: str) -> None:
    box.mkdir("/srv/a")
    box.mkdir("/srv/a/b", 0o700, "beta")
    box.mkdir("/srv/t")
    box.symlink("../t", "/srv/a/l")
    box.symlink("/srv/a", "/srv/k")
    words, sections = REFUSED[name]
    refused(box, {"command": "true", **sections}, "the next start", words)
    # Told another way it is carried out.
    text = json.dumps({"command": "true", **sections}).replace("/srv/a/l", "/srv/t")
    given_too = [{"path": "/srv/a/b", "owner": "beta"}]
    content = json.loads(text)
    content["permissions"] = [*content.get("permissions", ()), *given_too]
    applied(box, content)


def test_what_was_given_back_is_no_way_of_the_next_start(box: Sandbox) -> None:
    box.mkdir("/srv/a/b", owner="beta")
    box.mkdir("/srv/a/b/c", owner="beta")
    applied(box, document(entry("x.conf", "/srv/a/b/c/x.conf", "beta")))
    applied(box, document(directories=[given("/srv/a", "alpha")]))


def test_copy_once_ends_whoever_owns_the_way_by_then(box: Sandbox) -> None:
    box.mkdir("/srv/a/b", 0o700, "beta")
    content = document(entry("x.conf", "/srv/a/b/x.conf"), directories=[given("/srv/a", "alpha")])
    box.document(content)
    done = box.run(["kolla_set_configs"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ONCE"})
    assert done.returncode == 0, done.stderr
    assert box.exists("/configured")


def test_a_link_that_another_entry_replaces_is_no_way(box: Sandbox) -> None:
    box.mkdir("/srv/t")
    box.symlink("../t", "/srv/a/l")
    box.source("d/one", "1")
    content = document(
        entry("d", "/srv/a", "beta", "0755"),
        files=[{"path": "/srv/a/l/f", "owner": "root", "perm": "0644"}],
    )
    applied(box, content)


def test_under_copy_once_nobody_goes_there_again(box: Sandbox) -> None:
    box.mkdir("/srv/t")
    box.symlink("../t", "/srv/a/l")
    into = entry("x.conf", "/srv/a/l/x.conf")
    box.document(document(into, directories=[given("/srv/a", "beta")]))
    refused(box)
    for _ in range(2):
        done = box.run(["kolla_set_configs"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ONCE"})
        assert done.returncode == 0, done.stderr
    assert box.read("/srv/t/x.conf") == "x"


@pytest.mark.parametrize("count", [3, 40])
def test_however_many_directories_change_hands(box: Sandbox, count: int) -> None:
    """What lies in them is judged as it was found, before any of them belongs to the service."""
    tops = [f"/srv/d{number}" for number in range(count)]
    for top in tops:
        box.write(f"{top}/f", "", "beta", 0o600)
    content = document(
        directories=[given(top, "alpha") for top in tops],
        permissions=[{"path": "/srv/d*", "owner": "alpha", "recurse": True}],
    )
    applied(box, content)
    assert {box.owner(f"{top}/f") for top in tops} == {(ALPHA, ALPHA)}


@pytest.mark.parametrize("path", ["/srv/a", "/srv/a/b", "/srv/a/b/l"])
def test_a_link_in_a_directory_that_an_entry_gives_away(box: Sandbox, path: str) -> None:
    box.mkdir("/srv/a/b")
    box.mkdir("/srv/t")
    box.symlink("/srv/t", "/srv/a/b/l")
    content = document(
        directories=[given("/srv/a", "alpha"), given("/srv/a/b", "alpha")],
        permissions=[{"path": path, "owner": "alpha", "recurse": True}],
    )
    applied(box, content)
    assert box.owner("/srv/t") == (ALPHA, ALPHA)
    assert box.owner("/srv/a/b/l") == (ALPHA, ALPHA)


def test_times_of_a_preserved_directory(box: Sandbox) -> None:
    box.mkdir("/opt/tree/in", owner="alpha")
    box.write("/opt/tree/in/f", "f", "alpha")
    for path in ("/opt/tree/in", "/opt/tree"):
        os.utime(box.host(path), (1, 1234567890))
    applied(box, document(entry("/opt/tree", "/srv/a/tree", preserve_properties=True)))
    for path in ("/srv/a/tree/in", "/srv/a/tree"):
        assert box.stat(path).st_mtime == 1234567890


def test_a_device_that_is_given_back(box: Sandbox) -> None:
    box.run(["mknod", "/srv/zero", "c", "1", "5"], check=True)
    box.chown("/srv/zero", "alpha")
    box.chmod("/srv/zero", 0o640)
    before = box.stat("/srv/zero")
    applied(box, document(entry("x.conf", "/srv/zero")))
    applied(box, document())
    after = box.stat("/srv/zero")
    assert (after.st_mode, after.st_rdev) == (before.st_mode, before.st_rdev)
    assert box.owner("/srv/zero") == (ALPHA, ALPHA)


def test_a_user_whose_group_has_another_number(box: Sandbox) -> None:
    """A step is taken to whom the document names, which is a user."""
    box.adduser("gamma", 4303, gid=4304)
    for path in ("/srv/a/b", "/srv/c/d"):
        box.mkdir(os.path.dirname(path), owner="beta")
        box.mkdir(path, 0o700, "gamma")
    into = entry("x.conf", "/srv/a/b/x.conf", "gamma")
    applied(box, document(into, directories=[given("/srv/c/d/e", "gamma")]))
    assert box.owner("/srv/a/b/x.conf") == box.owner("/srv/c/d/e") == (4303, 4304)


def test_the_operator_s_directories_may_belong_to_anybody(box: Sandbox) -> None:
    box.source("tree/sub/f", "f")
    box.chown(f"{CONFIG_FILES}/tree", "alpha")
    box.chown(f"{CONFIG_FILES}/tree/sub", "beta")
    applied(box, document(entry("tree", "/srv/copy"), entry("tree/sub/f", "/srv/f")))
