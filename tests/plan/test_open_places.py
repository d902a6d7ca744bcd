"""Records in a place that others can write: no original of an image is lost, whatever they do."""

from typing import Any

import pytest
from documents import document, entry
from outcomes import applied, apply, as_first, quiet
from sandbox import CONFIG_FILES, Sandbox

CONF = "/etc/app.conf"
KEPT = f"/etc/kolla/defaults{CONF}"
COPIED = document(entry("s", CONF))


def furnish(box: Sandbox, mode: int = 0o775) -> None:
    """An image whose /etc a group can write, and a service in that group."""
    box.adduser("svc", 4321, groups=["staff"])
    box.chown("/etc", "root:staff")
    box.chmod("/etc", mode)
    box.write(CONF, "the image's")
    box.write("/etc/other.conf", "the image's other")
    box.source("s", "from the operator")
    box.source("changed", "from the operator, later")


@pytest.mark.parametrize("mode", [0o775, 0o777])
def test_records_are_believed_where_a_group_can_write_etc(sandbox: Sandbox, mode: int) -> None:
    """/etc/kolla is root's alone: only root can have filled it."""
    furnish(sandbox, mode)
    assert "not believed" not in applied(sandbox, COPIED).stderr
    quiet(sandbox)
    applied(sandbox, document(entry("changed", CONF)))
    assert sandbox.read(KEPT) == "the image's"
    applied(sandbox, document())
    assert sandbox.read(CONF) == "the image's" and not sandbox.exists(KEPT)


def test_history_does_not_matter_there() -> None:
    documents = [COPIED, document(entry("changed", CONF)), document(entry("s", "/etc/other.conf"))]
    as_first(furnish, documents, CONF, "/etc/other.conf")


def test_the_original_of_a_service_s_directory_is_given_back_there(sandbox: Sandbox) -> None:
    """What is kept below the records is root's to drop, whoever it belongs to."""
    furnish(sandbox)
    sandbox.mkdir("/srv/own/inner", owner="svc")
    sandbox.chown("/srv/own", "svc")
    sandbox.write("/srv/own/inner/file", "the image's", "svc")
    applied(sandbox, document(entry("s", "/srv/own")))
    applied(sandbox, document())
    assert sandbox.read("/srv/own/inner/file") == "the image's"
    assert not sandbox.exists("/etc/kolla/defaults/srv/own")


def test_once_is_once_there(sandbox: Sandbox) -> None:
    furnish(sandbox)
    sandbox.document(COPIED)
    assert sandbox.set_configs(strategy="COPY_ONCE").returncode == 0
    sandbox.source("s", "changed")
    assert "nothing is copied again" in sandbox.set_configs(strategy="COPY_ONCE").stderr
    assert sandbox.read(CONF) == "from the operator"


@pytest.mark.parametrize("what", ["/etc/kolla", "/etc/kolla/defaults"])
def test_planted_there_they_decide_nothing(sandbox: Sandbox, what: str) -> None:
    """Renamed away, and the service's own put in its place: the first is where it was moved to."""
    furnish(sandbox)
    applied(sandbox, COPIED)
    away = f"mv /etc/kolla /etc/aside && cp -r /etc/aside /etc/kolla; mkdir -p {what}{CONF}x"
    sandbox.run(["sh", "-c", away], user="svc")
    sandbox.write("/etc/kolla/defaults/state", "{}", "svc")
    sandbox.chown("/etc/kolla/defaults", "svc")
    done = apply(sandbox, document(entry("s", "/etc/other.conf")))
    assert "not believed" in done and "is kept as /etc/kolla.1" in done
    assert sandbox.owner("/etc/kolla/defaults") == (0, 0)
    assert sandbox.read(f"/etc/aside/defaults{CONF}") == "the image's"
    assert sandbox.read("/etc/kolla/defaults/etc/other.conf") == "the image's other"
    applied(sandbox, document())
    assert sandbox.read("/etc/other.conf") == "the image's other"


def test_the_group_s_own_directory_becomes_root_s_before_anything_is_kept(
    sandbox: Sandbox,
) -> None:
    furnish(sandbox, 0o755)
    sandbox.mkdir("/etc/kolla", 0o775, "root:staff")
    assert "not believed" in apply(sandbox, COPIED)
    assert (sandbox.owner("/etc/kolla"), sandbox.mode("/etc/kolla")) == ((0, 0), 0o755)
    quiet(sandbox)
    assert sandbox.read(KEPT) == "the image's"


APP = "/etc/app"


def read_only(box: Sandbox, mode: str) -> dict[str, Any]:
    """A root that cannot be written, and a /run that all can."""
    box.adduser("svc", 4321)
    for place in (APP, CONFIG_FILES, "/run"):
        box.mkdir(place)
        box.run(["mount", "-t", "tmpfs", "-o", f"mode={mode}", "none", place], check=True)
    box.chmod(APP, 0o755)
    box.chmod(CONFIG_FILES, 0o755)
    box.write(f"{APP}/conf", "the image's")
    box.source("s", "from the operator")
    box.run(["mount", "-o", "remount,bind,ro", "/"], check=True)
    return document(entry("s", f"{APP}/conf"))


def test_where_nothing_can_be_believed_originals_are_put_aside(sandbox: Sandbox) -> None:
    """The warning comes before the first original is kept, and none is ever removed."""
    content = read_only(sandbox, "0777")
    sandbox.document(content)
    first = sandbox.set_configs()
    assert first.returncode == 0 and "not believed" in first.stderr
    second = sandbox.set_configs()
    assert second.returncode == 0 and "is kept as /run/kolla/defaults.1" in second.stderr
    assert sandbox.read(f"/run/kolla/defaults.1{APP}/conf") == "the image's"
    assert sandbox.mode("/run/kolla/defaults.1") == 0o700
    for _ in range(3):  # nothing was replaced, so there is nothing more to be kept
        assert sandbox.set_configs().returncode == 0
        assert not sandbox.exists("/run/kolla/defaults.2")


def test_where_what_is_root_s_cannot_be_moved_it_is_believed(sandbox: Sandbox) -> None:
    """As an engine mounts a tmpfs at /run: 1777."""
    content = read_only(sandbox, "1777")
    assert "not believed" not in apply(sandbox, content)
    quiet(sandbox)
    applied(sandbox, document())
    assert sandbox.read(f"{APP}/conf") == "the image's"
    assert not sandbox.exists("/run/kolla/defaults.1")


def test_a_neighbour_s_tree_at_a_record_s_place_is_not_destroyed(sandbox: Sandbox) -> None:
    """/run/kolla is a volume that several containers share, open to all."""
    sandbox.adduser("neighbour", 4322)
    content = read_only(sandbox, "0755")
    sandbox.mkdir("/run/kolla", 0o777)
    for name in ("defaults", "options"):
        sandbox.mkdir(f"/run/kolla/{name}", 0o700, "neighbour")
        sandbox.write(f"/run/kolla/{name}/own.key", "secret", "neighbour", 0o600)
    apply(sandbox, content)
    for name in ("defaults", "options"):
        assert sandbox.read(f"/run/kolla/{name}.1/own.key") == "secret"
    quiet(sandbox)
