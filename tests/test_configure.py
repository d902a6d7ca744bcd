"""kolla_set_configs as real root in a throw-away root: what it puts where, and what it refuses."""

import json
from typing import Any

import pytest
from sandbox import Sandbox

CONFIG = "/var/lib/kolla/config_files"


def entry(source: str, dest: str, **keys: Any) -> dict[str, Any]:
    source = source if source.startswith("/") else f"{CONFIG}/{source}"
    plain = {"source": source, "dest": dest, "owner": "root", "perm": "0600"}
    if keys.get("preserve_properties"):
        del plain["owner"], plain["perm"]
    return {**plain, **keys}


def document(*entries: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {"command": "/bin/true", "config_files": list(entries), **sections}


def apply(sandbox: Sandbox, content: object, code: int = 0) -> str:
    sandbox.document(content)
    done = sandbox.set_configs()
    assert done.returncode == code, done.stderr
    return done.stderr


def check(sandbox: Sandbox) -> tuple[int, str]:
    done = sandbox.set_configs("--check")
    return done.returncode, done.stderr


def settled(sandbox: Sandbox) -> None:
    """apply, then plan: empty. A second run writes nothing and the check agrees."""
    sandbox.mark()
    assert sandbox.set_configs().returncode == 0
    assert sandbox.changes() == {}
    assert check(sandbox)[0] == 0


def test_a_file_gets_content_owner_and_mode(sandbox: Sandbox) -> None:
    sandbox.adduser("nova", 4321)
    sandbox.source("nova.conf", "[DEFAULT]\n")
    apply(sandbox, document(entry("nova.conf", "/etc/nova/nova.conf", owner="nova")))
    status = sandbox.stat("/etc/nova/nova.conf")
    assert sandbox.read("/etc/nova/nova.conf") == "[DEFAULT]\n"
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o600, 4321, 4321)
    parent = sandbox.stat("/etc/nova")
    assert (parent.st_mode & 0o7777, parent.st_uid) == (0o755, 0)
    assert sandbox.read("/run_command") == "/bin/true"
    assert sandbox.mode("/run_command") == 0o644
    settled(sandbox)


def test_what_is_right_is_not_touched(sandbox: Sandbox) -> None:
    sandbox.source("a", "a")
    sandbox.source("b", "b")
    apply(sandbox, document(entry("a", "/etc/x/a"), entry("b", "/etc/x/b")))
    inode = sandbox.stat("/etc/x/a").st_ino
    sandbox.source("b", "changed")
    assert check(sandbox)[0] == 1
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
    assert check(sandbox)[0] == 0
    sandbox.remove(f"{CONFIG}/conf.d/a")
    code, log = check(sandbox)
    assert code == 1 and "/etc/conf.d/a" in log
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
    sandbox.remove(f"{CONFIG}/m/new")
    assert check(sandbox)[0] == 1
    apply(sandbox, document(entry("m", "/etc/m", merge=True, perm="0644")))
    assert not sandbox.exists("/etc/m/new")
    settled(sandbox)
    apply(sandbox, document())
    assert sandbox.read("/etc/m/both") == "image"
    assert sandbox.mode("/etc/m") == 0o700
    settled(sandbox)


def test_merge_into_root_with_preserved_links(sandbox: Sandbox) -> None:
    sandbox.source("src/etc/rooted/file", "x", mode=0o640)
    sandbox.symlink("file", f"{CONFIG}/src/etc/rooted/link")
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
    sandbox.symlink("loop", f"{CONFIG}/c/loop")
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
    assert "permissions[0] passes over /srv/w/a/: Input/output error" in done.stderr
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


