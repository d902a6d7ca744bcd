"""Access control lists: what the service puts on its directories never opens what root writes.

A default ACL of a directory (acl(5)) is inherited by what is made in it, and a later chmod sets its
mask: a file of 0640 would be open to whomever the list names. `perm` means what it says.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from documents import document, entry
from outcomes import applied, mode, readable, settled
from sandbox import CONFIG_FILES, Sandbox

HOME = "/var/lib/svc"
SECRET = "the operator's secret"


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    """A home whose owner lets itself, and everybody, into all that is made there."""
    sandbox.adduser("svc", 4321)
    sandbox.mkdir(HOME, owner="svc")
    sandbox.mkdir(f"{HOME}/sub", owner="svc")
    for place in (HOME, f"{HOME}/sub"):
        acl = "d:u:svc:rwx,d:g::rwx,d:o::rwx,d:m::rwx"
        sandbox.run(["setfacl", "-m", acl, place], user="svc", check=True)
    sandbox.source("s", SECRET)
    sandbox.source("tree/s", SECRET)
    sandbox.source("tree/sub/s", SECRET)
    return sandbox


def lists(box: Sandbox, path: str) -> list[str]:
    """The names of the ACLs that a path has, access and default."""
    names = os.listxattr(box.host(path), follow_symlinks=False)
    return [name for name in names if name.startswith("system.posix_acl")]


def closed(box: Sandbox, path: str, perm: str) -> None:
    """Root's own, with these permission bits and no list: not the service's."""
    assert lists(box, path) == [], box.run(["getfacl", path]).stdout
    assert mode(box, path) == perm
    assert box.stat(path).st_uid == 0
    if perm.endswith("0"):
        assert not readable(box, path, "svc")
        assert box.run(["sh", "-c", f"echo x >>{path}"], user="svc").returncode != 0


@pytest.mark.parametrize("before", ["nothing", "the image's file", "a file with a list"])
@pytest.mark.parametrize("perm", ["0640", "0660", "0600"])
def test_a_file_in_a_directory_with_a_default_list(box: Sandbox, before: str, perm: str) -> None:
    dest = f"{HOME}/conf"
    if before != "nothing":
        box.write(dest, "the image's", mode=0o640)
        box.run(["setfacl", "-b", dest], check=True)
    if before == "a file with a list":
        box.run(["setfacl", "-m", "u:svc:rw", dest], check=True)
    applied(box, document(entry("s", dest, perm=perm)))
    assert box.read(dest) == SECRET
    closed(box, dest, perm)


def test_right_but_for_a_list(box: Sandbox) -> None:
    """Content, owner and mode are as asked: the list alone opens it."""
    dest = f"{HOME}/conf"
    box.write(dest, SECRET, mode=0o660)
    box.run(["setfacl", "-b", dest], check=True)
    box.run(["setfacl", "-m", "u:svc:rw", dest], check=True)
    box.chmod(dest, 0o660)
    box.document(document(entry("s", dest, perm="0660")))
    assert box.set_configs("--check").returncode == 1
    applied(box)
    closed(box, dest, "0660")


def test_a_list_that_the_service_sets_later(box: Sandbox) -> None:
    dest = f"{HOME}/conf"
    content = document(entry("s", dest, owner="svc", perm="0600"))
    applied(box, content)
    box.run(["setfacl", "-m", "u:nobody:r", dest], user="svc", check=True)
    assert box.set_configs("--check").returncode == 1
    applied(box)
    assert lists(box, dest) == []
    assert mode(box, dest) == "0600"


@pytest.mark.parametrize("merge", [False, True])
def test_a_tree_in_a_directory_with_a_default_list(box: Sandbox, merge: bool) -> None:
    applied(box, document(entry("tree", f"{HOME}/made", perm="0640", merge=merge)))
    for path in ("made", "made/sub"):
        closed(box, f"{HOME}/{path}", "0750")
    for path in ("made/s", "made/sub/s"):
        closed(box, f"{HOME}/{path}", "0640")


def test_a_merge_into_a_directory_with_a_default_list(box: Sandbox) -> None:
    applied(box, document(entry("tree", HOME, perm="0640", merge=True)))
    for path in ("s", "sub/s"):
        closed(box, f"{HOME}/{path}", "0640")


def test_parents_that_are_made(box: Sandbox) -> None:
    applied(box, document(entry("s", f"{HOME}/one/two/conf", perm="0640")))
    closed(box, f"{HOME}/one", "0755")
    closed(box, f"{HOME}/one/two", "0755")
    closed(box, f"{HOME}/one/two/conf", "0640")


def test_directories_and_files_that_are_made(box: Sandbox) -> None:
    applied(
        box,
        document(
            directories=[{"path": f"{HOME}/made", "owner": "root", "perm": "0750"}],
            files=[{"path": f"{HOME}/empty", "owner": "root", "perm": "0640"}],
        ),
    )
    closed(box, f"{HOME}/made", "0750")
    closed(box, f"{HOME}/empty", "0640")


def test_never_readable_meanwhile(box: Sandbox) -> None:
    """The list is off before a byte of content is written: seen by the order of the calls."""
    box.document(document(entry("s", f"{HOME}/conf", perm="0640")))
    trace = ["strace", "-f", "-qq", "-y", "-s", "400", "-o", "/srv/trace", "kolla_set_configs"]
    done = box.run(trace, env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"})
    assert done.returncode == 0, done.stderr
    lines = box.read("/srv/trace").splitlines()
    write = re.compile(rf"(write|pwrite64|writev|sendfile|copy_file_range|splice)\(\d+<{HOME}/")
    written = [number for number, line in enumerate(lines) if write.search(line)]
    assert written, "content was written in no way that this test knows"
    off = [
        number
        for number, line in enumerate(lines)
        if HOME in line and "system.posix_acl_access" in line
        and ("removexattr(" in line or "setxattr(" in line)
    ]  # fmt: skip
    assert off and off[0] < written[0], lines[written[0]]


def test_an_original_comes_back_with_its_own_list(box: Sandbox) -> None:
    """The image's ACL is part of what is saved, a directory's default one is not added."""
    dest = f"{HOME}/conf"
    box.write(dest, "the image's", mode=0o640)
    box.run(["setfacl", "-b", dest], check=True)
    box.run(["setfacl", "-m", "u:nobody:r", dest], check=True)
    box.write(f"{HOME}/plain", "the image's", mode=0o640)
    box.run(["setfacl", "-b", f"{HOME}/plain"], check=True)
    before = box.run(["getfacl", "-p", dest, f"{HOME}/plain"]).stdout
    applied(box, document(entry("s", dest), entry("s", f"{HOME}/plain")))
    applied(box, {"command": "true"})
    assert box.run(["getfacl", "-p", dest, f"{HOME}/plain"]).stdout == before


def test_the_records_and_the_saved_originals_have_no_list(box: Sandbox) -> None:
    box.run(["setfacl", "-m", "d:u:svc:rwx,d:m::rwx", "/etc"], check=True)
    box.write("/etc/a", SECRET, mode=0o600)
    box.run(["setfacl", "-b", "/etc/a"], check=True)
    applied(box, document(entry("s", "/etc/a", perm="0600")))
    found = [
        str(path)
        for path in Path(box.host("/etc/kolla")).rglob("*")
        if any(name.startswith("system.posix_acl") for name in os.listxattr(path))
    ]
    assert found == []
    assert lists(box, "/etc/kolla") == [] and lists(box, "/run_command") == []


# --- preserve_properties ------------------------------------------------------------------------


def preserved(box: Sandbox, path: str, **more: Any) -> dict[str, Any]:
    return document(entry("s", path, preserve_properties=True), **more)


@pytest.mark.parametrize("dest", ["/etc/conf", f"{HOME}/conf"])
def test_preserve_properties_brings_the_source_s_list_and_no_other(box: Sandbox, dest: str) -> None:
    box.adduser("other", 4322)
    box.chmod(f"{CONFIG_FILES}/s", 0o600)
    box.run(["setfacl", "-m", "u:other:r", f"{CONFIG_FILES}/s"], check=True)
    applied(box, preserved(box, dest))
    wanted = box.run(["getfacl", "-cp", f"{CONFIG_FILES}/s"]).stdout
    assert box.run(["getfacl", "-cp", dest]).stdout == wanted
    assert readable(box, dest, "other") or dest.startswith(HOME)
    assert not readable(box, dest, "svc")


def test_preserve_properties_of_a_directory_that_is_merged(box: Sandbox) -> None:
    """Its list is the source's, at the first start and after somebody has taken it off."""
    box.mkdir("/etc/merged")
    box.run(["setfacl", "-m", "u:svc:rx", f"{CONFIG_FILES}/tree"], check=True)
    wanted = box.run(["getfacl", "-cp", f"{CONFIG_FILES}/tree"]).stdout
    applied(box, document(entry("tree", "/etc/merged", preserve_properties=True, merge=True)))
    assert box.run(["getfacl", "-cp", "/etc/merged"]).stdout == wanted
    box.run(["setfacl", "-b", "/etc/merged"], check=True)
    box.chmod("/etc/merged", box.mode(f"{CONFIG_FILES}/tree"))
    assert box.set_configs("--check").returncode == 1
    applied(box)
    assert box.run(["getfacl", "-cp", "/etc/merged"]).stdout == wanted


