"""Our program as an image has it: a source tree, installed at VENV and kept in CACHE.

Two parts, so that an edit costs a copy and not a pip run: a virtual environment with the
dependencies, and the package with its launchers. Both are built inside a sandbox, at the paths
they will have.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from bare import Bare
from machine import CACHE, PYTHON, TREE, VENV, Unusable, unusable


@dataclass(frozen=True, slots=True)
class Program:
    """Directories in the cache, mounted into each sandbox."""

    venv: Path
    package: Path
    launchers: Path


_built: dict[Path, Program] = {}


def package() -> str:
    """Where the package lies inside."""
    version = os.path.basename(os.path.realpath(PYTHON))  # python3.11
    return f"{VENV}/lib/{version}/site-packages/kolla_start"


def program(tree: Path = TREE) -> Program:
    """The program of a source tree, built if that has changed."""
    # Once for each process: a sandbox must not change in the middle of a test session.
    if tree in _built:
        return _built[tree]
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    needs = list(project["dependencies"])
    base = f"{os.path.realpath(PYTHON)} {_python_version()} {needs}"
    sources = sorted(
        path for path in (tree / "kolla_start").rglob("*") if path.suffix in (".py", ".typed")
    )
    content = hashlib.sha256(base.encode())
    for path in sources:
        content.update(str(path.relative_to(tree)).encode() + b"\0" + path.read_bytes() + b"\0")
    venv = CACHE / f"venv-{_short(base.encode())}"
    found = CACHE / f"program-{content.hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not venv.is_dir():
            _build_venv(venv, needs)
        if not found.is_dir():
            _build_program(found, venv, tree, sources)
        os.utime(found)
        for old in CACHE.glob("program-*"):
            if time.time() - old.stat().st_mtime > 86400:
                shutil.rmtree(old, ignore_errors=True)
    _built[tree] = Program(venv, found / "package", found / "bin")
    return _built[tree]


def _build_venv(venv: Path, needs: list[str]) -> None:
    unfinished = venv.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    outside = {name: value for name, value in os.environ.items() if name != "HOME"}
    with Bare(binds=[(str(unfinished), VENV, False)]) as box:
        for argv in (
            [PYTHON, "-m", "venv", VENV],
            [f"{VENV}/bin/pip", "install", "-q", "--compile", *needs],
            [f"{VENV}/bin/pip", "uninstall", "-q", "-y", "setuptools", "pip"],
            ["mkdir", package()],
        ):
            done = box.run(argv, env=outside, timeout=600)
            if done.returncode:
                raise Unusable(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
    unfinished.rename(venv)


def _build_program(place: Path, venv: Path, tree: Path, sources: list[Path]) -> None:
    unfinished = place.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "package").mkdir(parents=True)
    (unfinished / "bin").mkdir()
    for path in sources:
        copy = unfinished / "package" / path.relative_to(tree / "kolla_start")
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
    binds = [(str(venv), VENV, True), (str(unfinished / "package"), package(), False)]
    with Bare(binds=binds) as box:
        python = f"{VENV}/bin/python"
        box.run([python, "-I", "-m", "compileall", "-q", package()], check=True)
        # What writes the commands had another name before the rooms.
        module = "install" if (tree / "kolla_start/install.py").exists() else "commands"
        install = [python, "-I", "-m", f"kolla_start.{module}", "--into", "/usr/local/bin"]
        box.run(install, check=True)
        for made, change in box.changes().items():
            if change.kind == "file" and made.startswith("/usr/local/bin/"):
                launcher = unfinished / "bin" / os.path.basename(made)
                launcher.write_bytes(box.read_bytes(made))
    unfinished.rename(place)


def _python_version() -> str:
    return subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=True
    ).stdout.strip()


def _short(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]


if __name__ == "__main__":
    try:
        if problem := unusable():
            raise Unusable(problem)
        program()
    except Unusable as reason:
        print(f"setup: no sandboxes here: {reason}")
