"""Owner strings of a document to numeric ids, and whether files can be given to them.

On the container-start path. It asks the system's user and group databases (getpwnam(3),
getgrnam(3)), and before them the passwd and group files that a start is about to install, if it
does: a document may name a user that it brings itself. It changes nothing.
"""

from __future__ import annotations

import grp
import posix as os
import pwd

from kolla_start import kernel

_LARGEST_ID = 2**32 - 2  # the next one means "leave it alone" to chown(2) and setresuid(2)

# linux/capability.h
_CAP_CHOWN = 0
_CAP_FOWNER = 3
_CAP_FSETID = 4


class UnknownOwner(Exception):
    """The message says which name the container does not know and what to do."""


class _User:
    """What getpwnam(3) says of a user, as far as it is needed here."""

    __slots__ = ("gid", "home", "name", "uid")

    def __init__(self, name: str, uid: int, gid: int, home: str) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.home = home


class _Databases:
    """The user and group databases, with what has been asked of them; see bring()."""

    __slots__ = ("_alone", "_gids", "_groups", "_ids", "_members", "_named", "_numbers", "_users")

    def __init__(self, passwd: bytes | None, group: bytes | None) -> None:
        self._users = None if passwd is None else _users(passwd)
        self._numbers: dict[str, int] = {}  # group names that are brought
        self._members: list[tuple[int, list[str]]] | None = None
        if group is not None:
            self._numbers, self._members = _read_groups(group)
        self._ids: dict[str, tuple[int, int]] = {}
        self._named: dict[str, _User | None] = {}
        self._gids: dict[str, int | None] = {}
        self._groups: dict[int, list[int]] = {}
        self._alone: dict[tuple[int, int], bool] = {}

    def user(self, name: str) -> _User | None:
        if name not in self._named:
            self._named[name] = self._find_user(name)
        return self._named[name]

    def _find_user(self, name: str) -> _User | None:
        if self._users is not None:
            return next((one for one in self._users if one.name == name), None)
        try:
            return _user(pwd.getpwnam(name))
        except (KeyError, ValueError):  # ValueError: a name that no file can hold
            return None

    def user_of(self, uid: int) -> _User | None:
        if self._users is not None:
            return next((one for one in self._users if one.uid == uid), None)
        try:
            return _user(pwd.getpwuid(uid))
        except (KeyError, OverflowError):
            return None

    def group(self, name: str) -> int | None:
        if self._members is not None:
            return self._numbers.get(name)
        if name not in self._gids:
            try:
                self._gids[name] = grp.getgrnam(name).gr_gid
            except (KeyError, ValueError):
                self._gids[name] = None
        return self._gids[name]

    def ids(self, owner: str) -> tuple[int, int]:
        found = self._ids.get(owner)
        if found is None:
            user, _, group = owner.partition(":")
            found = self._ids[owner] = (self.uid(user), self.gid(group or user))
        return found

    def uid(self, name: str) -> int:
        user = self.user(name)
        return _number(name, "user") if user is None else user.uid

    def gid(self, name: str) -> int:
        number = self.group(name)
        return _number(name, "group") if number is None else number

    def groups_of(self, user: _User, gid: int) -> list[int]:
        if self._members is None:
            return os.getgrouplist(user.name, gid)
        return [gid, *(number for number, names in self._members if user.name in names)]

    def groups(self, uid: int) -> list[int]:
        found = self._groups.get(uid)
        if found is None:
            user = self.user_of(uid)
            found = [] if user is None else self.groups_of(user, user.gid)
            self._groups[uid] = found
        return found

    def alone(self, uid: int, gid: int) -> bool:
        found = self._alone.get((uid, gid))
        if found is None:
            found = self._alone[uid, gid] = self._is_alone(uid, gid)
        return found

    def _is_alone(self, uid: int, gid: int) -> bool:
        user = self.user_of(uid)
        if user is None or user.gid != gid:
            return False
        members = self._members_of(gid)
        if members is None or set(members) - {user.name}:
            return False
        users = map(_user, pwd.getpwall()) if self._users is None else self._users
        return not any(each.gid == gid and each.uid != uid for each in users)

    def _members_of(self, gid: int) -> list[str] | None:
        """The names in a group's entry, whoever has it; None where there is none."""
        if self._members is None:
            try:
                return grp.getgrgid(gid).gr_mem
            except (KeyError, OverflowError):
                return None
        found = [names for number, names in self._members if number == gid]
        return [name for names in found for name in names] if found else None


def _user(entry: pwd.struct_passwd) -> _User:
    return _User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def _number(name: str, kind: str) -> int:
    if name.isascii() and name.isdigit() and int(name) <= _LARGEST_ID:
        return int(name)
    raise UnknownOwner(
        f"no {kind} {name!r} in this container; add it to the image, or name another"
    )


def _users(passwd: bytes) -> list[_User]:
    """The entries of a file as passwd(5) describes it; lines that are none count for nothing."""
    found = []
    for fields in _fields(passwd, 4):
        if _is_id(fields[2]) and _is_id(fields[3]):
            home = fields[5] if len(fields) > 5 else ""
            found.append(_User(fields[0], int(fields[2]), int(fields[3]), home))
    return found


def _read_groups(group: bytes) -> tuple[dict[str, int], list[tuple[int, list[str]]]]:
    """Names, and members by number, of a file as group(5) describes it."""
    numbers: dict[str, int] = {}
    members = []
    for fields in _fields(group, 3):
        if _is_id(fields[2]):
            numbers.setdefault(fields[0], int(fields[2]))
            names = fields[3].split(",") if len(fields) > 3 else []
            members.append((int(fields[2]), [name for name in names if name]))
    return numbers, members


