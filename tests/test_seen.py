"""Large directories that a restart only looks at: it must notice whatever it would have read."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sandbox import CONFIG_FILES, VENV, Sandbox

COPY = "/etc/tree"
DIRECTORIES, FILES = 4, 130
GROW = f"""
import os
for d in range({DIRECTORIES}):
    os.makedirs(f"{CONFIG_FILES}/tree/{{d}}")
    for f in range({FILES}):
        with open(f"{CONFIG_FILES}/tree/{{d}}/{{f}}", "w") as out:
            out.write(f"{{d}}/{{f}} of the source")
"""
BOOT = "/proc/sys/kernel/random/boot_id"
ENVIRON = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}


def document(*more: dict[str, Any], owner: str = "root", **sections: Any) -> dict[str, Any]:
    tree = {"source": f"{CONFIG_FILES}/tree", "dest": COPY, "owner": owner, "perm": "0644"}
    return {"command": "true", "config_files": [tree, *more], **sections}


@pytest.fixture(scope="module")
def old() -> Iterator[Sandbox]:
    """A source that is older than the coarsest clock: a younger one is not trusted."""
    with Sandbox() as box:
        box.adduser("nova", 4321)
        box.run(["/usr/bin/python3", "-c", GROW], check=True)
        time.sleep(2.1)
        yield box


@pytest.fixture
def tree(old: Sandbox) -> Sandbox:
    """The same, copied, and known to be right."""
    old.document(document())
    for _ in range(3):  # after what another test did to the source: until it is old
        assert old.set_configs().returncode == 0
        if seen(old):
            break
        time.sleep(1.1)
    assert seen(old)
    return old


def seen(sandbox: Sandbox) -> dict[str, str]:
    found: dict[str, str] = json.loads(sandbox.read("/etc/kolla/defaults/kolla_start"))["seen"]
    return found


def read(sandbox: Sandbox, code: int = 0) -> int:
    """Run it; how many files of the two trees were opened."""
    tracer = ["strace", "-f", "-qq", "-y", "-o", "/srv/trace", "-e", "trace=openat"]
    done = sandbox.run([*tracer, "kolla_set_configs"], env=ENVIRON)
    assert done.returncode == code, done.stderr
    # Not the directories D, but the files D/F: two processes' lines lie between each other.
    lines = sandbox.read("/srv/trace").splitlines()
    return sum(re.search(r"/tree/\d+/\w+>$", line) is not None for line in lines)


def equal(sandbox: Sandbox) -> bool:
    done = sandbox.run(["diff", "-r", f"{CONFIG_FILES}/tree", COPY])
    wrong = sandbox.run(
        ["find", COPY, "!", "-user", "root", "-o", "-type", "f", "!", "-perm", "644"]
    )
    return done.returncode == 0 and not wrong.stdout


def test_a_restart_reads_nothing_and_writes_nothing(tree: Sandbox) -> None:
    tree.mark()
    assert read(tree) == 0
    assert set(tree.changes()) <= {"/srv", "/srv/trace"}
    done = tree.set_configs("--check")
    assert done.returncode == 0, done.stderr


def in_place(place: str) -> Callable[[Sandbox], None]:
    """Other bytes of the same length, and the times that a call can set as they were."""

    def change(box: Sandbox) -> None:
        path = box.host(f"{place}/1/7")
        status = os.stat(path)
        with open(path, "r+b") as file:
            file.write(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return change


def another_inode(box: Sandbox) -> None:
    path = box.host(f"{COPY}/1/7")
    status = os.stat(path)
    with open(f"{path}.new", "wb") as file:
        file.write(b"y" * status.st_size)
    os.chmod(f"{path}.new", 0o644)
    os.utime(f"{path}.new", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.rename(f"{path}.new", path)


def linked(box: Sandbox) -> None:
    box.write("/srv/elsewhere", "1/7 of elsewhere")
    box.remove(f"{COPY}/1/7")
    box.symlink("/srv/elsewhere", f"{COPY}/1/7")


CHANGES: dict[str, Callable[[Sandbox], None]] = {
    "zeros in the copy": in_place(COPY),
    "zeros in the source": in_place(f"{CONFIG_FILES}/tree"),
    "another file in the copy": another_inode,
    "a link in the copy": linked,
    "owner": lambda box: box.chown(f"{COPY}/2/9", "nova"),
    "mode": lambda box: box.chmod(f"{COPY}/2/9", 0o666),
    "mode of the top": lambda box: box.chmod(COPY, 0o700),
    "gone from the copy": lambda box: box.remove(f"{COPY}/3/1"),
    "a directory gone from the copy": lambda box: box.remove(f"{COPY}/3"),
    "all of the copy gone": lambda box: box.remove(COPY),
    "gone from the source": lambda box: box.remove(f"{CONFIG_FILES}/tree/3/1"),
    "new in the source": lambda box: box.write(f"{CONFIG_FILES}/tree/3/new", "new"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed_and_mended(tree: Sandbox, change: str) -> None:
    CHANGES[change](tree)
    assert tree.set_configs("--check").returncode == 1
    assert tree.set_configs().returncode == 0
    assert equal(tree)
    assert tree.set_configs("--check").returncode == 0


def test_what_is_not_in_the_source_goes(tree: Sandbox) -> None:
    tree.write(f"{COPY}/3/extra", "x")
    assert tree.set_configs().returncode == 0
    assert not tree.exists(f"{COPY}/3/extra") and equal(tree)


def test_after_another_boot_everything_is_read(tree: Sandbox) -> None:
    tree.write("/srv/boot_id", "another\n")
    tree.run(["mount", "--bind", "/srv/boot_id", BOOT], check=True)
    try:
        before = seen(tree)
        assert read(tree) == 2 * DIRECTORIES * FILES
        assert seen(tree).keys() == before.keys() and seen(tree) != before
        assert read(tree) == 0
        # What cannot be remembered is no reason not to start.
        tree.write("/srv/boot_id", "a third\n")
        trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO"]
        for _ in range(2):
            done = tree.run([*trace, "kolla_set_configs"], env=ENVIRON)
            assert done.returncode == 0, done.stderr
        assert read(tree) == 2 * DIRECTORIES * FILES
    finally:
        tree.run(["umount", BOOT], check=True)


def test_what_the_service_can_write_is_always_read(tree: Sandbox) -> None:
    tree.document(document(owner="nova"))
    assert tree.set_configs().returncode == 0
    assert seen(tree) == {}
    assert read(tree) == 2 * DIRECTORIES * FILES
    assert seen(tree) == {}


def test_a_source_that_is_written_at_this_moment_is_always_read(tree: Sandbox) -> None:
    path = tree.host(f"{CONFIG_FILES}/tree/0/0")
    for number in range(30):
        for text in (b"a%04d", b"b%04d"):
            with open(path, "wb") as file:
                file.write(text % number)
            assert tree.set_configs().returncode == 0
            assert tree.read_bytes(f"{COPY}/0/0") == text % number


def test_a_copy_that_is_written_at_this_moment_is_always_read(tree: Sandbox) -> None:
    for number in range(30):
        with open(tree.host(f"{COPY}/0/{number}"), "r+b") as file:
            file.write(b"x")
        assert tree.set_configs().returncode == 0
        assert equal(tree)


def test_other_entries_that_concern_the_same_directory(tree: Sandbox) -> None:
    walk = {"path": "/etc", "owner": "nova", "recurse": True, "perm": "0600"}
    inner = {
        "source": f"{CONFIG_FILES}/one",
        "dest": f"{COPY}/1/7",
        "owner": "root",
        "perm": "0644",
    }
    tree.source("one", "one")
    for more in (
        document(permissions=[{**walk, "path": COPY}]),
        document(permissions=[{**walk, "path": f"{COPY}/1/7"}]),
        document(inner),
        document({**inner, "dest": f"{COPY}/1/new"}),
        {**document(), "config_files": [inner, *document()["config_files"]]},
    ):
        tree.document(more)
        assert tree.set_configs("--check").returncode in {0, 1}
        assert tree.set_configs().returncode == 0
        if "permissions" in more:
            assert tree.stat(f"{COPY}/1/7").st_uid == 4321
        elif more["config_files"][0] != inner:
            assert tree.read(more["config_files"][1]["dest"]) == "one"
        tree.mark()
        done = tree.set_configs()
        assert done.returncode == 0
        assert tree.changes() == {}, done.stderr
        assert tree.set_configs("--check").returncode == 0
        tree.document(document())
        assert tree.set_configs().returncode == 0
        assert equal(tree)


def test_a_merge_into_it(tree: Sandbox) -> None:
    tree.source("extra/1/new", "new")
    tree.source("up/tree/1/new", "new")
    tree.symlink(COPY, "/etc/alias")
    for source, dest in (("extra", COPY), ("up", "/etc"), ("extra", "/etc/alias")):
        merge = {"source": f"{CONFIG_FILES}/{source}", "dest": dest, "merge": True}
        tree.document(document({**merge, "owner": "root", "perm": "0644"}))
        assert tree.set_configs().returncode == 0
        assert tree.read(f"{COPY}/1/new") == "new"
        tree.mark()
        assert tree.set_configs().returncode == 0
        assert tree.changes() == {}
        tree.remove(f"{COPY}/1/new")
        tree.document(document())
        assert tree.set_configs().returncode == 0
        assert equal(tree)
    tree.remove("/etc/alias")


def test_a_pattern_whose_last_match_counts(tree: Sandbox) -> None:
    for number, count in ((1, 600), (2, 1)):
        tree.run(["mkdir", "-p", f"{CONFIG_FILES}/g/{number}/same"], check=True)
        for name in range(count):
            tree.source(f"g/{number}/same/{name}", f"{number}")
    pattern = {"source": f"{CONFIG_FILES}/g/*/same", "dest": "/etc/g/"}
    tree.document(document({**pattern, "owner": "root", "perm": "0644"}))
    assert tree.set_configs().returncode == 0
    time.sleep(2.1)
    for _ in range(2):
        assert tree.set_configs().returncode == 0
        assert os.listdir(tree.host("/etc/g/same")) == ["0"]
    tree.remove(f"{CONFIG_FILES}/g/2")
    assert tree.set_configs("--check").returncode == 1
    assert tree.set_configs().returncode == 0
    assert len(os.listdir(tree.host("/etc/g/same"))) == 600
    tree.remove(f"{CONFIG_FILES}/g")


def test_an_empty_directory_of_it_that_was_a_parent_before(tree: Sandbox) -> None:
    tree.document({"command": "true"})
    assert tree.set_configs().returncode == 0
    tree.source("one", "one")
    inner = {"source": f"{CONFIG_FILES}/one", "dest": f"{COPY}/empty/x"}
    tree.document({"command": "true", "config_files": [{**inner, "owner": "root", "perm": "600"}]})
    assert tree.set_configs().returncode == 0
    tree.mkdir(f"{CONFIG_FILES}/tree/empty")
    time.sleep(2.1)
    tree.document(document())
    for _ in range(4):
        assert tree.set_configs().returncode == 0
        assert equal(tree)
    assert seen(tree)
    os.rmdir(tree.host(f"{CONFIG_FILES}/tree/empty"))


def never_trusted(sandbox: Sandbox, dest: str) -> None:
    """The same directory, copied elsewhere, is read at each start."""
    elsewhere = document()
    elsewhere["config_files"][0]["dest"] = dest
    sandbox.document(elsewhere)
    for _ in range(2):
        assert sandbox.set_configs().returncode == 0
        assert seen(sandbox) == {}
    sandbox.document(document())
    assert sandbox.set_configs().returncode == 0


def test_where_others_could_exchange_it_there_is_no_trust(tree: Sandbox) -> None:
    """A directory above is the service's, or one inside was until a moment ago."""
    tree.mkdir("/etc/of_nova", owner="nova")
    never_trusted(tree, "/etc/of_nova/tree")
    tree.chown(f"{COPY}/1", "nova")
    assert tree.set_configs().returncode == 0
    assert seen(tree) == {}
    assert read(tree) == 2 * DIRECTORIES * FILES
    assert read(tree) == 0


