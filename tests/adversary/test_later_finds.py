"""What the next attacker tried: each once won, or kept a harmless document from starting."""

from typing import Any

import pytest
from documents import Document, document, entry
from outcomes import applied, apply, refused
from sandbox import Sandbox

from kolla_start.disk import planted
from kolla_start.disk.walk import Unsafe

LOGS = "/var/log/kolla"


def given(path: str, owner: str, perm: str = "0755") -> dict[str, str]:
    return {"path": path, "owner": owner, "perm": perm}


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    for name, uid in (("svc", 4321), ("nova", 42436), ("third", 4323)):
        sandbox.adduser(name, uid)
    sandbox.source("x", "x")
    return sandbox


def test_the_number_of_an_inode_that_is_gone(tmp_path: Any) -> None:
    """ext4 gives it again at once: what has it then must have been the same owner's."""
    import os

    place = tmp_path / "log"
    place.mkdir()
    known = os.stat(place)
    planted.find_again(str(place), known, 4321).close()
    os.chown(place, 4323, 4323)  # the same inode, another owner
    with pytest.raises(Unsafe):
        planted.find_again(str(place), known, 4321)


@pytest.mark.parametrize("count", [6, 9, 12, 30])
def test_however_many_paths_are_given(box: Sandbox, count: int) -> None:
    """What the document gives is found out while somebody holds directories open."""
    for number in range(count):
        box.mkdir(f"/opt/d{number}")
    box.mkdir("/opt/a")
    box.mkdir("/opt/a/b", owner="nova")
    directories = [given("/opt/a", "svc")]
    directories += [given(f"/opt/d{number}", "third") for number in range(count)]
    applied(box, document(directories=directories, files=[given("/opt/a/b/f", "third")]))


def test_a_deep_tree_of_a_neighbour_s(box: Sandbox) -> None:
    """A second for a thousand levels; it was half a minute, and cubic."""
    box.mkdir(f"{LOGS}/svc", 0o2775, "svc")
    script = "import os\nfor _ in range(1000): os.mkdir('d' * 250); os.chdir('d' * 250)"
    box.run(["python3", "-c", script], cwd=f"{LOGS}/svc", user="svc", check=True)
    rule = {"path": f"{LOGS}/svc", "owner": "svc", "recurse": True}
    box.document(document(permissions=[rule]))
    assert (
        box.run(
            ["kolla_set_configs"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}, timeout=20
        ).returncode
        == 0
    )


SOURCES: dict[str, Document] = {
    "through a link": document(entry("/opt/app/link/f", "/srv/f"), directories=[]),
    "a link": document(entry("/opt/app/leaf", "/srv/f"), directories=[]),
    "a third user's": document(entry("/opt/app/private", "/srv/f", "svc"), directories=[]),
    "two names": document(entry("/opt/app/twice", "/srv/f"), directories=[]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_in_what_the_document_gives_away(box: Sandbox, name: str) -> None:
    box.write("/opt/t/f", "f")
    box.symlink("/opt/t", "/opt/app/link")
    box.symlink("/opt/t/f", "/opt/app/leaf")
    box.write("/opt/app/private", "p", "third", 0o600)
    box.write("/opt/app/twice", "t")
    box.run(["ln", "/opt/app/twice", "/opt/twice"], check=True)
    apply(box, SOURCES[name])
    box.document(document())
    assert box.set_configs().returncode == 0
    refused(box, {**SOURCES[name], "directories": [given("/opt/app", "svc")]}, "the next start")


def test_a_tree_that_is_merged_into_the_root(box: Sandbox) -> None:
    box.mkdir(LOGS, 0o2775, "third:nova")
    box.mkdir(f"{LOGS}/svc", 0o2755, "svc")
    box.source("src/var/log/kolla/svc/conf", "c")
    everything = entry("src/*", "/", merge=True, preserve_properties=True)
    box.document(document(everything))
    done = box.set_configs()
    assert done.returncode == 0, done.stderr
    assert box.read(f"{LOGS}/svc/conf") == "c"
