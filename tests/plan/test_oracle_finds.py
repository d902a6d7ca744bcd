"""What an oracle found that knows the contract and not the code, each in its smallest document."""

from collections.abc import Callable

import pytest
from documents import Document, document, entry
from outcomes import Tree, applied, apply, difference, refused, settled, tree
from sandbox import CONFIG_FILES, Sandbox

FILE = {"owner": "nova", "perm": "0640"}
DIRECTORY = {"owner": "nova", "perm": "0750"}


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    """An image with something at /app, and what the documents copy."""
    sandbox.adduser("nova", 4321)
    sandbox.write("/app/conf/a", "image a")
    sandbox.write("/app/conf/sub/c", "image c")
    sandbox.symlink("/app/conf/a", "/app/flink")
    sandbox.symlink("conf", "/app/link")
    sandbox.source("one", "1")
    sandbox.source("flat/k", "k")
    return sandbox


# --- sources outside of the mount that this start itself changes ----------------------------------
# "Order of work: directories, files, restore what left the document, ..., config_files in order";
# "a document that is refused leaves the filesystem exactly as it was"; "after any successful apply
# the plan is empty". Upstream copies entry by entry, so that a source is what stands there by then.

IN_ORDER: dict[str, tuple[Document, dict[str, str | None]]] = {
    "made by an earlier entry": (
        document(entry("one", "/app/new"), entry("/app/new", "/app/copy")),
        {"/app/copy": "1"},
    ),
    "made by an earlier entry, optional": (
        document(entry("one", "/app/new"), entry("/app/new", "/app/copy", optional=True)),
        {"/app/copy": "1"},
    ),
    "an image's link, replaced by an earlier entry": (
        document(entry("one", "/app/flink"), entry("/app/flink", "/app/copy")),
        {"/app/copy": "1"},
    ),
    "a directory into which an earlier entry delivers": (
        document(entry("one", "/app/conf/new"), entry("/app/conf", "/app/copy")),
        {"/app/copy/a": "image a", "/app/copy/new": "1"},
    ),
    "a pattern that finds an earlier entry's file": (
        document(entry("one", "/app/conf/new"), entry("/app/conf/*", "/app/copy/")),
        {"/app/copy/a": "image a", "/app/copy/new": "1"},
    ),
    "replaced by a later entry": (
        document(entry("/app/conf/a", "/app/copy"), entry("one", "/app/conf/a")),
        {"/app/copy": "image a", "/app/conf/a": "1"},
    ),
    "replaced by a later entry that is written first": (
        document(entry("/app/conf/a", "/app/z"), entry("one", "/app/conf/a")),
        {"/app/z": "image a", "/app/conf/a": "1"},
    ),
    "removed by a later entry": (
        document(entry("/app/conf/a", "/app/copy"), entry("flat", "/app/conf")),
        {"/app/copy": "image a", "/app/conf/a": None, "/app/conf/k": "k"},
    ),
    "made by `directories`": (
        document(entry("/app/new", "/app/copy"), directories=[{"path": "/app/new", **DIRECTORY}]),
        {},
    ),
    "made by `files`": (
        document(entry("/app/new", "/app/copy"), files=[{"path": "/app/new", **FILE}]),
        {"/app/copy": ""},
    ),
}


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_source_is_what_stands_there_by_then(box: Sandbox, name: str) -> None:
    content, wanted = IN_ORDER[name]
    apply(box, content)
    found = {path: box.read(path) if box.exists(path) else None for path in wanted}
    assert found == wanted
    settled(box)


REMOVED: dict[str, tuple[list[Document], Document]] = {
    "by an earlier entry": (
        [],
        document(entry("flat", "/app/conf"), entry("/app/conf/a", "/app/z")),
    ),
    "by what left the document": (
        [document(entry("flat", "/app/new/x"))],
        document(entry("/app/new/x", "/app/z")),
    ),
}


@pytest.mark.parametrize("name", REMOVED)
def test_a_source_that_is_gone_by_then_is_missing(box: Sandbox, name: str) -> None:
    """Refused whole, at this start and at every other."""
    earlier, content = REMOVED[name]
    for each in earlier:
        applied(box, each)
    refused(box, content, "source")


# --- what is given back ---------------------------------------------------------------------------


