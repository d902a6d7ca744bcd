"""Given back, flushed, forgotten: what a power cut can take away is never the last copy.

The order of the calls is the proof (a filesystem may write anything back at any time, and nothing
before it is asked): data and name before the record, the record before the saved copy goes.
"""

import os
import re

import pytest
from documents import document, entry
from sandbox import Sandbox

EMPTY = {"command": "true"}
_FLUSH = re.compile(r"\b(fsync|fdatasync)\(\d+<([^>]*)>")
_ALL = re.compile(r"\b(syncfs\(|sync\(\))")
_CALL = re.compile(r"^(\d+ +)?(\w+)\((.*)\) += (\d+|\?)")
_NAME = re.compile(r'(?:(\d+|AT_FDCWD)<([^>]*)>, )?"([^"]*)"')


def calls(box: Sandbox) -> list[tuple[str, list[str], str]]:
    """Call, the paths it names (its names joined to their directories), and the line."""
    trace = ["strace", "-f", "-qq", "-y", "-s", "300", "-o", "/srv/trace", "-e",
             "trace=fsync,fdatasync,syncfs,sync,rename,renameat,renameat2,unlink,unlinkat,rmdir,"
             "link,linkat,mkdir,mkdirat", "kolla_set_configs"]  # fmt: skip
    done = box.run(trace, env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"})
    assert done.returncode == 0, done.stderr
    found = []
    for line in box.read("/srv/trace").splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        paths = [
            name if name.startswith("/") else f"{place}/{name}".replace("//", "/")
            for _, place, name in _NAME.findall(match[3])
        ]
        if "sync" in match[2]:
            paths = re.findall(r"<([^>]*)>", match[3])
        found.append((match[2], paths, line))
    box.remove("/srv/trace")
    return found


def first(order: list[tuple[str, list[str], str]], calls: str, path: str) -> int | None:
    """The first of these calls whose last path matches."""
    for number, (call, paths, _) in enumerate(order):
        if re.fullmatch(calls, call) and paths and re.fullmatch(path, paths[-1]):
            return number
    return None


def flushed(
    order: list[tuple[str, list[str], str]], before: int, path: str, after: int = 0
) -> bool:
    """Whether what matches reached the storage between these two calls."""
    return any(
        call in ("sync", "syncfs") or (paths and re.fullmatch(path, paths[0]))
        for call, paths, _ in order[after:before]
        if "sync" in call
    )


def furnish(box: Sandbox, kind: str) -> None:
    box.source("s", "from the operator")
    if kind == "file":
        box.write("/etc/app/f", "the image's", mode=0o640)
    elif kind == "directory":
        box.write("/etc/app/f/inner", "the image's", mode=0o640)
        box.write("/etc/app/f/sub/deep", "the image's")
    elif kind == "link":
        box.symlink("elsewhere", "/etc/app/f")
    else:
        box.mkdir("/etc/app")
    box.document(document(entry("s", "/etc/app/f")))
    assert box.set_configs().returncode == 0
    box.document(EMPTY)


RECORD = r"/etc/kolla/defaults/state"  # it says where originals are
SAVED = r"/etc/kolla/defaults/etc/app/f(/.*)?"


@pytest.mark.parametrize("kind", ["file", "directory", "link", "nothing"])
def test_an_original_is_flushed_before_it_is_forgotten(sandbox: Sandbox, kind: str) -> None:
    furnish(sandbox, kind)
    order = calls(sandbox)
    listing = "\n".join(line for _, _, line in order)
    back = first(order, "rename.*|unlink.*|mkdir.*", "/etc/app/f")
    assert back is not None, listing
    # The record that no longer names it: the last one, others may announce what comes.
    records = [
        number
        for number, (call, paths, _) in enumerate(order)
        if call.startswith("rename") and paths and re.fullmatch(RECORD, paths[-1])
    ]
    forgets = [number for number in records if number > back]
    assert forgets, listing
    drops = first(order, "unlink.*|rmdir|rename.*", SAVED)
    for moment in (forgets[-1], *([] if drops is None else [drops])):
        if kind == "file":
            assert flushed(order, moment, r"/etc/app/[^/]*"), f"data: {moment}\n{listing}"
        if kind == "directory":
            for leaf in ("inner", "sub/deep"):
                # Its own name, or a temporary one beside it or of a tree that is put in place.
                name = leaf.rpartition("/")[2]
                pattern = rf"/etc/app/([^/]*/)*({name}|\.[^/]*)"
                assert flushed(order, moment, pattern), f"{leaf}: {moment}\n{listing}"
        assert flushed(order, moment, r"/etc/app", back), f"the name: {moment}\n{listing}"
    if drops is not None:
        assert forgets[-1] < drops, f"dropped before forgotten\n{listing}"


def test_every_directory_that_an_original_is_kept_in_is_flushed(sandbox: Sandbox) -> None:
    """A file that is in the storage is of no use if the name of a directory above it is not."""
    kept = "/etc/kolla/defaults/etc/app/sub/f"
    sandbox.write("/etc/app/sub/f", "the image's")
    sandbox.source("s", "from the operator")
    sandbox.document(document(entry("s", "/etc/app/sub/f")))
    order = calls(sandbox)
    listing = "\n".join(line for _, _, line in order)
    replaced = first(order, "rename.*", "/etc/app/sub/f")
    assert replaced is not None, listing
    for made in (os.path.dirname(kept), "/etc/kolla/defaults/etc/app", "/etc/kolla/defaults/etc"):
        begun = first(order, "mkdir.*", made)
        assert begun is not None, listing
        assert flushed(order, replaced, os.path.dirname(made), begun), f"{made}\n{listing}"
