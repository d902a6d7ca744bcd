"""The programs that a harness of `make torture` is run on: this one, its first version, upstream's.

A harness that finds nothing in the other two would find nothing here either.
"""

import functools
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import peer
from sandbox import CACHE, TREE, VENV, Sandbox

FIRST = "d9b6d82"  # the first version, which said "0 lost" and had 23 defects


class Missing(Exception):
    """A subject cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A program under test, in a box of its own; `ours`: in this program's words and exit codes."""

    name: str
    box: Callable[..., Sandbox]
    ours: bool = True


OURS = Subject("here", Sandbox)


def first() -> Subject:
    """Raises Missing where the history is not there."""
    tree = CACHE / f"tree-{FIRST}"
    if not tree.is_dir():
        new = tree.with_suffix(".new")
        new.mkdir(parents=True, exist_ok=True)
        git = ["git", "-C", str(TREE), "-c", f"safe.directory={TREE}", "archive", FIRST]
        packed = subprocess.run(
            [*git, "kolla_start", "pyproject.toml"], capture_output=True, check=False
        )
        if packed.returncode:
            raise Missing(f"no commit {FIRST} in this clone")
        subprocess.run(["tar", "-x", "-C", str(new)], input=packed.stdout, check=True)
        new.rename(tree)
    return Subject(FIRST, functools.partial(Sandbox, tree=tree))


def upstream() -> Subject:
    """Raises Missing where its programs are not there."""
    reason = peer.missing()
    if reason is not None:
        raise Missing(reason)
    return Subject("upstream", _Upstreams, ours=False)


class _Upstreams(Sandbox):
    """Upstream's programs in place of ours; they need a Python that has PyYAML."""

    def _furnish(self) -> None:
        super()._furnish()
        peer.install(self, f"{VENV}/bin/python")
