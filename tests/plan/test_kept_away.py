"""What no document may touch: this program's own records; and odd places, refused before a write.

Only root may have written the records. A document that would give them away, by whatever name or
pattern it reaches them, is refused whole or leaves them as they are.
"""

import os
import stat
from typing import Any

import pytest
from documents import document, entry
from outcomes import applied, no_bug, refused
from sandbox import CONFIG_FILES, Sandbox

RECORDS = ("/etc/kolla", "/etc/kolla/defaults", "/etc/kolla/defaults/state", "/run_command")


def furnish(box: Sandbox) -> None:
    box.adduser("svc", 4321)
    box.source("s", "s")
    box.source("d/inner", "inner")
    box.write("/etc/first", "the image's")
    box.document(document(entry("s", "/etc/saved")))
    assert box.set_configs().returncode == 0
    box.symlink("/etc/kolla", "/opt/link")
    box.mkdir("/etc/beside")


def roots(box: Sandbox) -> dict[str, tuple[int, int, int]]:
    found = {}
    for top in ("/etc/kolla", "/run_command"):
        for where, directories, files in os.walk(box.host(top)):
            for path in (where, *(f"{where}/{name}" for name in (*directories, *files))):
                status = os.lstat(path)
                found[path] = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
    status = box.stat("/run_command")
    found["/run_command"] = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
    return found


def asked(section: str, path: str, **keys: Any) -> dict[str, Any]:
    given = {"path": path, "owner": "svc", "perm": "0777", **keys}
    return {"command": "true", section: [given], "config_files": [entry("s", "/etc/first")]}


@pytest.mark.parametrize("path", ["/etc", "/etc/kolla", "/"])
def test_what_holds_the_records_and_stays_root_s(sandbox: Sandbox, path: str) -> None:
    furnish(sandbox)
    before = roots(sandbox)
    applied(sandbox, document(directories=[{"path": path, "owner": "root", "perm": "0755"}]))
    assert roots(sandbox) == before


NAMES = (*RECORDS, "/etc//kolla/", "/etc/./kolla", "/etc/beside/../kolla", "/opt/link",
         "/opt/link/defaults", "/configured", "/run/kolla", "/run/kolla/defaults")  # fmt: skip


@pytest.mark.parametrize("path", NAMES)
@pytest.mark.parametrize("section", ["permissions", "directories", "files"])
def test_a_section_that_names_the_records(sandbox: Sandbox, section: str, path: str) -> None:
    furnish(sandbox)
    before = roots(sandbox)
    refused(sandbox, asked(section, path))
    assert roots(sandbox) == before
    assert sandbox.read("/etc/first") == "the image's"


@pytest.mark.parametrize(
    ("path", "recurse"),
    [("/etc/k*", False), ("/etc/kolla/*", False), ("/etc/*/defaults", True), ("/etc", True),
     ("/", True), ("/e*", True), ("/opt/*/defaults", False), ("/run_*", False), ("/*", False),
     ("/etc/kolla", True), ("/opt", True), ("/opt/*", False)],
)  # fmt: skip
def test_permissions_that_come_to_the_records(sandbox: Sandbox, path: str, recurse: bool) -> None:
    """By a pattern, by a tree they lie in, by a link of the image: they stay root's."""
    furnish(sandbox)
    before = roots(sandbox)
    # The rest of the root is of no interest here, and large.
    exclude = ["^/(?!(etc|opt)(/|$)|run_command)", "^/opt/(?!link)"]
    sandbox.document(asked("permissions", path, recurse=recurse, perm="0755", exclude=exclude))
    done = sandbox.set_configs()
    no_bug(done)
    if done.returncode:
        assert sandbox.read("/etc/first") == "the image's"
    now = roots(sandbox)
    assert {name: now.get(name) for name in before} == before, done.stderr


BELOW = ("/etc/kolla/options", "/etc/kolla/defaults/etc/x", "/etc//kolla/./options",
         "/etc/beside/../kolla/options", "/opt/link/options", "/opt/link/defaults/state",
         "/run/kolla/options")  # fmt: skip


@pytest.mark.parametrize("path", [name for name in (*NAMES, *BELOW) if name != "/opt/link"])
@pytest.mark.parametrize("merge", [False, True])
def test_an_entry_that_names_the_records(sandbox: Sandbox, merge: bool, path: str) -> None:
    furnish(sandbox)
    if merge and path in ("/etc/kolla", "/etc//kolla/"):
        applied(sandbox, document(entry("d", path, merge=True)))  # beside them is not over them
        return
    source = "d" if merge else "s"
    dest = path.rstrip("/")
    refused(sandbox, document(entry("s", "/etc/first"), entry(source, dest, merge=merge)))


