"""What must be true after a start, whatever the document: asked of the files, never of the program.

Used by the tests of single defects. `applied` and `refused` are the two ways in which a start may
end; `as_first` is SPEC's "history does not matter" as a question.
"""

import os
import stat
from collections.abc import Callable, Sequence
from subprocess import CompletedProcess

from documents import EMPTY, Document
from sandbox import Change, Sandbox, look

Plant = Callable[[Sandbox], object]
Tree = dict[str, Change]


def tree(box: Sandbox, *tops: str) -> Tree:
    """Every path at and below `tops`, through no link; times are not compared."""
    found: Tree = {}

    def walk(path: str) -> None:
        host = box.host(path)
        if not os.path.lexists(host):
            return
        found[path] = look(host)
        if found[path].kind == "directory":
            for name in sorted(os.listdir(host)):
                walk(f"{path}/{name}")

    for top in tops:
        walk(top)
    return found


def difference(found: Tree, wanted: Tree) -> dict[str, tuple[Change | None, Change | None]]:
    """What is and what should be, where they differ."""
    return {
        path: (found.get(path), wanted.get(path))
        for path in sorted({**found, **wanted})
        if found.get(path) != wanted.get(path)
    }


def no_bug(done: CompletedProcess[str]) -> None:
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert done.returncode in (0, 1), (done.returncode, done.stderr[-3000:])


def apply(box: Sandbox, content: object, code: int = 0) -> str:
    """The document ends the command with this exit code; what was logged."""
    box.document(content)
    done = box.set_configs()
    assert done.returncode == code, done.stderr
    return done.stderr


def applied(box: Sandbox, content: Document | None = None) -> CompletedProcess[str]:
    """The document is carried out, and then there is nothing left to do."""
    if content is not None:
        box.document(content)
    done = box.set_configs()
    assert done.returncode == 0, done.stderr
    settled(box)
    return done


def settled(box: Sandbox) -> None:
    """Another start writes nothing at all, and --check says so too."""
    box.mark()
    again = box.set_configs()
    assert again.returncode == 0, f"the second start: {again.stderr}"
    assert box.changes() == {}, f"the second start writes: {box.changes()}\n{again.stderr}"
    check = box.set_configs("--check")
    assert check.returncode == 0, f"--check after it: {check.stdout}{check.stderr}"
    assert box.changes() == {}, f"--check writes: {box.changes()}"


def quiet(box: Sandbox) -> None:
    """Another start writes nothing, and says nothing of trouble."""
    settled(box)
    assert "WARNING" not in box.set_configs().stderr


def refused(box: Sandbox, content: object = None, *words: str) -> CompletedProcess[str]:
    """The document is refused whole: a message, nothing touched, the same at every start."""
    if content is not None:
        box.document(content)
    box.mark()
    check = box.set_configs("--check")
    assert check.returncode == 2, f"--check: {check.returncode}: {check.stdout}{check.stderr}"
    done = box.set_configs()
    for _ in range(2):
        no_bug(done)
        assert done.returncode == 1, f"not refused: {done.stderr}"
        assert "ERROR" in done.stderr
        assert box.changes() == {}, f"refused, but written: {box.changes()}\n{done.stderr}"
        for word in words:
            assert word in done.stderr, done.stderr
        done = box.set_configs()
    return done


def as_first(plant: Plant, documents: Sequence[Document], *tops: str) -> int:
    """After all these documents the paths stand as if the last had been the first; its exit code.

    `tops` are what is compared. Every document but the last must be carried out.
    """
    last = documents[-1]
    with Sandbox() as box:
        plant(box)
        image = tree(box, *tops)
        box.document(last)
        first = box.set_configs()
        no_bug(first)
        wanted = tree(box, *tops)
    with Sandbox() as box:
        plant(box)
        for earlier in documents[:-1]:
            box.document(earlier)
            done = box.set_configs()
            assert done.returncode == 0, f"an earlier document: {done.stderr}"
        box.document(last)
        if first.returncode:
            assert wanted == image, f"refused, but written: {difference(wanted, image)}"
            refused(box)
        else:
            done = box.set_configs()
            assert done.returncode == 0, f"as the first document it is carried out: {done.stderr}"
            found = tree(box, *tops)
            assert found == wanted, f"(found, wanted): {difference(found, wanted)}"
            settled(box)
        gives_back(box, image, *tops)
    return first.returncode


def gives_back(box: Sandbox, image: Tree, *tops: str) -> None:
    """An empty document has everything as the image had it."""
    box.document(EMPTY)
    done = box.set_configs()
    assert done.returncode == 0, f"the empty document: {done.stderr}"
    found = tree(box, *tops)
    assert found == image, f"not given back (found, image): {difference(found, image)}"


def mode(box: Sandbox, path: str) -> str:
    """Permission bits as a document writes them."""
    return f"{stat.S_IMODE(box.stat(path).st_mode):04o}"


def readable(box: Sandbox, path: str, user: str) -> bool:
    return box.run(["cat", path], user=user).returncode == 0
