"""A container that ran must run: what deployments do, and the replaced program carries out.

Told by an operator, from the contract and from what the replaced program does with the same; each
in its smallest document.
"""

import os
from typing import Any

import pytest
from documents import document, entry
from outcomes import applied, mode, refused
from sandbox import Sandbox

NOVA = 42436
COPY_ALWAYS = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    sandbox.adduser("nova", NOVA)
    sandbox.adduser("other", 4999)
    sandbox.source("s", "from the operator")
    sandbox.source("d/a", "a of the operator")
    sandbox.source("d/sub/b", "b of the operator")
    return sandbox


def given(path: str, owner: str = "nova", perm: str = "0755") -> dict[str, str]:
    return {"path": path, "owner": owner, "perm": perm}


def volume(box: Sandbox, path: str, options: str) -> None:
    box.mkdir(path)
    box.run(["mount", "-t", "tmpfs", "-o", options, "none", path], check=True)


# --- a source that ends in a slash ----------------------------------------------------------------
# TripleO: {"source": ".../src-ceph/", "dest": "/etc/ceph/", "merge": true, ...} in every document
# that needs Ceph. SPEC: "Patterns as Python's glob.glob", which gives the slash back, so that there
# is no own name to be put into `dest`: what is in the source comes to be in `dest` itself.


@pytest.mark.parametrize(
    "keys", [{"merge": True, "preserve_properties": True}, {"merge": True}, {}]
)
def test_a_directory_that_ends_in_a_slash_into_one_that_does(
    box: Sandbox, keys: dict[str, Any]
) -> None:
    applied(box, document(entry("d/", "/etc/ceph/", **keys)))
    assert box.read("/etc/ceph/a") == "a of the operator"
    assert box.read("/etc/ceph/sub/b") == "b of the operator"
    assert not box.exists("/etc/ceph/d")


def test_a_pattern_that_ends_in_a_slash(box: Sandbox) -> None:
    """It finds directories, and all of them are merged into the one."""
    box.source("e/c", "c of the operator")
    applied(box, document(entry("[de]/", "/etc/ceph/", merge=True)))
    assert sorted(os.listdir(box.host("/etc/ceph"))) == ["a", "c", "sub"]


def test_a_file_is_not_found_by_a_source_that_ends_in_a_slash(box: Sandbox) -> None:
    applied(box, document(entry("s/", "/etc/ceph", optional=True)))
    assert not box.exists("/etc/ceph")
    refused(box, document(entry("s/", "/etc/ceph")), "source")


# --- where others than the owner can write the directory ------------------------------------------


def test_what_left_such_a_directory_is_no_reason_not_to_start(box: Sandbox) -> None:
    """It stays, with a warning: nobody can tell it from a neighbour's that was moved there."""
    for path in ("/opt/app", "/opt/app/conf.d"):
        box.mkdir(path, 0o2775, (0, 50))
    applied(box, document(entry("d", "/opt/app/conf.d", "nova", "0640", merge=True)))
    done = applied(box, document())
    assert "/opt/app/conf.d left the document and cannot be given back" in done.stderr
    assert "config.json:" not in done.stderr  # which does not speak of it


# --- containers without some capabilities ---------------------------------------------------------


def test_without_fsetid_a_directory_that_passes_its_group_on(box: Sandbox) -> None:
    """`--cap-drop ALL --cap-add CHOWN,DAC_OVERRIDE,FOWNER,SETUID,SETGID`, and the `directories` of
    153 documents of kolla-ansible. chmod(2) leaves the bit out and succeeds, so upstream starts; no
    secret is open for it. A warning would do, as for `permissions`."""
    box.document(document(directories=[given("/var/log/kolla/nova", "nova", "2775")]))
    lost = "-fsetid"
    done = box.run(
        ["setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}", "kolla_set_configs"],
        env=COPY_ALWAYS,
    )
    assert done.returncode == 0, done.stderr
    assert box.owner("/var/log/kolla/nova") == (NOVA, NOVA)
    assert "WARNING" in done.stderr and "--cap-add FSETID" in done.stderr