def test_directories_inside_a_merge_that_leaves(box: Sandbox) -> None:
    """SPEC: with merge, "other content stays"; only what this program put there may go."""
    state = [{"path": "/app/new/state", **DIRECTORY}]
    applied(box, document(entry("flat", "/app/new", merge=True), directories=state))
    box.write("/app/new/state/db", "the service's", "nova")
    applied(box, document(directories=state))
    assert box.read("/app/new/state/db") == "the service's"


GIVEN_BACK: dict[str, tuple[Callable[[Sandbox], object], str]] = {
    "a service's private file": (
        lambda box: box.write("/app/conf/a", "a", "nova", 0o640),
        "/conf/a",
    ),
    "through a link of the image": (lambda box: None, "/flink"),
}


@pytest.mark.parametrize("name", GIVEN_BACK)
def test_permissions_of_what_is_given_back(box: Sandbox, name: str) -> None:
    """SPEC: "as if the last document had been the first", and "after any successful apply ..."."""
    plant, path = GIVEN_BACK[name]
    plant(box)
    last = document(permissions=[{"path": f"/app{path}", "owner": "root:nova", "perm": "0440"}])
    applied(box, document(entry("one", "/app/conf/a")))
    apply(box, last)
    assert (box.owner("/app/conf/a"), box.mode("/app/conf/a")) == ((0, 4321), 0o440)
    settled(box)


# --- links of the image, and lists ----------------------------------------------------------------


def test_a_directory_merged_over_a_link_to_a_file(box: Sandbox) -> None:
    """Upstream replaces the link; so does this program a file, or a link that leads nowhere."""
    applied(box, document(entry("flat", "/app/flink", merge=True)))
    assert box.read("/app/flink/k") == "k"
    assert box.read("/app/conf/a") == "image a"


THROUGH = {
    "destination": entry("one", "/app/link/new"),
    "source": entry("/app/link/a", "/app/copy"),
    "merge": entry("flat", "/app/link", merge=True),
}


@pytest.mark.parametrize("name", THROUGH)
def test_a_link_in_a_directory_that_the_document_gives_away(box: Sandbox, name: str) -> None:
    """SPEC: "a container that ran must run": refused at once, or carried out at each start."""
    box.document(document(THROUGH[name], permissions=[{"path": "/app", "owner": "nova"}]))
    first = box.set_configs().returncode
    assert box.set_configs().returncode == first


def test_a_directory_that_a_copy_replaces_has_no_list(box: Sandbox) -> None:
    """SPEC: "a thing made or replaced here has none"; files have none by then."""
    box.run(["setfacl", "-m", "u:nobody:rwx,d:u:nobody:rwx", "/app/conf"], check=True)
    applied(box, document(entry("flat", "/app/conf", perm="0775")))
    assert tree(box, "/app/conf")["/app/conf"].xattrs == ()


# --- what comes back under the other sections ----------------------------------------------------


def _image(box: Sandbox) -> None:
    box.adduser("nova", 4321)
    box.write("/app/var/log", "the image's", owner="nova")
    box.write("/app/one", "the image's", mode=0o640)
    box.symlink("one", "/app/near")
    box.source("tree/within", "the operator's")
    box.write("/app/var/key", "the image's key", owner="nova", mode=0o600)
    box.source("laid/within", "the operator's")
    box.source("laid/in/two", "the operator's")
    for path in ("/app/open/in", "/app/open"):
        box.write(f"{path}/x", "the image's")
        box.run(["setfacl", "-m", "u:nova:rwx,d:u:nova:rwx", path], check=True)
        box.run(["setfattr", "-n", "user.x", "-v", "the image's", path], check=True)


def _after(*documents: Document) -> Tree:
    with Sandbox() as box:
        _image(box)
        for each in documents:
            applied(box, each)
        return tree(box, "/app")


def _once(*documents: Document) -> None:
    """After these documents as after the last of them alone."""
    found, wanted = _after(*documents), _after(documents[-1])
    assert found == wanted, f"(found, wanted): {difference(found, wanted)}"


def test_files_names_what_is_in_an_original_that_comes_back() -> None:
    """`files` leaves the content of what exists, and what is given back does exist."""
    _once(
        document(entry("/dev/null", "/app/var")),
        document(files=[{"path": "/app/var/log", "owner": "nova", "perm": "0644"}]),
    )


