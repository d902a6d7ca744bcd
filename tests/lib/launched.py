"""The launch room's own functions, run in an interpreter as the commands have it: real processes.

No sandbox: what becomes the service here only looks at itself.
"""

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest


def _copy_for_everyone() -> Path:
    """The package where every user can read it: a clone may lie in a home that is private."""
    top = Path(tempfile.mkdtemp(prefix="kolla_start-", dir="/var/tmp"))
    top.chmod(0o755)
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    package = Path(__file__).resolve().parents[2] / "kolla_start"
    shutil.copytree(package, top / "kolla_start", ignore=shutil.ignore_patterns("__pycache__"))
    return top


TREE = _copy_for_everyone()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OPTIONS = "-IBSXutf8"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# What the service is told, said by the service: argv, status, descriptors, environment.
REPORT = """
import json, os, sys
status = dict(line.rstrip().split(":", 1) for line in open("/proc/self/status"))
with open("/proc/self/environ", "rb") as raw:
    environ = [e.decode("utf-8", "surrogateescape") for e in raw.read().split(b"\\0") if e]
print(json.dumps({
    "argv": sys.argv[1:],
    "pid": os.getpid(),
    "status": {key: value.split() for key, value in status.items()},
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(
        "/proc/self/fd/" + fd) and int(fd) != 255),
    "environ": dict(e.split("=", 1) for e in environ),
    "cwd": os.getcwd(),
    "umask": os.umask(0),
}))
"""

Done = subprocess.CompletedProcess[str]


def furnish(work: Path) -> None:
    """A directory that every user can reach, with a program that reports what it received."""
    work.chmod(0o755)
    for parent in list(work.parents)[:2]:
        parent.chmod(0o755)
    report = work / "report.py"
    report.write_text(REPORT)
    program = work / "bin" / "report"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec /usr/bin/python3 -IS {report} "$@"\n')
    program.chmod(0o755)


def room(
    code: str,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    before: Callable[[], None] | None = None,
    pass_fds: Sequence[int] = (),
    python: str = "/usr/bin/python3",
    refused: int = 1,
) -> Done:
    """Run code as a command's work, with the options that commands have, in this environment."""
    program = (
        f"import sys; sys.path.append({str(TREE)!r})\n"
        "from kolla_start import accounts, errors, log, process\n"
        "from kolla_start.launch import privileges, service\n"
        "def main():\n"
        + "".join(f"    {line}\n" for line in code.strip().splitlines())
        + "    return 0\n"
        f"process.run(main, {refused})\n"
    )
    return subprocess.run(
        [python, OPTIONS, "-c", program],
        env={"PATH": PATH} if env is None else dict(env),
        cwd=cwd,
        text=True,
        errors="surrogateescape",
        capture_output=True,
        preexec_fn=before,
        pass_fds=tuple(pass_fds),
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def start(
    command: object, *, arguments: tuple[str, ...] = (), then: str = "", **options: object
) -> Done:
    """Launch a command; `then` is done between the look at the environment and the exec."""
    launch = f"service.launch({command!r}, environ, {arguments})"
    code = f"environ = service.environment()\n{then}\n{launch}"
    return room(code, **options)  # type: ignore[arg-type]


def said(done: Done) -> dict[str, object]:
    """What the reporting program has reported."""
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(report, dict)
    return report


def path_with(work: Path, **more: str) -> dict[str, str]:
    return {"PATH": f"{work}/bin:{PATH}", **more}


def script(work: Path, text: str) -> Path:
    path = work / "bin" / "kolla_extend_start"
    path.write_text(text)
    return path
