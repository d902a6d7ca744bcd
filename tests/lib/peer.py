"""The programs that this one replaces, from PyPI as they are: where they lie, how to run them.

`kolla` brings set_configs.py, start.sh and copy_cacerts.sh, `kolla-ansible` the templates of
config.json and the container worker; both are unpacked wheels (peers.txt says which, peers.py
puts them there; KOLLA_START_PEERS names another directory of them). Nothing of theirs is changed
here: set_configs.py runs from its own source as `__main__`. To run it some ten thousand times it
is not started with an interpreter of its own (0.1 s each) but in a fork of this process, which has
imported what it imports; the fork enters the sandbox as any command does.
"""

import gc
import glob
import importlib.util
import io
import logging
import os
import pwd
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import CodeType

import peers
import yaml
from sandbox import CLONE_NEWNS, CLONE_NEWPID, PATH, Sandbox, setns

# What set_configs.py imports and this module does not need.
_WARM = (glob, pwd, shutil, yaml)


PEERS = Path(os.environ.get("KOLLA_START_PEERS") or peers.INSTALLED)


def missing(*more: str) -> str | None:
    """Why the peers cannot be run, or None."""
    for name in peers.DATA:
        if not _unpacked(name):
            return f"no {name} in {PEERS}: run tests/setup.sh test"
    for package in ("jinja2", *more):
        if importlib.util.find_spec(package) is None:
            return f"no package {package}: run tests/setup.sh test"
    return None


def _unpacked(name: str) -> dict[str, Path]:
    """The versions of a peer that are there, the oldest first, and where."""
    found = [
        (path.name.removeprefix(f"{name}-"), path)
        for path in PEERS.glob(f"{name}-*")
        if path.name.removeprefix(f"{name}-")[0].isdigit()
    ]
    found.sort(key=lambda item: [int(part) for part in item[0].split(".")])
    return dict(found)


@cache
def base() -> Path:
    """The directory of upstream's scripts."""
    return list(_unpacked("kolla").values())[-1] / "kolla/docker/base"


@cache
def ansibles() -> dict[str, Path]:
    """kolla-ansible's data (roles, modules) by version, the oldest first."""
    return {
        version: next(path.glob("*.data")) / "data/share/kolla-ansible/ansible"
        for version, path in _unpacked("kolla-ansible").items()
    }


@cache
def _program() -> CodeType:
    path = base() / "set_configs.py"
    program: CodeType = compile(path.read_text(), str(path), "exec")
    return program


def install(box: Sandbox, interpreter: str) -> None:
    """Upstream's commands under their own names, over ours; needs a Python that has PyYAML."""
    source = (base() / "set_configs.py").read_text().split("\n", 1)[1]
    box.write("/usr/local/bin/kolla_set_configs", f"#!{interpreter}\n{source}", mode=0o755)
    for name, command in (
        ("start.sh", "kolla_start"),
        ("copy_cacerts.sh", "kolla_copy_cacerts"),
        ("install_projects.sh", "kolla_install_projects"),
    ):
        box.write(f"/usr/local/bin/{command}", (base() / name).read_bytes(), mode=0o755)


def service_user(box: Sandbox) -> None:
    """The user nova as a Kolla image has it: in the group kolla, for which sudo has rules."""
    box.adduser("nova", groups=["kolla"])
    # sudo asks PAM whether the account is good, and that wants to see it in shadow(5).
    box.write("/etc/shadow", box.read("/etc/shadow") + "nova:*:20000::::::\n", mode=0o640)
    box.mkdir("/var/lib/nova", owner="nova")
    box.write("/etc/sudoers", (base() / "sudoers").read_bytes(), mode=0o440)


def set_configs(box: Sandbox, *argv: str, strategy: str = "COPY_ALWAYS") -> tuple[int, str]:
    """kolla_set_configs ARGV... of upstream, inside the sandbox as root: exit code and log."""
    program = _program()
    return inside(box, lambda: _main(program), argv, strategy)


def inside(
    box: Sandbox, main: Callable[[], int], argv: Sequence[str], strategy: str
) -> tuple[int, str]:
    """A command's main() in a fork of this process that has entered the sandbox."""
    ready, said = os.pipe()
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    mnt, pid, _, root = box.namespaces
    setns(pid, CLONE_NEWPID)  # of the child, not of this process
    child = os.fork()
    if child == 0:
        code = 70
        try:
            gc.disable()  # a collection would copy this process's memory page by page
            sys.dont_write_bytecode = True  # it would be among what the run changed
            os.dup2(said, 1)
            os.dup2(said, 2)
            setns(mnt, CLONE_NEWNS)
            os.fchdir(root)
            os.chroot(".")
            os.closerange(3, 256)
            os.umask(0o022)
            os.environ.clear()
            os.environ.update(PATH=PATH, HOME="/root", KOLLA_CONFIG_STRATEGY=strategy)
            sys.argv = ["kolla_set_configs", *argv]
            code = main()
        except BaseException:
            logging.exception("the command could not be run")
        finally:
            os._exit(code)
    setns(own, CLONE_NEWPID)
    os.close(own)
    os.close(said)
    with open(ready, encoding="utf-8", errors="replace") as stream:
        log = stream.read()
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), log


def _main(program: CodeType) -> int:
    sys.stdout = sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), line_buffering=True
    )
    logging.root.handlers.clear()  # the test runner's; upstream sets up its own
    try:
        exec(program, {"__name__": "__main__"})
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0
