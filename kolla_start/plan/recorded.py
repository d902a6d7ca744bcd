"""What is saved before it is replaced, what goes with what left, and what will be recorded.

On the container-start path. Nothing here writes.
"""

from __future__ import annotations

from kolla_start.disk import read, source
from kolla_start.disk.remove import is_temporary
from kolla_start.disk.walk import PATH_MAX, Unsafe, ancestors, join
from kolla_start.plan.draft import Draft
from kolla_start.plan.originals import inside, mirrored
from kolla_start.plan.steps import Placing, Plan, RemoveEmpty, Save, Step
from kolla_start.plan.wanted import (
    CONFIG_FILES,
    DIRECTORY,
    PARENT,
    RESTORE,
    Node,
    is_directory,
)

_NAME_MAX = 256  # limits.h, and a slash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.disk.source import Source
    from kolla_start.homes import Home


def remove_stale_parents(draft: Draft, plan: Plan) -> None:
    """The directories that were made for something go with the last thing in them."""
    wanted, before = draft.wanted, draft.records  # what is half written goes first
    going = {step.path for step in plan.steps if not isinstance(step, Placing)}
    for path in reversed(draft.records.parents):
        if wanted.wants(path) or wanted.exact_above(path) or path in going:
            continue
        try:
            if not is_directory(read.lstat(path)):
                continue
            left = [
                name
                for name in read.names(path)
                if not (before.pending and is_temporary(name, before.mark))
            ]
            empty = all(join(path, name) in going for name in left)
        except Unsafe:
            continue  # whoever made it unreachable may keep it
        if empty:
            going.add(path)
            why = "made for something that left the document"
            plan.steps.append(RemoveEmpty(path, RESTORE, why))


def record(draft: Draft, plan: Plan, home: Home) -> None:
    """Fill in what will be recorded, what is saved before it, and what is not needed after."""
    before = draft.records
    after = plan.after = before.copy()
    after.pending, after.mark, after.places, after.saving = False, "", [], []
    # An original is needed as long as anything of it cannot be given back.
    stuck = {place for path in draft.stuck for place in (path, *ancestors(path))}
    for path in before.originals.keys() - draft.keys - stuck:
        kept = after.originals.pop(path)
        if kept is not None:
            plan.dropped.append(kept)
    _save(draft, plan, home)
    gone = {step.path for step in plan.steps if not isinstance(step, Placing)}
    after.parents = sorted(
        {path for path in draft.parents - draft.keys if _is_made(draft, path)}
        | {path for path in before.parents if path not in gone and _stays(draft, path)}
    )
    after.attributes = {
        path: value for path, value in before.attributes.items() if path in draft.stuck
    }
    for path in draft.merged:
        node, status = draft.wanted.nodes.get(path), draft.baseline.status(path)
        if node is None or status is None or node.part != CONFIG_FILES:
            continue
        was = draft.baseline.attributes(path, status)
        if was != (node.uid, node.gid, node.mode):
            after.attributes[path] = was
    after.placed = {
        path
        for path, node in draft.wanted.nodes.items()
        if node.part == CONFIG_FILES and node.kind != PARENT and path not in draft.keys
    } | (before.placed & draft.stuck)


def _is_made(draft: Draft, path: str) -> bool:
    """Whether a directory is there only for what is in it; inside a key it is that one's."""
    node = draft.wanted.nodes.get(path)
    made = node is not None and (node.kind == PARENT or path in draft.parents)
    return made and not any(above in draft.keys for above in ancestors(path))


def _stays(draft: Draft, path: str) -> bool:
    """Whether a directory that was made once is still there, and not the image's by now."""
    if path in draft.merged:
        return True
    if draft.wanted.covers(path):
        return _is_made(draft, path)
    try:
        return is_directory(read.lstat(path))
    except Unsafe:
        return True


def _save(draft: Draft, plan: Plan, home: Home) -> None:
    originals, after = draft.records.originals, plan.after
    whole = {kept for kept in originals.values() if kept}
    taken = {place for kept in whole for place in (kept, *ancestors(kept))}
    # Or what an entry put there that has left: untouched it is no less ours.
    ours = {
        path
        for path in draft.keys
        if draft.baseline.place(path) != path
        and not any(above in draft.keys for above in ancestors(path))
    }
    for path in sorted((_touched(plan.steps, draft.keys) | ours) - originals.keys()):
        place = draft.baseline.place(path)
        original = source.original(place) if place else None
        if original is None:
            after.originals[path] = None
            continue
        kept = home.kept(path)
        number = 0
        while kept in taken or any(above in whole for above in ancestors(kept)):
            number += 1
            kept = f"{home.defaults}/root/{number}{path}"
        taken.update((kept, *ancestors(kept)))
        whole.add(kept)
        plan.saves.append(Save(path, kept, _tree(original, kept, draft)))
        after.originals[path] = kept


def _tree(top: Source, path: str, draft: Draft) -> list[tuple[str, Node]]:
    """An original and all that is in it, by where it is kept.

    But for what has no path there: no image has that, a service can.
    """
    baseline, found = draft.baseline, []
    todo = [(top, path)]
    while todo:
        each, path = todo.pop()
        node = mirrored(each)
        if node.kind == DIRECTORY:  # a merge may have changed it
            node.uid, node.gid, node.mode = baseline.attributes(each.real, each.status)
        found.append((path, node))
        within = inside(each, baseline)
        if within and len(path) > PATH_MAX - _NAME_MAX:
            draft.warn((), f"{each.real}: what is in it has too long a path, it is not kept")
            continue
        todo += [(inner, join(path, name)) for name, inner in within]
    return found


def _touched(steps: list[Step], keys: set[str]) -> set[str]:
    """The keys at or above which a step changes something."""
    seen: set[str] = set()
    for step in steps:
        if step.part == CONFIG_FILES:
            for path in (step.path, *ancestors(step.path)):
                if path in seen:
                    break
                seen.add(path)
    return seen & keys
