"""Become the service's user, for good, and prove it.

On the container-start path: os only. ctypes is imported where a start needs what the
os module cannot say: capabilities, no_new_privileges, or inheritable capabilities that an old
engine left behind.

Identities are changed here and nowhere else. It must not run anything as the old identity after
the change, and not return unless the kernel itself says that the change is complete
(credentials(7), capabilities(7)).
"""

from __future__ import annotations

import posix as os

from kolla_start import errors, kernel, log
from kolla_start.accounts import Account, UnknownOwner, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# linux/prctl.h, linux/capability.h
_PR_SET_KEEPCAPS = 8
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


def drop(
    user: str | None, capabilities: tuple[str, ...] = (), no_new_privileges: bool = False
) -> Account | None:
    """Become `user` (None: stay who we are) and keep these capabilities as ambient ones.

    Returns the account that the process now runs as, for its environment, or None where nobody
    was named or nothing had to change. For a service that stays root nothing is dropped, and
    `capabilities` is without effect, with a warning. A process that is not root can only confirm
    who it is. Raises Refused where the kernel does not allow it; the process must then end.
    """
    try:
        account = resolve(user) if user else None
    except UnknownOwner as error:
        raise errors.refuse(f"user {user!r}: {error}") from None
    own = os.geteuid()
    if own != 0:
        other_group = account and ":" in (user or "") and account.gid != os.getegid()
        if account and (account.uid != own or other_group):
            raise errors.refuse(
                f"user {user!r}: the container was started as uid {own} and cannot become uid "
                f"{account.uid}, gid {account.gid}; start it as root, or as that user"
            )
        if capabilities:
            keep = _mask(capabilities)
            _check_available(keep, capabilities)
            _allowed("keep capabilities", lambda: _keep(keep))
        account = None
    elif account and account.uid != 0:
        _become(account, capabilities)
    else:
        if capabilities:
            log.warning(
                "capabilities: without effect, the service stays root and keeps all that the "
                "container has; name its user"
            )
        if account and account.gid != 0:
            _set_groups(account)
    if no_new_privileges:
        _allowed("set no_new_privs", lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1))
    return account


def _become(account: Account, capabilities: tuple[str, ...]) -> None:
    keep = _mask(capabilities)
    _check_available(keep, capabilities)
    inheritable = int(status()["CapInh"][0], 16)
    if keep:
        _allowed("keep capabilities", lambda: _prctl(_PR_SET_KEEPCAPS, 1))
    # In this order: each step takes away the right to do the one before it.
    _set_groups(account)
    uid = account.uid
    _allowed("set the user", lambda: os.setresuid(uid, uid, uid), _IDS)
    if keep:
        _allowed("keep capabilities", lambda: _keep(keep))
        _allowed("keep capabilities", lambda: _prctl(_PR_SET_KEEPCAPS, 0))
    elif inheritable:
        # setuid leaves these; a file with capabilities could bring them back to life.
        _allowed("clear inheritable capabilities", lambda: _capset(0))
    _prove(account, keep)


def _prove(account: Account, keep: int) -> None:
    """Try to regain root, then read back every credential. Raises Refused if one is wrong."""
    _must_fail("become uid 0 again", lambda: os.setresuid(0, 0, 0))
    _must_fail("become uid 0 again", lambda: os.setresuid(-1, 0, -1))
    if account.gid != 0:
        _must_fail("become gid 0 again", lambda: os.setresgid(0, 0, 0))
    found = status()
    wanted = {
        "Uid": {str(account.uid)},
        "Gid": {str(account.gid)},
        "Groups": {str(gid) for gid in account.groups},
        "CapInh": {f"{keep:016x}"},
        "CapPrm": {f"{keep:016x}"},
        "CapEff": {f"{0:016x}"},  # becomes the ambient set at exec
        "CapAmb": {f"{keep:016x}"},
    }
    wrong = [key for key, values in wanted.items() if set(found.get(key, ())) != values]
    if wrong:
        raise errors.refuse(
            f"privileges were not dropped completely: {', '.join(wrong)} of /proc/self/status is "
            "not as asked; the service is not started"
        )


def _must_fail(what: str, step: Callable[[], None]) -> None:
    try:
        step()
    except PermissionError:
        return
    raise errors.refuse(f"privileges were not dropped: could {what}; the service is not started")


def status() -> dict[str, list[str]]:
    """The fields of /proc/self/status, each as its words (proc(5)). Raises Refused."""
    try:
        text = kernel.decode(kernel.read("/proc/self/status"))
    except OSError as error:
        raise errors.refuse(f"/proc/self/status: {error.strerror}; mount /proc") from None
    fields = [line.partition(":") for line in text.split("\n")]
    return {key: value.split() for key, _, value in fields}


def _allowed(what: str, step: Callable[[], None], hint: str = "") -> None:
    try:
        step()
    except OSError as error:
        raise errors.refuse(f"cannot {what} for the service: {error.strerror}{hint}") from None


_IDS = "; start the container with --cap-add SETUID --cap-add SETGID, or as the service's user"


def _set_groups(account: Account) -> None:
    _allowed("set the groups", lambda: os.setgroups(account.groups), _IDS)
    gid = account.gid
    _allowed("set the group", lambda: os.setresgid(gid, gid, gid), _IDS)


# --- capabilities: only for documents that ask for them ----------------------------------------


def _mask(capabilities: tuple[str, ...]) -> int:
    if not capabilities:
        return 0
    from kolla_start.document.rules import CAPABILITIES

    mask = 0
    for name in capabilities:
        mask |= 1 << CAPABILITIES.index(name.removeprefix("CAP_"))
    return mask


def _check_available(keep: int, capabilities: tuple[str, ...]) -> None:
    if not keep:
        return
    found = status()
    have = int(found["CapPrm"][0], 16) & int(found["CapBnd"][0], 16)
    missing = [name for name in capabilities if not _mask((name,)) & have]
    if missing:
        options = " ".join(f"--cap-add {name.removeprefix('CAP_')}" for name in missing)
        raise errors.refuse(
            f"capabilities: the container does not have {', '.join(missing)}; start it as root "
            f"with {options}"
        )


def _keep(mask: int) -> None:
    _capset(mask)
    for number in range(mask.bit_length()):
        if mask >> number & 1:
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def _capset(mask: int) -> None:
    """Permitted and inheritable to this mask, effective to nothing (capset(2))."""
    import ctypes

    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (ctypes.c_uint32 * 6)(0, low, low, 0, high, high)
    if ctypes.CDLL(None, use_errno=True).capset(header, data) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _prctl(option: int, *arguments: int) -> None:
    """prctl(2); raises OSError."""
    import ctypes

    # All five, as unsigned long: the kernel insists on zeros in those that are not used.
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if ctypes.CDLL(None, use_errno=True).prctl(option, *values) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
