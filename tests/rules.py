"""The differences from upstream that are wanted, each by a rule of one name.

docs/differences.md has a line for each name here, and no other line (test_differential.py sees to
both). A rule holds for what it describes and no more: whatever no rule explains is a bug.
"""

from collections.abc import Callable
from typing import Any

from compare import RECORDS, Difference
from sandbox import Change

Rule = Callable[[Difference], bool]

RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    RULES[function.__name__.replace("_", "-")] = function
    return function


def explain(difference: Difference) -> str | None:
    """The first rule that holds for a difference."""
    return next((name for name, holds in RULES.items() if holds(difference)), None)


def _dest(entry: dict[str, Any]) -> str:
    dest: str = entry["dest"]
    return dest + entry["source"].rpartition("/")[2] if dest.endswith("/") else dest


def _inside(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _pattern(entry: dict[str, Any] | None) -> bool:
    return entry is not None and "*" in entry["source"]


def _dropped_dest(d: Difference) -> str:
    return _dest(d.dropped) if d.dropped else "/nonexistent"


def _is(kind: str, change: Change | int | None) -> bool:
    return isinstance(change, Change) and change.kind == kind


def _kept(d: Difference) -> str | None:
    """Of a path where originals are kept: the path that it is the original of."""
    return d.path.removeprefix(RECORDS) if d.path.startswith(RECORDS + "/") else None


# --- what is where ------------------------------------------------------------------------------


@rule
def records_are_root_s(d: Difference) -> bool:
    """The directory of the saved originals is 0700."""
    return (
        d.path == RECORDS
        and isinstance(d.theirs, Change)
        and isinstance(d.ours, Change)
        and (d.theirs.mode, d.ours.mode) == (0o755, 0o700)
    )


@rule
def refused_whole(d: Difference) -> bool:
    """A start that is refused leaves everything as it was."""
    return d.refused and d.path != "exit code" and d.ours == d.previous.get(d.path)


@rule
def original_saved_once(d: Difference) -> bool:
    """The third start does not overwrite a saved original; so the original is what comes back."""
    kept = _kept(d)
    path = d.path if kept is None else kept
    if kept is None and not _inside(path, _dropped_dest(d)):
        return False
    known = any(_inside(path, place) for place in d.image)
    return known and d.ours == d.image.get(path) and "first" not in d.step


@rule
def originals_of_patterns(d: Difference) -> bool:
    """What a pattern copied is remembered like anything else."""
    raise NotImplementedError


@rule
def parents_go(d: Difference) -> bool:
    """Directories made for something that left the document go with it, once empty."""
    return (
        _is("directory", d.theirs)
        and d.ours is None
        and d.path not in d.image
        and _inside(_dropped_dest(d), d.path)
    )


# --- answers ------------------------------------------------------------------------------------


@rule
def check_cannot_tell(d: Difference) -> bool:
    """A check that cannot tell says 2."""
    return d.path == "--check" and (d.theirs, d.ours) == (1, 2)


@rule
def check_directory_modes(d: Difference) -> bool:
    """Directories inside a copied one have x where they have r, and that is no change."""
    return (
        d.path == "--check"
        and (d.theirs, d.ours) == (1, 0)
        and "Dest dir does not have expected perm" in d.log
    )


del RULES["originals-of-patterns"]