def test_preserve_properties_of_a_program_with_capabilities(box: Sandbox) -> None:
    # cap_net_bind_service=ep, as setcap(8) writes it (capabilities(7), VFS_CAP_REVISION_2).
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(box.host(f"{CONFIG_FILES}/s"), "security.capability", capability)
    applied(box, preserved(box, "/usr/local/bin/tool"))
    assert os.getxattr(box.host("/usr/local/bin/tool"), "security.capability") == capability


@pytest.mark.parametrize("recurse", [False, True])
def test_preserve_properties_of_a_list_and_permissions_of_0600(box: Sandbox, recurse: bool) -> None:
    """`permissions` has the last word; --check agrees with it."""
    box.run(["setfacl", "-m", "u:svc:rw", f"{CONFIG_FILES}/s"], check=True)
    box.run(["setfacl", "-m", "u:svc:rw", f"{CONFIG_FILES}/tree/s"], check=True)
    asked = {"owner": "root", "perm": "0600"}
    content = document(
        entry("s", "/etc/conf", preserve_properties=True),
        entry("tree", "/etc/tree", preserve_properties=True),
        permissions=[
            {"path": "/etc/conf", **asked},
            {"path": "/etc/tree" if recurse else "/etc/tree/s", **asked, "recurse": recurse},
        ],
    )
    applied(box, content)
    for path in ("/etc/conf", "/etc/tree/s"):
        assert mode(box, path) == "0600"
        assert not readable(box, path, "svc")
    settled(box)


