"""What an earlier document did never decides how the last one ends.

Entries that change their kind, their merge or their place between documents, patterns whose
matches lie inside each other, originals whose parent is gone, and starts that change nothing.
"""

import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from documents import EMPTY, document, entry
from outcomes import applied, as_first, gives_back, mode, refused, settled, tree
from sandbox import CONFIG_FILES, Sandbox

TOP = "/opt/t"


def furnish(box: Sandbox) -> None:
    box.adduser("nova", 42436)
    box.adduser("cinder", 42407)
    box.mkdir(TOP)
    box.source("f", "f of the mount")
    box.source("g", "g of the mount")
    box.source("d/inner", "inner of the mount")
    box.source("d/b/deep", "deep of the mount")
    box.mkdir(f"{CONFIG_FILES}/empty")
    box.mkdir(f"{CONFIG_FILES}/e/b")


def directories(path: str, perm: str = "0750") -> list[dict[str, str]]:
    return [{"path": path, "owner": "nova", "perm": perm}]


files = directories


# --- opposite kinds at one path -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "source"), [("directories", "f"), ("files", "d"), ("directories", "empty")]
)
def test_a_section_and_an_entry_of_opposite_kinds(
    sandbox: Sandbox, section: str, source: str
) -> None:
    """A contradiction is refused at the first start, or carried out at every one."""
    furnish(sandbox)
    content = document(
        entry(source, f"{TOP}/a"),
        **{section: [{"path": f"{TOP}/a", "owner": "nova", "perm": "0750"}]},
    )
    sandbox.document(content)
    sandbox.mark()
    done = sandbox.set_configs()
    if done.returncode:
        assert sandbox.changes() == {}, done.stderr
        refused(sandbox)
    else:
        settled(sandbox)


@pytest.mark.parametrize("first", ["f", "d"])
@pytest.mark.parametrize("merge", [False, True])
def test_a_file_and_then_a_directory_at_one_dest(first: str, merge: bool) -> None:
    """In two documents and in one; `merge` has nothing to merge with."""
    second = "d" if first == "f" else "f"
    one = entry(first, f"{TOP}/a", perm="0700")
    two = entry(second, f"{TOP}/a", perm="0755", merge=merge)
    assert as_first(furnish, [document(one), document(two)], TOP) == 0
    assert as_first(furnish, [document(two), document(one)], TOP) == 0
    as_first(furnish, [document(one, two)], TOP)
    as_first(furnish, [document(one), document(one, two)], TOP)


@pytest.mark.parametrize("image", ["file", "directory", "link"])
@pytest.mark.parametrize("earlier", ["f", "d"])
def test_directories_and_files_over_what_an_earlier_document_copied(
    image: str, earlier: str
) -> None:
    def plant(box: Sandbox) -> None:
        furnish(box)
        if image == "file":
            box.write(f"{TOP}/a", "the image's", mode=0o604)
        elif image == "directory":
            box.write(f"{TOP}/a/image", "the image's", mode=0o604)
        else:
            box.write("/opt/u/image", "the image's")
            box.symlink("/opt/u", f"{TOP}/a")

    copied = document(entry(earlier, f"{TOP}/a", perm="0755"))
    for section in ("directories", "files"):
        last = document(**{section: [{"path": f"{TOP}/a", "owner": "nova", "perm": "0750"}]})
        with Sandbox() as box:
            plant(box)
            box.document(last)
            box.mark()
            code = box.set_configs().returncode
            before = None if code else tree(box, TOP, "/opt/u")
        with Sandbox() as box:
            plant(box)
            box.document(copied)
            assert box.set_configs().returncode == 0
            if before is None:
                refused(box, last)
            else:
                box.document(last)
                done = box.set_configs()
                assert done.returncode == 0, done.stderr
                assert tree(box, TOP, "/opt/u") == before
                settled(box)


# --- merge, other modes, and away ---------------------------------------------------------------


