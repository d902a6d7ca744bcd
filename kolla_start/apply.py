"""Carry out a plan: saved first, recorded second, replaced third.

On the container-start path. It decides nothing: every step comes from plan.py, and every system
call that changes something is in disk.py. A kill at any moment leaves the originals, the records
and each destination whole; the next start finishes the work.
"""

import os

from kolla_start import disk, log
from kolla_start.errors import Failed, cause
from kolla_start.plan import Plan, Save, Step
from kolla_start.records import Home, Records, prepare, write_own, write_state
from kolla_start.tree import DIRECTORY, FILE, LINK, RESTORE, Node, mirror

# Beyond so many steps or warnings the log says how many there are, not each of them.
_LOGGED = 100
_HELD = 24  # descriptors of directories that change hands; a start works with 64
_SHARE = 256  # files to be copied, for which a second process is worth its start


def apply(plan: Plan, place: Home) -> int:
    """Make the disk as planned; returns how many entries `permissions` could not change.

    Those are not counted that it leaves alone since somebody else may have put them there. The
    caller holds the lock. Raises Failed with the path and the cause.
    """
    try:
        if plan.writes():
            _replace(plan, place)
        elif plan.after.seen != plan.before.seen:
            _remember(plan, place)
        # Directories change hands last: until then whoever could have put something there is
        # still to be seen. What they are is judged before the trees that they lie in change hands.
        last = [step for step in plan.steps if _hands_over(step)]
        if len(last) > _HELD:
            _carry_out_all(last, _LOGGED)
            last = []
        held = [(step, _hold(step)) for step in last]
        failures = _mend_trees(plan)
        for step, found in held:
            _hand_over(step, found)
        _set_times(plan.steps)
        return failures
    except OSError as error:
        raise _failed(error, place.defaults) from error
    except disk.Unsafe as error:
        raise Failed(str(error)) from error


def _hands_over(step: Step) -> bool:
    node = step.node
    return (
        step.verb == "set" and node is not None and node.kind == DIRECTORY and node.part != RESTORE
    )


def _hold(step: Step) -> disk.Found:
    assert step.node is not None
    return disk.hold(step.path, step.node.uid, step.node.mode)


def _hand_over(step: Step, found: disk.Found) -> None:
    assert step.node is not None
    log.info(str(step))
    try:
        found.set_owner(step.node.uid, step.node.gid, step.node.mode)
    finally:
        found.close()
    _set_attributes(step.path, step.node)


def _failed(error: OSError, path: str) -> Failed:
    return Failed(f"{cause(error, path)}; the next start goes on from here")


def _replace(plan: Plan, place: Home) -> None:
    before, after = plan.before, plan.after
    prepare(place)
    _clean_up(before, place)
    meanwhile = _both(before, after)
    meanwhile.saving = [save.kept for save in plan.saves]
    writing = [step.path for step in plan.steps if step.node is not None]
    meanwhile.places = sorted({disk.split(path)[0] for path in (*writing, *meanwhile.saving)})
    # First what a killed run may leave about, then the originals, then where they are.
    write_own(place, meanwhile)
    for save in plan.saves:
        _keep(save, before)
    if meanwhile.originals != before.originals:
        write_state(place, meanwhile)
    now = [step for step in plan.steps if not _hands_over(step)]
    copies = [step for step in now if step.node is not None and step.node.kind == FILE]
    if len(copies) < _SHARE:
        _carry_out_all(now, _LOGGED)
    else:
        # Files last: where their directories stand, their order does not matter.
        rest = [step for step in now if step.node is None or step.node.kind != FILE]
        _carry_out_all(rest, _LOGGED)
        _share(copies, max(0, _LOGGED - len(rest)))
    if len(plan.steps) > _LOGGED:
        log.info(f"and {len(plan.steps) - _LOGGED} more like these")
    for path, (key, half) in plan.unseen.items():
        from kolla_start import seen

        found = seen.with_copy(key, half, path)
        if found is not None:
            after.seen[path] = found
    if plan.command is not None:
        _record(place.run_command, plan.command)
    if plan.options:
        options = plan.launch.options_text()
        if options is None:
            disk.remove(place.options)
        else:
            _record(place.options, options)
    if after.originals != meanwhile.originals:
        write_state(place, after)
    write_own(place, after)
    for kept in plan.dropped:
        disk.remove(kept)


def _remember(plan: Plan, place: Home) -> None:
    """Record only what was seen: nothing that a start needs."""
    try:
        prepare(place)
        write_own(place, plan.after)
    except OSError:
        pass  # The next start reads it all again.


def _record(path: str, text: str) -> None:
    # Readable by the service user, writable by nobody else.
    data = text.encode("utf-8", "surrogateescape")
    disk.write_file(path, data, os.geteuid(), os.getegid(), 0o644)


def _both(before: Records, after: Records) -> Records:
    """The records that hold while steps are under way: a kill must forget neither side."""
    both = after.copy()
    both.pending = True
    both.originals = {**before.originals, **after.originals}
    both.parents = sorted({*before.parents, *after.parents})
    both.attributes = {**after.attributes, **before.attributes}
    both.placed = before.placed | after.placed
    both.seen = {}
    return both


