"""A neighbour's tree, moved to where a start removes: it is not destroyed by root's hand.

In the log volume of all services whoever is of the group can rename what lies in it, and move what
the group can write with all that is in it, also what only its owner could ever empty.
"""

from collections.abc import Iterator

import moments
import pytest
from canary import GIVEN, LOG, NEIGHBOUR, SERVICE, SHARED, furnish_shared
from documents import Document, document, entry
from outcomes import applied, apply, refused, tree
from sandbox import CONFIG_FILES, Sandbox

FOREIGN = "lies where others can write, so somebody may have moved it there: it is not removed"
CONF = f"{LOG}/svc.conf"
TREE = f"{LOG}/conf.d"
OPEN = f"{SHARED}/open"  # the group can write it; what is deep in it only its owner
DEEP = "private/own.key"


@pytest.fixture
def box(sandbox: Sandbox) -> Iterator[Sandbox]:
    furnish_shared(sandbox)
    sandbox.mkdir(f"{OPEN}/private", 0o700, "neighbour")
    sandbox.write(f"{OPEN}/{DEEP}", "the neighbour's own secret", "neighbour", 0o600)
    sandbox.source("s", "from the operator")
    sandbox.source("tree/a", "a")
    yield sandbox


def given(*entries: dict[str, object]) -> Document:
    return document(*entries, directories=GIVEN)


def copied(dest: str = CONF, source: str = "s") -> Document:
    return given(entry(source, dest, SERVICE, "0640"))


NOTHING = given(entry("s", "/etc/s", SERVICE))


def moved(box: Sandbox, what: str, to: str) -> None:
    box.run(["rm", "-rf", to], user=SERVICE)
    box.run(["mv", "-T", what, to], user=SERVICE, check=True)


def test_at_a_destination(box: Sandbox) -> None:
    moved(box, OPEN, CONF)
    refused(box, copied(), FOREIGN, CONF)
    assert box.exists(f"{CONF}/{DEEP}")


def test_a_private_one_beside_it(box: Sandbox) -> None:
    moved(box, NEIGHBOUR, f"{SHARED}/svc.conf")
    refused(box, copied(f"{SHARED}/svc.conf"), FOREIGN)
    assert box.exists(f"{SHARED}/svc.conf/own.log")


def test_that_of_the_shared_directory_s_owner(box: Sandbox) -> None:
    """Every document names fluentd, for the directory alone."""
    box.mkdir(f"{SHARED}/fluentd", 0o2775, "fluentd:kolla")
    box.write(f"{SHARED}/fluentd/log", "x", "fluentd")
    moved(box, f"{SHARED}/fluentd", CONF)
    refused(box, copied(), FOREIGN)


def test_in_what_is_the_service_s_own(box: Sandbox) -> None:
    box.mkdir(CONF, owner=SERVICE)
    moved(box, OPEN, f"{CONF}/inner")
    refused(box, copied(), FOREIGN, f"{CONF}/inner")


def test_deeper_in_it_than_a_path_can_be(box: Sandbox) -> None:
    box.mkdir(CONF, owner=SERVICE)
    down = "for _ in range(2500):\n    os.mkdir('d'); os.chdir('d')\n"
    move = f"import os\nos.chdir('{CONF}')\n{down}os.rename('{OPEN}', 'x')"
    box.run(["/usr/bin/python3", "-ISc", move], user=SERVICE, check=True)
    assert FOREIGN in apply(box, copied(), code=1)
    found = box.run(["find", CONF, "-name", "own.key"], check=True)
    assert found.stdout.count("own.key") == 1


def test_under_what_a_command_of_root_s_has_left(box: Sandbox) -> None:
    box.mkdir(f"{LOG}/roots", 0o755)
    box.mkdir(f"{LOG}/roots/private", 0o700, "neighbour")
    box.write(f"{LOG}/roots/{DEEP}", "x", "neighbour")
    moved(box, f"{LOG}/roots", CONF)
    refused(box, copied(), FOREIGN)


