"""A destination that is itself a mount point is rewritten in place, and only then.

rename(2) says EBUSY there, so nothing can be exchanged: whatever goes wrong with the source must
have gone wrong before the destination is opened for writing.
"""

import os

import pytest
from documents import document, entry
from moments import failing_at, moments, sample
from outcomes import applied, mode, no_bug
from sandbox import CONFIG_FILES, Sandbox

OLD = "what the volume holds\n" * 50
NEW = "from the operator\n" * 150_000  # more than one call reads


def plant(box: Sandbox, place: str = "/etc/conf") -> None:
    """A volume of one file, as an engine mounts it; what is under the mount stays aside."""
    box.write("/srv/volume", OLD)
    box.write(place, "the image's")
    box.run(["mount", "--bind", "/srv/volume", place], check=True)
    box.source("s", NEW)
    box.source("tree/conf", NEW)
    box.source("tree/other", "other")
    box.document(document(entry("s", place)))


def test_it_is_rewritten(sandbox: Sandbox) -> None:
    plant(sandbox)
    applied(sandbox)
    assert sandbox.read("/srv/volume") == NEW


@pytest.mark.parametrize("error", ["ESTALE", "EIO"])
@pytest.mark.parametrize("kind", ["file", "tree"])
def test_it_keeps_its_content_whatever_fails_of_its_source(kind: str, error: str) -> None:
    """Each call of a start that touches the source fails once: old or new, and never less."""
    place = "/etc/conf" if kind == "file" else "/etc/tree/conf"
    source = "s" if kind == "file" else "tree"
    content = document(entry(source, "/etc/conf" if kind == "file" else "/etc/tree", merge=True))
    with Sandbox() as box:
        plant(box, place)
        box.document(content)
        words = [f"{CONFIG_FILES}/{source}", 'files>, "s"', 'tree>, "conf"']
        found = sample(moments(box, words), 40)
    assert len(found) > 3
    lost = {}
    for moment in found:
        with Sandbox() as box:
            plant(box, place)
            box.document(content)
            done = failing_at(box, moment, error)
            no_bug(done)
            there = box.read("/srv/volume")
            if there not in (OLD, NEW):
                lost[str(moment)] = f"{len(there)} bytes: {done.stderr[-300:]}"
            elif done.returncode == 0 and there != NEW:
                lost[str(moment)] = f"exit 0, and old: {done.stderr[-300:]}"
            elif box.set_configs().returncode or box.read("/srv/volume") != NEW:
                lost[str(moment)] = "the next start does not mend it"
    assert not lost, f"{len(lost)} of {len(found)}: {lost}"


def test_no_other_error_of_rename_is_taken_for_a_mount_point(sandbox: Sandbox) -> None:
    """EBUSY alone says that nothing can take the place; anything else leaves the old file."""
    for error in ("EIO", "EACCES", "EPERM", "ENOSPC", "EXDEV", "ESTALE", "ENOENT", "EROFS"):
        sandbox.write("/etc/conf", OLD)
        sandbox.source("s", NEW)
        sandbox.document(document(entry("s", "/etc/conf")))
        inode = sandbox.stat("/etc/conf").st_ino
        trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", "/etc", "-P", "/etc/conf"]
        inject = ["-e", f"inject=rename,renameat,renameat2:error={error}"]
        done = sandbox.run(
            [*trace, *inject, "kolla_set_configs"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
        )
        no_bug(done)
        assert done.returncode == 1, (error, done.stderr)
        assert sandbox.read("/etc/conf") == OLD, error
        assert sandbox.stat("/etc/conf").st_ino == inode, error
        assert "/etc/conf" in done.stderr


def test_a_mount_point_is_closed_before_a_secret_is_written(sandbox: Sandbox) -> None:
    """In place there is no file beside it: what stands there is closed first, and stays closed."""
    sandbox.adduser("nova", 4242)
    plant(sandbox)
    sandbox.document(document(entry("s", "/etc/conf", owner="nova", perm="0600")))
    with Sandbox() as box:
        box.adduser("nova", 4242)
        plant(box)
        box.document(document(entry("s", "/etc/conf", owner="nova", perm="0600")))
        words = ["/etc/conf>", "/srv/volume>", '"conf"']
        found = [each for each in moments(box, words) if "write" in each.call]
    assert found, "content was written in no way that this test knows"
    done = failing_at(sandbox, found[0], "EIO")
    assert done.returncode == 1, done.stderr
    assert mode(sandbox, "/srv/volume") == "0600"
    assert sandbox.stat("/srv/volume").st_uid in (0, 4242)
    applied(sandbox)


def test_nothing_is_left_beside_it(sandbox: Sandbox) -> None:
    """What was written to be renamed goes, or the start fails and the next one removes it."""
    plant(sandbox)
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", "/etc"]
    inject = ["-e", "inject=unlink,unlinkat:error=ENOSYS:when=1"]
    done = sandbox.run(
        [*trace, *inject, "kolla_set_configs"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    )
    no_bug(done)
    assert done.returncode == 1, done.stderr
    assert "/etc/conf: " in done.stderr, done.stderr
    applied(sandbox)
    assert sandbox.read("/srv/volume") == NEW
    assert not [name for name in os.listdir(sandbox.host("/etc")) if name.startswith(".kolla")]
