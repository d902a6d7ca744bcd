"""kolla_set_configs as real root in a throw-away root: what it puts where, and gives back."""

import json

from documents import document, entry
from outcomes import apply, settled
from sandbox import CONFIG_FILES, Sandbox


def test_a_file_gets_content_owner_and_mode(sandbox: Sandbox) -> None:
    sandbox.adduser("nova", 4321)
    sandbox.source("nova.conf", "[DEFAULT]\n")
    apply(sandbox, document(entry("nova.conf", "/etc/nova/nova.conf", "nova", "0600")))
    status = sandbox.stat("/etc/nova/nova.conf")
    assert sandbox.read("/etc/nova/nova.conf") == "[DEFAULT]\n"
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o600, 4321, 4321)
    parent = sandbox.stat("/etc/nova")
    assert (parent.st_mode & 0o7777, parent.st_uid) == (0o755, 0)
    assert sandbox.read("/run_command") == "true"
    assert sandbox.mode("/run_command") == 0o644
    settled(sandbox)


def test_what_is_right_is_not_touched(sandbox: Sandbox) -> None:
    sandbox.source("a", "a")
    sandbox.source("b", "b")
    apply(sandbox, document(entry("a", "/etc/x/a"), entry("b", "/etc/x/b")))
    inode = sandbox.stat("/etc/x/a").st_ino
    sandbox.source("b", "changed")
    assert sandbox.set_configs("--check").returncode == 1
    apply(sandbox, document(entry("a", "/etc/x/a"), entry("b", "/etc/x/b")))
    assert sandbox.stat("/etc/x/a").st_ino == inode
    assert sandbox.read("/etc/x/b") == "changed"
    settled(sandbox)


def test_image_default_is_saved_once_and_comes_back(sandbox: Sandbox) -> None:
    sandbox.write("/etc/thing.conf", "image", mode=0o640)
    for text in ("one", "two", "three"):
        sandbox.source("thing.conf", text)
        apply(sandbox, document(entry("thing.conf", "/etc/thing.conf")))
        assert sandbox.read("/etc/thing.conf") == text
        assert sandbox.read("/etc/kolla/defaults/etc/thing.conf") == "image"
    state = json.loads(sandbox.read("/etc/kolla/defaults/state"))
    assert state == {
        "/etc/thing.conf": {
            "source": "/etc/thing.conf",
            "preserve_properties": True,
            "dest": "/etc/kolla/defaults/etc/thing.conf",
        }
    }
    apply(sandbox, document())
    assert sandbox.read("/etc/thing.conf") == "image"
    assert sandbox.mode("/etc/thing.conf") == 0o640
    settled(sandbox)


def test_created_files_and_parents_go_when_they_leave(sandbox: Sandbox) -> None:
    sandbox.source("a", "a")
    apply(sandbox, document(entry("a", "/etc/one/two/a")))
    apply(sandbox, document())
    assert not sandbox.exists("/etc/one")
    settled(sandbox)


def test_parents_stay_while_something_else_is_in_them(sandbox: Sandbox) -> None:
    sandbox.source("a", "a")
    apply(sandbox, document(entry("a", "/etc/one/a")))
    sandbox.write("/etc/one/by-hand", "x")
    apply(sandbox, document())
    assert sandbox.exists("/etc/one/by-hand") and not sandbox.exists("/etc/one/a")
    settled(sandbox)
    sandbox.remove("/etc/one/by-hand")
    apply(sandbox, document())
    assert not sandbox.exists("/etc/one")


def test_parents_stay_for_what_comes_in_place_of_what_left(sandbox: Sandbox) -> None:
    sandbox.source("a", "a")
    apply(sandbox, document(entry("a", "/etc/one/a")))
    sandbox.document(document(entry("a", "/etc/one/b")))
    check = sandbox.set_configs("--check")
    assert check.returncode == 1
    assert "/etc/one/a" in check.stderr and "/etc/one:" not in check.stderr
    apply(sandbox, document(entry("a", "/etc/one/b")))
    settled(sandbox)
    apply(sandbox, document())
    assert not sandbox.exists("/etc/one")


