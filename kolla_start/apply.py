"""Carry out a plan: saved first, recorded second, replaced third; given back, flushed, forgotten.

On the container-start path. It decides nothing: every step comes from the plan, and every system
call that changes something is in the disk room. A kill at any moment leaves the originals, the
records and each destination whole; the next start finishes the work.
"""

from __future__ import annotations

import posix as os

from kolla_start import accounts, homes, kernel, log, progress, records
from kolla_start.disk import planted, read, remove, source, storage, write
from kolla_start.disk.source import Changed
from kolla_start.disk.walk import Unsafe, split
from kolla_start.errors import Failed, cause
from kolla_start.plan.steps import (
    Copy,
    MakeDirectory,
    MakeFile,
    Placing,
    Plan,
    Remove,
    RemoveEmpty,
    Save,
    SetOwner,
    Step,
)
from kolla_start.plan.wanted import DIRECTORY, FILE, LINK, RESTORE, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kolla_start.homes import Home
    from kolla_start.records import Records

# Beyond so many steps or warnings the log says how many there are, not each of them.
_LOGGED = 100


def apply(plan: Plan, home: Home) -> int:
    """Make the disk as planned; returns how many entries `permissions` could not change.

    Those are not counted that it leaves alone since somebody else may have put them there. The
    caller holds the lock. Raises Failed with the path and the cause, and Changed where a source is
    not what the plan saw: then nothing is lost, and a new plan goes on.
    """
    try:
        if plan.writes():
            _replace(plan, home)
        # Directories change hands last: until then whoever could have put something there is
        # still to be seen. What they are is judged before the trees that they lie in change hands.
        judged = [
            (step, planted.refuse_planted(step.path, step.node.uid, step.node.mode))
            for step in _changing_hands(plan)
            if not _comes_back(step)
        ]
        failures = _sweep(plan)
        for step, known in judged:
            _hand_over(step, planted.find_again(step.path, known, step.node.uid))
        return failures
    except Changed:
        raise
    except OSError as error:
        raise _failed(error, home.defaults) from error
    except Unsafe as error:
        raise Failed(str(error)) from error


def _changing_hands(plan: Plan) -> list[Placing]:
    """The steps whose directories change hands, those inside others first."""
    return [
        step
        for step in reversed(plan.steps)
        if isinstance(step, Placing) and step.node.is_directory() and not _stays_ours(step)
    ]


def _comes_back(step: Step) -> bool:
    """Whether something of an original goes into it, that is forgotten after that."""
    return step.part == RESTORE or (isinstance(step, Placing) and step.node.under is not None)


def _stays_ours(step: Placing) -> bool:
    """Whether a directory is made as it is to be: this process's own, nobody else's to write."""
    node = step.node
    own = (node.uid, node.gid) == (os.geteuid(), os.getegid())
    as_made = own and not node.mode & 0o022 and not node.preserve and node.under is None
    return as_made and not isinstance(step, SetOwner)


def _hand_over(step: Placing, found: planted.Found) -> None:
    if isinstance(step, SetOwner):
        log.info(str(step))
    try:
        found.set_owner(step.node.uid, step.node.gid, step.node.mode)
        if step.node.preserve or step.node.complete():
            # What a merge meets keeps what it has: that comes back with nothing.
            more = isinstance(step, SetOwner) and not step.node.complete()
            attributes = step.node.attributes()
            write.give_attributes(found.fd, attributes, more)
            if attributes:
                found.set_mode(step.node.mode)  # an ACL has one of its own
        if step.node.preserve and step.node.source is not None:
            # All that is put into it is there: that would change its times.
            write.give_times(found.fd, step.node.source.status)
    finally:
        found.close()


def _failed(error: OSError, path: str) -> Failed:
    return Failed(f"{cause(error, path, 'mend it')}; the next start goes on from here")


def _replace(plan: Plan, home: Home) -> None:
    before, after = plan.before, plan.after
    homes.prepare(home)
    _clean_up(before, home)
    meanwhile = _both(before, after)
    meanwhile.mark = write.mark()
    # Where originals may lie that nobody refers to, if this run is killed.
    meanwhile.saving = [*(save.kept for save in plan.saves), *plan.dropped]
    writing = [step.path for step in plan.steps if isinstance(step, Placing)]
    meanwhile.places = sorted({split(path)[0] for path in (*writing, *meanwhile.saving)})
    # First what a killed run may leave about, then the originals, then where they are.
    records.write_own(home, meanwhile)
    for save in plan.saves:
        _keep(save)
    if meanwhile.originals != before.originals:
        records.write_state(home, meanwhile)
    _carry_out_all(plan.steps)
    # Given back is given back before it is forgotten.
    for step in _changing_hands(plan):
        if _comes_back(step):
            _hand_over(step, planted.hold(step.path, step.node.uid, step.node.mode))
    _flush_restored(plan.steps)
    if plan.command is not None:
        _record(home.run_command, plan.command)
    if plan.options:
        options = plan.launch.options_text()
        if options is None:
            remove.remove(home.options)
        else:
            _record(home.options, options)
    if after.originals != meanwhile.originals:
        records.write_state(home, after)
    for kept in plan.dropped:
        remove.remove(kept)
    records.write_own(home, after)


def _record(path: str, text: str) -> None:
    # Readable by the service user, writable by nobody else.
    data = kernel.encode(text)
    write.write_file(path, data, os.geteuid(), os.getegid(), 0o644)


def _both(before: Records, after: Records) -> Records:
    """The records that hold while steps are under way: a kill must forget neither side."""
    both = after.copy()
    both.pending = True
    both.originals = {**before.originals, **after.originals}
    both.parents = sorted({*before.parents, *after.parents})
    both.attributes = {**after.attributes, **before.attributes}
    both.placed = before.placed | after.placed
    return both