def test_a_filesystem_whose_times_are_not_this_kernels_is_not_trusted(tree: Sandbox) -> None:
    # ramfs stands for NFS and FUSE: one that is not in the list.
    tree.mkdir("/etc/other")
    tree.run(["mount", "-t", "ramfs", "none", "/etc/other"], check=True)
    never_trusted(tree, "/etc/other/tree")
    tree.run(["umount", "/etc/other"], check=True)


def test_without_the_digest_everything_is_read(tree: Sandbox) -> None:
    """As on a host in FIPS mode, where the module or the call may fail."""
    for broken in ("sys.modules['_blake2'] = None", "sys.modules['_blake2'] = Forbidden"):
        program = f"""
import sys
class Forbidden:
    def blake2b(*_, **__):
        raise ValueError("disabled for FIPS")
{broken}
from kolla_start import set_configs
sys.argv[1:] = []
set_configs.main()
"""
        done = tree.run([f"{VENV}/bin/python", "-I", "-c", program], env=ENVIRON)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        assert seen(tree) == {}


def test_copy_once_reads_and_flushes_everything(tree: Sandbox) -> None:
    trace = ["strace", "-f", "-qq", "-y", "-o", "/srv/trace", "-e", "trace=fsync"]
    environ = {"KOLLA_CONFIG_STRATEGY": "COPY_ONCE"}
    tree.run([*trace, "kolla_set_configs"], env=environ, check=True)
    try:
        flushed = tree.read("/srv/trace").count(f"<{COPY}/")
        assert flushed >= DIRECTORIES * FILES
    finally:
        tree.remove("/configured")