def test_parents_are_root_s_where_a_directory_passes_its_group_on(sandbox: Sandbox) -> None:
    sandbox.source("a", "a")
    apply(sandbox, document(entry("a", "/var/log/kolla/one/a")))
    assert sandbox.owner("/var/log/kolla/one") == (0, 0)
    assert sandbox.mode("/var/log/kolla/one") == 0o755
    settled(sandbox)


def test_a_directory_without_merge_ends_up_equal_to_the_source(sandbox: Sandbox) -> None:
    sandbox.source("conf.d/a", "a")
    sandbox.source("conf.d/sub/b", "b")
    sandbox.source("conf.d/..data/x", "kubernetes machinery")
    sandbox.write("/etc/conf.d/image", "image")
    wanted = document(entry("conf.d", "/etc/conf.d", perm="0644"))
    apply(sandbox, wanted)
    assert not sandbox.exists("/etc/conf.d/image")
    assert not sandbox.exists("/etc/conf.d/..data")
    assert sandbox.read("/etc/conf.d/sub/b") == "b"
    assert sandbox.mode("/etc/conf.d/sub") == 0o755
    assert sandbox.mode("/etc/conf.d/sub/b") == 0o644
    settled(sandbox)
    # What the service adds is no reason for a restart, what lost its source is.
    sandbox.write("/etc/conf.d/service", "s")
    assert sandbox.set_configs("--check").returncode == 0
    sandbox.remove(f"{CONFIG_FILES}/conf.d/a")
    done = sandbox.set_configs("--check")
    assert done.returncode == 1 and "/etc/conf.d/a" in done.stderr
    apply(sandbox, wanted)
    assert not sandbox.exists("/etc/conf.d/a") and not sandbox.exists("/etc/conf.d/service")
    settled(sandbox)
    apply(sandbox, document())
    assert sandbox.read("/etc/conf.d/image") == "image"
    assert not sandbox.exists("/etc/conf.d/sub")


def test_merge_keeps_other_content_and_gives_back_attributes(sandbox: Sandbox) -> None:
    sandbox.mkdir("/etc/m", mode=0o700)
    sandbox.write("/etc/m/image", "image")
    sandbox.write("/etc/m/both", "image")
    sandbox.source("m/both", "mounted")
    sandbox.source("m/new/deep", "mounted")
    apply(sandbox, document(entry("m", "/etc/m", merge=True, perm="0644")))
    assert sandbox.read("/etc/m/image") == "image"
    assert sandbox.read("/etc/m/both") == "mounted"
    assert sandbox.mode("/etc/m") == 0o755
    settled(sandbox)
    sandbox.remove(f"{CONFIG_FILES}/m/new")
    assert sandbox.set_configs("--check").returncode == 1
    apply(sandbox, document(entry("m", "/etc/m", merge=True, perm="0644")))
    assert not sandbox.exists("/etc/m/new")
    settled(sandbox)
    apply(sandbox, document())
    assert sandbox.read("/etc/m/both") == "image"
    assert sandbox.mode("/etc/m") == 0o700
    settled(sandbox)


def test_merge_into_root_with_preserved_links(sandbox: Sandbox) -> None:
    sandbox.source("src/etc/rooted/file", "x", mode=0o640)
    sandbox.symlink("file", f"{CONFIG_FILES}/src/etc/rooted/link")
    sandbox.source("src/bin/rooted-tool", "#!/bin/sh\n", mode=0o755)
    apply(
        sandbox,
        document(entry("src/*", "/", merge=True, preserve_properties=True)),
    )
    assert sandbox.mode("/etc/rooted/file") == 0o640
    assert sandbox.readlink("/etc/rooted/link") == "file"
    # /bin is a link to usr/bin that only root can change: the merge goes through it.
    assert sandbox.exists("/usr/bin/rooted-tool")
    settled(sandbox)


def test_the_last_entry_for_a_dest_wins(sandbox: Sandbox) -> None:
    sandbox.source("two", "two")
    sandbox.source("three", "three")
    wanted = document(
        entry("one", "/etc/x", optional=True),
        entry("two", "/etc/x", optional=True),
        entry("dir", "/etc/y", optional=True),
        entry("three", "/etc/y/three", perm="600"),
    )
    log = apply(sandbox, wanted)
    assert sandbox.read("/etc/x") == "two"
    assert sandbox.read("/etc/y/three") == "three"
    assert log.count("/etc/x ") == 1
    settled(sandbox)