def _keep(save: Save) -> None:
    """Copy an original to where it is kept, down to the storage."""
    log.info(str(save))
    progress.about(f"keeping {save.path}", len(save.tree))
    remove.remove(save.kept)  # the beginning that a killed run made, recorded nowhere
    for made in write.make_parents(save.kept):
        storage.sync_directory(split(made)[0])
    for path, node in save.tree:
        progress.done += 1
        try:
            _copy(path, node, sync=True, over=False)
            if node.kind != FILE:  # a file has seen to it
                storage.sync_directory(split(path)[0])
        except OSError as error:
            raise _failed(error, path) from error


def _flush_restored(steps: list[Step]) -> None:
    """What was given back or taken away is in the storage before its original is forgotten."""
    given_back = [step for step in steps if _comes_back(step)]
    places = {split(step.path)[0] for step in given_back}
    for step in given_back:
        # Owner and mode are its own: no flush of what it lies in brings them there.
        if isinstance(step, Placing) and step.node.is_directory():
            places.add(step.path)
        elif isinstance(step, SetOwner):
            storage.sync_file(step.path)
    for place in places:
        storage.sync_directory(place)


# --- steps -------------------------------------------------------------------------------------


def _carry_out_all(steps: list[Step]) -> None:
    progress.about("changing files", len(steps))
    for number, step in enumerate(steps):
        progress.done = number
        if isinstance(step, SetOwner) and step.node.is_directory():
            continue  # changes hands
        if number < _LOGGED:
            log.info(str(step))
        try:
            _ACTIONS[type(step)](step)
        except OSError as error:
            raise _failed(error, step.path) from error
    if len(steps) > _LOGGED:
        log.info(f"and {len(steps) - _LOGGED} more like these")


def _make_directory(step: Placing) -> None:
    """This process's own until all that belongs into it is there."""
    write.make_directory(step.path, step.node.mode if _stays_ours(step) else None)


def _make_file(step: MakeFile) -> None:
    node = step.node
    write.write_file(step.path, b"", node.uid, node.gid, node.mode, over=step.over)


def _copy_from_source(step: Copy) -> None:
    if step.node.is_directory():
        _make_directory(step)
    else:
        _copy(step.path, step.node, step.part == RESTORE, step.over)


def _set(step: SetOwner) -> None:
    node = step.node
    planted.set_owner(step.path, node.uid, node.gid, node.mode)


def _remove(step: Remove) -> None:
    remove.remove(step.path)


def _remove_empty(step: RemoveEmpty) -> None:
    remove.remove_empty(step.path)


_ACTIONS: dict[type[Step], Callable[[Any], None]] = {
    MakeDirectory: _make_directory,
    MakeFile: _make_file,
    Copy: _copy_from_source,
    SetOwner: _set,
    Remove: _remove,
    RemoveEmpty: _remove_empty,
}


def _copy(path: str, node: Node, sync: bool, over: bool) -> None:
    found = node.source
    assert found is not None
    if node.kind == FILE:
        attributes = node.attributes()
        capable = "security.capability" in (attributes or ())
        if capable and not accounts.capable(read.CAP_SETFCAP):
            log.warning(f"{path}: its capabilities are left out; start with --cap-add SETFCAP")
        write.copy_file(found, path, node.uid, node.gid, node.mode, attributes, sync, over)
    elif node.kind == LINK:
        write.make_link(path, found.target, node.uid, node.gid, over)
    elif node.kind == DIRECTORY:
        write.make_directory(path, None)
        write.set_attributes(path, node.attributes())
        # Last: an ACL has a mode of its own.
        planted.set_owner(path, node.uid, node.gid, node.mode)
    else:
        write.make_special(path, found.status, over)


def _clean_up(before: Records, home: Home) -> None:
    """Remove what a killed run has left: temporary files, and originals saved in part."""
    remove.remove_temporaries(home.defaults)  # where the record of a run begins
    if not before.pending:
        return
    for path in {*before.places, split(home.run_command)[0], split(home.options)[0]}:
        remove.remove_temporaries(path, before.mark)
    for kept in before.saving:
        if kept not in before.originals.values() and kept.startswith(f"{home.defaults}/"):
            remove.remove(kept)


def _sweep(plan: Plan) -> int:
    rules = plan.rules
    trees = rules.trees()
    if not trees:
        return 0
    from kolla_start.disk.sweep import Hidden, Sweep
    from kolla_start.disk.tree import sweep_tree

    source.rest()
    said = refused = 0

    def failed(path: str, error: Exception) -> None:
        nonlocal said, refused
        said += 1
        refused += isinstance(error, Unsafe)
        if said <= _LOGGED:
            what = f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)
            log.warning(f"permissions: {what}")

    sweep = Sweep(rules.of_entries, rules.becomes, rules.named, failed)
    try:
        for top, recurse in trees:
            sweep_tree(sweep, top, recurse)
        sweep.settle()
    except Hidden as error:
        raise OSError(*error.args) from None
    if sweep.mended:
        log.info(f"permissions: owner or mode of {sweep.mended} entries set")
    if sweep.failures:
        log.warning(f"permissions: {sweep.failures} entries could not be changed")
    return sweep.failures - refused


def settle(plan: Plan, home: Home) -> None:
    """Say that COPY_ONCE has succeeded, once all that a start relies on is in the storage.

    No later start looks at it again. Raises Failed with the path and the cause.
    """
    tops = [top for top, _ in plan.rules.trees()]
    try:
        storage.sync_filesystems((*plan.paths, *tops, home.run_command, home.options))
        write.make_marker(home.configured)
    except OSError as error:
        raise Failed(cause(error, home.configured)) from error
    except Unsafe as error:
        raise Failed(str(error)) from error