@pytest.mark.parametrize("perm", ["0700", "0755", "0444", "2750"])
@pytest.mark.parametrize("image", [None, 0o755, 0o711])
def test_an_entry_then_merged_with_another_perm_then_gone(perm: str, image: int | None) -> None:
    def plant(box: Sandbox) -> None:
        furnish(box)
        if image is not None:
            box.mkdir(f"{TOP}/a", image, "cinder")
            box.write(f"{TOP}/a/image", "the image's", "cinder", 0o600)
            box.mkdir(f"{TOP}/a/b", 0o700, "cinder")

    plain = entry("d", f"{TOP}/a", perm="0750", owner="nova")
    merged = entry("d", f"{TOP}/a", perm=perm, owner="cinder", merge=True)
    assert as_first(plant, [document(plain), document(merged), EMPTY], TOP) == 0
    assert as_first(plant, [document(merged), document(plain), EMPTY], TOP) == 0
    assert as_first(plant, [document(plain), document(merged)], TOP) == 0
    assert as_first(plant, [document(plain, merged), EMPTY], TOP) == 0
    assert as_first(plant, [document(merged), EMPTY, document(plain)], TOP) == 0


def test_a_merged_directory_inside_another_leaves_first() -> None:
    outer = entry("d", f"{TOP}/a", perm="0755", merge=True)
    inner = entry("d", f"{TOP}/a/b", perm="0700", owner="nova", merge=True)
    over = entry("f", f"{TOP}/a/b")
    for last in (document(outer), document(inner), EMPTY, document(over), document(inner, outer)):
        as_first(furnish, [document(outer, inner), last], TOP)
        as_first(furnish, [document(outer), document(inner), last], TOP)


def test_the_parent_of_one_dest_becomes_another_dest() -> None:
    """Parents that were made are not left behind, and not taken for the image's."""
    deep = entry("f", f"{TOP}/n/m/o/f")
    over_file = entry("g", f"{TOP}/n/m")
    over_tree = entry("d", f"{TOP}/n/m", perm="0700", merge=True)
    for over in (over_file, over_tree):
        assert as_first(furnish, [document(deep), document(over), EMPTY], TOP) == 0
        assert as_first(furnish, [document(over), document(deep), EMPTY], TOP) == 0
        assert as_first(furnish, [document(deep, over), EMPTY], TOP) == 0
        assert as_first(furnish, [document(deep), document(deep, over), EMPTY], TOP) == 0


# --- patterns -----------------------------------------------------------------------------------


NESTED = (
    entry("?", f"{TOP}/b/x/y/", optional=True, perm="0644"),
    entry("d/*", f"{TOP}/", perm="0755"),
)


def test_patterns_inside_each_other_leave(sandbox: Sandbox) -> None:
    """An empty directory of the image is not lost, and parents that were made are not left."""
    furnish(sandbox)
    sandbox.mkdir(f"{TOP}/b/x", 0o700, "nova")
    sandbox.mkdir(f"{TOP}/b/y", 0o711, "cinder")
    image = tree(sandbox, TOP)
    applied(sandbox, document(*NESTED))
    sandbox.document(EMPTY)
    for _ in range(2):
        done = sandbox.set_configs()
        assert done.returncode == 0, done.stderr
        assert tree(sandbox, TOP) == image, done.stderr
    settled(sandbox)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("image", ["empty", "full"])
def test_a_pattern_and_an_entry_inside_its_match(image: str, merge: bool, turned: bool) -> None:
    def plant(box: Sandbox) -> None:
        furnish(box)
        box.mkdir(f"{TOP}/b/x", 0o700, "nova")
        if image == "full":
            box.write(f"{TOP}/b/x/image", "the image's", "nova")

    both = [
        entry("f", f"{TOP}/b/x/y", optional=True),
        entry("e/*", f"{TOP}/", perm="0755", merge=merge),
    ]
    if turned:
        both.reverse()
    assert as_first(plant, [document(*both), EMPTY], TOP) == 0
    assert as_first(plant, [document(*both), document(both[0])], TOP) == 0
    assert as_first(plant, [document(*both), document(both[1])], TOP) == 0
    assert as_first(plant, [document(both[0]), document(*both), EMPTY], TOP) == 0