@pytest.mark.parametrize("owner", [SERVICE, "root"])
def test_the_service_s_own_and_root_s_go(box: Sandbox, owner: str) -> None:
    box.mkdir(CONF, owner=owner)
    box.mkdir(f"{CONF}/inner", owner=owner)
    box.write(f"{CONF}/inner/x", "x", owner)
    applied(box, copied())
    assert box.read(CONF) == "from the operator"


def test_an_empty_one_goes(box: Sandbox) -> None:
    """Whoever can write the directory that it lies in could take it away."""
    box.mkdir(CONF, 0o700, "neighbour")
    applied(box, copied())


@pytest.mark.parametrize("image", [None, "the image's"])
def test_at_what_left_the_document(box: Sandbox, image: str | None) -> None:
    """A start does not fail for it; once it is out of the way what was to be done is done."""
    if image:
        box.write(CONF, image, SERVICE)
    applied(box, copied())
    moved(box, OPEN, CONF)
    before = tree(box, CONF)
    for _ in range(2):
        done = applied(box, NOTHING)
        assert f"{CONF} left the document and cannot be given back" in done.stderr
        assert FOREIGN in done.stderr and tree(box, CONF) == before
    box.run(["mv", "-T", CONF, OPEN], user=SERVICE, check=True)
    applied(box)
    assert (box.read(CONF) if image else box.exists(CONF)) == (image or False)
    assert "left the document" not in box.set_configs().stderr


def test_in_a_directory_that_left_the_document(box: Sandbox) -> None:
    """The image's directory is given back, but for what stands in its way."""
    box.mkdir(TREE, owner=SERVICE)
    box.write(f"{TREE}/image", "the image's", SERVICE)
    applied(box, copied(TREE, "tree"))
    moved(box, OPEN, f"{TREE}/image")
    box.run(["mkdir", f"{TREE}/extra"], user=SERVICE, check=True)
    done = applied(box, NOTHING)
    assert f"{TREE}/image left the document and cannot be given back" in done.stderr
    assert not box.exists(f"{TREE}/a") and not box.exists(f"{TREE}/extra")
    box.run(["mv", "-T", f"{TREE}/image", OPEN], user=SERVICE, check=True)
    applied(box)
    assert box.read(f"{TREE}/image") == "the image's"


def test_in_a_directory_that_is_copied(box: Sandbox) -> None:
    """What is not in the source goes, but for what a neighbour could not take away itself."""
    applied(box, copied(TREE, "tree"))
    box.run(["mkdir", "-p", f"{TREE}/own/deeper"], user=SERVICE, check=True)
    moved(box, OPEN, f"{TREE}/moved")
    done = applied(box)
    assert f"{TREE}/moved" in done.stderr and FOREIGN in done.stderr
    assert not box.exists(f"{TREE}/own") and box.exists(f"{TREE}/moved/{DEEP}")


def test_where_only_a_merge_is_left(box: Sandbox) -> None:
    box.source("tree/b", "b")
    applied(box, copied(TREE, "tree"))
    box.source("other/c", "c")
    moved(box, OPEN, f"{TREE}/a")
    merged = given(entry("other", TREE, SERVICE, "0640", merge=True))
    done = applied(box, merged)
    assert f"{TREE}/a left the document and cannot be given back" in done.stderr
    assert not box.exists(f"{TREE}/b") and box.exists(f"{TREE}/a/{DEEP}")
    box.run(["mv", "-T", f"{TREE}/a", OPEN], user=SERVICE, check=True)
    box.run(["mkdir", "-p", f"{TREE}/a/x"], user=SERVICE, check=True)
    applied(box)
    assert not box.exists(f"{TREE}/a")


def test_what_is_mounted_there_after_the_plan_was_made(box: Sandbox) -> None:
    box.write("/srv/mounted/file", "the operator's")
    box.document(copied())
    box.mkdir(f"{CONF}/inner", owner=SERVICE)
    box.chown(CONF, SERVICE)
    mount = ["mount", "--bind", "/srv/mounted", f"{CONF}/inner"]
    done = moments.stopped_at(box, saved(copied()), lambda: box.run(mount, check=True))
    assert done is not None and done.returncode == 1, done
    assert "a mount point in a tree" in done.stderr
    assert box.read("/srv/mounted/file") == "the operator's"


