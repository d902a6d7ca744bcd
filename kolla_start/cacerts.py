"""Trust the operator's CA certificates: kolla_copy_cacerts, and a step of a start as root.

On the container-start path: where nothing changed it costs a few system calls and no process; the
system's update command takes half a second.

What is installed is decided by comparing bytes, never by a record. One record says that an update
command is still to be run: it is written before the first change and goes after the command's
success, so a kill in between is mended by the next start. Nothing here is taken from the
environment.
"""

import errno
import os
import stat

from kolla_start import disk, errors, log
from kolla_start.entry import run

MOUNTED = "/var/lib/kolla/config_files/ca-certificates"
COPIED = "/var/lib/kolla/share/ca-certificates"
CONFIG_DATA = "/var/lib/config-data/ca-certificates"  # where tcib's images look
PREFIX = "kolla-customca-"
_OURS = "kolla"  # upstream's sign for what it may remove, in the directories below

_STATES = ("/etc/kolla/defaults/state", "/run/kolla/defaults/state")
# Not in the defaults directory, which is root's alone: needed() looks for it as the service user.
_PENDING = ("/etc/kolla/cacerts-pending", "/run/kolla/cacerts-pending")


class Layout:
    """Where a distribution keeps its local trust anchors, and how it takes them in."""

    __slots__ = ("anchors", "bundle", "links", "sign", "update")

    def __init__(self, sign: str, anchors: str, update: str, bundle: str, links: str) -> None:
        self.sign = sign
        self.anchors = anchors
        self.update = update
        self.bundle = bundle
        self.links = links  # a directory in which the command keeps a link for each anchor, or ""


_LAYOUTS = (
    Layout(
        "/etc/debian_version",
        "/usr/local/share/ca-certificates",
        "/usr/sbin/update-ca-certificates",
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/ssl/certs",
    ),
    Layout(
        "/etc/redhat-release",
        "/etc/pki/ca-trust/source/anchors",
        "/usr/bin/update-ca-trust",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "",
    ),
)


class Work:
    """What is to be done: anchors to write and to remove, and whether a last run was cut short."""

    __slots__ = ("gone", "layout", "pending", "wanted")

    def __init__(
        self, layout: Layout | None, wanted: dict[str, bytes], gone: list[str], pending: bool
    ) -> None:
        self.layout = layout
        self.wanted = wanted
        self.gone = gone
        self.pending = pending

    def __bool__(self) -> bool:
        return bool(self.wanted or self.gone or self.pending)


def needed() -> bool:
    """Whether install() could have something to do; in doubt, yes. Needs no privileges."""
    try:
        return bool(_compare(_copied()))
    except (OSError, disk.Unsafe):
        return True


def install(copied: bool | None = None) -> bool:
    """Make the system trust exactly the operator's certificates; True if anything was done.

    `copied` says whether the document copies to COPIED; None asks the records. Raises Refused
    before anything is changed, and Failed after.
    """
    try:
        if copied is None:
            copied = _copied()
        work = _compare(copied, say=True)
        if not work:
            return False
        return _install(_usable(work), copied)
    except disk.Unsafe as problem:
        raise errors.Failed(f"CA certificates: {problem}") from None
    except OSError as problem:
        raise errors.Failed(f"CA certificates: {errors.cause(problem, COPIED)}") from None


def _copied() -> bool:
    """Whether the records know COPIED, or something in it, as a destination."""
    for path in _STATES:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as state:
                text = state.read()
        except FileNotFoundError:
            continue
        except PermissionError:
            # A service user may not look: without the directory nothing was copied.
            if disk.present(COPIED):
                raise
            continue
        return f'"{COPIED}"' in text or f'"{COPIED}/' in text
    return False


def _compare(copied: bool, say: bool = False) -> Work:
    layout = next((each for each in _LAYOUTS if disk.present(each.sign, follow=True)), None)
    wanted = _certificates(copied, say)
    gone: list[str] = []
    if layout:
        for name in _names(layout.anchors):
            if not name.startswith(_OURS):
                continue
            path = f"{layout.anchors}/{name}"
            found = os.lstat(path)
            if stat.S_ISDIR(found.st_mode):
                continue
            if name not in wanted:
                gone.append(path)
            elif (
                stat.S_ISREG(found.st_mode)
                and (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, 0, 0o644)
                and found.st_size == len(wanted[name])
                and disk.read_file(path) == wanted[name]
            ):
                del wanted[name]
    return Work(layout, wanted, gone, any(disk.present(path) for path in _PENDING))


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _certificates(copied: bool, say: bool) -> dict[str, bytes]:
    """The operator's certificates by the names that they are installed under."""
    directory = COPIED if copied else MOUNTED
    names = _certificate_names(directory)
    if not names and not copied:
        directory = CONFIG_DATA
        names = _certificate_names(directory)
    found: dict[str, bytes] = {}
    for name in names:
        path = f"{directory}/{name}"
        try:
            found[PREFIX + name] = _read(path, directory)
        except disk.Unsafe as problem:
            if say:
                log.warning(f"CA certificates: {problem}; it is left out")
        except OSError as problem:
            if problem.errno in {errno.EACCES, errno.EPERM}:
                raise
            if say:
                log.warning(f"CA certificates: {path}: {problem.strerror}; it is left out")
    return found


