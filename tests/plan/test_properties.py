"""Properties over generated documents and start states, with the real command as real root."""

import os
import shutil
import stat
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sandbox import Sandbox

CONFIG = "/var/lib/kolla/config_files"
OWNERS = ["root", "daemon", "root:daemon", "nobody:", "1:2"]
PERMS = ["0600", "644", "0o750", "0400", "2775"]
NAMES = ["a", "b", "d", "d/a", "d/b", "d/s/a", "e", "e/a"]

Tree = dict[str, tuple[str, str, str, int]]  # path: (kind, content, owner, mode)


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


leaves = st.tuples(
    st.sampled_from(["file", "file", "directory", "link"]),
    st.sampled_from(["", "x", "other", "a"]),
    st.sampled_from(["root", "daemon"]),
    st.sampled_from([0o600, 0o644, 0o755, 0o700]),
)
trees: st.SearchStrategy[Tree] = st.dictionaries(st.sampled_from(NAMES), leaves, max_size=6)


def _entry(draw: st.DrawFn) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "source": f"{CONFIG}/src/" + draw(st.sampled_from([*NAMES, "*", "d/*", "?"])),
        "dest": "/t/" + draw(st.sampled_from([*NAMES, "new/deep/x", "d/", "", "e/new/"])),
        "optional": True,
    }
    if entry["dest"] == "/t/" and not entry["source"].endswith(("*", "?")):
        entry["dest"] = "/t/into/"
    if draw(st.booleans()):
        entry["merge"] = True
    if draw(st.integers(0, 3)) == 0:
        entry["preserve_properties"] = True
    else:
        entry["owner"] = draw(st.sampled_from(OWNERS))
        entry["perm"] = draw(st.sampled_from(PERMS))
    return entry


entries = st.lists(st.composite(_entry)(), max_size=4)
permissions = st.lists(
    st.fixed_dictionaries(
        {
            "path": st.sampled_from(["/t", "/t/d", "/t/*", "/t/d/a", "/t/e"]),
            "owner": st.sampled_from(OWNERS),
        },
        optional={
            "perm": st.sampled_from(PERMS),
            "recurse": st.booleans(),
            "exclude": st.lists(st.sampled_from(["/a$", "b", "^/t/d"]), max_size=2),
        },
    ),
    max_size=3,
)
sections = st.fixed_dictionaries(
    {},
    optional={
        "directories": st.just([{"path": "/t/dirs/one", "owner": "daemon", "perm": "0750"}]),
        "files": st.just([{"path": "/t/flag", "owner": "daemon", "perm": "0640"}]),
        "permissions": permissions,
    },
)


def build(sandbox: Sandbox, top: str, tree: Tree) -> None:
    """Make a tree; an entry that has no place in it (below a file, say) is left out."""
    shutil.rmtree(sandbox.host(top), ignore_errors=True)
    sandbox.mkdir(top)
    files: set[str] = set()
    for name in sorted(tree):
        kind, content, owner, mode = tree[name]
        path = f"{top}/{name}"
        if any(name.startswith(f"{file}/") for file in files):
            continue
        if kind != "directory":
            files.add(name)
        if kind == "file":
            sandbox.write(path, content, owner=owner, mode=mode)
        elif kind == "directory":
            sandbox.mkdir(path, mode=mode, owner=owner)
        elif content:
            sandbox.symlink(content, path)


def snapshot(sandbox: Sandbox, top: str) -> dict[str, tuple[object, ...]]:
    host = sandbox.host(top)
    found: dict[str, tuple[object, ...]] = {}
    for root, dirs, files in os.walk(host):
        for name in [".", *dirs, *files]:
            path = os.path.normpath(os.path.join(root, name))
            status = os.lstat(path)
            content: object = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            found[os.path.relpath(path, host)] = (
                status.st_mode, status.st_uid, status.st_gid, content
            )  # fmt: skip
    return found


def reset(sandbox: Sandbox, start: Tree, source: Tree) -> None:
    for path in ("/etc/kolla", "/run_command"):
        sandbox.remove(path)
    build(sandbox, "/t", start)
    build(sandbox, f"{CONFIG}/src", source)


def run(sandbox: Sandbox, document: dict[str, Any]) -> int:
    sandbox.document(document)
    done = sandbox.set_configs()
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode


slow = settings(
    max_examples=int(os.environ.get("KOLLA_START_EXAMPLES", "500")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)


@slow
@given(start=trees, source=trees, config_files=entries, rest=sections)
def test_apply_then_plan_is_empty(
    shared: Sandbox, start: Tree, source: Tree, config_files: list[Any], rest: dict[str, Any]
) -> None:
    reset(shared, start, source)
    document = {"command": "true", "config_files": config_files, **rest}
    shared.mark()
    if run(shared, document) == 1:
        assert not {path for path in shared.changes() if not path.startswith(CONFIG)}
        return
    shared.mark()
    again = shared.set_configs()
    assert again.returncode == 0, again.stderr
    assert shared.changes() == {}, again.stderr
    checked = shared.set_configs("--check")
    assert checked.returncode == 0, checked.stderr


@slow
@given(
    start=trees,
    histories=st.lists(st.tuples(trees, entries), min_size=1, max_size=2),
    source=trees,
    config_files=entries,
)
def test_history_does_not_matter(
    shared: Sandbox,
    start: Tree,
    histories: list[tuple[Tree, list[Any]]],
    source: Tree,
    config_files: list[Any],
) -> None:
    last = {"command": "true", "config_files": config_files}
    reset(shared, start, source)
    if run(shared, last) == 1:
        return
    alone = snapshot(shared, "/t")
    reset(shared, start, source)
    for earlier, its_files in histories:
        build(shared, f"{CONFIG}/src", earlier)
        run(shared, {"command": "true", "config_files": its_files})
    build(shared, f"{CONFIG}/src", source)
    assert run(shared, last) == 0
    assert snapshot(shared, "/t") == alone
