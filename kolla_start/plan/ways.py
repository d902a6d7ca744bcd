"""Whether the next start can go the ways of this one.

On the container-start path. Nothing here writes. By then the directories that the document gives
away are others', and a step that is safe today may have become one that they can prepare. A
document that its second start would refuse is refused at the first, with nothing touched.
"""

from __future__ import annotations

import posix as os
import stat

from kolla_start.disk import walk
from kolla_start.disk.source import is_operators
from kolla_start.disk.walk import ROOT_ONLY, Unsafe, ancestors, private, split
from kolla_start.plan.draft import Draft
from kolla_start.plan.permissions import Rules
from kolla_start.plan.wanted import FILE, RESTORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.errors import Loc


def look_ahead(draft: Draft, rules: Rules) -> None:
    """Make a fault of each step that the next start would not take."""
    later = _Later(rules)
    seen = {"/"}
    for path, node in draft.wanted.nodes.items():
        if node.part == RESTORE:
            continue  # nobody goes there again
        found = node.source
        if found is not None and (found.kept != found.real or is_operators(found.real)):
            found = None
        for end in (path,) if found is None else (path, found.real):
            for place in ancestors(end):
                if place in seen:
                    break
                seen.add(place)
                _step(draft, later, place, node.loc)
        if found is not None and node.kind == FILE:
            try:
                found.refuse_planted(later.sole(split(found.real)[0]))
            except Unsafe as error:
                _refuse(draft, node.loc, error)
    for directory, loc in draft.sought.items():
        try:
            real = draft.resolve(directory, follow=True)
        except (OSError, Unsafe):
            continue  # It is said where the source is looked for.
        for place in () if is_operators(real) else (real, *ancestors(real)):
            if place not in seen:
                seen.add(place)
                _step(draft, later, place, loc)
    for link, loc in draft.links.items():
        at = split(link)[0]
        # What is replaced is seen as it was before, at each start.
        if walk.directory(at).sole != ROOT_ONLY or draft.wanted.covers(link):
            continue
        if later.sole(at) != ROOT_ONLY or not private(later.status(at)):
            _refuse(draft, loc, walk.replaceable(link))


def _step(draft: Draft, later: _Later, real: str, loc: Loc) -> None:
    above = later.status(split(real)[0])
    if private(above):
        return
    try:
        walk.refuse_step(above, later.status(real), real, later.descriptor(real))
    except Unsafe as error:
        _refuse(draft, loc, error)


def _refuse(draft: Draft, loc: Loc, error: Unsafe) -> None:
    draft.fault(loc, f"the next start could not go on: {error}")


class _Later:
    """Directories as this start leaves them."""

    def __init__(self, rules: Rules) -> None:
        self._becomes = rules.becomes
        self._known: dict[str, os.stat_result] = {}
        self._soles: dict[str, int] = {"/": ROOT_ONLY}

    def descriptor(self, real: str) -> int | None:
        """A directory's, None where it is yet to be made."""
        found = _there(real)
        return None if found is None else found.fd

    def status(self, real: str) -> os.stat_result:
        if real not in self._known:
            self._known[real] = self._status(real)
        return self._known[real]

    def sole(self, real: str) -> int:
        """Who could have put something there by then: walk.sole_writer()."""
        if real not in self._soles:
            status, fd = self.status(real), self.descriptor(real)
            self._soles[real] = walk.sole_writer(self._mover(real), status, fd)
        return self._soles[real]

    def _mover(self, real: str) -> int:
        """Who could have moved it by then: walk.Directory.mover_of()."""
        parent = split(real)[0]
        above, status = self.status(parent), self.status(real)
        if parent != real and walk.stays_put(above, status):
            return self._mover(parent)
        return self.sole(parent)

    def _status(self, real: str) -> os.stat_result:
        found = _there(real)
        if found is not None:
            device, owner, mode = found.status.st_dev, found.status.st_uid, found.status.st_mode
        else:
            device = self.status(split(real)[0]).st_dev
            owner, mode = os.geteuid(), stat.S_IFDIR | 0o755
        wanted = self._becomes(real)
        gid = -1 if found is None else found.status.st_gid
        if wanted is not None:
            owner, gid = wanted[:2]
            if wanted[3] is not None:
                mode = stat.S_IFDIR | wanted[3]
        return os.stat_result((mode, 0, device, 0, owner, gid, 0, 0, 0, 0))


def _there(real: str) -> walk.Directory | None:
    try:
        return walk.directory(real)
    except (FileNotFoundError, NotADirectoryError):
        return None
