"""Install the projects that a developer mounted under /dev-mode: kolla_install_projects.

On the container-start path: without /dev-mode it costs one system call. pip runs as root with an
environment of our own: a private index or a proxy belongs into the image's /etc/pip.conf.
"""

from __future__ import annotations

import stat

from kolla_start import errors, log
from kolla_start.disk import read, source, walk
from kolla_start.launch import service
from kolla_start.process import run

PROJECTS = "/dev-mode"
VENV = "/var/lib/kolla/venv"


def needed() -> bool:
    """Whether install() has something to do; in doubt, yes. Needs no privileges."""
    try:
        return bool(_projects())
    except OSError:
        return True


def _projects() -> list[str]:
    if not (_is_directory(PROJECTS) and _is_directory(VENV)):
        return []
    paths = [
        f"{PROJECTS}/{name}"
        for name in read.names(walk.resolve(PROJECTS, follow=True))
        if name[0] != "."
    ]
    return [path for path in paths if _is_directory(path)]


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(source.find(path).status.st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def install() -> None:
    """pip install -U each project into Kolla's virtual environment. Raises Failed."""
    try:
        for project in _projects():
            log.info(f"Installing {project} into {VENV}")
            code = _pip(project)
            if code:
                raise errors.Failed(f"{project}: pip failed with exit code {code}")
    except OSError as problem:
        raise errors.Failed(f"{problem.filename or VENV}: {problem.strerror}") from None


def _pip(project: str) -> int:
    environ = service.clean_environment()
    environ[b"PATH"] = f"{VENV}/bin:".encode() + environ[b"PATH"]
    environ[b"VIRTUAL_ENV"] = VENV.encode()
    program = f"{VENV}/bin/pip"
    try:
        return service.run([program, "install", "-U", project], environ, quiet=True)
    except OSError as problem:
        raise errors.Failed(f"{program}: {problem.strerror}") from None


def main() -> None:
    """Entry of kolla_install_projects."""
    run(_main)


def _main() -> int:
    install()
    return errors.EXIT_OK
