"""The differences from upstream that are wanted, each by a rule of one name.

docs/differences.md has a line for each name here, and no other line (test_differential.py sees to
both). A rule holds for what it describes and no more: whatever no rule explains is a bug.
"""

import re
from collections.abc import Callable
from typing import Any

from chains import LOGS
from compare import RECORDS, Difference
from sandbox import Change

Rule = Callable[[Difference], bool]

ANSWERS = ("exit code", "--check")

RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    RULES[function.__name__.replace("_", "-")] = function
    return function


def explain(difference: Difference) -> str | None:
    """The first rule that holds for a difference."""
    return next((name for name, holds in RULES.items() if holds(difference)), None)


def _dest(entry: dict[str, Any]) -> str:
    dest = re.sub("//+", "/", entry["dest"])
    return dest + entry["source"].rpartition("/")[2] if dest.endswith("/") else dest


def _inside(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _pattern_left(d: Difference) -> bool:
    return any("*" in entry["source"] for entry in d.left)


def _in_left(d: Difference, path: str) -> bool:
    """Whether a path is, or is in, what the document copied to once and does no longer."""
    return any(_inside(path, _dest(entry)) for entry in d.left)


def _is(kind: str, change: Change | int | None) -> bool:
    return isinstance(change, Change) and change.kind == kind


def _kinds(d: Difference) -> tuple[str, str]:
    theirs, ours = (x.kind if isinstance(x, Change) else "" for x in (d.theirs, d.ours))
    return theirs, ours


def _kept(d: Difference) -> str | None:
    """Of a path where originals are kept: the path that it is the original of."""
    return d.path.removeprefix(RECORDS) if d.path.startswith(RECORDS + "/") else None


def _merges(d: Difference, path: str) -> bool:
    return any(entry.get("merge") and _inside(path, _dest(entry)) for entry in d.entries)


def _patterns(d: Difference, path: str) -> bool:
    return any("*" in entry["source"] and _inside(path, entry["dest"]) for entry in d.entries)


# --- what is where ------------------------------------------------------------------------------


@rule
def numeric_owner(d: Difference) -> bool:
    """An owner may be a number; upstream dies of it."""
    return any(owner.replace(":", "").isdigit() for owner in d.case.owners())


@rule
def refused_whole(d: Difference) -> bool:
    """A start that is refused leaves everything as it was."""
    return d.refused and d.path not in ANSWERS and d.ours == d.previous.get(d.path)


@rule
def configmap_machinery(d: Difference) -> bool:
    """Names that begin with two dots inside a source directory are not copied."""
    return "/.." in d.path and isinstance(d.theirs, Change) and d.ours is None


@rule
def links_not_followed(d: Difference) -> bool:
    """Recursive permissions change the link, not what it leads to."""
    planted = dict(d.case.links)
    if d.path in planted:
        return _kinds(d) == ("link", "link") and d.theirs == d.image[d.path]
    return d.path in planted.values() and d.ours == d.image.get(d.path)


@rule
def kept_to_itself(d: Difference) -> bool:
    """What another user keeps to itself, where others can write, is not given away."""
    theirs, ours = d.theirs, d.ours
    return (
        isinstance(theirs, Change)
        and isinstance(ours, Change)
        and theirs.uid != ours.uid
        and ours.uid != 0
        and not ours.mode & 0o004
        and _inside(d.path, LOGS)
        and ours == d.previous.get(d.path)
    )


@rule
def exclude_any(d: Difference) -> bool:
    """With several `exclude` patterns a path that any of them finds is left alone."""
    return d.ours == d.image.get(d.path) and any(
        len(entry.get("exclude", ())) > 1
        and _inside(d.path, entry["path"])
        and any(re.search(pattern, d.path) for pattern in entry["exclude"])
        for entry in d.document.get("permissions", [])
    )


@rule
def image_link_kept(d: Difference) -> bool:
    """The original of a link is the link, not a copy of what it leads to."""
    kept = _kept(d)
    original = d.image.get(d.path if kept is None else kept)
    return original is not None and original.kind == "link" and d.ours in (original, None)


@rule
def merge_keeps_others(d: Difference) -> bool:
    """Upstream empties a merged directory that it created at each start; here the rest stays."""
    return (
        _merges(d, d.path)
        and d.theirs is None
        and d.ours is not None
        and d.path.endswith("/made-by-the-service")
    )


@rule
def merge_takes_back(d: Difference) -> bool:
    """What an earlier start merged and the source has no longer is taken out again."""
    return (
        _merges(d, d.path)
        and isinstance(d.theirs, Change)
        and d.ours is None
        and d.path not in d.image
        and ("changed" in d.step or bool(d.left))
    )


@rule
def merge_saves_replaced(d: Difference) -> bool:
    """Of a directory that is merged into, only what is replaced is saved, not the whole."""
    kept = _kept(d)
    if kept is None or not isinstance(d.theirs, Change) or d.ours is not None:
        return False
    return any(
        _inside(kept, _dest(entry)) or _inside(_dest(entry), kept)
        for entry in d.entries
        if entry.get("merge")
    )


@rule
def pattern_remembered(d: Difference) -> bool:
    """What a pattern copied is saved, removed and given back like anything else."""
    kept = _kept(d)
    if d.path in ANSWERS:
        return d.path == "--check" and (d.theirs, d.ours) == (0, 1) and _pattern_left(d)
    if kept is not None:
        return _patterns(d, kept) and d.theirs is None and d.ours == d.image.get(kept)
    return _pattern_left(d) and _patterns(d, d.path) and d.ours == d.image.get(d.path)


@rule
def original_elsewhere(d: Difference) -> bool:
    """An original whose place under defaults/ is taken is kept under defaults/root/."""
    return d.path.startswith(f"{RECORDS}/root") and None in (d.theirs, d.ours)


@rule
def original_given_back(d: Difference) -> bool:
    """A saved original that was given back is no longer kept, nor held against the document."""
    if d.path == "--check":
        return (d.theirs, d.ours) == (1, 0) and bool(d.left) and "StateMismatch" in d.log
    kept = _kept(d)
    return (
        kept is not None and _in_left(d, kept) and isinstance(d.theirs, Change) and d.ours is None
    )


@rule
def original_saved_once(d: Difference) -> bool:
    """The third start does not overwrite a saved original; so the original is what comes back."""
    kept = _kept(d)
    path = d.path if kept is None else kept
    if "first" in d.step or (kept is None and not _in_left(d, path)):
        return False
    return any(_inside(path, place) for place in d.image) and d.ours == d.image.get(path)


@rule
def parents_go(d: Difference) -> bool:
    """Directories made for something that left the document go with it, once empty."""
    return (
        _is("directory", d.theirs)
        and d.ours is None
        and d.path not in d.image
        and any(_inside(_dest(entry), d.path) for entry in d.left)
    )


# --- answers ------------------------------------------------------------------------------------


@rule
def refusal_is_1(d: Difference) -> bool:
    """A wrong document is exit code 1 and a message; 2 is a bug of the program."""
    return d.path == "exit code" and (d.theirs, d.ours) == (2, 1)


@rule
def once_reads_nothing(d: Difference) -> bool:
    """After COPY_ONCE has succeeded, the document is not read: it may be broken, or gone."""
    return d.path == "exit code" and (d.theirs, d.ours) == (1, 0) and "COPY_ONCE" in d.step


@rule
def check_cannot_tell(d: Difference) -> bool:
    """A check that cannot tell says 2."""
    return d.path == "--check" and (d.theirs, d.ours) == (1, 2)


def _false_alarm(d: Difference, said: str) -> bool:
    return (
        d.path == "--check" and (d.theirs, d.ours) == (1, 0) and re.search(said, d.log) is not None
    )


@rule
def check_preserved(d: Difference) -> bool:
    """A copy with preserve_properties is unchanged if it is as the source."""
    return _false_alarm(d, "expected perm: None")


@rule
def check_mode_number(d: Difference) -> bool:
    """600, 0600 and 0o600 are the same mode."""
    return _false_alarm(d, "file does not have expected perm: (...|0o.*), actual")


@rule
def check_directory_mode(d: Difference) -> bool:
    """A directory has x where its perm has r, and that is no change."""
    return _false_alarm(d, "dir does not have expected perm")


@rule
def check_final_state(d: Difference) -> bool:
    """What a later entry overrides is compared with the later entry."""
    return _false_alarm(d, "bad state") and _overridden(d)


def _overridden(d: Difference) -> bool:
    dests = [_dest(entry) for entry in d.entries]
    later = [
        *dests,
        *(entry["path"] for entry in d.document.get("permissions", [])),
    ]
    return any(
        _inside(place, dest) or _inside(dest, place)
        for number, dest in enumerate(dests)
        for place in later[number + 1 :]
    )