def test_permissions_over_an_original_that_comes_back() -> None:
    """What is given back is root's to give, as it was where no document had replaced it."""
    _once(
        document(entry("/dev/null", "/app/var/key", owner="nova", perm="0600")),
        document(permissions=[{"path": "/app/var", "owner": "root", "recurse": True}]),
    )


OVER_AN_ORIGINAL: dict[str, Document] = {
    "merge": document(entry("laid", "/app/open", merge=True)),
    "merge with properties": document(
        entry("laid", "/app/open", merge=True, preserve_properties=True)
    ),
    "merge, closed": document(
        entry("laid", "/app/open", merge=True),
        permissions=[{"path": "/app/open", "owner": "nova", "perm": "0700", "recurse": True}],
    ),
    "merge within": document(entry("laid/in", "/app/open/in", merge=True)),
    "merge of what is new": document(entry("laid/in", "/app/open/new", merge=True)),
    "directories": document(directories=[{"path": "/app/open", **DIRECTORY}]),
    "directories within": document(directories=[{"path": "/app/open/in", **DIRECTORY}]),
}


@pytest.mark.parametrize("name", OVER_AN_ORIGINAL)
@pytest.mark.parametrize("before", ["laid", "/dev/null"])
def test_what_is_laid_over_an_original_that_comes_back(name: str, before: str) -> None:
    """It has what attributes it had, and nothing that was copied to its place meanwhile."""
    _once(document(entry(before, "/app/open", preserve_properties=before == "laid")),
          OVER_AN_ORIGINAL[name])  # fmt: skip


def test_a_directory_that_was_copied_is_made_anew() -> None:
    """For a file in an image's directory that comes back: it is not the copied one's owner's."""
    _once(
        document(entry("laid", "/app/var", "nova")),
        document(entry("/dev/null", "/app/var/in/one")),
    )


@pytest.mark.parametrize("inside", [False, True], ids=["itself", "in a directory"])
def test_a_file_that_left_and_is_to_be_made(box: Sandbox, inside: bool) -> None:
    """SPEC: "a path that leaves the document ... goes"; `files` makes an empty one, as at first."""
    path = "/app/new/k" if inside else "/app/new"
    applied(box, document(entry("flat" if inside else "one", "/app/new", perm="0600")))
    made: Document = document(files=[{"path": path, "owner": "nova", "perm": "0644"}])
    if inside:
        made["directories"] = [{"path": "/app/new", **DIRECTORY}]
    box.document(made)
    assert box.set_configs("--check").returncode == 1
    applied(box)
    assert box.read(path) == ""
    box.write(path, "the service's", "nova")
    applied(box)
    assert box.read(path) == "the service's"


def test_check_sees_what_leaves_for_another_section(box: Sandbox) -> None:
    """SPEC: "including paths that left the document": the next start removes /app/new/k."""
    applied(box, document(entry("flat", "/app/new")))
    box.document(document(directories=[{"path": "/app/new", **DIRECTORY}]))
    assert box.set_configs("--check").returncode == 1


def test_a_directory_merged_over_an_earlier_entry_s_file() -> None:
    """That file took the image's directory away, with all that was in it; so upstream."""
    found = _after(document(entry("/dev/null", "/app/var"), entry("tree", "/app/var", merge=True)))
    assert [path for path in found if path.startswith("/app/var/")] == ["/app/var/within"]


@pytest.mark.parametrize("source", ["tree", "deep"])
def test_a_file_that_files_names_under_a_merged_directory(source: str) -> None:
    """The original of a path is saved, whichever section names it besides."""
    files = [{"path": "/app/one", "owner": "nova", "perm": "0640"}]
    with Sandbox() as box:
        _image(box)
        box.source("deep/one/within", "w")
        image = tree(box, "/app")
        into = "/app/one" if source == "tree" else "/app"
        applied(box, document(entry(source, into, merge=True), files=files))
        assert box.exists("/app/one/within")
        applied(box, document())
        assert tree(box, "/app") == image


# --- properties that are carried over, and a kill -------------------------------------------------


def test_a_merge_that_preserves_takes_no_acl_of_the_image_s_directory(box: Sandbox) -> None:
    """It could not come back when the document leaves; upstream's copystat(3) leaves it as well."""
    box.mkdir("/app/open")
    box.run(["setfacl", "-m", "d:u:nova:rwx", "/app/open"], check=True)
    before = box.run(["getfacl", "-np", "/app/open"]).stdout
    box.source("sub/two", "2")
    box.chmod(f"{CONFIG_FILES}/sub", 0o750)
    applied(box, document(entry("sub", "/app/open", merge=True, preserve_properties=True)))
    assert box.mode("/app/open") == 0o750
    applied(box, document())
    assert box.run(["getfacl", "-np", "/app/open"]).stdout == before