def _certificate_names(directory: str) -> list[str]:
    # As the shell's *; Kubernetes keeps its machinery under names that begin with a dot.
    return [name for name in _names(directory) if not name.startswith(".")]


def _read(path: str, directory: str) -> bytes:
    """A certificate. Raises OSError, and Unsafe for what a service could have put there."""
    if directory == COPIED:
        # The document may have given this directory to the service: no link is followed in it,
        # and a second name for a file of somebody else is no certificate.
        status = disk.lstat(path)
        if status and stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            raise OSError(errno.EMLINK, "has more than one name", path)
        return disk.read_file(path) or b""
    exposed = directory == CONFIG_DATA and disk.exposed(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if exposed or (directory == CONFIG_DATA and not disk.trusted(status.st_uid)):
            raise disk.Unsafe(f"{path} is, or could be, the service's own")
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read()
    finally:
        os.close(descriptor)


def _usable(work: Work) -> Layout:
    if work.layout is None:
        raise errors.refuse(
            "CA certificates: neither a Debian nor a Red Hat system; take the directory "
            "ca-certificates out of the mounted configuration"
        )
    if os.geteuid() != 0:
        raise errors.refuse(
            f"CA certificates: uid {os.geteuid()} cannot install them; start the container as "
            "root, or take the directory ca-certificates out of the mounted configuration"
        )
    if not os.access(work.layout.update, os.X_OK):
        raise errors.refuse(
            f"CA certificates: {work.layout.update} is missing; install the package "
            "ca-certificates in the image"
        )
    return work.layout


def _install(layout: Layout, copied: bool) -> bool:
    import fcntl  # two runs at once must not share the update command's working files

    from kolla_start import launch

    pending = _PENDING[1 if os.statvfs("/").f_flag & os.ST_RDONLY else 0]
    disk.make_parents(pending)
    disk.make_parents(f"{layout.anchors}/any")
    lock = os.open(layout.anchors, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        work = _compare(copied)  # again: the other run may have done it
        if not work:
            return False
        for place in (layout.anchors, disk.split(pending)[0]):
            disk.remove_temporaries(place)  # what a killed run left half written
        disk.write_file(pending, b"", 0, 0, 0o644, sync=True)
        for path in work.gone:
            disk.remove(path)
        for name, data in work.wanted.items():
            disk.write_file(f"{layout.anchors}/{name}", data, 0, 0, 0o644, sync=True)
        log.info(
            f"CA certificates: {len(work.wanted)} installed, {len(work.gone)} removed in "
            f"{layout.anchors}; running {layout.update}"
        )
        if layout.links:
            # Debian's command rehashes only where it makes a link anew: a certificate that was
            # replaced would keep its old hash.
            for name in _names(layout.links):
                path = f"{layout.links}/{name}"
                if name.startswith(_OURS) and os.path.islink(path):
                    disk.remove(path)
        code = launch.run([layout.update], clean_environment(), quiet=True)
        if code:
            raise errors.Failed(
                f"CA certificates: {layout.update} failed with exit code {code}; its messages "
                "are above"
            )
        if layout.links:
            _remove_dangling(layout.links)
        _flush(layout.bundle)
        for path in _PENDING:
            if disk.present(path):
                disk.remove(path)
    finally:
        os.close(lock)
    return True


def _remove_dangling(directory: str) -> None:
    """The hash links of certificates that are gone: the command leaves them if it added none."""
    for name in _names(directory):
        path = f"{directory}/{name}"
        if os.path.islink(path) and not os.path.exists(path):
            disk.remove(path)


def _flush(path: str) -> None:
    # Once the record is gone nobody asks for the bundle again: a power cut must not empty it.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clean_environment() -> dict[bytes, bytes]:
    """For the programs that root runs before the service: nothing of the caller's."""
    return {
        b"PATH": b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        b"HOME": b"/root",
        b"LC_ALL": b"C.UTF-8",
    }


def main() -> None:
    """Entry of kolla_copy_cacerts."""
    run(_main)


def _main() -> int:
    install()
    return errors.EXIT_OK
