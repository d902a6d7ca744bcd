"""The programs that a harness of `make torture` is run on: this one, its first version, upstream's.

A harness that finds nothing in the other two would find nothing here either.
"""

import functools
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import peer
from sandbox import CACHE, TREE, VENV, Sandbox

FIRST = "d9b6d82"  # the first version, which said "0 lost" and had 23 defects


class Missing(Exception):
    """A subject cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A program under test, and whether what it says is in this program's words and exit codes."""

    name: str
    box: Callable[..., Sandbox]
    ours: bool = True

    def set_configs(
        self,
        box: Sandbox,
        *argv: str,
        strategy: str = "COPY_ALWAYS",
        env: Mapping[str, str | None] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """kolla_set_configs ARGV..., as root. Raises subprocess.TimeoutExpired."""
        return box.set_configs(*argv, strategy=strategy, env=env, timeout=timeout)

    def start(
        self,
        box: Sandbox,
        strategy: str = "COPY_ALWAYS",
        env: Mapping[str, str | None] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """kolla_start, until the service ends. Raises subprocess.TimeoutExpired."""
        return box.start(strategy=strategy, env=env, timeout=timeout)


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