# --- originals whose parent is gone -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_an_original_whose_parent_is_gone_comes_back(sandbox: Sandbox, kind: str) -> None:
    furnish(sandbox)
    original = f"{TOP}/parent/f" if kind == "file" else f"{TOP}/parent/f/inside"
    sandbox.write(original, "the image's", "nova", 0o640)
    sandbox.document(document(entry("f", f"{TOP}/parent/f")))
    assert sandbox.set_configs().returncode == 0
    sandbox.remove(f"{TOP}/parent")
    applied(sandbox, EMPTY)
    assert sandbox.read(original) == "the image's"
    assert mode(sandbox, original) == "0640"


def test_an_original_whose_parent_is_gone_and_another_entry_there(sandbox: Sandbox) -> None:
    furnish(sandbox)
    sandbox.write(f"{TOP}/parent/f", "the image's", "nova", 0o640)
    sandbox.document(document(entry("f", f"{TOP}/parent/f")))
    assert sandbox.set_configs().returncode == 0
    sandbox.remove(f"{TOP}/parent")
    applied(sandbox, document(entry("g", f"{TOP}/parent/g")))
    assert sandbox.read(f"{TOP}/parent/f") == "the image's"
    assert sandbox.read(f"{TOP}/parent/g") == "g of the mount"


def test_an_original_whose_parent_is_a_file_now(sandbox: Sandbox) -> None:
    """Somebody put a file there: it is said, nothing of theirs is lost, and the start goes on."""
    furnish(sandbox)
    sandbox.write(f"{TOP}/parent/f", "the image's", "nova", 0o640)
    sandbox.document(document(entry("f", f"{TOP}/parent/f")))
    assert sandbox.set_configs().returncode == 0
    sandbox.remove(f"{TOP}/parent")
    sandbox.write(f"{TOP}/parent", "somebody's")
    sandbox.document(EMPTY)
    sandbox.mark()
    codes = []
    for _ in range(2):
        done = sandbox.set_configs()
        assert "Traceback" not in done.stderr
        codes.append(done.returncode)
        if done.returncode:
            assert done.returncode == 1 and f"{TOP}/parent" in done.stderr
            assert sandbox.changes() == {}
    assert codes[0] == codes[1]


# --- starts that change nothing -----------------------------------------------------------------


def all_sections(box: Sandbox) -> dict[str, Any]:
    furnish(box)
    box.write(f"{TOP}/image/f", "the image's", "nova", 0o640)
    box.mkdir(f"{TOP}/merged", 0o711, "cinder")
    box.write(f"{TOP}/log/nova.log", "x", "nova")
    return document(
        entry("f", f"{TOP}/image/f", owner="nova", perm="0600"),
        entry("d", f"{TOP}/merged", owner="nova", perm="0750", merge=True),
        entry("d", f"{TOP}/new/one", perm="0755"),
        entry("d", f"{TOP}/kept", preserve_properties=True),
        entry("?", f"{TOP}/new/two/", perm="0644"),
        directories=directories(f"{TOP}/log"),
        files=files(f"{TOP}/log/empty", "0640"),
        permissions=[
            {"path": f"{TOP}/log", "owner": "nova", "recurse": True},
            {"path": f"{TOP}/new/two/f", "owner": "cinder", "perm": "0400"},
        ],
        user="nova",
    )


def everything(box: Sandbox) -> list[dict[str, Any]]:
    return [all_sections(box)]


def patterns_inside_each_other(box: Sandbox) -> list[dict[str, Any]]:
    furnish(box)
    box.mkdir(f"{TOP}/b/x", 0o700, "nova")
    return [document(*NESTED)]


def many_files(box: Sandbox) -> list[dict[str, Any]]:
    furnish(box)
    for number in range(700):
        box.source(f"many/{number % 3}/{number}", str(number))
    return [document(entry("many", f"{TOP}/many"))]