def test_permissions_fold_over_config_files(sandbox: Sandbox) -> None:
    sandbox.adduser("nova")
    sandbox.source("a", "a")
    sandbox.write("/var/lib/nova/mine", "x")
    wanted = document(
        entry("a", "/var/lib/nova/a"),
        permissions=[
            {"path": "/var/lib/nova", "owner": "nova", "recurse": True, "perm": "0640",
             "exclude": ["/no-.*$", "never"]},
            {"path": "/var/lib/nova/mine", "owner": "root:nova", "perm": "0400"},
        ],
    )  # fmt: skip
    sandbox.write("/var/lib/nova/no-thing", "x", mode=0o604)
    apply(sandbox, wanted)
    assert sandbox.mode("/var/lib/nova/a") == 0o640
    assert sandbox.stat("/var/lib/nova/a").st_uid != 0
    assert sandbox.mode("/var/lib/nova/mine") == 0o400
    assert sandbox.stat("/var/lib/nova/mine").st_uid == 0
    assert sandbox.mode("/var/lib/nova/no-thing") == 0o604
    assert sandbox.mode("/var/lib/nova") == 0o750
    settled(sandbox)


def test_dest_inside_something_that_left(sandbox: Sandbox) -> None:
    sandbox.write("/etc/d/f", "image f")
    sandbox.write("/etc/d/g", "image g")
    sandbox.source("d/f", "from d")
    sandbox.source("f", "alone")
    apply(sandbox, document(entry("d", "/etc/d")))
    assert not sandbox.exists("/etc/d/g")
    apply(sandbox, document(entry("f", "/etc/d/f")))
    assert sandbox.read("/etc/d/f") == "alone"
    assert sandbox.read("/etc/d/g") == "image g"
    settled(sandbox)
    apply(sandbox, document(entry("d", "/etc/d")))
    assert sandbox.read("/etc/d/f") == "from d" and not sandbox.exists("/etc/d/g")
    settled(sandbox)
    apply(sandbox, document(entry("d", "/etc/d"), entry("f", "/etc/d/f")))
    assert sandbox.read("/etc/d/f") == "alone"
    settled(sandbox)
    apply(sandbox, document())
    assert sandbox.read("/etc/d/f") == "image f" and sandbox.read("/etc/d/g") == "image g"
    settled(sandbox)


def test_dest_in_the_directory_that_a_file_had_replaced(sandbox: Sandbox) -> None:
    sandbox.write("/etc/d/f", "image f")
    sandbox.source("a", "a")
    apply(sandbox, document(entry("a", "/etc/d")))
    apply(sandbox, document(entry("a", "/etc/d/a")))
    assert sandbox.read("/etc/d/a") == "a" and sandbox.read("/etc/d/f") == "image f"
    settled(sandbox)
    apply(sandbox, document(entry("a", "/etc/new")))
    apply(sandbox, document(entry("a", "/etc/new/a")))
    assert sandbox.read("/etc/new/a") == "a"
    assert "/etc/new is a file by an earlier entry" in apply(
        sandbox, document(entry("a", "/etc/new"), entry("a", "/etc/new/a")), 1
    )


def test_what_a_service_planted_among_the_matches_of_a_pattern(sandbox: Sandbox) -> None:
    sandbox.adduser("nova", 4321)
    sandbox.source("a", "a")
    for name in ("a", "b"):
        sandbox.write(f"/srv/w/{name}/key", mode=0o666)
    sandbox.symlink("loop", "/srv/w/loop")
    sandbox.symlink("gone", "/srv/w/dangling")
    sandbox.source("c/a/x.conf", "x")
    sandbox.symlink("loop", f"{CONFIG_FILES}/c/loop")
    walk = {"path": "/srv/w/*/k*", "owner": "nova", "perm": "0600"}
    copy = entry("c/*/*.conf", "/etc/c/")
    said = apply(sandbox, document(copy, permissions=[walk]))
    assert "left out" not in said and "passes over" not in said
    assert [sandbox.mode(f"/srv/w/{name}/key") for name in ("a", "b")] == [0o600, 0o600]
    assert sandbox.read("/etc/c/x.conf") == "x"
    settled(sandbox)