REFUSED = {
    "unknown user": (document(entry("a", "/etc/a"), entry("a", "/etc/b", owner="nobodyhere")),
                     "config_files[1].owner: no user 'nobodyhere'"),
    "unknown group": (document(entry("a", "/etc/a", owner="root:nogrouphere")),
                      "config_files[0].owner: no group 'nogrouphere'"),
    "missing source": (document(entry("a", "/etc/a"), entry("nope", "/etc/b")),
                       "config_files[1].source: /var/lib/kolla/config_files/nope does not exist"),
    "pattern without match": (document(entry("nope*", "/etc/b")), "matches nothing"),
    "replace /etc": (document(entry("dir", "/etc")), "config_files[0].dest"),
    "replace /": (document(entry("dir", "/")), "config_files[0].dest"),
    "loop": (document(entry("loop", "/etc/l")), "leads back into itself"),
    "dangling": (document(entry("dangling", "/etc/l")), "leads nowhere"),
    "fifo": (document(entry("fifo", "/etc/l")), "neither a file nor a directory"),
    "parent is a file": (document(entry("a", "/etc/passwd/a")), "/etc/passwd"),
    "files without parent": (
        document(files=[{"path": "/etc/nope/x", "owner": "root", "perm": "0600"}]),
        "files[0].path: the parent directory /etc/nope does not exist"),
    "files on a link": (
        document(files=[{"path": "/etc/a-link", "owner": "root", "perm": "0600"}]),
        "files[0].path: /etc/a-link is a link"),
    "directories on a file": (
        document(directories=[{"path": "/etc/passwd", "owner": "root", "perm": "0700"}]),
        "directories[0].path: /etc/passwd is there and is no directory"),
    "unknown permissions owner": (
        document(permissions=[{"path": "/etc/passwd", "owner": "who"}]),
        "permissions[0].owner: no user 'who'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_whole(sandbox: Sandbox, name: str) -> None:
    content, message = REFUSED[name]
    sandbox.source("a", "a")
    sandbox.source("dir/x", "x")
    sandbox.source("loop/x", "x")
    sandbox.symlink(".", f"{CONFIG}/loop/again")
    sandbox.symlink("nowhere", f"{CONFIG}/dangling")
    sandbox.symlink("passwd", "/etc/a-link")
    sandbox.run(["mkfifo", f"{CONFIG}/fifo"], check=True)
    sandbox.document(json.dumps(content, indent=1))
    sandbox.mark()
    done = sandbox.set_configs()
    assert message in done.stderr
    assert f"{CONFIG}/config.json:" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert sandbox.changes() == {}
    assert sandbox.set_configs("--check").returncode == 2


@pytest.mark.parametrize("strategy", [None, "", "COPY_SOMETIMES", "copy_always"])
def test_strategy_must_be_one_of_two(sandbox: Sandbox, strategy: str | None) -> None:
    sandbox.document(document())
    sandbox.mark()
    done = sandbox.set_configs(strategy=strategy)
    assert done.returncode == 1
    assert "COPY_ALWAYS or COPY_ONCE" in done.stderr
    assert sandbox.changes() == {}


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


ENTRY = '{"source": "/var/lib/kolla/config_files/a", "dest": "/etc/a", "owner": "root", %s}'
BAD: dict[str, tuple[str | bytes | None, str]] = {
    "no document": (None, "config.json: does not exist; mount"),
    "empty": ("", "config.json: is empty"),
    "not JSON": ('{"command": "x",}', "config.json:1:16: no JSON: a comma before"),
    "not UTF-8": (b'{"command":\n "\xff"}', "config.json:2:3: byte 0xff is not UTF-8"),
    "an array": ("[]", "config.json:1:1: "),
    "a null": ('{"command": null}', "config.json:1:13: command: is null"),
    "null for a list": (
        '{"command": "x", "config_files": null}',
        "config.json:1:34: config_files: is null",
    ),
    "a wrong type": ('{"command": 1, "files": {}}', "config.json:1:25: files: is an object"),
    "a duplicate key": ('{"command": "x",\n "command": "y"}', "config.json:2:2: command: "),
    "no command": ('{"config_files": []}', "config.json:1:1: command: is missing"),
    "a misspelt key": (
        '{"command": "x", "config_files": [' + ENTRY % '"perms": "0600"' + "]}",
        "config_files[0].perms: unknown key; did you mean perm",
    ),
    "an integer perm": (
        '{"command": "x", "config_files": [' + ENTRY % '"perm": 600' + "]}",
        'config_files[0].perm: is a number; write "0600"',
    ),
    "a relative path": (
        '{"command": "x", "directories": [{"path": "a", "owner": "root", "perm": "0700"}]}',
        "config.json:1:43: directories[0].path: 'a' is not absolute",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["kolla_set_configs", "kolla_start"])
def test_bad_document_changes_nothing(sandbox: Sandbox, name: str, command: str) -> None:
    content, message = BAD[name]
    sandbox.source("a", "a")
    if content is not None:
        sandbox.document(content)
    sandbox.mark()
    done = sandbox.run([command], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"})
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert sandbox.changes() == {}


def test_every_fault_is_said_at_once(sandbox: Sandbox) -> None:
    sandbox.document(
        '{"command": 1,\n "config_files": [{"source": "x", "perm": 600, "colour": 1},\n'
        '{"source": "/x", "dest": "/etc", "owner": "root", "perm": "0600"}],\n "files": 3}'
    )
    done = sandbox.set_configs()
    for place in (
        "2:30: config_files[0].source",
        "config_files[0].perm",
        "config_files[0].colour",
        "config_files[0].dest",
        "3:26: config_files[1].dest",
        "4:11: files",
        "1:13: command",
    ):
        assert place in done.stderr  # fmt: skip


def test_unknown_keys_elsewhere_are_a_warning(sandbox: Sandbox) -> None:
    sandbox.write("/etc/a", "a")
    log = apply(
        sandbox,
        document(
            permisions=[],
            permissions=[{"path": "/etc/a", "owner": "daemon", "colour": "red", "_why": "?"}],
        ),
    )
    assert "WARNING" in log and "permisions" in log and "permissions[0].colour" in log
    assert "_why" not in log
    assert sandbox.stat("/etc/a").st_uid == 1
