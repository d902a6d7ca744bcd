"""Owner strings of a document to numeric ids.

On the container-start path. It asks the system's user and group databases (getpwnam(3),
getgrnam(3)) and nothing else.
"""

import grp
import os
import pwd

_LARGEST_ID = 2**32 - 2  # the next one means "leave it alone" to chown(2) and setresuid(2)

_known: dict[str, tuple[int, int]] = {}
_groups: dict[int, list[int]] = {}
_alone: dict[tuple[int, int], bool] = {}


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
        return _number(name, "user")


def _gid(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return _number(name, "group")


def _number(name: str, kind: str) -> int:
    if name.isascii() and name.isdigit() and int(name) <= _LARGEST_ID:
        return int(name)
    raise UnknownOwner(
        f"no {kind} {name!r} in this container; add it to the image, or name another"
    )


def alone(uid: int, gid: int) -> bool:
    """Whether a group is a user's own, and nobody else is in it."""
    found = _alone.get((uid, gid))
    if found is None:
        try:
            user, members = pwd.getpwuid(uid), grp.getgrgid(gid).gr_mem
            others = any(each.pw_gid == gid and each.pw_uid != uid for each in pwd.getpwall())
            found = user.pw_gid == gid and not set(members) - {user.pw_name} and not others
        except KeyError:
            found = False
        _alone[uid, gid] = found
    return found


def groups(uid: int) -> list[int]:
    """All groups of a user, as the databases have them; none of one that they do not know."""
    found = _groups.get(uid)
    if found is None:
        try:
            entry = pwd.getpwuid(uid)
            found = os.getgrouplist(entry.pw_name, entry.pw_gid)
        except KeyError:
            found = []
        _groups[uid] = found
    return found


class Account:
    """A service user: ids, all its groups, and what its environment says about it."""

    __slots__ = ("gid", "groups", "home", "name", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], name: str, home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.name = name
        self.home = home

    def environment(self) -> dict[bytes, bytes]:
        """What environ(7) says that a login sets."""
        name = os.fsencode(self.name)
        return {b"HOME": os.fsencode(self.home), b"USER": name, b"LOGNAME": name}


def resolve(spec: str) -> Account:
    """The account of `name`, `name:group`, `uid` or `uid:gid`.

    A number is a name first, as for chown(1), then an id. An id that the user database does not
    know needs its group beside it: the usual guess, group 0, would be root's.
    Raises UnknownOwner.
    """
    user, _, group = spec.partition(":")
    uid = _uid(user)
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            if not group:
                raise UnknownOwner(
                    "this container's user database does not know the id, so its group must be "
                    f'said: "{user}:GID"'
                ) from None
            gid = _gid(group)
            return Account(uid, gid, [gid], user, "/")
    gid = _gid(group) if group else entry.pw_gid
    groups = os.getgrouplist(entry.pw_name, gid)
    return Account(uid, gid, groups, entry.pw_name, entry.pw_dir or "/")


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
