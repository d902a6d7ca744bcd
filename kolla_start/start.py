"""kolla_start: configure, trust CA certificates, drop privileges, exec the service.

On the container-start path. Three ways, by who runs it:

- root (the native way): everything in this process, then it becomes the service's user;
- another user, with sudo in the image (Kolla's way): the privileged steps through sudo;
- another user, without sudo (Kubernetes runAsNonRoot): everything as that user.
"""

from __future__ import annotations

import posix as os
import sys

from kolla_start import accounts, homes, kernel, log, records
from kolla_start.errors import EXIT_OK
from kolla_start.launch import cacerts, privileges, projects, service
from kolla_start.process import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> None:
    """Entry of kolla_start: does not return when all is well."""
    run(_start)


def _start() -> int:
    start(tuple(sys.argv[1:]))


def start(arguments: tuple[str, ...]) -> NoReturn:
    """Do what has to be done before the service, then become it.

    Raises Refused, Failed, or SystemExit with the code that a failed exec or step has.
    """
    environ = service.environment()
    service.umask(environ)  # that it is one is known before anything is changed
    user = None
    if os.geteuid() == 0:
        asked = _configure()
        cacerts.install()
        projects.install()
        user = kernel.variable("KOLLA_SERVICE_USER")
    elif service.can_sudo():
        asked = _through_sudo(environ)
    else:
        asked = _configure()
        if cacerts.needed():
            log.warning("CA certificates: to install them needs root, left out")
        if projects.needed():
            log.warning(f"{projects.PROJECTS}: to install projects needs root, left out")
    accounts.bring(None, None)  # what the document brought is in place
    account = privileges.drop(asked.user or user, asked.capabilities, asked.no_new_privileges)
    if account is not None:
        environ.update(account.environment())
    service.launch(asked.command, environ, arguments)


def _configure() -> records.Launch:
    from kolla_start import set_configs  # most of this program, and not for who goes through sudo

    return set_configs.configure(kernel.variable("KOLLA_CONFIG_STRATEGY"))


def _through_sudo(environ: dict[bytes, bytes]) -> records.Launch:
    _privileged("kolla_set_configs", environ, keep_environment=True)
    # Upstream asks sudo all three times; where there is surely nothing to do it is not asked.
    if cacerts.needed():
        _privileged("kolla_copy_cacerts", environ)
    if projects.needed():
        _privileged("kolla_install_projects", environ)
    return records.read_launch(homes.shared_home())


def _privileged(name: str, environ: dict[bytes, bytes], keep_environment: bool = False) -> None:
    code = service.run_privileged(name, environ, keep_environment)
    if code != EXIT_OK:
        raise SystemExit(code)
