"""Sources that the same document puts in place: one final state, in one start.

An entry sees what the entries before it leave, and of what comes later the image's: at the first
start as at every other.
"""

import pytest
from documents import Document, document, entry
from outcomes import applied, as_first, gives_back, mode, refused, tree
from sandbox import CONFIG_FILES, Sandbox

TOP = "/srv/made"


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    image(sandbox)
    return sandbox


def image(box: Sandbox) -> None:
    box.adduser("nova", 4321)
    box.write(f"{TOP}/tree/image", "the image's")
    box.write(f"{TOP}/plain", "the image's plain", mode=0o640)
    box.source("f", "of the mount")
    box.source("d/one", "1")
    box.source("d/two", "2")


def test_a_chain_of_eight(box: Sandbox) -> None:
    before = tree(box, TOP)
    chain = [entry("f", f"{TOP}/0")]
    chain += [entry(f"{TOP}/{number}", f"{TOP}/{number + 1}") for number in range(8)]
    done = applied(box, document(*chain))
    assert "planned anew" not in done.stderr
    assert box.read(f"{TOP}/8") == "of the mount"
    box.source("f", "changed")
    assert box.set_configs("--check").returncode == 1
    applied(box)
    assert box.read(f"{TOP}/8") == "changed"
    gives_back(box, before, TOP)


def test_what_an_earlier_entry_replaces_is_not_looked_at(box: Sandbox) -> None:
    applied(box, document(entry("f", f"{TOP}/plain"), entry(f"{TOP}/plain", f"{TOP}/copy")))
    assert box.read(f"{TOP}/copy") == "of the mount"


def test_what_a_later_entry_replaces_is_the_image_s(box: Sandbox) -> None:
    applied(box, document(entry(f"{TOP}/plain", f"{TOP}/z"), entry("f", f"{TOP}/plain")))
    assert box.read(f"{TOP}/z") == "the image's plain"
    assert box.read(f"{TOP}/plain") == "of the mount"


@pytest.mark.parametrize(
    "source", [f"{TOP}/tree", f"{TOP}/tree/", f"{TOP}/tr[e]e", f"{TOP}/tree/*"]
)
def test_a_directory_that_was_merged_into(box: Sandbox, source: str) -> None:
    into = f"{TOP}/copy/" if source.endswith("*") else f"{TOP}/copy"
    applied(box, document(entry("d", f"{TOP}/tree", merge=True), entry(source, into)))
    assert box.read(f"{TOP}/copy/image") == "the image's"
    assert box.read(f"{TOP}/copy/two") == "2"


def test_a_directory_that_was_replaced(box: Sandbox) -> None:
    applied(box, document(entry("d", f"{TOP}/tree"), entry(f"{TOP}/tree", f"{TOP}/copy")))
    assert sorted(tree(box, f"{TOP}/copy")) == [
        f"{TOP}/copy",
        f"{TOP}/copy/one",
        f"{TOP}/copy/two",
    ]


def test_a_directory_that_a_later_entry_replaces(box: Sandbox) -> None:
    both = document(entry(f"{TOP}/t*", f"{TOP}/copies/"), entry("f", f"{TOP}/tree"))
    applied(box, both)
    assert box.read(f"{TOP}/copies/tree/image") == "the image's"
    assert box.read(f"{TOP}/tree") == "of the mount"


def test_owner_and_mode_are_those_that_the_earlier_entry_gives(box: Sandbox) -> None:
    again = entry(f"{TOP}/a", f"{TOP}/b", preserve_properties=True)
    applied(box, document(entry("f", f"{TOP}/a", "nova", "0640"), again))
    assert box.owner(f"{TOP}/b") == (4321, 4321)
    assert mode(box, f"{TOP}/b") == "0640"


def test_a_preserved_link(box: Sandbox) -> None:
    box.symlink("one", f"{CONFIG_FILES}/d/link")
    kept = entry("d", f"{TOP}/tree", merge=True, preserve_properties=True)
    applied(box, document(kept, entry(f"{TOP}/tree/link", f"{TOP}/copy")))
    assert box.read(f"{TOP}/copy") == "1"


def test_what_the_other_sections_make(box: Sandbox) -> None:
    applied(
        box,
        document(
            entry(f"{TOP}/new", f"{TOP}/copy", preserve_properties=True),
            directories=[{"path": f"{TOP}/new", "owner": "nova", "perm": "0700"}],
            files=[
                {"path": f"{TOP}/new/empty", "owner": "nova", "perm": "0600"},
                {"path": f"{TOP}/plain", "owner": "nova", "perm": "0600"},
            ],
        ),
    )
    assert box.owner(f"{TOP}/copy") == (4321, 4321)
    assert mode(box, f"{TOP}/copy") == "0700"
    assert box.read(f"{TOP}/copy/empty") == ""
    assert mode(box, f"{TOP}/copy/empty") == "0600"


