"""Where the values and keys of a document stand in its text, as a tree of nodes.

On the container-start path, but imported only for YAML and where a fault or a warning is to be
said: the standard library alone. A place is an offset in the text, from 0, in characters.
"""

from __future__ import annotations

from kolla_start.errors import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kolla_start.errors import Loc


class Unreadable(ValueError):
    """A text that is no JSON or YAML; `fault` says where and what."""

    def __init__(self, message: str, place: int | None = None) -> None:
        super().__init__(message)
        self.fault = Fault((), message, place)


class Node:
    """A value. `at`: its place; `written`: a scalar's text.

    `members`: (key or index, place of the key, value) for each value inside, in the order of the
    text, both where a key stands twice; `twice`: (key, place) of each that stands again.
    """

    __slots__ = ("_last", "at", "members", "twice", "written")

    def __init__(self, at: int, written: str = "") -> None:
        self.at = at
        self.written = written
        self.members: list[tuple[str | int, int, Node]] = []
        self.twice: list[tuple[str, int]] = []
        self._last: dict[str | int, tuple[int, Node]] | None = None

    def member(self, part: str | int) -> tuple[int, Node] | None:
        """The place of a key and its value; of two the last, which is the one that counts."""
        if self._last is None:
            self._last = {name: (at, inner) for name, at, inner in self.members}
        # YAML has keys that are numbers; the nodes know them as they are written.
        return self._last.get(part) or self._last.get(str(part))


def find(root: Node, loc: Loc) -> tuple[Node, int | None, bool]:
    """The value at `loc`, the place of its key, and whether it is there; else what lacks it."""
    node, key = root, None
    for part in loc:
        found = node.member(part)
        if found is None:
            return node, key, False
        key, node = found
    return node, key, True


def duplicates(root: Node) -> Iterator[Fault]:
    """A fault for each key that stands again in an object."""
    seen: set[int] = set()
    waiting: list[tuple[Node, Loc]] = [(root, ())]
    while waiting:
        node, loc = waiting.pop()
        if id(node) in seen:
            continue  # an alias of YAML
        seen.add(id(node))
        for name, place in node.twice:
            yield Fault((*loc, name), "the key stands twice in this object; remove one", place)
        waiting += [(inner, (*loc, name)) for name, _, inner in node.members]
