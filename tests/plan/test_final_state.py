"""Paths are resolved against the final state, not against what stands there before it.

Links and files of the image that one entry replaces and another one uses, entries inside each
other, entries of opposite kinds at one path: in one document and across two.
"""

import pytest
from documents import document, entry
from outcomes import applied, as_first, gives_back, refused, settled, tree
from sandbox import CONFIG_FILES, Sandbox

APP = "/etc/app"
SHARE = "/usr/share/app"
TOPS = (APP, SHARE)


def image_link(box: Sandbox) -> None:
    box.adduser("nova")
    box.write(f"{SHARE}/f", "the image's f", mode=0o640)
    box.write(f"{SHARE}/other", "the image's other")
    box.symlink(SHARE, APP)
    box.source("d/g", "g of the mount")
    box.source("f", "f of the mount")


REPLACES = entry("d", APP, perm="0755")
REPLACES_BY_FILE = entry("f", APP)
BELOW = entry("f", f"{APP}/f")
DEEPER = entry("f", f"{APP}/new/f")


@pytest.mark.parametrize("below", [BELOW, DEEPER], ids=["beside", "new directory"])
def test_below_an_image_link_that_an_entry_replaces(
    sandbox: Sandbox, below: dict[str, str]
) -> None:
    image_link(sandbox)
    image = tree(sandbox, *TOPS)
    applied(sandbox, document(REPLACES, below))
    assert sandbox.stat(APP).st_mode & 0o170000 == 0o040000
    assert sandbox.read(f"{APP}/g") == "g of the mount"
    assert sandbox.read(below["dest"]) == "f of the mount"
    assert {path: change for path, change in tree(sandbox, *TOPS).items() if SHARE in path} == {
        path: change for path, change in image.items() if SHARE in path
    }
    gives_back(sandbox, image, *TOPS)


@pytest.mark.parametrize("below", [BELOW, DEEPER], ids=["beside", "new directory"])
@pytest.mark.parametrize("replaces", [REPLACES, REPLACES_BY_FILE], ids=["directory", "file"])
def test_an_image_link_used_first_and_replaced_later(
    sandbox: Sandbox, replaces: dict[str, str], below: dict[str, str]
) -> None:
    """In one document: the later entry has the path for itself, and no trace of the earlier."""
    image_link(sandbox)
    image = tree(sandbox, *TOPS)
    applied(sandbox, document(below, replaces))
    assert sandbox.stat(APP).st_mode & 0o170000 != 0o120000
    gives_back(sandbox, image, *TOPS)


def test_an_image_link_that_a_file_replaces_cannot_be_gone_through(sandbox: Sandbox) -> None:
    image_link(sandbox)
    refused(sandbox, document(REPLACES_BY_FILE, BELOW), f"{APP} is a file by an earlier entry")


@pytest.mark.parametrize("below", [BELOW, DEEPER], ids=["beside", "new directory"])
@pytest.mark.parametrize("replaces", [REPLACES, REPLACES_BY_FILE], ids=["directory", "file"])
@pytest.mark.parametrize("order", ["replaced, then used", "used, then replaced"])
def test_an_image_link_replaced_and_used_by_two_documents(
    replaces: dict[str, str], below: dict[str, str], order: str
) -> None:
    both = [document(replaces), document(below)]
    if order.startswith("used"):
        both.reverse()
    assert as_first(image_link, both, *TOPS) == 0


def test_an_image_link_replaced_and_used_as_well_by_a_later_document() -> None:
    assert as_first(image_link, [document(BELOW), document(REPLACES, BELOW)], *TOPS) == 0
    assert as_first(image_link, [document(REPLACES, BELOW), document(BELOW)], *TOPS) == 0


def two_links(box: Sandbox) -> None:
    """/etc/app -> /etc/app.d -> /usr/share/app: alternatives of an image."""
    image_link(box)
    box.remove(APP)
    box.symlink(SHARE, "/etc/app.d")
    box.symlink("app.d", APP)


@pytest.mark.parametrize("which", [APP, "/etc/app.d"])
@pytest.mark.parametrize("turned", [False, True])
def test_one_link_of_a_chain_is_replaced(which: str, turned: bool) -> None:
    tops = (APP, "/etc/app.d", SHARE)
    pair = [entry("d", which, perm="0755"), BELOW]
    if turned:
        pair.reverse()
    assert as_first(two_links, [document(*pair)], *tops) == 0
    assert as_first(two_links, [document(pair[0]), document(pair[1])], *tops) == 0
    assert as_first(two_links, [document(pair[0]), document(*pair)], *tops) == 0


# --- a file of the image in the way -------------------------------------------------------------

FOO = "/etc/foo"


def image_file(box: Sandbox) -> None:
    box.adduser("nova")
    box.write(FOO, "the image's", owner="nova", mode=0o604)
    box.source("d/inner", "inner of the mount")
    box.source("d/sub/deep", "deep of the mount")
    box.source("f", "f of the mount")


OVER = entry("d", FOO, perm="0755")