@pytest.mark.parametrize("content", [copied(), NOTHING], ids=["destination", "left"])
def test_exchanged_after_the_plan_was_made(box: Sandbox, content: Document) -> None:
    """What is asked when planning is asked again of the open directory that is removed."""
    moment = saved(content)
    before_removal(box, content)
    done = moments.stopped_at(box, moment, lambda: moved(box, OPEN, CONF))
    assert done is not None and done.returncode == 1, (moment, done)
    assert FOREIGN in done.stderr and "planned anew" not in done.stderr, done.stderr
    assert box.exists(f"{CONF}/{DEEP}")
    if content is NOTHING:
        applied(box)


def before_removal(box: Sandbox, content: Document) -> None:
    """The service's own directory is where something is to be copied, or was once."""
    if content is NOTHING:
        apply(box, copied())
    box.run(["rm", "-f", CONF], user=SERVICE, check=True)
    box.run(["mkdir", "-p", f"{CONF}/inner"], user=SERVICE, check=True)
    box.document(content)


def saved(content: Document) -> moments.Moment:
    """When originals are saved and recorded, and nothing is replaced or removed yet."""
    with Sandbox() as other:
        furnish_shared(other)
        other.source("s", "from the operator")
        before_removal(other, content)
        found = moments.moments(other, ["defaults>"])
    record = "state" if content is not NOTHING else "kolla_start"
    return next(each for each in found if each.call == "renameat" and f'"{record}"' in each.line)


@pytest.mark.parametrize("merge", [False, True])
def test_in_what_is_copied_with_the_owners_of_its_sources(box: Sandbox, merge: bool) -> None:
    """That an entry says of nobody whose it is to be lets nobody's tree be destroyed."""
    box.mkdir(TREE, owner=SERVICE)
    moved(box, OPEN, f"{TREE}/a")
    copy = entry("tree", TREE, preserve_properties=True, merge=merge)
    refused(box, given(copy), FOREIGN, f"{TREE}/a")
    box.remove(f"{TREE}/a")
    applied(box, given(copy))
    # Whom the sources do name may be in the way of the next.
    box.run(["chown", "-R", SERVICE, f"{CONFIG_FILES}/tree"], check=True)
    applied(box, given(copy))
    box.run(["mkdir", f"{TREE}/b"], user=SERVICE, check=True)
    box.run(["touch", f"{TREE}/b/x"], user=SERVICE, check=True)
    box.write(f"{CONFIG_FILES}/tree/b", "b", owner=SERVICE)
    applied(box, given(copy))
    assert box.read(f"{TREE}/b") == "b"


def test_what_a_neighbour_left_in_a_source_vouches_for_nothing(box: Sandbox) -> None:
    """A public file of the neighbour's, moved into the service's own source, says nothing of it."""
    public = f"{SHARED}/public"
    box.write(public, "p", "neighbour:kolla", 0o644)
    box.mkdir(f"{LOG}/spool", owner=SERVICE)
    box.mkdir(TREE, owner=SERVICE)
    moved(box, public, f"{LOG}/spool/public")
    moved(box, OPEN, f"{TREE}/thing")
    copy = entry(f"{LOG}/spool", TREE, preserve_properties=True)
    assert FOREIGN in apply(box, given(copy))
    assert box.exists(f"{TREE}/thing/{DEEP}") and box.exists(f"{TREE}/public")
    # Nor does one that lies where everybody's logs do, for what another entry copies.
    moved(box, f"{TREE}/thing", CONF)
    logs = entry(f"{SHARED}/*.log", "/srv/logs/", preserve_properties=True, optional=True)
    box.write(f"{SHARED}/public.log", "p", "neighbour:kolla", 0o644)
    refused(box, given(logs, entry("s", CONF, SERVICE, "0640")), FOREIGN)
