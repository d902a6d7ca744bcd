"""The plan: decided once, whole, and refused once, with every fault.

On the container-start path. It reads the disk and changes nothing.
"""

from __future__ import annotations

from kolla_start import homes, kernel, progress, records
from kolla_start.disk import source
from kolla_start.disk.walk import Unsafe
from kolla_start.document import rules
from kolla_start.errors import Refused, cause
from kolla_start.plan import permissions
from kolla_start.plan.compare import Comparison
from kolla_start.plan.draft import Draft
from kolla_start.plan.foresee import foresee, foresee_saves
from kolla_start.plan.gather import gather
from kolla_start.plan.originals import Originals
from kolla_start.plan.recorded import record, remove_stale_parents
from kolla_start.plan.steps import Plan
from kolla_start.plan.ways import look_ahead

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.document.load import Config
    from kolla_start.homes import Home
    from kolla_start.records import Records


def decide(config: Config, before: Records, home: Home, again: bool) -> Plan:
    """Make the plan; `again`: the next start will make one, too.

    Raises Refused with every fault of sources, owners and destinations at once, and Changed where a
    source did not stay as it was while it was looked at.
    """
    progress.about("planning")
    rules.keep(home.defaults, home.options)
    draft = Draft(before)
    try:
        plan = _plan(config, draft, home, again)
    except Unsafe as error:
        # A service that runs beside us changed what was found to be safe a moment ago.
        draft.fault((), str(error))
    except OSError as error:
        draft.fault((), cause(error, home.defaults, "mend it"))
    if draft.faults:
        once = {(fault.loc, fault.message): fault for fault in draft.faults}
        raise Refused(list(once.values()), config.path, config.text)
    source.settled()
    return plan


def _plan(config: Config, draft: Draft, home: Home, again: bool) -> Plan:
    launch = records.Launch(
        config.command, config.user, config.capabilities, config.no_new_privileges
    )
    gather(config, draft)
    if not draft.faults:
        Originals(draft).restore()
    plan = Plan(draft.records, launch, permissions.collect(config, draft))
    plan.warnings = draft.warnings
    if draft.faults:
        return plan
    comparison = Comparison(draft)
    comparison.whole()
    plan.steps = comparison.steps
    if again and not draft.faults:
        look_ahead(draft, plan.rules)
    remove_stale_parents(draft, plan)
    foresee(draft, plan.steps, comparison.fresh)
    record(draft, plan, home)
    foresee_saves(draft, plan.saves, home.defaults)
    text = records.command_text(config.command)
    if homes.recorded(home.run_command) != kernel.encode(text):
        plan.command = text
    options = launch.options_text()
    plan.options = homes.recorded(home.options) != (options and options.encode())
    plan.paths = list(draft.wanted.nodes)
    return plan
