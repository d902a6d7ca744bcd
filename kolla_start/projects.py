"""Install the projects that a developer mounted under /dev-mode: kolla_install_projects.

On the container-start path: without /dev-mode it costs one system call. pip runs as root with an
environment of our own: a private index or a proxy belongs into the image's /etc/pip.conf.
"""

import os

from kolla_start import cacerts, errors, log
from kolla_start.entry import run

PROJECTS = "/dev-mode"
VENV = "/var/lib/kolla/venv"


def needed() -> bool:
    """Whether install() has something to do; in doubt, yes. Needs no privileges."""
    try:
        return bool(_projects())
    except OSError:
        return True


def _projects() -> list[str]:
    if not (os.path.isdir(PROJECTS) and os.path.isdir(VENV)):
        return []
    paths = [f"{PROJECTS}/{name}" for name in sorted(os.listdir(PROJECTS)) if name[0] != "."]
    return [path for path in paths if os.path.isdir(path)]


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
    from kolla_start import launch

    environ = cacerts.clean_environment()
    environ[b"PATH"] = os.fsencode(f"{VENV}/bin:") + environ[b"PATH"]
    environ[b"VIRTUAL_ENV"] = os.fsencode(VENV)
    program = f"{VENV}/bin/pip"
    try:
        return launch.run([program, "install", "-U", project], environ, quiet=True)
    except OSError as problem:
        raise errors.Failed(f"{program}: {problem.strerror}") from None


def main() -> None:
    """Entry of kolla_install_projects."""
    run(_main)


def _main() -> int:
    install()
    return errors.EXIT_OK