def test_it_leaves_with_the_document(tree: Sandbox) -> None:
    tree.document({"command": "true"})
    assert tree.set_configs().returncode == 0
    assert not tree.exists(COPY) and seen(tree) == {}


# --- copied by two processes --------------------------------------------------------------------

HELPER_DIES = """
import os, sys
from kolla_start import disk, set_configs
parent, finish, count = os.getpid(), disk._finish, 0
def dying(*arguments):  # in the middle of a file
    global count
    count += 1
    if os.getpid() != parent and count > 100:
        os.kill(os.getpid(), 9)
    finish(*arguments)
disk._finish = dying
sys.argv[1:] = []
set_configs.main()
"""


def test_a_helper_that_is_killed_is_no_loss(tree: Sandbox) -> None:
    tree.remove(COPY)
    done = tree.run([f"{VENV}/bin/python", "-I", "-c", HELPER_DIES], env=ENVIRON)
    assert done.returncode == 0, done.stderr
    assert equal(tree)
    left = tree.run(["find", "/etc", "-name", ".kolla_start.*"])
    assert left.stdout == ""


@pytest.mark.parametrize("number", [30, 200])
def test_a_full_disk_in_both_is_said_once_and_mended(tree: Sandbox, number: int) -> None:
    tree.remove(COPY)
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fchown",
             "-e", f"inject=fchown:error=ENOSPC:when={number}"]  # fmt: skip
    done = tree.run([*trace, "kolla_set_configs"], env=ENVIRON)
    assert done.returncode == 1
    assert done.stderr.count("No space left on device") == 1
    assert "Traceback" not in done.stderr
    assert tree.set_configs().returncode == 0
    assert equal(tree)
    left = tree.run(["find", "/etc", "-name", ".kolla_start.*"])
    assert left.stdout == ""
