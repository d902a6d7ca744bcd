"""Owner strings of a document to numeric ids.

On the container-start path. It asks the system's user and group databases (getpwnam(3),
getgrnam(3)) and nothing else.
"""

import grp
import os
import pwd

_known: dict[str, tuple[int, int]] = {}


class UnknownOwner(Exception):
    """The message says which name the container does not know and what to do."""


def ids(owner: str) -> tuple[int, int]:
    """(uid, gid) of `user`, `user:` (both mean user:user), `user:group`, or numeric ids.

    A number is a name first, as for chown(1), then an id; a number alone names the group too.
    Raises UnknownOwner.
    """
    found = _known.get(owner)
    if found is None:
        user, _, group = owner.partition(":")
        found = _known[owner] = (_uid(user), _gid(group or user))
    return found


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return _number(name, f"no user {name!r} in this container; add it to the image")


def _gid(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return _number(name, f"no group {name!r} in this container; add it to the image")


def _number(name: str, message: str) -> int:
    # 2**32 - 1 means "leave it alone" to chown(2): never an owner.
    if name.isascii() and name.isdigit() and int(name) < 2**32 - 1:
        return int(name)
    raise UnknownOwner(f"{message}, or name another owner")


def cannot_be(uid: int, gid: int) -> str | None:
    """Why this process cannot give files to these ids (chown(2)), or None if it can."""
    own = os.geteuid()
    if own == 0:
        return None
    if uid != own:
        return (
            f"uid {own} cannot give files to uid {uid}; start the container as root, or name "
            f"{_name(own)!r} as the owner"
        )
    if gid != os.getegid() and gid not in os.getgroups():
        return f"uid {own} is not in group {gid}; name one of its own groups"
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
