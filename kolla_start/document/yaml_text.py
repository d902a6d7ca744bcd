"""A YAML text to a value, its nodes, and what is wrong with one that is no YAML.

On the container-start path for a YAML document only: needs PyYAML.
"""

from __future__ import annotations

import yaml

from kolla_start.document.nodes import Node, Unreadable, duplicates
from kolla_start.document.text import TOO_DEEP, TOO_LONG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Loader(yaml.SafeLoader):
    """The safe loader, but for `<<` inside `<<`: what it merges is not copied over and over."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        last: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            last[(key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)] = key, value
        node.value = list(last.values())


def parse_yaml(text: str) -> Any:
    """What a YAML text says. Raises ValueError, also for a duplicate key."""
    value, root = read(text)
    if next(duplicates(root), None) is not None:
        raise ValueError("a duplicate key")
    return value


def read(text: str) -> tuple[Any, Node]:
    """The value of a YAML text, and its nodes. Raises Unreadable."""
    composed = _compose(text)
    # Before it is constructed: that resolves `<<`, where a key may rightly stand again.
    root = _nodes(composed)
    return _construct(composed), root


def nodes(text: str) -> Node:
    """The nodes of a YAML text. Raises Unreadable."""
    return _nodes(_compose(text))


def _compose(text: str) -> yaml.Node:
    try:
        node = yaml.compose(text, _Loader)
    except yaml.reader.ReaderError as error:
        message = f"the character {error.character!r} cannot stand in YAML; remove it"
        raise Unreadable(message, error.position) from None
    except yaml.MarkedYAMLError as error:
        raise _marked(error) from None
    except (ValueError, RecursionError) as error:
        raise _unmarked(error, 0) from None
    if node is None:
        raise Unreadable("is empty; write at least `command: PROGRAM`")
    return node


def _construct(node: yaml.Node) -> Any:
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise _marked(error) from None
    except Exception as error:
        # A tag that does not fit its text ends PyYAML in any of a handful of ways.
        raise _unmarked(error) from None
    finally:
        loader.dispose()


def _marked(error: yaml.MarkedYAMLError) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    what = ", ".join(part for part in (error.context, error.problem) if part)
    hint = "mend it"
    if "single document" in what:
        what, hint = "a second document begins", "keep one"
    elif r"'\t'" in what:
        hint = "indent with spaces"
    return Unreadable(f"no YAML: {what}; {hint}", mark.index if mark else None)


def _unmarked(error: Exception, place: int | None = None) -> Unreadable:
    message = f"{error}; mend it"
    if isinstance(error, RecursionError):
        message = TOO_DEEP
    elif "digits" in str(error):
        message = TOO_LONG
    return Unreadable(message, place)


def _nodes(top: yaml.Node) -> Node:
    """Our nodes for PyYAML's; an alias is the node that it stands for."""
    made: dict[int, Node] = {}
    waiting: list[yaml.Node] = []

    def node(composed: yaml.Node) -> Node:
        if id(composed) not in made:
            written = composed.value if isinstance(composed, yaml.ScalarNode) else ""
            made[id(composed)] = Node(composed.start_mark.index, written)
            waiting.append(composed)
        return made[id(composed)]

    root = node(top)
    while waiting:
        composed = waiting.pop()
        ours = made[id(composed)]
        if isinstance(composed, yaml.SequenceNode):
            for index, item in enumerate(composed.value):
                ours.members.append((index, item.start_mark.index, node(item)))
        elif isinstance(composed, yaml.MappingNode):
            _members(ours, [(key, node(value)) for key, value in composed.value])
    return root


def _members(ours: Node, pairs: list[tuple[yaml.Node, Node]]) -> None:
    keys = set()
    for key, inner in pairs:
        place = key.start_mark.index
        if not isinstance(key, yaml.ScalarNode):
            ours.members.append(("?", place, inner))  # no key of a document is one
            continue
        ours.members.append((key.value, place, inner))
        if (key.tag, key.value) in keys:
            ours.twice.append((key.value, place))
        keys.add((key.tag, key.value))