def _fields(content: bytes, least: int) -> list[list[str]]:
    # split("\n"), not splitlines(): only a line feed ends an entry.
    lines = kernel.decode(content).split("\n")
    entries = [line.split(":") for line in map(str.strip, lines) if line[:1] not in ("", "#")]
    return [fields for fields in entries if len(fields) >= least and fields[0]]


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= _LARGEST_ID


_databases = _Databases(None, None)


def bring(passwd: bytes | None, group: bytes | None) -> None:
    """Ask these contents of /etc/passwd and /etc/group in place of the system's databases.

    They are what a start is about to install; None for what it does not. Once they are in place
    bring(None, None) leaves the word to the system alone.
    """
    global _databases
    # A new object: nothing that was answered before can be taken for an answer now.
    _databases = _Databases(passwd, group)


def ids(owner: str) -> tuple[int, int]:
    """(uid, gid) of `user`, `user:` (both mean user:user), `user:group`, or numeric ids.

    A number is a name first, as for chown(1), then an id; a number alone names the group too.
    Raises UnknownOwner.
    """
    return _databases.ids(owner)


def alone(uid: int, gid: int) -> bool:
    """Whether a group is a user's own, and nobody else is in it."""
    return _databases.alone(uid, gid)


def groups(uid: int) -> list[int]:
    """All groups of a user, as the databases have them; none of one that they do not know."""
    return _databases.groups(uid)


def knows(uid: int) -> bool:
    """Whether the user database has a name for this id."""
    return _databases.user_of(uid) is not None


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
        name = kernel.encode(self.name)
        return {b"HOME": kernel.encode(self.home), b"USER": name, b"LOGNAME": name}


def resolve(spec: str) -> Account:
    """The account of `name`, `name:group`, `uid` or `uid:gid`.

    A number is a name first, as for chown(1), then an id. An id that the user database does not
    know needs its group beside it: the usual guess, group 0, would be root's.
    Raises UnknownOwner.
    """
    name, _, group = spec.partition(":")
    user = _databases.user(name)
    if user is None:
        uid = _number(name, "user")
        user = _databases.user_of(uid)
        if user is None:
            if not group:
                raise UnknownOwner(
                    "this container's user database does not know the id, so its group must be "
                    f'said: "{name}:GID"'
                )
            gid = _databases.gid(group)
            return Account(uid, gid, [gid], name, "/")
    gid = _databases.gid(group) if group else user.gid
    found = _databases.groups_of(user, gid)
    return Account(user.uid, gid, found, user.name, user.home or "/")


# --- giving files away -------------------------------------------------------------------------


def cannot_be(uid: int, gid: int) -> str | None:
    """Why a process that is not root cannot give files to these ids, or None (chown(2))."""
    own = os.geteuid()
    if own == 0:
        return None
    if uid != own:
        user = _databases.user_of(own)
        return (
            f"uid {own} cannot give files to uid {uid}; start the container as root, or name "
            f"{user.name if user else str(own)!r} as the owner"
        )
    if not _own_group(gid):
        return f"uid {own} is not in group {gid}; name one of its own groups"
    return None


def may_give(uid: int, gid: int) -> str | None:
    """Why this process cannot give a file these ids, or None if it can.

    chown(2), chmod(2), capabilities(7), user_namespaces(7). Raises OSError where /proc does not
    say what the process may do.
    """
    own = os.geteuid()
    if own != 0:
        return cannot_be(uid, gid)
    if uid == own and _own_group(gid):
        return None
    problem = not_mapped(uid, [gid])
    if problem is not None:
        return problem
    needed = [(_CAP_CHOWN, "CHOWN", f"give files to {uid}:{gid}")]
    if uid != own:
        needed.append((_CAP_FOWNER, "FOWNER", f"set the mode of what belongs to uid {uid}"))
    for number, name, what in needed:
        if not capable(number):
            return f"root cannot {what} here; start the container with --cap-add {name}"
    return None


def may_set_group_id(gid: int) -> bool:
    """Whether this process can set the set-group-id bit on what belongs to a group.

    Else the kernel clears it and says nothing, chmod(2). Raises as may_give().
    """
    return _own_group(gid) or capable(_CAP_FSETID)


def not_mapped(uid: int, gids: list[int]) -> str | None:
    """Which of these ids this user namespace does not have, or None (user_namespaces(7))."""
    for kind, number in (("uid", uid), *(("gid", gid) for gid in gids)):
        if not _mapped(kind, number):
            return (
                f"{kind} {number} does not exist in this container's user namespace; map it (the "
                "engine's --userns, /etc/subuid and /etc/subgid), or name another owner"
            )
    return None


def _own_group(gid: int) -> bool:
    return gid == os.getegid() or gid in os.getgroups()


_seen: dict[str, bytes] = {}  # a process keeps its namespace, and until it drops it what it may


def capable(number: int) -> bool:
    """Whether this process has a capability, linux/capability.h."""
    return bool(_capabilities() >> number & 1)


def _capabilities() -> int:
    """The effective set."""
    line = _kernel("/proc/self/status").partition(b"\nCapEff:")[2].partition(b"\n")[0]
    return int(line, 16)


def _mapped(kind: str, number: int) -> bool:
    """Whether the user namespace has this uid or gid."""
    table = [[int(word) for word in line.split()] for line in _map(kind).splitlines()]
    return any(first <= number < first + count for first, _, count in table)


def _map(kind: str) -> bytes:
    try:
        return _kernel(f"/proc/self/{kind}_map")
    except FileNotFoundError:
        return b"0 0 4294967295"  # a kernel without user namespaces


def _kernel(path: str) -> bytes:
    found = _seen.get(path)
    if found is None:
        found = _seen[path] = kernel.read(path)
    return found
