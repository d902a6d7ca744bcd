"""Links that an image has, as `permissions` and config_files of real documents meet them.

Where the answer differs from the replaced program's, it is a row of docs/differences.md.
"""

import json
import os

import pytest
from documents import document, entry
from httpd import APACHE, NOVA
from outcomes import quiet
from sandbox import CONFIG_FILES, Sandbox


def test_an_image_s_link_that_the_entry_names_is_followed(httpd: Sandbox) -> None:
    rule = {"path": "/etc/httpd/run/", "owner": "nova:apache", "recurse": True}
    httpd.document(document(permissions=[rule]))
    assert httpd.set_configs().returncode == 0
    assert httpd.owner("/run/httpd") == (NOVA, APACHE)
    assert httpd.owner("/etc/httpd/run") == (0, 0)  # so that it is the image's next time
    assert httpd.owner("/run/httpd/htcacheclean") == (0, 0)  # that one object, not what is in it
    assert httpd.mode("/run/httpd") == 0o710
    quiet(httpd)
    # And again, where the directory was made anew.
    httpd.chown("/run/httpd", "root")
    assert httpd.set_configs().returncode == 0
    assert httpd.owner("/run/httpd") == (NOVA, APACHE)


def test_links_of_the_image_below_an_entry_are_followed_once(httpd: Sandbox) -> None:
    rule = {"path": "/etc/httpd", "owner": "nova:apache", "recurse": True, "perm": "0750"}
    httpd.document(document(permissions=[rule]))
    done = httpd.set_configs()
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    for path in ("/etc/httpd", "/etc/httpd/conf/httpd.conf", "/run/httpd", "/var/log/httpd"):
        assert httpd.owner(path) == (NOVA, APACHE)
        assert httpd.mode(path) == 0o750
    assert httpd.owner("/run/httpd/htcacheclean") == (0, 0)
    assert {httpd.owner(f"/etc/httpd/{name}") for name in ("run", "logs", "state")} == {
        (NOVA, APACHE)
    }
    quiet(httpd)
    # /etc/httpd is the service's now: what a link in it leads to is nobody's business any more.
    httpd.remove("/etc/httpd/run")
    httpd.write("/srv/secret", "root's", mode=0o600)
    httpd.symlink("/srv/secret", "/etc/httpd/run", owner=(NOVA, APACHE))
    quiet(httpd)
    assert httpd.owner("/srv/secret") == (0, 0)


def test_what_the_document_names_itself_is_not_reached_by_a_link(httpd: Sandbox) -> None:
    rules = [
        {"path": "/run/httpd", "owner": "root:apache", "perm": "0770"},
        {"path": "/etc/httpd", "owner": "nova:apache", "recurse": True},
    ]
    httpd.document(document(permissions=rules))
    assert httpd.set_configs().returncode == 0
    assert httpd.owner("/run/httpd") == (0, APACHE)
    quiet(httpd)


def test_a_link_to_the_records_gives_nobody_the_records(httpd: Sandbox) -> None:
    httpd.symlink("/etc/kolla/defaults", "/etc/httpd/defaults")
    rule = {"path": "/etc/httpd", "owner": "nova:apache", "recurse": True}
    httpd.document(document(permissions=[rule]))
    for _ in range(2):
        assert httpd.set_configs().returncode == 0
        assert httpd.owner("/etc/kolla/defaults") == (0, 0)


def test_a_log_that_is_a_link_to_standard_error(httpd: Sandbox) -> None:
    """As many images have it; the service may then open it, though it is root's pipe."""
    httpd.symlink("/dev/stderr", "/etc/httpd/error_log")
    rule = {"path": "/etc/httpd", "owner": "nova:apache", "recurse": True}
    httpd.document(document(permissions=[rule]))
    before, after = os.pipe()
    process = httpd.popen(
        ["kolla_set_configs"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}, stderr=after
    )
    assert process.wait(60) == 0
    assert os.fstat(after).st_uid == NOVA
    os.close(before)
    os.close(after)