@pytest.mark.parametrize("below", ["bar", "x/y", "sub/deep", "sub/deep/er"])
def test_a_copied_directory_leaves_and_the_next_document_is_below_the_image_file(
    below: str,
) -> None:
    """Whatever the last document comes to, it comes to that at each start and in each history."""
    as_first(image_file, [document(OVER), document(entry("f", f"{FOO}/{below}"))], FOO)


@pytest.mark.parametrize("below", ["bar", "x/y"])
def test_an_optional_entry_below_the_image_file(below: str) -> None:
    last = document(entry("f", f"{FOO}/{below}", optional=True))
    as_first(image_file, [document(OVER), last], FOO)
    last = document(entry("missing", f"{FOO}/{below}", optional=True))
    assert as_first(image_file, [document(OVER), last], FOO) == 0


@pytest.mark.parametrize("perm", ["0755", "0644", "0700"])
@pytest.mark.parametrize("below", ["bar", "x/y", "inner", "sub/deep"])
def test_a_dest_inside_an_earlier_dest_where_the_image_has_a_file(below: str, perm: str) -> None:
    """Upstream removes the file, copies the directory and then copies into it: it starts."""
    inside = entry("f", f"{FOO}/{below}", owner="nova", perm=perm)
    assert as_first(image_file, [document(OVER, inside)], FOO) == 0
    assert as_first(image_file, [document(OVER), document(OVER, inside)], FOO) == 0
    assert as_first(image_file, [document(OVER, inside), document(OVER)], FOO) == 0


@pytest.mark.parametrize("merge", [False, True])
def test_a_directory_over_the_image_file_then_a_file_into_it_by_a_slash(merge: bool) -> None:
    over = entry("d", FOO, perm="0755")
    inside = entry("f", f"{FOO}/", merge=merge)
    assert as_first(image_file, [document(over, inside)], FOO) == 0


@pytest.mark.parametrize(
    "earlier", [entry("d", "/opt/made", perm="0755"), entry("f", "/opt/made/f")]
)
def test_files_below_what_the_restore_removes(sandbox: Sandbox, earlier: dict[str, str]) -> None:
    """Carried out for good, or refused before the restore as it is at a first start."""
    last = {
        "command": "true",
        "files": [{"path": "/opt/made/log", "owner": "root", "perm": "0600"}],
    }
    image_file(sandbox)
    sandbox.document(document(earlier))
    assert sandbox.set_configs().returncode == 0
    before = tree(sandbox, "/opt/made")
    sandbox.document(last)
    done = sandbox.set_configs()
    if done.returncode:
        assert tree(sandbox, "/opt/made") == before, done.stderr
        with Sandbox() as fresh:
            refused(fresh, last)
        refused(sandbox, last)
    else:
        assert set(tree(sandbox, "/opt/made")) == {"/opt/made", "/opt/made/log"}, done.stderr
        settled(sandbox)


def test_files_below_the_image_file_that_comes_back() -> None:
    last = document(files=[{"path": f"{FOO}/log", "owner": "root", "perm": "0600"}])
    as_first(image_file, [document(OVER), last], FOO)


@pytest.mark.parametrize(("directory", "link"), [("root", "svc"), ("svc", "root")])
def test_an_original_that_is_a_link_is_followed_as_it_was_in_place(
    directory: str, link: str
) -> None:
    """Once it is saved where only root can write it is still what others could have made."""

    def plant(box: Sandbox) -> None:
        box.adduser("svc", 4321)
        box.source("f", "f of the mount")
        box.write("/srv/secret", "root's own", mode=0o600)
        box.mkdir("/srv/app", owner=directory)
        box.symlink("/srv/secret", "/srv/app/link", owner=link)

    over = entry("f", "/srv/app/link", owner="svc")
    looks = entry("/srv/app/link", "/srv/copy", owner="svc")
    assert as_first(plant, [document(over), document(looks, over)], "/srv") == 1


# --- what one document copies, and the next one otherwise ---------------------------------------


@pytest.mark.parametrize(
    "earlier", [entry("f", "/opt/made/inner"), entry("d", "/opt/made", perm="0755")]
)
@pytest.mark.parametrize("merge", [False, True])
def test_a_copy_is_taken_over_by_another_entry(earlier: dict[str, str], merge: bool) -> None:
    last = entry("d", "/opt/made", perm="0755", merge=merge)
    assert as_first(image_file, [document(earlier), document(last)], "/opt/made") == 0


def test_a_merge_into_a_link_of_an_earlier_entry(sandbox: Sandbox) -> None:
    """It leads nowhere in the mount, and to a directory of the image where it is put."""
    image_file(sandbox)
    sandbox.write("/opt/made/there/own", "own")
    sandbox.symlink("there", f"{CONFIG_FILES}/tree/link")
    tree_with_link = entry("tree", "/opt/made", merge=True, preserve_properties=True)
    into = entry("d", "/opt/made/link", perm="0755", merge=True)
    applied(sandbox, document(tree_with_link, into))
    assert sandbox.readlink("/opt/made/link") == "there"
    assert sandbox.read("/opt/made/there/inner") == "inner of the mount"
    assert sandbox.read("/opt/made/there/own") == "own"
