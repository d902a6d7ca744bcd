"""A service that swaps directories and files for links while root works beside it.

Two processes of the service user keep both cores busy; the program runs again and again between
them, and after each run the canaries are looked at. Used by test_races.py (seconds) and
torture.py (1,000 runs and a minute), for all subjects.
"""

import subprocess
import time
from dataclasses import dataclass
from typing import Any

import canary
from canary import HOME, LOG, SERVICE
from documents import entry
from sandbox import PYTHON, Sandbox
from subjects import Subject

# Arguments: "fast" or "bursts", then pairs of paths to swap, then "+" and directories to litter.
# At TERM it prints how many swaps it made.
_ATTACKER = r"""
import ctypes, os, random, signal, sys, time
swap = ctypes.CDLL(None).renameat2
how, *paths = sys.argv[1:]
cut = paths.index("+")
pairs = [(os.fsencode(a), os.fsencode(b)) for a, b in zip(paths[:cut:2], paths[1:cut:2])]
litter = paths[cut + 1:]
swaps = rounds = 0

def stop(*_):
    os.write(1, b"%d\n" % swaps)
    os._exit(0)

def again():
    for place in litter:
        for make in (lambda: os.mkdir(place + "/junk"), lambda: os.mkdir(place + "/junk/sub"),
                     lambda: os.symlink("/etc/canary/secret", place + "/junk/secret"),
                     lambda: os.symlink("/etc/canary", place + "/junk/sub/dir")):
            try:
                make()
            except OSError:
                pass

signal.signal(signal.SIGTERM, stop)
again()
os.write(1, b"ready\n")
while True:
    for a, b in pairs:
        if swap(-100, a, -100, b, 2) == 0:  # RENAME_EXCHANGE
            swaps += 1
        if how == "bursts":
            if rounds & 1:
                time.sleep(random.random() * 0.004)
            else:
                for _ in range(random.randrange(200)):
                    pass
    rounds += 1
    if not rounds & 0x3F:
        again()
"""


@dataclass(slots=True)
class Result:
    """What came of a race."""

    runs: int = 0
    swaps: int = 0
    applied: int = 0
    refused: int = 0
    changed: int = 0  # runs after which a canary was not what it had been
    odd: str = ""  # an exit code or a message that may not be
    seconds: float = 0.0


def _furnish(box: Sandbox) -> None:
    canary.furnish(box)
    box.source("tree/sub/secret", "from the operator")
    for top in (LOG, HOME):
        box.mkdir(f"{top}/d", owner=SERVICE)
        box.write(f"{top}/d/secret", "the service's", owner=SERVICE)
        box.symlink("/etc/canary", f"{top}/l", owner=SERVICE)
        box.write(f"{top}/f", "the service's", owner=SERVICE)
        box.symlink(canary.SECRET, f"{top}/g", owner=SERVICE)
        box.symlink("/etc/canary", f"{top}/x", owner=SERVICE)
    box.mkdir(f"{HOME}/t/sub", owner=SERVICE)
    box.chown(f"{HOME}/t", SERVICE)


def _documents(turn: int) -> dict[str, Any]:
    """Another document each time, so that there is always something to write."""
    perm = "0666" if turn % 2 else "0660"
    source, own = f"turn{turn % 2}", (SERVICE, "0600")
    scenes: list[dict[str, Any]] = [
        {"permissions": [{"path": LOG, "owner": SERVICE, "perm": perm, "recurse": True}]},
        {"permissions": [{"path": f"{LOG}/d/secret", "owner": SERVICE, "perm": perm},
                         {"path": f"{LOG}/f", "owner": SERVICE, "perm": perm},
                         {"path": f"{LOG}/*/secret", "owner": SERVICE, "perm": perm}]},
        {"config_files": [entry(source, f"{HOME}/d/secret", *own)]},
        {"config_files": [entry(source, f"{HOME}/f", *own)]},
        {"config_files": [entry("tree", f"{HOME}/t", *own)]},
        {"config_files": [entry("tree", f"{HOME}/t", *own, merge=True)],
         "directories": [{"path": f"{HOME}/d", "owner": SERVICE, "perm": "0755"}]},
    ]  # fmt: skip
    return {"command": "true", **scenes[turn // 2 % len(scenes)]}


def race(subject: Subject, runs: int, seconds: float = 0) -> Result:
    """Until there have been so many runs and so many seconds have passed, both."""
    result = Result()
    with subject.box() as box:
        _furnish(box)
        for number in (0, 1):
            box.source(f"turn{number}", str(number) * 1000)
        before = canary.state(box)
        attackers = [
            _attack(box, "fast", [f"{LOG}/d", f"{LOG}/l", f"{LOG}/f", f"{LOG}/g"], [LOG]),
            _attack(
                box, "bursts",
                [f"{HOME}/d", f"{HOME}/l", f"{HOME}/f", f"{HOME}/g", f"{HOME}/t/sub", f"{HOME}/x"],
                [f"{HOME}/t"],
            ),
        ]  # fmt: skip
        try:
            _run(subject, box, result, before, runs, seconds)
        finally:
            # Reaped before the sandbox is closed: its first process could not end otherwise.
            for attacker in attackers:
                attacker.terminate()
                said, _ = attacker.communicate(timeout=60)
                result.swaps += int(said.split()[-1])
    return result


def _run(
    subject: Subject,
    box: Sandbox,
    result: Result,
    before: dict[str, canary.Canary | None],
    runs: int,
    seconds: float,
) -> None:
    began = time.monotonic()
    while result.runs < runs or time.monotonic() - began < seconds:
        box.document(_documents(result.runs))
        done = box.set_configs()
        result.runs += 1
        result.applied += done.returncode == 0
        result.refused += done.returncode == 1
        if subject.ours and (done.returncode > 1 or "Traceback" in done.stderr):
            result.odd = result.odd or done.stderr[-3000:]
        if canary.state(box) != before:
            result.changed += 1
            _restore(box)
            before = canary.state(box)
    result.seconds = time.monotonic() - began


def _attack(box: Sandbox, how: str, pairs: list[str], litter: list[str]) -> subprocess.Popen[str]:
    argv = [PYTHON, "-IS", "-c", _ATTACKER, how, *pairs, "+", *litter]
    attacker = box.popen(argv, user=SERVICE)
    assert attacker.stdout
    assert attacker.stdout.readline() == "ready\n"
    return attacker


def _restore(box: Sandbox) -> None:
    box.remove("/etc/canary")
    box.remove("/srv/outside")
    canary.plant(box)
    for path, mode in (("/etc/shadow", 0o640), ("/etc/passwd", 0o644)):
        box.chown(path, "root")
        box.chmod(path, mode)
