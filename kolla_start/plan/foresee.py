"""Whether the steps can be done: asked before the first write.

On the container-start path. Nothing here writes. Directories that take no writing, room, and the
right to give files away; mount points in the way are found where they are compared (compare.py).
"""

from __future__ import annotations

from kolla_start import accounts
from kolla_start.disk import read
from kolla_start.disk.walk import Unsafe, split
from kolla_start.plan.draft import Draft
from kolla_start.plan.steps import Placing, Save, SetOwner, Step
from kolla_start.plan.wanted import FILE, Node, is_directory


def foresee(draft: Draft, steps: list[Step], fresh: set[str]) -> None:
    """Make a fault of each thing that would stop the steps; `fresh`: directories they make."""
    free: dict[int, int] = {}
    known: dict[str, tuple[str, bool, int]] = {}
    refused: set[str] = set()
    for step in steps:
        node = step.node if isinstance(step, Placing) else None
        parent = split(step.path)[0]
        if parent not in known:
            known[parent] = _where(parent, fresh, free)
        place, writable, device = known[parent]
        # A file may be mounted where its directory takes no writing: it alone.
        if not (writable or isinstance(step, SetOwner) or read.rewritable(step.path)):
            if place not in refused:
                refused.add(place)
                loc = () if node is None else node.loc
                draft.fault(loc, f"{place} cannot be written; mount something writable there")
            continue
        if node is None:
            continue
        problem = accounts.may_give(node.uid, node.gid)
        if problem and problem not in refused:
            refused.add(problem)
            draft.fault(node.loc, f"{step.path}: {problem}")
        if node.kind == FILE and node.source is not None:
            before = free[device]
            free[device] = before - node.source.status.st_size
            if before >= 0 > free[device]:
                draft.fault(node.loc, f"no space left for {step.path} and what follows; make room")


def foresee_saves(draft: Draft, saves: list[Save], kept: str) -> None:
    """The same of what originals need; `kept`: the directory that they are kept in."""
    sizes = {save.path: sum(_size(node) for _, node in save.tree) for save in saves}
    if not any(sizes.values()):
        return
    place, room = kept, None
    while room is None:
        try:
            room = read.free_bytes(place)[1]
        except (FileNotFoundError, NotADirectoryError, Unsafe):
            place = split(place)[0]  # it will be made, or made anew
    if sum(sizes.values()) > room:
        largest = max(sizes, key=sizes.__getitem__)
        draft.fault((), f"no space left in {place} to keep what was at {largest}; make room")


def _size(node: Node) -> int:
    return node.source.status.st_size if node.kind == FILE and node.source is not None else 0


def _where(place: str, fresh: set[str], free: dict[int, int]) -> tuple[str, bool, int]:
    """The directory that a step writes to, whether it takes that, and its filesystem."""
    while place in fresh or not is_directory(read.lstat(place)):
        place = split(place)[0]
    device, room = read.free_bytes(place)
    free.setdefault(device, room)
    return place, read.writable(place), device
