"""This machine, as the tests use it: where things lie on it, and whether it can make a sandbox."""

import functools
import os
import sys
from pathlib import Path

import ownroot

TREE = Path(__file__).resolve().parent.parent.parent
CACHE = Path("/var/cache/kolla_start")
PYTHON = "/usr/bin/python3"  # Debian's, which is what an image has
VENV = "/opt/kolla_start"
CONFIG_FILES = "/var/lib/kolla/config_files"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KOLLA_GID = 42400


class Unusable(Exception):
    """This machine cannot make a sandbox; the message says why, for a person."""


def unusable() -> str | None:
    """Why this machine cannot make a sandbox, as far as it can be said without trying."""
    if sys.platform != "linux":
        return "the sandbox needs Linux namespaces"
    if os.geteuid() != 0:
        return "the sandbox needs root (mount namespaces, overlayfs): run as root"
    if not os.path.exists(PYTHON):
        return f"the sandbox needs the system's own Python, {PYTHON}"
    root = os.stat("/").st_dev
    for path in ("/etc", "/usr", "/var", "/opt"):
        if os.stat(path).st_dev != root:
            return f"the sandbox needs {path} on the filesystem of /, and it is a mount of its own"
    return None


@functools.cache
def settle() -> None:
    """In a chroot, whose root is no mount, nothing can be mounted over it: make it one, once."""
    try:
        ownroot.settle()
    except OSError as error:
        raise Unusable(f"no mount namespace on this machine: {error}") from error
