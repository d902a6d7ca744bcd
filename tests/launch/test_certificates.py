"""Which CA certificates are the operator's: what a service could have written is not believed."""

import json
import os

import pytest
from certificates import COPIED, MOUNTED, Certificates
from launched import as_root
from sandbox import CONFIG_FILES, Sandbox

CONFIG_DATA = "/var/lib/config-data/ca-certificates"


@as_root
def test_certificates_that_the_document_copied(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    sandbox.write(f"{MOUNTED}/a.crt", "mounted")
    sandbox.write(f"{COPIED}/a.crt", "copied", mode=0o600)
    certificates.copy()
    assert certificates.installed() == {"kolla-customca-a.crt": "mounted"}
    state = {COPIED: {"source": COPIED, "preserve_properties": True, "dest": None}}
    sandbox.mkdir("/etc/kolla/defaults", mode=0o700)
    sandbox.write("/etc/kolla/defaults/state", json.dumps(state))
    assert certificates.needed()  # in doubt: the service user may read neither
    certificates.copy()
    assert certificates.installed() == {"kolla-customca-a.crt": "copied"}


@as_root
def test_certificates_of_tcib_s_images(sandbox: Sandbox) -> None:
    """The third place: of a volume as the kubelet lays it out, but not what a service put there."""
    certificates = Certificates(sandbox)
    sandbox.mkdir(CONFIG_DATA, mode=0o1777)
    sandbox.write(f"{CONFIG_DATA}/..1/tls-ca-bundle.pem", "of the volume")
    sandbox.symlink("..1", f"{CONFIG_DATA}/..data")
    sandbox.symlink("..data/tls-ca-bundle.pem", f"{CONFIG_DATA}/tls-ca-bundle.pem")
    sandbox.write("/srv/victim", "root's own", mode=0o600)
    sandbox.write(f"{CONFIG_DATA}/of-the-service.pem", "trust me", owner="nobody")
    sandbox.symlink("/srv/victim", f"{CONFIG_DATA}/link.pem", owner="nobody")
    sandbox.write("/srv/nobody/theirs.pem", "trust me", owner="nobody")
    sandbox.chown("/srv/nobody", "nobody")
    sandbox.symlink("/srv/nobody/theirs.pem", f"{CONFIG_DATA}/elsewhere.pem")
    # Open to all by its mode, and mounted read-only.
    sandbox.run(["mount", "--bind", CONFIG_DATA, CONFIG_DATA], check=True)
    sandbox.run(["mount", "-o", "remount,bind,ro", CONFIG_DATA], check=True)
    done = certificates.copy()
    assert done.returncode == 0, done.stderr
    wanted = {"kolla-customca-tls-ca-bundle.pem": "of the volume"}
    assert certificates.installed() == wanted
    assert done.stderr.count("it is left out") == 3
    assert certificates.updates() == 1
    certificates.copy()
    assert certificates.updates() == 1
    sandbox.write(f"{MOUNTED}/a.crt", "mounted")
    certificates.copy()
    assert certificates.installed() == {"kolla-customca-a.crt": "mounted"}


@as_root
def test_a_service_that_owns_the_copied_directory_cannot_publish_secrets(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    give_away(sandbox)
    sandbox.mkdir(COPIED, owner="nobody")
    sandbox.write("/var/lib/kolla/secret", "secret", mode=0o600)
    sandbox.symlink("/etc/shadow", f"{COPIED}/link.crt", owner="nobody")
    os.link(sandbox.host("/var/lib/kolla/secret"), sandbox.host(f"{COPIED}/hard.crt"))
    os.mkfifo(sandbox.host(f"{COPIED}/fifo.crt"))
    sandbox.write(f"{COPIED}/good.crt", "good", owner="nobody")
    sandbox.write(f"{COPIED}/own.crt", "the service's", owner="nobody")
    done = certificates.copy()
    assert done.returncode == 0, done.stderr
    assert certificates.installed() == {"kolla-customca-good.crt": "good"}
    assert done.stderr.count("it is left out") == 4
    assert f"{COPIED}/own.crt can be written by others than root" in done.stderr


OWNER = "nobody:nogroup"


def give_away(box: Sandbox, source: str = f"{CONFIG_FILES}/certificates", name: str = "") -> None:
    """A document whose copy of the certificates is the service's, and the record of it."""
    entry = {"source": f"{source}{name}", "dest": COPIED, "owner": OWNER, "perm": "0600"}
    if name:
        entry["dest"] = f"{COPIED}/"
    box.write(f"{source}/good.crt", "good")
    box.document({"command": "/bin/true", "config_files": [entry]})
    box.mkdir("/etc/kolla/defaults", mode=0o700)
    box.write("/etc/kolla/defaults/state", json.dumps({COPIED: {"source": COPIED, "dest": None}}))


# A source beside the mount, root's alone, and one that is the service's.
SOURCES = {
    "directory": (f"{CONFIG_FILES}/certificates", "", "root", True),
    "pattern": (f"{CONFIG_FILES}/certificates", "/*.crt", "root", True),
    "file": (f"{CONFIG_FILES}/certificates", "/good.crt", "root", True),
    "a volume": ("/srv/certificates", "", "root", True),
    "the service's": ("/srv/certificates", "", "nobody", False),
}


@as_root
@pytest.mark.parametrize("where", SOURCES)
def test_what_the_document_delivers_is_believed_in_a_service_s_own_copy(
    sandbox: Sandbox, where: str
) -> None:
    source, name, owner, believed = SOURCES[where]
    certificates = Certificates(sandbox)
    give_away(sandbox, source, name)
    sandbox.chown(source, owner)
    sandbox.chown(f"{source}/good.crt", owner)
    sandbox.mkdir(COPIED, owner="nobody")
    sandbox.write(f"{COPIED}/good.crt", "good", owner="nobody", mode=0o600)
    for _ in range(2):
        done = certificates.copy()
        assert done.returncode == 0, done.stderr
        assert certificates.installed() == ({"kolla-customca-good.crt": "good"} if believed else {})
    assert certificates.updates() == int(believed)


@as_root
def test_under_copy_once_a_service_can_neither_add_nor_replace(sandbox: Sandbox) -> None:
    """The mounted document may have changed since: what is installed is what counts."""
    certificates = Certificates(sandbox)
    give_away(sandbox)
    sandbox.mkdir("/var/lib/kolla/share")
    once = {"KOLLA_CONFIG_STRATEGY": "COPY_ONCE"}
    good = {"kolla-customca-good.crt": "good"}
    assert sandbox.run(["kolla_start"], env=once, check=True)
    assert certificates.installed() == good
    sandbox.write(f"{CONFIG_FILES}/certificates/good.crt", "newer, and not for this container")
    for text in ("good", "replaced"):
        sandbox.write(f"{COPIED}/good.crt", text, owner="nobody")
        sandbox.write(f"{COPIED}/added.crt", "added", owner="nobody")
        done = sandbox.run(["kolla_start"], env=once, check=True)
        assert certificates.installed() == good
        assert "added.crt can be written by others than root" in done.stderr
        assert ("good.crt can be written" in done.stderr) == (text == "replaced")
    assert certificates.updates() == 1
    # Under COPY_ALWAYS what the operator withdraws goes, whatever the service puts back.
    sandbox.remove("/configured")
    sandbox.write(f"{COPIED}/good.crt", "good", owner="nobody")
    certificates.copy()
    assert certificates.installed() == {}


@as_root
@pytest.mark.parametrize("how", ["group", "parent"])
def test_what_others_than_the_owner_can_write(sandbox: Sandbox, how: str) -> None:
    certificates = Certificates(sandbox)
    give_away(sandbox)
    sandbox.write(f"{COPIED}/own.crt", "added")
    if how == "group":
        sandbox.chown(COPIED, "root:nogroup")
        sandbox.chmod(COPIED, 0o775)
    else:
        sandbox.chown("/var/lib/kolla/share", "nobody")
    done = certificates.copy()
    assert (done.returncode, certificates.installed()) == (0, {}), done.stderr
    assert "own.crt can be written by others than root" in done.stderr