# --- mounts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [{}, {"perm": "0640"}], ids=["owner", "owner and mode"])
def test_a_masked_file_below_permissions(box: Sandbox, keys: dict[str, str]) -> None:
    """`-v /dev/null:/etc/nova/masked`: the device is the whole container's (in a rootless one the
    host's), and with 0640 nobody but the service can write to it any more."""
    box.write("/etc/nova/masked", "the image's")
    box.run(["mount", "--bind", "/dev/null", "/etc/nova/masked"], check=True)
    rule = {"path": "/etc/nova", "owner": "nova", "recurse": True, **keys}
    applied(box, document(permissions=[rule]))
    assert (box.owner("/dev/null"), mode(box, "/dev/null")) == ((0, 0), "0666")


def test_a_file_that_is_mounted_read_only_at_a_destination(box: Sandbox) -> None:
    """SPEC: "everything that can be known beforehand (... destinations writable ...)", and a
    document that is refused leaves all as it was, and says what to do."""
    box.write("/srv/mounted", "mounted")
    box.write("/etc/nova/conf", "the image's")
    mount = "mount --bind /srv/mounted /etc/nova/conf; mount -o remount,bind,ro /etc/nova/conf"
    box.run(["sh", "-ec", mount], check=True)
    refused(box, document(entry("s", "/etc/first"), entry("s", "/etc/nova/conf")), "/etc/nova/conf")


def test_a_link_in_a_volume_below_a_directory_of_the_service_s(box: Sandbox) -> None:
    """It cannot move the volume, nor what is in it."""
    box.mkdir("/var/lib/nova", owner="nova")
    volume(box, "/var/lib/nova/volume", "mode=0755")
    box.write("/var/lib/nova/volume/v1/conf", "1")
    box.symlink("v1", "/var/lib/nova/volume/current")
    applied(box, document(entry("/var/lib/nova/volume/current/conf", "/etc/app/conf")))
    assert box.read("/etc/app/conf") == "1"


# --- the log --------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["false\n", "return 3\n"])
def test_an_extend_start_script_that_fails_is_named(box: Sandbox, script: str) -> None:
    """SPEC: "no person watches, so the log must tell the whole story"; upstream's trace does."""
    box.write("/usr/local/bin/kolla_extend_start", script)
    box.document(document())
    done = box.start()
    assert done.returncode != 0
    assert "kolla_extend_start" in done.stderr, done.stderr


def test_who_could_have_moved_it_there_is_named(box: Sandbox) -> None:
    """Not root: that others can write the directory is the reason; and each fault is one line."""
    volume(box, "/opt/app", "mode=0777")
    box.mkdir("/opt/app/theirs", owner="other")
    done = refused(
        box, document(entry("d/*", "/opt/app/theirs/", "nova", "0600")), "/opt/app/theirs"
    )
    faults = [line.partition(" ERROR ")[2] for line in done.stderr.splitlines() if "ERROR" in line]
    assert not [line for line in faults if "of uid 0, who could have moved it" in line]
    assert len(set(faults)) == len(faults)


# --- values that only upstream takes --------------------------------------------------------------

_RULE = {"path": "/etc/nova", "owner": "nova"}
_COPY = entry("s", "/etc/nova/s", "nova", "0600")
_KEPT = entry("s", "/etc/nova/s", preserve_properties=True)
TAKEN: dict[str, tuple[object, str]] = {
    "an empty perm": (document(permissions=[{**_RULE, "perm": ""}]), "permissions[0].perm"),
    "a number that says nothing": (document({**_KEPT, "perm": 420}), "config_files[0].perm"),
    "an object for an empty list": ({"command": "true", "permissions": {}}, "permissions"),
    "0 for false": (document({**_COPY, "optional": 0}), "config_files[0].optional"),
    "an empty string for false": (document({**_COPY, "merge": ""}), "config_files[0].merge"),
    "a dot": (document(entry("s", "/etc/./nova/s", "nova", "0600")), "config_files[0].dest"),
    "up": (document(entry("s", "/etc/nova/../o/s", "nova", "0600")), "config_files[0].dest"),
    "a key twice": ('{"//": "what it is", "command": "true", "//": "whose it is"}', "//"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_value_that_only_upstream_takes(box: Sandbox, name: str) -> None:
    content, where = TAKEN[name]
    refused(box, content, where)
