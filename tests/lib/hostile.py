"""What a hostile service leaves behind for root: planted situations, and canaries to tell.

Used by test_hostile.py and torture.py, for this program and for upstream's alike. A situation is
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

import peer
from canary import GIVEN, HOME, IN_SHARED, LOG, Canary, furnish, furnish_shared, state
from documents import EMPTY, entry
from plants import Situation
from sandbox import VENV, Sandbox
from situations import situations
from situations_shared import shared_situations

REST = "/etc/rest.conf"  # the rest of the document

# Every line of our log: nothing that a service named can break or forge one.
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (INFO|WARNING|ERROR) .*")

UPSTREAM = "/usr/local/bin/upstream_set_configs"


def install_upstream(box: Sandbox) -> None:
    box.write(UPSTREAM, (peer.base() / "set_configs.py").read_bytes(), mode=0o755)


def run_upstream(box: Sandbox, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return box.run(
        [f"{VENV}/bin/python", UPSTREAM],
        env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"},
        timeout=timeout,
    )


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
