"""The interpreters of this machine that a start can run under, for what differs between them."""

import glob
import os
import shutil
import subprocess
from functools import cache

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")


@cache
def installed() -> dict[str, str]:
    """An interpreter for each version that is there: on PATH, or where pyenv keeps them."""
    found = {}
    for version in VERSIONS:
        root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
        places = [
            f"/usr/bin/python{version}",  # the distribution's first: it is what images have
            shutil.which(f"python{version}") or "",
            *sorted(glob.glob(f"{root}/versions/{version}.*/bin/python{version}")),
        ]
        for place in places:
            if place and os.path.exists(place) and _version(place) == version:
                found[version] = place
                break
    return found


def _version(interpreter: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run(
        [interpreter, "-IS", "-c", code], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def said() -> str:
    """Which are there and which are not, for the test's output."""
    there = ", ".join(f"{version} ({place})" for version, place in installed().items())
    missing = ", ".join(version for version in VERSIONS if version not in installed())
    return f"{there}; not installed: {missing or 'none'}"
