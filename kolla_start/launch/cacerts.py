"""Trust the operator's CA certificates: kolla_copy_cacerts, and a step of a start as root.

On the container-start path: where nothing changed it costs a few system calls and no process; the
system's update command takes half a second.

What is installed is decided by comparing bytes, never by a record. One record says that an update
command is still to be run: it is written before the first change and goes after the command's
success, so a kill in between is mended by the next start. Nothing here is taken from the
environment, and which certificates are the operator's certificates.py says.
"""

from __future__ import annotations

import errno
import posix as os
import stat

from kolla_start import errors, homes, log
from kolla_start.disk import read, remove, source, storage, walk, write
from kolla_start.disk.walk import Unsafe
from kolla_start.launch import certificates, service
from kolla_start.process import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.homes import Home

PREFIX = "kolla-customca-"
_OURS = "kolla"  # upstream's sign for what it may remove, in the directories below


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
        return bool(_compare())
    except (OSError, Unsafe, source.Changed):
        return True


def install() -> bool:
    """Make the system trust exactly the operator's certificates; True if anything was done.

    Raises Refused before anything is changed, and Failed after.
    """
    try:
        work = _compare(say=True)
        return bool(work) and _install(_usable(work))
    except (Unsafe, source.Changed) as problem:
        raise errors.Failed(f"CA certificates: {problem}") from None
    except OSError as problem:
        said = errors.cause(problem, certificates.COPIED)
        raise errors.Failed(f"CA certificates: {said}") from None


def _compare(say: bool = False) -> Work:
    layout = next((each for each in _LAYOUTS if read.lstat(each.sign) is not None), None)

    def kept(name: str) -> bytes | None:
        if layout is None or not homes.shared_home().configured_before():
            return None
        try:
            return read.content(f"{layout.anchors}/{PREFIX}{name}")
        except OSError as problem:
            if problem.errno != errno.ENAMETOOLONG:
                raise
            return None

    operators = certificates.operators(kept, say)
    wanted = {PREFIX + name: data for name, data in operators.items()}
    gone: list[str] = []
    for path in _ours_in(layout.anchors) if layout else ():
        found = read.lstat(path)
        name = walk.split(path)[1]
        if found is None or stat.S_ISDIR(found.st_mode):
            continue
        if name not in wanted:
            gone.append(path)
        elif (
            stat.S_ISREG(found.st_mode)
            and (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, 0, 0o644)
            and found.st_size == len(wanted[name])
            and read.content(path) == wanted[name]
        ):
            del wanted[name]
    pending = any(homes.holds(home.certificates) for home in _homes())
    return Work(layout, wanted, gone, pending)


def _homes() -> list[Home]:
    return [homes.Home(prefix) for prefix in homes.PREFIXES]


def _ours_in(directory: str) -> list[str]:
    """The paths in it that are ours by their names."""
    try:
        return [f"{directory}/{name}" for name in read.names(directory) if name.startswith(_OURS)]
    except (FileNotFoundError, NotADirectoryError):
        return []


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


def _install(layout: Layout) -> bool:
    home = homes.shared_home()
    homes.prepare(home)
    pending = home.certificates
    write.make_parents(pending)
    write.make_parents(f"{layout.anchors}/any")
    # Two runs at once must not share the update command's working files. The lock is that of the
    # records, which only root can open: whoever can open a file can hold a lock on it, flock(2).
    lock = write.lock(
        home.lock,
        create=True,
        waiting=lambda: log.info(f"another run holds {home.lock}: waiting for its end"),
    )
    assert lock is not None
    try:
        work = _compare()  # again: the other run may have done it
        if not work:
            return False
        for place in (layout.anchors, walk.split(pending)[0]):
            remove.remove_temporaries(place)  # what a killed run left half written
        write.write_file(pending, b"", 0, 0, 0o644, sync=True)
        for path in work.gone:
            remove.remove(path)
        for name, data in work.wanted.items():
            write.write_file(f"{layout.anchors}/{name}", data, 0, 0, 0o644, sync=True)
        log.info(
            f"CA certificates: {len(work.wanted)} installed, {len(work.gone)} removed in "
            f"{layout.anchors}; running {layout.update}"
        )
        _update(layout)
        for each in _homes():
            remove.remove(each.certificates)
    finally:
        os.close(lock)
    return True


def _update(layout: Layout) -> None:
    if layout.links:
        # Debian's command rehashes only where it makes a link anew: a certificate that was
        # replaced would keep its old hash.
        for path in _ours_in(layout.links):
            if _is_link(path):
                remove.remove(path)
    code = service.run([layout.update], service.clean_environment(), quiet=True)
    if code:
        raise errors.Failed(
            f"CA certificates: {layout.update} failed with exit code {code}; its messages are above"
        )
    # It has made and removed directories that this process remembers.
    walk.forget()
    if layout.links:
        _remove_dangling(layout.links)
    # Once the record is gone nobody asks for the bundle again: a power cut must not empty it.
    bundle = read.lstat(layout.bundle)
    if bundle is not None and stat.S_ISREG(bundle.st_mode):
        storage.sync_file(layout.bundle)


def _remove_dangling(directory: str) -> None:
    """The hash links of certificates that are gone: the command leaves them if it added none."""
    try:
        paths = [f"{directory}/{name}" for name in read.names(directory)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in paths:
        if not (_is_link(path) and read.link_target(path).rpartition("/")[2].startswith(_OURS)):
            continue
        try:
            source.find(path)
        except source.Dangling:
            remove.remove(path)
        except (OSError, Unsafe):
            pass  # whatever it is, it is none of ours that is gone


def _is_link(path: str) -> bool:
    found = read.lstat(path)
    return found is not None and stat.S_ISLNK(found.st_mode)


def main() -> None:
    """Entry of kolla_copy_cacerts."""
    run(_main)


def _main() -> int:
    install()
    return errors.EXIT_OK
