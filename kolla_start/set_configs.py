"""kolla_set_configs: the privileged stage alone, and `--check`.

On the container-start path: kolla_start runs the same functions in its own process.
"""

from __future__ import annotations

import posix as os
import sys

from kolla_start import homes, kernel, log, process, progress, records
from kolla_start.apply import apply, settle
from kolla_start.disk import source, walk, write
from kolla_start.document import load
from kolla_start.errors import (
    EXIT_BUG,
    EXIT_CANNOT_TELL,
    EXIT_CHANGED,
    EXIT_OK,
    Failed,
    Refused,
    cause,
    refuse,
)
from kolla_start.plan.compare import changes
from kolla_start.plan.decide import decide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from kolla_start.document.load import Config
    from kolla_start.errors import Fault
    from kolla_start.homes import Home
    from kolla_start.plan.steps import Plan
    from kolla_start.records import Launch

    Result = TypeVar("Result")

STRATEGIES = ("COPY_ALWAYS", "COPY_ONCE")
USAGE = "usage: kolla_set_configs [--check]"

# Plans that are made before sources that do not come to rest are a fault.
_TRIES = 5


def configure(strategy: str | None) -> Launch:
    """Apply the document under the strategy; returns what is to be launched.

    Raises Refused (nothing was touched) or Failed.
    """
    if strategy not in STRATEGIES:
        found = "is not set" if strategy is None else f"is {strategy!r}"
        raise refuse(f"KOLLA_CONFIG_STRATEGY {found}; set it to COPY_ALWAYS or COPY_ONCE")
    home = homes.home()
    if strategy == "COPY_ONCE" and home.configured_before():
        log.info(f"COPY_ONCE, and {home.configured} is there: nothing is copied again")
        return records.read_launch(home)
    if not home.believed():
        log.warning(
            f"{home.defaults}: others than root can write there, so what it remembers of earlier "
            "starts is not believed; mount a directory of root's alone"
        )
    return _until_settled(lambda: _configure(strategy, home))


def _until_settled(work: Callable[[], Result]) -> Result:
    """Do it again, from the document on, as long as a source changes under it."""
    progress.begin()
    try:
        for _ in range(_TRIES):
            source.begin()
            try:
                try:
                    return work()
                except (Refused, Failed):
                    source.settled()  # else what seems wrong is only being exchanged
                    raise
            except source.Changed as change:
                said = str(change)
                log.info(f"{said} while it was read: planned anew")
    finally:
        progress.end()
    raise Failed(f"{said} while it was read, {_TRIES} times in a row; let it come to rest")


def _configure(strategy: str, home: Home) -> Launch:
    believed = home.believed()
    config = load.load()
    log.info(f"{strategy} with {config.path}")
    _warn(config, config.remarks)
    lock = _lock(home, create=False) if believed else None
    try:
        before = records.load(home) if believed else records.Records()
        again = strategy != "COPY_ONCE"
        plan = decide(config, before, home, again)
        if lock is None:
            lock = _lock_anew(home)
            found = records.load(home) if believed else before
            if not found.same_as(before):
                # Another run came first. Nothing is written yet: the plan is made on what it left.
                plan = decide(config, found, home, again)
        return _apply(strategy, config, plan, home)
    finally:
        if lock is not None:
            os.close(lock)


def _apply(strategy: str, config: Config, plan: Plan, home: Home) -> Launch:
    once = strategy == "COPY_ONCE"
    if once and home.configured_before():
        return records.read_launch(home)  # Another run came first while this one waited.
    _warn(config, plan.warnings)
    if not plan.steps:
        log.info("all files are as they should be")
    failures = apply(plan, home)
    source.settled()
    if once and failures:
        log.warning("COPY_ONCE is not done: the next start tries what failed again")
    elif once:
        settle(plan, home)
    return plan.launch


def _lock(home: Home, create: bool) -> int | None:
    """Two runs at once wait for each other."""

    def wait() -> None:
        log.info(f"another run holds {home.lock}: waiting for its end")
        progress.about(f"waiting for the run that holds {home.lock}")

    return write.lock(home.lock, create, wait)


def _lock_anew(home: Home) -> int:
    """A refused document leaves not even a lock file, so it is made after the plan."""
    try:
        homes.prepare(home)
        lock = _lock(home, create=True)
    except (OSError, walk.Unsafe) as error:
        what = (
            "the records need a writable place: where / cannot be written mount a tmpfs at "
            f"{homes.READ_ONLY_HOME}"
        )
        if isinstance(error, OSError):
            raise Failed(cause(error, home.defaults, what)) from error
        raise Failed(f"{error}; {what}") from error
    assert lock is not None
    return lock


def _warn(config: Config, faults: list[Fault] | tuple[Fault, ...]) -> None:
    placed = [fault for fault in faults if fault.loc]
    if placed:
        from kolla_start.document import places

        for line in places.lines(config.path, config.text, placed):
            log.warning(line)
    for fault in faults:
        if not fault.loc:  # of the disk: nothing in the document speaks of it
            log.warning(fault.message)


def check() -> int:
    """Whether a restart would change anything; says what, a line each, and changes nothing.

    Raises Refused where it cannot tell.
    """
    return _until_settled(_check)


def _check() -> int:
    config = load.load()
    home = homes.home()
    before = records.load(home) if home.believed() else records.Records()
    again = kernel.variable("KOLLA_CONFIG_STRATEGY") != "COPY_ONCE"
    plan = decide(config, before, home, again)
    found = []
    if plan.command is not None:
        found.append(f"the command differs from {home.run_command}: {plan.command}")
    if plan.options:
        found.append(f"user, capabilities or no_new_privileges differ from {home.options}")
    found += changes(plan.steps)
    for change in found:
        log.error(change)
    return EXIT_CHANGED if found else EXIT_OK


def main() -> None:
    """Entry of kolla_set_configs."""
    arguments = sys.argv[1:]
    if arguments == ["--check"]:
        process.run(check, refused=EXIT_CANNOT_TELL)
    if arguments in (["-h"], ["--help"]):
        os.write(1, (USAGE + "\n").encode())
        os._exit(EXIT_OK)
    if arguments:
        log.error(f"unknown argument {arguments[0]!r}; {USAGE}")
        os._exit(EXIT_BUG)
    process.run(_main)


def _main() -> int:
    configure(kernel.variable("KOLLA_CONFIG_STRATEGY"))
    return EXIT_OK
