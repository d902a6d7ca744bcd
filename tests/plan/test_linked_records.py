"""/etc/kolla is a link of the image: the records lie behind it, and are as safe as without it."""

from typing import Any

import pytest
from certificates import ANCHORS, Certificates
from certificates import COPIED as CERTIFICATES
from documents import document, entry
from launched import OPTIONS, TREE
from outcomes import applied, as_first, quiet, refused
from sandbox import Sandbox

REAL = "/opt/kolla"
CONF = "/etc/app.conf"
COPIED = document(entry("s", CONF))


def furnish(box: Sandbox, real: str = REAL, made: bool = True) -> None:
    box.adduser("svc", 4321)
    if made:
        box.mkdir(real)
    box.remove("/etc/kolla")
    box.symlink(real, "/etc/kolla")
    box.write(CONF, "the image's")
    box.source("s", "from the operator")
    box.source("d/inner", "inner")


@pytest.mark.parametrize("made", [True, False], ids=["there", "to be made"])
@pytest.mark.parametrize("real", [REAL, "/usr/share/kolla-etc", "/etc/other"])
def test_originals_lie_behind_it(sandbox: Sandbox, real: str, made: bool) -> None:
    furnish(sandbox, real, made)
    applied(sandbox, COPIED)
    quiet(sandbox)
    assert sandbox.readlink("/etc/kolla") == real
    assert sandbox.read(f"{real}/defaults{CONF}") == "the image's"
    assert sandbox.mode(f"{real}/defaults") == 0o700
    applied(sandbox, document())
    assert sandbox.read(CONF) == "the image's"
    assert not sandbox.exists(f"{real}/defaults{CONF}")


def test_history_does_not_matter() -> None:
    as_first(furnish, [COPIED, document(entry("d", CONF)), document(entry("s", "/etc/b"))], CONF)


def test_once_is_once_and_the_service_is_who_was_recorded(sandbox: Sandbox) -> None:
    furnish(sandbox)
    sandbox.document({**COPIED, "user": "svc", "command": ["id", "-u"]})
    for _ in range(2):
        done = sandbox.start(strategy="COPY_ONCE")
        assert (done.returncode, done.stdout) == (0, "4321\n"), done.stderr
    assert "nothing is copied again" in done.stderr
    assert sandbox.exists(f"{REAL}/options")


def given(section: str, path: str, **keys: Any) -> dict[str, Any]:
    return document(**{section: [{"path": path, "owner": "svc", "perm": "0777", **keys}]})


@pytest.mark.parametrize(
    "path", ["/etc/kolla", "/etc/kolla/defaults", REAL, f"{REAL}/defaults", f"{REAL}/options"]
)
@pytest.mark.parametrize("section", ["directories", "files", "permissions"])
def test_no_section_gives_them_away(sandbox: Sandbox, section: str, path: str) -> None:
    furnish(sandbox)
    applied(sandbox, {**COPIED, "user": "svc"})
    refused(sandbox, given(section, path))


def test_no_tree_gives_them_away(sandbox: Sandbox) -> None:
    furnish(sandbox)
    applied(sandbox, {**COPIED, "user": "svc"})
    refused(sandbox, given("permissions", "/opt", recurse=True))


@pytest.mark.parametrize(
    "dest", ["/etc/kolla", REAL, f"{REAL}/defaults", f"{REAL}/options", "/opt"]
)
def test_nothing_is_copied_over_them(sandbox: Sandbox, dest: str) -> None:
    furnish(sandbox)
    applied(sandbox, COPIED)
    refused(sandbox, document(entry("d", dest)))


def test_a_merge_gives_them_to_nobody(sandbox: Sandbox) -> None:
    """Beside them is not over them; but what holds them stays root's."""
    furnish(sandbox)
    for dest in (REAL, "/etc/kolla"):
        refused(sandbox, document(entry("d", dest, "svc", merge=True)))
        applied(sandbox, document(entry("d", dest, merge=True)))
    assert sandbox.read(f"{REAL}/inner") == "inner"


def test_a_link_that_a_service_could_exchange_is_not_followed(sandbox: Sandbox) -> None:
    furnish(sandbox)
    sandbox.run(["chown", "-h", "svc", "/etc/kolla"], check=True)
    sandbox.document(COPIED)
    done = sandbox.set_configs()
    assert done.returncode == 1 and "/etc/kolla" in done.stderr
    assert not sandbox.exists(f"{REAL}/defaults")


def test_the_service_reads_what_root_has_recorded_behind_it(sandbox: Sandbox) -> None:
    """As Kolla's way does, where root's stage ran through sudo."""
    furnish(sandbox)
    applied(sandbox, {**COPIED, "user": "svc"})
    code = (
        f"import sys; sys.path.append({str(TREE)!r})\nfrom kolla_start import homes, records\n"
        "print(records.read_launch(homes.shared_home()).user)"
    )
    done = sandbox.run(["/usr/bin/python3", OPTIONS, "-c", code], user="svc")
    assert done.stdout == "svc\n", done.stderr


def test_certificates_that_were_copied_are_known_by_the_records_there(sandbox: Sandbox) -> None:
    furnish(sandbox)
    certificates = Certificates(sandbox)
    sandbox.source("certificates/own.crt", "a certificate")
    applied(sandbox, document(entry("certificates", CERTIFICATES)))
    sandbox.write("/update-fails")
    assert certificates.copy().returncode == 1
    assert sandbox.exists(f"{REAL}/cacerts-pending") and certificates.needed()
    sandbox.remove("/update-fails")
    assert certificates.copy().returncode == 0
    assert sandbox.read(f"{ANCHORS}/kolla-customca-own.crt") == "a certificate"
    assert not sandbox.exists(f"{REAL}/cacerts-pending") and certificates.updates() == 2
