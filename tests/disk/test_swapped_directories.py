"""Sources that a service can reach: what is judged is what is read, whatever is swapped meanwhile.

The service exchanges a directory for a link to root's at each moment of a start: root's secret must
never arrive in a file of the service.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
from documents import document, entry
from moments import at_each_moment
from outcomes import no_bug
from sandbox import CONFIG_FILES, Sandbox

SECRET = "root's own secret"
COPY = "/srv/copy"


def furnish(box: Sandbox) -> None:
    box.adduser("svc", 4321, groups=["kolla"])
    box.mkdir("/etc/canary", 0o700)
    box.write("/etc/canary/secret", SECRET, mode=0o600)


def own(box: Sandbox) -> str:
    """Its own directory in its own home."""
    box.mkdir("/var/lib/svc", owner="svc")
    box.mkdir("/var/lib/svc/d", owner="svc")
    box.write("/var/lib/svc/d/secret", "the service's", owner="svc")
    return "/var/lib/svc/d"


def group(box: Sandbox) -> str:
    """Root's directory where a group of the service can write, such as a shared volume."""
    box.mkdir("/opt/shared", 0o2775, "root:kolla")
    box.write("/opt/shared/d/secret", "root's, for all")
    return "/opt/shared/d"


def linked(box: Sandbox) -> str:
    """The operator's link in the mount leads into the service's home."""
    box.symlink("/var/lib/svc/d", f"{CONFIG_FILES}/link")
    return own(box)


def swap(box: Sandbox, place: str, user: str = "svc") -> None:
    """As the service could do it itself."""
    done = box.run(["mv", "-T", place, f"{place}.old"], user=user)
    assert done.returncode == 0, done.stderr
    assert box.run(["ln", "-sT", "/etc/canary", place], user=user).returncode == 0


LAYOUTS: dict[str, tuple[Callable[[Sandbox], str], str]] = {
    "its own": (own, "/var/lib/svc/d/secret"),
    "its own, the tree": (own, "/var/lib/svc/d"),
    "its own, a pattern": (own, "/var/lib/svc/*/secret"),
    "its group's": (group, "/opt/shared/d/secret"),
    "its group's, the tree": (group, "/opt/shared/d"),
    "its group's, a pattern": (group, "/opt/shared/*/secret"),
    "a link of the mount": (linked, "link/secret"),
    "a link of the mount, the tree": (linked, "link"),
    "a link of the mount, a pattern": (linked, "link/*"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("keys", [{}, {"preserve_properties": True}], ids=["perm", "preserve"])
def test_a_directory_of_a_source_swapped_at_any_moment(layout: str, keys: dict[str, Any]) -> None:
    plant, source = LAYOUTS[layout]

    def all_of_it(box: Sandbox) -> str:
        furnish(box)
        box.document(document(entry(source, COPY, owner="svc", perm="0600", **keys)))
        return plant(box)

    with Sandbox() as box:
        place = all_of_it(box)
        done = box.set_configs()
        no_bug(done)
        if done.returncode:  # refused for what the service could do: there is no race
            return
    words = [place, os.path.dirname(place) + ">", "/link", '"secret"', '"d"', "/srv/copy"]
    at_each_moment(all_of_it, words, 20, lambda box: swap(box, place), lambda box, _: leaked(box))


def leaked(box: Sandbox) -> str | None:
    return box.run(["grep", "-rsl", SECRET, COPY]).stdout or None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_directory_of_a_source_swapped_before(sandbox: Sandbox, layout: str) -> None:
    """No race at all: the link stands when the start begins."""
    plant, source = LAYOUTS[layout]
    furnish(sandbox)
    place = plant(sandbox)
    swap(sandbox, place)
    sandbox.document(document(entry(source, COPY, owner="svc", perm="0600")))
    no_bug(sandbox.set_configs())
    assert leaked(sandbox) is None


@pytest.mark.parametrize("layout", ["its own", "its group's", "a link of the mount"])
def test_a_file_of_a_source_that_is_a_link(sandbox: Sandbox, layout: str) -> None:
    plant, source = LAYOUTS[layout]
    furnish(sandbox)
    place = plant(sandbox)
    sandbox.run(["rm", "-f", f"{place}/secret"], check=True)
    sandbox.symlink("/etc/canary/secret", f"{place}/secret", owner="svc")
    sandbox.chown(place, "svc")
    sandbox.document(document(entry(source, COPY, owner="svc", perm="0600")))
    no_bug(sandbox.set_configs())
    assert leaked(sandbox) is None