def test_what_permissions_do_to_a_source_is_not_done_to_its_copy(box: Sandbox) -> None:
    """Not by the same start: it may not succeed. As upstream, the next one copies what it finds."""
    copy = entry("/app/conf", "/app/copy", preserve_properties=True)
    rule = {"path": "/app/conf", "owner": "nova", "perm": "0644", "recurse": True}
    box.chmod("/app/conf/a", 0o600)
    box.run(["mount", "--bind", "/app/conf", "/app/conf"], check=True)
    box.run(["mount", "-o", "remount,bind,ro", "/app/conf"], check=True)
    apply(box, document(copy, permissions=[rule]))
    assert (box.owner("/app/copy/a"), box.mode("/app/copy/a")) == ((0, 0), 0o600)


def test_what_comes_back_with_an_acl_has_the_mode_that_files_give_it(box: Sandbox) -> None:
    box.chmod("/app/conf/a", 0o640)
    box.run(["setfacl", "-m", "u:nova:r", "/app/conf/a"], check=True)
    applied(box, document(entry("one", "/app/conf")))
    applied(box, document(files=[{"path": "/app/conf/a", "owner": "root", "perm": "0755"}]))
    assert box.mode("/app/conf/a") == 0o755


def test_check_counts_what_left_from_within_a_copied_directory(box: Sandbox) -> None:
    directory = entry("flat", "/app/copy")
    applied(box, document(directory, entry("one", "/app/copy/inside")))
    box.document(document(directory))
    check = box.set_configs("--check")
    assert (check.returncode, "/app/copy/inside" in check.stderr) == (1, True)
    applied(box, document(directory))
    assert not box.exists("/app/copy/inside")


def test_what_one_entry_put_there_and_another_keeps_is_never_the_image_s(box: Sandbox) -> None:
    box.mark()
    box.source("tree/sub/two", "2")
    merged = entry("flat", "/app/new/sub/one", merge=True)
    applied(box, document(entry("tree/sub", "/app/new/"), merged))
    applied(box, document(merged))
    applied(box, document())
    assert not box.exists("/app/new")


@pytest.mark.parametrize("recurse", [False, True], ids=["itself", "in a directory"])
def test_a_link_that_comes_back_stands_for_what_it_leads_to(box: Sandbox, recurse: bool) -> None:
    """As a link of the image that no document replaced: the link itself stays root's."""
    box.write("/app/links/keep")
    box.symlink("/app/conf/a", "/app/links/l")
    applied(box, document(entry("one", "/app/links/l")))
    path = "/app/links" if recurse else "/app/links/l"
    rule = {"path": path, "owner": "root:nova", "perm": "0640", "recurse": recurse}
    applied(box, document(permissions=[rule]))
    assert box.readlink("/app/links/l") == "/app/conf/a"
    assert box.owner("/app/links/l") == (0, 0)
    assert (box.owner("/app/conf/a"), box.mode("/app/conf/a")) == ((0, 4321), 0o640)


@pytest.mark.parametrize("place", ["/app/tree", "/app/tree/flat"])
def test_a_directory_over_a_mounted_file_is_refused_at_once(box: Sandbox, place: str) -> None:
    """SPEC: "a document that is refused leaves the filesystem exactly as it was"."""
    box.write("/srv/volume", "the volume's")
    box.write(place)
    box.run(["mount", "--bind", "/srv/volume", place], check=True)
    box.source("tree/flat/k", "k")
    source = "flat" if place == "/app/tree" else "tree"
    for merge in (False, True):
        copied = entry(source, "/app/tree", merge=merge)
        refused(box, document(entry("one", "/app/a"), copied), place, "mount point")


def test_a_file_over_a_mounted_device_is_refused_at_once(box: Sandbox) -> None:
    """An operator masks a file with /dev/null: it is not to be written to, nor its mode set."""
    box.write("/app/masked")
    box.run(["mount", "--bind", "/dev/null", "/app/masked"], check=True)
    refused(box, document(entry("one", "/app/masked")), "/app/masked is a mount point")
