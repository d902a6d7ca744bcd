"""kolla_set_configs: the privileged stage alone, and `--check`.

On the container-start path: kolla_start runs the same functions in its own process.
"""

import os
import sys

from kolla_start import disk, document, log, records
from kolla_start.apply import apply, settle
from kolla_start.entry import run
from kolla_start.errors import (
    EXIT_BUG,
    EXIT_CANNOT_TELL,
    EXIT_CHANGED,
    EXIT_OK,
    Failed,
    cause,
    refuse,
)
from kolla_start.plan import Plan, decide
from kolla_start.tree import CHECKED

STRATEGIES = ("COPY_ALWAYS", "COPY_ONCE")
USAGE = "usage: kolla_set_configs [--check]"


def configure(strategy: str | None) -> records.Launch:
    """Apply the document under the strategy; returns what is to be launched.

    Raises Refused (nothing was touched) or Failed.
    """
    if strategy not in STRATEGIES:
        found = "is not set" if strategy is None else f"is {strategy!r}"
        raise refuse(f"KOLLA_CONFIG_STRATEGY {found}; set it to COPY_ALWAYS or COPY_ONCE")
    place = records.home()
    once = strategy == "COPY_ONCE"
    if once and disk.lstat(place.configured) is not None:
        log.info(f"COPY_ONCE, and {place.configured} is there: nothing is copied again")
        return records.read_launch(place)
    config = document.load()
    log.info(f"{strategy} with {config.path}")
    for remark in config.remarks:
        log.warning(f"{config.path}: {remark}")
    # COPY_ONCE is the last to look at anything, so it looks at everything.
    plan, lock = _decide_under_lock(config, place, trusting=not once)
    if once and disk.lstat(place.configured) is not None:
        # Another run came first while this one waited.
        _unlock(lock)
        return records.read_launch(place)
    for warning in plan.warnings:
        log.warning(f"{config.path}: {warning}")
    if plan.first is not None:
        apply(plan.first, place)
        plan = decide(config, records.load(place), place, trusting=False)
    if not plan.steps:
        log.info("all files are as they should be")
    failures = apply(plan, place)
    if once and failures:
        log.warning("COPY_ONCE is not done: the next start tries what failed again")
    elif once:
        settle(plan, place)
    _unlock(lock)
    return plan.launch


def _decide_under_lock(
    config: document.Config, place: records.Home, trusting: bool
) -> tuple[Plan, int | None]:
    """Two runs at once wait for each other; a refused document leaves not even a lock file."""
    lock = disk.lock(place.lock, create=False)
    plan = decide(config, records.load(place), place, trusting)
    if lock is None:
        try:
            records.prepare(place)
            lock = disk.lock(place.lock, create=True)
        except OSError as error:
            raise Failed(
                f"{cause(error, place.defaults)}; the records need a writable place: where / "
                f"cannot be written mount a tmpfs at {records.READ_ONLY_HOME}"
            ) from error
        # Whoever applied anything since then has left its records; and where the plan makes the
        # directory that now holds the lock, it is out of date. Else it stands.
        if disk.lstat(place.own) is not None or any(
            place.lock.startswith(f"{step.path}/") for step in plan.steps
        ):
            plan = decide(config, records.load(place), place, trusting)
    return plan, lock


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def check() -> int:
    """Whether a restart would change anything; says what, a line each, and changes nothing.

    Raises Refused where it cannot tell.
    """
    config = document.load()
    place = records.home()
    plan = decide(config, records.load(place), place)
    changes = []
    if plan.command is not None:
        changes.append(f"the command differs from {place.run_command}: {plan.command}")
    if plan.options:
        changes.append(f"user, capabilities or no_new_privileges differ from {place.options}")
    for part in (plan.first, plan):
        if part is not None:
            changes += [str(step) for step in part.steps if step.part in CHECKED and not step.minor]
    for change in dict.fromkeys(changes):
        log.error(change)
    return EXIT_CHANGED if changes else EXIT_OK


def main() -> None:
    """Entry of kolla_set_configs."""
    arguments = sys.argv[1:]
    if arguments == ["--check"]:
        run(check, refused=EXIT_CANNOT_TELL)
    if arguments in (["-h"], ["--help"]):
        os.write(1, (USAGE + "\n").encode())
        os._exit(EXIT_OK)
    if arguments:
        log.error(f"unknown argument {arguments[0]!r}; {USAGE}")
        os._exit(EXIT_BUG)
    run(_configure)


def _configure() -> int:
    configure(os.environ.get("KOLLA_CONFIG_STRATEGY"))
    return EXIT_OK