def test_a_file_that_the_caller_opened_is_not_behind_such_a_link(httpd: Sandbox) -> None:
    """`sudo kolla_set_configs 2</etc/passwd` is the service's to type."""
    httpd.symlink("/dev/stderr", "/etc/httpd/error_log")
    httpd.symlink("/dev/null", "/etc/httpd/null")
    httpd.document(
        document(permissions=[{"path": "/etc/httpd/*", "owner": "nova", "perm": "0640"}])
    )
    with open(httpd.host("/etc/passwd")) as theirs:
        process = httpd.popen(
            ["kolla_set_configs"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}, stderr=theirs
        )
        assert process.wait(60) == 0
    assert httpd.owner("/etc/passwd") == (0, 0)
    assert (httpd.owner("/dev/null"), httpd.mode("/dev/null")) == ((0, 0), 0o666)
    assert httpd.owner("/run/httpd")[0] == NOVA


def test_a_link_of_the_service_s_does_not_become_the_image_s(httpd: Sandbox) -> None:
    """Not by a document that gives its directory to root: a later one would follow it."""
    httpd.write("/srv/secret", "root's", mode=0o600)
    httpd.mkdir("/var/lib/app", owner="nova")
    httpd.symlink("/srv/secret", "/var/lib/app/link", owner="nova")
    rule = {"path": "/var/lib/app", "owner": "root", "perm": "0644", "recurse": True}
    for owned_by in ("root", "root", "nova"):
        httpd.document(document(permissions=[{**rule, "owner": owned_by}]))
        assert httpd.set_configs().returncode == 0
        assert httpd.owner("/var/lib/app/link") == (NOVA, NOVA)
        quiet(httpd)
        assert (httpd.owner("/srv/secret"), httpd.mode("/srv/secret")) == ((0, 0), 0o600)


LOOPS = {
    "permissions": {"path": "/etc/httpd/loop", "owner": "nova", "recurse": True},
    "directories": {"path": "/etc/httpd/loop", "owner": "nova", "perm": "0755"},
    "config_files": entry("a", "/etc/httpd/loop/a"),
}


@pytest.mark.parametrize("section", LOOPS)
def test_a_link_of_the_image_in_a_circle(httpd: Sandbox, section: str) -> None:
    httpd.symlink("back", "/etc/httpd/loop")
    httpd.symlink("../httpd/loop", "/etc/httpd/back")
    httpd.source("a", "a")
    httpd.document(json.dumps(document(**{section: [LOOPS[section]]})))
    httpd.mark()
    done = httpd.set_configs()
    assert (done.returncode, httpd.changes()) == (1, {})
    key = "dest" if section == "config_files" else "path"
    assert f"{CONFIG_FILES}/config.json:1:" in done.stderr
    assert f"{section}[0].{key}: /etc/httpd/loop" in done.stderr
    assert done.stderr.rstrip().rpartition("; ")[2]  # what to do


def test_the_service_s_own_circle_is_no_obstacle(httpd: Sandbox) -> None:
    httpd.mkdir("/var/log/nova", owner="nova")
    httpd.symlink("loop", "/var/log/nova/loop", owner="nova")
    httpd.document(document(permissions=[{"path": "/var/log/nova/loop", "owner": "nova"}]))
    assert httpd.set_configs().returncode == 0


def test_a_pattern_behind_a_link_of_the_image_finds_what_is_copied_there(httpd: Sandbox) -> None:
    httpd.mkdir("/opt/real")
    httpd.symlink("real", "/opt/link")
    httpd.write("/opt/file", "the image's, and to be a directory")
    httpd.source("a", "a")
    httpd.source("tree/g", "g")
    here, tree = entry("a", "/opt/link/a"), entry("tree", "/opt/file")
    rules = [
        {"path": "/opt/link/*", "owner": "nova", "perm": "0640"},
        {"path": "/opt/file/g", "owner": "nova", "perm": "0640"},
    ]
    httpd.document(document(here, tree, permissions=rules))
    done = httpd.set_configs()
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    for path in ("/opt/real/a", "/opt/file/g"):
        assert (httpd.owner(path)[0], httpd.mode(path)) == (NOVA, 0o640)
    quiet(httpd)
