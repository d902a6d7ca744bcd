"""What only a neighbour in the shared log directory can plant."""

import stat
from collections.abc import Callable
from typing import Any

from canary import IN_SHARED, NEIGHBOUR, SECRET, SERVICE, SHARED, UID
from plants import (
    NULL_DEVICE,
    Plant,
    Situation,
    both,
    copy,
    directory,
    file,
    hard_link,
    inside,
    link,
    node,
    owner,
)
from sandbox import Sandbox


def _named(path: str, owner: str = f"{SERVICE}:kolla") -> dict[str, Any]:
    """As kolla-ansible's documents end: `permissions` for what has the name of a log."""
    return {"permissions": [{"path": path, "owner": owner, "perm": "0664"}]}


def _moved(what: str, to: str) -> Plant:
    """What any member of the group can do in the shared directory."""
    return lambda box: box.run(["mv", "-T", what, to], user=SERVICE, check=True)


def _gives(path: str, mode: int = 0o664) -> Callable[[Sandbox], object]:
    def after(box: Sandbox) -> None:
        status = box.stat(path)
        assert (status.st_uid, status.st_mode & 0o7777) == (UID, mode)

    return after


def shared_situations() -> dict[str, Situation]:
    log = IN_SHARED[0]
    private, readable = f"{NEIGHBOUR}/own.log", f"{SHARED}/open/group.log"
    taken = inside(f"rmdir {log}; mv -T {NEIGHBOUR} {log}")
    own, foreign = f"{log}/own.log", "and lies where others can write"
    return {
        "the neighbour's directory in the service's place": Situation(
            taken, _named(f"{log}/*.log"), 1, message=foreign, watched=(log, own)),
        "the same, not named in it": Situation(taken, {}, 1, message=foreign, watched=(log, own)),
        "the neighbour's directory, recursive": Situation(
            taken, owner(log, recurse=True), 1, message=foreign, watched=(log, own)),
        "the same for a file that is to be made": Situation(
            taken, {"files": [{"path": own, "owner": SERVICE, "perm": "0664"}]}, 1,
            message="have moved it there", watched=(log, own)),
        "the same for a file that is to be copied": Situation(
            taken, copy(f"{log}/conf"), 1, message=foreign, watched=(log, own)),
        "the directory's owner's own in the service's place": Situation(
            inside(f"rmdir {log}; mkdir -m 700 {log}; chown fluentd {log}"),
            _named(f"{log}/*.log"), 1, message=foreign, watched=(log,)),
        "the neighbour's log": Situation(
            _moved(f"{SHARED}/open/own.log", own), _named(f"{log}/*.log"), message=foreign,
            watched=(own,)),
        "the neighbour's log in a directory that the service has closed to all others": Situation(
            both(_moved(f"{SHARED}/open/own.log", own),
                 lambda box: box.chmod(log, 0o755)),
            _named(f"{log}/*.log"), message=foreign, watched=(own,)),
        "the same, recursive": Situation(
            both(_moved(f"{SHARED}/open/own.log", own), lambda box: box.chmod(log, 0o700)),
            owner(log, recurse=True), message=foreign, watched=(own,)),
        "the neighbour's directory that all can read, private logs in it": Situation(
            inside(f"chmod 755 {NEIGHBOUR}; mkdir -m 755 {NEIGHBOUR}/sub; "
                   f"install -o neighbour -m 600 /dev/null {NEIGHBOUR}/sub/a.log; "
                   f"chown neighbour {NEIGHBOUR}/sub; rmdir {log}; mv -T {NEIGHBOUR} {log}"),
            owner(log, recurse=True), message=foreign, watched=(own, f"{log}/sub/a.log")),
        "what the service may not have, and what is in it": Situation(
            both(directory(f"{log}/d", by="neighbour", mode=0o700),
                 file(f"{log}/d/readable", by="neighbour"),
                 directory(f"{log}/d/e", by="neighbour")),
            owner(log, recurse=True), message=foreign,
            watched=(f"{log}/d", f"{log}/d/readable", f"{log}/d/e")),
        "the neighbour's log, recursive": Situation(
            _moved(f"{SHARED}/open/own.log", own), owner(log, recurse=True), message=foreign,
            watched=(own,)),
        "the neighbour's log as a file that is to be made": Situation(
            _moved(f"{SHARED}/open/own.log", own),
            {"files": [{"path": own, "owner": SERVICE, "perm": "0664"}]}, 1, message=foreign,
            watched=(own,)),
        "the neighbour's shared log under a second name": Situation(
            inside(f"ln {readable} {own}"), _named(f"{log}/*.log"), message="hard links",
            watched=(own, readable)),
        "the neighbour's log under a second name": Situation(
            inside(f"ln {private} {own}"), _named(f"{log}/*.log"), message="hard links",
            watched=(own, private)),
        "root's file under a second name, in the shared directory itself": Situation(
            hard_link(f"{SHARED}/root.log", "/etc/canary/secret"), _named(f"{SHARED}/*.log"),
            message="hard links"),
        "a link as log": Situation(link(SECRET, own), _named(f"{log}/*.log")),
        "a link as log, in the shared directory itself": Situation(
            link(SECRET, f"{SHARED}/link.log"), _named(f"{SHARED}/*.log")),
        "root's link as log": Situation(
            lambda box: box.symlink(SECRET, own), _named(f"{log}/*.log")),
        "a link in the service's place": Situation(
            inside(f"rmdir {log}; ln -s /etc/canary {log}"), _named(f"{log}/*"), 1, message="link"),
        "a link in the place of the shared directory": Situation(
            inside(f"mv {SHARED} {SHARED}.old; ln -s /etc/canary {SHARED}; chown -h svc {SHARED}"),
            _named(f"{SHARED}/*"), 1, message="link"),
        "a fifo, a socket and a device as logs": Situation(
            both(node(stat.S_IFIFO, own), node(stat.S_IFSOCK, f"{log}/b.log"),
                 node(stat.S_IFCHR, f"{log}/c.log", NULL_DEVICE)), _named(f"{log}/*.log")),
        # and what is to be given all the same
        "a log that a command of root's has left": Situation(
            lambda box: box.write(own, "x", mode=0o600), _named(f"{log}/*.log"), after=_gives(own)),
        "a directory that a command of root's has left": Situation(
            inside(f"rmdir {log}; mkdir -m 755 {log}"), _named(f"{log}/*.log"),
            after=_gives(log, 0o2775)),
        "another user's directory and log, to be read by all": Situation(
            inside(f"rmdir {log}; mkdir -m 755 {log}; chown neighbour {log}; "
                   f"install -o neighbour -m 640 /dev/null {own}"),
            _named(f"{log}/*.log"), after=both(_gives(log, 0o2775), _gives(own))),
        "another user's log, to be read by the group": Situation(
            inside(f"install -o neighbour -g kolla -m 640 /dev/null {own}"),
            _named(f"{log}/*.log"), after=_gives(own)),
    }  # fmt: skip