def test_an_unreadable_directory_exempts_only_itself(sandbox: Sandbox) -> None:
    for name in ("a", "b"):
        sandbox.write(f"/srv/w/{name}/key", mode=0o666)
    walk = {"path": "/srv/w/*/k*", "owner": "root", "perm": "0600"}
    sandbox.document(document(permissions=[walk]))
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", "/srv/w/a/", "-P", "/srv/w/a"]
    trace += ["-e", "trace=openat,getdents64", "-e", "inject=openat,getdents64:error=EIO"]
    done = sandbox.run([*trace, "kolla_set_configs"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"})
    assert done.returncode == 0
    assert "permissions[0].path: passes over /srv/w/a: Input/output error" in done.stderr
    assert [sandbox.mode(f"/srv/w/{name}/key") for name in ("a", "b")] == [0o666, 0o600]


def test_copy_once(sandbox: Sandbox) -> None:
    sandbox.source("a", "one")
    sandbox.document(document(entry("a", "/etc/a")))
    assert sandbox.set_configs(strategy="COPY_ONCE").returncode == 0
    assert sandbox.exists("/configured")
    sandbox.source("a", "two")
    sandbox.document("not even JSON")
    sandbox.mark()
    done = sandbox.set_configs(strategy="COPY_ONCE")
    assert done.returncode == 0 and "COPY_ONCE" in done.stderr
    assert sandbox.changes() == {}
    assert sandbox.read("/etc/a") == "one"


def test_copy_once_applies_until_it_has_succeeded(sandbox: Sandbox) -> None:
    sandbox.document(document(entry("missing", "/etc/a")))
    assert sandbox.set_configs(strategy="COPY_ONCE").returncode == 1
    assert not sandbox.exists("/configured")
    sandbox.source("missing", "there now")
    assert sandbox.set_configs(strategy="COPY_ONCE").returncode == 0
    assert sandbox.read("/etc/a") == "there now"


def test_many_runs_at_once_wait_for_each_other(sandbox: Sandbox) -> None:
    for number in range(50):
        sandbox.source(f"d/{number}", str(number))
    sandbox.write("/etc/d/image", "image")
    sandbox.document(document(entry("d", "/etc/d")))
    runs = [
        sandbox.popen(["kolla_set_configs"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"})
        for _ in range(6)
    ]
    assert [run.wait(60) for run in runs] == [0] * 6
    assert sandbox.read("/etc/kolla/defaults/etc/d/image") == "image"
    settled(sandbox)


def test_a_planted_link_is_not_followed(sandbox: Sandbox) -> None:
    sandbox.adduser("nova")
    sandbox.mkdir("/var/log/kolla/nova", owner="nova")
    sandbox.write("/etc/canary", "secret", mode=0o600)
    sandbox.symlink("/etc/canary", "/var/log/kolla/nova/leaf", owner="nova")
    sandbox.symlink("/etc", "/var/log/kolla/nova/dir", owner="nova")
    before = sandbox.stat("/etc/canary")
    apply(
        sandbox,
        document(
            permissions=[
                {"path": "/var/log/kolla/nova", "owner": "nova", "recurse": True, "perm": "0666"},
                {"path": "/var/log/kolla/nova/dir/canary", "owner": "nova"},
                {"path": "/var/log/kolla/nova/*/canary", "owner": "nova"},
                {"path": "/var/log/kolla/nova/leaf", "owner": "nova"},
            ]
        ),
    )
    after = sandbox.stat("/etc/canary")
    assert (before.st_uid, before.st_mode, before.st_ctime_ns) == (
        after.st_uid, after.st_mode, after.st_ctime_ns
    )  # fmt: skip
    sandbox.source("a", "a")
    log = apply(sandbox, document(entry("a", "/var/log/kolla/nova/dir/planted")), code=1)
    assert "symbolic link" in log
    assert not sandbox.exists("/etc/planted")