@pytest.mark.parametrize("command", ["kolla_set_configs", "kolla_start"])
@pytest.mark.parametrize("strategy", ["COPY_ALWAYS", "COPY_ONCE"])
@pytest.mark.parametrize("what", [everything, patterns_inside_each_other, many_files])
def test_a_second_start_writes_nothing_at_all(
    sandbox: Sandbox, what: Callable[[Sandbox], list[dict[str, Any]]], command: str, strategy: str
) -> None:
    """Not a record, not a time: no system call of it changes anything (but the lock's)."""
    env = {"KOLLA_CONFIG_STRATEGY": strategy}
    for content in what(sandbox):
        sandbox.document(content)
        assert sandbox.run([command], env=env).returncode == 0
    sandbox.mark()
    trace = ["strace", "-f", "-qq", "-y", "-o", "/dev/shm/trace", command]
    done = sandbox.run(trace, env=env)
    assert done.returncode == 0, done.stderr
    assert sandbox.changes() == {}
    found = [line for line in sandbox.read("/dev/shm/trace").splitlines() if CHANGES.search(line)]
    assert [line for line in found if "defaults/lock" not in line and "/dev/null" not in line] == []


CHANGES = re.compile(
    r"^\d+ +(rename|unlink|rmdir|mkdir|mknod|symlink|link|chmod|fchmod|chown|fchown|lchown|utime"
    r"|setxattr|fsetxattr|lsetxattr|f?removexattr|f?truncate|fsync|fdatasync|sync)\w*\("
    r"|^\d+ +open.*O_(CREAT|TRUNC|RDWR|WRONLY)"
)


@pytest.mark.parametrize("umask", [0o777, 0o077, 0])
def test_nothing_that_is_made_depends_on_the_umask(sandbox: Sandbox, umask: int) -> None:
    content = all_sections(sandbox)
    with Sandbox() as usual:
        all_sections(usual)
        usual.document(content)
        assert usual.set_configs().returncode == 0
        wanted = {path: change.mode for path, change in usual.changes().items()}
    sandbox.document(content)
    env = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    done = sandbox.run(["kolla_set_configs"], env=env, umask=umask)
    assert done.returncode == 0, done.stderr
    assert {path: change.mode for path, change in sandbox.changes().items()} == wanted
    assert mode(sandbox, "/etc/kolla/defaults/lock") == "0600"


# --- two names of one object --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("how", ["links", "link and object", "recurse"])
def test_two_image_links_to_one_object_with_different_owners(
    sandbox: Sandbox, kind: str, how: str
) -> None:
    """The last entry has the last word, and a second start changes nothing."""
    furnish(sandbox)
    if kind == "file":
        sandbox.write("/opt/u/object", "x", mode=0o600)
    else:
        sandbox.mkdir("/opt/u/object", 0o700)
    sandbox.symlink("/opt/u/object", f"{TOP}/one/link")
    sandbox.symlink("/opt/u/object", f"{TOP}/two/link")
    places = {
        "links": (f"{TOP}/one/link", f"{TOP}/two/link"),
        "link and object": (f"{TOP}/one/link", "/opt/u/object"),
        "recurse": (f"{TOP}/one", f"{TOP}/two"),
    }[how]
    recurse = {"recurse": True} if how == "recurse" else {}
    applied(
        sandbox,
        document(
            permissions=[
                {"path": places[0], "owner": "nova", "perm": "0640", **recurse},
                {"path": places[1], "owner": "cinder", "perm": "0600", **recurse},
            ]
        ),
    )
    status = os.stat(sandbox.host("/opt/u/object"))
    assert status.st_uid == 42407
    assert status.st_mode & 0o077 == 0


def test_the_image_is_given_back_after_all_of_it(sandbox: Sandbox) -> None:
    content = all_sections(sandbox)
    image = tree(sandbox, f"{TOP}/image", f"{TOP}/merged", f"{TOP}/new", f"{TOP}/kept")
    applied(sandbox, content)
    gives_back(sandbox, image, f"{TOP}/image", f"{TOP}/merged", f"{TOP}/new", f"{TOP}/kept")
