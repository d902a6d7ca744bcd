"""What must never change, whatever a hostile service has planted: and the service that plants it.

Used for this program and for upstream's alike.
"""

import os
import stat
from pathlib import Path
from typing import Any

from sandbox import Sandbox

SERVICE = "svc"
UID = 4321
LOG = "/var/log/kolla/svc"  # both belong to the service, in the plain layout
HOME = "/var/lib/svc"
SHARED = "/var/log/kolla"
NEIGHBOUR = f"{SHARED}/neighbour"  # in the shared one; its owner keeps it to itself
SECRET = "/etc/canary/secret"
OUTSIDE = "/srv/outside/file"
WATCHED = ("/etc/shadow", "/etc/canary", SECRET, "/srv/outside", OUTSIDE, "/etc/passwd", "/etc")


def furnish(box: Sandbox) -> None:
    """The service, what belongs to it, and the canaries."""
    box.adduser(SERVICE, UID, home=HOME)
    box.mkdir(LOG, owner=SERVICE)
    box.mkdir(HOME, owner=SERVICE)
    plant(box)


def furnish_shared(box: Sandbox) -> None:
    """The same in kolla-ansible's log volume: a third user's, and a group's that can write it."""
    for user in ("fluentd", "neighbour"):
        box.adduser(user, groups=["kolla"])
    box.adduser(SERVICE, UID, groups=["kolla"])
    box.mkdir(SHARED, mode=0o2775, owner="fluentd:kolla")
    for path in IN_SHARED:
        box.mkdir(path, mode=0o2775, owner=f"{SERVICE}:kolla")
    box.mkdir(NEIGHBOUR, mode=0o700, owner="neighbour")
    box.write(f"{NEIGHBOUR}/own.log", "the neighbour's own secret", "neighbour", 0o600)
    box.mkdir(f"{SHARED}/open", mode=0o2775, owner="neighbour:kolla")
    box.write(f"{SHARED}/open/own.log", "the neighbour's secret", "neighbour:neighbour", 0o600)
    box.write(f"{SHARED}/open/group.log", "for the group", "neighbour:kolla", 0o664)
    plant(box)


IN_SHARED = (LOG, f"{SHARED}/svc-home")
# As kolla-ansible's documents begin.
GIVEN: list[dict[str, Any]] = [
    {"path": SHARED, "owner": "fluentd:kolla", "perm": "2775"},
    *({"path": path, "owner": f"{SERVICE}:kolla", "perm": "2775"} for path in IN_SHARED),
]


def plant(box: Sandbox) -> None:
    """The canaries, and the source of the rest of the document."""
    box.mkdir("/etc/canary", mode=0o700)
    box.write(SECRET, "root's own secret", mode=0o600)
    box.write(OUTSIDE, "not the service's", mode=0o644)
    box.source("rest.conf", "the rest")


Canary = tuple[int, int, int, int, int, int, bytes | tuple[str, ...]]


def state(box: Sandbox, ctime: bool = True, more: tuple[str, ...] = ()) -> dict[str, Canary | None]:
    """Inode, owner, mode, times, and content (of a directory: its names) of each canary.

    None for one that is gone, or whose directory is.
    """
    found: dict[str, Canary | None] = {}
    for path in (*WATCHED, *more):
        host = box.host(path)
        try:
            status = os.lstat(host)
        except (FileNotFoundError, NotADirectoryError):
            found[path] = None
            continue
        content: bytes | tuple[str, ...]
        times = (status.st_mtime_ns, status.st_ctime_ns if ctime else 0)
        if stat.S_ISDIR(status.st_mode):
            content = tuple(sorted(os.listdir(host)))
            if path == "/etc":  # the document itself writes there
                times, content = (0, 0), ()
        else:
            content = Path(host).read_bytes()
        inode = 0 if path == "/etc" else status.st_ino  # copied up when first written to
        found[path] = (inode, status.st_uid, status.st_gid, status.st_mode, *times, content)
    return found
