"""Line and column of what is wrong with a document.

On the container-start path, but imported only where a fault or a warning is to be said: the
standard library alone, and PyYAML for a YAML document. It judges nothing.
"""

from __future__ import annotations

from kolla_start.document import json_text
from kolla_start.document.nodes import Unreadable, find
from kolla_start.document.text import is_yaml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kolla_start.document.nodes import Node
    from kolla_start.errors import Fault


def read(path: str, text: str) -> tuple[Any, Node]:
    """The value of a document's text, and its nodes. Raises Unreadable with what is wrong."""
    if not is_yaml(path):
        return json_text.read(text)
    from kolla_start.document import yaml_text

    return yaml_text.read(text)


def lines(path: str, text: str, faults: list[Fault]) -> list[str]:
    """`PATH:LINE:COLUMN: config_files[1].perm: what; what to do`, in the order of the text.

    `text` is that which was judged. Lines and columns count from 1, columns in characters. A
    fault that has no place in it, for it was not read, comes first and without.
    """
    root = _nodes(path, text) if any(fault.place is None for fault in faults) else None
    placed = sorted((_placed(fault, root) for fault in faults), key=lambda item: item[0])
    # The same for editors: every line end one character, at the same offset.
    plain = text.replace("\r\n", " \n").replace("\r", "\n")
    said = []
    line, counted = 1, 0
    for place, message in placed:
        if place < 0:
            said.append(f"{path}: {message}")
            continue
        line += plain.count("\n", counted, place)
        counted, before = place, plain.rfind("\n", 0, place)
        said.append(f"{path}:{line}:{place - before}: {message}")
    return said


def _nodes(path: str, text: str) -> Node | None:
    try:
        if not is_yaml(path):
            return json_text.nodes(text)
        from kolla_start.document import yaml_text

        return yaml_text.nodes(text)
    except Unreadable:
        return None


def _placed(fault: Fault, root: Node | None) -> tuple[int, str]:
    message = str(fault)
    if fault.place is not None:
        return fault.place, message
    if root is None:
        return -1, message
    node, key, there = find(root, fault.loc)
    if fault.unquoted and there and node.written:
        message += f': "{node.written}"'
    return key if fault.at_key and key is not None else node.at, message