def test_permissions_over_a_file_with_a_list(box: Sandbox) -> None:
    """Not of config_files: the service's log with a list of its own."""
    box.write("/var/log/kolla/svc.log", "x", "svc", 0o644)
    box.run(["setfacl", "-m", "u:nobody:rw", "/var/log/kolla/svc.log"], check=True)
    asked = {"path": "/var/log/kolla/svc.log", "owner": "svc", "perm": "0600"}
    applied(box, document(permissions=[asked]))
    assert mode(box, "/var/log/kolla/svc.log") == "0600"
    assert not readable(box, "/var/log/kolla/svc.log", "nobody")


# --- filesystems without extended attributes ----------------------------------------------------


@pytest.mark.parametrize("attribute", ["user", "list", "both", "none"])
@pytest.mark.parametrize("kind", ["file", "tree", "merge"])
def test_preserve_properties_where_there_are_no_attributes(
    box: Sandbox, kind: str, attribute: str
) -> None:
    """ramfs has none: what cannot be is not wanted, and --check is 0 afterwards."""
    box.mkdir("/opt/bare")
    box.run(["mount", "-t", "ramfs", "none", "/opt/bare"], check=True)
    box.chmod("/opt/bare", 0o755)
    for path in ("s", "tree", "tree/s", "tree/sub"):
        if attribute in ("user", "both"):
            os.setxattr(box.host(f"{CONFIG_FILES}/{path}"), "user.note", b"x")
        if attribute in ("list", "both"):
            box.run(["setfacl", "-m", "u:svc:rwx", f"{CONFIG_FILES}/{path}"], check=True)
    source = "s" if kind == "file" else "tree"
    keys: dict[str, Any] = {"merge": True} if kind == "merge" else {}
    content = document(entry(source, "/opt/bare/copy", preserve_properties=True, **keys))
    box.document(content)
    done = box.set_configs()
    assert done.returncode == 0, done.stderr
    check = box.set_configs("--check")
    assert check.returncode == 0, check.stderr
    leaf = "/opt/bare/copy" if kind == "file" else "/opt/bare/copy/s"
    before = box.stat(leaf)
    assert box.read(leaf) == SECRET
    again = box.set_configs()
    assert again.returncode == 0, again.stderr
    after = box.stat(leaf)
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
