"""What a hostile service leaves behind for root: planted situations, and canaries to tell.

Used by test_hostile.py and torture.py, for all subjects alike. A situation is
planted as the service could have prepared it (or worse: by root), then one document is applied.
Whatever happens, no canary may change; and the document is either carried out but for the planted
place, or refused with nothing touched.
"""

import dataclasses
import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

from canary import GIVEN, HOME, IN_SHARED, LOG, Canary, furnish, furnish_shared, state
from documents import EMPTY, entry
from plants import Situation
from sandbox import Sandbox
from situations import situations
from situations_shared import shared_situations
from subjects import OURS, Subject

REST = "/etc/rest.conf"  # the rest of the document

# Every line of our log: nothing that a service named can break or forge one.
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (INFO|WARNING|ERROR) .*")


def document(sections: dict[str, Any], shared: bool = False) -> dict[str, Any]:
    if shared:
        sections = {**sections, "directories": [*GIVEN, *sections.get("directories", ())]}
    entries = [*sections.get("config_files", ()), entry("rest.conf", REST)]
    return {**EMPTY, **sections, "config_files": entries}


def _in_shared(one: Situation) -> Situation:
    return dataclasses.replace(one, shared=True)


SITUATIONS: dict[str, Situation] = {
    **situations(LOG, HOME),
    **{
        f"shared: {name}": _in_shared(one)
        for name, one in situations(*IN_SHARED).items()
        if not one.heavy
    },
    **{f"shared: {name}": _in_shared(one) for name, one in shared_situations().items()},
}


def prepare(
    box: Sandbox, situation: Situation, run: Callable[[], object]
) -> dict[str, Canary | None]:
    """Plant it and put the document there; returns the canaries as they are then."""
    (furnish_shared if situation.shared else furnish)(box)
    if situation.earlier is not None:
        box.document(document(situation.earlier, situation.shared))
        run()
    situation.plant(box)
    box.document(json.dumps(document(situation.sections, situation.shared)))
    if not situation.heavy:  # a deep tree is too much for mark() itself
        box.mark()
    return look(box, situation)


def look(box: Sandbox, situation: Situation) -> dict[str, Canary | None]:
    """The canaries as they are now."""
    return state(box, situation.ctime, situation.watched)


def lost(subject: Subject, situation: Situation, timeout: float) -> str | None:
    """What came of a situation that may not be: a changed canary; of ours another answer as well.

    Within so many seconds, or none: a subject that hangs has changed what it has changed.
    """
    with subject.box() as box:
        try:
            before = prepare(box, situation, box.set_configs)
        except subprocess.CalledProcessError:
            if subject == OURS:
                raise
            return None  # it has not done what an earlier document asked for
        said = ""
        try:
            done = box.set_configs(timeout=timeout)
        except subprocess.TimeoutExpired:
            said = "hangs"
        else:
            if done.returncode != situation.code or "Traceback" in done.stderr:
                said = f"exit code {done.returncode}: {done.stderr[-1000:]}"
        if look(box, situation) != before:
            return f"a canary is not what it was; {said}"
    return said or None if subject == OURS else None
