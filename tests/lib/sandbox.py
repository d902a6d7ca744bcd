"""The throw-away root that the tests and `make demo` work in: a base image, with our commands.

Real `/etc`, real `/var/lib/kolla`, the real root's rights, and gone afterwards; what a run changed
is known exactly. It never writes to the machine outside, except for the installed program that it
keeps in CACHE (and rebuilds when the source tree changes).

Where what is: its life (bare, holder), its files (tree), what changed (changes), commands in it
(running), the program that is put there (installed), what it needs of this machine (machine).
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import installed as program
from bare import Bare, Bind
from changes import REMOVED, Change, look
from holder import CLONE_NEWNS, CLONE_NEWPID, setns
from loop import Disk
from machine import CACHE, CONFIG_FILES, KOLLA_GID, PATH, PYTHON, TREE, VENV, Unusable, unusable

__all__ = [  # what tests take from here, wherever it lies
    "CACHE",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CONFIG_FILES",
    "KOLLA_GID",
    "PATH",
    "PYTHON",
    "REMOVED",
    "TREE",
    "VENV",
    "Change",
    "Sandbox",
    "Unusable",
    "look",
    "setns",
    "unusable",
]


class Sandbox(Bare):
    """A context manager, see Bare; `installed=False` leaves our program out, or `tree` has it."""

    def __init__(
        self,
        *,
        network: Literal["host", "private"] = "host",
        binds: Sequence[Bind] = (),
        installed: bool = True,
        tree: Path = TREE,
        disk: Disk | None = None,
    ) -> None:
        super().__init__(network=network, binds=binds, disk=disk)
        self._installed = installed
        self._tree = tree
        self._program: program.Program | None = None

    def __enter__(self) -> Self:
        reason = unusable()
        if reason:
            raise Unusable(reason)
        if self._installed:
            self._program = program.program(self._tree)
            own = (self._program.venv, VENV), (self._program.package, program.package())
            self._binds[:0] = [(str(source), target, True) for source, target in own]
        return super().__enter__()

    def _furnish(self) -> None:
        super()._furnish()
        if self._program is None:
            return
        group = self.read("/etc/group")
        if "\nkolla:" not in group:
            self.write("/etc/group", f"{group}kolla:x:{KOLLA_GID}:\n")
        self.mkdir("/var/log/kolla", mode=0o2775, owner=(0, KOLLA_GID))
        self.write("/usr/local/bin/kolla_extend_start", "")
        for launcher in self._program.launchers.iterdir():
            self.write(f"/usr/local/bin/{launcher.name}", launcher.read_bytes(), mode=0o755)

    def start(
        self,
        *argv: str,
        strategy: str | None = "COPY_ALWAYS",
        env: Mapping[str, str | None] | None = None,
        user: str | int | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """kolla_start ARGV..., until the service ends."""
        return self.run(
            ["kolla_start", *argv],
            env={"KOLLA_CONFIG_STRATEGY": strategy, **(env or {})},
            user=user,
            timeout=timeout,
        )

    def set_configs(
        self,
        *argv: str,
        strategy: str | None = "COPY_ALWAYS",
        env: Mapping[str, str | None] | None = None,
        user: str | int | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """kolla_set_configs ARGV..."""
        return self.run(
            ["kolla_set_configs", *argv],
            env={"KOLLA_CONFIG_STRATEGY": strategy, **(env or {})},
            user=user,
            timeout=timeout,
        )