@pytest.mark.parametrize("preserve", [False, True], ids=["", "preserved"])
def test_an_empty_file_by_dev_null(box: Sandbox, preserve: bool) -> None:
    empty = entry("/dev/null", f"{TOP}/a", "nova", "0600")
    applied(box, document(empty, entry(f"{TOP}/a", f"{TOP}/b", preserve_properties=preserve)))
    assert box.read(f"{TOP}/b") == ""
    assert mode(box, f"{TOP}/b") == ("0600" if preserve else "0644")


def test_where_others_can_write(box: Sandbox) -> None:
    """Where it comes to be says nothing of the operator's file."""
    box.mkdir(f"{TOP}/shared", mode=0o1777)
    box.source("secret", "a secret", mode=0o600)
    box.chown(f"{CONFIG_FILES}/secret", (5555, 5555))
    first = entry("secret", f"{TOP}/shared/a", "nova", "0600")
    applied(box, document(first, entry(f"{TOP}/shared/a", f"{TOP}/b")))
    assert box.read(f"{TOP}/b") == "a secret"


@pytest.mark.parametrize("owner", ["root", "nova"])
def test_a_link_that_a_later_entry_replaces(box: Sandbox, owner: str) -> None:
    """It is followed if only root can have made it, whether it stands there or was replaced."""
    box.symlink("plain", f"{TOP}/link", owner)
    both = document(entry(f"{TOP}/link", f"{TOP}/z"), entry("f", f"{TOP}/link"))
    if owner == "root":
        applied(box, both)
        assert box.read(f"{TOP}/z") == "the image's plain"
    else:
        refused(box, both, "symbolic link")
        applied(box, document(entry("f", f"{TOP}/link")))
        refused(box, both, "symbolic link")


def test_optional(box: Sandbox) -> None:
    both = document(
        entry("not-mounted", f"{TOP}/a", optional=True),
        entry(f"{TOP}/a", f"{TOP}/b", optional=True),
    )
    applied(box, both)
    assert not box.exists(f"{TOP}/b")
    box.source("not-mounted", "now it is")
    applied(box)
    assert box.read(f"{TOP}/b") == "now it is"


def test_what_left_the_document_is_no_source(box: Sandbox) -> None:
    applied(box, document(entry("f", f"{TOP}/a")))
    refused(box, document(entry(f"{TOP}/a", f"{TOP}/b")), "does not exist")


def test_a_destination_among_its_own_sources(box: Sandbox) -> None:
    applied(box, document(entry(f"{TOP}/tree/*", f"{TOP}/tree/copy/")))
    assert box.read(f"{TOP}/tree/copy/image") == "the image's"
    assert not box.exists(f"{TOP}/tree/copy/copy")


CHAIN = document(entry("d", f"{TOP}/tree"), entry(f"{TOP}/tree/*", f"{TOP}/copy/"))
HISTORIES = {
    "replaced, then a source": (document(entry("f", f"{TOP}/tree")), CHAIN),
    "merged, then a source": (document(entry("d", f"{TOP}/tree", merge=True)), CHAIN),
    "a source, then alone": (CHAIN, document(entry(f"{TOP}/tree", f"{TOP}/copy"))),
    "a source, then replaced": (
        document(entry(f"{TOP}/plain", f"{TOP}/z")),
        document(entry(f"{TOP}/plain", f"{TOP}/z"), entry("f", f"{TOP}/plain")),
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_history_does_not_matter(name: str) -> None:
    documents: tuple[Document, ...] = HISTORIES[name]
    assert as_first(image, documents, TOP) == 0


def test_a_private_original_is_not_read_for_somebody_else(box: Sandbox) -> None:
    """It lay where others can write, so whose it was is not known."""
    box.adduser("alpha", 4322)
    box.mkdir(f"{TOP}/shared", mode=0o1777)
    box.write(f"{TOP}/shared/a", "alpha's secret", owner=(4322, 4322), mode=0o600)
    theirs = entry(f"{TOP}/shared/a", f"{TOP}/b", "nova")
    refused(box, document(theirs), "read for somebody else")
    refused(box, document(theirs, entry("f", f"{TOP}/shared/a")), "read for somebody else")
    applied(box, document(entry("f", f"{TOP}/shared/a")))
    refused(box, document(theirs, entry("f", f"{TOP}/shared/a")), "read for somebody else")
