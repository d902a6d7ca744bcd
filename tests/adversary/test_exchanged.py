"""What an attacker tried against the rebuilt middle: each once won, and is held here."""

from collections.abc import Iterator

import moments
import pytest
from documents import document, entry
from outcomes import apply
from sandbox import Sandbox

LOGS = "/var/log/kolla"
SECRET = "nova's secret"


@pytest.fixture
def box(sandbox: Sandbox) -> Iterator[Sandbox]:
    furnish(sandbox)
    yield sandbox


def furnish(box: Sandbox) -> None:
    for name, uid in (("svc", 4321), ("nova", 42436)):
        box.adduser(name, uid, groups=["kolla"])
    box.mkdir(f"{LOGS}/nova", 0o2775, "nova:kolla")
    box.write(f"{LOGS}/nova/private.key", SECRET, "nova:nova", 0o600)


def given(path: str) -> dict[str, str]:
    return {"path": path, "owner": "svc:kolla", "perm": "2770"}


def test_a_directory_that_is_exchanged_while_it_is_made(box: Sandbox) -> None:
    """Between mkdir(2) and what follows a neighbour's private file stands in its place."""
    content = document(directories=[given(f"{LOGS}/svc")])
    box.document(content)
    made = [each for each in moments.moments(box, ['"svc"']) if "mkdir" in each.call]
    assert made
    for moment in made:
        with Sandbox() as other:
            furnish(other)
            other.document(content)

            def exchange(other: Sandbox = other) -> None:
                script = f"mv -T {LOGS}/svc {LOGS}/away; mv -T {LOGS}/nova/private.key {LOGS}/svc"
                other.run(["sh", "-c", script], user="svc")

            done = moments.stopped_at(other, moment, exchange)
            assert done is not None and done.returncode == 1
            assert other.owner(f"{LOGS}/svc") == (42436, 42436)
            assert "was exchanged for another" in done.stderr


@pytest.mark.parametrize("section", ["files", "permissions"])
def test_a_neighbour_s_file_that_was_kept_as_an_original(box: Sandbox, section: str) -> None:
    """Moved to the place of a copy, kept, and then asked for under another owner."""
    box.mkdir(f"{LOGS}/svc", 0o2775, "svc:kolla")
    conf = f"{LOGS}/svc/x.conf"
    box.run(["mv", f"{LOGS}/nova/private.key", conf], user="svc", check=True)
    box.source("x", "hello")
    apply(box, document(entry("x", conf, "svc", "0640")))
    keys = {"owner": "svc:kolla", "perm": "0640"}
    box.document(document(**{section: [{"path": conf, **keys}]}))
    done = box.set_configs()
    assert "Traceback" not in done.stderr
    seen = box.run(["cat", conf], user="svc")
    assert SECRET not in seen.stdout


def test_a_kill_after_the_last_record_leaves_no_original_behind(sandbox: Sandbox) -> None:
    sandbox.write("/etc/x.conf", "the image's secret", mode=0o600)
    sandbox.source("x", "new")
    apply(sandbox, document(entry("x", "/etc/x.conf")))
    sandbox.document(document())
    kill = ["-e", "trace=unlinkat", "-e", "inject=unlinkat:signal=KILL:when=1"]
    environ = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    sandbox.run(["strace", "-f", "-qq", "-o", "/dev/null", *kill, "kolla_set_configs"], env=environ)
    assert sandbox.set_configs().returncode == 0
    assert sandbox.read("/etc/x.conf") == "the image's secret"
    assert not sandbox.exists("/etc/kolla/defaults/etc/x.conf")
