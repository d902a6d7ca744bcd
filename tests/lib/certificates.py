"""A sandbox with CA certificates to install, and an update command that counts its runs."""

import os
from collections.abc import Mapping

from launched import OPTIONS, TREE, Done
from sandbox import Sandbox

MOUNTED = "/var/lib/kolla/config_files/ca-certificates"
COPIED = "/var/lib/kolla/share/ca-certificates"
ANCHORS = "/usr/local/share/ca-certificates"
PENDING = "/etc/kolla/cacerts-pending"

# Counts its runs and says what it was given; stands in for the system's, which takes 0.6 s.
UPDATE = """#!/bin/sh
echo "update ran"
env > /update-environment
echo run >> /updates
[ ! -e /update-fails ]
"""


_IMPORT = f"import sys; sys.path.append({str(TREE)!r})\nfrom kolla_start.launch import cacerts\n"
COPY_CACERTS = f"{_IMPORT}sys.exit(cacerts.main())"


class Certificates:
    """A sandbox with a counting update command."""

    def __init__(self, box: Sandbox, red_hat: bool = False) -> None:
        self.box = box
        self.anchors = "/etc/pki/ca-trust/source/anchors" if red_hat else ANCHORS
        if red_hat:
            box.remove("/etc/debian_version")
            box.write("/etc/redhat-release", "Rocky Linux\n")
            box.mkdir(self.anchors)
            box.write("/usr/bin/update-ca-trust", UPDATE, mode=0o755)
        else:
            box.mkdir(self.anchors)
            box.write("/usr/sbin/update-ca-certificates", UPDATE, mode=0o755)
        for name in os.listdir(box.host(self.anchors)):
            box.remove(f"{self.anchors}/{name}")

    def copy(self, user: str | None = None, env: Mapping[str, str] | None = None) -> Done:
        return self.call("cacerts.main()", user, env)

    def call(
        self, what: str, user: str | None = None, env: Mapping[str, str] | None = None
    ) -> Done:
        code = (
            f"import sys; sys.path.append({str(TREE)!r})\nfrom kolla_start.launch import cacerts\n"
        )
        argv = ["/usr/bin/python3", OPTIONS, "-c", f"{code}sys.exit({what})"]
        return self.box.run(argv, user=user, env=env)

    def needed(self) -> bool:
        """What the service user's check says."""
        return self.call("cacerts.needed()", user="nobody").returncode == 1

    def updates(self) -> int:
        return self.box.read("/updates").count("run") if self.box.exists("/updates") else 0

    def installed(self) -> dict[str, str]:
        names = sorted(os.listdir(self.box.host(self.anchors)))
        return {name: self.box.read(f"{self.anchors}/{name}") for name in names}
