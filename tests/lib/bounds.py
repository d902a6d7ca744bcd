"""Trees and patterns that a start must come to the end of, in bounded memory, and not in silence.

A service makes them as deep and as wide as its filesystem lets it; none of that may stop its next
start, or that of a neighbour. Used by test_bounds.py (thousands) and torture.py (a million).
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from subprocess import TimeoutExpired
from typing import Any

from canary import HOME, LOG, SERVICE, UID, furnish
from documents import entry
from sandbox import PYTHON, Sandbox
from subjects import Subject

MEMORY = 50  # MB
SILENCE = 8.0  # seconds

# Runs what follows to its end, and says how much memory that had at most (KiB, getrusage(2)).
_MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print("memory", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) ")


@dataclass(frozen=True, slots=True)
class Case:
    """What is planted (so many of it), and the document that has to do with it."""

    plant: Callable[[Sandbox, int], object]
    sections: dict[str, Any]
    earlier: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """`code`: None where it did not end. `silence`: the longest, in seconds. `memory`: MB."""

    code: int | None
    silence: float
    memory: int
    said: str

    def lost(self) -> str | None:
        """What may not be."""
        if self.code not in (0, 1) or "Traceback" in self.said:
            return f"exit code {self.code}: {self.said[-500:]}"
        if self.silence > SILENCE:
            return f"silent for {self.silence:.0f} s"
        return f"{self.memory} MB" if self.memory > MEMORY else None


def _below(box: Sandbox, path: str, count: int, name: str, down: bool, kind: str = "") -> None:
    """So many directories (or files) in one, or each in the one before."""
    fd = os.open(box.host(path), os.O_RDONLY)
    for number in range(count):
        each = name if down else f"{name}{number}"
        if kind:
            os.mknod(each, 0o100600, dir_fd=fd)
            continue
        os.mkdir(each, dir_fd=fd)
        if down:
            inner = os.open(each, os.O_RDONLY, dir_fd=fd)
            os.chown(inner, UID, UID)
            os.close(fd)
            fd = inner
    os.close(fd)


def _names(box: Sandbox, count: int) -> None:
    for number in range(count):
        box.write(f"{LOG}/{'a' * 40}{number}!", "x", SERVICE)


_TREE = {"path": LOG, "owner": SERVICE, "perm": "0750", "recurse": True}
_PLACE = f"{HOME}/conf"
_COPIED = {"config_files": [entry("tree", _PLACE, SERVICE, "0600")]}
_FILE = {"config_files": [entry("rest.conf", _PLACE, SERVICE, "0600")]}

# name -> case, how many in `make test`, how many in `make torture`
CASES: dict[str, tuple[Case, int, int]] = {
    "an exclude that backtracks for ever": (
        Case(_names, {"permissions": [{**_TREE, "exclude": ["(a+)+$"]}]}), 1, 3),
    "files in one directory": (
        Case(lambda box, n: _below(box, LOG, n, "f" * 40, down=False, kind="file"),
             {"permissions": [_TREE]}), 20_000, 1_000_000),
    "directories in one directory": (
        Case(lambda box, n: _below(box, LOG, n, "d" * 40, down=False),
             {"permissions": [_TREE]}), 10_000, 1_000_000),
    "a tree that is deep": (
        Case(lambda box, n: _below(box, LOG, n, "d", down=True),
             {"permissions": [_TREE]}), 5_000, 100_000),
    "a tree that is deep, of long names": (
        Case(lambda box, n: _below(box, LOG, n, "d" * 250, down=True),
             {"permissions": [_TREE]}), 1_500, 50_000),
    "replaced: directories in one directory": (
        Case(lambda box, n: _below(box, _PLACE, n, "d" * 40, down=False), _FILE, _COPIED),
        10_000, 300_000),
    "replaced: a tree that is deep": (
        Case(lambda box, n: _below(box, _PLACE, n, "d", down=True), _FILE, _COPIED),
        5_000, 50_000),
}  # fmt: skip


def measure(subject: Subject, name: str, count: int, timeout: float) -> Ended:
    """A start of the case, in a sandbox of its own."""
    case = CASES[name][0]
    with subject.box() as box:
        furnish(box)
        box.source("tree/file", "x")
        if case.earlier is not None:
            box.document({"command": "true", **case.earlier})
            box.set_configs().check_returncode()
        case.plant(box, count)
        box.document({"command": "true", **case.sections})
        argv = [PYTHON, "-ISc", _MEASURED, "kolla_set_configs"]
        began = datetime.now()
        try:
            done = box.run(argv, env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}, timeout=timeout)
        except TimeoutExpired:
            return Ended(None, timeout, 0, f"not at its end after {timeout:.0f} s")
        moments = [began, datetime.now()]
        moments += (datetime.fromisoformat(stamp) for stamp in _STAMP.findall(done.stderr))
        moments.sort()
        silence = max(b - a for a, b in pairwise(moments)).total_seconds()
        memory = int(done.stderr.rpartition("memory ")[2]) // 1024
        return Ended(done.returncode, silence, memory, done.stderr)