@pytest.mark.parametrize("name", ["options", "defaults"])
def test_a_pattern_whose_match_is_named_as_a_record(sandbox: Sandbox, name: str) -> None:
    furnish(sandbox)
    sandbox.source(f"many/{name}", "x")
    sandbox.source("many/other", "x")
    refused(sandbox, document(entry("s", "/etc/first"), entry("many/*", "/etc/kolla/")))
    refused(sandbox, document(entry("s", "/etc/first"), entry("many", "/etc/kolla", merge=True)))


def test_a_tree_that_would_land_on_the_records(sandbox: Sandbox) -> None:
    """`dest: /` with merge is a real document; what it brings for /etc/kolla is not taken."""
    furnish(sandbox)
    sandbox.source("root/etc/kolla/options", '{"user": "0"}')
    sandbox.source("root/etc/new", "new")
    before = roots(sandbox)
    refused(sandbox, document(entry("root/*", "/", merge=True, preserve_properties=True)))
    assert roots(sandbox) == before


# --- odd destinations and sources ---------------------------------------------------------------


@pytest.mark.parametrize(
    "dest",
    ["/proc/kolla_start_was_here", "/proc/self/conf", "/proc/1/root/etc/conf", "/proc/1/cwd/conf",
     "/sys/kolla_start_was_here", "/sys/kernel/conf", "/sys/fs/conf/deeper", "/dev/fd/conf",
     "/proc", "/sys", "/proc/self/fd"],
)  # fmt: skip
@pytest.mark.parametrize("section", ["config_files", "directories", "files"])
def test_a_place_of_the_kernel_is_refused_before_any_change(
    sandbox: Sandbox, section: str, dest: str
) -> None:
    furnish(sandbox)
    first = entry("s", "/etc/first")
    if section == "config_files":
        content = document(first, entry("s", dest))
    else:
        content = document(first, **{section: [{"path": dest, "owner": "root", "perm": "0755"}]})
        if section == "directories" and dest in ("/proc", "/sys", "/proc/self/fd"):
            content[section][0]["path"] = f"{dest}/new"
    refused(sandbox, content)
    assert sandbox.read("/etc/first") == "the image's"


def fifo(box: Sandbox, path: str) -> None:
    os.mkfifo(box.host(path))


def a_socket(box: Sandbox, path: str) -> None:
    os.mknod(box.host(path), stat.S_IFSOCK | 0o644)


def device(box: Sandbox, path: str) -> None:
    os.mknod(box.host(path), stat.S_IFCHR | 0o644, os.makedev(1, 5))


def dangling(box: Sandbox, path: str) -> None:
    box.symlink("nowhere", path)


def loop(box: Sandbox, path: str) -> None:
    box.symlink(os.path.basename(path), path)


def tree_loop(box: Sandbox, path: str) -> None:
    box.mkdir(path)
    box.symlink("..", f"{path}/up")


@pytest.mark.parametrize("odd", [fifo, a_socket, device, dangling, loop, tree_loop])
@pytest.mark.parametrize("where", ["itself", "inside", "pattern", "merged", "preserved", "outside"])
def test_an_odd_source_is_refused_before_any_change(sandbox: Sandbox, odd: Any, where: str) -> None:
    furnish(sandbox)
    sandbox.source("tree/a", "a")
    place = "/srv/odd" if where == "outside" else f"{CONFIG_FILES}/tree/odd"
    odd(sandbox, place)
    keys: dict[str, Any] = {"optional": True} if where == "pattern" else {}
    if where == "merged":
        keys = {"merge": True}
    if where == "preserved":
        keys = {"preserve_properties": True}
    source = {"itself": place, "outside": place, "pattern": "tree/*"}.get(where, "tree")
    dest = "/etc/odd/" if where == "pattern" else "/etc/odd"
    refused(sandbox, document(entry("s", "/etc/first"), entry(source, dest, **keys)))
    assert sandbox.read("/etc/first") == "the image's"


@pytest.mark.parametrize("source", ["/dev/zero", "/dev/full", "/dev/random", "/dev/tty"])
def test_a_device_as_source(sandbox: Sandbox, source: str) -> None:
    furnish(sandbox)
    refused(sandbox, document(entry("s", "/etc/first"), entry(source, "/etc/odd")))
