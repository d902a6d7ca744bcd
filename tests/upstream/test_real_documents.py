"""What documents of real deployments ask for, and a start does as the replaced program did.

Where the answer differs, it is a row of docs/differences.md.
"""

import json
import os

import pytest
from documents import Entry, document, entry
from httpd import NOVA
from outcomes import quiet
from sandbox import CONFIG_FILES, KOLLA_GID, Sandbox

REACHING: dict[str, list[Entry]] = {
    "config_files": [
        entry("tree", dest, "nova", merge=True) for dest in ("/etc/kolla", "/etc", "/run")
    ],
    "directories": [
        {"path": "/etc/kolla", "owner": "nova", "perm": "0755"},
        {"path": "/etc/kolla/defaults/x", "owner": "root", "perm": "0755"},
        {"path": "/run", "owner": "root", "perm": "0777"},
    ],
    "files": [{"path": "/run_command", "owner": "nova", "perm": "0644"}],
    "permissions": [
        {"path": "/etc/kolla", "owner": "nova"},
        {"path": "/etc/k*", "owner": "nova"},
        {"path": "/", "owner": "root", "recurse": True},
        {"path": "/etc/kolla/defaults", "owner": "root"},
        {"path": "/records", "owner": "nova"},
    ],
}


@pytest.mark.parametrize(
    ("section", "reaching"), [(name, one) for name, found in REACHING.items() for one in found]
)
def test_no_section_reaches_the_records(httpd: Sandbox, section: str, reaching: Entry) -> None:
    httpd.symlink("/etc/kolla", "/records")
    httpd.source("tree/a", "a")
    httpd.document(document())
    assert httpd.set_configs().returncode == 0
    httpd.document(json.dumps(document(**{section: [reaching]})))
    httpd.mark()
    done = httpd.set_configs()
    assert (done.returncode, httpd.changes()) == (1, {})
    assert "what this program remembers; name a path beside it" in done.stderr
    assert f"{CONFIG_FILES}/config.json:1:" in done.stderr


def test_copy_once_is_not_done_while_permissions_fail(httpd: Sandbox) -> None:
    httpd.write("/srv/read-only/file", "x")
    httpd.run(["mount", "--bind", "/srv/read-only", "/srv/read-only"], check=True)
    httpd.run(["mount", "-o", "remount,bind,ro", "/srv/read-only"], check=True)
    rule = {"path": "/srv/read-only", "owner": "nova", "recurse": True}
    httpd.document(document(permissions=[rule]))
    done = httpd.set_configs(strategy="COPY_ONCE")
    assert done.returncode == 0
    assert "/srv/read-only/file: Read-only file system" in done.stderr
    assert done.stderr.rstrip().endswith(
        "COPY_ONCE is not done: the next start tries what failed again"
    )
    assert not httpd.exists("/configured")
    httpd.run(["umount", "/srv/read-only"], check=True)
    assert httpd.set_configs(strategy="COPY_ONCE").returncode == 0
    assert httpd.owner("/srv/read-only/file") == (NOVA, NOVA)
    assert httpd.exists("/configured")


def test_the_shared_log_tree_is_given_out_at_every_start(sandbox: Sandbox) -> None:
    """kolla-ansible 23: one volume of fluentd's, in it each service's directory, its logs in it."""
    for user in ("fluentd", "nova", "keystone"):
        sandbox.adduser(user, groups=["kolla"])
    logs = "/var/log/kolla"
    made = {"path": f"{logs}/nova/nova-manage.log", "owner": "nova:kolla", "perm": "0664"}
    nova = document(
        directories=[
            {"path": logs, "owner": "fluentd:kolla", "perm": "2775"},
            {"path": f"{logs}/nova", "owner": "nova:kolla", "perm": "2775"},
        ],
        files=[made],
        permissions=[{"path": f"{logs}/nova/*.log", "owner": "nova:kolla", "perm": "0664"}],
    )
    keystone = json.loads(json.dumps(nova).replace("nova", "keystone"))
    uids = {user: sandbox.ids(user)[0] for user in ("fluentd", "nova", "keystone")}
    for turn in range(3):
        for service, content in (("nova", nova), ("keystone", keystone)):
            if turn:
                # What a command of the image left that was run as root, under a umask of 077.
                left = f"{logs}/{service}/db-sync.log"
                sandbox.write(left, "x", mode=0o600)
            sandbox.document(content)
            done = sandbox.set_configs()
            assert done.returncode == 0
            assert "WARNING" not in done.stderr
            assert sandbox.owner(logs) == (uids["fluentd"], KOLLA_GID)
            assert sandbox.owner(f"{logs}/{service}") == (uids[service], KOLLA_GID)
            assert sandbox.mode(f"{logs}/{service}") == 0o2775
            for path in os.listdir(sandbox.host(f"{logs}/{service}")):
                assert sandbox.owner(f"{logs}/{service}/{path}") == (uids[service], KOLLA_GID)
                assert sandbox.mode(f"{logs}/{service}/{path}") == 0o664
            quiet(sandbox)


def test_the_data_of_a_service_whose_uid_changed(httpd: Sandbox) -> None:
    """An image with other numbers: what was the old user's alone is the new one's, also private."""
    for path in ("/var/lib/nova", "/var/lib/nova/instances"):
        httpd.mkdir(path, mode=0o700, owner=(162, 162))
    httpd.write("/var/lib/nova/instances/disk", "x", owner=(162, 162), mode=0o600)
    os.link(
        httpd.host("/var/lib/nova/instances/disk"), httpd.host("/var/lib/nova/instances/second")
    )
    made = {"path": "/var/lib/nova", "owner": "nova", "perm": "0750"}
    rule = {"path": "/var/lib/nova", "owner": "nova:nova", "recurse": True}
    httpd.document(document(directories=[made], permissions=[rule]))
    done = httpd.set_configs()
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    for path in ("", "/instances", "/instances/disk", "/instances/second"):
        assert httpd.owner(f"/var/lib/nova{path}") == (NOVA, NOVA)
    quiet(httpd)


def test_a_log_that_is_named_alone_in_a_tree_of_others(sandbox: Sandbox) -> None:
    """As keystone's document of kolla-ansible 22 has it: its directory is named by nobody."""
    for user in ("fluentd", "keystone"):
        sandbox.adduser(user, groups=["kolla"])
    sandbox.mkdir("/var/log/kolla", mode=0o2775, owner="fluentd:kolla")
    sandbox.mkdir("/var/log/kolla/keystone", owner="keystone")
    log = "/var/log/kolla/keystone/keystone.log"
    sandbox.write(log, "x", mode=0o600)
    rules = [
        {"path": "/var/log/kolla", "owner": "keystone:kolla"},
        {"path": log, "owner": "keystone:keystone"},
    ]
    made = {"path": f"{log}.1", "owner": "keystone", "perm": "0640"}
    sandbox.document(document(permissions=rules, files=[made]))
    done = sandbox.set_configs()
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    assert sandbox.owner(log)[0] == sandbox.owner(f"{log}.1")[0] == sandbox.ids("keystone")[0]
    quiet(sandbox)
    # And when fluentd's container has taken the directory back.
    sandbox.chown("/var/log/kolla", "fluentd:kolla")
    assert sandbox.set_configs().returncode == 0
    quiet(sandbox)