def _keep(save: Save, before: Records) -> None:
    """Copy an original to where it is kept, down to the storage."""
    log.info(f"keep the image's {save.path} in {save.kept}")
    disk.remove(save.kept)  # the beginning that a killed run made, recorded nowhere
    for made in disk.make_parents(save.kept):
        disk.sync_directory(disk.split(made)[0])
    for path, node in mirror(save.origin, save.kept, before.originals):
        try:
            _copy(path, node, sync=True)
            if node.kind != FILE:  # a file has seen to it
                disk.sync_directory(disk.split(path)[0])
        except OSError as error:
            raise _failed(error, path) from error


def _carry_out_all(steps: list[Step], logged: int) -> None:
    for number, step in enumerate(steps):
        if number < logged:
            log.info(str(step))
        try:
            _carry_out(step)
        except OSError as error:
            raise _failed(error, step.path) from error


def _share(copies: list[Step], logged: int) -> None:
    """Copy many files, half of them in a second process if one is to be had."""
    from kolla_start import helper

    half = len(copies) // 2
    mine, theirs = copies[:half], copies[half:]

    def copy() -> bytes:
        _carry_out_all(theirs, 0)
        return b"done"

    other = helper.start(copy)
    try:
        _carry_out_all(mine, logged)
    finally:
        # Nobody must be writing when this returns, whatever has happened.
        done = other is not None and other.result()
    if not done:
        # What it has copied is copied again; what stopped it stops this process too, and is said.
        if other is not None:
            for place in {disk.split(step.path)[0] for step in theirs}:
                disk.remove_temporaries(place)
        _carry_out_all(theirs, 0)


def _carry_out(step: Step) -> None:
    path, node = step.path, step.node
    if step.verb == "remove":
        disk.remove(path)
    elif step.verb == "rmdir":
        disk.remove_empty(path)
    else:
        assert node is not None
        if step.verb == "set":
            disk.set_owner(path, node.uid, node.gid, node.mode)
            _set_attributes(path, node)
        elif node.source is not None:
            _copy(path, node, sync=False, over=step.over)
        elif node.kind == FILE:
            disk.write_file(path, b"", node.uid, node.gid, node.mode, over=step.over)
        else:
            disk.make_directory(path, node.uid, node.gid, node.mode)


def _copy(path: str, node: Node, sync: bool, over: bool = False) -> None:
    assert node.source is not None and node.status is not None
    if node.kind == FILE:
        disk.copy_file(
            node.source,
            path,
            node.uid,
            node.gid,
            node.mode,
            preserve=node.preserve,
            sync=sync,
            safe_source=node.safe,
            over=over,
        )
    elif node.kind == LINK:
        disk.make_link(path, node.target, node.uid, node.gid, over)
    elif node.kind == DIRECTORY:
        disk.make_directory(path, node.uid, node.gid, node.mode)
        _set_attributes(path, node)
    else:
        disk.make_special(path, node.status)


def _set_attributes(path: str, node: Node) -> None:
    if node.preserve and node.kind == DIRECTORY:
        assert node.source is not None
        disk.set_attributes(path, disk.attributes(node.source, node.safe))


def _set_times(steps: list[Step]) -> None:
    """Directories last, and from below: what is put into one changes its times."""
    for step in reversed(steps):
        node = step.node
        if node is not None and node.kind == DIRECTORY and node.preserve:
            assert node.status is not None
            disk.set_times(step.path, node.status)


def _clean_up(before: Records, place: Home) -> None:
    """Remove what a killed run has left: temporary files, and originals saved in part."""
    disk.remove_temporaries(place.defaults)  # where the record of a run begins
    if not before.pending:
        return
    for path in {*before.places, disk.split(place.run_command)[0], disk.split(place.options)[0]}:
        disk.remove_temporaries(path)
    for kept in before.saving:
        if kept not in before.originals.values():
            disk.remove(kept)


def _mend_trees(plan: Plan) -> int:
    said = refused = 0

    def failed(path: str, error: Exception) -> None:
        nonlocal said, refused
        said += 1
        refused += isinstance(error, disk.Unsafe)
        if said <= _LOGGED:
            what = f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)
            log.warning(f"permissions: {what}")

    mended = failures = 0
    for walk in plan.walks:
        done, lost = walk.mend(failed)
        mended += done
        failures += lost
    if mended:
        log.info(f"permissions: owner or mode of {mended} entries set")
    if failures:
        log.warning(f"permissions: {failures} entries could not be changed")
    return failures - refused


def settle(plan: Plan, place: Home) -> None:
    """Say that COPY_ONCE has succeeded, once all that a start relies on is in the storage.

    No later start looks at it again. Raises Failed with the path and the cause.
    """
    try:
        for path in (*plan.files, place.run_command, place.options):
            if disk.lstat(path) is not None:
                disk.sync_file(path)
                disk.sync_directory(disk.split(path)[0])
        disk.make_marker(place.configured)
    except OSError as error:
        raise Failed(cause(error, place.configured)) from error
    except disk.Unsafe as error:
        raise Failed(str(error)) from error
