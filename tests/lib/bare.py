"""A throw-away root filesystem in which real commands run as the real root, without our program.

A private mount and PID namespace with an overlay over `/` whose upper layer is a tmpfs: real
`/etc`, real `/var/lib/kolla`, gone when it is closed. A holder process is PID 1 of the namespaces
(holder.py). Nothing here may write to the machine outside.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import holder
from changes import Change, Changes
from loop import Disk
from machine import CONFIG_FILES, Unusable, settle, unusable
from running import Running

Bind = tuple[str, str, bool]  # source outside, target inside, read-only


class Bare(Running, Changes):
    """A context manager; `root` is the new root as seen from outside while it is open.

    `network="private"` gives a network of its own with nothing but loopback. With a `disk` what is
    written lies there, a volume at /srv/volume too; one that was here before is as it was left.
    Raises Unusable where the machine does not allow it.
    """

    def __init__(
        self,
        *,
        network: Literal["host", "private"] = "host",
        binds: Sequence[Bind] = (),
        disk: Disk | None = None,
    ) -> None:
        self._private_network = network == "private"
        self._disk = disk
        self._binds = list(binds)
        self._holder: subprocess.Popen[str] | None = None
        self.namespaces: list[int] = []
        self._marked: dict[str, Change] = {}
        self.pid = 0
        self.root = Path("/nonexistent")

    def __enter__(self) -> Self:
        reason = unusable()
        if reason:
            raise Unusable(reason)
        settle()
        self._hold()
        try:
            if self._disk is None or not self._disk.furnished:
                self._furnish()
        except BaseException:
            self.close()
            raise
        if self._disk is not None:
            self._disk.furnished = True
        self.mark()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process inside and drop the whole tree. Harmless when repeated."""
        if self._holder is None:
            return
        for fd in self.namespaces:
            os.close(fd)
        process, self._holder = self._holder, None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        process.communicate()

    def _hold(self) -> None:
        with contextlib.ExitStack() as stack:
            self._hold_with(stack.enter_context(self._disk.attached()) if self._disk else [])

    def _hold_with(self, disks: Sequence[Sequence[str]]) -> None:
        asked = {"private_network": self._private_network, "binds": self._binds, "disks": disks}
        process = subprocess.Popen(
            [sys.executable, "-IS", "-c", holder.PROGRAM, json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout
        said = process.stdout.readline().strip()
        if not said.isdigit():
            process.communicate()
            raise Unusable(f"no sandbox on this machine: {said.removeprefix('error: ')}")
        self._holder = process
        self.pid = int(said)
        self.root = Path(f"/proc/{self.pid}/root")
        self.upper = f"/proc/{self.pid}/fd/3"
        self._lower = f"/proc/{self.pid}/fd/4"
        self.namespaces = [
            os.open(f"/proc/{self.pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for name in ("ns/mnt", "ns/pid", "ns/net", "root")
        ]

    def _furnish(self) -> None:
        """What any image has, and nothing that this machine happens to have of ours."""
        for path in (
            "/etc/kolla",
            "/var/lib/kolla",
            "/var/log/kolla",
            "/run/kolla",
            "/run_command",
            "/configured",
        ):
            if os.path.lexists(self.host(path)):
                self.remove(path)
        for path in ("/etc/resolv.conf", "/etc/hosts"):  # an engine mounts them over the root
            if os.path.ismount(path):
                self.write(path, Path(path).read_bytes())
        self.mkdir(CONFIG_FILES)
