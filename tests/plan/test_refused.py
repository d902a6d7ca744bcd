"""What kolla_set_configs refuses whole, what it says then, and what it only warns of."""

import json

import pytest
from documents import document, entry
from outcomes import apply
from sandbox import CONFIG_FILES, Sandbox

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
    sandbox.symlink(".", f"{CONFIG_FILES}/loop/again")
    sandbox.symlink("nowhere", f"{CONFIG_FILES}/dangling")
    sandbox.symlink("passwd", "/etc/a-link")
    sandbox.run(["mkfifo", f"{CONFIG_FILES}/fifo"], check=True)
    sandbox.document(json.dumps(content, indent=1))
    sandbox.mark()
    done = sandbox.set_configs()
    assert message in done.stderr
    assert f"{CONFIG_FILES}/config.json:" in done.stderr
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
